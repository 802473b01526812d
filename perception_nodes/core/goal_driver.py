"""
From what arrives at its own pace to the command of now: goals in any frame, plans, stale inputs.

What the navigation node does, without ROS.
"""

from dataclasses import dataclass
import math
import threading

import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import inverse
from perception_nodes.core.navigation import (
    NavigationObservation,
    NavigationParams,
    NavigationState,
    NavigationStep,
    Navigator,
    ObservationBuilder,
)
from perception_nodes.core.params import param
from perception_nodes.core.protocols import NavigationPolicy
from perception_nodes.core.transforms import TransformBuffer, TransformError
from perception_nodes.core.types import LaserRanges, StampedTransform, VelocityCommand

Array = npt.NDArray[np.float64]

_LONGEST_SKIP_M = 2.0  # along a plan, from one look at it to the next
# localisation stamps map -> odom with the time until which it holds: AMCL 1 s ahead by default
_LONGEST_AHEAD_NS = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class GoalDriverParams(NavigationParams):
    """What :class:`GoalDriver` must know beside what every robot on its way to a goal has."""

    period_ms: float = param(
        50.0, 'Time between two commands.', unit='ms', ge=10.0, le=1000.0)
    plan_lookahead_m: float = param(
        1.0, 'How far ahead on a plan the robot aims.', unit='m', ge=0.05, le=20.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.plan_lookahead_m <= self.goal_tolerance_m:
            raise ValueError(
                f"parameter 'plan_lookahead_m' is {self.plan_lookahead_m}; it must be larger than "
                f"'goal_tolerance_m', which is {self.goal_tolerance_m}")


@dataclass(frozen=True)
class OdometryReading:
    """
    Where a robot believes to be, and how it moves.

    :raises ValueError: If the velocity is not finite.
    """

    odom_from_base: StampedTransform
    velocity: VelocityCommand  # of the base, in its own frame

    def __post_init__(self) -> None:
        if not self.velocity.is_finite:
            raise ValueError(
                f'the odometry has velocity {self.velocity.linear_mps} m/s and '
                f'{self.velocity.angular_rps} rad/s; both must be finite')


@dataclass(frozen=True, eq=False)
class Route:
    """
    Where to go: a goal, or a plan to follow to its end.

    :raises ValueError: If there is no point, or one is not finite.
    """

    points_m: Array  # (N, 3) in ``frame_id``; the last one is the goal
    frame_id: str

    def __post_init__(self) -> None:
        what = 'goal' if len(self.points_m) == 1 else 'plan'
        if not len(self.points_m):
            raise ValueError('the plan has no poses')
        if not np.isfinite(self.points_m).all():
            raise ValueError(f'the {what} has a position that is not finite')
        if not self.frame_id:
            raise ValueError(f'the {what} names no frame: set header.frame_id')

    @property
    def is_plan(self) -> bool:
        """Return whether there is more than the goal."""
        return len(self.points_m) > 1


class GoalDriver:
    """
    Drives one robot by its newest scan and odometry to where it is sent.

    Scans are moved by the odometry from where they were taken to where the robot is now, so that
    a slow range finder is no delay. A goal keeps its place in its own frame: it is transformed
    anew for every command. Every method may be called from any thread.

    :param policy: Decides where to go.
    :param params: Of the robot.
    :param transforms: Where the laser sits, and where frames of goals are.
    """

    def __init__(
        self, policy: NavigationPolicy, params: GoalDriverParams, transforms: TransformBuffer
    ) -> None:
        self._params, self._transforms = params, transforms
        self._navigator = Navigator(policy, params)
        self._builder = ObservationBuilder(params)
        self._lock = threading.RLock()
        self._route: Route | None = None
        self.reset()

    def reset(self, reason: str = '') -> None:
        """
        Forget inputs and goal, as after a jump in time.

        :param reason: Why a goal is given up.
        """
        with self._lock:
            self._poses = TransformBuffer()  # of the base in odom, by odometry
            self._odometry: OdometryReading | None = None
            self._scan: LaserRanges | None = None
            self._problems: dict[str, str] = {}  # why the newest of an input cannot be used
            self._builder.reset()
            if not self.cancel(reason):
                self._resting, self._why_resting = NavigationState.IDLE, ''

    def cancel(self, reason: str) -> bool:
        """Give up the goal; return whether there was one."""
        with self._lock:
            had_one, self._route = self._route is not None, None
            self._resting, self._why_resting = NavigationState.CANCELLED, reason
            self.observation: NavigationObservation | None = None  # of the last command
            self.distance_m = math.nan  # to the goal
            return had_one

    def send(self, route: Route) -> None:
        """Drive to another goal, or along another plan."""
        with self._lock:
            if not self._continues(route):
                self._navigator.start()
                self.distance_m = math.nan
            self._route, self._passed = route, 0

    def take_odometry(self, reading: OdometryReading) -> None:
        """Take the newest odometry."""
        with self._lock:
            self._poses.add([reading.odom_from_base])
            self._odometry = reading
            self._problems.pop('odometry', None)

    def take_scan(self, scan: LaserRanges) -> None:
        """Take the newest scan."""
        with self._lock:
            self._scan = scan
            self._problems.pop('scan', None)

    def refuse(self, what: str, sentence: str) -> None:
        """
        Hear that the newest message of an input cannot be used.

        :param what: ``scan`` or ``odometry``.
        :param sentence: Why.
        """
        with self._lock:
            self._problems[what] = sentence

    def halt(self, reason: str) -> NavigationStep:
        """Return a stop that keeps the goal, where there is one."""
        with self._lock:
            return self._at_rest() if self._route is None else self._navigator.stale(reason)

    def step(self, now_ns: int) -> NavigationStep:
        """
        Return what to drive now.

        :param now_ns: ROS time, nanoseconds.
        """
        with self._lock:
            if self._route is None:
                return self._at_rest()
            if stale := self._why_stale(now_ns):
                return self._navigator.stale(stale)
            try:
                observation = self._observe(now_ns)
            except TransformError as error:
                return NavigationStep(
                    self._navigator.stale(str(error)).command, NavigationState.NO_TRANSFORM,
                    str(error))
            except ValueError as error:
                return self._navigator.stale(str(error))
            self.observation = observation
            step = self._navigator.step(observation, now_ns * 1e-9)
            if step.state in (NavigationState.REACHED, NavigationState.BLOCKED):
                self._route, self._resting, self._why_resting = None, step.state, step.reason
            return step

    def _at_rest(self) -> NavigationStep:
        return NavigationStep(VelocityCommand(), self._resting, self._why_resting)

    def _why_stale(self, now_ns: int) -> str:
        """Return which input does not come, or nothing."""
        stamps_ns = {
            'scan': self._scan.stamp_ns if self._scan else None,
            'odometry': self._odometry.odom_from_base.stamp_ns if self._odometry else None}
        for what, stamp_ns in stamps_ns.items():
            late = self._why_late(what, stamp_ns, now_ns)
            if late:
                return late + (f'; {self._problems[what]}' if what in self._problems else '')
        return ''

    def _why_late(self, what: str, stamp_ns: int | None, now_ns: int) -> str:
        longest_ms = self._params.stale_after_ms
        if stamp_ns is None:
            return f'no {what} has arrived'
        age_ms = (now_ns - stamp_ns) * 1e-6
        if age_ms > longest_ms:
            return f'the newest {what} is {age_ms:.0f} ms old, more than {longest_ms:.0f} ms'
        if age_ms < -longest_ms:
            return (f'the newest {what} is stamped {-age_ms:.0f} ms in the future: do the clocks '
                    'agree, and is use_sim_time right?')
        return ''

    def _observe(self, now_ns: int) -> NavigationObservation:
        """
        Look at the newest inputs from where the robot is now.

        :raises TransformError: If the laser or the goal is in a frame that is not known.
        :raises ValueError: If the scan cannot be used, or the goal's frame is lost.
        """
        assert self._odometry is not None
        assert self._scan is not None
        scan, pose = self._scan, self._odometry.odom_from_base
        odom, base = pose.parent, pose.child
        odom_from_base = self._poses.lookup(odom, base, pose.stamp_ns)
        base_from_odom = inverse(odom_from_base)
        base_from_laser = self._transforms.lookup_newest(base, scan.frame_id)[0]
        odom_from_base_then = self._then(odom, base, min(scan.stamp_ns, pose.stamp_ns))
        time_s = now_ns * 1e-9
        self._builder.add(scan, base_from_odom @ odom_from_base_then @ base_from_laser,
                          replace=not self._navigator.is_due(time_s))
        if self._builder.is_blind:
            raise ValueError(
                f'the newest scan shows nothing: none of its {len(scan.ranges_m)} beams has a '
                'reading')
        target, end = self._target(odom, odom_from_base, now_ns)
        goal = base_from_odom @ target
        self.distance_m = math.hypot(*(base_from_odom @ end)[:2])
        x, y, yaw = _planar(odom_from_base)
        return self._builder.observe(
            (float(goal[0]), float(goal[1])), self._odometry.velocity, (x, y, yaw))

    def _then(self, odom: str, base: str, stamp_ns: int) -> Array:
        """Return where the robot was when it took a scan."""
        try:
            return self._poses.lookup(odom, base, stamp_ns)
        except TransformError:  # a scan from before the first odometry
            raise ValueError('the odometry is younger than the newest scan') from None

    def _target(self, odom: str, odom_from_base: Array, now_ns: int) -> tuple[Array, Array]:
        """Return where to aim and where the way ends: (4,) in odom each."""
        assert self._route is not None
        route = self._route
        odom_from_frame, stamp_ns = self._transforms.lookup_newest(odom, route.frame_id)
        if stamp_ns is not None and now_ns < stamp_ns <= now_ns + _LONGEST_AHEAD_NS:
            stamp_ns = now_ns
        late = self._why_late(
            f"transform from '{route.frame_id}' to '{odom}'", stamp_ns, now_ns) \
            if stamp_ns is not None else ''
        if late:
            raise ValueError(late)
        points = np.column_stack([route.points_m, np.ones(len(route.points_m))]) \
            @ odom_from_frame.T
        if route.is_plan:
            self._passed = passed_on(points[:, :2], odom_from_base[:2, 3], self._passed)
            aim = ahead_on(points[:, :2], odom_from_base[:2, 3], self._passed,
                           self._params.plan_lookahead_m)
            return points[aim], points[-1]
        return points[0], points[0]

    def _continues(self, route: Route) -> bool:
        """Return whether a plan only replaces one to the same end, as planners do all the time."""
        last = self._route
        return (last is not None and last.is_plan and route.is_plan
                and last.frame_id == route.frame_id
                and math.dist(last.points_m[-1], route.points_m[-1])
                <= self._params.goal_tolerance_m)


def warm_up(policy: NavigationPolicy, params: GoalDriverParams) -> None:
    """Compile what decides, so that the first decision is not late."""
    transforms = TransformBuffer()
    driver = GoalDriver(policy, params, transforms)
    driver.take_odometry(OdometryReading(StampedTransform(
        'odom', 'base', 0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)), VelocityCommand()))
    driver.take_scan(LaserRanges(
        np.full(8, params.reach_m / 2.0, np.float32), -math.pi, math.pi / 4.0, 0.0,
        params.reach_m, 0, 'base'))
    driver.send(Route(np.array([[2.0 * params.goal_tolerance_m, 0.0, 0.0]]), 'odom'))
    driver.step(0)


def passed_on(points_m: Array, at_m: Array, passed: int) -> int:
    """
    Return how far a robot has come on a plan.

    The nearest point of the stretch that begins where it was before counts, so that a plan may
    cross itself.

    :param points_m: (N, 2).
    :param at_m: (2,) where the robot is.
    :param passed: What this function returned the last time, 0 at first.
    """
    rest = points_m[passed:]
    way_m = np.cumsum(np.hypot(*np.diff(rest, axis=0, prepend=rest[:1]).T))
    stretch = rest[way_m <= _LONGEST_SKIP_M]
    return passed + int(np.argmin(np.hypot(*(stretch - at_m).T)))


def ahead_on(points_m: Array, at_m: Array, passed: int, lookahead_m: float) -> int:
    """Return the first point behind ``passed`` that is ``lookahead_m`` away, or the last one."""
    far = np.hypot(*(points_m[passed:] - at_m).T) >= lookahead_m
    return passed + int(np.argmax(far)) if far.any() else len(points_m) - 1


def _planar(odom_from_base: Array) -> tuple[float, float, float]:
    return (float(odom_from_base[0, 3]), float(odom_from_base[1, 3]),
            math.atan2(odom_from_base[1, 0], odom_from_base[0, 0]))
