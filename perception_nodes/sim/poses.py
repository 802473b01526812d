"""Rigid poses in scene descriptions, and as the (4, 4) matrices everything else uses."""

from dataclasses import dataclass
from functools import lru_cache
import math

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

# a camera that looks along x of its mount, with y to the left: optical x right, y down, z ahead
MOUNT_FROM_OPTICAL = np.array([
    [0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


@dataclass(frozen=True)
class Pose:
    """Where a frame lies in its parent."""

    xyz_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    quat_wxyz: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)

    @classmethod
    def at(cls, x_m: float, y_m: float, z_m: float = 0.0, yaw_rad: float = 0.0,
           pitch_rad: float = 0.0, roll_rad: float = 0.0) -> 'Pose':
        """Place a frame turned about x, then y, then z of its parent."""
        cy, sy = math.cos(yaw_rad / 2), math.sin(yaw_rad / 2)
        cp, sp = math.cos(pitch_rad / 2), math.sin(pitch_rad / 2)
        cr, sr = math.cos(roll_rad / 2), math.sin(roll_rad / 2)
        quat = (cr * cp * cy + sr * sp * sy, sr * cp * cy - cr * sp * sy,
                cr * sp * cy + sr * cp * sy, cr * cp * sy - sr * sp * cy)
        return cls((float(x_m), float(y_m), float(z_m)), quat)

    @classmethod
    def from_matrix(cls, matrix: Matrix) -> 'Pose':
        """Read a (4, 4) rigid transform."""
        w, x, y, z = _quaternion(matrix[:3, :3])
        return cls((float(matrix[0, 3]), float(matrix[1, 3]), float(matrix[2, 3])), (w, x, y, z))

    @property
    def matrix(self) -> Matrix:
        """Return the (4, 4) transform of points in this frame to the parent."""
        out = np.eye(4)
        out[:3, :3] = rotation(self.quat_wxyz)
        out[:3, 3] = self.xyz_m
        return out


@lru_cache(maxsize=65536)
def fixed_matrix(pose: Pose) -> Matrix:
    """Return ``pose.matrix``, read-only and computed once: for poses that are asked for often."""
    out = pose.matrix
    out.flags.writeable = False
    return out


def rotation(quat_wxyz: npt.ArrayLike) -> Matrix:
    """Return the (3, 3) rotation of a quaternion of any length but zero."""
    w, x, y, z = np.asarray(quat_wxyz, np.float64) / np.linalg.norm(quat_wxyz)
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])


def planar(x_m: float, y_m: float, yaw_rad: float) -> Matrix:
    """Return the (4, 4) transform of a frame on the ground."""
    return Pose.at(x_m, y_m, yaw_rad=yaw_rad).matrix


def yaw_of(matrix: Matrix) -> float:
    """Return the heading of a (4, 4) transform's x axis, radians."""
    return math.atan2(matrix[1, 0], matrix[0, 0])


def looking_at(eye_xyz_m: npt.ArrayLike, target_xyz_m: npt.ArrayLike,
               roll_rad: float = 0.0) -> Matrix:
    """
    Return the pose of an optical frame (z ahead, y down) that looks at a point, z up.

    :param roll_rad: Turn about the line of sight, clockwise as seen by the camera.
    """
    eye = np.asarray(eye_xyz_m, np.float64)
    ahead = np.asarray(target_xyz_m, np.float64) - eye
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    length = np.linalg.norm(right)
    right = right / length if length > 1e-6 else np.array([0.0, -1.0, 0.0])
    down = np.cross(ahead, right)
    out = np.eye(4)
    c, s = math.cos(roll_rad), math.sin(roll_rad)
    out[:3, :3] = np.stack([c * right + s * down, c * down - s * right, ahead], axis=1)
    out[:3, 3] = eye
    return out


def _quaternion(matrix: Matrix) -> tuple[float, float, float, float]:
    """Return (w, x, y, z), from the largest component so that no division is ill-conditioned."""
    m = matrix
    squares = np.array([
        1 + m[0, 0] + m[1, 1] + m[2, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2],
        1 - m[0, 0] + m[1, 1] - m[2, 2], 1 - m[0, 0] - m[1, 1] + m[2, 2]])
    rows = np.array([
        [squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
        [m[2, 1] - m[1, 2], squares[1], m[1, 0] + m[0, 1], m[0, 2] + m[2, 0]],
        [m[0, 2] - m[2, 0], m[1, 0] + m[0, 1], squares[2], m[2, 1] + m[1, 2]],
        [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[2, 1] + m[1, 2], squares[3]]])
    best = rows[int(np.argmax(squares))]
    w, x, y, z = (best / np.linalg.norm(best)).tolist()
    return w, x, y, z
