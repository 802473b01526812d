"""Masks at the size of the image from the small fields of numbers that networks give."""

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.backends.preprocess import Resize
from perception_nodes.core.types import Masks


def masks_from_fields(
    fields: Iterable[npt.NDArray[np.float32]], steps: Iterable[Resize],
    regions_xyxy: npt.NDArray[np.int64], image_shape: tuple[int, int], level: float,
) -> Masks:
    """
    Return the pixels at which each object's field, interpolated linearly, lies above a level.

    :param fields: N times (h, w) float32, each of its own size.
    :param steps: N times from image to field, whose outermost values hold beyond its border.
    :param regions_xyxy: (N, 4) int64 pixels outside of which an object has none: left, top,
        and the first to the right and below.
    :param image_shape: Height and width of the image.
    """
    limits = np.array([*image_shape[::-1]] * 2)
    corners_xyxy = np.clip(regions_xyxy, 0, limits)
    parts = [_above(field, step, region, level) for field, step, region in zip(
        fields, steps, corners_xyxy.tolist(), strict=True)]
    return Masks(tuple(parts), corners_xyxy[:, [1, 0]], image_shape)


def _above(
    field: npt.NDArray[np.float32], step: Resize, region: list[int], level: float
) -> npt.NDArray[np.bool_]:
    left, top, right, bottom = region
    width, height = max(right - left, 0), max(bottom - top, 0)
    if not width or not height:
        return np.zeros((height, width), np.bool_)
    rows = []
    for scale, offset, first in zip(step.scale_xy, step.offset_xy, (left, top), strict=True):
        # OpenCV counts from the middle of pixels, a resize from the border of the image
        rows.append((scale, (first + 0.5) * scale + offset - 0.5))
    (scale_x, offset_x), (scale_y, offset_y) = rows
    field_from_part = np.array([[scale_x, 0.0, offset_x], [0.0, scale_y, offset_y]])
    values = cv2.warpAffine(
        field, field_from_part, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(values > level, np.bool_)
