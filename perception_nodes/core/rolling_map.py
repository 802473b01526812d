"""
A grid that rolls along with a robot and holds what scans have shown, and ways through it.

It remembers in odom and plans by Dijkstra's algorithm: what drives by it is no map-less policy.
"""

from dataclasses import dataclass, replace
import heapq
import math
from typing import Any

import cv2
from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.navigation import NavigationObservation
from perception_nodes.core.protocols import NavigationPolicy
from perception_nodes.core.types import VelocityCommand

CELL_M = 0.05
_HALF_M = 12.0  # half the side
_RECENTRE_M = 2.0
_HIT, _MISS, _MOST, _OCCUPIED = 3, 1, 12, 3
_REPLAN_STEPS = 5
_SPARE_M = 0.035  # beside the footprint; where there is less, nothing passes
_WIDE_M, _NARROW_WEIGHT = 0.55, 3.0
_DIAGONAL = 2.0 ** 0.5
# how much farther than the robot ways are known: arcs may end there, and noise put the robot there
_BEYOND_M = 6.0
_GUIDED_M = 0.8  # along the way, of the point that a policy is shown
NO_POTENTIAL = np.zeros((0, 0), np.float32)


class RollingMap:
    """
    What a robot remembers of the scans around it.

    :param x: Of base_link in odom.
    :param y: The same.
    """

    def __init__(self, x: float, y: float) -> None:
        side = round(2.0 * _HALF_M / CELL_M)
        self.corner_m = (x - _HALF_M, y - _HALF_M)  # of the first cell, in odom
        self._hits = np.zeros((side, side), np.int16)  # more is more surely occupied
        self._steps = 0
        self.potential_m = NO_POTENTIAL  # (N, N) float32 way to the goal
        self.goal_xy_m = (x, y)  # in odom

    def take(self, observation: NavigationObservation) -> None:
        """Take in the newest scan; every fifth time, find the ways to the goal anew."""
        x, y, yaw = observation.odom_from_base
        self._recentre(x, y)
        c, s = math.cos(yaw), math.sin(yaw)
        turn = np.array([[c, s], [-s, c]])
        _trace(self._hits, *self.corner_m, x, y, observation.points_m @ turn + (x, y),
               _free_ends(observation) @ turn + (x, y))
        goal = np.array(observation.goal_xy_m) @ turn + (x, y)
        self.goal_xy_m = (float(goal[0]), float(goal[1]))
        if self._steps % _REPLAN_STEPS == 0:
            column, row = self._cell(goal)
            at_column, at_row = self._cell(np.array((x, y)))
            self.potential_m = distances_to(
                self.clearances_m(), observation.footprint.half_width_m + _SPARE_M, _WIDE_M,
                _NARROW_WEIGHT, row, column, CELL_M, at_row * len(self._hits) + at_column,
                _BEYOND_M)
        self._steps += 1

    def clearances_m(self) -> npt.NDArray[np.float32]:
        """Return (N, N) float32: how far each cell is from the nearest occupied one, metres."""
        return clearances_m(np.where(self._hits >= _OCCUPIED, 0, 255).astype(np.uint8))

    def ahead(self, observation: NavigationObservation, way_m: float) -> tuple[float, float]:
        """
        Return a point on the way to the goal, in base_link.

        :param way_m: How far along the way, metres.
        """
        x, y, yaw = observation.odom_from_base
        column, row = descended(
            self.potential_m, *self._cell(np.array((x, y))), round(way_m / CELL_M))
        dx = self.corner_m[0] + (column + 0.5) * CELL_M - x
        dy = self.corner_m[1] + (row + 0.5) * CELL_M - y
        c, s = math.cos(yaw), math.sin(yaw)
        return c * dx + s * dy, c * dy - s * dx

    def _cell(self, xy: npt.NDArray[np.float64]) -> tuple[int, int]:
        """Return column and row of a point, or of the map's edge towards it."""
        cells = np.floor((xy - self.corner_m) / CELL_M)
        column, row = np.clip(cells, 0, len(self._hits) - 1).astype(int).tolist()
        return column, row

    def _recentre(self, x: float, y: float) -> None:
        """Move the map by whole cells under a robot that has left its middle."""
        shift = []
        for at, corner in ((x, self.corner_m[0]), (y, self.corner_m[1])):
            off = at - (corner + _HALF_M)
            shift.append(round(off / CELL_M) if abs(off) > _RECENTRE_M else 0)
        if not any(shift):
            return
        columns, rows = shift
        hits = np.zeros_like(self._hits)
        (to_r, from_r), (to_c, from_c) = (_overlap(n, len(hits)) for n in (rows, columns))
        hits[to_r, to_c] = self._hits[from_r, from_c]
        self._hits = hits
        self.corner_m = (self.corner_m[0] + columns * CELL_M, self.corner_m[1] + rows * CELL_M)
        self._steps = 0  # the potential belongs to the old corner


@dataclass(eq=False)
class GuidedMemory:
    """What a guided policy remembers: its map, and what the policy itself does."""

    rolling: RollingMap
    of_policy: Any = None


class GuidedPolicy:
    """
    A policy that is shown a point on the way through a rolling map instead of the goal.

    Its class is local-memory. It leaves dead ends that a policy without a map drives into again
    and again.

    :param policy: What decides.
    """

    def __init__(self, policy: NavigationPolicy) -> None:
        self._policy = policy

    def act(
        self, observation: NavigationObservation, state: GuidedMemory | None
    ) -> tuple[VelocityCommand, GuidedMemory]:
        """Choose the next command; see ``NavigationPolicy``."""
        x, y, _ = observation.odom_from_base
        memory = state or GuidedMemory(RollingMap(x, y))
        memory.rolling.take(observation)
        ahead_x, ahead_y = memory.rolling.ahead(observation, _GUIDED_M)
        observation = replace(
            observation, goal_distance_m=math.hypot(ahead_x, ahead_y),
            goal_bearing_rad=math.atan2(ahead_y, ahead_x))
        command, memory.of_policy = self._policy.act(observation, memory.of_policy)
        return command, memory


def _overlap(shift: int, side: int) -> tuple[slice, slice]:
    """Return where cells come to and from when the map moves by some of them."""
    shift = max(-side, min(side, shift))
    if shift >= 0:
        return slice(0, side - shift), slice(shift, side)
    return slice(-shift, side), slice(0, side + shift)


def clearances_m(free: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the distance of each cell from the nearest occupied one, metres."""
    return np.asarray(
        cv2.distanceTransform(free, cv2.DIST_L2, 5) * np.float32(CELL_M), np.float32)


def _free_ends(observation: NavigationObservation) -> npt.NDArray[np.float64]:
    """Return (N, 2) ends of the sectors in which nothing stands."""
    sectors = observation.ranges_m[0]
    which = np.flatnonzero(sectors >= observation.reach_m - 1e-3)
    angles = (which + 0.5) / len(sectors) * 2.0 * np.pi - np.pi
    return observation.reach_m * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@njit(cache=True)
def _trace(hits, corner_x, corner_y, x, y, ends, open_ends):  # type: ignore[no-untyped-def]
    """Count down the cells that beams cross, and up those in which they end."""
    side = len(hits)
    for rays in (ends, open_ends):
        for i in range(len(rays)):
            dx, dy = rays[i, 0] - x, rays[i, 1] - y
            length = np.sqrt(dx * dx + dy * dy)
            # a beam that grazes a surface must not clear it, so it ends a cell and a half before
            steps = int((length - 1.5 * CELL_M) / (0.7 * CELL_M))
            for k in range(steps):
                share = (k + 0.5) * 0.7 * CELL_M / length
                column = int((x + dx * share - corner_x) / CELL_M)
                row = int((y + dy * share - corner_y) / CELL_M)
                if 0 <= column < side and 0 <= row < side and hits[row, column] > 0:
                    hits[row, column] -= _MISS
    for i in range(len(ends)):
        column = int((ends[i, 0] - corner_x) / CELL_M)
        row = int((ends[i, 1] - corner_y) / CELL_M)
        if 0 <= column < side and 0 <= row < side:
            hits[row, column] = min(_MOST, hits[row, column] + _HIT + _MISS)


@njit(cache=True, nogil=True)
def distances_to(  # type: ignore[no-untyped-def]
    clearances, blocked, wide, weight, row, column, cell_m, start=-1, beyond_m=0.0,
):
    """
    Return how far each cell is from one of them (Dijkstra over eight neighbours).

    :param clearances: (H, W) float32 metres from each cell to the nearest obstacle.
    :param blocked: Cells with less clearance cost a hundredfold: a robot that stands there, by
        noise or narrowness, still finds the way out.
    :param wide: Cells with less cost up to ``1 + weight`` times their length.
    :param start: Cell, counted along the rows, after which cells ``beyond_m`` farther than it
        are not looked at any more; -1: all are.
    :return: (H, W) float32 metres, +inf or too large where nobody looked.
    """
    height, width = clearances.shape
    out = np.full((height, width), np.float32(np.inf))
    out[row, column] = 0.0
    heap = [(np.float32(0.0), np.int64(row * width + column))]
    farthest = np.float32(np.inf)
    while len(heap) > 0:
        cost, cell = heapq.heappop(heap)
        if cost > farthest:
            break
        r, c = cell // width, cell % width
        if cost > out[r, c]:
            continue
        if cell == start:
            farthest = np.float32(cost + beyond_m)
        for dr in range(-1, 2):
            for dc in range(-1, 2):
                a, b = r + dr, c + dc
                if (dr == 0 and dc == 0) or a < 0 or b < 0 or a >= height or b >= width:
                    continue
                room = clearances[a, b]
                factor = 1.0
                if room < blocked:
                    factor = 100.0
                elif room < wide:
                    factor = 1.0 + weight * (wide - room) / (wide - blocked)
                length = cell_m * (_DIAGONAL if dr != 0 and dc != 0 else 1.0)
                there = np.float32(cost + factor * length)
                if there < out[a, b]:
                    out[a, b] = there
                    heapq.heappush(heap, (there, np.int64(a * width + b)))
    return out


@njit(cache=True)
def descended(potential, column, row, cells):  # type: ignore[no-untyped-def]
    """Return column and row of the cell that lies some cells down the potential."""
    height, width = potential.shape
    for _ in range(cells):
        best, to_column, to_row = potential[row, column], column, row
        for r in range(max(row - 1, 0), min(row + 2, height)):
            for c in range(max(column - 1, 0), min(column + 2, width)):
                if potential[r, c] < best:
                    best, to_column, to_row = potential[r, c], c, r
        column, row = to_column, to_row
    return column, row
