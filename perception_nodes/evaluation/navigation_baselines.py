"""
Ways to drive to a goal that nobody has to train, to compare learned ones with.

All satisfy :class:`perception_nodes.core.protocols.NavigationPolicy`.
"""

from dataclasses import dataclass, replace
import math

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.dynamic_window import best_arc, CELL_M, clearances_m, NO_POTENTIAL
from perception_nodes.core.navigation import NavigationObservation
from perception_nodes.core.navigation_rules import commands_of, innate_actions
from perception_nodes.core.types import VelocityCommand
from perception_nodes.sim.navigation_kernels import distances_to

_MAP_M = 12.0  # half the side of the rolling map
_RECENTRE_M = 2.0
_HIT, _MISS, _MOST, _OCCUPIED = 3, 1, 12, 3
_REPLAN_STEPS = 5
_BLOCKED_M, _WIDE_M, _NARROW_WEIGHT = 0.25, 0.55, 3.0


class StraightLine:
    """Turns towards the goal and drives; what stands in between is the safety layer's."""

    def act(
        self, observation: NavigationObservation, state: None
    ) -> tuple[VelocityCommand, None]:
        """Return full speed at the goal, less where it is not ahead."""
        bearing, limits = observation.goal_bearing_rad, observation.limits
        turn = min(limits.turn_rps, max(-limits.turn_rps, 2.0 * bearing))
        ahead = limits.ahead_mps * max(0.0, math.cos(bearing)) ** 3
        return VelocityCommand(ahead, turn), None


class InnateRule:
    """The goal's pull and the obstacles' push, which learned policies may be corrections of."""

    def act(
        self, observation: NavigationObservation, state: None
    ) -> tuple[VelocityCommand, None]:
        """Return where both together lead."""
        newest = replace(observation, ranges_m=observation.ranges_m[:1]).vector()[None]
        actions = innate_actions(newest, observation.reach_m).astype(np.float64)
        v, w = commands_of(actions, observation.limits)[0].tolist()
        return VelocityCommand(v, w), None


@dataclass(eq=False)
class RollingMap:
    """What a planner remembers, in odom."""

    corner_m: tuple[float, float]
    hits: npt.NDArray[np.int16]  # (N, N) more is more surely occupied
    potential_m: npt.NDArray[np.float32]  # (N, N) way to the goal
    steps: int = 0


class PlannedWindow:
    """
    The dynamic window down the potential of a planner.

    A map that rolls along in odom holds what scans have shown; Dijkstra's algorithm tells from
    each cell how far the goal is. It is no map-less method.
    """

    def act(
        self, observation: NavigationObservation, state: RollingMap | None
    ) -> tuple[VelocityCommand, RollingMap]:
        """Return the best arc, and the map."""
        x, y, yaw = observation.odom_from_base
        rolling = state or _new_map(x, y)
        _recentre(rolling, x, y)
        c, s = math.cos(yaw), math.sin(yaw)
        turn = np.array([[c, s], [-s, c]])
        ends = observation.points_m @ turn + (x, y)
        open_ends = _free_ends(observation) @ turn + (x, y)
        _trace(rolling.hits, *rolling.corner_m, x, y, ends, open_ends)
        free = np.where(rolling.hits >= _OCCUPIED, 0, 255).astype(np.uint8)
        clearances = clearances_m(free)
        goal = np.array([observation.goal_xy_m]) @ turn + (x, y)
        if rolling.steps % _REPLAN_STEPS == 0:
            column, row = _nearest_cell(goal[0], rolling)
            rolling.potential_m = distances_to(
                clearances, _BLOCKED_M, _WIDE_M, _NARROW_WEIGHT, row, column, CELL_M)
        rolling.steps += 1
        command = best_arc(observation, clearances, rolling.corner_m, (x, y, yaw),
                           tuple(goal[0].tolist()), rolling.potential_m)
        return command, rolling


def _new_map(x: float, y: float) -> RollingMap:
    side = round(2.0 * _MAP_M / CELL_M)
    return RollingMap((x - _MAP_M, y - _MAP_M), np.zeros((side, side), np.int16), NO_POTENTIAL)


def _recentre(rolling: RollingMap, x: float, y: float) -> None:
    """Move the map by whole cells under a robot that has left its middle."""
    shift = []
    for at, corner in ((x, rolling.corner_m[0]), (y, rolling.corner_m[1])):
        off = at - (corner + _MAP_M)
        shift.append(round(off / CELL_M) if abs(off) > _RECENTRE_M else 0)
    if not any(shift):
        return
    columns, rows = shift
    hits = np.roll(rolling.hits, (-rows, -columns), (0, 1))
    for axis, cells in ((0, rows), (1, columns)):
        edge: list[slice] = [slice(None), slice(None)]
        edge[axis] = slice(-cells, None) if cells > 0 else slice(0, -cells)
        if cells:
            hits[tuple(edge)] = 0
    rolling.hits = hits
    rolling.corner_m = (rolling.corner_m[0] + columns * CELL_M,
                        rolling.corner_m[1] + rows * CELL_M)
    rolling.steps = 0  # the potential belongs to the old corner


def _free_ends(observation: NavigationObservation) -> npt.NDArray[np.float64]:
    """Return (N, 2) ends of the sectors in which nothing stands."""
    sectors = observation.ranges_m[0]
    which = np.flatnonzero(sectors >= observation.reach_m - 1e-3)
    angles = (which + 0.5) / len(sectors) * 2.0 * np.pi - np.pi
    return observation.reach_m * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _nearest_cell(xy: npt.NDArray[np.float64], rolling: RollingMap) -> tuple[int, int]:
    """Return column and row of a point, or of the map's edge towards it."""
    side = len(rolling.hits)
    cells = np.floor((xy - rolling.corner_m) / CELL_M)
    column, row = np.clip(cells, 0, side - 1).astype(int).tolist()
    return column, row


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
