"""
The layer between a navigation policy and the wheels: it does not trust the policy.

Whatever the policy wants, the command that leaves this layer keeps the limits of the robot, stops
when inputs are stale, and lets the robot come to rest before it touches what the scan shows. It
may only slow, turn away or stop.
"""

from dataclasses import dataclass
import math

import numpy as np
import numpy.typing as npt
from perception_nodes.core import navigation_kernels as kernels
from perception_nodes.core.params import param, Params
from perception_nodes.core.types import VelocityCommand

_REASONS = {kernels.KEPT: '', kernels.LIMITED: 'limits of the robot',
            kernels.SLOWED: 'slower: an obstacle is near',
            kernels.TURNED: 'turning away from an obstacle',
            kernels.STOPPED: 'stopped: an obstacle is in the way'}

_CORNER_POINTS = 8  # of a drawn footprint
_UNSEEN = 'not ahead: the scan does not show what is there'


@dataclass(frozen=True)
class RobotFootprint:
    """
    The rectangle of a robot, around base_link, whose corners may be round.

    :raises ValueError: If a side is not positive, or the corners are rounder than it allows.
    """

    front_m: float  # from base_link ahead
    rear_m: float  # from base_link back
    half_width_m: float
    corner_m: float = 0.0  # radius; as large as all sides, the robot is a disc

    def __post_init__(self) -> None:
        if not min(self.front_m, self.rear_m, self.half_width_m) > 0.0:
            raise ValueError(
                f'the footprint reaches {self.front_m} m ahead, {self.rear_m} m back and '
                f'{self.half_width_m} m aside; all must be positive')
        roundest_m = min(self.front_m, self.rear_m, self.half_width_m)
        if not 0.0 <= self.corner_m <= roundest_m:
            raise ValueError(
                f'the corners of the footprint have a radius of {self.corner_m} m; it must be '
                f'between 0 and {roundest_m} m, the least that the footprint reaches')

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """Return what compiled functions take as a body."""
        return self.front_m, self.rear_m, self.half_width_m, self.corner_m

    def outline_m(self) -> list[tuple[float, float]]:
        """Return the corners of a closed line around the footprint, to draw it."""
        r = self.corner_m
        front, rear, side = self.front_m - r, r - self.rear_m, self.half_width_m - r
        line = []
        for quarter, (x, y) in enumerate(
                ((front, side), (rear, side), (rear, -side), (front, -side))):
            for share in np.linspace(0.0, 1.0, _CORNER_POINTS if r > 0.0 else 1).tolist():
                angle = math.pi / 2.0 * (quarter + share)
                line.append((x + r * math.cos(angle), y + r * math.sin(angle)))
        return [*line, line[0]]


@dataclass(frozen=True)
class VelocityLimits:
    """What a robot may be asked for."""

    ahead_mps: float
    back_mps: float  # a speed, so not negative
    turn_rps: float
    acceleration_mps2: float
    angular_acceleration_rps2: float

    @property
    def numbers(self) -> tuple[float, float, float, float, float]:
        """Return what compiled functions take as limits."""
        return (self.ahead_mps, self.back_mps, self.turn_rps, self.acceleration_mps2,
                self.angular_acceleration_rps2)


@dataclass(frozen=True, kw_only=True)
class SafetyParams(Params):
    """What the safety layer must know of the robot."""

    footprint_front_m: float = param(
        0.254, 'How far the robot reaches ahead of base_link.', unit='m', ge=0.01, le=5.0)
    footprint_rear_m: float = param(
        0.254, 'How far the robot reaches behind base_link.', unit='m', ge=0.01, le=5.0)
    footprint_half_width_m: float = param(
        0.216, 'How far the robot reaches to either side.', unit='m', ge=0.01, le=5.0)
    footprint_corner_m: float = param(
        0.0, 'Radius of its corners; for a round robot, as far as it reaches to all sides.',
        unit='m', ge=0.0, le=5.0)
    max_linear_mps: float = param(1.0, 'Fastest speed ahead.', unit='m/s', ge=0.01, le=5.0)
    max_reverse_mps: float = param(
        0.3, 'Fastest speed back; 0 never backs off.', unit='m/s', ge=0.0, le=5.0)
    max_angular_rps: float = param(2.0, 'Fastest turn.', unit='rad/s', ge=0.01, le=10.0)
    max_linear_mps2: float = param(
        2.0, 'Acceleration asked for, and at which the robot surely brakes.', unit='m/s^2',
        ge=0.05, le=20.0)
    max_angular_rps2: float = param(
        5.0, 'Angular acceleration asked for, and at which turns surely end.', unit='rad/s^2',
        ge=0.05, le=50.0)
    margin_m: float = param(
        0.05, 'Room kept between the footprint and obstacles.', unit='m', ge=0.0, le=1.0)
    latency_ms: float = param(
        100.0, 'Longest time from the exposure of a scan to the command taking effect.',
        unit='ms', ge=0.0, le=2000.0)
    lag_ms: float = param(
        150.0, 'Time constant with which the base follows a command.', unit='ms', ge=0.0,
        le=2000.0)
    period_ms: float = param(
        100.0, 'Time between two commands.', unit='ms', ge=10.0, le=1000.0)
    memory_ms: float = param(
        1000.0, 'For how long obstacles are heeded that newer scans do not show: thin legs fall '
        'between two beams.', unit='ms', ge=0.0, le=10000.0)
    stale_after_ms: float = param(
        500.0, 'Age of scan, odometry or transform from which the robot stops.', unit='ms',
        ge=10.0, le=10000.0)

    @property
    def footprint(self) -> RobotFootprint:
        """Return the robot's rectangle."""
        return RobotFootprint(
            self.footprint_front_m, self.footprint_rear_m, self.footprint_half_width_m,
            self.footprint_corner_m)

    @property
    def limits(self) -> VelocityLimits:
        """Return what the robot may be asked for."""
        return VelocityLimits(self.max_linear_mps, self.max_reverse_mps, self.max_angular_rps,
                              self.max_linear_mps2, self.max_angular_rps2)


@dataclass(frozen=True)
class GuardedCommand:
    """What leaves the safety layer."""

    command: VelocityCommand
    reason: str = ''  # why it is another one than the policy's; empty where it is the same


class SafetyLayer:
    """
    Guards one robot.

    It remembers the last command, so it must see every one of them, and for a while what earlier
    scans have shown.
    """

    def __init__(self, params: SafetyParams) -> None:
        self._params = params
        self._footprint, self._limits = params.footprint.numbers, params.limits.numbers
        self._timing = (params.latency_ms / 1e3, params.lag_ms / 1e3, params.period_ms / 1e3)
        self._sent = VelocityCommand()
        self._memory, self._remembered = np.empty((kernels.MEMORY, 3)), 0

    def guard(
        self, wanted: VelocityCommand, points_m: npt.NDArray[np.float64],
        moving: VelocityCommand, *, age_ms: float = 0.0, sees_behind: bool = True,
        sees_ahead: bool = True, odom_from_base: tuple[float, float, float] = (0.0, 0.0, 0.0),
        time_s: float = 0.0,
    ) -> GuardedCommand:
        """
        Return the command to send instead of the wanted one.

        :param points_m: (N, 2) obstacles of the newest scan, in base_link.
        :param moving: Measured velocity of base_link.
        :param age_ms: Age of the oldest input: scan, odometry, transform.
        :param sees_behind: Whether the scan covers what is behind; without, nothing backs off.
        :param sees_ahead: Whether it covers what is ahead; without, nothing drives ahead.
        :param odom_from_base: x, y and yaw, by which earlier scans are remembered.
        :param time_s: Of the scan.
        """
        if not age_ms <= self._params.stale_after_ms:  # NaN is stale, too
            return self.stop(f'inputs are {age_ms:.0f} ms old, more than '
                             f'{self._params.stale_after_ms:.0f} ms')
        if not moving.is_finite:
            return self.stop('the measured velocity is not finite')
        if not wanted.is_finite:
            return self.stop('the command of the policy is not finite')
        unseen = not sees_ahead and wanted.linear_mps > 0.0
        if unseen:
            wanted = VelocityCommand(0.0, wanted.angular_rps)
        earlier, self._remembered = kernels.remember(
            points_m, len(points_m), odom_from_base, time_s, self._params.memory_ms / 1e3,
            self._memory, self._remembered)
        v, w, why = kernels.guarded(
            points_m, len(points_m), odom_from_base, self._memory, earlier, self._footprint,
            (moving.linear_mps, moving.angular_rps),
            (self._sent.linear_mps, self._sent.angular_rps),
            (wanted.linear_mps, wanted.angular_rps), self._limits, self._timing,
            self._params.margin_m, sees_behind)
        self._sent = VelocityCommand(v, w)
        return GuardedCommand(self._sent, _UNSEEN if unseen else _REASONS[why])

    def stop(self, reason: str) -> GuardedCommand:
        """Return a stop, and remember it."""
        self._sent = VelocityCommand()
        return GuardedCommand(self._sent, reason)
