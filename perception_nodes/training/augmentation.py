"""
Pictures made more various, with their boxes and masks.

What moves pixels is one affine step that sends boxes and masks the same way; see
:func:`random_view`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.evaluation.metrics import BoxLabels

GREY = 114  # of what lies outside the picture
VOID = 255  # of a mask there
_LEAST_LEFT = 0.25  # a box of which less stays in the view is ignored from then on
_LEAST_SIDE = 2.0  # pixels, likewise

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Strength:
    """How much is changed; shares are of the picture's side."""

    flip: float = 0.0  # how often left and right are exchanged
    scale: tuple[float, float] = (1.0, 1.0)  # size of the objects against that without change
    squeeze: float = 0.0  # how much more one side grows than the other
    shift: float = 0.0  # of the view, besides what a crop moves
    hue: float = 0.0  # degrees
    saturation: float = 0.0  # share
    brightness: float = 0.0  # share, likewise contrast
    cutouts: int = 0  # how many grey rectangles at most (DeVries and Taylor, 2017)
    mixup: float = 0.0  # how often a second picture shines through (Zhang et al., 2018)


STRENGTHS: Mapping[str, Strength] = {
    'none': Strength(),
    'light': Strength(flip=0.5, scale=(0.8, 1.25), shift=0.1, saturation=0.3, brightness=0.2),
    'strong': Strength(flip=0.5, scale=(0.5, 1.8), squeeze=0.2, shift=0.2, hue=6.0,
                       saturation=0.5, brightness=0.35, cutouts=2, mixup=0.1),
}


def random_view(
    picture: tuple[int, int], view_from_picture: npt.NDArray[np.float64], view: tuple[int, int],
    strength: Strength, rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """
    Draw a flip, a scale, a shift and with them a crop.

    :param picture: Width and height of the picture, pixels.
    :param view_from_picture: (2, 3) the step into the view without any change.
    :param view: Width and height of the view, pixels.
    :return: (2, 3) the step to take instead, for continuous coordinates: the first pixel covers
        0 to 1.
    """
    flips = rng.random() < strength.flip
    low, high = np.log(strength.scale)
    size = np.exp(rng.uniform(low, high))
    squeeze = np.exp(rng.uniform(-strength.squeeze, strength.squeeze) / 2.0)
    scale = np.array([size * squeeze, size / squeeze])
    matrix = view_from_picture * scale[:, None]
    middle = np.array(picture) / 2.0
    kept = view_from_picture[:, :2] @ middle + view_from_picture[:, 2]
    # a picture larger than the view may be cropped anywhere
    spare = np.maximum(np.abs(matrix[:, :2] @ np.array(picture)) - view, 0.0) / 2.0
    slack = spare + strength.shift * np.array(view)
    matrix[:, 2] = kept - matrix[:, :2] @ middle + rng.uniform(-slack, slack)
    if flips:
        matrix[0] *= -1.0
        matrix[0, 2] += view[0]
    return matrix


def warp_picture(rgb: Rgb, matrix: npt.NDArray[np.float64], view: tuple[int, int]) -> Rgb:
    """Return (h, w, 3) uint8 through a step for continuous coordinates; grey outside."""
    return _warped(rgb, matrix, view, cv2.INTER_LINEAR, GREY)


def warp_mask(ids: Rgb, matrix: npt.NDArray[np.float64], view: tuple[int, int]) -> Rgb:
    """Return (h, w) uint8 class ids through the same step; void outside."""
    return _warped(ids, matrix, view, cv2.INTER_NEAREST, VOID)


def warp_boxes(
    labels: BoxLabels, matrix: npt.NDArray[np.float64], view: tuple[int, int]
) -> BoxLabels:
    """
    Return the boxes through the same step, cut off at the view.

    A box of which too little is left to be known is ignored; one that is outside is gone.
    """
    boxes = labels.boxes_xyxy.astype(np.float64)
    corners = np.stack([boxes[:, [0, 1]], boxes[:, [2, 3]]], 1) @ matrix[:, :2].T + matrix[:, 2]
    moved = np.concatenate([corners.min(1), corners.max(1)], 1)
    inside = moved.clip(0.0, np.array(view * 2, np.float64))
    sides, whole = inside[:, 2:] - inside[:, :2], moved[:, 2:] - moved[:, :2]
    left = sides.prod(1) / np.maximum(whole.prod(1), 1e-9)
    poor = (left < _LEAST_LEFT) | (sides.min(1, initial=np.inf) < _LEAST_SIDE)
    cut = BoxLabels(inside.astype(np.float32), labels.class_ids, labels.ignored | poor)
    return cut[(sides > 0.0).all(1)]


def recolour(rgb: Rgb, strength: Strength, rng: np.random.Generator) -> Rgb:
    """Return the picture in other light: hue, saturation, contrast and brightness."""
    if not (strength.hue or strength.saturation or strength.brightness):
        return rgb
    # every draw is made whatever the strength, so that seeds mean the same
    hue, saturation, contrast, brightness = rng.uniform(-1.0, 1.0, 4) * (
        strength.hue, strength.saturation, strength.brightness, strength.brightness)
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV_FULL).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + hue * 256.0 / 360.0) % 256.0
    hsv[..., 1] *= 1.0 + saturation
    turned = cv2.cvtColor(hsv.clip(0.0, 255.0).astype(np.uint8), cv2.COLOR_HSV2RGB_FULL)
    values = (turned.astype(np.float32) - 127.5) * (1.0 + contrast) + 127.5 * (1.0 + brightness)
    return np.asarray(values.clip(0.0, 255.0), np.uint8)


def cut_out(rgb: Rgb, strength: Strength, rng: np.random.Generator) -> Rgb:
    """Return a copy with grey rectangles, each up to a third of the picture wide and high."""
    if not strength.cutouts:
        return rgb
    result = rgb.copy()
    height, width = rgb.shape[:2]
    for _ in range(rng.integers(strength.cutouts + 1)):
        w, h = (rng.uniform(0.05, 0.33, 2) * (width, height)).astype(int)
        x, y = rng.integers(0, (width - w + 1, height - h + 1))
        result[y:y + h, x:x + w] = GREY
    return result


def mix(a: tuple[Rgb, BoxLabels], b: tuple[Rgb, BoxLabels]) -> tuple[Rgb, BoxLabels]:
    """Return two pictures of one size laid over each other half and half, with all boxes."""
    labels = BoxLabels(*(np.concatenate([getattr(a[1], name), getattr(b[1], name)])
                         for name in ('boxes_xyxy', 'class_ids', 'ignored')))
    return np.asarray(cv2.addWeighted(a[0], 0.5, b[0], 0.5, 0.0), np.uint8), labels


def _warped(values: Rgb, matrix: npt.NDArray[np.float64], view: tuple[int, int],
            interpolation: int, outside: int) -> Rgb:
    # OpenCV's pixels have their middle at whole numbers
    centred = matrix.copy()
    centred[:, 2] += matrix[:, :2].sum(1) * 0.5 - 0.5
    border = (outside,) * 3 if values.ndim == 3 else outside
    return np.asarray(cv2.warpAffine(
        values, centred, view, flags=interpolation, borderMode=cv2.BORDER_CONSTANT,
        borderValue=border), np.uint8)
