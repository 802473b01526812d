"""
The rules of maps that others use, written again from their documentation, to compare with.

All of them know the floor only from the transforms, and read the same depth images. Their limits
are set as wide as ours, so that differences come from the rule and not from a default.
"""

from collections.abc import Callable
from typing import Protocol

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import deproject, transform_points
from perception_nodes.core.mapping import MappingParams, ObstacleMapper
from perception_nodes.core.types import CameraIntrinsics

_FLOOR_LIMIT_M = 0.05  # what users set as min_obstacle_height for a depth camera
_VOXELS = 16


class Mapper(Protocol):
    """A square map around the origin, fed with depth images."""

    def show(
        self, depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics,
        map_from_camera: npt.NDArray[np.float64], stamp_ns: int,
    ) -> None:
        """Take a depth image over into the map."""

    def occupied(self) -> npt.NDArray[np.bool_]:
        """Return the (N, N) cells that are occupied, rows along y, centred on the origin."""
        ...


class OurRule:
    """The mapper of this package, for a robot that stays at the origin."""

    def __init__(self, params: MappingParams) -> None:
        self.mapper = ObstacleMapper(params)

    def show(
        self, depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics,
        map_from_camera: npt.NDArray[np.float64], stamp_ns: int,
    ) -> None:
        """Mark and clear."""
        view = self.mapper.view(depth_m, intrinsics, map_from_camera, np.eye(4))
        self.mapper.move(np.eye(4), stamp_ns)
        self.mapper.integrate(view)

    def occupied(self) -> npt.NDArray[np.bool_]:
        """Return the cells that are not free any more; unknown ones are not occupied."""
        return self.mapper.occupancy().cells == 100


class VoxelLayerRule:
    """
    Nav2's VoxelLayer: sixteen voxels per cell, marked by points, cleared along rays to points.

    Points outside the height limits are dropped before both, and depth beyond range makes no
    point at all.
    """

    def __init__(self, params: MappingParams) -> None:
        self.params = params
        n = params.cells
        self._voxels = np.zeros((n, n, _VOXELS), bool)

    def show(
        self, depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics,
        map_from_camera: npt.NDArray[np.float64], stamp_ns: int,
    ) -> None:
        """Clear along all rays of the cloud, then mark its points."""
        p = self.params
        points = _points_in_band(depth_m, intrinsics, map_from_camera, p)
        origin = np.array([p.size_m / 2, p.size_m / 2, 0.0])
        scale = np.array([p.resolution_m, p.resolution_m, p.max_height_m / _VOXELS])
        ends = (points + origin) / scale
        tip = (map_from_camera[:3, 3] + origin) / scale
        near = np.linalg.norm(points - map_from_camera[:3, 3], axis=1) <= p.max_depth_m
        _clear_rays(self._voxels, tip, ends, 2.0 * p.resolution_m, scale)
        i, j, k = ends[near].astype(int).T
        n = p.cells
        inside = (i >= 0) & (i < n) & (j >= 0) & (j < n) & (ends[near].min(axis=1) >= 0)
        self._voxels[j[inside], i[inside], k[inside]] = True

    def occupied(self) -> npt.NDArray[np.bool_]:
        """Return the cells with a marked voxel."""
        return np.asarray(self._voxels.any(axis=2))


class DecayRule:
    """
    The spatio-temporal voxel layer: voxels expire, sooner while they are in the camera's frustum.

    As its documentation has it: linear decay of 15 s, acceleration 5 in view, which makes a voxel
    in view expire when t + 5/6 t^3 exceeds 15 s. Occlusion and what rays pass through are not
    looked at.
    """

    decay_s, acceleration = 15.0, 5.0

    def __init__(self, params: MappingParams) -> None:
        self.params = params
        n = params.cells
        self._marked_s = np.full((n, n, _VOXELS), -np.inf)
        self._expired = np.ones((n, n, _VOXELS), bool)
        scale = np.array([params.resolution_m, params.resolution_m, params.max_height_m / _VOXELS])
        j, i, k = np.meshgrid(np.arange(n), np.arange(n), np.arange(_VOXELS), indexing='ij')
        self._centres = (np.stack([i, j, k], axis=3) + 0.5) * scale - np.array(
            [params.size_m / 2, params.size_m / 2, 0.0])
        self._scale = scale

    def show(
        self, depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics,
        map_from_camera: npt.NDArray[np.float64], stamp_ns: int,
    ) -> None:
        """Let voxels expire, then mark."""
        p, now = self.params, stamp_ns * 1e-9
        alive = ~self._expired
        age = now - self._marked_s[alive]
        in_camera = (self._centres[alive] - map_from_camera[:3, 3]) @ map_from_camera[:3, :3]
        z = np.maximum(in_camera[:, 2], 1e-6)
        seen = ((in_camera[:, 2] > p.min_depth_m) & (in_camera[:, 2] < p.size_m)
                & (np.abs(in_camera[:, 0]) < z * 0.5 * intrinsics.width / intrinsics.fx)
                & (np.abs(in_camera[:, 1]) < z * 0.5 * intrinsics.height / intrinsics.fy))
        spent = age + np.where(seen, self.acceleration / 6.0 * age ** 3, 0.0)
        self._expired[alive] = spent > self.decay_s
        points = _points_in_band(depth_m, intrinsics, map_from_camera, p)
        near = np.linalg.norm(points - map_from_camera[:3, 3], axis=1) <= p.max_depth_m
        cell = (points[near] + [p.size_m / 2, p.size_m / 2, 0.0]) / self._scale
        cell = cell[((cell >= 0) & (cell < [p.cells, p.cells, _VOXELS])).all(axis=1)].astype(int)
        self._marked_s[cell[:, 1], cell[:, 0], cell[:, 2]] = now
        self._expired[cell[:, 1], cell[:, 0], cell[:, 2]] = False

    def occupied(self) -> npt.NDArray[np.bool_]:
        """Return the cells with a live voxel."""
        return np.asarray((~self._expired).any(axis=2))


class SliceRule:
    """
    A laser scan from a few rows of the depth image, and a two-dimensional layer that reads it.

    The nearest reading of each column marks, its ray clears. Unlike the original, which takes the
    middle of the image, it takes the rows about the horizon, so that a tilted camera does not
    scan the floor.
    """

    rows = 10

    def __init__(self, params: MappingParams) -> None:
        self.params = params
        self._occupied = np.zeros((params.cells, params.cells, 1), bool)

    def show(
        self, depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics,
        map_from_camera: npt.NDArray[np.float64], stamp_ns: int,
    ) -> None:
        """Clear along the beams, then mark their ends."""
        p, k = self.params, intrinsics
        up = map_from_camera[2, :3]
        horizon = int(np.clip(
            k.cy - k.fy * up[2] / up[1], self.rows // 2, k.height - self.rows // 2))
        strip = slice(horizon - self.rows // 2, horizon + self.rows // 2)
        band = np.full_like(depth_m, np.nan)
        band[strip] = depth_m[strip]
        nearest = np.nanmin(np.where(np.isfinite(band), band, np.inf), axis=0)
        row = np.argmin(np.where(np.isfinite(band), band, np.inf), axis=0)
        seen = np.isfinite(nearest)
        points = deproject(band, k)[row[seen], np.flatnonzero(seen)]
        points = transform_points(map_from_camera, points.astype(np.float64))
        points[:, 2] = 0.0
        scale = np.array([p.resolution_m, p.resolution_m, 1.0])
        ends = (points + [p.size_m / 2, p.size_m / 2, 0.5]) / scale
        tip = (np.append(map_from_camera[:2, 3], 0.0) + [p.size_m / 2, p.size_m / 2, 0.5]) / scale
        _clear_rays(self._occupied, tip, ends, 0.0, scale)
        inside = ((ends[:, :2] >= 0) & (ends[:, :2] < p.cells)).all(axis=1)
        inside &= np.linalg.norm(
            points[:, :2] - map_from_camera[:2, 3], axis=1) <= p.max_depth_m
        i, j = ends[inside, :2].astype(int).T
        self._occupied[j, i, 0] = True

    def occupied(self) -> npt.NDArray[np.bool_]:
        """Return the marked cells."""
        return self._occupied[:, :, 0]


RULES: dict[str, Callable[[MappingParams], Mapper]] = {
    '': OurRule, 'voxel_layer_': VoxelLayerRule, 'stvl_': DecayRule, 'slice_': SliceRule}


def _points_in_band(
    depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics,
    map_from_camera: npt.NDArray[np.float64], params: MappingParams,
) -> npt.NDArray[np.float64]:
    """Return the (N, 3) points of every second row and column between the height limits."""
    points = deproject(depth_m, intrinsics)[::2, ::2].reshape(-1, 3)
    finite = points[np.isfinite(points[:, 2])].astype(np.float64)
    there = np.asarray(transform_points(map_from_camera, finite), np.float64)
    return there[(there[:, 2] >= _FLOOR_LIMIT_M) & (there[:, 2] < params.max_height_m)]


@njit(cache=True)
def _clear_rays(voxels, tip, ends, short_of_m, scale):  # type: ignore[no-untyped-def]
    """Unmark every voxel between ``tip`` and each of ``ends``, all in voxels."""
    height, width, depth = voxels.shape
    for i in range(len(ends)):
        dx, dy, dz = ends[i, 0] - tip[0], ends[i, 1] - tip[1], ends[i, 2] - tip[2]
        metres = np.sqrt((dx * scale[0]) ** 2 + (dy * scale[1]) ** 2 + (dz * scale[2]) ** 2)
        if metres <= short_of_m:
            continue
        reach = 1.0 - short_of_m / metres
        count = int(np.ceil(1.5 * max(abs(dx), abs(dy), abs(dz)) * reach)) + 1
        last_x, last_y, last_z = (
            np.floor(ends[i, 0]), np.floor(ends[i, 1]), np.floor(ends[i, 2]))
        for s in range(count + 1):
            share = reach * s / count
            x, y, z = (np.floor(tip[0] + dx * share), np.floor(tip[1] + dy * share),
                       np.floor(tip[2] + dz * share))
            if x == last_x and y == last_y and z == last_z:
                break
            if 0 <= x < width and 0 <= y < height and 0 <= z < depth:
                voxels[int(y), int(x), int(z)] = False
