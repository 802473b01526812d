"""
The loops over pixels and cells of :mod:`perception_nodes.core.mapping`, compiled.

Obstacles are scattered from pixels into cells. Clearing is gathered: each cell looks up, at the
heights in question, the one pixel whose ray passes through it there. That is exact at every
distance, leaves no gaps between rays, and costs a tenth of walking along them.
"""

from typing import NamedTuple

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import distort
from perception_nodes.core.semantics import NO_CLASS

SLICES = 32  # of the height of each cell, one bit each
_FLOOR_LOOKS = (0.0, 0.15)  # heights at which a cell without obstacle is looked through
# where a slice of a cell is looked through, until something is known: aside and up, in its size
_PROBES = ((0.0, 0.0), (-0.35, 0.0), (0.35, 0.0), (0.0, -0.45), (0.0, 0.45))
_TAIL = 0.05  # share of its neighbour's readings that a cell may owe to noise alone
_JUMP = 0.04  # share of its depth by which a reading between two surfaces misses both
_TOUCH = 4  # slices to be seen through for each that is seen, which may be an edge's noise
_LEVEL_M = 0.015  # within which readings of neighbouring rows are at one height
_NOISE = 2.0  # standard deviations of depth within which a surface may lie


class Shot(NamedTuple):
    """One depth image, its camera and what is asked of it, as the loops read them."""

    depth: npt.NDArray[np.float32]  # (H, W) metres, read-only
    rays: npt.NDArray[np.float32]  # (H, W, 2), read-only
    pixels: npt.NDArray[np.float64]  # fx, fy, cx, cy
    bent: bool  # whether the lens distorts
    bends: npt.NDArray[np.float64]  # (12,) its coefficients
    bounds: npt.NDArray[np.float64]  # left, right, top, bottom of the rays
    turn: npt.NDArray[np.float64]  # (3, 3) from the camera's axes to the map's
    up: npt.NDArray[np.float64]  # (3,) away from the floor, in the camera's axes
    normal: npt.NDArray[np.float64]  # (3,) the same in the map's axes
    camera_height: float  # over the floor
    camera: npt.NDArray[np.float64]  # (2,) column and row in the map, in cells
    resolution: float
    min_height: float
    min_height_slope: float
    max_height: float
    min_depth: float
    max_depth: float
    min_points: float
    min_area: float  # visible, in pixels at 1 m
    noise: float  # of depth at 1 m


@njit(cache=True)
def census(depth, small, large):  # type: ignore[no-untyped-def]
    """Return how many of some readings there are: all, finite, below and above two limits."""
    readings = finite = below = above = 0
    for row in range(4, depth.shape[0], 16):
        for column in range(4, depth.shape[1], 16):
            z = depth[row, column]
            readings += z > 0.0
            if 0.0 < z < np.inf:
                finite += 1
                below += z < small
                above += z > large
    return readings, finite, below, above


@njit(cache=True, nogil=True, error_model='numpy')
def integrate(  # type: ignore[no-untyped-def]
    shot, first_column, first_row, counts, seen, log_odds, heights, classes, weights, odds,
):
    """Count the obstacles of one view and take it over into the map."""
    count(shot, counts, seen)
    update(
        shot, first_column, first_row, counts, seen, log_odds, heights, classes, weights, odds)


@njit(cache=True, error_model='numpy')
def count(shot, counts, seen):  # type: ignore[no-untyped-def]
    """
    Count the readings of obstacles in each cell, and note at which heights they are.

    ``counts`` (N, N) int32 and ``seen`` (N, N) uint32 are overwritten, in the map's order.
    """
    depth, rays, up = shot.depth, shot.rays, shot.up
    turn, resolution, camera = shot.turn, shot.resolution, shot.camera
    height, width = depth.shape
    n = len(counts)
    counts[:] = 0
    seen[:] = 0
    # all in single precision: twice as many at once
    near, far = np.float32(shot.min_depth), np.float32(shot.max_depth)
    base, low, high = (np.float32(shot.camera_height), np.float32(shot.min_height),
                       np.float32(shot.max_height))
    rise = np.float32(shot.min_height_slope)
    up_x, up_y, up_z = np.float32(up[0]), np.float32(up[1]), np.float32(up[2])
    per_slice = np.float32(SLICES / shot.max_height)
    x_x, x_y, x_z = (np.float32(turn[0, 0] / resolution), np.float32(turn[0, 1] / resolution),
                     np.float32(turn[0, 2] / resolution))
    y_x, y_y, y_z = (np.float32(turn[1, 0] / resolution), np.float32(turn[1, 1] / resolution),
                     np.float32(turn[1, 2] / resolution))
    camera_x, camera_y, size = np.float32(camera[0]), np.float32(camera[1]), np.float32(n)
    zero, none = np.float32(0.0), np.float32(-1.0)
    jump_share, level = np.float32(_JUMP), np.float32(_LEVEL_M)
    in_band = np.empty(width, np.float32)  # height of the row's obstacles, -1 for the rest
    ray_x, ray_y = np.empty(width, np.float32), np.empty(width, np.float32)
    for above_row in range(height - 2):
        row = above_row + 1
        line, above_line, below_line = depth[row], depth[above_row], depth[above_row + 2]
        if shot.bent or above_row == 0:
            ray_x[:] = rays[row, :, 0]
        if shot.bent:
            ray_y[:] = rays[row, :, 1]
        else:  # one value for the whole row: the table of rays need not be read
            ray_y[:] = rays[row, 0, 1]
        for column in range(width):  # without branches, so that it is vectorised
            z = line[column]
            h = base + z * (up_x * ray_x[column] + up_y * ray_y[column] + up_z)
            wanted = (h >= low + rise * z) & (h < high) & (z >= near) & (z <= far)
            in_band[column] = h if wanted else none
        for left in range(width - 2):
            column = left + 1
            h = in_band[column]
            if h < zero:
                continue
            # a reading that hangs between two surfaces is on neither. Most agree with the one
            # before, which is looked at first; NaN agrees with nothing
            z = line[column]
            jump = jump_share * z
            before, above = line[left] - z, above_line[column] - z
            if not abs(before) <= jump:
                after = line[left + 2] - z
                if not abs(after) <= jump and not before * after > zero:
                    continue
            if not abs(above) <= jump:
                below = below_line[column] - z
                if not abs(below) <= jump and not above * below > zero:
                    # unless all three are at one height: a table's top, seen along its plane
                    h_above = base + (z + above) * (
                        up_x * rays[above_row, column, 0] + up_y * rays[above_row, column, 1]
                        + up_z)
                    h_below = base + (z + below) * (
                        up_x * rays[above_row + 2, column, 0]
                        + up_y * rays[above_row + 2, column, 1] + up_z)
                    if not (abs(h_above - h) < level and abs(h_below - h) < level):
                        continue
            x, y = ray_x[column], ray_y[column]
            cell_x = camera_x + z * (x_x * x + x_y * y + x_z)
            cell_y = camera_y + z * (y_x * x + y_y * y + y_z)
            if cell_x >= zero and cell_x < size and cell_y >= zero and cell_y < size:
                i, j = int(cell_y), int(cell_x)
                counts[i, j] += 1
                seen[i, j] |= np.uint32(1) << np.uint32(h * per_slice)


@njit(cache=True, error_model='numpy')
def update(  # type: ignore[no-untyped-def]
    shot, first_column, first_row, counts, seen, log_odds, heights, classes, weights, odds,
):
    """
    Take one view's marks and free rays over into the map.

    ``log_odds`` and ``heights`` are addressed modulo their size, from the map's first cell on.
    """
    n = len(counts)
    hit, miss, lowest, highest, occupied = odds
    # the camera's coordinates of a point over a cell: linear in the cell and in the height
    lift = shot.turn[2] / shot.normal[2]
    along_x = shot.turn[0] - lift * shot.normal[0]
    along_y = shot.turn[1] - lift * shot.normal[1]
    foot = np.empty(3)
    top, bottom, left, right = _in_reach(shot, n)
    for row in range(top, bottom):
        dy = (row + 0.5 - shot.camera[1]) * shot.resolution
        at_row = (first_row + row) % n
        for column in range(left, right):
            at_column = first_column + column
            if at_column >= n:
                at_column -= n
            known = log_odds[at_row, at_column]
            before = heights[at_row, at_column]
            readings = counts[row, column]
            if readings == 0 and before == 0 and known < 0.9 * lowest:
                continue  # as free as can be: there is nothing to learn
            dx = (column + 0.5 - shot.camera[0]) * shot.resolution
            for i in range(3):
                foot[i] = along_x[i] * dx + along_y[i] * dy - lift[i] * shot.camera_height
            if readings >= shot.min_points and _is_marked(
                    shot, counts, row, column, foot[2] + 0.25 * lift[2] * shot.max_height):
                weight = weights[classes[at_row, at_column]]
                if weight > 0.0:
                    log_odds[at_row, at_column] = min(highest, known + hit * weight)
                    heights[at_row, at_column] = before | seen[row, column]
                else:  # it may be there, it is in nobody's way
                    log_odds[at_row, at_column] = min(known, 0.0)
                    heights[at_row, at_column] = 0
                continue
            if _out_of_view(shot, foot, lift):
                continue
            if before == 0:
                free = _floor_is_seen(shot, foot, lift)
            else:
                after = _kept(shot, foot, lift, before)
                free = after == 0
                if not free:
                    heights[at_row, at_column] = after
            if free:
                known = max(lowest, known - miss)
                log_odds[at_row, at_column] = known
                if before != 0 and known < occupied:  # what was there has gone, with its class
                    heights[at_row, at_column] = 0
                    classes[at_row, at_column] = NO_CLASS


@njit(cache=True, error_model='numpy', inline='always')
def _in_reach(shot, n):  # type: ignore[no-untyped-def]
    """Return the rows and columns about all cells that can be in view."""
    # what is in view up to a depth is a pyramid: its box is that of its tip and its four corners
    farthest = 1.5 * n + shot.camera_height / shot.resolution
    top, bottom = shot.camera[1], shot.camera[1]
    left, right = shot.camera[0], shot.camera[0]
    for i in range(4):
        x, y = shot.bounds[i % 2], shot.bounds[2 + i // 2]
        column = shot.camera[0] + farthest * (
            shot.turn[0, 0] * x + shot.turn[0, 1] * y + shot.turn[0, 2])
        row = shot.camera[1] + farthest * (
            shot.turn[1, 0] * x + shot.turn[1, 1] * y + shot.turn[1, 2])
        left, right = min(left, column), max(right, column)
        top, bottom = min(top, row), max(bottom, row)
    return (max(0, int(top) - 1), min(n, int(bottom) + 2),
            max(0, int(left) - 1), min(n, int(right) + 2))


@njit(cache=True, error_model='numpy', inline='always')
def _out_of_view(shot, foot, lift):  # type: ignore[no-untyped-def]
    """Return whether all of a cell's column is surely outside the image, or too near."""
    z, top = foot[2], foot[2] + lift[2] * shot.max_height
    if z <= shot.min_depth or top <= shot.min_depth:
        return z <= shot.min_depth and top <= shot.min_depth
    outside = False
    for i in range(2):
        low, high = shot.bounds[2 * i], shot.bounds[2 * i + 1]
        at, at_top = foot[i], foot[i] + lift[i] * shot.max_height
        outside |= (at < low * z and at_top < low * top) or (at > high * z and at_top > high * top)
    return outside


@njit(cache=True, error_model='numpy', inline='always')
def _is_marked(shot, counts, row, column, z):  # type: ignore[no-untyped-def]
    """Return whether a cell's readings are an obstacle: enough, and no tail of a neighbour's."""
    readings = counts[row, column]
    z = max(z, 0.1)
    if readings < shot.min_area / (z * z):
        return False
    if 4.0 * shot.noise * z * z < shot.resolution:
        return True
    most = 0
    for i in range(max(0, row - 2), min(len(counts), row + 3)):
        for j in range(max(0, column - 2), min(len(counts), column + 3)):
            most = max(most, counts[i, j])
    return readings >= _TAIL * most


@njit(cache=True, error_model='numpy', inline='always')
def _floor_is_seen(shot, foot, lift):  # type: ignore[no-untyped-def]
    """Return whether a ray ends on a cell's floor, or passes just over it."""
    for look in range(len(_FLOOR_LOOKS)):
        if _through(shot, foot, lift, _FLOOR_LOOKS[look], 0.0) > 0:
            return True
    return False


@njit(cache=True, error_model='numpy', inline='always')
def _kept(shot, foot, lift, slices):  # type: ignore[no-untyped-def]
    """
    Return the slices of a cell that this view does not see through.

    Slices that touch are one thing: where most of it is seen through and hardly anything of it is
    seen, what a nearer thing or the image's border hides of it has gone too.
    """
    kept = np.uint32(0)
    run = np.uint32(0)
    passed = hidden = touched = 0
    step = shot.max_height / SLICES
    for k in range(SLICES + 1):
        bit = np.uint32(1) << np.uint32(k) if k < SLICES else np.uint32(0)
        if slices & bit:
            run |= bit
            state = 0
            for i in range(len(_PROBES)):  # a nearer thing, or the image's border, may hide a part
                if state == 0:
                    h = max((k + 0.5 + _PROBES[i][1]) * step, shot.min_height)
                    state = _through(shot, foot, lift, h, _PROBES[i][0] * shot.resolution)
            if state > 0:
                passed += 1
            elif state < 0:
                touched += 1
            else:
                hidden += 1
        elif run:
            if passed == 0 or passed < hidden or passed < _TOUCH * touched:
                kept |= run
            run = np.uint32(0)
            passed = hidden = touched = 0
    return kept


@njit(cache=True, error_model='numpy', inline='always')
def _through(shot, foot, lift, h, aside):  # type: ignore[no-untyped-def]
    """
    Look at a point over a cell: 1 the ray goes through it, -1 ends there, 0 nothing is known.

    ``aside`` is how far to the right of the cell's middle the point lies, metres.

    A ray that ends on the floor behind the point has passed it, however little behind; the
    margin of other surfaces covers the cell and the noise of depth.
    """
    x, y, z = foot[0] + lift[0] * h + aside, foot[1] + lift[1] * h, foot[2] + lift[2] * h
    if z < shot.min_depth:
        return 0
    ray_x, ray_y = x / z, y / z
    if shot.bent:
        ray_x, ray_y = distort(ray_x, ray_y, shot.bends)
    u = shot.pixels[0] * ray_x + shot.pixels[2] + 0.5
    v = shot.pixels[1] * ray_y + shot.pixels[3] + 0.5
    height, width = shot.depth.shape
    if not (u >= 0.0 and u < width and v >= 0.0 and v < height):
        return 0
    row, column = int(v), int(u)
    reading = shot.depth[row, column]
    if np.isnan(reading):  # a speck without reading: the next one will do
        reading = shot.depth[row, min(column + 2, width - 1)]
        if np.isnan(reading):
            reading = shot.depth[row, max(column - 2, 0)]
    blur = shot.noise * z * z
    margin = 0.7 * shot.resolution + _NOISE * blur
    if reading > z + margin:
        return 1
    if not reading > z - margin:  # nearer, or no reading
        return 0
    end = shot.camera_height + (h - shot.camera_height) * reading / z
    is_floor = end < shot.min_height + shot.min_height_slope * reading
    if h == 0.0:  # what is seen before the cell may be the foot of a wall
        return 1 if is_floor and reading > z - 0.5 * blur else 0
    if is_floor and reading > z:
        return 1
    # behind the cell, but not by more than noise may do
    return 0 if reading > z + 0.7 * shot.resolution else -1


@njit(cache=True)
def fade(  # type: ignore[no-untyped-def]
    log_odds, heights, classes, elapsed_s, memory_s, memories_s, occupied,
):
    """Let all cells return towards unknown, each class in its own time."""
    decays = np.empty(len(memories_s), np.float32)
    for i in range(len(decays)):
        decays[i] = np.exp(-elapsed_s / (memories_s[i] if memories_s[i] > 0.0 else memory_s))
    for row in range(len(log_odds)):
        for column in range(len(log_odds)):
            known = log_odds[row, column] * decays[classes[row, column]]
            log_odds[row, column] = known
            if heights[row, column] and known < occupied:
                heights[row, column] = 0
                classes[row, column] = NO_CLASS


@njit(cache=True)
def publishable(  # type: ignore[no-untyped-def]
    log_odds, classes, costs, first_column, first_row, free, occupied, cells,
):
    """Write 0 for free, a cost for occupied, -1 for unknown into ``cells``, in the map's order."""
    n = len(log_odds)
    for row in range(n):
        at_row = (first_row + row) % n
        for column in range(n):
            at_column = first_column + column
            if at_column >= n:
                at_column -= n
            known = log_odds[at_row, at_column]
            if known > occupied:
                cells[row, column] = costs[classes[at_row, at_column]]
            elif known < free:
                cells[row, column] = 0
            else:
                cells[row, column] = -1


@njit(cache=True, error_model='numpy')
def classify(  # type: ignore[no-untyped-def]
    shot, ids, step, first_column, first_row, log_odds, classes, occupied,
):
    """
    Give each cell in view the class of most of its readings: of its obstacle, or of its floor.

    The majority is found in one pass (Boyer and Moore 1981).
    """
    n = len(log_odds)
    votes = np.zeros((n, n), np.int32)
    chosen = np.full((n, n), NO_CLASS, np.uint8)
    for row in range(step // 2, shot.depth.shape[0], step):
        for column in range(step // 2, shot.depth.shape[1], step):
            z = shot.depth[row, column]
            label = ids[row, column]
            if label >= NO_CLASS or not shot.min_depth <= z <= shot.max_depth:
                continue
            x, y = shot.rays[row, column, 0] * z, shot.rays[row, column, 1] * z
            h = shot.camera_height + x * shot.up[0] + y * shot.up[1] + z * shot.up[2]
            u = shot.camera[0] + (x * shot.turn[0, 0] + y * shot.turn[0, 1]
                                  + z * shot.turn[0, 2]) / shot.resolution
            v = shot.camera[1] + (x * shot.turn[1, 0] + y * shot.turn[1, 1]
                                  + z * shot.turn[1, 2]) / shot.resolution
            if not (h < shot.max_height and 0.0 <= u < n and 0.0 <= v < n):
                continue
            i, j = (first_row + int(v)) % n, (first_column + int(u)) % n
            is_obstacle = h >= shot.min_height + shot.min_height_slope * z
            if is_obstacle != (log_odds[i, j] > occupied):
                continue
            if chosen[i, j] == label:
                votes[i, j] += 1
            elif votes[i, j] == 0:
                chosen[i, j], votes[i, j] = label, 1
            else:
                votes[i, j] -= 1
    for i in range(n):
        for j in range(n):
            if votes[i, j] > 0:
                classes[i, j] = chosen[i, j]


@njit(cache=True, error_model='numpy')
def obstacle_points(  # type: ignore[no-untyped-def]
    shot, step, first_column, first_row, log_odds, occupied, points,
):
    """
    Write every ``step``-th reading that lies in an occupied cell into ``points``.

    :return: How many were written.
    """
    n = len(log_odds)
    written = 0
    for row in range(step // 2, shot.depth.shape[0], step):
        for column in range(step // 2, shot.depth.shape[1], step):
            z = shot.depth[row, column]
            x, y = shot.rays[row, column, 0] * z, shot.rays[row, column, 1] * z
            h = shot.camera_height + x * shot.up[0] + y * shot.up[1] + z * shot.up[2]
            if not (shot.min_height + shot.min_height_slope * z <= h < shot.max_height
                    and shot.min_depth <= z <= shot.max_depth):
                continue
            u = shot.camera[0] + (x * shot.turn[0, 0] + y * shot.turn[0, 1]
                                  + z * shot.turn[0, 2]) / shot.resolution
            v = shot.camera[1] + (x * shot.turn[1, 0] + y * shot.turn[1, 1]
                                  + z * shot.turn[1, 2]) / shot.resolution
            if (0.0 <= u < n and 0.0 <= v < n
                    and log_odds[(first_row + int(v)) % n,
                                 (first_column + int(u)) % n] > occupied):
                points[written, 0], points[written, 1], points[written, 2] = x, y, z
                written += 1
    return written


@njit(cache=True, error_model='numpy')
def ray_ends(depth, rays, step, least, most, ends):  # type: ignore[no-untyped-def]
    """
    Write where every ``step``-th valid ray ends, at most at a depth of ``most``, into ``ends``.

    :return: How many were written.
    """
    written = 0
    for row in range(step // 2, depth.shape[0], step):
        for column in range(step // 2, depth.shape[1], step):
            z = min(depth[row, column], np.float32(most))
            x, y = rays[row, column, 0], rays[row, column, 1]
            if z >= least and not np.isnan(x):
                ends[written, 0], ends[written, 1], ends[written, 2] = x * z, y * z, z
                written += 1
    return written


@njit(cache=True, error_model='numpy')
def sweep(base_from_camera, obstacles, ends, ranges):  # type: ignore[no-untyped-def]
    """
    Turn points of a camera into the ranges of a laser around the robot, all about it.

    ``ranges`` (N,) gets the nearest obstacle of each beam, +inf where rays end without one, and
    keeps what it has elsewhere and where that is nearer.
    """
    n = len(ranges)
    for i in range(len(obstacles) + len(ends)):
        p = obstacles[i] if i < len(obstacles) else ends[i - len(obstacles)]
        x = (base_from_camera[0, 0] * p[0] + base_from_camera[0, 1] * p[1]
             + base_from_camera[0, 2] * p[2] + base_from_camera[0, 3])
        y = (base_from_camera[1, 0] * p[0] + base_from_camera[1, 1] * p[1]
             + base_from_camera[1, 2] * p[2] + base_from_camera[1, 3])
        beam = int((np.arctan2(y, x) + np.pi) / (2.0 * np.pi) * n) % n
        if i >= len(obstacles):
            if np.isnan(ranges[beam]):
                ranges[beam] = np.inf
        elif not ranges[beam] <= np.sqrt(x * x + y * y):
            ranges[beam] = np.sqrt(x * x + y * y)


@njit(cache=True, error_model='numpy')
def sweep_memory(  # type: ignore[no-untyped-def]
    log_odds, first_column, first_row, at_x, at_y, yaw, resolution, reach, free, occupied, ranges,
):
    """
    Add what a map remembers to the ranges of a laser around the robot.

    ``ranges`` (N,) gets the nearest occupied cell of each beam where that is nearer. Beams
    without any are +inf where the map knows the first 2 m to be free; what is nearer than 0.8 m
    need not be known, because cameras do not see their own feet.

    :param first_column: Where in ``log_odds`` the map begins, and ``first_row``.
    :param at_x: Where the robot is, metres from the corner of the map, and ``at_y``.
    :param yaw: Where beam 0 begins, radians.
    :param reach: Metres that are looked through.
    """
    n, beams = len(log_odds), len(ranges)
    step = 0.5 * resolution
    for beam in range(beams):
        angle = yaw + (beam + 0.5) / beams * 2.0 * np.pi - np.pi
        c, s = np.cos(angle), np.sin(angle)
        known = True
        distance = step
        while distance < reach:
            column = int(np.floor((at_x + distance * c) / resolution))
            row = int(np.floor((at_y + distance * s) / resolution))
            if not (0 <= column < n and 0 <= row < n):
                break
            odds = log_odds[(row + first_row) % n, (column + first_column) % n]
            if odds > occupied:
                if not ranges[beam] <= distance:
                    ranges[beam] = distance
                break
            if odds >= free and 0.8 < distance < 2.0:
                known = False
            distance += step
        if known and np.isnan(ranges[beam]):
            ranges[beam] = np.inf
