"""Sends a robot to one goal after another, in the robot's own time."""

from collections.abc import Mapping, Sequence
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from perception_nodes.conversions.decode import stamp_ns_from_msg
from perception_nodes.core.navigation import NavigationState
from perception_nodes.ros.lifecycle_node import LATCHED
from perception_nodes.ros.session import Session
from rclpy.qos import qos_profile_sensor_data

_LONGEST_S = 60.0  # simulated, for one goal
_GIVEN_UP = {NavigationState.BLOCKED.value, NavigationState.CANCELLED.value}


class Driver:
    """
    Gives a navigation node its goals, each as soon as it is done with the one before.

    Time is that of the odometry stamps, so a slow simulator drives the same way.

    :param goals: x and y in map.
    :param results: Topics and their types that must flow before it is ready: a container serves
        goals only once its last node has started.
    """

    def __init__(
        self, session: Session, goals: Sequence[tuple[float, float]], results: Mapping[str, Any],
    ) -> None:
        self.goals = goals
        self.reached = 0
        self.done = 0  # reached or given up
        self.start_ns = 0  # stamp of the first goal
        self.simulated_s = 0.0  # driven so far
        self.wall_s = 0.0
        self._publisher = session.node.create_publisher(PoseStamped, '/goal_pose', 10)
        self._has_odometry, self._has_status = threading.Event(), threading.Event()
        self._missing = set(results)
        self._wanted = threading.Event()
        self._start_s, self._sent_s = 0.0, 0.0
        self._is_driving = False  # to the goal that was sent
        session.node.create_subscription(
            Odometry, '/odom', self._on_odometry, qos_profile_sensor_data)
        session.node.create_subscription(
            DiagnosticStatus, '/navigation/status', self._on_status, LATCHED)
        for topic, msg_type in results.items():
            def found(_: Any, topic: str = topic) -> None:
                self._missing.discard(topic)
            session.node.create_subscription(msg_type, topic, found, 10)

    def is_ready(self) -> bool:
        """Return whether the navigation node and the recorder listen, and results flow."""
        return (self._publisher.get_subscription_count() >= 2 and self._has_odometry.is_set()
                and self._has_status.is_set() and not self._missing)

    def start(self) -> None:
        """Send the first goal with the next odometry message."""
        self._wanted.set()

    def has_arrived(self) -> bool:
        """Return whether the last goal is reached or given up."""
        return self.done == len(self.goals)

    def _on_odometry(self, msg: Odometry) -> None:
        self._has_odometry.set()
        if not self._wanted.is_set() or self.has_arrived():
            return
        stamp_ns, now_s = stamp_ns_from_msg(msg.header.stamp), time.monotonic()
        if not self._start_s:
            self.start_ns, self._start_s = stamp_ns, now_s
            self._send()
        self.simulated_s = (stamp_ns - self.start_ns) * 1e-9
        self.wall_s = now_s - self._start_s
        if self.simulated_s > self._sent_s + _LONGEST_S:
            self._go_on()

    def _on_status(self, msg: DiagnosticStatus) -> None:
        self._has_status.set()
        if self.has_arrived():  # what it says of the last goal from now on changes nothing
            return
        if msg.message == NavigationState.MOVING.value:
            self._is_driving = True
        elif self._is_driving and msg.message == NavigationState.REACHED.value:
            self.reached += 1
            self._go_on()
        elif self._is_driving and msg.message in _GIVEN_UP:
            self._go_on()

    def _go_on(self) -> None:
        self.done += 1
        self._is_driving = False
        if not self.has_arrived():
            self._send()

    def _send(self) -> None:
        self._is_driving, self._sent_s = False, self.simulated_s
        goal = PoseStamped()
        goal.header.frame_id = 'map'
        goal.pose.position.x, goal.pose.position.y = self.goals[self.done]
        goal.pose.orientation.w = 1.0
        self._publisher.publish(goal)
