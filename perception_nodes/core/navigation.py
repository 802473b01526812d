"""
Goal-driven driving by ranges: what a policy sees, and the states around it.

The node, the training environment and the benchmark build observations here, so that a policy
sees the same numbers everywhere.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import read_only
from perception_nodes.core.navigation_kernels import see
from perception_nodes.core.params import param
from perception_nodes.core.protocols import NavigationPolicy
from perception_nodes.core.safety import (
    RobotFootprint,
    SafetyLayer,
    SafetyParams,
    VelocityLimits,
)
from perception_nodes.core.types import LaserRanges, VelocityCommand

_FARTHEST_GOAL_M = 20.0
_UNSEEN = -1.0  # in place of a range, where no beam looks
_LARGEST_LEAN = math.cos(math.radians(20.0))  # of a laser whose plane is taken for base_link's
_FREE_AFTER_S = 2.0  # moving on so long after an attempt, the robot has got free
STATE_SIZE = 14  # numbers behind the ranges in an observation's vector


class NavigationState(Enum):
    """What the robot is doing about its goal."""

    IDLE = 'idle'  # no goal yet
    MOVING = 'moving'
    REACHED = 'reached'
    BLOCKED = 'blocked'
    STALE = 'stale'  # an input does not come; the goal is kept
    NO_TRANSFORM = 'no_transform'  # a frame is not known; the goal is kept
    CANCELLED = 'cancelled'


@dataclass(frozen=True, kw_only=True)
class NavigationParams(SafetyParams):
    """Parameters of driving to a goal, in the node, the environment and the benchmark."""

    sectors: int = param(
        120, 'Sectors around base_link of which a policy sees the nearest range.', ge=8, le=720)
    stacked_scans: int = param(
        1, 'Scans that a policy sees at once, the newest and those before it.', ge=1, le=8)
    reach_m: float = param(
        5.0, 'Farthest range that a policy sees.', unit='m', ge=0.5, le=50.0)
    decision_ms: float = param(
        100.0, 'Time between two decisions of the policy, as in its training; commands in between '
        'repeat the last one, guarded anew.', unit='ms', ge=10.0, le=1000.0)
    goal_tolerance_m: float = param(
        0.3, 'Distance of base_link from the goal at which it is reached.', unit='m', ge=0.01,
        le=10.0)
    stuck_after_s: float = param(
        4.0, 'Time without progress after which the robot tries to free itself.', unit='s',
        ge=0.5, le=120.0)
    stuck_radius_m: float = param(
        0.15, 'Staying within this radius is no progress.', unit='m', ge=0.01, le=5.0)
    recovery_s: float = param(
        2.0, 'Longest time for one attempt to get free.', unit='s', ge=0.1, le=30.0)
    recoveries: int = param(
        6, 'Attempts in a row after which the robot is blocked; 0 never tries.', ge=0, le=100)


@dataclass(frozen=True, eq=False)
class NavigationObservation:
    """
    What a policy may look at, in base_link.

    A map-less policy reads the ranges, the goal, the velocity, the footprint and the limits:
    what :meth:`vector` holds. Only policies with a memory of their own read the pose.
    """

    # (K, S) float32, newest first: nearest distance per sector around base_link, ``reach_m``
    # where free, NaN where no beam looks; sector 0 begins straight behind, counter-clockwise
    ranges_m: npt.NDArray[np.float32]
    reach_m: float
    goal_distance_m: float
    goal_bearing_rad: float
    velocity: VelocityCommand  # measured
    footprint: RobotFootprint
    limits: VelocityLimits
    points_m: npt.NDArray[np.float64]  # (N, 2) obstacles of the newest scan
    odom_from_base: tuple[float, float, float]  # x, y, yaw

    @property
    def goal_xy_m(self) -> tuple[float, float]:
        """Return the goal in base_link."""
        return (self.goal_distance_m * math.cos(self.goal_bearing_rad),
                self.goal_distance_m * math.sin(self.goal_bearing_rad))

    @property
    def sees_behind(self) -> bool:
        """Return whether the newest scan covers what is behind the robot."""
        return bool(covers_behind(self.ranges_m[0]))

    @property
    def sees_ahead(self) -> bool:
        """Return whether the newest scan covers what is ahead of the robot."""
        return bool(covers_behind(np.roll(self.ranges_m[0], self.ranges_m.shape[1] // 2)))

    def vector(self) -> npt.NDArray[np.float32]:
        """Return what a network takes; :func:`observation_vectors` says in which order."""
        return observation_vectors(
            self.ranges_m[None], self.reach_m,
            np.array([[self.goal_distance_m, self.goal_bearing_rad]]),
            np.array([[self.velocity.linear_mps, self.velocity.angular_rps]]),
            np.array([self.footprint.numbers]), np.array([self.limits.numbers]))[0]


def covers_behind(sectors_m: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return whether most of the eighth turn behind was seen, of (..., S) sectors."""
    edge = max(1, sectors_m.shape[-1] // 16)
    behind = np.concatenate([sectors_m[..., :edge], sectors_m[..., -edge:]], axis=-1)
    return np.asarray(np.isfinite(behind).mean(axis=-1) > 0.5)


def observation_size(params: NavigationParams) -> int:
    """Return the length of an observation's vector."""
    return params.stacked_scans * params.sectors + STATE_SIZE


def observation_vectors(
    ranges_m: npt.NDArray[np.float32], reach_m: float, goals: npt.NDArray[np.float64],
    velocities: npt.NDArray[np.float64], bodies: npt.NDArray[np.float64],
    limits: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """
    Return N observations as rows of numbers.

    A row holds K * S ranges (newest scan first, divided by the reach, -1 where nothing looks),
    distance of the goal (metres, at most 20, divided by 10), cosine and sine of its bearing,
    speed ahead and turn, footprint ahead, behind, aside and the radius of its corners, and the
    limits ahead, back, turn, acceleration and angular acceleration, in metres, seconds and
    radians.

    :param ranges_m: (N, K, S).
    :param goals: (N, 2) distance and bearing.
    :param velocities: (N, 2) speed ahead and turn.
    :param bodies: (N, 4).
    :param limits: (N, 5).
    :return: (N, K * S + 14) float32.
    """
    n = len(ranges_m)
    seen = ranges_m.reshape(n, -1)
    out = np.empty((n, seen.shape[1] + STATE_SIZE), np.float32)
    out[:, :-STATE_SIZE] = np.where(np.isnan(seen), _UNSEEN, seen / reach_m)
    out[:, -STATE_SIZE] = np.minimum(goals[:, 0], _FARTHEST_GOAL_M) / 10.0
    out[:, -13] = np.cos(goals[:, 1])
    out[:, -12] = np.sin(goals[:, 1])
    out[:, -11:-9] = velocities
    out[:, -9:-5] = bodies
    out[:, -5:] = limits
    return out


def planar_mount(
    base_from_laser: npt.NDArray[np.float64],
) -> tuple[float, float, float, float]:
    """
    Return where a laser sits on base_link: x, y, yaw, and -1 where it hangs upside down, else 1.

    :param base_from_laser: (4, 4).
    :raises ValueError: If the plane of the beams leans by more than 20 degrees.
    """
    turn = base_from_laser[:3, :3]
    up = float(turn[2, 2])
    if not abs(up) >= _LARGEST_LEAN:
        lean = math.degrees(math.acos(min(1.0, abs(up)))) if math.isfinite(up) else math.nan
        raise ValueError(
            f'the laser leans by {lean:.0f} degrees against base_link; at most 20 are allowed: '
            'is its transform right?')
    return (float(base_from_laser[0, 3]), float(base_from_laser[1, 3]),
            math.atan2(turn[1, 0], turn[0, 0]), math.copysign(1.0, up))


class ObservationBuilder:
    """Keeps the last scans of one robot as sectors around base_link."""

    def __init__(self, params: NavigationParams) -> None:
        self._params = params
        self._footprint, self._limits = params.footprint, params.limits
        self._stack: deque[npt.NDArray[np.float32]] = deque(maxlen=params.stacked_scans)
        self._points = np.empty((0, 2))

    def reset(self) -> None:
        """Forget the scans, as after a jump in time."""
        self._stack.clear()

    def add(
        self, scan: LaserRanges, base_from_laser: npt.NDArray[np.float64], *,
        replace: bool = False,
    ) -> None:
        """
        Take the newest scan.

        :param base_from_laser: (4, 4); a laser may be turned, offset or upside down.
        :param replace: Put it in the place of the last one, because the policy has not yet been
            asked since.
        :raises ValueError: If the scan has no beam, its angles or limits are no numbers, or the
            laser leans.
        """
        numbers = (scan.angle_min_rad, scan.angle_increment_rad, scan.range_min_m,
                   scan.range_max_m)
        if not all(map(math.isfinite, numbers)) or len(scan.ranges_m) == 0 or (
                abs(scan.angle_increment_rad) * (len(scan.ranges_m) - 1) > 2.0 * math.pi + 0.1):
            raise ValueError(
                f'the scan has {len(scan.ranges_m)} beams from {numbers[0]} rad by {numbers[1]} '
                f'rad and ranges from {numbers[2]} to {numbers[3]} m; all must be finite and '
                'within one turn: is the driver set up?')
        sectors = np.empty(self._params.sectors, np.float32)
        points = np.empty((len(scan.ranges_m), 2))
        n = see(read_only(scan.ranges_m), *numbers, planar_mount(base_from_laser),
                self._params.reach_m, sectors, points)
        self._points = points[:n]
        if not self._stack:
            self._stack.extend([sectors] * self._params.stacked_scans)
        if replace:
            self._stack[0] = sectors
        else:
            self._stack.appendleft(sectors)

    @property
    def is_blind(self) -> bool:
        """Return whether no beam of the newest scan has a reading."""
        return bool(self._stack) and bool(np.isnan(self._stack[0]).all())

    def observe(
        self, goal_xy_m: tuple[float, float], velocity: VelocityCommand,
        odom_from_base: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> NavigationObservation:
        """
        Return what the policy sees.

        :param goal_xy_m: In base_link.
        :raises ValueError: If there was no scan yet.
        """
        if not self._stack:
            raise ValueError('there was no scan yet')
        return NavigationObservation(
            np.stack(self._stack), self._params.reach_m, math.hypot(*goal_xy_m),
            math.atan2(goal_xy_m[1], goal_xy_m[0]), velocity, self._footprint, self._limits,
            self._points, odom_from_base)


@dataclass(frozen=True)
class NavigationStep:
    """One decision."""

    command: VelocityCommand
    state: NavigationState
    reason: str = ''


class Navigator:
    """
    Drives one robot to one goal after another: policy, safety layer, recovery, states.

    :param policy: Decides where to go.
    :param params: Of the robot.
    :param guarded: Whether the safety layer acts; without it only measurements are made.
    """

    def __init__(
        self, policy: NavigationPolicy, params: NavigationParams, *, guarded: bool = True
    ) -> None:
        self._policy, self._params = policy, params
        self._safety = SafetyLayer(params) if guarded else None
        self.start()

    def start(self) -> None:
        """Begin with a new goal."""
        self._memory: Any = None
        self._wanted, self._decided_s = VelocityCommand(), -math.inf
        self._state = NavigationState.MOVING
        self._why_blocked = ''
        self._recovery = Recovery(self._params)

    def is_due(self, time_s: float) -> bool:
        """Return whether the policy decides anew in the step of this time."""
        p = self._params  # steps may be late, but not by half a period
        return time_s - self._decided_s >= (p.decision_ms - 0.5 * p.period_ms) / 1e3

    def stale(self, reason: str) -> NavigationStep:
        """Stop, because an input does not come; the goal is kept."""
        if self._safety is not None:
            self._safety.stop(reason)
        return NavigationStep(VelocityCommand(), NavigationState.STALE, reason)

    def step(
        self, observation: NavigationObservation, time_s: float, *, age_ms: float = 0.0
    ) -> NavigationStep:
        """
        Decide what to drive now.

        :param time_s: Increasing, of the scan.
        :param age_ms: Age of the oldest input.
        """
        if self._state is NavigationState.MOVING:
            if observation.goal_distance_m <= self._params.goal_tolerance_m:
                self._state = NavigationState.REACHED
            elif self._recovery.is_exhausted:
                self._state = NavigationState.BLOCKED
                self._why_blocked = _why_blocked(observation)
        if self._state is not NavigationState.MOVING:
            if self._safety is not None:
                self._safety.stop(self._why_blocked)
            return NavigationStep(VelocityCommand(), self._state, self._why_blocked)
        if not age_ms <= self._params.stale_after_ms:
            return self.stale(f'inputs are {age_ms:.0f} ms old, more than '
                              f'{self._params.stale_after_ms:.0f} ms')
        if self.is_due(time_s):
            self._wanted, self._memory = self._policy.act(observation, self._memory)
            self._decided_s = time_s
        wanted = self._recovery.command(observation, time_s) or self._wanted
        if self._safety is None:
            return NavigationStep(wanted, NavigationState.MOVING)
        guarded = self._safety.guard(
            wanted, observation.points_m, observation.velocity,
            sees_behind=observation.sees_behind, sees_ahead=observation.sees_ahead,
            odom_from_base=observation.odom_from_base, time_s=time_s)
        return NavigationStep(guarded.command, NavigationState.MOVING, guarded.reason)


def _why_blocked(observation: NavigationObservation) -> str:
    """Return what is in the way of a robot that does not get on."""
    off = observation.points_m - observation.goal_xy_m
    if (np.hypot(*off.T) < observation.footprint.half_width_m).any():
        return 'no way out was found: the goal lies in an obstacle, or at one'
    return 'no way out was found'


class Recovery:
    """
    Notices that a robot is stuck, and frees it by bounded moves.

    Attempts take turns: back off, turn towards the most open side, turn the other way. They pass
    through the safety layer like any other command.
    """

    def __init__(self, params: NavigationParams) -> None:
        self._params = params
        self._anchor: tuple[float, float, float] | None = None  # time, x, y
        self._until_s = -math.inf
        self._tries = 0
        self._move = VelocityCommand()

    @property
    def is_exhausted(self) -> bool:
        """Return whether all attempts in one place were in vain."""
        return self._tries > self._params.recoveries

    def command(
        self, observation: NavigationObservation, time_s: float
    ) -> VelocityCommand | None:
        """Return what frees the robot, or None while it is not stuck."""
        x, y, _ = observation.odom_from_base
        if time_s < self._until_s:
            return self._move
        if self._anchor is None:
            self._anchor = (time_s, x, y)
        since_s, at_x, at_y = self._anchor
        if math.hypot(x - at_x, y - at_y) > self._params.stuck_radius_m:
            self._anchor = (time_s, x, y)
            if time_s > self._until_s + _FREE_AFTER_S:
                self._tries = 0
            return None
        if time_s - since_s < self._params.stuck_after_s:
            return None
        self._tries += 1
        self._move = self._next_move(observation)
        self._until_s = time_s + self._params.recovery_s
        self._anchor = (self._until_s, x, y)
        return self._move

    def _next_move(self, observation: NavigationObservation) -> VelocityCommand:
        if self._tries % 3 == 1 and observation.sees_behind:
            return VelocityCommand(-0.5 * self._params.max_reverse_mps, 0.0)
        sectors = observation.ranges_m[0]
        half = len(sectors) // 2
        left, right = np.nansum(sectors[half:]), np.nansum(sectors[:half])
        side = 1.0 if (left >= right) == (self._tries % 3 != 0) else -1.0
        return VelocityCommand(0.0, 0.4 * side * self._params.max_angular_rps)
