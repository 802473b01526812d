"""Drives a robot by a script of velocity commands, in the robot's own time."""

from collections.abc import Mapping, Sequence
import threading
import time
from typing import Any

from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from perception_nodes.conversions.decode import stamp_ns_from_msg
from perception_nodes.core.types import VelocityCommand
from perception_nodes.ros.session import Session
from rclpy.qos import qos_profile_sensor_data


class Driver:
    """
    Answers each odometry message with the command of that moment.

    Time is that of the odometry stamps, so a slow simulator drives the same way.

    :param legs: Seconds, and what is driven for so long.
    :param results: Topics and their types that must flow before it is ready: a container serves
        commands only once its last node has started.
    """

    def __init__(
        self, session: Session, legs: Sequence[tuple[float, VelocityCommand]],
        results: Mapping[str, Any],
    ) -> None:
        self.duration_s = sum(duration_s for duration_s, _ in legs)
        self.start_ns = 0  # stamp of the first command
        self.simulated_s = 0.0  # driven so far
        self.wall_s = 0.0
        self._legs = legs
        self._publisher = session.node.create_publisher(TwistStamped, '/cmd_vel', 10)
        self._has_odometry = threading.Event()
        self._missing = set(results)
        self._wanted, self._arrived = threading.Event(), threading.Event()
        self._start_s = 0.0
        session.node.create_subscription(
            Odometry, '/odom', self._on_odometry, qos_profile_sensor_data)
        for topic, msg_type in results.items():
            def found(_: Any, topic: str = topic) -> None:
                self._missing.discard(topic)
            session.node.create_subscription(msg_type, topic, found, 10)

    def is_ready(self) -> bool:
        """Return whether the robot listens and results flow."""
        return (self._publisher.get_subscription_count() >= 2  # the robot and the recorder
                and self._has_odometry.is_set() and not self._missing)

    def start(self) -> None:
        """Drive from the next odometry message on."""
        self._wanted.set()

    def has_arrived(self) -> bool:
        """Return whether the last leg is over; the robot was told to stop."""
        return self._arrived.is_set()

    def _on_odometry(self, msg: Odometry) -> None:
        self._has_odometry.set()
        if not self._wanted.is_set() or self._arrived.is_set():
            return
        stamp_ns, now_s = stamp_ns_from_msg(msg.header.stamp), time.monotonic()
        if not self._start_s:
            self.start_ns, self._start_s = stamp_ns, now_s
        self.simulated_s = (stamp_ns - self.start_ns) * 1e-9
        self.wall_s = now_s - self._start_s
        command = self._command()
        out = TwistStamped()
        out.header.stamp = msg.header.stamp
        out.header.frame_id = 'base_link'
        out.twist.linear.x = command.linear_mps
        out.twist.angular.z = command.angular_rps
        self._publisher.publish(out)
        if self.simulated_s >= self.duration_s:
            self._arrived.set()

    def _command(self) -> VelocityCommand:
        left_s = self.simulated_s
        for duration_s, command in self._legs:
            if left_s < duration_s:
                return command
            left_s -= duration_s
        return VelocityCommand()
