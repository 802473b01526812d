"""
The dynamic window approach on the newest scan: a way to drive that nobody has to train.

Fox, Burgard and Thrun, "The Dynamic Window Approach to Collision Avoidance", 1997.
"""

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.navigation import NavigationObservation
from perception_nodes.core.rolling_map import CELL_M, clearances_m, NO_POTENTIAL
from perception_nodes.core.types import VelocityCommand

_LOCAL_M = 4.0  # half the side of the grid that one scan fills
_PERIOD_S = 0.1

# weights of Fox, Burgard and Thrun's objective, found by hand on training worlds
_SPEEDS, _TURNS = 9, 21
_HORIZON_S = 1.5
_MARGIN_M = 0.03
_NEAR_M, _NEAR_COST = 0.15, 4.0
_HEADING_COST = 0.15  # metres per radian
_BACKWARDS_COST = 0.3


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
        side = round(2.0 * _LOCAL_M / CELL_M)
        free = np.full((side, side), 255, np.uint8)
        columns, rows = _cells(observation.points_m, corner, side)
        free[rows, columns] = 0
        return best_arc(observation, clearances_m(free), corner, (0.0, 0.0, 0.0),
                        observation.goal_xy_m, NO_POTENTIAL), None


def _cells(
    points: npt.NDArray[np.float64], corner: tuple[float, float], side: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    cells = np.floor((points - corner) / CELL_M).astype(np.int64)
    columns, rows = cells[((cells >= 0) & (cells < side)).all(axis=1)].T
    return columns, rows


def best_arc(
    observation: NavigationObservation, clearances: npt.NDArray[np.float32],
    corner: tuple[float, float], pose: tuple[float, float, float],
    goal: tuple[float, ...], potential: npt.NDArray[np.float32],
) -> VelocityCommand:
    """
    Return the speeds of the window whose arc ends best.

    :param clearances: (H, W) as :func:`clearances_m` returns them.
    :param corner: x and y of the grid's first cell, in the frame of ``pose`` and ``goal``.
    :param pose: x, y, yaw of base_link.
    :param potential: (H, W) metres left to the goal; empty where nobody knows.
    """
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
    """Return the clearance of the footprint's edge."""
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
            px, py = _rounded(px, py, body)
            least = min(least, _lookup(clearances, corner_x, corner_y,
                                       x + c * px - s * py, y + s * px + c * py))
    return least


@njit(cache=True, inline='always')
def _rounded(x, y, body):  # type: ignore[no-untyped-def]
    """Return a point of the rectangle's edge, drawn in where the corner is round."""
    corner = body[3]
    at_x = min(max(x, corner - body[1]), body[0] - corner)
    at_y = min(max(y, corner - body[2]), body[2] - corner)
    dx, dy = x - at_x, y - at_y
    share = corner / max(np.sqrt(dx * dx + dy * dy), 1e-9)
    if share >= 1.0:
        return x, y
    return at_x + share * dx, at_y + share * dy


@njit(cache=True)
def _lookup(grid, corner_x, corner_y, x, y):  # type: ignore[no-untyped-def]
    """Return a grid's value between its cells' middles, that of the edge beyond it."""
    height, width = grid.shape
    at_x = min(max((x - corner_x) / CELL_M - 0.5, 0.0), width - 1.001)
    at_y = min(max((y - corner_y) / CELL_M - 0.5, 0.0), height - 1.001)
    column, row = int(at_x), int(at_y)
    a, b = at_x - column, at_y - row
    return ((grid[row, column] * (1.0 - a) + grid[row, column + 1] * a) * (1.0 - b)
            + (grid[row + 1, column] * (1.0 - a) + grid[row + 1, column + 1] * a) * b)
