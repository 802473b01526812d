"""Scenes of boxes and cylinders on a floor, and the depth images that a camera has of them."""

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import pixel_rays
from perception_nodes.core.types import CameraIntrinsics

FLOOR, SKY = -1, -2


@dataclass(frozen=True)
class Solid:
    """A box, or an upright cylinder where ``width_m`` is zero and ``length_m`` its diameter."""

    x_m: float
    y_m: float
    length_m: float
    width_m: float
    top_m: float
    bottom_m: float = 0.0
    yaw: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Solids on a floor at z = 0, in the axes of the map."""

    solids: tuple[Solid, ...] = field(default_factory=tuple)

    def rows(self) -> npt.NDArray[np.float64]:
        """Return the (N, 8) numbers of the solids that the renderer reads."""
        return np.array([
            (s.x_m, s.y_m, s.length_m / 2, s.width_m / 2, s.bottom_m, s.top_m,
             np.cos(s.yaw), np.sin(s.yaw)) for s in self.solids], np.float64).reshape(-1, 8)


def pose(
    x_m: float, y_m: float, height_m: float, yaw: float = 0.0, pitch: float = 0.0,
    roll: float = 0.0,
) -> npt.NDArray[np.float64]:
    """
    Return the (4, 4) pose of an optical frame.

    :param yaw: Direction of the view from the x axis, counter-clockwise, radians.
    :param pitch: How far it looks down, radians.
    :param roll: Turn about the view, clockwise as seen from behind, radians.
    """
    def about(axis: tuple[float, float, float], angle: float) -> npt.NDArray[np.float64]:
        return np.asarray(cv2.Rodrigues(np.array(axis, np.float64) * angle)[0])

    optical = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    map_from_camera = np.eye(4)
    map_from_camera[:3, :3] = (
        about((0, 0, 1), yaw) @ about((0, 1, 0), pitch) @ about((1, 0, 0), roll) @ optical)
    map_from_camera[:3, 3] = x_m, y_m, height_m
    return map_from_camera


def render(
    scene: Scene, map_from_camera: npt.NDArray[np.float64], intrinsics: CameraIntrinsics,
    range_m: float = 10.0,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """
    Return the exact depth image of a scene, and what each pixel shows.

    :return: (H, W) float32 metres along the optical axis, +inf beyond ``range_m``; (H, W) int32
        index of the solid, :data:`FLOOR` or :data:`SKY`.
    """
    return _render(
        scene.rows(), np.ascontiguousarray(map_from_camera), pixel_rays(intrinsics), range_m)


def noisy(
    depth_m: npt.NDArray[np.float32], rng: np.random.Generator, noise: float = 0.002,
    dropout: float = 0.02,
) -> npt.NDArray[np.float32]:
    """
    Spoil a depth image as a stereo camera does.

    The error grows with the square of the distance and is shared by neighbouring pixels; at
    edges, pixels lie between the two surfaces; some readings are missing, most of them at edges;
    values are whole millimetres.

    :param noise: Standard deviation at 1 m.
    :param dropout: Share of pixels without a reading, away from edges.
    """
    coarse, fine, missing, mixing = (_window(field, depth_m.shape, rng) for field in _fields())
    finite = np.isfinite(depth_m)
    z = np.where(finite, depth_m, np.float32(0.0))
    spoilt = z + np.float32(noise) * z * z * (
        np.float32(0.8) * coarse + np.float32(0.6) * fine)
    mixed = cv2.blur(z, (3, 3))
    all_finite = cv2.erode(finite.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    edge = (cv2.dilate(z, np.ones((3, 3))) - cv2.erode(z, np.ones((3, 3))) > 0.05 * z + 0.02)
    spoilt = np.where(edge & all_finite & (mixing < 0.2), mixed, spoilt)
    spoilt = np.round(spoilt * 1000.0).astype(np.float32) * np.float32(0.001)
    spoilt[~finite] = depth_m[~finite]
    spoilt[missing < np.where(edge, np.float32(0.3), np.float32(dropout))] = np.nan
    return spoilt


@lru_cache(maxsize=1)
def _fields() -> tuple[npt.NDArray[np.float32], ...]:
    """Return a smooth and a rough normal and two uniform fields, larger than any image."""
    rng = np.random.default_rng(0)
    size = (1500, 2000)
    smooth = np.asarray(
        cv2.GaussianBlur(rng.standard_normal(size, np.float32), (0, 0), 1.0), np.float32)
    return (smooth / smooth.std(), rng.standard_normal(size, np.float32),
            rng.random(size, np.float32), rng.random(size, np.float32))


def _window(
    field: npt.NDArray[np.float32], shape: tuple[int, ...], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return a part of a field from anywhere: drawing so many numbers anew takes long."""
    row, column = (rng.integers(0, field.shape[i] - shape[i]) for i in range(2))
    return field[row:row + shape[0], column:column + shape[1]]


@njit(cache=True, error_model='numpy')
def _render(solids, pose, rays, range_m):  # type: ignore[no-untyped-def]
    height, width = rays.shape[:2]
    depth = np.full((height, width), np.inf, np.float32)
    what = np.full((height, width), SKY, np.int32)
    for row in range(height):
        for column in range(width):
            x, y = rays[row, column, 0], rays[row, column, 1]
            dx = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2]
            dy = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2]
            dz = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2]
            nearest = range_m
            seen = SKY
            if dz < 0.0 and -pose[2, 3] / dz < nearest:
                nearest, seen = -pose[2, 3] / dz, FLOOR
            for i in range(len(solids)):
                s = solids[i]
                hit = _hit(s, pose[0, 3] - s[0], pose[1, 3] - s[1], pose[2, 3], dx, dy, dz)
                if 0.0 < hit < nearest:
                    nearest, seen = hit, i
            if seen != SKY:
                depth[row, column] = nearest
                what[row, column] = seen
    return depth, what


@njit(cache=True, error_model='numpy')
def _hit(s, x, y, z, dx, dy, dz):  # type: ignore[no-untyped-def]
    """Return the distance along the ray to a solid, in lengths of the ray, -1 for none."""
    enter, leave = (s[4] - z) / dz, (s[5] - z) / dz
    if dz == 0.0:
        if not s[4] <= z <= s[5]:
            return -1.0
        enter, leave = -np.inf, np.inf
    if enter > leave:
        enter, leave = leave, enter
    if s[3] == 0.0:  # a cylinder
        a, b, c = dx * dx + dy * dy, x * dx + y * dy, x * x + y * y - s[2] * s[2]
        root = b * b - a * c
        if root < 0.0:
            return -1.0
        root = np.sqrt(root)
        enter, leave = max(enter, (-b - root) / a), min(leave, (-b + root) / a)
        return enter if enter <= leave else -1.0
    for cosine, sine, half in ((s[6], s[7], s[2]), (-s[7], s[6], s[3])):
        along, towards = x * cosine + y * sine, dx * cosine + dy * sine
        if towards == 0.0:
            if abs(along) > half:
                return -1.0
            continue
        first, second = (-half - along) / towards, (half - along) / towards
        if first > second:
            first, second = second, first
        enter, leave = max(enter, first), min(leave, second)
    return enter if enter <= leave else -1.0
