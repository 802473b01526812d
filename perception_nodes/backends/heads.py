"""
Raw network outputs to boxes, one function per family of detectors.

Each takes the outputs of one image and returns every plausible box, in network pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import Detections

# below this a box cannot be told from noise; the user's threshold lies above
SCORE_FLOOR = 0.01
_YOLO_STRIDES = (8, 16, 32)

NOT_A_NUMBER = ('the network answered NaN: are its weights damaged, or does it overflow in '
                'half_precision?')

Array = npt.NDArray[np.float32]
Outputs = dict[str, Array]


class ScoreColumns:
    """
    Which class each score column of a network stands for.

    Columns are class ids, counted from 0 or from the smallest id; columns that no class owns
    are gaps in the ids (COCO has some).
    """

    def __init__(self, class_names: Mapping[int, str]) -> None:
        self._names = class_names
        self.known = np.fromiter(class_names, np.int64)
        first, last = min(class_names), max(class_names)
        # the first is preferred where a network's layout leaves the choice
        self.counts = (last - first + 1, last + 1)
        self._by_count = {n: self._owned(last + 1 - n, n) for n in self.counts}

    def ids(self, count: int) -> npt.NDArray[np.int64]:
        """
        Return the class id of each of ``count`` columns, (count,) int64; -1 for gaps.

        :raises ValueError: If a network with that many classes is not the manifest's.
        """
        if count not in self._by_count:
            raise ValueError(
                f'the network has {count} classes, but the manifest names {len(self._names)} '
                f'with ids from {min(self._names)} to {max(self._names)}; correct its classes or '
                'take the file they belong to')
        return self._by_count[count]

    def _owned(self, first: int, count: int) -> npt.NDArray[np.int64]:
        ids = np.arange(first, first + count)
        return np.where(np.isin(ids, self.known), ids, -1)


def ssd(outputs: Outputs, size: tuple[int, int], columns: ScoreColumns) -> Detections:
    """
    Read the decoded anchors of a single-shot detector (Liu et al., 2016).

    :param outputs: ``scores`` (A, C) after the sigmoid, ``boxes`` (A, 4) as top, left, bottom,
        right in fractions of the image.
    :param size: Width and height of the network's input.
    """
    scores, boxes = _output(outputs, 'scores'), _output(outputs, 'boxes')
    ids = columns.ids(scores.shape[1])
    # one flat index: np.nonzero of a matrix is eight times slower
    anchors, classes = np.divmod(np.flatnonzero(scores >= SCORE_FLOOR), scores.shape[1])
    return _owned(
        boxes[anchors][:, [1, 0, 3, 2]] * _corner_scale(size), scores[anchors, classes],
        ids[classes])


def yolo(outputs: Outputs, size: tuple[int, int], columns: ScoreColumns) -> Detections:
    """
    Read the YOLO families of ultralytics and what follows their layouts.

    The first output is one of these, told apart by its shape and the number of classes:

    - (4 + C, A) or (A, 4 + C): centre, size, class scores (v8, v9, 11, 12)
    - (5 + C, A) or (A, 5 + C): centre, size, objectness, class scores (v5, v7)
    - (N, 6): corners, score, class; without duplicates (v10, 26)

    Further channels (masks, key points) belong to other tasks and are refused.
    """
    table = next(iter(outputs.values()))
    if is_end_to_end(table.shape, columns, size):
        return yolo_end_to_end(table, columns)
    for count in columns.counts:
        for extra, read in ((4, yolo_scores), (5, yolo_objectness)):
            if table.ndim == 2 and count + extra in table.shape:
                by_anchor = table.T if table.shape[0] == count + extra else table
                return read(by_anchor, columns)
    count = columns.counts[0]
    raise ValueError(
        f"the network's output has shape {table.shape}; with the {count} classes of the manifest "
        f'head yolo expects {count + 4} or {count + 5} rows or columns, or 6 columns')


def dense(outputs: Outputs, size: tuple[int, int], columns: ScoreColumns) -> Detections:
    """
    Read our own single-shot detector; each plausible class of a cell is a box, as with SSD.

    :param outputs: One (4 + C, A): centre, size, class scores.
    """
    table = next(iter(outputs.values()))
    count = columns.counts[0]
    if table.ndim != 2 or len(table) != count + 4:
        raise ValueError(
            f"the network's output has shape {table.shape}; with the {count} classes of the "
            f'manifest head dense expects {count + 4} rows')
    return dense_scores(table[:4].T, table[4:], columns)


def yolox(outputs: Outputs, size: tuple[int, int], columns: ScoreColumns) -> Detections:
    """
    Read YOLOX (Ge et al., 2021): each cell's box is relative to its place and its stride.

    :param outputs: One (A, 5 + C): centre offset in cells, log of the size in cells,
        objectness, class scores; A runs over the grids of strides 8, 16, 32, row by row.
    """
    table = next(iter(outputs.values()))
    cells_xy, strides = _grid(*size)
    if table.ndim != 2 or len(table) != len(strides):
        raise ValueError(
            f'the first output has shape {table.shape}; head yolox expects ({len(strides)}, 5 + '
            f'classes) at an input of {size[0]}x{size[1]}')
    likely = np.flatnonzero(table[:, 4] >= SCORE_FLOOR)
    found, strides = table[likely], strides[likely]
    found[:, :2] = (found[:, :2] + cells_xy[likely]) * strides
    found[:, 2:4] = np.exp(found[:, 2:4]) * strides
    return yolo_objectness(found, columns)


def detr(outputs: Outputs, size: tuple[int, int], columns: ScoreColumns) -> Detections:
    """
    Read the queries of a transformer trained with focal loss (RT-DETR, RF-DETR, D-FINE).

    :param outputs: Class logits (Q, C) and boxes (Q, 4) as centre and size in fractions of
        the image. As their authors do, the Q best pairs of query and class are taken.
    """
    logits, boxes = _logits_and_boxes(outputs)
    ids = columns.ids(logits.shape[1])
    flat = logits.ravel()
    kept = min(len(logits), len(flat))
    best = np.argpartition(-flat, kept - 1)[:kept]
    scores = np.float32(1.0) / (np.float32(1.0) + np.exp(-flat[best]))
    plausible = scores >= SCORE_FLOOR
    queries, classes = np.divmod(best[plausible], logits.shape[1])
    return _owned(
        _corners(boxes[queries] * _corner_scale(size)), scores[plausible], ids[classes])


Read = Callable[[Outputs, tuple[int, int], ScoreColumns], Detections]


@dataclass(frozen=True)
class Head:
    """How to read one family of detectors."""

    read: Read
    needs_suppression: bool = True


HEADS: dict[str, Head] = {
    'ssd': Head(ssd), 'yolo': Head(yolo), 'yolox': Head(yolox),
    'detr': Head(detr, needs_suppression=False), 'dense': Head(dense)}


def check_numbers(outputs: Outputs) -> None:
    """
    Refuse answers that no threshold lets through, and that would pass for an empty picture.

    :raises ValueError: If something is not a number.
    """
    if any(np.isnan(values).any() for values in outputs.values()):
        raise ValueError(NOT_A_NUMBER)


def is_end_to_end(
    shape: tuple[int, ...], columns: ScoreColumns, size: tuple[int, int]
) -> bool:
    """
    Return whether a YOLO output of this shape is (N, 6), with one row per object.

    One or two classes scored per cell can have six columns as well, but have a row per cell.
    """
    if len(shape) != 2 or shape[1] != 6:
        return False
    cells = len(_grid(*size)[1])
    per_cell = shape[0] in (cells, 3 * cells)  # 3 anchors per cell up to v7
    return not (per_cell and {6 - 4, 6 - 5} & set(columns.counts))


def yolo_end_to_end(table: Array, columns: ScoreColumns) -> Detections:
    """Read (N, 6): corners, score, class, without duplicates."""
    return yolo_end_to_end_rows(table, columns)[0]


def yolo_end_to_end_rows(
    table: Array, columns: ScoreColumns
) -> tuple[Detections, npt.NDArray[np.int64]]:
    """Read (N, 6 or more): corners, score, class; and return the row of each box as well."""
    rows = np.flatnonzero(table[:, 4] >= SCORE_FLOOR)
    classes = table[rows, 5].astype(np.int64)
    ids = columns.ids(columns.counts[0])
    if len(classes) and classes.max() >= len(ids):
        raise ValueError(
            f'the network found class number {classes.max()}, but the manifest names only '
            f'{len(ids)} from number 0; correct its classes or take the file they belong to')
    owners = ids[classes]
    return _owned(table[rows, :4], table[rows, 4], owners), rows[owners >= 0]


def yolo_objectness(table: Array, columns: ScoreColumns) -> Detections:
    """Read (A, 5 + C): centre, size, objectness, class scores, which are multiplied."""
    likely = table[table[:, 4] >= SCORE_FLOOR]
    return _best_class(likely[:, :4], likely[:, 5:] * likely[:, 4:5], columns)[0]


def dense_scores(boxes: Array, scores: Array, columns: ScoreColumns) -> Detections:
    """Read the plausible classes of (A, 4) centre-and-size boxes by their (C, A) scores."""
    classes, cells = np.divmod(np.flatnonzero(scores >= SCORE_FLOOR), scores.shape[1])
    return _owned(
        _corners(boxes[cells]), scores[classes, cells], columns.ids(len(scores))[classes])


def yolo_scores(table: Array, columns: ScoreColumns) -> Detections:
    """Read (A, 4 + C): centre, size, class scores."""
    return yolo_scores_rows(table, columns)[0]


def yolo_scores_rows(
    table: Array, columns: ScoreColumns
) -> tuple[Detections, npt.NDArray[np.int64]]:
    """Read (A, 4 + C): centre, size, class scores; and return the row of each box as well."""
    return _best_class(table[:, :4], table[:, 4:], columns)


def _best_class(
    boxes: Array, scores: Array, columns: ScoreColumns
) -> tuple[Detections, npt.NDArray[np.int64]]:
    """Return the best class of (A, 4) centre-and-size boxes by (A, C) scores, and their rows."""
    ids = columns.ids(scores.shape[1])
    best = np.flatnonzero(scores.max(axis=1) >= SCORE_FLOOR)
    picked = scores[best]
    classes = picked.argmax(axis=1)
    owners = ids[classes]
    found = _owned(_corners(boxes[best]), picked[np.arange(len(best)), classes], owners)
    return found, best[owners >= 0]


def _owned(boxes_xyxy: Array, scores: Array, ids: npt.NDArray[np.int64]) -> Detections:
    """Leave out boxes of columns that no class owns."""
    found = Detections(boxes_xyxy, scores, ids)
    return found if ids.size == 0 or ids.min() >= 0 else found[ids >= 0]


def _corners(centre_and_size: Array) -> Array:
    """Turn (N, 4) centre and size into left, top, right, bottom."""
    half = centre_and_size[:, 2:] * np.float32(0.5)
    centre = centre_and_size[:, :2]
    return np.concatenate([centre - half, centre + half], axis=1)


def _corner_scale(size: tuple[int, int]) -> Array:
    return np.array(size * 2, np.float32)


@lru_cache(maxsize=8)
def _grid(width: int, height: int) -> tuple[Array, Array]:
    """Return the (A, 2) columns and rows of all cells, and the (A, 1) stride of each."""
    cells, strides = [], []
    for stride in _YOLO_STRIDES:
        rows, columns = np.indices((height // stride, width // stride), np.float32)
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((rows.size, 1), stride, np.float32))
    return np.concatenate(cells), np.concatenate(strides)


def _output(outputs: Outputs, name: str) -> Array:
    if name not in outputs:
        raise ValueError(
            f"the network has no output '{name}', only {', '.join(outputs)}; "
            'is it another head?')
    return outputs[name]


def _logits_and_boxes(outputs: Outputs) -> tuple[Array, Array]:
    """Tell boxes (Q, 4) from logits (Q, C); names decide where there are four classes."""
    matrices = {name: value for name, value in outputs.items() if value.ndim == 2}
    boxes = [name for name, value in matrices.items() if value.shape[1] == 4]
    if len(boxes) == 2:
        boxes = [name for name in boxes if 'box' in name or name == 'dets']
    others = [name for name in matrices if name not in boxes]
    if len(boxes) != 1 or len(others) != 1:
        shapes = ', '.join(f'{name} {value.shape}' for name, value in outputs.items())
        raise ValueError(
            f'the outputs are {shapes}; head detr expects logits (queries, classes) and boxes '
            '(queries, 4): export the network without its post-processing')
    return matrices[others[0]], matrices[boxes[0]]
