"""Depth of one camera, seen through the pixels of another."""

from functools import lru_cache

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import (
    check_size,
    distort,
    distortion_coefficients,
    read_only,
    undistort,
)
from perception_nodes.core.types import CameraIntrinsics

ALIGN_HINT = (
    'let the driver align it (RealSense align_depth.enable:=true, Orbbec '
    'depth_registration:=true, OAK stereo.i_align_depth:=true; a ZED always does, on '
    'depth/depth_registered)')


def not_registered(
    depth_m: npt.NDArray[np.float32], depth_frame: str, color_shape: tuple[int, ...],
    color_frame: str, reason: str,
) -> str:
    """
    Return the sentence that refuses a depth image which does not lie on its colour image.

    :param color_shape: Shape of the colour image, rows first.
    :param reason: What keeps us from registering it, such as the error of a transform.
    """
    return (
        f"depth is {depth_m.shape[1]}x{depth_m.shape[0]} pixels in '{depth_frame}', colour is "
        f"{color_shape[1]}x{color_shape[0]} in '{color_frame}', and it cannot be registered "
        f'here ({reason}): {ALIGN_HINT}')


def register_depth(
    depth_m: npt.NDArray[np.float32],
    depth_intrinsics: CameraIntrinsics,
    color_intrinsics: CameraIntrinsics,
    color_from_depth: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:
    """
    Render a depth image into the pixels of a colour camera.

    Each depth pixel is a small patch that faces its camera; it fills the colour pixels whose
    centres lie within the bounds of its four corners, and the nearest patch wins. So a surface
    has no holes, at any ratio of the resolutions, and an edge is true to one depth pixel.

    :param depth_m: (H, W) float32 metres along the depth camera's axis.
    :param color_from_depth: (4, 4) transform from the depth to the colour optical frame.
    :return: (height, width) of the colour image, float32 metres along its own axis: NaN where
        nothing was seen, +inf where only readings beyond range are.
    :raises ValueError: If the image does not belong to the depth camera, or a distortion model
        is not supported.
    """
    check_size(depth_m, depth_intrinsics)
    k = color_intrinsics
    rendered = np.full((k.height, k.width), np.nan, np.float32)
    _render(
        read_only(depth_m), _corner_rays(depth_intrinsics),
        np.ascontiguousarray(color_from_depth, np.float64),
        np.array([k.fx, k.fy, k.cx, k.cy]), any(k.distortion), distortion_coefficients(k),
        rendered)
    return rendered


@lru_cache(maxsize=8)
def _corner_rays(intrinsics: CameraIntrinsics) -> npt.NDArray[np.float64]:
    """Return (H + 1, W + 1, 2) x and y at z = 1 through the corners between the pixels."""
    shape = (intrinsics.height + 1, intrinsics.width + 1)
    columns, rows = np.meshgrid(np.arange(shape[1]) - 0.5, np.arange(shape[0]) - 0.5)
    pixels = np.stack([columns, rows], axis=2).reshape(-1, 2)
    rays = undistort(pixels, intrinsics).reshape(*shape, 2)
    rays.flags.writeable = False
    return rays


@njit(cache=True)
def _render(depth, corners, pose, k, bent, d, rendered):  # type: ignore[no-untyped-def]
    height, width = rendered.shape
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            z = np.float64(depth[row, column])
            beyond = z == np.inf
            if not z > 0.0:
                continue
            left, top, right, bottom = np.inf, np.inf, -np.inf, -np.inf
            nearest = 0.0
            visible = True
            for corner in range(4):
                ray = corners[row + corner // 2, column + corner % 2]
                # a point at infinity is moved by the rotation alone
                x, y, w = ray[0], ray[1], 1.0
                if not beyond:
                    x, y, w = x * z, y * z, z
                px = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * w
                py = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * w
                pz = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * w
                if not beyond:
                    px += pose[0, 3]
                    py += pose[1, 3]
                    pz += pose[2, 3]
                if not pz > 1e-6:
                    visible = False
                    break
                u, v = px / pz, py / pz
                if bent:
                    u, v = distort(u, v, d)
                u, v = k[0] * u + k[2], k[1] * v + k[3]
                left, right = min(left, u), max(right, u)
                top, bottom = min(top, v), max(bottom, v)
                nearest += 0.25 * pz
            # a patch as large as this is a sliver next to the lens, or beyond the lens's model
            if not (visible and right - left < width and bottom - top < height):
                continue
            # half-open, so that neighbours share no pixel; the rounding error of a corner that
            # lies between two pixels must not decide
            first, last = int(np.ceil(left - 1e-6)), int(np.ceil(right - 1e-6))
            start, stop = int(np.ceil(top - 1e-6)), int(np.ceil(bottom - 1e-6))
            value = np.float32(np.inf) if beyond else np.float32(nearest)
            for j in range(max(start, 0), min(stop, height)):
                for i in range(max(first, 0), min(last, width)):
                    if not rendered[j, i] <= value:
                        rendered[j, i] = value
