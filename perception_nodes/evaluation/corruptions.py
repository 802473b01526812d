"""
Pictures made worse, as cameras and transmission do: blur, noise, darkness, JPEG.

After D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019, with three strengths of each.
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

STRENGTHS = (1, 2, 3)
_BLUR_SIGMA_PX = (1.0, 2.0, 4.0)
_NOISE_SD = (10.0, 25.0, 50.0)  # of 255
_BRIGHTNESS = (0.5, 0.25, 0.12)  # of the original
_JPEG_QUALITY = (40, 20, 8)  # of 100


def corrupt(rgb: Pixels, name: str, strength: int, seed: int) -> Pixels:
    """
    Return a picture made worse.

    :param rgb: (H, W, 3) uint8.
    :param name: A key of :data:`CORRUPTIONS`.
    :param strength: 1 to 3.
    :param seed: Seed of what is drawn; the same seed gives the same picture.
    :return: A new (H, W, 3) uint8 picture.
    """
    return CORRUPTIONS[name](rgb, STRENGTHS.index(strength), np.random.default_rng(seed))


def _blurred(rgb: Pixels, level: int, _: np.random.Generator) -> Pixels:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), _BLUR_SIGMA_PX[level]), np.uint8)


def _noisy(rgb: Pixels, level: int, random: np.random.Generator) -> Pixels:
    return _rounded(rgb + random.normal(0.0, _NOISE_SD[level], rgb.shape))


def _darkened(rgb: Pixels, level: int, random: np.random.Generator) -> Pixels:
    # little light is also few photons: the noise of the sensor stays where the signal falls
    return _rounded(rgb * _BRIGHTNESS[level] + random.normal(0.0, 2.0, rgb.shape))


def _compressed(rgb: Pixels, level: int, _: np.random.Generator) -> Pixels:
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY[level]])[1]
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def _rounded(values: npt.NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


CORRUPTIONS: Mapping[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    'blur': _blurred, 'noise': _noisy, 'dark': _darkened, 'jpeg': _compressed}
