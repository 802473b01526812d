"""
A tour through simulated rooms, driven twice: the second time in other light and a little off.

Half of the rooms are stored on the first tour; views of the others are places never seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
import math

import numpy as np
import numpy.typing as npt
from perception_nodes.core.place_recognition import Embedding, PlaceMemory
from perception_nodes.evaluation.metrics import PrecisionRecall
from perception_nodes.sim.poses import Pose
from perception_nodes.sim.rendering import View
from perception_nodes.sim.scene import Scene
from perception_nodes.sim.simulator import Simulator, SimulatorParams

_SPACING_M = 0.7
_OFF_M, _OFF_RAD = 0.08, math.radians(4.0)  # standard deviations of the second tour
SAME_M, SAME_RAD = 0.8, math.radians(35.0)  # nearer is the same place
_DIMMEST, _BRIGHTEST = 0.45, 1.6


@dataclass(frozen=True, eq=False)
class Visit:
    """What the robot saw from one place."""

    room: int
    x_m: float
    y_m: float
    yaw_rad: float
    rgb: npt.NDArray[np.uint8]  # (H, W, 3)

    def is_at(self, other: 'Visit') -> bool:
        """Return whether both are the same place, seen the same way round."""
        turn = math.remainder(self.yaw_rad - other.yaw_rad, 2.0 * math.pi)
        return (self.room == other.room and abs(turn) <= SAME_RAD
                and math.hypot(self.x_m - other.x_m, self.y_m - other.y_m) <= SAME_M)


def tours(seeds: Sequence[int]) -> tuple[list[Visit], list[Visit]]:
    """
    Drive through the test rooms of some seeds twice.

    :return: What was seen the first and the second time.
    """
    first: list[Visit] = []
    second: list[Visit] = []
    sim = Simulator(SimulatorParams(split='test', world='room'), seeds[0])
    try:
        for seed in seeds:
            rng = np.random.default_rng([seed, 1])
            sim.reset(seed)
            way = _way(sim)
            first += _look(sim, seed, way)
            off = rng.normal(size=way.shape) * (_OFF_M, _OFF_M, _OFF_RAD)
            sim.load(_relit(sim.scene, rng))
            second += _look(sim, seed, way + off)
    finally:
        sim.close()
    return first, second


def _way(sim: Simulator) -> npt.NDArray[np.float64]:
    """Return (N, 3) x, y and yaw of a walk from free place to nearest free place."""
    grid = sim.occupancy(0.1)
    rows, columns = np.nonzero(grid.cells == 0)
    free = np.column_stack([columns + 0.5, rows + 0.5]) * grid.resolution_m + grid.origin_xy_m
    assert sim.scene.interior_xy_m is not None
    low, high = np.split(np.array(sim.scene.interior_xy_m), 2)
    free = free[((free > low + 0.4) & (free < high - 0.4)).all(axis=1)]
    left = list(_spread(free))
    order = [left.pop(0)]
    while left:
        order.append(left.pop(int(np.argmin([math.dist(order[-1], place) for place in left]))))
    places = np.array(order)
    ahead = np.diff(places, axis=0)
    return np.column_stack([places[:-1], np.arctan2(ahead[:, 1], ahead[:, 0])])


def _spread(free: npt.NDArray[np.float64]) -> Iterator[npt.NDArray[np.float64]]:
    kept: list[npt.NDArray[np.float64]] = []
    for place in free:
        if all(math.dist(place, other) >= _SPACING_M for other in kept):
            kept.append(place)
            yield place


def _relit(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return the scene with lamps moved, and brighter or dimmer and of another tint."""
    def tinted(rgb: tuple[float, float, float]) -> tuple[float, float, float]:
        r, g, b = np.clip(np.array(rgb) * rng.uniform(_DIMMEST, _BRIGHTEST)
                          * rng.uniform(0.85, 1.15, 3), 0.0, 1.0).tolist()
        return r, g, b

    lights = tuple(replace(
        light, diffuse=tinted(light.diffuse), position_m=(
            -light.position_m[1], light.position_m[0], light.position_m[2]))
        for light in scene.lights)
    return replace(scene, lights=lights, ambient=tinted(scene.ambient),
                   headlight=tinted(scene.headlight))


def _look(sim: Simulator, room: int, way: npt.NDArray[np.float64]) -> Iterator[Visit]:
    for x, y, yaw in way.tolist():
        view = View(Pose.at(x, y, 0.0, yaw).matrix @ sim.mounts.base_from_camera, sim.intrinsics)
        yield Visit(room, x, y, yaw, sim.look_from(view)[0])


@dataclass(frozen=True)
class Recognition:
    """How well places were recognised."""

    curve: PrecisionRecall
    recall_at_full_precision: float  # places recognised before the first mistake
    found: float  # share of known places whose best match is right, whatever its similarity


def recognise(
    stored: Sequence[tuple[Visit, Embedding]], asked: Sequence[tuple[Visit, Embedding]]
) -> Recognition:
    """
    Match every view of the second tour with the stored places, and score the matches.

    :param asked: Also views of places that were never stored; matching them is a mistake.
    """
    memory = PlaceMemory()
    for _, embedding in stored:
        memory.add(embedding)
    similarities, hits, known = [], [], 0
    for visit, embedding in asked:
        match = memory.match(embedding)
        known += any(visit.is_at(place) for place, _ in stored)
        if match is not None:
            similarities.append(match.similarity)
            hits.append(visit.is_at(stored[match.index][0]))
    order = np.argsort(-np.array(similarities), kind='stable')
    right = np.array(hits, bool)[order]
    curve = PrecisionRecall(
        np.array(similarities, np.float32)[order],
        np.cumsum(right) / np.arange(1, len(right) + 1), np.cumsum(right) / max(1, known), known)
    before_mistakes = curve.recall[curve.precision == 1.0]
    return Recognition(curve, float(before_mistakes.max(initial=0.0)),
                       float(curve.recall.max(initial=0.0)))
