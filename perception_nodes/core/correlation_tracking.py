"""
Follows one object that was shown once, by a correlation filter.

The filter is the multi-channel, linear one of KCF (Henriques et al., TPAMI 2015), learned and
judged as in MOSSE (Bolme et al., CVPR 2010): trained on small distortions of the first view,
adapted with every view that is sure, and sure by the peak-to-sidelobe ratio of its response.
Three steps of scale are tried on each image. An object whose response is weak is lost: its filter
stays as it is, and looks at the last place and on a grid around it, at a few tiles per image.
"""

from dataclasses import dataclass
from itertools import product
import math

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.params import param, Params

Complex = npt.NDArray[np.complex64]
Cut = tuple[int, int, int, int]  # left, top, width and height in the image, pixels

_SIDE = 64  # of the filter, pixels
_CONTEXT = 2.5  # sizes of the object that the filter looks at
_ENOUGH_PX = 96  # of larger surroundings only every second pixel is read, every third, ...
_PEAK_PX = 2.0  # standard deviation of the wanted response
_SCALES = (1.0 / 1.03, 1.0, 1.03)  # tried on each image
_SCALE_GAIN = 0.7  # share of a measured change of scale in the size
_RATE = 0.06  # share of a new view in the filter
_ANCHOR = 0.3  # share of the first view in what is learned: without it, place and size drift
_DAMPING = 0.02  # of frequencies with little power, in parts of the mean power
_DISTORTIONS = tuple(product((-6.0, 0.0, 6.0), (0.95, 1.0, 1.05)))  # degrees, scale
_LOBE_PX = 5  # around the peak, not part of the sidelobe
_STRONG_PSR = 40.0  # from here on the score is 1
_TILES = 3  # of the grid, looked at in one image beside the last place
_STRIDE = 0.8  # of the grid, in sizes of the object
_LEAST_PX = 8.0  # side of an object
_LOGARITHMS = np.log1p(np.arange(256, dtype=np.float32))


@dataclass(frozen=True, kw_only=True)
class TrackParams(Params):
    """Parameters of following one object."""

    lost_score: float = param(
        0.2, 'Lowest score, a peak-to-sidelobe ratio divided by 40, at which the object counts '
        'as seen.', ge=0.0, le=1.0, dynamic=True)
    found_score: float = param(
        0.4, 'Lowest score at which an object that was lost counts as found.', ge=0.0, le=1.0,
        dynamic=True)


@dataclass(frozen=True, eq=False)
class Target:
    """Where the object is in one image."""

    box_xyxy: npt.NDArray[np.float32]  # (4,) pixels, may reach out of the image
    score: float  # in [0, 1]: peak-to-sidelobe ratio, 1 from 40 on


@dataclass(frozen=True)
class _Peak:
    """The best response of one look."""

    center: tuple[float, float]  # x and y in the image, pixels
    value: float
    psr: float


class CorrelationTracker:
    """
    Follows what is in a box.

    :param rgb: (H, W, 3) uint8 image that shows the object.
    :param box_xyxy: (4,) pixels.
    :raises ValueError: If the box is smaller than 8 pixels or larger than the image, or its
        middle is outside.
    """

    def __init__(
        self, rgb: npt.NDArray[np.uint8], box_xyxy: npt.ArrayLike, params: TrackParams
    ) -> None:
        left, top, right, bottom = np.asarray(box_xyxy, np.float64).tolist()
        height, width = rgb.shape[:2]
        self._center = (0.5 * (left + right), 0.5 * (top + bottom))
        self._size = (right - left, bottom - top)
        if not (_fits(self._size, rgb) and _is_inside(self._center, rgb)):
            raise ValueError(
                f'the box of what is to be followed goes from ({left:g}, {top:g}) to ({right:g}, '
                f'{bottom:g}); it must be {_LEAST_PX:g} pixels wide and high at least, no larger '
                f'than the image of {width}x{height}, and have its middle in it')
        self.params = params
        self.is_lost = False
        self._lost_for = 0  # images
        window = np.hanning(_SIDE).astype(np.float32)
        self._window = np.outer(window, window)
        offsets = np.minimum(np.arange(_SIDE), _SIDE - np.arange(_SIDE))
        wanted = np.exp(-0.5 * (offsets[:, None]**2 + offsets[None]**2) / _PEAK_PX**2)
        self._wanted = np.fft.rfft2(wanted).astype(np.complex64)
        patch, cut = self._cut(rgb, self._center, 1.0)
        views = [self._spectrum(_distorted(patch, *how)) for how in _DISTORTIONS]
        self._numerator = np.mean([self._wanted_in(cut) * v.conj() for v in views], axis=0)
        self._power = np.mean([_power(v) for v in views], axis=0)
        self._first = (self._numerator.copy(), self._power.copy())
        self._make_filter()

    def step(self, rgb: npt.NDArray[np.uint8]) -> Target | None:
        """
        Find the object in the next image.

        :param rgb: (H, W, 3) uint8.
        :return: Where it is; None while it is lost.
        """
        target = self._search(rgb) if self.is_lost else self._follow(rgb)
        self.is_lost = target is None
        self._lost_for = self._lost_for + 1 if self.is_lost else 0
        return target

    def _follow(self, rgb: npt.NDArray[np.uint8]) -> Target | None:
        peaks = [self._look(rgb, self._center, scale) for scale in _SCALES]
        values = np.array([peak.value for peak in peaks])
        best = int(values.argmax())
        change = best - 1 + (_vertex(values, best) if best == 1 else 0.0)
        scale = _SCALES[2] ** (_SCALE_GAIN * change)
        return self._adopt(rgb, peaks[best], scale, self.params.lost_score)

    def _search(self, rgb: npt.NDArray[np.uint8]) -> Target | None:
        """Look at the last place and the next tiles of the grid, and again at the best of them."""
        tiles = self._grid(rgb)
        first = self._lost_for * _TILES
        places = [self._center, *(
            tiles[i % len(tiles)] for i in range(first, first + min(_TILES, len(tiles))))]
        best = max((self._look(rgb, place, 1.0) for place in places),
                   key=lambda peak: peak.value)
        return self._adopt(
            rgb, self._look(rgb, best.center, 1.0), 1.0, self.params.found_score)

    def _adopt(
        self, rgb: npt.NDArray[np.uint8], peak: _Peak, scale: float, least: float
    ) -> Target | None:
        """Go to a peak and learn the view there, if it is sure."""
        score = min(1.0, max(0.0, peak.psr / _STRONG_PSR))
        if score < least or not _is_inside(peak.center, rgb):
            return None
        self._center = peak.center
        size = (self._size[0] * scale, self._size[1] * scale)
        if _fits(size, rgb):
            self._size = size
        patch, cut = self._cut(rgb, self._center, 1.0)
        spectrum = self._spectrum(patch)
        for learned, first, new in zip(
                (self._numerator, self._power), self._first,
                (self._wanted_in(cut) * spectrum.conj(), _power(spectrum)), strict=True):
            learned += _RATE * (_ANCHOR * first + (1.0 - _ANCHOR) * new - learned)
        self._make_filter()
        (x, y), (width, height) = self._center, self._size
        return Target(np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2],
                               np.float32), score)

    def _look(
        self, rgb: npt.NDArray[np.uint8], center: tuple[float, float], scale: float
    ) -> _Peak:
        """Return the best response around a place."""
        patch, (left, top, width, height) = self._cut(rgb, center, scale)
        response = np.fft.fftshift(np.fft.irfft2(
            np.einsum('crk,crk->rk', self._filter, self._spectrum(patch))))
        row, column = divmod(int(response.argmax()), _SIDE)
        value = float(response[row, column])
        lobe = response[max(row - _LOBE_PX, 0):row + _LOBE_PX + 1,
                        max(column - _LOBE_PX, 0):column + _LOBE_PX + 1]
        count = response.size - lobe.size
        mean = float(response.sum() - lobe.sum()) / count
        square = float((response * response).sum() - (lobe * lobe).sum()) / count
        y = row + _vertex(response[:, column], row)
        x = column + _vertex(response[row], column)
        place = (left + x * width / _SIDE, top + y * height / _SIDE)
        return _Peak(place, value, (value - mean) / math.sqrt(max(square - mean * mean, 1e-12)))

    def _make_filter(self) -> None:
        self._filter = self._numerator / (self._power + _DAMPING * self._power.mean())

    def _grid(self, rgb: npt.NDArray[np.uint8]) -> list[tuple[float, float]]:
        """Return where else in the image to look for a lost object, the nearest place first."""
        axes = []
        for start, size, limit in zip(self._center, self._size, rgb.shape[1::-1], strict=True):
            step = _STRIDE * size
            axes.append(start + step * np.arange(
                math.ceil(-start / step), math.floor((limit - start) / step) + 1))
        places = [(float(x), float(y)) for x in axes[0] for y in axes[1]]
        return sorted(places, key=lambda place: math.dist(place, self._center))[1:]

    def _cut(
        self, rgb: npt.NDArray[np.uint8], center: tuple[float, float], scale: float
    ) -> tuple[npt.NDArray[np.uint8], Cut]:
        """Return the surroundings of a place at the filter's size, and what was cut out."""
        width, height = (max(round(_CONTEXT * scale * size), 4) for size in self._size)
        left, top = round(center[0] - width / 2), round(center[1] - height / 2)
        rows, columns = rgb.shape[:2]
        inside = rgb[max(top, 0):max(top + height, 0), max(left, 0):max(left + width, 0)]
        missing = (max(-top, 0), max(top + height - rows, 0),
                   max(-left, 0), max(left + width - columns, 0))
        if any(missing):
            inside = np.asarray(
                cv2.copyMakeBorder(inside, *missing, cv2.BORDER_REPLICATE), np.uint8)
        down, right = max(height // _ENOUGH_PX, 1), max(width // _ENOUGH_PX, 1)
        patch = cv2.resize(np.ascontiguousarray(inside[down // 2::down, right // 2::right]),
                           (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        return np.asarray(patch, np.uint8), (left, top, width, height)

    def _wanted_in(self, cut: Cut) -> Complex:
        """Return the spectrum of a peak at the object's place, not quite the middle of a cut."""
        left, top, width, height = cut
        x = (self._center[0] - left) / width - 0.5
        y = (self._center[1] - top) / height - 0.5
        turns = y * _SIDE * np.fft.fftfreq(_SIDE)[:, None] + x * _SIDE * np.fft.rfftfreq(_SIDE)
        return np.asarray(self._wanted * np.exp(-2j * np.pi * turns), np.complex64)

    def _spectrum(self, patch: npt.NDArray[np.uint8]) -> Complex:
        """Return (3, 64, 33): logarithms of the colours, so that a lamp only adds to them."""
        features = _LOGARITHMS[patch.transpose(2, 0, 1)]
        features -= features.mean(axis=(1, 2), keepdims=True)
        features *= self._window / (math.sqrt(np.vdot(features, features) / features.size) + 1e-3)
        return np.asarray(np.fft.rfft2(features), np.complex64)


def _power(spectrum: Complex) -> npt.NDArray[np.float32]:
    return np.asarray((spectrum.real**2 + spectrum.imag**2).sum(axis=0), np.float32)


def _distorted(
    patch: npt.NDArray[np.uint8], degrees: float, scale: float
) -> npt.NDArray[np.uint8]:
    """Return a patch turned and scaled about its middle."""
    middle = (_SIDE / 2 - 0.5, _SIDE / 2 - 0.5)
    turn = cv2.getRotationMatrix2D(middle, degrees, scale)
    return np.asarray(cv2.warpAffine(
        patch, turn, (_SIDE, _SIDE), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _vertex(values: npt.NDArray[np.floating], i: int) -> float:
    """Return where the parabola through a peak and its neighbours is highest, from -0.5 to 0.5."""
    before, peak, after = (float(values[(i + k) % len(values)]) for k in (-1, 0, 1))
    bend = before - 2.0 * peak + after
    return 0.0 if bend >= 0.0 else 0.5 * (before - after) / bend


def _fits(size: tuple[float, float], rgb: npt.NDArray[np.uint8]) -> bool:
    """Return whether an object of this width and height can be followed in an image."""
    return min(size) >= _LEAST_PX and size[0] <= rgb.shape[1] and size[1] <= rgb.shape[0]


def _is_inside(place: tuple[float, float], rgb: npt.NDArray[np.uint8]) -> bool:
    return 0.0 <= place[0] <= rgb.shape[1] and 0.0 <= place[1] <= rgb.shape[0]
