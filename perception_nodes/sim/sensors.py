"""From ideal measurements to what real sensors deliver; everything drawn from a generator."""

from dataclasses import dataclass
import math

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.sim.poses import Matrix, planar

Depth = npt.NDArray[np.float32]  # (H, W) metres, REP 117: NaN unknown, +inf too far, -inf too near
_FARTHEST_MM = 65534


def limited(depth_m: Depth, nearest_m: float, farthest_m: float) -> Depth:
    """Return depth as an ideal sensor of limited range gives it: -inf too near, +inf too far."""
    out = np.where(depth_m > farthest_m, np.float32(np.inf), depth_m)
    return np.asarray(np.where(out < nearest_m, np.float32(-np.inf), out), np.float32)


def measured_depth(depth_m: Depth, rng: np.random.Generator) -> Depth:
    """
    Return depth as an active stereo camera measures it.

    Axial noise grows with the square of the distance (1.5 mm at 1 m), readings wander by half a
    pixel, borders of objects and surfaces seen at a grazing angle have holes, values come in
    whole millimetres, and what is out of range has no reading.

    :param depth_m: Ideal depth of :func:`limited`.
    :return: Metres, NaN where a 16UC1 image would hold 0.
    """
    height, width = depth_m.shape
    steps = rng.normal(0.0, 0.5, (2, height, width)).astype(np.float32)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    clean = np.where(np.isfinite(depth_m), depth_m, np.float32(0.0))
    moved = cv2.remap(clean, columns + steps[0], rows + steps[1], cv2.INTER_NEAREST,
                      borderMode=cv2.BORDER_REPLICATE)
    sigma = 0.0005 + 0.001 * moved ** 2
    rough = rng.normal(0.0, 1.0, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), 1.0) * 3.5  # matched blocks share their errors
    noisy = moved + sigma * smooth
    lost = _lost_at_edges(clean, rng) | (moved <= 0.0) | ~np.isfinite(depth_m)
    millimetres = np.round(noisy * 1000.0)
    return np.where(lost | (millimetres < 1.0), np.float32(np.nan),
                    (millimetres / 1000.0)).astype(np.float32)


def _lost_at_edges(depth_m: Depth, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return where a jump in depth, or a steep slope, leaves nothing to match."""
    kernel = np.ones((3, 3), np.uint8)
    step = cv2.dilate(depth_m, kernel) - cv2.erode(depth_m, kernel)
    edge = (step > 0.04 * depth_m + 0.01).astype(np.uint8)
    wide = cv2.dilate(edge, np.ones((3, 5), np.uint8)) > 0  # the baseline is horizontal
    patches = cv2.GaussianBlur(rng.normal(size=depth_m.shape).astype(np.float32), (0, 0), 2.0)
    return np.asarray((edge > 0) | (wide & (patches > 0.0)) | (patches > 0.5), np.bool_)


def benchmark_depth(depth_m: Depth, rng: np.random.Generator) -> Depth:
    """
    Return depth with the noise of the clutter removal benchmark of GIGA (Jiang et al., 2021).

    One factor from Gamma(1000, 0.001) for the image, and a Gaussian process of 5 mm with a
    correlation length of the square root of 2 pixels.
    """
    field = cv2.GaussianBlur(
        rng.normal(size=depth_m.shape).astype(np.float32), (0, 0), math.sqrt(2.0) / 2.0)
    scale = 0.005 / max(float(field.std()), 1e-9)
    return np.asarray(depth_m * rng.gamma(1000.0, 0.001) + scale * field, np.float32)


def as_millimetres(depth_m: Depth) -> npt.NDArray[np.uint16]:
    """Return the (H, W) image a 16UC1 driver sends: millimetres, 0 where there is no reading."""
    readable = np.isfinite(depth_m) & (depth_m > 0.0)
    scaled = np.round(np.where(readable, depth_m, 0.0) * 1000.0)
    return np.minimum(scaled, _FARTHEST_MM).astype(np.uint16)


def photographed(
    rgb: npt.NDArray[np.uint8], rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Return colours as a cheap camera records them: white balance, exposure, blur, noise."""
    gains = rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, 3)
    lit = rgb.astype(np.float32) * gains.astype(np.float32)
    out = cv2.GaussianBlur(lit, (0, 0), float(rng.uniform(0.3, 0.8)))
    grain = rng.normal(0.0, rng.uniform(1.5, 5.0), rgb.shape).astype(np.float32)
    return np.clip(np.round(out + grain), 0.0, 255.0).astype(np.uint8)


def measured_ranges(ranges_m: npt.NDArray[np.float32], farthest_m: float,
                    rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return ranges with 1 cm of noise and half a percent of lost beams."""
    noise = rng.normal(0.0, 0.01, ranges_m.shape).astype(np.float32)
    out = np.maximum(ranges_m + noise, np.float32(0.0))
    out[out > farthest_m] = np.inf
    out[rng.random(ranges_m.shape) < 0.005] = np.nan
    return np.asarray(out, np.float32)


@dataclass(frozen=True)
class Drift:
    """How wrong wheel odometry is."""

    scale: float  # of driven distance
    turn_scale: float  # of turned angle
    noise: float  # standard deviation per root metre, and per root radian

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> 'Drift':
        """Draw a robot whose wheels are worn by up to two percent."""
        scale, turn = rng.uniform(-0.02, 0.02, 2).tolist()
        return cls(1.0 + scale, 1.0 + turn, 0.01)


NO_DRIFT = Drift(1.0, 1.0, 0.0)


class Odometry:
    """Adds up the steps that wheels measure."""

    def __init__(self, drift: Drift, rng: np.random.Generator) -> None:
        self._drift = drift
        self._rng = rng
        self.odom_from_base: Matrix = np.eye(4)

    def add(self, ahead_m: float, aside_m: float, turn_rad: float) -> None:
        """Count one small step of the base, in its own frame."""
        drift = self._drift
        ahead, turn = ahead_m * drift.scale, turn_rad * drift.turn_scale
        if drift.noise > 0.0:
            first, second = self._rng.normal(0.0, drift.noise, 2).tolist()
            ahead += first * math.sqrt(abs(ahead_m))
            turn += second * math.sqrt(abs(turn_rad))
        # a step along an arc is along its chord
        self.odom_from_base = self.odom_from_base @ planar(0.0, 0.0, turn / 2.0) @ planar(
            ahead, aside_m, turn / 2.0)
