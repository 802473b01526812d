"""A short moving picture of the demo's drive, for pages that cannot show HTML."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


def write_animation(path: Path, pictures: Sequence[Pixels], period_ms: int) -> None:
    """
    Write pictures of one size as an endless animation.

    :param path: ``.webp`` or ``.gif``.
    :param pictures: (H, W, 3) RGB.
    :param period_ms: How long each is shown.
    :raises OSError: If it cannot be written.
    """
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR) for rgb in pictures]
    animation.durations = [period_ms] * len(pictures)
    if not cv2.imwriteanimation(str(path), animation, [cv2.IMWRITE_WEBP_QUALITY, 60]):
        raise OSError(f'{path} cannot be written')
