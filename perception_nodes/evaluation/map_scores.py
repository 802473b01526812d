"""
Obstacle maps of a drive against the true one: what is found, what is invented, and for how long.

Both maps are compared a cell more or less, within 3 m of the camera. Precision is the share of
occupied cells that are truly so; recall the share of places, where rays in the camera's field of
view first meet something, that are occupied in the map. A ghost is a cell that stays occupied
while it is in view although nothing is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import inverse
from perception_nodes.core.types import OccupancyMap

RANGE_M = 3.0
_NEAREST_M = 0.4  # below that the floor before the robot is out of sight
_OCCUPIED = 100
_RAY_STEP_RAD, _RAY_STEP_M = math.radians(0.5), 0.02
_INSIDE_VIEW = 0.9  # share of the field of view that is asked about
_NEIGHBOURS = np.ones((3, 3), np.uint8)

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MapView:
    """From where a map is judged, in the frame of the true map."""

    xy_m: tuple[float, float]
    yaw_rad: float  # of the optical axis
    half_angle_rad: float  # of the field of view

    @classmethod
    def of_camera(cls, truth_from_camera: Matrix, half_angle_rad: float) -> 'MapView':
        """Return the view of a camera at a (4, 4) pose of its optical frame."""
        ahead = truth_from_camera[:2, 2]
        return cls((float(truth_from_camera[0, 3]), float(truth_from_camera[1, 3])),
                   math.atan2(ahead[1], ahead[0]), half_angle_rad * _INSIDE_VIEW)


@dataclass(frozen=True, eq=False)
class MapScore:
    """One map against the truth."""

    right: int  # occupied cells near a true one
    false: int  # occupied cells with none near
    found: int  # rays that end at an occupied cell
    rays: int  # rays that meet something
    ghosts: frozenset[tuple[int, int]]  # column and row in the map's frame of false cells in view


def score_map(
    found: OccupancyMap, truth: OccupancyMap, truth_from_found: Matrix, view: MapView,
    solids: Sequence[npt.NDArray[np.float64]] = (),
) -> MapScore:
    """
    Compare a map with the true one.

    :param truth_from_found: (4, 4) transform between the frames of the two.
    :param solids: (4, 2) corners, in the frame of the truth, of things that stand there now and
        need not be in the true map, such as people; cells near them are right.
    """
    there = truth.cells >= _OCCUPIED
    near_truth = _grown(there)
    _paint(near_truth, truth, solids)
    rows, columns = np.nonzero(found.cells >= _OCCUPIED)
    resolution, origin = found.resolution_m, found.origin_xy_m
    centres = np.column_stack([
        origin[0] + (columns + 0.5) * resolution, origin[1] + (rows + 0.5) * resolution])
    places = _moved(truth_from_found, centres)
    offset = places - view.xy_m
    distance = np.hypot(*offset.T)
    near = distance < RANGE_M
    right = _look_up(near_truth, truth, places)
    turn = np.abs((np.arctan2(offset[:, 1], offset[:, 0]) - view.yaw_rad + math.pi)
                  % (2.0 * math.pi) - math.pi)
    in_view = near & (distance > _NEAREST_M) & (turn < view.half_angle_rad)
    ghosts = np.floor(centres[in_view & ~right] / resolution).astype(int)
    hits = first_hits(there, truth, view)
    met = _look_up(_grown(found.cells >= _OCCUPIED), found, _moved(
        inverse(truth_from_found), hits))
    return MapScore(
        int(np.count_nonzero(near & right)), int(np.count_nonzero(near & ~right)),
        int(np.count_nonzero(met)), len(hits), frozenset(map(tuple, ghosts.tolist())))


def first_hits(
    there: npt.NDArray[np.bool_], truth: OccupancyMap, view: MapView
) -> npt.NDArray[np.float64]:
    """Return (N, 2) where rays in view first meet something within 3 m."""
    angles = view.yaw_rad + np.arange(
        -view.half_angle_rad, view.half_angle_rad, _RAY_STEP_RAD)
    distances = np.arange(_NEAREST_M, RANGE_M, _RAY_STEP_M)
    points = np.stack([
        view.xy_m[0] + np.outer(np.cos(angles), distances),
        view.xy_m[1] + np.outer(np.sin(angles), distances)], axis=2)
    met = _look_up(there, truth, points.reshape(-1, 2)).reshape(points.shape[:2])
    rays = np.flatnonzero(met.any(axis=1))
    return np.asarray(points[rays, met[rays].argmax(axis=1)])


class Ghosts:
    """How long false cells stay, while they are in view."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[int, int], float] = {}
        self._present: frozenset[tuple[int, int]] = frozenset()
        self._stamp_ns: int | None = None
        self.lengths_s: list[float] = []  # of the ghosts that are gone

    def add(self, stamp_ns: int, ghosts: frozenset[tuple[int, int]]) -> None:
        """Take the false cells in view at a moment."""
        elapsed_s = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) * 1e-9
        for cell in self._present & ghosts:
            self._seconds[cell] += elapsed_s
        for cell in self._present - ghosts:
            self.lengths_s.append(self._seconds.pop(cell))
        self._seconds |= dict.fromkeys(ghosts - self._present, 0.0)
        self._present, self._stamp_ns = ghosts, stamp_ns

    def finish(self) -> list[float]:
        """Return the seconds of every ghost, also of those that stayed to the end."""
        return [*self.lengths_s, *self._seconds.values()]


def f1(right: float, false: float, found: float, rays: float) -> tuple[float, float, float]:
    """Return precision, recall and their harmonic mean; NaN where there is nothing."""
    precision = right / (right + false) if right + false else math.nan
    recall = found / rays if rays else math.nan
    total = precision + recall
    return precision, recall, 2.0 * precision * recall / total if total else 0.0


def _paint(
    cells: npt.NDArray[np.bool_], grid: OccupancyMap,
    solids: Sequence[npt.NDArray[np.float64]],
) -> None:
    if not solids:
        return
    plane = np.zeros(cells.shape, np.uint8)
    for corners in solids:
        pixels = (corners - grid.origin_xy_m) / grid.resolution_m - 0.5
        cv2.fillConvexPoly(plane, np.round(pixels).astype(np.int32), 1)
    cells |= _grown(plane > 0)


def _grown(cells: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.asarray(cv2.dilate(cells.astype(np.uint8), _NEIGHBOURS) > 0)


def _moved(b_from_a: Matrix, xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(xy @ b_from_a[:2, :2].T + b_from_a[:2, 3])


def _look_up(
    cells: npt.NDArray[np.bool_], grid: OccupancyMap, places: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Return (N,) what the cells at some places are; outside the grid False."""
    at = np.floor((places - grid.origin_xy_m) / grid.resolution_m).astype(int)
    inside = ((at >= 0) & (at < cells.shape[::-1])).all(axis=1)
    values = np.zeros(len(places), np.bool_)
    values[inside] = cells[at[inside, 1], at[inside, 0]]
    return values
