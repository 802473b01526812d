"""
Parameter dataclasses: one declaration feeds ROS, the YAML check, the docs and the flags.

A parameter is a ``bool``, ``int``, ``float``, ``str`` or a ``tuple`` of one of the last three.
"""

from collections.abc import Mapping
from dataclasses import dataclass, Field, field, fields
import difflib
import math
from typing import Any, get_args, get_origin, get_type_hints, TypeVar

P = TypeVar('P', bound='Params')


def param(default: Any, doc: str, *, unit: str = '', ge: float | None = None,
          le: float | None = None, choices: tuple[str, ...] = (), dynamic: bool = False) -> Any:
    """
    Declare one parameter of a :class:`Params` dataclass.

    :param default: The value where nobody sets one.
    :param doc: One sentence for the integrator.
    :param unit: Unit of the number, empty where it has none.
    :param ge: Smallest allowed number.
    :param le: Largest allowed number.
    :param choices: Allowed strings; empty allows any.
    :param dynamic: Whether it may change while the node is active.
    """
    return field(default=default, metadata={
        'doc': doc, 'unit': unit, 'ge': ge, 'le': le, 'choices': choices, 'dynamic': dynamic})


@dataclass(frozen=True, kw_only=True)
class Params:
    """
    Base of every parameter set. Constructing one validates it.

    :raises ValueError: With the parameter's name, its value and what is allowed.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):
            value = _allowed(f, hints[f.name], getattr(self, f.name))
            object.__setattr__(self, f.name, value)

    @classmethod
    def check_value(cls, name: str, value: Any) -> None:
        """
        Check one value by itself, whatever the other parameters are.

        :raises ValueError: With the parameter's name, its value and what is allowed.
        """
        f = next(f for f in fields(cls) if f.name == name)
        _allowed(f, get_type_hints(cls)[name], value)

    @classmethod
    def from_mapping(cls: type[P], values: Mapping[str, Any]) -> P:
        """
        Build the set from parsed YAML.

        :param values: Parameter names and values; what is left out keeps its default.
        :raises ValueError: If a name is unknown or a value is not allowed.
        """
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(unknown_name(name, known))
        return cls(**values)


def unknown_name(name: str, known: list[str], what: str = 'parameter') -> str:
    """Return the sentence for a ``what`` that does not exist."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f'there are {", ".join(sorted(known))}'
    return f"there is no {what} '{name}'; {hint}"


def _allowed(f: Field[Any], kind: Any, value: Any) -> Any:
    """Return ``value`` as ``kind``, if it is what the declaration allows."""
    converted = _converted(f.name, kind, value)
    for item in converted if isinstance(converted, tuple) else (converted,):
        _check(f, item)
    return converted


def _converted(name: str, kind: Any, value: Any) -> Any:
    """Return ``value`` as ``kind``; only lossless steps (1 -> 1.0, list -> tuple) are taken."""
    if get_origin(kind) is tuple:
        if isinstance(value, str) or not hasattr(value, '__iter__'):
            raise ValueError(f"parameter '{name}' is {value!r}; it must be a list")
        return tuple(_converted(name, get_args(kind)[0], item) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(
            f"parameter '{name}' is {value!r}, of type {type(value).__name__}; "
            f'it must be of type {kind.__name__}')
    return value


def _check(f: Field[Any], value: Any) -> None:
    m = f.metadata
    if isinstance(value, float) and math.isnan(value):
        raise ValueError(f"parameter '{f.name}' is NaN; it must be a number")
    unit = f' {m["unit"]}' if m['unit'] else ''
    if m['ge'] is not None and value < m['ge']:
        raise ValueError(f"parameter '{f.name}' is {value}; it must be at least {m['ge']}{unit}")
    if m['le'] is not None and value > m['le']:
        raise ValueError(f"parameter '{f.name}' is {value}; it must be at most {m['le']}{unit}")
    if m['choices'] and value not in m['choices']:
        raise ValueError(
            f"parameter '{f.name}' is '{value}'; choose one of {', '.join(m['choices'])}")
