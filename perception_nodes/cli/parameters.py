"""Command-line flags and node arguments, made from the parameters' own declarations."""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import fields
import json
from typing import Any, get_args, get_type_hints, TypeVar

from perception_nodes.core.params import Params

P = TypeVar('P', bound=Params)


def add_flags(
    parser: ArgumentParser, kind: type[Params], defaults: Mapping[str, Any] | None = None,
    leave_out: Sequence[str] = (),
) -> None:
    """
    Add ``--name VALUE`` for each parameter.

    :param defaults: Where a verb wants another default than the node's.
    :param leave_out: Parameters that the verb sets itself.
    """
    hints = get_type_hints(kind)
    for f in fields(kind):
        if f.name in leave_out:
            continue
        default = (defaults or {}).get(f.name, f.default)
        unit = f' [{f.metadata["unit"]}]' if f.metadata['unit'] else ''
        shown = '' if default in ('', ()) else ' (default %(default)s)'
        text = f.metadata['doc'].rstrip('.').replace('%', '%%') + unit + shown
        options: dict[str, Any] = {'type': hints[f.name]}
        if hints[f.name] is bool:
            options = {'action': BooleanOptionalAction}
        elif isinstance(f.default, tuple):
            options = {'type': get_args(hints[f.name])[0], 'nargs': '*'}
        parser.add_argument(f'--{f.name.replace("_", "-")}', default=default, help=text, **options)


def from_flags(kind: type[P], arguments: Namespace) -> P:
    """
    Build the parameters from parsed arguments.

    :raises ValueError: If a value is not allowed.
    """
    return kind(**{f.name: getattr(arguments, f.name) for f in fields(kind)})


def ros_arguments(params: Params) -> list[str]:
    """Return the command line that gives a node these parameters; defaults are its own."""
    words = ['--ros-args']
    for f in fields(params):
        value = getattr(params, f.name)
        if value != f.default:
            # JSON is YAML, and quotes keep a model named '123' a string
            words += ['-p', f'{f.name}:={json.dumps(value)}']
    return words
