"""
What floats on water, from a segmentation: where it meets the water tells how far it is.

A camera whose height over the water and whose attitude are known sees each point of the surface
along one ray, so that the line where an obstacle begins gives its distance, without any depth
(the horizon and the water plane of an IMU: Bovcon et al., "Stereo obstacle detection for unmanned
surface vehicles by IMU-assisted semantic segmentation", 2018). The result is a depth image, of
which a map is made as of any other.
"""

from dataclasses import dataclass

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import (
    check_size,
    distort,
    distortion_coefficients,
    pixel_rays,
    read_only,
)
from perception_nodes.core.types import CameraIntrinsics

VOID, WATER, OTHER = 0, 1, 2  # what a pixel may show
_LEAST_LEVEL = 0.2  # cosine of how steeply a camera may look up or down
_WIDEST = 3.0  # tangent of the rays that are worked on, from straight ahead
_HORIZON_ROWS = 1.5  # below the horizon, within which a distance is not to be told
_LEAST_READINGS = 5  # of depth on a thing that are believed instead of where it meets the water


@dataclass(frozen=True, eq=False)
class WaterPlane:
    """Where the surface is, as a camera sees it."""

    up: npt.NDArray[np.float64]  # (3,) against gravity, in the camera's optical frame
    camera_height_m: float  # of the camera over the water

    def __post_init__(self) -> None:
        if not self.camera_height_m > 0.0:
            raise ValueError(
                f'the camera is {self.camera_height_m:.3g} m over the water; it must be above: '
                "check the transforms and 'ground_height_m'")

    def horizon(self, intrinsics: CameraIntrinsics) -> npt.NDArray[np.float64]:
        """
        Return the line along which the camera sees the horizon, without the lens's distortion.

        :return: (3,) a, b, c of ``a * column + b * row + c = 0``, in pixels of distance; below
            the horizon the left side is negative.
        """
        k = intrinsics
        a, b = self.up[0] / k.fx, self.up[1] / k.fy
        line = np.array([a, b, self.up[2] - a * k.cx - b * k.cy])
        return np.asarray(line / np.hypot(a, b))

    def range_error_m(self, range_m: float, intrinsics: CameraIntrinsics) -> float:
        """Return how much a range changes with one row of the image."""
        return range_m ** 2 / (self.camera_height_m * intrinsics.fy)


def sort_classes(
    ids: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], water_ids: frozenset[int]
) -> npt.NDArray[np.uint8]:
    """
    Return (H, W) WATER, OTHER, or VOID where a mask says nothing.

    :param ids: (H, W) class of each pixel; 255 and more are no class.
    """
    kinds = np.where(ids < 255, np.uint8(OTHER), np.uint8(VOID))
    kinds[np.isin(ids, list(water_ids))] = WATER
    return kinds


def water_depth(
    kinds: npt.NDArray[np.uint8], plane: WaterPlane, intrinsics: CameraIntrinsics,
    depth_m: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """
    Return the depth image that water and the things on it would give.

    Water is as far as its plane. A thing is as far as the water just below it, all of it, unless
    enough of its own depth is known, which is taken then; depth readings of water are not used,
    as what a stereo camera measures there is a reflection. What begins at the horizon or above
    it, such as the sky or a bridge, has a bearing but no distance and is beyond range: all water
    up to there is seen to be free. What has no foot in view, cut off by the lower border of the
    image or next to pixels of no class, is unknown.

    :param kinds: (H, W) from :func:`sort_classes`.
    :param depth_m: (H, W) metres of a depth camera.
    :return: (H, W) float32 metres along the optical axis, read-only: NaN unknown, +inf beyond
        range.
    :raises ValueError: If sizes do not agree, or the camera looks straight up or down.
    """
    check_size(kinds, intrinsics)
    if depth_m is None:
        depth_m = np.full(kinds.shape, np.nan, np.float32)
    check_size(depth_m, intrinsics)
    level_from_camera = _level_from_camera(plane.up)
    rays = pixel_rays(intrinsics)
    bounds = _level_bounds(rays, level_from_camera)
    k = intrinsics
    out = np.empty(kinds.shape, np.float32)
    _fill(read_only(kinds), read_only(depth_m), rays, np.array([k.fx, k.fy, k.cx, k.cy]),
          any(k.distortion), distortion_coefficients(k), level_from_camera, plane.camera_height_m,
          bounds, max(k.fx, k.fy), out)
    return read_only(out)


def _level_from_camera(up: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the (3, 3) turn into a camera that looks the same way, but level (y down)."""
    down = -up / np.linalg.norm(up)
    ahead = np.array([0.0, 0.0, 1.0]) - down[2] * down
    length = np.linalg.norm(ahead)
    if length < _LEAST_LEVEL:
        raise ValueError(
            'the camera looks straight up or down; it must see towards the horizon to find what '
            'stands on the water')
    ahead /= length
    return np.stack([np.cross(down, ahead), down, ahead])


def _level_bounds(
    rays: npt.NDArray[np.float32], level_from_camera: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return left, right, top and bottom of the image at z = 1 of the level camera."""
    edge = np.concatenate([rays[0], rays[-1], rays[:, 0], rays[:, -1]])
    edge = edge[~np.isnan(edge[:, 0])].astype(np.float64)
    level = np.column_stack([edge, np.ones(len(edge))]) @ level_from_camera.T
    ahead = np.maximum(level[:, 2], 1e-3)
    xy = np.clip(level[:, :2] / ahead[:, None], -_WIDEST, _WIDEST)
    return np.array([xy[:, 0].min(), xy[:, 0].max(), xy[:, 1].min(), xy[:, 1].max()])


@njit(cache=True, error_model='numpy')
def _fill(  # type: ignore[no-untyped-def]
    kinds, depth, rays, pixels, bent, bends, turn, camera_height, bounds, focal, out,
):
    """Write depth for every pixel: by way of an image in which plumb lines are columns."""
    columns = int((bounds[1] - bounds[0]) * focal) + 2
    rows = int((bounds[3] - bounds[2]) * focal) + 2
    # depth in the level camera; NaN unknown, -1 where the thing's own readings are believed
    level = np.empty((rows, columns), np.float32)
    height, width = kinds.shape
    kind = np.empty(rows, np.int8)
    reading = np.empty(rows, np.float32)
    for column in range(columns):
        x = bounds[0] + column / focal
        for row in range(rows):
            y = bounds[2] + row / focal
            kind[row], reading[row] = VOID, np.nan
            z_camera = turn[0, 2] * x + turn[1, 2] * y + turn[2, 2]
            if z_camera <= 0.0:
                continue
            ray_x = (turn[0, 0] * x + turn[1, 0] * y + turn[2, 0]) / z_camera
            ray_y = (turn[0, 1] * x + turn[1, 1] * y + turn[2, 1]) / z_camera
            if bent:
                ray_x, ray_y = distort(ray_x, ray_y, bends)
            u = int(np.floor(pixels[0] * ray_x + pixels[2] + 0.5))
            v = int(np.floor(pixels[1] * ray_y + pixels[3] + 0.5))
            if 0 <= u < width and 0 <= v < height:
                kind[row], reading[row] = kinds[v, u], depth[v, u]
        _stand(kind, reading, camera_height, bounds[2], focal, level[:, column])
    for v in range(height):
        for u in range(width):
            out[v, u] = np.nan
            ray_x, ray_y = rays[v, u, 0], rays[v, u, 1]
            ahead = turn[2, 0] * ray_x + turn[2, 1] * ray_y + turn[2, 2]
            if np.isnan(ray_x) or ahead <= 0.0:
                continue
            below = turn[1, 0] * ray_x + turn[1, 1] * ray_y + turn[1, 2]
            if kinds[v, u] == WATER:
                if below > 0.0:
                    out[v, u] = camera_height / below
                continue
            aside = turn[0, 0] * ray_x + turn[0, 1] * ray_y + turn[0, 2]
            row = int((below / ahead - bounds[2]) * focal + 0.5)
            column = int((aside / ahead - bounds[0]) * focal + 0.5)
            if kinds[v, u] == OTHER and 0 <= row < rows and 0 <= column < columns:
                z = level[row, column]
                if z > 0.0:
                    out[v, u] = z / ahead
                elif z < 0.0 and depth[v, u] < np.inf:
                    out[v, u] = depth[v, u]


@njit(cache=True, error_model='numpy')
def _stand(kind, reading, camera_height, top, focal, level):  # type: ignore[no-untyped-def]
    """Stand the things of one column, from the bottom up, on the water that is just below."""
    rows = len(kind)
    row = rows - 1
    while row >= 0:
        if kind[row] != OTHER:
            level[row] = np.nan
            row -= 1
            continue
        end = row
        readings = 0
        while row >= 0 and kind[row] == OTHER:
            readings += 0.0 < reading[row] < np.inf
            row -= 1
        contact = top + (end + 0.5) / focal
        z = np.float32(np.nan)
        if readings >= _LEAST_READINGS:
            z = np.float32(-1.0)
        elif end + 1 < rows and kind[end + 1] == WATER:
            is_far = contact * focal < _HORIZON_ROWS
            z = np.float32(np.inf if is_far else camera_height / contact)
        level[row + 1:end + 1] = z
