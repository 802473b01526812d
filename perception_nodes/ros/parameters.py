"""Turn Params dataclasses into ROS parameters, and ROS parameters back into the dataclasses."""

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any, TypeVar

from perception_nodes.core.node_params import is_of_the_process
from perception_nodes.core.params import Params, unknown_name
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

P = TypeVar('P', bound=Params)

_LIMIT = 2**63 - 1


def declare(node: Node, kinds: tuple[type[Params], ...]) -> list[str]:
    """
    Declare every field of ``kinds`` on a node.

    A value that is not allowed is kept as it is, so that :func:`read` can say what is wrong
    with it at configure time instead of ending the process here.

    :return: A sentence for each parameter that was set but does not exist.
    """
    known = [f.name for kind in kinds for f in fields(kind)]
    for kind in kinds:
        for f in fields(kind):
            # typing is checked by the dataclass, which takes 1 for 1.0 where ROS would not
            node.declare_parameter(
                f.name, _ros_value(f.default), ParameterDescriptor(dynamic_typing=True))
            try:
                node.set_descriptor(f.name, _described(f))
            except InvalidParameterValueException:
                node.set_descriptor(f.name, ParameterDescriptor(dynamic_typing=True))
    # rclpy has no public word for what the command line and files set
    return [unknown_name(name, known) for name in sorted(node._parameter_overrides)
            if name not in known and not is_of_the_process(name)]


def read(node: Node, kind: type[P]) -> P:
    """
    Return the node's present values.

    :raises ValueError: With the sentence for the first value that is not allowed.
    """
    return kind(**_present(node, kind))


def follow(
    node: Node, kinds: tuple[type[Params], ...], locked: Callable[[], str],
    adopt: Callable[[], None], examine: Callable[[Params], None] = lambda proposed: None,
) -> None:
    """
    Check every later change against the dataclasses, and tell the node about it.

    :param locked: Says why only parameters marked dynamic may change now, and what to do; empty
        while all may.
    :param adopt: Called after a change; the new values can then be read.
    :param examine: Called before one with the set as it would be; raises ValueError to refuse it.

    A set that is wrong already is not examined, so that it can be mended one by one.
    """
    owner = {f.name: (kind, f) for kind in kinds for f in fields(kind)}

    def check(changes: list[Parameter]) -> SetParametersResult:
        try:
            ours = [change for change in changes if change.name in owner]
            for change in ours:
                _check(change, *owner[change.name])
            for kind in dict.fromkeys(owner[change.name][0] for change in ours):
                if _is_valid(kind, present := _present(node, kind)):
                    examine(kind(**(present | {
                        c.name: c.value for c in ours if owner[c.name][0] is kind})))
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _check(change: Parameter, kind: type[Params], f: Field[Any]) -> None:
        kind.check_value(change.name, change.value)
        reason = locked()
        if reason and not f.metadata['dynamic']:
            raise ValueError(f"parameter '{change.name}' {reason}")

    def changed(changes: list[Parameter]) -> None:
        if any(change.name in owner for change in changes):
            adopt()

    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(changed)


def _present(node: Node, kind: type[Params]) -> dict[str, Any]:
    """Return the node's present values by name, allowed or not."""
    values = {f.name: node.get_parameter(f.name).value for f in fields(kind)}
    # an empty list has no type in ROS and arrives as nothing
    return {name: value for name, value in values.items() if value is not None}


def _is_valid(kind: type[Params], values: Mapping[str, Any]) -> bool:
    try:
        kind(**values)
    except ValueError:
        return False
    return True


def _ros_value(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def _described(f: Field[Any]) -> ParameterDescriptor:
    m = f.metadata
    unit = f' [{m["unit"]}]' if m['unit'] else ''
    descriptor = ParameterDescriptor(description=m['doc'] + unit, dynamic_typing=True)
    if m['choices']:
        descriptor.additional_constraints = 'one of ' + ', '.join(m['choices'])
    if m['ge'] is None and m['le'] is None:
        return descriptor
    if isinstance(f.default, float):
        descriptor.floating_point_range = [FloatingPointRange(
            from_value=float('-inf') if m['ge'] is None else float(m['ge']),
            to_value=float('inf') if m['le'] is None else float(m['le']))]
    else:
        descriptor.integer_range = [IntegerRange(
            from_value=-_LIMIT if m['ge'] is None else m['ge'],
            to_value=_LIMIT if m['le'] is None else m['le'])]
    return descriptor
