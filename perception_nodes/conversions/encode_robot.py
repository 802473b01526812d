"""Where a robot is and how it moves, as ROS messages."""

from collections.abc import Sequence

from geometry_msgs.msg import (
    Point,
    Pose,
    Quaternion,
    Transform,
    TransformStamped,
    Twist,
    Vector3,
)
from nav_msgs.msg import Odometry
import numpy as np
import numpy.typing as npt
from perception_nodes.conversions.encode import header_to_msg
from perception_nodes.core.geometry import quaternion_xyzw
from perception_nodes.core.types import VelocityCommand
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

Matrix = npt.NDArray[np.float64]


def pose_to_msg(frame_from_thing: Matrix) -> Pose:
    """Convert a (4, 4) rigid transform to the pose of a thing in the frame."""
    x, y, z = frame_from_thing[:3, 3].tolist()
    qx, qy, qz, qw = quaternion_xyzw(frame_from_thing[:3, :3])
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))


def transforms_to_msg(links: Sequence[tuple[str, str, Matrix]], stamp_ns: int) -> TFMessage:
    """
    Convert transforms to one ``tf2_msgs/TFMessage``.

    :param links: Parent frame, child frame and (4, 4) parent_from_child of each.
    """
    return TFMessage(transforms=[
        _transform_to_msg(child, parent_from_child, header_to_msg(stamp_ns, parent))
        for parent, child, parent_from_child in links])


def twist_to_msg(twist: VelocityCommand) -> Twist:
    """Convert a speed in base_link to ``geometry_msgs/Twist``."""
    return Twist(linear=Vector3(x=twist.linear_mps), angular=Vector3(z=twist.angular_rps))


def odometry_to_msg(frame_from_base: Matrix, twist: VelocityCommand, header: Header) -> Odometry:
    """
    Convert a robot's pose and speed to ``nav_msgs/Odometry`` of base_link.

    :param frame_from_base: (4, 4) pose in ``header.frame_id``.
    :param twist: Speed in base_link.
    """
    msg = Odometry(header=header, child_frame_id='base_link')
    msg.pose.pose = pose_to_msg(frame_from_base)
    msg.twist.twist = twist_to_msg(twist)
    return msg


def _transform_to_msg(child: str, parent_from_child: Matrix, header: Header) -> TransformStamped:
    pose = pose_to_msg(parent_from_child)
    position = pose.position
    return TransformStamped(
        header=header, child_frame_id=child,
        transform=Transform(
            translation=Vector3(x=position.x, y=position.y, z=position.z),
            rotation=pose.orientation))
