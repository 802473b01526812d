"""What networks that find grasps see of a block, and how deep fingers then go."""

import math

import numpy as np
from perception_nodes.core import grasp_kernels as kernels
from perception_nodes.core.grasp_search import (
    every_rectangle,
    Fingers,
    MAP_PIXEL_M,
    map_pixels,
    RECTANGLE_SIDE,
    rectangles,
    set_tips,
)
from perception_nodes.core.height_map import HeightMap
import pytest

CELL_M = 0.0025
FINGERS = Fingers(width_m=0.02, thickness_m=0.01, clearance_m=0.003)
MIDDLE = 60.0  # cells


def map_of(*blocks):
    """Return a map of 0.3 m x 0.3 m, and the numbers of upright blocks: x, y, sides, height."""
    top = np.zeros((120, 120), np.float32)
    labels = np.zeros(top.shape, np.int32)
    x, y = np.meshgrid(*[(np.arange(120) + 0.5) * CELL_M - 0.15] * 2)
    for number, (x0, y0, length, width, height) in enumerate(blocks, start=1):
        inside = (np.abs(x - x0) < length / 2) & (np.abs(y - y0) < width / 2)
        top[inside], labels[inside] = height, number
    return HeightMap(top, top.copy(), np.ones(top.shape, np.bool_), np.zeros_like(top),
                     (-0.15, -0.15), CELL_M, np.eye(4)), labels


def row(x, y, angle, opening_m):
    found = np.zeros((1, kernels.COLUMNS), np.float32)
    found[0, [kernels.X, kernels.Y, kernels.ANGLE, kernels.OPENING]] = (
        MIDDLE + x / CELL_M, MIDDLE + y / CELL_M, angle, opening_m)
    return found


@pytest.mark.parametrize(('height', 'tip'), [(0.06, 0.03), (0.02, 0.004)])
def test_fingers_go_three_centimetres_down_or_to_the_table(height, tip):
    heights, labels = map_of((0.0, 0.0, 0.12, 0.04, height))
    grasp = row(0.0, 0.0, math.pi / 2, 0.06)
    set_tips(heights, labels, grasp, FINGERS)
    assert grasp[0, kernels.REASON] == kernels.USABLE
    assert grasp[0, kernels.OBJECT] == 1
    assert grasp[0, kernels.TIP] == pytest.approx(tip, abs=1e-6)
    assert grasp[0, kernels.GRIP] == pytest.approx(height - tip, abs=1e-6)


def test_fingers_stay_above_what_is_under_them():
    """A lower block beside the first holds the finger up, a block under both fingers too much."""
    heights, labels = map_of((0.0, 0.0, 0.12, 0.04, 0.06), (0.0, 0.045, 0.12, 0.04, 0.04))
    grasp = row(0.0, 0.0, math.pi / 2, 0.06)
    set_tips(heights, labels, grasp, FINGERS)
    assert grasp[0, kernels.REASON] == kernels.USABLE
    assert grasp[0, kernels.TIP] == pytest.approx(0.043, abs=1e-6)
    along = row(0.0, 0.0, 0.0, 0.06)  # closing along 12 cm: both fingers stand on the block
    set_tips(heights, labels, along, FINGERS)
    assert along[0, kernels.REASON] == kernels.SHALLOW
    beside = row(0.1, 0.1, 0.0, 0.06)
    set_tips(heights, labels, beside, FINGERS)
    assert beside[0, kernels.REASON] == kernels.SHALLOW


def test_a_rectangle_is_seen_in_its_own_frame():
    """The block is a band in the middle, its sides slope outwards, whichever way it is turned."""
    wide, _ = map_of((0.0, 0.0, 0.04, 0.12, 0.06))
    long, _ = map_of((0.0, 0.0, 0.12, 0.04, 0.06))
    seen = rectangles(wide, row(0.0, 0.0, 0.0, 0.06), RECTANGLE_SIDE)[0]
    assert seen.shape == (4, RECTANGLE_SIDE, RECTANGLE_SIDE)
    middle = RECTANGLE_SIDE // 2
    assert seen[0, middle, middle] == pytest.approx(0.0)
    assert seen[0, middle, [0, -1]].tolist() == [-1.0, -1.0]
    rising, falling = seen[2, middle, :middle], seen[2, middle, middle:]
    assert rising.max() > 0.9 and falling.min() < -0.9
    assert np.abs(seen[3, 4:-4]).max() < 0.1
    turned = rectangles(long, row(0.0, 0.0, math.pi / 2, 0.06), RECTANGLE_SIDE)[0]
    assert np.mean(np.abs(turned - seen) > 0.05) < 0.1  # but for cells on the edges


def test_off_the_map_there_is_nothing():
    heights, _ = map_of((0.0, 0.0, 0.04, 0.04, 0.06))
    assert np.isfinite(rectangles(heights, row(0.15, 0.15, 0.7, 0.06), 12)).all()
    assert np.isfinite(rectangles(heights, row(1.0, 0.0, 0.0, 0.06), 12)).all()


def test_rectangles_are_tried_on_objects_only():
    heights, labels = map_of((0.05, -0.05, 0.06, 0.06, 0.03))
    rows = every_rectangle(labels, CELL_M, 0.01, 6, np.array([0.04, 0.08], np.float32))
    assert len(rows) == 6 * 6 * 6 * 2
    x, y = (np.asarray(rows[:, axis] * CELL_M - 0.15) for axis in (kernels.X, kernels.Y))
    assert (np.abs(x - 0.05) <= 0.03).all() and (np.abs(y + 0.05) <= 0.03).all()
    openings_m = np.unique(rows[:, kernels.OPENING])
    np.testing.assert_allclose(openings_m, [0.04, 0.08], atol=1e-6)
    assert (rows[:, kernels.OBJECT] == 1).all()


def test_a_map_has_a_pixel_for_each_half_centimetre():
    heights, _ = map_of((0.0, 0.0, 0.1, 0.05, 0.06))
    pixels = map_pixels(heights)
    assert pixels.shape == (3, round(0.3 / MAP_PIXEL_M), round(0.3 / MAP_PIXEL_M))
    assert pixels[0, 30, 30] == pytest.approx(0.6)
    assert pixels[0].sum() * MAP_PIXEL_M ** 2 == pytest.approx(0.6 * 0.1 * 0.05, rel=0.02)
    assert (pixels[2] == 1.0).all()
