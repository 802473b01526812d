"""
Which parts of a picture an answer hangs on: the drop of its score while they are covered.

M. D. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
section 4.2.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_GREY = 128
_FAINT = 0.05  # drop that is not yet painted yellow
_PATCHES = 6  # that lie side by side across the shorter side


def occlusion_map(
    rgb: Pixels, score: Callable[[Pixels], float]
) -> npt.NDArray[np.float32]:
    """
    Slide a grey patch over a picture in steps of half its size.

    :param rgb: (H, W, 3) uint8.
    :param score: What the answer to a picture is worth; called once per place of the patch.
    :return: (H, W) float32, mean drop of the score over the patches that cover each pixel.
    """
    height, width = rgb.shape[:2]
    side = max(2, min(height, width) // _PATCHES)
    whole = score(rgb)
    drop, times = np.zeros((height, width)), np.zeros((height, width))
    for top in _starts(height, side):
        for left in _starts(width, side):
            place = slice(top, top + side), slice(left, left + side)
            covered = rgb.copy()
            covered[place] = _GREY
            drop[place] += whole - score(covered)
            times[place] += 1.0
    return (drop / times).astype(np.float32)


def draw_heat(rgb: Pixels, drop: npt.NDArray[np.float32]) -> Pixels:
    """
    Lay a map over its picture: violet where covering costs nothing, yellow where it costs most.

    :param rgb: (H, W, 3) uint8.
    :param drop: (H, W) float32; what is below 0 is shown as 0.
    :return: A new (H, W, 3) uint8 picture.
    """
    strength = np.clip(drop, 0.0, None) / max(float(drop.max()), _FAINT)
    bgr = cv2.applyColorMap(np.rint(255.0 * strength).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    heat = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(grey, 0.4, heat, 0.6, 0.0), np.uint8)


def _starts(length: int, side: int) -> list[int]:
    """Return the first pixels of patches that cover the length; the last one ends with it."""
    last = length - side
    return [*range(0, last, max(1, side // 2)), last]
