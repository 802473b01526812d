"""
Scores of coarse cells to the class of every pixel, without scores of every pixel in between.

Networks answer at a fraction of the image's resolution. The usual way up interpolates every
class bilinearly, then takes the largest. Here the image is cut along the lattice of the coarse
scores. Within one of its cells each score is a convex combination of those at the four corners:
a class that wins at all four wins everywhere inside, and one that another class beats at all
four wins nowhere. So most pixels cost one store, and the others a look at two or three classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.backends.heads import NOT_A_NUMBER, ScoreColumns
from perception_nodes.backends.preprocess import Resize
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.types import SegmentationMask

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Axis:
    """Between which coarse scores each pixel of a row or column lies."""

    first: npt.NDArray[np.int64]  # (N,) the nearer to the origin
    second: npt.NDArray[np.int64]  # (N,) the other; the same at the border
    share: Array  # (N,) of the second, 0 to 1
    runs: npt.NDArray[np.int64]  # (M + 1,) first pixels of the stretches between two scores, and N


class MaskReader:
    """
    Turns the output of a network into masks of the image that went in.

    Ids have 8 bits where the largest of them fits, else 16. Void, where there is no class of the
    manifest, is the largest number of that type: 255 or 65535.

    :raises ValueError: If a class id does not fit into 16 bits, or the network does not see the
        whole image.
    """

    def __init__(self, entry: ModelEntry) -> None:
        last = max(entry.class_names)
        if last > np.iinfo(np.uint16).max:
            raise ValueError(f'the manifest names class {last}; ids of masks end at 65535')
        if entry.input.resize == 'center_crop':
            raise ValueError(
                'input resize is center_crop, which cuts away pixels that need a class; choose '
                'stretch or letterbox')
        self.dtype: Any = np.uint8 if last <= np.iinfo(np.uint8).max else np.uint16
        self._void = np.iinfo(self.dtype).max
        self._columns = ScoreColumns(entry.class_names)

    def from_output(
        self, values: npt.NDArray[Any], layout: str, resize: Resize,
        network_size: tuple[int, int], image_size: tuple[int, int], *, confidence: bool = False,
    ) -> SegmentationMask:
        """
        Read what exported networks answer: scores with the classes first or last, or class ids.

        :param values: (C, h, w) or (h, w, C) scores before the softmax, or integers: (h, w) or
            (1, h, w) class ids.
        :param layout: ``NCHW`` or ``NHWC``, which decides where both would be possible.
        :raises ValueError: If the shape is another one, or as :meth:`from_logits` says.
        """
        if np.issubdtype(values.dtype, np.integer) and values.size == np.prod(values.shape[-2:]):
            return self.from_ids(
                values.reshape(values.shape[-2:]), resize, network_size, image_size)
        is_last = values.ndim == 3 and self.classes_are_last(values.shape, layout)
        if np.issubdtype(values.dtype, np.integer) or values.ndim != 3 or is_last is None:
            count = self._columns.counts[0]
            raise ValueError(
                f"the network's output has shape {values.shape} of {values.dtype}; with the "
                f'{count} classes of the manifest it must be scores, ({count}, height, width) or '
                f'(height, width, {count}), or integers, (height, width): correct the classes or '
                'take the file they belong to')
        if is_last:
            values = values.transpose(2, 0, 1)
        return self.from_logits(
            values.astype(np.float32, copy=False), resize, network_size, image_size,
            confidence=confidence)

    def classes_are_last(self, shape: Sequence[int], layout: str) -> bool | None:
        """
        Return whether scores are (h, w, C), or (C, h, w); None for neither.

        :param layout: ``NCHW`` or ``NHWC``, which decides where both would be possible.
        """
        first, last = (shape[axis] in self._columns.counts for axis in (0, -1))
        return last and (layout == 'NHWC' or not first) if first or last else None

    def from_logits(
        self, logits: Array, resize: Resize, network_size: tuple[int, int],
        image_size: tuple[int, int], *, confidence: bool = False,
    ) -> SegmentationMask:
        """
        Interpolate scores bilinearly between the centres of their cells, and take the best.

        This is what ``torch.nn.functional.interpolate(mode='bilinear', align_corners=False)``
        and ``argmax`` give, straight onto the image; the confidence is the softmax there.

        :param logits: (C, h, w) float32 before the softmax, over the whole network input.
        :param resize: How the image was placed in that input.
        :param network_size: Width and height of that input, pixels.
        :param image_size: Width and height of the image, pixels.
        :raises ValueError: If C is not the manifest's, or a score is not a number.
        """
        if np.isnan(logits).any():
            raise ValueError(NOT_A_NUMBER)
        table = self.table(len(logits))
        y, x = axes_between((logits.shape[1], logits.shape[2]), resize, network_size, image_size)
        scores = np.ascontiguousarray(logits, np.float32)
        ids: npt.NDArray[Any] = np.empty((image_size[1], image_size[0]), self.dtype)
        _best_classes(scores, y.first, y.second, y.share, y.runs,
                      x.first, x.second, x.share, x.runs, table, ids)
        if not confidence:
            return SegmentationMask(ids)
        probabilities = np.empty(ids.shape, np.float32)
        by_cell = np.ascontiguousarray(scores.transpose(1, 2, 0))
        _best_probabilities(by_cell, y.first, y.second, y.share,
                            x.first, x.second, x.share, x.runs, probabilities)
        return SegmentationMask(ids, probabilities)

    def from_ids(
        self, network_ids: npt.NDArray[np.integer], resize: Resize,
        network_size: tuple[int, int], image_size: tuple[int, int],
    ) -> SegmentationMask:
        """
        Scale a mask to the image, each pixel as the cell it lies in.

        :param network_ids: (h, w) class ids over the whole network input; others become void.
        """
        rows, columns = (
            np.clip(np.floor(_positions(count, resize, axis, network_size[axis], image_size[axis])
                             ).astype(np.int64), 0, count - 1)
            for axis, count in ((1, network_ids.shape[0]), (0, network_ids.shape[1])))
        known = np.isin(network_ids, self._columns.known)
        ids: npt.NDArray[Any] = np.where(known, network_ids, self._void).astype(self.dtype)
        return SegmentationMask(ids[rows[:, None], columns])

    def table(self, count: int) -> npt.NDArray[Any]:
        """
        Return the class id of each of ``count`` scores, void for those that have none.

        :raises ValueError: If a network with that many classes is not the manifest's.
        """
        ids = self._columns.ids(count)
        return np.asarray(np.where(ids < 0, self._void, ids), self.dtype)


def _positions(
    count: int, resize: Resize, axis: int, network: int, image: int
) -> npt.NDArray[np.float64]:
    """Return where the centre of each pixel lies among ``count`` cells of width 1."""
    centres = np.arange(image) + 0.5
    placed = centres * resize.scale_xy[axis] + resize.offset_xy[axis]
    return np.asarray(placed * (count / network), np.float64)


def axes_between(
    cells: tuple[int, int], resize: Resize, network_size: tuple[int, int],
    image_size: tuple[int, int],
) -> tuple[Axis, Axis]:
    """
    Return between which scores the pixels of an image lie: for its rows, and for its columns.

    :param cells: Rows and columns of the scores.
    :param network_size: Width and height of the network's input.
    :param image_size: Width and height of the image.
    """
    rows, columns = (_axis(count, resize, axis, network_size[axis], image_size[axis])
                     for axis, count in ((1, cells[0]), (0, cells[1])))
    return rows, columns


def _axis(count: int, resize: Resize, axis: int, network: int, image: int) -> Axis:
    places = _positions(count, resize, axis, network, image) - 0.5
    inside = np.clip(places, 0.0, count - 1.0)
    first = inside.astype(np.int64)
    # beyond the outermost centres a run of its own: there the steps are of another width
    stretch = first + (places >= 0.0) + (places > count - 1.0)
    runs = np.flatnonzero(np.diff(stretch, prepend=-1, append=-1))
    return Axis(first, np.minimum(first + 1, count - 1), (inside - first).astype(np.float32),
                 runs)


@njit(cache=True, nogil=True)
def _best_classes(  # type: ignore[no-untyped-def]
    scores, top, bottom, down, row_runs, left, right, across, column_runs, table, ids,
):
    classes, height, width = scores.shape
    best, high = np.zeros((height, width), np.int32), scores[0].copy()
    for c in range(1, classes):
        for row in range(height):
            for column in range(width):  # without branches, so that it is vectorised
                score = scores[c, row, column]
                higher = score > high[row, column]
                best[row, column] = np.int32(c) if higher else best[row, column]
                high[row, column] = score if higher else high[row, column]
    rivals = np.empty(classes, np.int64)
    corners = np.empty((classes, 4), np.float32)
    one = np.float32(1.0)
    for i in range(len(row_runs) - 1):
        y0, y1 = row_runs[i], row_runs[i + 1]
        for j in range(len(column_runs) - 1):
            x0, x1 = column_runs[j], column_runs[j + 1]
            n, s, w, e = top[y0], bottom[y0], left[x0], right[x0]
            winners = best[n, w], best[n, e], best[s, w], best[s, e]
            if winners[0] == winners[1] == winners[2] == winners[3]:
                for y in range(y0, y1):
                    for x in range(x0, x1):
                        ids[y, x] = table[winners[0]]
                continue
            for c in range(classes):
                corners[c, 0], corners[c, 1] = scores[c, n, w], scores[c, n, e]
                corners[c, 2], corners[c, 3] = scores[c, s, w], scores[c, s, e]
            count = _rivals(corners, winners, rivals)
            for y in range(y0, y1):
                v = down[y]
                for x in range(x0, x1):
                    u = across[x]
                    winner, highest = 0, np.float32(-np.inf)
                    for k in range(count):
                        r = rivals[k]
                        score = (one - v) * ((one - u) * corners[r, 0] + u * corners[r, 1]) + v * (
                            (one - u) * corners[r, 2] + u * corners[r, 3])
                        if score > highest:
                            winner, highest = r, score
                    ids[y, x] = table[winner]


@njit(cache=True, nogil=True)
def _rivals(corners, winners, rivals):  # type: ignore[no-untyped-def]
    """Collect the classes that no winner of a corner beats at all four; return their number."""
    count = 0
    for c in range(len(corners)):
        beaten = False
        for winner in winners:
            if winner != c and (corners[winner, 0] >= corners[c, 0]
                                and corners[winner, 1] >= corners[c, 1]
                                and corners[winner, 2] >= corners[c, 2]
                                and corners[winner, 3] >= corners[c, 3]):
                beaten = True
                break
        if not beaten:
            rivals[count] = c
            count += 1
    return count


@njit(cache=True, nogil=True, fastmath={'reassoc', 'nsz', 'contract'})
def _best_probabilities(  # type: ignore[no-untyped-def]
    scores, top, bottom, down, left, right, across, column_runs, probabilities,
):
    """
    Compute the largest softmax of each pixel.

    Along a row within a cell scores are linear, so their exponentials are geometric series: one
    factor per class and cell instead of an exponential per class and pixel. They are relative to
    the chord of the largest score, which lies above all of them.
    """
    classes = scores.shape[2]
    values, factors = np.empty(classes), np.empty(classes)
    for y in range(len(down)):
        v = np.float64(down[y])
        above, below = scores[top[y]], scores[bottom[y]]
        for j in range(len(column_runs) - 1):
            x0, x1 = column_runs[j], column_runs[j + 1]
            first, last, u = left[x0], right[x0], np.float64(across[x0])
            step = np.float64(across[x1 - 1] - across[x0]) / max(1, x1 - 1 - x0)
            high_first, high_last = -np.inf, -np.inf
            for c in range(classes):
                values[c] = (1.0 - v) * above[first, c] + v * below[first, c]
                factors[c] = (1.0 - v) * above[last, c] + v * below[last, c]
                high_first, high_last = max(high_first, values[c]), max(high_last, factors[c])
            for c in range(classes):
                begin = values[c] - high_first
                slope = factors[c] - high_last - begin
                values[c], factors[c] = np.exp(begin + slope * u), np.exp(slope * step)
            for x in range(x0, x1):
                total, highest = 0.0, 0.0
                for c in range(classes):
                    total += values[c]
                    highest = max(highest, values[c])
                    values[c] *= factors[c]
                # nothing is left where scores of hundreds cross: a hair aside, the winner is clear
                probabilities[y, x] = highest / total if total > 0.0 else 1.0
