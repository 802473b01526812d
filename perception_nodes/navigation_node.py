"""Drive to goals by what a range finder, or a depth camera, shows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event, Lock, Thread
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from nav_msgs.msg import Odometry, Path
from perception_nodes.backends.registry import load_model
from perception_nodes.conversions.decode_robot import (
    goal_from_msg,
    odometry_from_msg,
    plan_from_msg,
)
from perception_nodes.conversions.encode import header_to_msg
from perception_nodes.conversions.encode_navigation import (
    command_to_msg,
    observation_to_msg,
    status_to_msg,
)
from perception_nodes.core.dynamic_window import DynamicWindow
from perception_nodes.core.goal_driver import GoalDriver, GoalDriverParams, Route, warm_up
from perception_nodes.core.health import Level, Verdict
from perception_nodes.core.latest import LatestSlots
from perception_nodes.core.manifest import find_model
from perception_nodes.core.navigation import NavigationState, NavigationStep
from perception_nodes.core.params import param
from perception_nodes.core.protocols import NavigationPolicy
from perception_nodes.core.rolling_map import GuidedPolicy
from perception_nodes.core.types import VelocityCommand
from perception_nodes.ros.camera_input import CameraInput, Taken
from perception_nodes.ros.inference_node import SCAN
from perception_nodes.ros.lifecycle_node import LATCHED, ManagedNode, RELIABLE, Report
from perception_nodes.ros.process import run
from perception_nodes.ros.sources import ScanTopic
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

_HELD_UP_S = 1.0  # steady clock; the robot stops when this process does not get to drive it
_SIMULATION_HELD_UP_S = 10.0  # a slow simulation is no danger
_STOPPING_S = 0.5  # for so long a stop is repeated before cmd_vel is left to others
_STATUS_PERIOD_S = 0.5
_LAST_WORDS_S = 0.2  # for the last stop to arrive
_AT_REST = (NavigationState.IDLE, NavigationState.REACHED, NavigationState.BLOCKED,
            NavigationState.CANCELLED, NavigationState.NO_TRANSFORM)
_LEVELS: dict[NavigationState, Level] = {
    NavigationState.STALE: 'warn', NavigationState.BLOCKED: 'warn',
    NavigationState.NO_TRANSFORM: 'error'}


@dataclass(frozen=True, kw_only=True)
class NavigationNodeParams(GoalDriverParams):
    """Parameters of the navigation node."""

    policy: str = param(
        'model', "Who decides where to drive: 'model', the learned policy that model names; "
        "'guided', the same, shown the way through a grid of what the scans of the last metres "
        "had; or 'dwa', the dynamic window on the newest scan.",
        choices=('model', 'guided', 'dwa'))
    model: str = param(
        'navigation_policy', "Name of a policy in the manifest, for 'model' and 'guided'.")
    manifest: str = param(
        '', 'Path of your own manifest.yaml, searched before the shipped one.')
    cmd_vel_stamped: bool = param(True, 'Whether cmd_vel is TwistStamped or Twist.')
    input_reliability: str = param(
        'best_effort', 'QoS asked of scan and odom; reliable only suits reliable publishers.',
        choices=('best_effort', 'reliable'))


class NavigationNode(ManagedNode[NavigationNodeParams, GoalDriver]):
    """
    Drives a robot to ``goal_pose`` or along ``plan`` by ``scan`` and ``odom``.

    Publishes ``cmd_vel``, ``~/status`` and ``~/markers``; ``~/cancel`` ends a drive. Callbacks
    store what arrives; a thread decides when a timer of the node's clock says so, and stops the
    robot when the timer does not.
    """

    Params = NavigationNodeParams

    def __init__(self, name: str = 'navigation', **kwargs: Any) -> None:
        self._scan: CameraInput | None = None  # while the node is active
        self._lock = Lock()
        self._step = NavigationStep(VelocityCommand(), NavigationState.IDLE)
        super().__init__(name, **kwargs)
        self.create_service(Trigger, '~/cancel', self._on_cancel)

    def load(self) -> GoalDriver:
        """Create the outputs, and the policy that the parameters name."""
        p = self.params
        self.commands = self.create_output(
            TwistStamped if p.cmd_vel_stamped else Twist, 'cmd_vel')
        self.statuses = self.create_output(DiagnosticStatus, '~/status', LATCHED)
        self.markers = self.create_output(MarkerArray, '~/markers')
        sensor = QoSProfile(depth=5, reliability=ReliabilityPolicy[p.input_reliability.upper()])
        self.create_input(Odometry, 'odom', self._on_odometry, sensor)
        self.create_input(PoseStamped, 'goal_pose', self._on_goal, RELIABLE)
        self.create_input(Path, 'plan', self._on_plan, RELIABLE)
        policy = self._policy()
        warm_up(policy, p)
        return GoalDriver(policy, p, self.transforms)

    def _policy(self) -> NavigationPolicy:
        if self.params.policy == 'dwa':
            return DynamicWindow()
        p = self.params
        # so small that no device is faster than the CPU
        policy = load_model(find_model(p.model, 'navigation', p.manifest), 'cpu')
        policy.check(p)
        if p.decision_ms != policy.period_ms:
            raise ValueError(
                f"parameter 'decision_ms' is {p.decision_ms:g}, but model '{p.model}' was trained "
                f'with {policy.period_ms:g} ms from one decision to the next: set it to that')
        learned: NavigationPolicy = policy
        return GuidedPolicy(learned) if p.policy == 'guided' else learned

    def begin(self) -> None:
        """Listen and drive, from an empty memory."""
        self.core.reset()
        self._base, self._stops_left = 'base_link', 0
        self._told: NavigationStep | None = None
        self._told_s = 0.0
        self._slots: LatestSlots[Taken] = LatestSlots()
        self._due, self._stopping = Event(), Event()
        self._scan = CameraInput(SCAN, self._slots, self.time_jumped)
        self._worker = Thread(target=self._work, name=f'{self.get_name()}-worker', daemon=True)
        self._worker.start()
        self._timer = self.create_timer(self.params.period_ms * 1e-3, self._due.set)
        topic = ScanTopic(self.resolve_topic_name('scan'), self.params.input_reliability)
        self._scan.source = self._hub.listen(topic, self._scan)
        self.get_logger().info(
            f"active, listening to {topic.topic}, {self.resolve_topic_name('odom')}, "
            f"{self.resolve_topic_name('goal_pose')}")

    def halt(self) -> None:
        """Stop the robot, and everything."""
        if self._scan is None:
            return
        self.stop_robot()
        self._worker.join()
        self.core.cancel('the node was deactivated')
        self.destroy_timer(self._timer)
        if self._scan.source is not None:
            self._hub.leave(self._scan.source, self._scan)
        self._scan = None

    def stop_robot(self) -> None:
        """Let a stop be the last command; for a process that is told to end, too."""
        if self._scan is None:
            return
        with self._lock:
            was_stopped = self._stopping.is_set()
            self._stopping.set()
            self._due.set()
            if not was_stopped and self.context.ok() and self._stops_left:
                self._send(VelocityCommand())
                self.commands.wait_for_all_acked(Duration(seconds=_LAST_WORDS_S))

    def time_jumped(self) -> None:
        """Stop, and forget the goal: it was of another time."""
        if self._scan is not None:
            self._slots.clear()
            self.core.reset('time jumped back: send the goal again')

    def reports(self) -> Iterator[Report]:
        """Yield how the drive goes, with the figures of the scans."""
        if self._scan is not None:
            step = self._step
            concern = '; '.join(filter(None, [step.reason, self._scan.concern()]))
            level: Level = _LEVELS.get(step.state, 'warn' if self._scan.concern() else 'ok')
            yield '', Verdict(level, f'{step.state.value}: {concern}' if concern else 'active'), {
                'state': step.state.value, 'reason': step.reason,
                'distance_to_goal_m': f'{self.core.distance_m:.3f}',
                **self._scan.health.values()}

    def _on_odometry(self, msg: Odometry) -> None:
        if self._scan is None:
            return
        try:
            reading = odometry_from_msg(msg)
        except ValueError as error:
            self.core.refuse('odometry', str(error))
            return
        self._base = reading.odom_from_base.child
        self.core.take_odometry(reading)

    def _on_goal(self, msg: PoseStamped) -> None:
        self._set_out(lambda: goal_from_msg(msg))

    def _on_plan(self, msg: Path) -> None:
        self._set_out(lambda: plan_from_msg(msg))

    def _set_out(self, read: Callable[[], Route]) -> None:
        if self._scan is None:
            self.get_logger().warning('a goal was ignored: the node is not active')
            return
        try:
            route = read()
        except ValueError as error:  # where to is not known, so the old goal is not it any more
            self.core.cancel(str(error))
            self.get_logger().error(str(error))
            return
        self.core.send(route)

    def _on_cancel(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._scan is not None and self.core.cancel('')
        response.message = 'cancelled' if response.success else 'there is no goal'
        return response

    def _work(self) -> None:
        while not self._stopping.is_set():
            is_simulated = self.get_parameter('use_sim_time').value
            in_time = self._due.wait(_SIMULATION_HELD_UP_S if is_simulated else _HELD_UP_S)
            self._due.clear()
            if self._stopping.is_set() or not self.context.ok():
                return
            try:
                self._drive(in_time)
            except Exception as error:  # one bad step must not end the node, nor drive the robot
                if self.context.ok():
                    self._publish(self.core.halt(f'cannot decide: {error}'))

    def _drive(self, in_time: bool) -> None:
        started_ns = time.monotonic_ns()
        arrived = self._slots.take(0.0).get(SCAN)
        if arrived is not None:
            self._take(arrived)
        now_ns = self.get_clock().now().nanoseconds
        step = self.core.step(now_ns) if in_time else self.core.halt(
            'the node was held up, or time stands still: is /clock published?')
        self._publish(step)
        if arrived is not None and self._scan is not None:
            done_ns = time.monotonic_ns()
            self._scan.health.processed(
                (done_ns - arrived.received_ns) * 1e-6, (done_ns - started_ns) * 1e-6)

    def _take(self, arrived: Any) -> None:
        try:
            self.core.take_scan(arrived.value())
        except ValueError as error:
            self.core.refuse('scan', str(error))
            if self._scan is not None:
                self._scan.health.failed(str(error))

    def _publish(self, step: NavigationStep) -> None:
        """Send the command where the robot is to be held, and tell what changed."""
        self._step = step
        with self._lock:
            if self._stopping.is_set():
                return
            if step.state not in _AT_REST:
                self._stops_left = round(_STOPPING_S * 1e3 / self.params.period_ms)
                self._send(step.command)
            elif self._stops_left:
                self._stops_left -= 1
                self._send(VelocityCommand())
            self._tell(step)

    def _send(self, command: VelocityCommand) -> None:
        header = header_to_msg(self.get_clock().now().nanoseconds, self._base)
        self.commands.publish(
            command_to_msg(command, header, stamped=self.params.cmd_vel_stamped))

    def _tell(self, step: NavigationStep) -> None:
        now_s = time.monotonic()
        is_other = self._told is None or self._told.state is not step.state
        # a distance or a reason that changes all the time is told at times
        is_due = now_s > self._told_s + _STATUS_PERIOD_S and (
            step.state not in _AT_REST or self._told is None or self._told.reason != step.reason)
        if is_other or is_due:
            self._told, self._told_s = step, now_s
            self.statuses.publish(status_to_msg(
                self.get_fully_qualified_name(), step, self.core.distance_m))
        observation = self.core.observation
        if observation is not None and self.markers.get_subscription_count():
            self.markers.publish(observation_to_msg(
                observation, header_to_msg(self.get_clock().now().nanoseconds, self._base)))


def main() -> None:
    """Run the navigation node."""
    run(lambda: [NavigationNode()])


if __name__ == '__main__':
    main()
