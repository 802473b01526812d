"""
The rectangle metric of grasp detection, and the files of the Cornell data set it is used on.

A rectangle lies in the image: two of its sides are where the plates of the gripper go.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

_MOST_TURNED_RAD = np.radians(30.0)
_LEAST_IOU = 0.25


@dataclass(frozen=True)
class GraspRectangle:
    """A grasp in the image, pixels; y points down, so positive angles turn clockwise."""

    column: float
    row: float
    angle_rad: float  # of the closing direction from the image's x axis; half a turn is the same
    opening_px: float  # along the closing direction
    plate_px: float  # along the gripper's plates

    @classmethod
    def from_corners(cls, corners: npt.NDArray[np.floating]) -> 'GraspRectangle':
        """
        Return the rectangle of four corners in order; the first side is along a plate.

        This is how the Cornell files and Jiang, Moseson and Saxena (2011) write them.

        :param corners: (4, 2) columns and rows.
        :raises ValueError: If there are not four finite corners.
        """
        points = np.asarray(corners, np.float64)
        if points.shape != (4, 2) or not np.isfinite(points).all():
            raise ValueError('a grasp rectangle needs four corners of finite numbers')
        centre = points.mean(axis=0)
        closing = points[2] - points[1]
        return cls(
            float(centre[0]), float(centre[1]), float(np.arctan2(closing[1], closing[0])),
            float(np.hypot(*closing)), float(np.hypot(*(points[1] - points[0]))))

    def corners(self) -> npt.NDArray[np.float64]:
        """Return the (4, 2) corners in order, the first side along a plate."""
        along = np.array([np.cos(self.angle_rad), np.sin(self.angle_rad)]) * self.opening_px / 2
        across = np.array([-np.sin(self.angle_rad), np.cos(self.angle_rad)]) * self.plate_px / 2
        centre = np.array([self.column, self.row])
        return np.stack([centre - along - across, centre - along + across,
                         centre + along + across, centre + along - across])


def read_cornell(file: Path) -> list[GraspRectangle]:
    """
    Read the rectangles of one picture, ``pcdNNNNcpos.txt`` or ``pcdNNNNcneg.txt``.

    Each line is a corner, four lines are a rectangle. Rectangles with a corner that is not a
    number, which the data set has, are left out.

    :raises ValueError: If the file is not of that form, naming it.
    """
    try:
        numbers = [[float(word) for word in line.split()]
                   for line in file.read_text(encoding='utf-8').splitlines() if line.strip()]
    except (UnicodeDecodeError, ValueError) as error:
        raise ValueError(f'{file} holds no grasp rectangles: {error}') from error
    if len(numbers) % 4 or any(len(pair) != 2 for pair in numbers):
        raise ValueError(
            f'{file} holds no grasp rectangles: it has {len(numbers)} lines, and needs two '
            'numbers in each line and four lines for each rectangle')
    corners = np.array(numbers, np.float64).reshape(-1, 4, 2)
    return [GraspRectangle.from_corners(four) for four in corners if np.isfinite(four).all()]


def is_correct(found: GraspRectangle, truth: Sequence[GraspRectangle]) -> bool:
    """
    Return whether a rectangle agrees with one of the true ones (Jiang et al., 2011).

    Angles may differ by 30 degrees, and the intersection must be more than a quarter of the
    union.
    """
    return any(
        turned_rad(found, one) <= _MOST_TURNED_RAD and overlap(found, one) > _LEAST_IOU
        for one in truth)


def turned_rad(a: GraspRectangle, b: GraspRectangle) -> float:
    """Return the angle between two closing directions, at most a quarter turn."""
    return abs((a.angle_rad - b.angle_rad + np.pi / 2.0) % np.pi - np.pi / 2.0)


def overlap(a: GraspRectangle, b: GraspRectangle) -> float:
    """Return the intersection over union of two rectangles."""
    shared, _ = cv2.intersectConvexConvex(
        a.corners().astype(np.float32), b.corners().astype(np.float32))
    union = a.opening_px * a.plate_px + b.opening_px * b.plate_px - shared
    return float(shared / union) if union > 0.0 else 0.0


def accuracy(
    found: Sequence[GraspRectangle | None], truth: Sequence[Sequence[GraspRectangle]]
) -> float:
    """Return the share of pictures whose best rectangle is correct; None is a miss."""
    right = [best is not None and is_correct(best, true)
             for best, true in zip(found, truth, strict=True)]
    return float(np.mean(right)) if right else float('nan')
