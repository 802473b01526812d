"""
Ways to drive to a goal that nobody has to train, to compare learned ones with.

All satisfy :class:`perception_nodes.core.protocols.NavigationPolicy`.
"""

from dataclasses import dataclass
import math

import cv2
from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.navigation import NavigationObservation
from perception_nodes.core.types import VelocityCommand
from perception_nodes.sim.navigation_kernels import distances_to

_CELL_M = 0.05
_LOCAL_M = 4.0  # half the side of the grid that one scan fills
_PERIOD_S = 0.1

# weights of Fox, Burgard and Thrun's objective, found by hand on training worlds
_SPEEDS, _TURNS = 9, 21
_HORIZON_S = 1.5
_MARGIN_M = 0.03
_NEAR_M, _NEAR_COST = 0.15, 4.0
_HEADING_COST = 0.15  # metres per radian
_BACKWARDS_COST = 0.3

_MAP_M = 12.0  # half the side of the rolling map
_RECENTRE_M = 2.0
_HIT, _MISS, _MOST, _OCCUPIED = 3, 1, 12, 3
_REPLAN_STEPS = 5
_BLOCKED_M, _WIDE_M, _NARROW_WEIGHT = 0.25, 0.55, 3.0
_NO_POTENTIAL = np.zeros((0, 0), np.float32)


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


class DynamicWindow:
    """
    The dynamic window approach on the newest scan alone, without a map.

    Fox, Burgard and Thrun, "The Dynamic Window Approach to Collision Avoidance", 1997, with the
    distance to the goal at the end of the arc instead of heading and speed.
    """

    def act(
        self, observation: NavigationObservation, state: None
    ) -> tuple[VelocityCommand, None]:
        """Return the best arc."""
        corner = (-_LOCAL_M, -_LOCAL_M)
        side = round(2.0 * _LOCAL_M / _CELL_M)
        free = np.full((side, side), 255, np.uint8)
        columns, rows = _cells(observation.points_m, corner, side)
        free[rows, columns] = 0
        return _best_arc(observation, _clearances(free), corner, (0.0, 0.0, 0.0),
                         observation.goal_xy_m, _NO_POTENTIAL), None


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
        clearances = _clearances(free)
        goal = np.array([observation.goal_xy_m]) @ turn + (x, y)
        if rolling.steps % _REPLAN_STEPS == 0:
            column, row = _nearest_cell(goal[0], rolling)
            rolling.potential_m = distances_to(
                clearances, _BLOCKED_M, _WIDE_M, _NARROW_WEIGHT, row, column, _CELL_M)
        rolling.steps += 1
        command = _best_arc(observation, clearances, rolling.corner_m, (x, y, yaw),
                            tuple(goal[0].tolist()), rolling.potential_m)
        return command, rolling


def _new_map(x: float, y: float) -> RollingMap:
    side = round(2.0 * _MAP_M / _CELL_M)
    return RollingMap((x - _MAP_M, y - _MAP_M), np.zeros((side, side), np.int16), _NO_POTENTIAL)


def _recentre(rolling: RollingMap, x: float, y: float) -> None:
    """Move the map by whole cells under a robot that has left its middle."""
    shift = []
    for at, corner in ((x, rolling.corner_m[0]), (y, rolling.corner_m[1])):
        off = at - (corner + _MAP_M)
        shift.append(round(off / _CELL_M) if abs(off) > _RECENTRE_M else 0)
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
    rolling.corner_m = (rolling.corner_m[0] + columns * _CELL_M,
                        rolling.corner_m[1] + rows * _CELL_M)
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
    cells = np.floor((xy - rolling.corner_m) / _CELL_M)
    column, row = np.clip(cells, 0, side - 1).astype(int).tolist()
    return column, row


def _cells(
    points: npt.NDArray[np.float64], corner: tuple[float, float], side: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    cells = np.floor((points - corner) / _CELL_M).astype(np.int64)
    columns, rows = cells[((cells >= 0) & (cells < side)).all(axis=1)].T
    return columns, rows


def _clearances(free: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return the distance of each cell from the nearest occupied one, metres."""
    return np.asarray(
        cv2.distanceTransform(free, cv2.DIST_L2, 5) * np.float32(_CELL_M), np.float32)


def _best_arc(
    observation: NavigationObservation, clearances: npt.NDArray[np.float32],
    corner: tuple[float, float], pose: tuple[float, float, float],
    goal: tuple[float, ...], potential: npt.NDArray[np.float32],
) -> VelocityCommand:
    moving = (observation.velocity.linear_mps, observation.velocity.angular_rps)
    v, w = _arc(clearances, corner[0], corner[1], pose, observation.footprint.numbers, moving,
                observation.limits.numbers, (goal[0], goal[1]), potential)
    return VelocityCommand(v, w)


@njit(cache=True)
def _arc(  # type: ignore[no-untyped-def]
    clearances, corner_x, corner_y, pose, body, moving, limits, goal, potential,
):
    """Return the speeds of the window whose arc ends best; a slow turn where all collide."""
    ahead, back, turn, acceleration, angular = limits
    low, high = (max(-back, moving[0] - acceleration * _PERIOD_S),
                 min(ahead, moving[0] + acceleration * _PERIOD_S))
    right, left = (max(-turn, moving[1] - angular * _PERIOD_S),
                   min(turn, moving[1] + angular * _PERIOD_S))
    step = 0.05
    best, best_v, best_w = np.inf, 0.0, np.nan
    for a in range(_SPEEDS):
        v = low + (high - low) * a / (_SPEEDS - 1)
        for b in range(_TURNS):
            w = right + (left - right) * b / (_TURNS - 1)
            x, y, yaw = pose
            room, t = np.inf, 0.0
            while t < _HORIZON_S:
                yaw += w * step
                x += v * step * np.cos(yaw)
                y += v * step * np.sin(yaw)
                t += step
                now = _room(clearances, corner_x, corner_y, x, y, yaw, body)
                if now < _MARGIN_M:
                    break
                room = min(room, now)
            cut = t < _HORIZON_S - 1e-9
            if cut and t < max(0.35, abs(v) / acceleration + 0.25):
                continue  # it could not stop in time
            if potential.size > 0:
                cost = _lookup(potential, corner_x, corner_y, x, y)
            else:
                dx, dy = goal[0] - x, goal[1] - y
                off = (np.arctan2(dy, dx) - yaw + np.pi) % (2.0 * np.pi) - np.pi
                cost = np.sqrt(dx * dx + dy * dy) + _HEADING_COST * abs(off)
            if room < _NEAR_M:
                cost += _NEAR_COST * (_NEAR_M - room)
            if cut:
                cost += 1.0 + _HORIZON_S - t
            if v < 0.0:
                cost += _BACKWARDS_COST
            if cost < best:
                best, best_v, best_w = cost, v, w
    if np.isnan(best_w):
        side = np.arctan2(goal[1] - pose[1], goal[0] - pose[0]) - pose[2]
        return 0.0, 0.4 * turn * (1.0 if np.sin(side) >= 0.0 else -1.0)
    return best_v, best_w


@njit(cache=True)
def _room(clearances, corner_x, corner_y, x, y, yaw, body):  # type: ignore[no-untyped-def]
    """Return the clearance of a rectangle's edge."""
    middle = _lookup(clearances, corner_x, corner_y, x, y)
    reach = np.sqrt(max(body[0], body[1]) ** 2 + body[2] ** 2)
    if middle > reach + _NEAR_M:
        return middle - reach
    if middle < min(body[0], body[1], body[2]):
        return -1.0
    c, s = np.cos(yaw), np.sin(yaw)
    least = np.inf
    for k in range(7):
        along = -body[1] + (body[0] + body[1]) * k / 6.0
        aside = body[2] * (k / 3.0 - 1.0)
        for px, py in ((along, body[2]), (along, -body[2]), (body[0], aside), (-body[1], aside)):
            least = min(least, _lookup(clearances, corner_x, corner_y,
                                       x + c * px - s * py, y + s * px + c * py))
    return least


@njit(cache=True)
def _lookup(grid, corner_x, corner_y, x, y):  # type: ignore[no-untyped-def]
    """Return a grid's value between its cells' middles, that of the edge beyond it."""
    height, width = grid.shape
    at_x = min(max((x - corner_x) / _CELL_M - 0.5, 0.0), width - 1.001)
    at_y = min(max((y - corner_y) / _CELL_M - 0.5, 0.0), height - 1.001)
    column, row = int(at_x), int(at_y)
    a, b = at_x - column, at_y - row
    return ((grid[row, column] * (1.0 - a) + grid[row, column + 1] * a) * (1.0 - b)
            + (grid[row + 1, column] * (1.0 - a) + grid[row + 1, column + 1] * a) * b)


@njit(cache=True)
def _trace(hits, corner_x, corner_y, x, y, ends, open_ends):  # type: ignore[no-untyped-def]
    """Count down the cells that beams cross, and up those in which they end."""
    side = len(hits)
    for rays in (ends, open_ends):
        for i in range(len(rays)):
            dx, dy = rays[i, 0] - x, rays[i, 1] - y
            length = np.sqrt(dx * dx + dy * dy)
            # a beam that grazes a surface must not clear it, so it ends a cell and a half before
            steps = int((length - 1.5 * _CELL_M) / (0.7 * _CELL_M))
            for k in range(steps):
                share = (k + 0.5) * 0.7 * _CELL_M / length
                column = int((x + dx * share - corner_x) / _CELL_M)
                row = int((y + dy * share - corner_y) / _CELL_M)
                if 0 <= column < side and 0 <= row < side and hits[row, column] > 0:
                    hits[row, column] -= _MISS
    for i in range(len(ends)):
        column = int((ends[i, 0] - corner_x) / _CELL_M)
        row = int((ends[i, 1] - corner_y) / _CELL_M)
        if 0 <= column < side and 0 <= row < side:
            hits[row, column] = min(_MOST, hits[row, column] + _HIT + _MISS)
