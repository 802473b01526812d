"""What stands on a support plane, seen from above: a map of heights made from one depth image."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import (
    check_size,
    distort,
    distortion_coefficients,
    fit_plane,
    inverse,
    pixel_rays,
    Plane,
    read_only,
)
from perception_nodes.core.types import CameraIntrinsics

# depth whose median is outside is in another unit, or of no table-top camera
PLAUSIBLE_M = (0.1, 5.0)
_SAMPLE_STEP = 8  # pixels between the readings that the plane is fitted to
_LEAST_SAMPLE = 60
_LEVEL_DEG = 15.0  # that a support plane may lean
_LEAST_SHARE = 0.12  # of the readings, that lie on a support plane
_NOISY_M = 0.002  # readings that scatter more about the plane are smoothed over 5 x 5 pixels
_SCALE_LIMITS = (0.85, 1.15)
_SHADOW_STEP_M = 0.005
_LOW_M, _BESIDE_M = 0.008, 0.03  # lower things cast no shadow to speak of; around others, look
_SAME_SURFACE_M = 0.010  # readings of one cell within this of its highest are its top


class NoSupportError(ValueError):
    """There is nothing to plan on; the message says why, in one sentence."""


@dataclass(frozen=True, eq=False)
class Support:
    """The plane that things stand on, in the camera's optical frame after ``scale``."""

    plane: Plane
    noise_m: float  # standard deviation of readings about it
    scale: float  # that depth was multiplied with


@dataclass(frozen=True, eq=False)
class HeightMap:
    """
    Heights over a plane on a regular grid, in a frame whose z axis is the approach's opposite.

    Row i, column j is the cell around x = origin_m[0] + (j + 0.5) cell_m and
    y = origin_m[1] + (i + 0.5) cell_m. Cells that no reading fell into are unknown: ``top_m``
    is the support plane there and ``upper_m`` how high something unseen can be.
    """

    top_m: npt.NDArray[np.float32]  # (R, C) highest reading, or the support where unknown
    upper_m: npt.NDArray[np.float32]  # (R, C) as top_m, or the top of the unseen space
    known: npt.NDArray[np.bool_]  # (R, C)
    support_m: npt.NDArray[np.float32]  # (R, C) height of the support plane; 0 if it is level
    origin_m: tuple[float, float]  # outer corner of cell (0, 0)
    cell_m: float
    camera_from_map: npt.NDArray[np.float64]  # (4, 4)


class Placing(NamedTuple):
    """
    Where readings come to lie on a map, as compiled loops read it.

    A reading at depth z along the ray (u, v, 1) is at column z (cu u + cv v + c1) + c0, likewise
    at its row, both in cells, and at its height in metres.
    """

    cu: float
    cv: float
    c1: float
    c0: float
    ru: float
    rv: float
    r1: float
    r0: float
    hu: float
    hv: float
    h1: float
    h0: float


def placing(
    camera_from_map: npt.NDArray[np.float64], origin_m: tuple[float, float], cell_m: float
) -> Placing:
    """Return where readings lie on a map; see :class:`HeightMap`."""
    map_from_camera = inverse(camera_from_map)[:3]
    map_from_camera[:2, 3] -= origin_m
    map_from_camera[:2] /= cell_m
    return Placing(*map_from_camera.ravel().tolist())


@njit(cache=True, error_model='numpy')
def cell_of(placing, rays, depth, r, c):  # type: ignore[no-untyped-def]
    """Return row and column on a map, fractions of cells, and height of a pixel's reading."""
    z, u, v = depth[r, c], rays[r, c, 0], rays[r, c, 1]
    return (z * (placing.ru * u + placing.rv * v + placing.r1) + placing.r0,
            z * (placing.cu * u + placing.cv * v + placing.c1) + placing.c0,
            z * (placing.hu * u + placing.hv * v + placing.h1) + placing.h0)


def find_support(
    depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics,
    up: npt.NDArray[np.float64] | None = None, camera_height_m: float | None = None,
) -> Support:
    """
    Find the plane that objects stand on.

    RANSAC over a sample of the readings; planes that lean are put aside where ``up`` tells so.

    :param depth_m: (H, W) metres, not positive or not finite where there is no reading.
    :param up: (3,) direction against gravity in the camera's frame, if known.
    :param camera_height_m: Height of the camera over the support, if known. Depth is then
        scaled to agree with it, and of several planes the one that fits best is taken.
    :raises NoSupportError: If there are too few readings, they are in another unit, or no plane is
        among them.
    """
    check_size(depth_m, intrinsics)
    part = slice(_SAMPLE_STEP // 2, None, _SAMPLE_STEP)
    z = depth_m[part, part]
    valid = np.isfinite(z) & (z > 0.0)
    if np.count_nonzero(valid) < _LEAST_SAMPLE:
        share = np.count_nonzero(valid) / max(valid.size, 1)
        raise NoSupportError(
            f'only {share:.1%} of the depth readings are valid; is something too near, or the '
            'depth stream empty?')
    median_m = float(np.median(z[valid]))
    if not PLAUSIBLE_M[0] <= median_m <= PLAUSIBLE_M[1]:
        raise NoSupportError(
            f'the median depth is {median_m:.4g} m; {PLAUSIBLE_M[0]} to {PLAUSIBLE_M[1]} m are '
            'plausible: 32FC1 must be metres and 16UC1 millimetres')
    rays = pixel_rays(intrinsics)[part, part][valid].astype(np.float64)
    z = z[valid].astype(np.float64)
    points = np.column_stack([rays * z[:, None], z])
    points = points[np.isfinite(points).all(axis=1)]
    return _best_plane(points, median_m, up, camera_height_m)


def _best_plane(
    points: npt.NDArray[np.float64], median_m: float, up: npt.NDArray[np.float64] | None,
    camera_height_m: float | None,
) -> Support:
    tolerance_m = 0.006 + 0.006 * median_m
    least = max(_LEAST_SAMPLE, _LEAST_SHARE * len(points))
    found: list[tuple[float, Support]] = []
    rest = points
    for _ in range(3):
        if len(rest) < least:
            break
        plane = fit_plane(rest, tolerance_m, trials=100)
        heights = plane.heights_m(rest)
        near = np.abs(heights) < tolerance_m
        votes = int(np.count_nonzero(near))
        if votes < least:
            break
        is_level = up is None or float(plane.normal @ up) > np.cos(np.radians(_LEVEL_DEG))
        scale = 1.0 if camera_height_m is None else camera_height_m / -plane.offset_m
        if is_level and _SCALE_LIMITS[0] < scale < _SCALE_LIMITS[1]:
            merit = float(votes) if camera_height_m is None else -abs(np.log(scale))
            noise_m = 1.4826 * float(np.median(np.abs(heights[near])))
            found.append((merit, Support(
                Plane(plane.normal, plane.offset_m * scale), noise_m, scale)))
            if votes > 0.5 * len(points):
                break
        rest = rest[~near]
    if not found:
        what = 'plane' if up is None and camera_height_m is None else 'level plane'
        where = '' if camera_height_m is None else (
            f' about {camera_height_m:.2f} m below the camera')
        raise NoSupportError(f'no {what}{where} is seen that objects could stand on')
    return max(found, key=lambda pair: pair[0])[1]


def smoothed(
    depth_m: npt.NDArray[np.float32], support: Support
) -> npt.NDArray[np.float32]:
    """
    Return depth scaled and without its noise: the median of 3 x 3 pixels, or 5 x 5 if noisy.

    :return: (H, W) metres, 0 where there is no reading.
    """
    clean = np.where(np.isfinite(depth_m) & (depth_m > 0.0), depth_m, np.float32(0.0))
    size = 5 if support.noise_m > _NOISY_M else 3
    filtered = cv2.medianBlur(np.ascontiguousarray(clean, np.float32), size)
    filtered[clean == 0.0] = 0.0
    return np.asarray(filtered * np.float32(support.scale), np.float32)


def approach_frame(
    support: Support, tilt_rad: float = 0.0, azimuth_rad: float = 0.0
) -> npt.NDArray[np.float64]:
    """
    Return (4, 4) camera_from_map of a map whose z axis leans by ``tilt_rad`` from the normal.

    The origin is the foot of the camera on the support plane.
    """
    z = support.plane.normal
    x = np.array([1.0, 0.0, 0.0]) - z[0] * z
    if np.linalg.norm(x) < 1e-3:
        x = np.array([0.0, 0.0, 1.0]) - z[2] * z
    x /= np.linalg.norm(x)
    level = np.column_stack([x, np.cross(z, x), z])
    lean, around = (_turn(tilt_rad, 1), _turn(azimuth_rad, 2))
    camera_from_map = np.eye(4)
    camera_from_map[:3, :3] = level @ around @ lean @ around.T
    camera_from_map[:3, 3] = support.plane.normal * support.plane.offset_m
    return camera_from_map


def _turn(angle_rad: float, axis: int) -> npt.NDArray[np.float64]:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    if axis == 1:
        return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def make_height_map(
    depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics, support: Support,
    camera_from_map: npt.NDArray[np.float64], bounds_m: tuple[float, float, float, float],
    cell_m: float,
) -> HeightMap:
    """
    Make the map of one smoothed depth image.

    :param depth_m: Depth of :func:`smoothed`.
    :param camera_from_map: Frame of the map; see :func:`approach_frame`.
    :param bounds_m: Smallest x and y, largest x and y in that frame.
    """
    x0, y0, x1, y1 = bounds_m
    shape = (max(1, round((y1 - y0) / cell_m)), max(1, round((x1 - x0) / cell_m)))
    image = read_only(depth_m)
    top = _raster(
        image, pixel_rays(intrinsics), placing(camera_from_map, (x0, y0), cell_m), *shape)
    _close_gaps(top)
    normal = camera_from_map[:3, :3].T @ support.plane.normal
    offset = support.plane.offset_m - float(
        support.plane.normal @ camera_from_map[:3, 3])
    columns = x0 + (np.arange(shape[1]) + 0.5) * cell_m
    rows = y0 + (np.arange(shape[0]) + 0.5) * cell_m
    base = ((offset - normal[0] * columns[None, :] - normal[1] * rows[:, None])
            / normal[2]).astype(np.float32)
    known = np.isfinite(top)
    np.copyto(top, base, where=~known)
    lens = (intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy)
    upper = _shadow(
        image, lens, distortion_coefficients(intrinsics),
        np.ascontiguousarray(camera_from_map), top, base, known,
        _near_objects(top - base, cell_m), x0, y0, cell_m)
    return HeightMap(top, upper, known, base, (x0, y0), cell_m, camera_from_map)


def _near_objects(over_m: npt.NDArray[np.float32], cell_m: float) -> npt.NDArray[np.bool_]:
    """Return the cells that fingers beside an object may come to."""
    high = (over_m > _LOW_M).astype(np.uint8)
    size = 2 * round(_BESIDE_M / cell_m) + 1
    return np.asarray(cv2.dilate(high, np.ones((size, size), np.uint8)) > 0)


@njit(cache=True, error_model='numpy')
def object_bounds(  # type: ignore[no-untyped-def]
    depth, rays, turn, shift, normal, offset, low, high, left, upper, right, lower, sums,
):
    """Count readings of a window between two heights over the plane, by centimetre of x and y."""
    half = sums.shape[1] // 2
    for row in range(upper, lower, 2):
        for column in range(left, right, 2):
            z = depth[row, column]
            if not z > 0.0:
                continue
            px, py = rays[row, column, 0] * z, rays[row, column, 1] * z
            height = normal[0] * px + normal[1] * py + normal[2] * z - offset
            if not low < height < high:
                continue
            x = turn[0, 0] * px + turn[0, 1] * py + turn[0, 2] * z + shift[0]
            y = turn[1, 0] * px + turn[1, 1] * py + turn[1, 2] * z + shift[1]
            i, j = int(np.floor(x * 100.0)) + half, int(np.floor(y * 100.0)) + half
            if 0 <= i < sums.shape[1] and 0 <= j < sums.shape[1]:
                sums[0, i] += 1
                sums[1, j] += 1


@njit(cache=True, error_model='numpy')
def _raster(depth, rays, placing, rows, columns):  # type: ignore[no-untyped-def]
    """Return the height of the highest surface in each cell, NaN where nothing was seen."""
    top = np.full(rows * columns, np.float32(-np.inf), np.float32)
    count = np.zeros(rows * columns, np.int32)
    total = np.zeros(rows * columns, np.float32)
    cells = np.empty(depth.size, np.int32)
    heights = np.empty(depth.size, np.float32)
    n = 0
    for r in range(depth.shape[0]):
        for c in range(depth.shape[1]):
            if not depth[r, c] > 0.0:
                continue
            i, j, height = cell_of(placing, rays, depth, r, c)
            if not (0.0 <= i < rows and 0.0 <= j < columns):
                continue
            k, h = np.int32(i) * columns + np.int32(j), np.float32(height)
            top[k] = max(top[k], h)
            cells[n], heights[n] = k, h
            n += 1
    for m in range(n):
        k = cells[m]
        if heights[m] > top[k] - _SAME_SURFACE_M:
            count[k] += 1
            total[k] += heights[m]
    for k in range(len(top)):
        top[k] = total[k] / count[k] if count[k] > 0 else np.float32(np.nan)
    return top.reshape(rows, columns)


@njit(cache=True, error_model='numpy')
def _close_gaps(top):  # type: ignore[no-untyped-def]
    """Fill cells between pixels: unknown ones with at least five known neighbours, twice."""
    rows, columns = top.shape
    for _ in range(2):
        before = top.copy()
        for i in range(1, rows - 1):
            for j in range(1, columns - 1):
                if not np.isnan(before[i, j]):
                    continue
                total, count = 0.0, 0
                for a in range(-1, 2):
                    for b in range(-1, 2):
                        if not np.isnan(before[i + a, j + b]):
                            total += before[i + a, j + b]
                            count += 1
                if count >= 5:
                    top[i, j] = total / count


@njit(cache=True, error_model='numpy')
def _shadow(  # type: ignore[no-untyped-def]
    depth, lens, bends, camera_from_map, top, base, known, wanted, x0, y0, cell,
):
    """Return how high something could be without having been seen, in cells without reading."""
    rows, columns = top.shape
    upper = top.copy()
    bent = np.any(bends)
    fx, fy, cu, cv = lens
    m00, m01, m02, m03 = camera_from_map[0]
    m10, m11, m12, m13 = camera_from_map[1]
    m20, m21, m22, m23 = camera_from_map[2]
    highest = np.float32(0.0)
    for i in range(rows):
        for j in range(columns):
            if known[i, j]:
                highest = max(highest, top[i, j])
    for i in range(rows):
        for j in range(columns):
            if known[i, j] or not wanted[i, j]:
                continue
            x, y = x0 + (j + 0.5) * cell, y0 + (i + 0.5) * cell
            h = np.float64(highest)
            step = 4.0 * _SHADOW_STEP_M
            px, py, pz = m00 * x + m01 * y + m03, m10 * x + m11 * y + m13, m20 * x + m21 * y + m23
            # coarse steps down to where something can hide, then fine ones from the last free
            while h > base[i, j]:
                if _hides(depth, fx, fy, cu, cv, bends, bent,
                          px + m02 * h, py + m12 * h, pz + m22 * h):
                    if step == _SHADOW_STEP_M or h == highest:
                        upper[i, j] = h
                        break
                    h += step
                    step = _SHADOW_STEP_M
                h -= step
    return upper


@njit(cache=True, error_model='numpy')
def _hides(depth, fx, fy, cu, cv, bends, bent, px, py, pz):  # type: ignore[no-untyped-def]
    """Return whether a place is behind what was seen, or outside of the image."""
    if not pz > 0.0:
        return True
    u, v = px / pz, py / pz
    if bent:
        u, v = distort(u, v, bends)
    column, row = fx * u + cu + 0.5, fy * v + cv + 0.5
    if not (0.0 <= row < depth.shape[0] and 0.0 <= column < depth.shape[1]):
        return True
    return 0.0 < depth[np.int64(row), np.int64(column)] < pz - 0.01
