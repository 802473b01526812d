"""Turn Params dataclasses into ROS parameters, and ROS parameters back into the dataclasses."""

from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any, TypeVar

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
    Declare every field of ``kinds`` on a node that declares its overrides by itself.

    A value that is not allowed is kept as it is, so that :func:`read` can say what is wrong
    with it at configure time instead of ending the process here.

    :return: A sentence for each parameter that was set but does not exist.
    """
    given = {name for name in node.get_parameters_by_prefix('') if name != 'use_sim_time'}
    known = [f.name for kind in kinds for f in fields(kind)]
    for kind in kinds:
        for f in fields(kind):
            if f.name not in given:
                # typing is checked by the dataclass, which takes 1 for 1.0 where ROS would not
                node.declare_parameter(
                    f.name, _ros_value(f.default), ParameterDescriptor(dynamic_typing=True))
            try:
                node.set_descriptor(f.name, _described(f))
            except InvalidParameterValueException:
                node.set_descriptor(f.name, ParameterDescriptor(dynamic_typing=True))
    # ROS' own, and the container's: a launch file's values reach every node of the process
    reserved = ('start_type_description_service', 'qos_overrides', 'nodes', 'autostart')
    return [unknown_name(name, known) for name in sorted(given)
            if name not in known and not name.startswith(reserved)]


def read(node: Node, kind: type[P]) -> P:
    """
    Return the node's present values.

    :raises ValueError: With the sentence for the first value that is not allowed.
    """
    return kind(**{f.name: node.get_parameter(f.name).value for f in fields(kind)})


def follow(
    node: Node, kinds: tuple[type[Params], ...], is_active: Callable[[], bool],
    adopt: Callable[[], None],
) -> None:
    """
    Check every later change against the dataclasses, and tell the node about it.

    :param is_active: Whether only parameters marked dynamic may change now.
    :param adopt: Called after a change; the new values can then be read.
    """
    owner = {f.name: (kind, f) for kind in kinds for f in fields(kind)}

    def check(changes: list[Parameter]) -> SetParametersResult:
        try:
            for change in changes:
                if change.name in owner:
                    _check(change, *owner[change.name])
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _check(change: Parameter, kind: type[Params], f: Field[Any]) -> None:
        kind(**{change.name: change.value})
        if is_active() and not f.metadata['dynamic']:
            raise ValueError(
                f"parameter '{change.name}' is read when the node is configured: "
                'deactivate and clean up the node first, then configure it again')

    def changed(changes: list[Parameter]) -> None:
        if any(change.name in owner for change in changes):
            adopt()

    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(changed)


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
