"""
The loops over beams and cells with which a laser scan goes into an obstacle map, compiled.

As with depth images, obstacles are scattered and clearing is gathered: each cell looks up the
beam that passes over it, and at which height it does.
"""

from numba import njit
import numpy as np
from perception_nodes.core.mapping_kernels import NO_CLASS, SLICES

# a beam lower than this frees cells of which nothing is known; a higher one may pass over things
_FREE_BELOW_M = 0.4
_RANGE_ERROR_M = 0.02  # of a range, three standard deviations
_HEIGHT_ERROR = 0.02  # of a beam, per metre: what a robot nods


@njit(cache=True, error_model='numpy')
def count(  # type: ignore[no-untyped-def]
    ranges, angles, near, far, map_from_laser, up, floor, corner, resolution, min_height,
    max_height, counts, seen,
):
    """
    Count the beams that end in each cell on an obstacle, and note at which heights.

    ``counts`` (N, N) int32 and ``seen`` (N, N) uint32 are overwritten, in the map's order.
    """
    first, step = angles
    n = len(counts)
    counts[:] = 0
    seen[:] = 0
    point = np.empty(3)
    for beam in range(len(ranges)):
        distance = ranges[beam]
        if not near <= distance <= far:  # no reading, or what the driver says to discard
            continue
        x, y = distance * np.cos(first + beam * step), distance * np.sin(first + beam * step)
        for i in range(3):
            point[i] = (map_from_laser[i, 0] * x + map_from_laser[i, 1] * y
                        + map_from_laser[i, 3])
        h = up[0] * point[0] + up[1] * point[1] + up[2] * point[2] - floor
        column, row = (point[0] - corner[0]) / resolution, (point[1] - corner[1]) / resolution
        if min_height <= h < max_height and 0.0 <= column < n and 0.0 <= row < n:
            counts[int(row), int(column)] += 1
            seen[int(row), int(column)] |= np.uint32(1) << np.uint32(h / max_height * SLICES)


@njit(cache=True, error_model='numpy')
def update(  # type: ignore[no-untyped-def]
    ranges, angles, near, far, map_from_laser, up, floor, corner, resolution, max_height,
    first_column, first_row, counts, seen, log_odds, heights, classes, weights, odds,
):
    """
    Take one scan's marks and free beams over into the map.

    A cell is free again where a beam goes on behind it at a height at which it was occupied.
    """
    first, step = angles
    turn = 2.0 * np.pi / abs(step)
    n = len(counts)
    hit, miss, lowest, highest, occupied = odds
    at_laser = map_from_laser[:3, 3]
    axes = map_from_laser[:3, :3]
    reach_cells = (far + resolution) / resolution
    middle_column = (at_laser[0] - corner[0]) / resolution
    middle_row = (at_laser[1] - corner[1]) / resolution
    for row in range(max(0, int(middle_row - reach_cells)),
                     min(n, int(middle_row + reach_cells) + 1)):
        at_row = (first_row + row) % n
        dy = (row + 0.5 - middle_row) * resolution
        for column in range(max(0, int(middle_column - reach_cells)),
                            min(n, int(middle_column + reach_cells) + 1)):
            at_column = (first_column + column) % n
            known = log_odds[at_row, at_column]
            before = heights[at_row, at_column]
            if counts[row, column] > 0:
                weight = weights[classes[at_row, at_column]]
                if weight > 0.0:
                    log_odds[at_row, at_column] = min(highest, known + hit * weight)
                    heights[at_row, at_column] = before | seen[row, column]
                continue
            if before == 0 and known < 0.9 * lowest:
                continue  # as free as can be
            dx = (column + 0.5 - middle_column) * resolution
            # where the plane of the beams crosses the upright line through the cell's middle
            dz = -(axes[0, 2] * dx + axes[1, 2] * dy) / axes[2, 2]
            x = axes[0, 0] * dx + axes[1, 0] * dy + axes[2, 0] * dz
            y = axes[0, 1] * dx + axes[1, 1] * dy + axes[2, 1] * dz
            distance = np.sqrt(x * x + y * y)
            at = ((np.arctan2(y, x) - first) / step) % turn
            beam = int(at + 0.5)
            if beam >= turn - 0.5:
                beam = 0
            if beam >= len(ranges):
                continue
            reading = ranges[beam]
            end = far if reading == np.inf else reading
            if not near <= end <= far or distance + 0.7 * resolution + _RANGE_ERROR_M > end:
                continue
            h = (up[0] * (at_laser[0] + dx) + up[1] * (at_laser[1] + dy)
                 + up[2] * (at_laser[2] + dz) - floor)
            if before == 0:
                if 0.0 <= h < _FREE_BELOW_M:
                    log_odds[at_row, at_column] = max(lowest, known - miss)
                continue
            beside = at - beam if beam > 0 else min(at, turn - at)
            if abs(beside * step) * distance > 0.5 * resolution:
                continue  # between two beams a thin thing would be missed
            kept = before & ~_slices(h, 0.5 * max_height / SLICES + _HEIGHT_ERROR * distance,
                                     max_height)
            if kept == before:
                continue
            if kept != 0:
                heights[at_row, at_column] = kept
                continue
            known = max(lowest, known - miss)
            log_odds[at_row, at_column] = known
            if known < occupied:
                heights[at_row, at_column] = 0
                classes[at_row, at_column] = NO_CLASS


@njit(cache=True, inline='always')
def _slices(h, error, max_height):  # type: ignore[no-untyped-def]
    """Return the bits of the slices within ``error`` of a height."""
    low = max(0, int((h - error) / max_height * SLICES))
    high = min(SLICES - 1, int(np.floor((h + error) / max_height * SLICES)))
    bits = np.uint32(0)
    for k in range(low, high + 1):
        bits |= np.uint32(1) << np.uint32(k)
    return bits
