"""Messages about a robot and where it is sent, as what the core takes. No ROS is needed."""

from typing import Any

import numpy as np
from perception_nodes.conversions.decode import stamp_ns_from_msg, velocity_from_msg
from perception_nodes.core.goal_driver import OdometryReading, Route
from perception_nodes.core.types import StampedTransform

_BASE = 'base_link'  # where a driver does not name it


def odometry_from_msg(msg: Any) -> OdometryReading:
    """
    Convert a ``nav_msgs/Odometry``.

    :raises ValueError: If a number is not finite, or a frame has no name.
    """
    p, q = msg.pose.pose.position, msg.pose.pose.orientation
    try:
        pose = StampedTransform(
            msg.header.frame_id, msg.child_frame_id or _BASE, stamp_ns_from_msg(msg.header.stamp),
            (p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
    except ValueError as error:
        raise ValueError(f'the odometry has no pose: {error}') from None
    return OdometryReading(pose, velocity_from_msg(msg.twist))


def goal_from_msg(msg: Any) -> Route:
    """
    Convert a ``geometry_msgs/PoseStamped``; its orientation is not looked at.

    :raises ValueError: If the position is not finite, or no frame is named.
    """
    return _route([msg], msg.header.frame_id)


def plan_from_msg(msg: Any) -> Route:
    """
    Convert a ``nav_msgs/Path``; the orientations are not looked at.

    :raises ValueError: If it is empty, a position is not finite, or no frame is named.
    """
    return _route(msg.poses, msg.header.frame_id)


def _route(poses: Any, frame_id: str) -> Route:
    points = [(p.pose.position.x, p.pose.position.y, p.pose.position.z) for p in poses]
    return Route(np.array(points, np.float64).reshape(-1, 3), frame_id.lstrip('/'))
