"""A node's health as messages on /diagnostics."""

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from perception_nodes.core.health import Verdict
from rclpy.node import Node

_LEVELS = {
    'ok': DiagnosticStatus.OK, 'warn': DiagnosticStatus.WARN, 'error': DiagnosticStatus.ERROR}


def diagnostics_msg(
    node: Node, camera: str, verdict: Verdict, values: Mapping[str, str]
) -> DiagnosticArray:
    """
    Describe a node as it is now.

    :param camera: Which of its cameras; empty where it has one.
    :param values: Figures by name, as text.
    """
    name = node.get_fully_qualified_name()
    status = DiagnosticStatus(
        level=_LEVELS[verdict.level], name=f'{name}: {camera}' if camera else name,
        message=verdict.message, hardware_id='',
        values=[KeyValue(key=k, value=v) for k, v in values.items()])
    msg = DiagnosticArray(status=[status])
    msg.header.stamp = node.get_clock().now().to_msg()
    return msg
