"""
Worlds to navigate in, seen from above: posts, walls and people, drawn from a seed.

The splits are disjoint by construction: the split is part of what seeds the generator.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

NAVIGATION_SPLITS = ('train', 'validation', 'test')

# BARN (Perille et al., "Benchmarking Metric Ground Navigation", 2020): a lattice of 30 x 30 posts
LATTICE = 30
LATTICE_STEP_M = 0.15
POST_RADIUS_M = 0.075
LATTICE_CORNER_M = (-4.425, 5.175)
BARN_START = (-2.25, 3.0, np.pi / 2.0)
BARN_GOAL_M = (-2.25, 13.0)
BARN_TOLERANCE_M = 1.0
# every pair is drawn equally often, however often its worlds have to be drawn again
FILLS = (0.15, 0.20, 0.25, 0.30)
SMOOTHINGS = (2, 3, 4)
_MOST_DRAWS = 100_000

_LEG_RADIUS_M = (0.012, 0.035)
_SMALL_THING_RADIUS_M = (0.03, 0.15)
_START_CLEAR_M = 0.5
_GOAL_CLEAR_M = (0.36, 0.6)  # drawn: some goals are between the legs of a table
_WIDEST_ROBOT_M = 0.6


@dataclass(frozen=True, eq=False)
class Person:
    """Someone who walks to and fro on a line, and waits where the robot stands in the way."""

    from_xy_m: tuple[float, float]
    to_xy_m: tuple[float, float]
    speed_mps: float
    radius_m: float = 0.25


@dataclass(frozen=True, eq=False)
class NavigationWorld:
    """Obstacles and a task."""

    name: str
    posts: npt.NDArray[np.float64]  # (P, 3) x, y, radius
    walls: npt.NDArray[np.float64]  # (W, 4) x, y of both ends
    start: tuple[float, float, float]  # x, y, yaw
    goal_xy_m: tuple[float, float]
    tolerance_m: float  # from the goal to base_link
    people: tuple[Person, ...] = ()
    reference_m: float | None = None  # length of a known way, where there is one
    corners_m: tuple[float, float, float, float] = field(init=False)  # x, y low, x, y high

    def __post_init__(self) -> None:
        ends = self.walls.reshape(-1, 2)
        points = np.concatenate(
            [self.posts[:, :2], ends, [self.start[:2], self.goal_xy_m],
             *(np.array([p.from_xy_m, p.to_xy_m]) for p in self.people)])
        low, high = points.min(axis=0) - 1.0, points.max(axis=0) + 1.0
        object.__setattr__(self, 'corners_m', (*low.tolist(), *high.tolist()))


def lattice_world(
    occupied: npt.NDArray[np.bool_], name: str, reference_m: float | None = None
) -> NavigationWorld:
    """
    Return a BARN world: a lattice of posts behind a corridor that is closed behind the start.

    :param occupied: (30, 30); rows along x, columns along y.
    """
    rows, columns = np.nonzero(occupied)
    xs = LATTICE_CORNER_M[0] + LATTICE_STEP_M * rows
    ys = LATTICE_CORNER_M[1] + LATTICE_STEP_M * columns
    across = LATTICE_STEP_M * np.arange(LATTICE + 1)
    along = LATTICE_STEP_M * np.arange(1, 34)
    # the first and last rows of the lattice go on down to the corridor's closed end
    xs = np.concatenate([xs, -4.575 + across, np.full(33, -0.075), np.full(33, -4.575)])
    ys = np.concatenate([ys, np.full(LATTICE + 1, 0.075), 0.075 + along, 0.075 + along])
    posts = np.stack([xs, ys, np.full(len(xs), POST_RADIUS_M)], axis=1)
    return NavigationWorld(name, posts, np.empty((0, 4)), BARN_START, BARN_GOAL_M,
                           BARN_TOLERANCE_M, reference_m=reference_m)


def make_navigation_world(kind: str, split: str, seed: int) -> NavigationWorld:
    """
    Draw a world.

    :param kind: One of :data:`KINDS`.
    :param split: One of :data:`NAVIGATION_SPLITS`.
    :param seed: Not negative; twelve seeds in a row have every fill and smoothing once.
    :raises ValueError: If there is no such kind or split.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind of world '{kind}'; there are {', '.join(KINDS)}")
    if split not in NAVIGATION_SPLITS:
        raise ValueError(
            f"there is no split '{split}'; there are {', '.join(NAVIGATION_SPLITS)}")
    rng = np.random.default_rng(
        [NAVIGATION_SPLITS.index(split), list(KINDS).index(kind), seed])
    return KINDS[kind](rng, seed, f'{kind} {split} {seed}')


def _cellular(rng: np.random.Generator, seed: int, name: str) -> NavigationWorld:
    stratum = seed % (len(FILLS) * len(SMOOTHINGS))
    fill, smoothing = FILLS[stratum % len(FILLS)], SMOOTHINGS[stratum // len(FILLS)]
    for _ in range(_MOST_DRAWS):
        occupied = automaton(rng, fill, smoothing)
        if _is_passable(occupied):
            return lattice_world(occupied, name)
    raise RuntimeError(f'{_MOST_DRAWS} draws of fill {fill} and {smoothing} smoothings all block')


def automaton(
    rng: np.random.Generator, fill: float, smoothing: int
) -> npt.NDArray[np.bool_]:
    """
    Return a (30, 30) lattice as BARN makes them.

    Cells with five or more of eight neighbours fill, those with one or none empty. Beside the
    lattice is wall, before and behind it free ground.
    """
    occupied = rng.random((LATTICE, LATTICE)) < fill
    occupied[[0, -1]] = True
    for _ in range(smoothing):
        padded = np.zeros((LATTICE + 2, LATTICE + 2), np.uint8)
        padded[[0, -1]] = 1
        padded[1:-1, 1:-1] = occupied
        around = sum(
            padded[1 + a:LATTICE + 1 + a, 1 + b:LATTICE + 1 + b].astype(np.int64)
            for a in (-1, 0, 1) for b in (-1, 0, 1)) - occupied
        occupied = (around >= 5) | (occupied & (around >= 2))
        occupied[[0, -1]] = True
    return occupied


def _is_passable(occupied: npt.NDArray[np.bool_]) -> bool:
    """Return whether a robot as wide as BARN's gets from the first column to the last."""
    grown = cv2.dilate(occupied.astype(np.uint8), np.ones((5, 5), np.uint8))
    labels = cv2.connectedComponents(1 - grown, connectivity=4)[1]
    first, last = labels[:, 0][grown[:, 0] == 0], labels[:, -1][grown[:, -1] == 0]
    return bool(np.isin(first, last).any())


def _clutter(rng: np.random.Generator, seed: int, name: str) -> NavigationWorld:
    """Return posts and boxes of all sizes, somewhere in a walled yard."""
    def draw() -> NavigationWorld:
        size = rng.uniform(7.0, 12.0, 2)
        start, goal = _ends(rng, size)
        posts = _posts(rng, size, int(rng.integers(8, 40)))
        walls = [_around(size)]
        walls += [_box(rng.uniform(0.0, size), rng.uniform(0.1, 0.6, 2),
                       rng.uniform(0.0, np.pi)) for _ in range(int(rng.integers(2, 9)))]
        return _cleared(rng, name, posts, np.concatenate(walls), start, goal)
    return _drawn_until_passable(draw)


def _room(rng: np.random.Generator, seed: int, name: str, people: int = 0) -> NavigationWorld:
    """Return a flat: walls with doors, tables and chairs on thin legs, cupboards, small things."""
    def draw() -> NavigationWorld:
        size = rng.uniform(4.0, 10.0, 2)
        start, goal = _ends(rng, size)
        walls = [_around(size)] if rng.random() < 0.6 else _house(rng, size)
        posts = [_posts(rng, size, rng.poisson(0.06 * size.prod()), _SMALL_THING_RADIUS_M)]
        if size.max() > 6.0 and rng.random() < 0.7:  # an inner wall across, with a door
            walls.append(_wall_with_door(rng, size))
        for _ in range(max(2, rng.poisson(rng.uniform(0.1, 0.4) * size.prod()))):
            middle, yaw = rng.uniform(0.1 * size, 0.9 * size), rng.uniform(0.0, np.pi)
            if rng.random() < 0.5:
                half = rng.uniform(0.18, 0.8, 2)
                posts.append(_legs(middle, half, yaw, rng.uniform(*_LEG_RADIUS_M)))
            else:
                walls.append(_box(middle, rng.uniform(0.15, 0.6, 2), yaw))
        walkers = tuple(_person(rng, size) for _ in range(people))
        return _cleared(rng, name, np.concatenate(posts), np.concatenate(walls), start, goal,
                        walkers)
    return _drawn_until_passable(draw)


def _people(rng: np.random.Generator, seed: int, name: str) -> NavigationWorld:
    return _room(rng, seed, name, people=int(rng.integers(2, 6)))


# name: what draws one from a generator, its seed and its name
KINDS: dict[str, Callable[[np.random.Generator, int, str], NavigationWorld]] = {
    'cellular': _cellular, 'clutter': _clutter, 'room': _room, 'people': _people}


def _ends(
    rng: np.random.Generator, size: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return a start and a goal at least half the room apart."""
    while True:
        start, goal = rng.uniform(0.7, size - 0.7, (2, 2))
        if np.hypot(*(goal - start)) > 0.5 * size.max():
            return start, goal


def _posts(
    rng: np.random.Generator, size: npt.NDArray[np.float64], count: int,
    radius_m: tuple[float, float] = (0.03, 0.3),
) -> npt.NDArray[np.float64]:
    return np.column_stack([rng.uniform(0.0, size, (count, 2)), rng.uniform(*radius_m, count)])


def _around(size: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return _box(size / 2.0, size / 2.0, 0.0)


def _corners(
    middle: npt.NDArray[np.float64], half: npt.NDArray[np.float64], yaw: float
) -> npt.NDArray[np.float64]:
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    c, s = np.cos(yaw), np.sin(yaw)
    return np.asarray(middle + (signs * half) @ np.array([[c, s], [-s, c]]))


def _box(
    middle: npt.NDArray[np.float64], half: npt.NDArray[np.float64], yaw: float
) -> npt.NDArray[np.float64]:
    corners = _corners(middle, half, yaw)
    return np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1)


def _legs(
    middle: npt.NDArray[np.float64], half: npt.NDArray[np.float64], yaw: float, radius_m: float
) -> npt.NDArray[np.float64]:
    return np.column_stack([_corners(middle, half, yaw), np.full(4, radius_m)])


def _house(
    rng: np.random.Generator, size: npt.NDArray[np.float64]
) -> list[npt.NDArray[np.float64]]:
    """Return outer walls, two of them with doors, and the fence of the yard around them."""
    yard = size / 2.0 + rng.uniform(1.5, 3.0)
    return [_box(size / 2.0, yard, 0.0),
            _wall_with_door(rng, size, 0, 0.0), _wall_with_door(rng, size, 1, size[1]),
            np.array([[size[0], 0.0, size[0], size[1]], [0.0, 0.0, size[0], 0.0]])]


def _wall_with_door(
    rng: np.random.Generator, size: npt.NDArray[np.float64], axis: int | None = None,
    at: float | None = None,
) -> npt.NDArray[np.float64]:
    """Return a wall across ``axis`` at a coordinate, or somewhere in the middle."""
    if axis is None or at is None:
        axis = int(rng.integers(2))
        at = size[axis] * rng.uniform(0.35, 0.65)
    length = size[1 - axis]
    door, width = rng.uniform(0.8, length - 0.8), rng.uniform(0.8, 1.2)
    pieces = np.array([[at, 0.0, at, door - width / 2.0], [at, door + width / 2.0, at, length]])
    return pieces if axis == 0 else pieces[:, [1, 0, 3, 2]]


def _person(rng: np.random.Generator, size: npt.NDArray[np.float64]) -> Person:
    while True:
        a, b = rng.uniform(0.5, size - 0.5, (2, 2))
        if np.hypot(*(b - a)) > 2.0:
            return Person((float(a[0]), float(a[1])), (float(b[0]), float(b[1])),
                          float(rng.uniform(0.3, 1.2)))


def _cleared(
    rng: np.random.Generator, name: str, posts: npt.NDArray[np.float64],
    walls: npt.NDArray[np.float64], start: npt.NDArray[np.float64], goal: npt.NDArray[np.float64],
    people: tuple[Person, ...] = (),
) -> NavigationWorld:
    """Return the world without what stands on the start or the goal."""
    ends = np.stack([start, goal])
    clear_m = np.array([_START_CLEAR_M, rng.uniform(*_GOAL_CLEAR_M)])
    far = np.hypot(*(posts[:, None, :2] - ends).transpose(2, 0, 1)) - posts[:, 2:] > clear_m
    posts = posts[far.all(axis=1)]
    walls = walls[(_distances(ends, walls) > clear_m[:, None]).all(axis=0)]
    people = tuple(p for p in people if np.hypot(*(start - p.from_xy_m)) > 1.2)
    heading = float(np.arctan2(*(goal - start)[::-1]))
    return NavigationWorld(
        name, posts, walls, (float(start[0]), float(start[1]), heading),
        (float(goal[0]), float(goal[1])), 0.5, people)


def _distances(
    points: npt.NDArray[np.float64], walls: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the (N, W) distances of points from walls."""
    along = walls[:, 2:] - walls[:, :2]
    to = points[:, None] - walls[None, :, :2]
    share = (to * along).sum(axis=2) / np.maximum((along ** 2).sum(axis=1), 1e-12)
    return np.asarray(np.linalg.norm(to - np.clip(share, 0.0, 1.0)[..., None] * along, axis=2))


def _drawn_until_passable(draw: Callable[[], NavigationWorld]) -> NavigationWorld:
    for _ in range(_MOST_DRAWS):
        world = draw()
        if is_reachable(world):
            return world
    raise RuntimeError(f'{_MOST_DRAWS} draws all block the way to the goal')


def is_reachable(world: NavigationWorld, width_m: float = _WIDEST_ROBOT_M) -> bool:
    """Return whether a round robot of a width gets from the start to the goal, by a grid."""
    step = 0.05
    low = np.array(world.corners_m[:2])
    shape = np.ceil((np.array(world.corners_m[2:]) - low) / step).astype(int) + 1
    free = np.full(shape[::-1], 255, np.uint8)

    def pixel(xy: npt.ArrayLike) -> tuple[int, int]:
        x, y = np.round((np.asarray(xy) - low) / step).astype(int).tolist()
        return x, y

    for x, y, radius in world.posts.tolist():
        cv2.circle(free, pixel((x, y)), round(radius / step), 0, -1)
    for wall in world.walls:
        cv2.line(free, pixel(wall[:2]), pixel(wall[2:]), 0)
    wide = cv2.distanceTransform(free, cv2.DIST_L2, 5) > width_m / 2.0 / step
    labels = cv2.connectedComponents(wide.astype(np.uint8), connectivity=4)[1]
    start, goal = pixel(world.start[:2]), pixel(world.goal_xy_m)
    there = labels[start[1], start[0]]
    return bool(there != 0 and there == labels[goal[1], goal[0]])
