"""
Pictures made worse, as cameras and transmission do: blur, motion, noise, darkness, JPEG.

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
_MOTION_PX = (5.0, 9.0, 17.0)
_SAMPLES_PER_PX = 4  # of the way a point moves
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


def motion_blurred(rgb: Pixels, length_px: float, angle_rad: float) -> Pixels:
    """
    Return a picture as a camera takes it that turns steadily while the shutter is open.

    :param rgb: (H, W, 3) uint8.
    :param length_px: How far every point moves meanwhile.
    :param angle_rad: Where to, from the x axis towards the y axis, which points down.
    :return: A new (H, W, 3) uint8 picture.
    """
    steps = np.linspace(-0.5, 0.5, 1 + int(np.ceil(length_px * _SAMPLES_PER_PX))) * length_px
    half = int(np.ceil(length_px / 2.0)) + 1
    x, y = np.cos(angle_rad) * steps + half, np.sin(angle_rad) * steps + half
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    for column, row in ((0, 0), (1, 0), (0, 1), (1, 1)):  # each sample lies between four pixels
        shares = (1.0 - np.abs(x - left - column)) * (1.0 - np.abs(y - top - row))
        np.add.at(kernel, (top + row, left + column), shares)
    return np.asarray(cv2.filter2D(
        rgb, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101), np.uint8)


def compressed(rgb: Pixels, quality: int) -> Pixels:
    """Return a new picture after JPEG of a quality from 0 to 100."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def noisy(rgb: Pixels, standard_deviation: float, random: np.random.Generator) -> Pixels:
    """Return a new picture with white noise, given in steps of 255."""
    return _rounded(rgb + random.normal(0.0, standard_deviation, rgb.shape))


def _blurred(rgb: Pixels, level: int, _: np.random.Generator) -> Pixels:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), _BLUR_SIGMA_PX[level]), np.uint8)


def _moved(rgb: Pixels, level: int, random: np.random.Generator) -> Pixels:
    return motion_blurred(rgb, _MOTION_PX[level], float(random.uniform(0.0, np.pi)))


def _noisy(rgb: Pixels, level: int, random: np.random.Generator) -> Pixels:
    return noisy(rgb, _NOISE_SD[level], random)


def _darkened(rgb: Pixels, level: int, random: np.random.Generator) -> Pixels:
    # little light is also few photons: the noise of the sensor stays where the signal falls
    return _rounded(rgb * _BRIGHTNESS[level] + random.normal(0.0, 2.0, rgb.shape))


def _compressed(rgb: Pixels, level: int, _: np.random.Generator) -> Pixels:
    return compressed(rgb, _JPEG_QUALITY[level])


def _rounded(values: npt.NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


CORRUPTIONS: Mapping[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    'blur': _blurred, 'motion': _moved, 'noise': _noisy, 'dark': _darkened, 'jpeg': _compressed}
