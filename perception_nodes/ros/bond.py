"""The heartbeat by which Nav2's lifecycle manager knows that a node lives."""

from typing import Any

from rclpy.node import Node

# what Nav2's own nodes use
_TOPIC = '/bond'
_HEARTBEAT_PERIOD_S = 0.1
_HEARTBEAT_TIMEOUT_S = 4.0


def form_bond(node: Node) -> Any:
    """
    Start a node's heartbeat for the lifecycle manager.

    :return: The bond, whose ``shutdown()`` ends it; None where ``bondpy`` is not installed (the
        manager then needs ``bond_timeout: 0.0``, as launch/nav2_lifecycle.launch.py sets it).
    """
    try:
        from bondpy.bondpy import Bond
    except ImportError:
        node.get_logger().info(
            "bondpy is not installed: set the lifecycle manager's bond_timeout to 0.0")
        return None
    bond = Bond(_TOPIC, node.get_name(), node)
    bond.heartbeat_period = _HEARTBEAT_PERIOD_S
    bond.heartbeat_timeout = _HEARTBEAT_TIMEOUT_S
    bond.start()
    return bond
