"""N robots in worlds of :mod:`perception_nodes.sim.navigation_worlds`, stepped together."""

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.core.navigation import (
    covers_behind,
    NavigationParams,
    observation_vectors,
)
from perception_nodes.core.navigation_kernels import MEMORY
from perception_nodes.core.params import param, Params
from perception_nodes.core.rolling_map import distances_to
from perception_nodes.core.types import LaserRanges
from perception_nodes.sim import navigation_kernels as kernels
from perception_nodes.sim.navigation_worlds import NavigationWorld

_FIELD_REACH_M = 0.6  # clearance is not looked for farther away
_PREFER_CLEARANCE_M = 0.5  # beside this, ways through narrow places count as longer
_NARROW_WEIGHT = 1.5
_WAY_CELLS = 8  # from a robot to the place on its way that a critic is told of


@dataclass(frozen=True, kw_only=True)
class SensorParams(Params):
    """The range finder and everything that is imperfect; bounds at level 1."""

    sensor: str = param(
        'lidar', "What measures: 'lidar', or 'depth' for a depth camera's virtual scan (87 "
        'degrees, 0.3 to 5 m).', choices=('lidar', 'depth'))
    beams: int = param(60, 'Beams of one sweep.', ge=4, le=4096)
    field_of_view_deg: float = param(
        360.0, 'Angle that the lidar sweeps, its middle ahead.', unit='degrees', ge=10.0,
        le=360.0)
    range_min_m: float = param(0.05, 'Nearest range of the lidar.', unit='m', ge=0.0, le=1.0)
    range_max_m: float = param(10.0, 'Farthest range of the lidar.', unit='m', ge=0.5, le=100.0)
    laser_x_m: float = param(0.0, 'Where the sensor sits ahead of base_link.', unit='m',
                             ge=-2.0, le=2.0)
    laser_y_m: float = param(0.0, 'Where it sits to the left.', unit='m', ge=-2.0, le=2.0)
    laser_yaw_deg: float = param(0.0, 'How it is turned.', unit='degrees', ge=-180.0, le=180.0)
    level: float = param(
        1.0, 'How imperfect everything is: 0 not at all, 1 as a good robot, 2 twice that.',
        ge=0.0, le=4.0)
    range_noise_m: float = param(
        0.02, 'Largest standard deviation of a range.', unit='m', ge=0.0, le=0.2)
    lost_beams: float = param(0.02, 'Largest share of beams without a reading.', ge=0.0, le=0.25)
    latency_ms: float = param(
        100.0, 'Longest time until a command takes effect; at most two periods act.', unit='ms',
        ge=0.0, le=200.0)
    lag_ms: float = param(
        150.0, 'Longest time constant with which the base follows.', unit='ms', ge=0.0, le=500.0)
    odometry_scale: float = param(
        0.02, 'Standard deviation of the share by which distances are wrong.', ge=0.0, le=0.2)
    odometry_turn_rpm: float = param(
        0.006, 'Standard deviation of the turn that odometry adds.', unit='rad/m', ge=0.0,
        le=0.1)
    footprint_share: float = param(
        0.0, 'Largest share by which each side of the footprint is drawn larger or smaller.',
        ge=0.0, le=0.5)
    round_share: float = param(
        0.0, 'Share of the robots that are discs, as wide as the footprint.', ge=0.0, le=1.0)
    limits_share: float = param(
        0.0, 'Largest share by which each limit of speed and acceleration is drawn larger or '
        'smaller.', ge=0.0, le=0.9)


def pack(worlds: Sequence[NavigationWorld]) -> kernels.PackedWorlds:
    """Return worlds as arrays, with their buckets and their distances to the goal."""
    shapes, starts, items, grids, fields, field_grids = [], [np.zeros(1, int)], [], [], [], []
    buckets = cells = shape_count = item_count = 0
    most = max((len(world.people) for world in worlds), default=0)
    people = np.zeros((len(worlds), most, 6))
    for row, world in enumerate(worlds):
        of_world = _shapes(world)
        counts, found, columns, rows = _buckets(of_world, world.corners_m)
        grids.append((*world.corners_m[:2], columns, rows, buckets))
        starts.append(item_count + np.cumsum(counts))
        items.append(found + shape_count)
        shapes.append(of_world)
        field = goal_distances(world, of_world)
        field_grids.append((*world.corners_m[:2], field.shape[1], field.shape[0], cells))
        fields.append(field.ravel())
        buckets += columns * rows
        cells += field.size
        shape_count += len(of_world)
        item_count += len(found)
        for i, p in enumerate(world.people):
            people[row, i] = (*p.from_xy_m, *p.to_xy_m, p.speed_mps, p.radius_m)
    goals = np.array([(*world.goal_xy_m, world.tolerance_m) for world in worlds])
    return kernels.PackedWorlds(
        np.concatenate(shapes), np.concatenate(starts).astype(np.int32),
        np.concatenate(items).astype(np.int32), np.array(grids, np.float64),
        np.concatenate(fields), np.array(field_grids, np.float64), goals, people)


def _shapes(world: NavigationWorld) -> npt.NDArray[np.float64]:
    posts = np.column_stack([world.posts[:, :2], world.posts[:, :2], world.posts[:, 2]])
    return np.concatenate([posts, np.column_stack([world.walls, np.zeros(len(world.walls))])])


def _buckets(
    shapes: npt.NDArray[np.float64], corners_m: tuple[float, float, float, float]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int, int]:
    """Return how many shapes each bucket holds, which, and how many columns and rows there are."""
    low = np.array(corners_m[:2])
    columns, rows = (
        np.ceil((np.array(corners_m[2:]) - low) / kernels.BUCKET_M).astype(int) + 1).tolist()
    pairs = []
    for number, shape in enumerate(shapes):
        ends = shape[:4].reshape(2, 2)
        first = np.floor((ends.min(axis=0) - shape[4] - low) / kernels.BUCKET_M).astype(int)
        last = np.floor((ends.max(axis=0) + shape[4] - low) / kernels.BUCKET_M).astype(int)
        xs, ys = np.meshgrid(np.arange(first[0], last[0] + 1), np.arange(first[1], last[1] + 1))
        if shape[4] == 0.0:  # a wall aslant leaves out most of its bounding box
            middles = low + (np.stack([xs, ys], axis=-1) + 0.5) * kernels.BUCKET_M
            keep = distances_m(middles, shape) <= kernels.BUCKET_M * math.sqrt(0.5) + 1e-9
            xs, ys = xs[keep], ys[keep]
        cells = (ys * columns + xs).ravel()
        pairs.append(np.stack([cells, np.full(len(cells), number)], axis=1))
    table = np.concatenate(pairs) if pairs else np.empty((0, 2), int)
    table = table[np.argsort(table[:, 0], kind='stable')]
    return (np.bincount(table[:, 0], minlength=columns * rows), table[:, 1], columns, rows)


def distances_m(
    points: npt.NDArray[np.float64], shape: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the (...,) distances of (..., 2) points from a shape, negative inside a post."""
    along = shape[2:4] - shape[:2]
    to = points - shape[:2]
    share = np.clip((to @ along) / max(float(along @ along), 1e-12), 0.0, 1.0)
    return np.asarray(np.linalg.norm(to - share[..., None] * along, axis=-1) - shape[4])


def clearances(
    world: NavigationWorld, shapes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Return the (H, W) distance of each cell's middle to the nearest shape, at most 0.6 m."""
    low = np.array(world.corners_m[:2])
    step = kernels.FIELD_M
    columns, rows = np.ceil((np.array(world.corners_m[2:]) - low) / step).astype(int).tolist()
    out = np.full((rows, columns), _FIELD_REACH_M, np.float32)
    for shape in shapes:
        ends = shape[:4].reshape(2, 2)
        reach = _FIELD_REACH_M + shape[4]
        x0, y0 = np.maximum(0, np.floor((ends.min(axis=0) - reach - low) / step)).astype(int)
        x1, y1 = (np.ceil((ends.max(axis=0) + reach - low) / step)).astype(int)
        part = out[y0:y1, x0:x1]
        xs, ys = np.meshgrid(np.arange(x0, x0 + part.shape[1]), np.arange(y0, y0 + part.shape[0]))
        middles = low + (np.stack([xs, ys], axis=-1) + 0.5) * step
        np.minimum(part, distances_m(middles, shape), out=part)
    return out


def goal_distances(
    world: NavigationWorld, shapes: npt.NDArray[np.float64], blocked_m: float = 0.25
) -> npt.NDArray[np.float32]:
    """Return the (H, W) way from each cell to the goal, metres; narrow places count as longer."""
    room = clearances(world, shapes)
    low = np.array(world.corners_m[:2])
    column, row = np.floor((np.array(world.goal_xy_m) - low) / kernels.FIELD_M).astype(int)
    return np.asarray(distances_to(
        room, blocked_m, _PREFER_CLEARANCE_M, _NARROW_WEIGHT, int(row), int(column),
        kernels.FIELD_M))


class RobotBatch:
    """
    N robots, each in one of W worlds; what happens to one does not depend on the others.

    :param worlds: To drive in.
    :param robot: Footprint, limits and what is observed.
    :param sensor: The range finder, and what is imperfect.
    :param count: N.
    :param longest_s: Time after which an episode ends.
    """

    def __init__(self, worlds: Sequence[NavigationWorld], robot: NavigationParams,
                 sensor: SensorParams, count: int, longest_s: float) -> None:
        self.worlds, self.robot, self.sensor = tuple(worlds), robot, sensor
        self.packed = pack(worlds)
        self.longest_s = longest_s
        self._sweep = _sweep(sensor)
        self._mount = (sensor.laser_x_m, sensor.laser_y_m, math.radians(sensor.laser_yaw_deg), 1.0)
        n, people = count, self.packed.people.shape[1]
        self.robots = kernels.Robots(
            np.zeros(n, np.int64), np.zeros((n, 3)), np.zeros((n, 3)), np.zeros((n, 2)),
            np.zeros((n, 3, 2)), np.zeros((n, people, 2)), np.zeros(n), np.zeros((n, 4)),
            np.zeros((n, 5)), np.zeros((n, 2)), np.zeros((n, 2)), np.zeros((n, 2)),
            np.zeros(n, np.uint64))
        self.ranges_m = np.full((n, sensor.beams), np.nan, np.float32)
        self.sectors_m = np.full((n, robot.stacked_scans, robot.sectors), np.nan, np.float32)
        self._newest = np.empty((n, robot.sectors), np.float32)
        self.outcomes = np.zeros(n, np.int64)
        # the safety layer's; rows count once they are written
        self._memory = np.empty((n, MEMORY, 3))
        self._remembered = np.zeros(n, np.int64)

    def place(
        self, row: int, world: int, rng: np.random.Generator,
        start: tuple[float, float, float] | None = None,
    ) -> None:
        """
        Begin an episode of one robot.

        :param rng: Draws everything that differs between episodes.
        :param start: x, y, yaw; None takes the world's, a hand's breadth off.
        """
        r, s = self.robots, self.sensor
        if start is None:
            start = tuple(np.array(self.worlds[world].start)  # type: ignore[assignment]
                          + s.level * rng.uniform(-1.0, 1.0, 3) * (0.05, 0.05, 0.1))
        r.world[row] = world
        r.pose[row] = r.odometry[row] = start
        r.twist[row] = 0.0
        r.sent[row] = 0.0
        r.time_s[row] = 0.0
        share = rng.uniform(-1.0, 1.0, 3) * s.footprint_share
        sides_m = np.array(self.robot.footprint.numbers[:3]) * (1.0 + share)
        r.body[row] = *sides_m, min(self.robot.footprint_corner_m, sides_m.min())
        if s.round_share and rng.random() < s.round_share:
            r.body[row] = sides_m[2]
        r.limits[row] = self.robot.limits.numbers
        if s.limits_share:
            r.limits[row] *= 1.0 + rng.uniform(-1.0, 1.0, 5) * s.limits_share
        r.delays_s[row] = s.level * rng.uniform(0.5, 1.0, 2) * (
            s.latency_ms / 1e3, s.lag_ms / 1e3)
        r.drift[row] = s.level * rng.normal(size=2) * (s.odometry_scale, s.odometry_turn_rpm)
        r.noise[row] = s.level * rng.uniform(0.2, 1.0, 2) * (s.range_noise_m, s.lost_beams)
        r.random[row] = rng.integers(0, 2 ** 63, dtype=np.uint64)
        r.walked[row] = (0.0, 1.0)
        self._remembered[row] = 0
        self.outcomes[row] = kernels.RUNNING
        self.sense(np.array([row]), first=True)

    def arrays(self) -> list[npt.NDArray[Any]]:
        """Return all that changes as episodes go on; writing into the arrays sets the state."""
        return [*self.robots, self.ranges_m, self.sectors_m, self.outcomes, self._memory,
                self._remembered]

    def advance(
        self, live: npt.NDArray[np.int64], commands: npt.NDArray[np.float64]
    ) -> None:
        """
        Drive one period and look again.

        :param live: Rows of the robots that move.
        :param commands: (N, 2) speed ahead and turn.
        """
        kernels.advance(self.packed, self.robots, live, commands,
                        self.robot.period_ms / 1e3, self.longest_s, self.outcomes)
        self.sense(live)

    def guard(
        self, live: npt.NDArray[np.int64], commands: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Return the (N, 2) commands that the safety layer makes of those of some robots."""
        p, out = self.robot, commands.copy()
        kernels.guard(
            self.robots, live, out, self._sweep, self._mount, p.reach_m, self.ranges_m,
            covers_behind(self.sectors_m[:, 0]),
            (p.latency_ms / 1e3, p.lag_ms / 1e3, p.period_ms / 1e3), p.margin_m,
            self._memory, self._remembered, p.memory_ms / 1e3)
        return out

    def sense(self, live: npt.NDArray[np.int64], *, first: bool = False) -> None:
        """Let some robots look; the first look fills the whole stack."""
        kernels.sense(self.packed, self.robots, live, self._sweep, self._mount,
                      self.robot.reach_m, self.ranges_m, self._newest)
        if first:
            self.sectors_m[live] = self._newest[live][:, None]
            return
        self.sectors_m[live, 1:] = self.sectors_m[live, :-1]
        self.sectors_m[live, 0] = self._newest[live]

    def scan(self, row: int) -> LaserRanges:
        """Return the last sweep of one robot."""
        first, step, near, far = self._sweep
        return LaserRanges(self.ranges_m[row].copy(), first, step, near, far,
                           round(self.robots.time_s[row] * 1e9), 'laser')

    @property
    def base_from_laser(self) -> npt.NDArray[np.float64]:
        """Return the (4, 4) mount of the sensor."""
        x, y, yaw, _ = self._mount
        c, s = math.cos(yaw), math.sin(yaw)
        return np.array([[c, -s, 0.0, x], [s, c, 0.0, y], [0.0, 0.0, 1.0, 0.2],
                         [0.0, 0.0, 0.0, 1.0]])

    @property
    def goals(self) -> npt.NDArray[np.float64]:
        """Return (N, 2) distance and bearing of the goals, as odometry has them."""
        r = self.robots
        # the goal is given in odom, as it was known at the start
        to = self.packed.goals[r.world, :2] - r.odometry[:, :2]
        return np.stack([np.hypot(to[:, 0], to[:, 1]),
                         np.arctan2(to[:, 1], to[:, 0]) - r.odometry[:, 2]], axis=1)

    def observations(self) -> npt.NDArray[np.float32]:
        """Return the (N, D) observations, as :func:`observation_vectors` orders them."""
        r = self.robots
        return observation_vectors(
            self.sectors_m, self.robot.reach_m, self.goals, r.twist, r.body, r.limits)

    def remaining_m(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """
        Return the (R,) ways left to the goals around what is in between.

        Narrow places count as longer. It is for rewards and critics; no robot can know it.
        """
        out = np.empty(len(self.outcomes))
        kernels.remaining(self.packed, self.robots, rows, out)
        return out[rows]

    def ways(self) -> npt.NDArray[np.float64]:
        """Return the (N, 2) cosines and sines of where the ways to the goals lead, as above."""
        out = np.empty((len(self.outcomes), 2))
        kernels.ways(self.packed, self.robots, np.arange(len(out)), _WAY_CELLS, out)
        return out

    def room_m(self) -> npt.NDArray[np.float64]:
        """Return the (N,) distances of the nearest seen obstacle from the footprint's edge."""
        angles = (np.arange(self.robot.sectors) + 0.5) / self.robot.sectors * 2.0 * np.pi - np.pi
        newest = np.where(np.isnan(self.sectors_m[:, 0]), np.inf, self.sectors_m[:, 0])
        x, y = newest * np.cos(angles), newest * np.sin(angles)
        front, rear, half_width, corner = self.robots.body.T[:, :, None]
        ahead = np.maximum(x - front, -rear - x) + corner
        aside = np.abs(y) - half_width + corner
        outside = np.where((ahead > 0.0) & (aside > 0.0), np.hypot(ahead, aside),
                           np.maximum(ahead, aside)) - corner
        return np.asarray(np.nanmin(outside, axis=1))


def _sweep(sensor: SensorParams) -> tuple[float, float, float, float]:
    """Return the first angle, the step, the nearest and the farthest range."""
    if sensor.sensor == 'depth':
        fov, near, far = math.radians(87.0), 0.3, 5.0
    else:
        fov = math.radians(sensor.field_of_view_deg)
        near, far = sensor.range_min_m, sensor.range_max_m
    if fov > 2.0 * math.pi - 1e-9:  # the last beam must not fall on the first
        step = 2.0 * math.pi / sensor.beams
        return -math.pi + step / 2.0, step, near, far
    return -fov / 2.0, fov / max(1, sensor.beams - 1), near, far
