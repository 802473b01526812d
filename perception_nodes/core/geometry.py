"""Points, pixels and rigid transforms: pinhole cameras with OpenCV's distortion, planes, up."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import CameraIntrinsics

_COEFFICIENTS = 12  # k1, k2, p1, p2, k3 to k6, s1 to s4: all but OpenCV's tilted sensor


_VOLUME = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 7)] * 3), axis=-1).reshape(-1, 3)


@dataclass(frozen=True, eq=False)
class Plane:
    """The points p with ``normal @ p == offset_m``."""

    normal: npt.NDArray[np.float64]  # (3,) of length 1
    offset_m: float

    def heights_m(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return the (N,) distances of (N, 3) points, positive on the normal's side."""
        return np.asarray(points @ self.normal - self.offset_m, np.float64)


def distortion_coefficients(intrinsics: CameraIntrinsics) -> npt.NDArray[np.float64]:
    """
    Return the (12,) coefficients k1, k2, p1, p2, k3, ..., k6, s1, ..., s4, zeros where not given.

    :raises ValueError: If the model has more of them (a tilted sensor).
    """
    given = intrinsics.distortion
    if any(given[_COEFFICIENTS:]):
        raise ValueError(
            f'the camera has {len(given)} distortion coefficients; up to {_COEFFICIENTS} '
            '(without a tilted sensor) are supported: rectify the images first')
    padded = np.zeros(_COEFFICIENTS)
    padded[:min(len(given), _COEFFICIENTS)] = given[:_COEFFICIENTS]
    return padded


@lru_cache(maxsize=8)
def pixel_rays(intrinsics: CameraIntrinsics) -> npt.NDArray[np.float32]:
    """
    Return where each pixel looks: x and y of its ray at z = 1, without the lens's distortion.

    Pixels that the distortion model cannot have produced (beyond its turning point, in the
    corners of wide lenses) are NaN. The result is kept per camera and read-only.

    :return: (H, W, 2) float32.
    """
    columns, rows = np.meshgrid(np.arange(intrinsics.width), np.arange(intrinsics.height))
    pixels = np.stack([columns, rows], axis=2).reshape(-1, 2).astype(np.float64)
    rays = undistort(pixels, intrinsics).astype(np.float32)
    rays = rays.reshape(intrinsics.height, intrinsics.width, 2)
    rays.flags.writeable = False
    return rays


def undistort(
    pixels: npt.NDArray[np.float64], intrinsics: CameraIntrinsics
) -> npt.NDArray[np.float64]:
    """
    Return x and y at z = 1 of the ray through each pixel, NaN where no ray ends there.

    :param pixels: (N, 2) column and row, fractions allowed.
    :return: (N, 2).
    :raises ValueError: If the distortion model is not supported.
    """
    x = (pixels[:, 0] - intrinsics.cx) / intrinsics.fx
    y = (pixels[:, 1] - intrinsics.cy) / intrinsics.fy
    if not any(intrinsics.distortion):
        return np.stack([x, y], axis=1)
    return np.asarray(_undistort(x, y, distortion_coefficients(intrinsics)))


def project(
    points_m: npt.NDArray[np.floating], intrinsics: CameraIntrinsics
) -> npt.NDArray[np.float64]:
    """
    Return the pixel, with the lens's distortion, of each point in the camera's optical frame.

    :param points_m: (N, 3) metres.
    :return: (N, 2) column and row, not clipped to the image; NaN for points not ahead of it.
    :raises ValueError: If the distortion model is not supported.
    """
    points = np.ascontiguousarray(points_m, np.float64)
    k = intrinsics
    return np.asarray(_project(points, k.fx, k.fy, k.cx, k.cy, distortion_coefficients(k)))


def deproject(
    depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics
) -> npt.NDArray[np.float32]:
    """
    Return the point that each pixel sees, in the camera's optical frame.

    :param depth_m: (H, W) float32 metres along the optical axis.
    :return: (H, W, 3) float32 metres; NaN where the depth is not a positive finite number.
    :raises ValueError: If the image has another size than the camera.
    """
    check_size(depth_m, intrinsics)
    return np.asarray(_deproject(read_only(depth_m), pixel_rays(intrinsics)))


def check_size(image: npt.NDArray[np.generic], intrinsics: CameraIntrinsics) -> None:
    """
    Check that an image belongs to a camera.

    :raises ValueError: If its size is another one.
    """
    if image.shape[:2] != (intrinsics.height, intrinsics.width):
        raise ValueError(
            f'the image has {image.shape[1]}x{image.shape[0]} pixels, its camera_info says '
            f'{intrinsics.width}x{intrinsics.height}: does the camera_info belong to this image?')


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """
    Return a contiguous view that cannot be written, as arrays of a frame are.

    Compiled functions are compiled again for arrays that can; this keeps it to one time.
    """
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def inverse(b_from_a: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ``a_from_b`` of a rigid (4, 4) transform."""
    a_from_b = np.eye(4)
    a_from_b[:3, :3] = b_from_a[:3, :3].T
    a_from_b[:3, 3] = -b_from_a[:3, :3].T @ b_from_a[:3, 3]
    return a_from_b


def transform_points(
    b_from_a: npt.NDArray[np.float64], points: npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """Return (..., 3) points of frame a in frame b, in their own precision."""
    rotation = b_from_a[:3, :3].astype(points.dtype)
    return np.asarray(points @ rotation.T + b_from_a[:3, 3].astype(points.dtype))


def quaternion_xyzw(rotation: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return the unit quaternion, w >= 0, of a (3, 3) rotation matrix."""
    # the row of K that belongs to the largest component is never close to zero
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    candidates = (
        (1.0 + a - e - i, b + d, c + g, h - f), (b + d, 1.0 - a + e - i, f + h, c - g),
        (c + g, f + h, 1.0 - a - e + i, d - b), (h - f, c - g, d - b, 1.0 + a + e + i))
    best = np.array(candidates[max(range(4), key=lambda n: candidates[n][n])])
    best /= np.copysign(np.linalg.norm(best), best[3])
    x, y, z, w = best.tolist()
    return x, y, z, w


def rotation_of(quaternion: tuple[float, float, float, float]) -> npt.NDArray[np.float64]:
    """
    Return the (3, 3) rotation matrix of a quaternion x, y, z, w.

    :raises ValueError: If its length is not about 1.
    """
    norm = float(np.linalg.norm(quaternion))
    if not 0.5 < norm < 2.0:
        raise ValueError(f'a rotation is the quaternion {quaternion}; its length must be 1')
    x, y, z, w = (component / norm for component in quaternion)
    return np.array([
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - z * w), 2.0 * (x * z + y * w)],
        [2.0 * (x * y + z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - x * w)],
        [2.0 * (x * z - y * w), 2.0 * (y * z + x * w), 1.0 - 2.0 * (x * x + y * y)]])


def share_in_view(
    camera_from_box: npt.NDArray[np.float64], size_m: npt.NDArray[np.float64],
    intrinsics: CameraIntrinsics,
) -> float:
    """
    Return the share of a box's volume that lies in front of a camera's pixels, from 343 points.

    :param camera_from_box: (4, 4) pose of the box's middle in the optical frame.
    :param size_m: (3,) along the box's own axes.
    :param intrinsics: Whose distortion is left out of account.
    """
    points = (_VOLUME * size_m) @ camera_from_box[:3, :3].T + camera_from_box[:3, 3]
    ahead = points[points[:, 2] > 0.0]
    u = intrinsics.fx * ahead[:, 0] / ahead[:, 2] + intrinsics.cx
    v = intrinsics.fy * ahead[:, 1] / ahead[:, 2] + intrinsics.cy
    inside = ((u > -0.5) & (u < intrinsics.width - 0.5)
              & (v > -0.5) & (v < intrinsics.height - 0.5))
    return float(np.count_nonzero(inside)) / len(points)


def up_in_camera(level_from_camera: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """
    Return the (3,) direction against gravity in the camera's frame.

    :param level_from_camera: (4, 4) transform into any frame whose z axis points up.
    """
    return np.asarray(level_from_camera[2, :3], np.float64)


def up_of_pitched_camera(pitch_deg: float) -> npt.NDArray[np.float64]:
    """
    Return the (3,) direction against gravity of a camera that is not rolled.

    :param pitch_deg: How far it looks down, degrees: 0 at the horizon, 90 at its feet.
    """
    pitch = np.radians(pitch_deg)
    return np.array([0.0, -np.cos(pitch), -np.sin(pitch)])


def fit_plane(
    points_m: npt.NDArray[np.floating], tolerance_m: float, *, trials: int = 200, seed: int = 0
) -> Plane:
    """
    Find the plane that most points lie on.

    RANSAC (Fischler and Bolles 1981) with a fixed seed, then least squares over its inliers.

    :param points_m: (N, 3) finite points.
    :param tolerance_m: Largest distance of an inlier.
    :return: The plane, its normal towards the origin (the camera).
    :raises ValueError: If the points span no plane.
    """
    points = np.asarray(points_m, np.float64)
    if len(points) < 3:
        raise ValueError(f'{len(points)} points span no plane; it takes three')
    rng = np.random.default_rng(seed)
    corners = points[rng.integers(0, len(points), (trials, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    solid = lengths > 1e-12
    if not solid.any():
        raise ValueError(f'{len(points)} points on a line span no plane')
    normals, anchors = normals[solid] / lengths[solid, None], corners[solid, 0]
    offsets = np.einsum('ij,ij->i', normals, anchors)
    # a few thousand points tell the best plane as well as all of them
    sample = points[:: max(1, len(points) // 2000)]
    # one by one: what all of them make together is too large for the processor's cache
    votes = [np.count_nonzero(np.abs(sample @ normal - offset) < tolerance_m)
             for normal, offset in zip(normals, offsets, strict=True)]
    best = int(np.argmax(votes))
    plane = Plane(normals[best], float(offsets[best]))
    for _ in range(3):
        plane = _least_squares(points[np.abs(plane.heights_m(points)) < tolerance_m])
    return plane


def _least_squares(points: npt.NDArray[np.float64]) -> Plane:
    centre = points.mean(axis=0)
    moments = (points - centre).T @ (points - centre)
    normal = np.linalg.eigh(moments)[1][:, 0]
    offset_m = float(normal @ centre)
    return Plane(-normal, -offset_m) if offset_m > 0.0 else Plane(normal, offset_m)


@njit(cache=True)
def distort(x, y, d):  # type: ignore[no-untyped-def]
    """Return where the lens bends the ray (x, y, 1) to; the model is that of OpenCV's calib3d."""
    r2 = x * x + y * y
    radial = (1.0 + r2 * (d[0] + r2 * (d[1] + r2 * d[4]))) / (
        1.0 + r2 * (d[5] + r2 * (d[6] + r2 * d[7])))
    return (
        x * radial + 2.0 * d[2] * x * y + d[3] * (r2 + 2.0 * x * x) + r2 * (d[8] + r2 * d[9]),
        y * radial + d[2] * (r2 + 2.0 * y * y) + 2.0 * d[3] * x * y + r2 * (d[10] + r2 * d[11]))


@njit(cache=True)
def _undistort(bent_x, bent_y, d):  # type: ignore[no-untyped-def]
    rays = np.full((len(bent_x), 2), np.nan)
    for i in range(len(bent_x)):
        x, y = bent_x[i], bent_y[i]
        for _ in range(50):
            now_x, now_y = distort(x, y, d)
            error_x, error_y = now_x - bent_x[i], now_y - bent_y[i]
            # Newton, with the derivatives by small differences
            h = 1e-6
            right_x, right_y = distort(x + h, y, d)
            down_x, down_y = distort(x, y + h, d)
            a, b = (right_x - now_x) / h, (down_x - now_x) / h
            c, e = (right_y - now_y) / h, (down_y - now_y) / h
            determinant = a * e - b * c
            if a <= 0.0 or determinant <= 0.0:  # beyond the turning point the model is void
                break
            if abs(error_x) + abs(error_y) < 1e-10:
                rays[i, 0], rays[i, 1] = x, y
                break
            x -= (e * error_x - b * error_y) / determinant
            y -= (a * error_y - c * error_x) / determinant
    return rays


@njit(cache=True)
def _project(points, fx, fy, cx, cy, d):  # type: ignore[no-untyped-def]
    pixels = np.full((len(points), 2), np.nan)
    for i in range(len(points)):
        z = points[i, 2]
        if z > 0.0:
            x, y = distort(points[i, 0] / z, points[i, 1] / z, d)
            pixels[i, 0] = fx * x + cx
            pixels[i, 1] = fy * y + cy
    return pixels


@njit(cache=True)
def _deproject(depth, rays):  # type: ignore[no-untyped-def]
    height, width = depth.shape
    points = np.empty((height, width, 3), np.float32)
    for row in range(height):
        for column in range(width):
            z = depth[row, column]
            x, y = rays[row, column, 0], rays[row, column, 1]
            if not 0.0 < z < np.inf or np.isnan(x):
                z = np.float32(np.nan)
            points[row, column, 0] = x * z
            points[row, column, 1] = y * z
            points[row, column, 2] = z
    return points
