"""
What networks that find grasps by themselves see, and how their answers become grasps.

They look at the height map: whole, or under rectangles as a gripper covers them. A place, a
closing direction and an opening come back; how deep the fingertips go follows from the heights.
"""

from dataclasses import dataclass

import cv2
from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core import grasp_kernels as kernels
from perception_nodes.core.height_map import HeightMap

MAP_PIXEL_M = 0.005
OPENING_UNIT_M = 0.08  # of the openings in maps
MAP_CHANNELS = 3  # height and top of unseen space over the support, and whether it was seen
RECTANGLE_SIDE, COARSE_SIDE = 24, 12  # pixels
RECTANGLE_CHANNELS = 4  # height, top of unseen space, two slopes
_HEIGHT_UNIT_M = 0.1
_HIGHEST_UNITS = 2.0
_CLIP_M = 0.06  # of heights in a rectangle, from its highest between the fingers
_BESIDE_M = 0.015  # outside of the open fingers' inner sides, that is in the rectangle
_ACROSS_M = 0.02  # half the rectangle's size across the closing direction
_DEEP_M, _LEAST_GRIP_M, _LOWEST_TIP_M = 0.03, 0.008, 0.004


@dataclass(frozen=True)
class Fingers:
    """What placing fingertips needs to know of the hand, metres."""

    width_m: float
    thickness_m: float
    clearance_m: float


def map_pixels(heights: HeightMap) -> npt.NDArray[np.float32]:
    """Return the (MAP_CHANNELS, H, W) picture of a height map, a pixel for each 5 mm."""
    over = heights.top_m - heights.support_m
    unseen = heights.upper_m - heights.support_m
    scale = heights.cell_m / MAP_PIXEL_M
    size = (max(4, round(over.shape[1] * scale)), max(4, round(over.shape[0] * scale)))
    layers = [cv2.resize(layer, size, interpolation=cv2.INTER_AREA)
              for layer in (over / _HEIGHT_UNIT_M, unseen / _HEIGHT_UNIT_M,
                            heights.known.astype(np.float32))]
    return np.clip(np.stack(layers), -0.5, _HIGHEST_UNITS).astype(np.float32)


def rectangles(
    heights: HeightMap, rows: npt.NDArray[np.float32], side: int
) -> npt.NDArray[np.float32]:
    """
    Return what lies under oriented rectangles, scaled to one size.

    Columns run along the closing direction, from beyond one finger to beyond the other.

    :param rows: (N, COLUMNS) candidates with X, Y, ANGLE and OPENING.
    :return: (N, RECTANGLE_CHANNELS, side, side).
    """
    pixels = np.empty((len(rows), RECTANGLE_CHANNELS, side, side), np.float32)
    slope_y, slope_x = np.gradient(cv2.GaussianBlur(heights.top_m, (0, 0), 1.0), heights.cell_m)
    length = np.sqrt(1.0 + slope_x ** 2 + slope_y ** 2)
    _look(heights.top_m, heights.upper_m, (slope_x / length).astype(np.float32),
          (slope_y / length).astype(np.float32), rows, heights.cell_m, pixels)
    return pixels


def set_tips(
    heights: HeightMap, labels: npt.NDArray[np.int32], rows: npt.NDArray[np.float32],
    fingers: Fingers,
) -> None:
    """
    Choose how deep the fingertips go, in place, and rule out what then holds nothing.

    They go 3 cm below the highest surface between them, or as far as what is below them allows.

    :param labels: (R, C) objects from 1, 0 for none; the highest cell between the fingers names
        what is grasped.
    :param rows: (N, COLUMNS) candidates with X, Y, ANGLE and OPENING; TIP, GRIP, OBJECT and
        REASON are set.
    """
    _descend(heights.top_m, heights.support_m, labels, heights.cell_m, fingers.width_m,
             fingers.thickness_m, fingers.clearance_m, rows)


def every_rectangle(
    labels: npt.NDArray[np.int32], cell_m: float, step_m: float, angles: int,
    openings_m: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Return (N, COLUMNS) rows of rectangles on a grid over the objects, turned and opened."""
    step = max(1, round(step_m / cell_m))
    i, j = np.nonzero(labels[step // 2::step, step // 2::step])
    turns = np.arange(angles) * (np.pi / angles)
    place, turn, opening = (part.ravel() for part in np.meshgrid(
        np.arange(len(i)), turns, openings_m, indexing='ij'))
    rows = np.zeros((len(place), kernels.COLUMNS), np.float32)
    rows[:, kernels.X] = (j * step + step // 2 + 0.5)[place]
    rows[:, kernels.Y] = (i * step + step // 2 + 0.5)[place]
    rows[:, kernels.ANGLE] = turn
    rows[:, kernels.OPENING] = rows[:, kernels.WIDTH] = opening
    rows[:, kernels.OBJECT] = labels[step // 2::step, step // 2::step][i, j][place]
    return rows


@njit(cache=True, error_model='numpy')
def _look(top, upper, normal_x, normal_y, rows, cell, pixels):  # type: ignore[no-untyped-def]
    """Sample the maps under each rectangle."""
    side = pixels.shape[2]
    for n in range(len(rows)):
        x, y = rows[n, kernels.X], rows[n, kernels.Y]
        cx, cy = np.cos(rows[n, kernels.ANGLE]), np.sin(rows[n, kernels.ANGLE])
        reach = (0.5 * rows[n, kernels.OPENING] + _BESIDE_M) / cell
        across = _ACROSS_M / cell
        highest = np.float32(-np.inf)
        for r in range(side):
            b = (2.0 * (r + 0.5) / side - 1.0) * across
            for c in range(side):
                s = (2.0 * (c + 0.5) / side - 1.0) * reach
                j = int(np.floor(x + cx * s - cy * b))
                i = int(np.floor(y + cy * s + cx * b))
                high, unseen = np.float32(np.nan), np.float32(np.nan)
                along, beside = np.float32(0.0), np.float32(0.0)
                if 0 <= i < top.shape[0] and 0 <= j < top.shape[1]:
                    high, unseen = top[i, j], upper[i, j]
                    along = cx * normal_x[i, j] + cy * normal_y[i, j]
                    beside = cx * normal_y[i, j] - cy * normal_x[i, j]
                    if abs(s) * cell < 0.5 * rows[n, kernels.OPENING]:
                        highest = max(highest, high)
                pixels[n, 0, r, c], pixels[n, 1, r, c] = high, unseen
                pixels[n, 2, r, c], pixels[n, 3, r, c] = along, beside
        for layer in range(2):
            for r in range(side):
                for c in range(side):
                    value = (pixels[n, layer, r, c] - highest) / _CLIP_M
                    if not np.isfinite(value):  # off the map
                        value = np.float32(-1.0)
                    pixels[n, layer, r, c] = min(max(value, -1.0), 1.0)


@njit(cache=True, error_model='numpy')
def _descend(  # type: ignore[no-untyped-def]
    top, support, labels, cell, width, thickness, clearance, rows,
):
    """Let each hand down."""
    half = 0.5 * width / cell
    for n in range(len(rows)):
        x, y = rows[n, kernels.X], rows[n, kernels.Y]
        cx, cy = np.cos(rows[n, kernels.ANGLE]), np.sin(rows[n, kernels.ANGLE])
        inner = 0.5 * rows[n, kernels.OPENING] / cell
        outer = inner + thickness / cell
        highest, below, ground = -np.inf, -np.inf, -np.inf
        s = -outer
        while s <= outer:
            b = -half
            while b <= half:
                i, j = int(np.floor(y + cy * s + cx * b)), int(np.floor(x + cx * s - cy * b))
                if 0 <= i < top.shape[0] and 0 <= j < top.shape[1]:
                    ground = max(ground, support[i, j])
                    if abs(s) >= inner:
                        below = max(below, top[i, j])
                    elif top[i, j] > highest:
                        highest = top[i, j]
                        rows[n, kernels.OBJECT] = labels[i, j]
                b += 0.5
            s += 0.5
        tip = max(highest - _DEEP_M, max(below + clearance, ground + _LOWEST_TIP_M))
        rows[n, kernels.TIP], rows[n, kernels.GRIP] = tip, highest - tip
        rows[n, kernels.REASON] = kernels.USABLE
        if not highest - tip >= _LEAST_GRIP_M or rows[n, kernels.OBJECT] == 0:
            rows[n, kernels.REASON] = kernels.SHALLOW
