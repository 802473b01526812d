"""
How well objects keep their numbers: HOTA, IDF1 and MOTA.

- HOTA: J. Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking",
  IJCV 2021; the geometric mean of detection and association accuracy, averaged over IoU
  thresholds from 0.05 to 0.95.
- IDF1: E. Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera
  Tracking", ECCV workshops 2016.
- MOTA: K. Bernardin and R. Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The
  CLEAR MOT Metrics", 2008.

Only boxes of one class are compared; all boxes then count alike, whatever their class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
import numpy.typing as npt
from perception_nodes.core.boxes import iou_matrix
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.metrics import BoxLabels
from scipy.optimize import linear_sum_assignment

THRESHOLDS = np.arange(0.05, 0.99, 0.05)
_MATCH_IOU = 0.5  # of IDF1 and MOTA
_ROUNDING = float(np.finfo(np.float64).eps)  # overlaps equal to a threshold reach it


@dataclass(frozen=True, eq=False)
class _Frame:
    """One frame: rows of true and found objects, counted from 0, and how they overlap."""

    true_ids: npt.NDArray[np.int64]  # (N,)
    found_ids: npt.NDArray[np.int64]  # (M,)
    overlaps: npt.NDArray[np.float64]  # (N, M)


@dataclass(frozen=True, eq=False)
class TrackMatches:
    """
    What each frame gives to the scores of a sequence of F frames.

    Who goes with whom was decided over the whole sequence, and stays so however frames count.
    """

    true_boxes: npt.NDArray[np.int64]  # (F,)
    found_boxes: npt.NDArray[np.int64]  # (F,)
    hits: npt.NDArray[np.int64]  # (F, thresholds) matched boxes
    associated: npt.NDArray[np.float64]  # (F, thresholds) sum of how well the matched go together
    identified: npt.NDArray[np.int64]  # (F,) boxes under the one number of their object
    matched: npt.NDArray[np.int64]  # (F,) boxes matched for MOTA
    switches: npt.NDArray[np.int64]  # (F,) of them, under another number than before

    def scores(self, weights: npt.NDArray[np.int64]) -> dict[str, float]:
        """
        Return the scores.

        :param weights: (F,) how often each frame counts.
        :return: ``HOTA``, ``DetA``, ``AssA``, ``IDF1``, ``MOTA``, and the count ``id_switches``;
            NaN without true boxes.
        """
        true, found = int(weights @ self.true_boxes), int(weights @ self.found_boxes)
        if not true:
            return dict.fromkeys(('HOTA', 'DetA', 'AssA', 'IDF1', 'MOTA', 'id_switches'), math.nan)
        hits = weights @ self.hits
        detection = hits / np.maximum(1, true + found - hits)
        association = weights @ self.associated / np.maximum(1, hits)
        matched, switches = int(weights @ self.matched), int(weights @ self.switches)
        wrong = true - matched + found - matched + switches
        return {'HOTA': float(np.sqrt(detection * association).mean()),
                'DetA': float(detection.mean()), 'AssA': float(association.mean()),
                'IDF1': 2.0 * int(weights @ self.identified) / (true + found),
                'MOTA': 1.0 - wrong / true, 'id_switches': float(switches)}


def match_tracks(
    truth: Sequence[tuple[BoxLabels, npt.NDArray[np.int64] | None]], found: Sequence[Detections]
) -> TrackMatches:
    """
    Match the numbers of objects over a sequence of frames.

    Ignored true boxes count neither way, nor does a box found that lies on one (IoU 0.5) and on
    no other true box.

    :param truth: True boxes of each frame, and the (N,) number of each.
    :param found: Boxes of the same frames, with ``object_ids``.
    :raises ValueError: If the two disagree in length, or boxes have no numbers.
    """
    frames, true_objects, found_objects = _frames(truth, found)
    hits, associated = _associations(frames, true_objects, found_objects)
    matched, switches = _clear(frames)
    return TrackMatches(
        np.array([len(frame.true_ids) for frame in frames]),
        np.array([len(frame.found_ids) for frame in frames]), hits, associated,
        _identified(frames, true_objects, found_objects), matched, switches)


def _frames(
    truth: Sequence[tuple[BoxLabels, npt.NDArray[np.int64] | None]], found: Sequence[Detections]
) -> tuple[list[_Frame], int, int]:
    """Return the frames, and how many different objects both sides have."""
    true_rows: dict[tuple[int, int], int] = {}
    found_rows: dict[tuple[int, int], int] = {}

    def rows(
        known: dict[tuple[int, int], int], class_ids: npt.NDArray[np.int64],
        numbers: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.int64]:
        keys = zip(class_ids.tolist(), numbers.tolist(), strict=True)
        return np.array([known.setdefault(key, len(known)) for key in keys], np.int64)

    frames = []
    for (labels, numbers), boxes in zip(truth, found, strict=True):
        found_numbers = boxes.object_ids if boxes.object_ids is not None or len(boxes) \
            else np.empty(0, np.int64)
        if numbers is None or found_numbers is None:
            raise ValueError('tracks are scored by the numbers of objects, and boxes have none')
        overlaps = iou_matrix(labels.boxes_xyxy, boxes.boxes_xyxy).astype(np.float64)
        overlaps[labels.class_ids[:, None] != boxes.class_ids[None, :]] = 0.0
        counted = ~labels.ignored
        on_ignored = overlaps[labels.ignored].max(axis=0, initial=0.0) >= _MATCH_IOU
        on_others = overlaps[counted].max(axis=0, initial=0.0) >= _MATCH_IOU
        kept = ~on_ignored | on_others
        frames.append(_Frame(
            rows(true_rows, labels.class_ids[counted], numbers[counted]),
            rows(found_rows, boxes.class_ids[kept], found_numbers[kept]),
            overlaps[np.ix_(counted, kept)]))
    return frames, len(true_rows), len(found_rows)


def _associations(
    frames: Sequence[_Frame], true_objects: int, found_objects: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return, of HOTA, each frame's matches and the sum of their association scores."""
    # how far each pair of objects goes together, whatever the threshold
    together = np.zeros((true_objects, found_objects))
    true_counts, found_counts = np.zeros((true_objects, 1)), np.zeros((1, found_objects))
    for frame in frames:
        shared = frame.overlaps
        total = shared.sum(axis=0)[None, :] + shared.sum(axis=1)[:, None] - shared
        part = np.divide(shared, total, out=np.zeros_like(shared), where=total > _ROUNDING)
        together[np.ix_(frame.true_ids, frame.found_ids)] += part
        true_counts[frame.true_ids, 0] += 1
        found_counts[0, frame.found_ids] += 1
    alignment = together / (true_counts + found_counts - together)
    pairs, reached = [], []
    matches = np.zeros((len(THRESHOLDS), true_objects, found_objects))
    for frame in frames:
        rows, columns = linear_sum_assignment(
            alignment[np.ix_(frame.true_ids, frame.found_ids)] * frame.overlaps, maximize=True)
        pairs.append((frame.true_ids[rows], frame.found_ids[columns]))
        reached.append(
            frame.overlaps[rows, columns][None, :] >= THRESHOLDS[:, None] - _ROUNDING)
        matches[:, *pairs[-1]] += reached[-1]
    shares = matches / np.maximum(1.0, true_counts + found_counts - matches)
    return (np.array([those.sum(axis=1) for those in reached]),
            np.array([(shares[:, *pair] * those).sum(axis=1)
                      for pair, those in zip(pairs, reached, strict=True)]))


def _identified(
    frames: Sequence[_Frame], true_objects: int, found_objects: int
) -> npt.NDArray[np.int64]:
    """Return, of IDF1, how many boxes of each frame have the one number of their object."""
    matches = np.zeros((true_objects, found_objects))
    for frame in frames:
        matches[np.ix_(frame.true_ids, frame.found_ids)] += frame.overlaps >= _MATCH_IOU
    number_of = np.full(true_objects, -1)
    rows, columns = linear_sum_assignment(matches, maximize=True)
    number_of[rows] = columns
    return np.array([np.count_nonzero(
        (frame.overlaps >= _MATCH_IOU) & (number_of[frame.true_ids][:, None] == frame.found_ids))
        for frame in frames])


def _clear(frames: Sequence[_Frame]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return, of MOTA, each frame's matches, and how many of them are switches of numbers."""
    last: dict[int, int] = {}  # found object of each true one, when last matched
    before: dict[int, int] = {}  # the same, of the frame before alone
    matched, switches = np.zeros((2, len(frames)), np.int64)
    for k, frame in enumerate(frames):
        scores = frame.overlaps.copy()
        for i, number in enumerate(frame.true_ids.tolist()):
            # who was matched in the frame before stays so, as long as the boxes overlap
            scores[i, frame.found_ids == before.get(number, -1)] += 1000.0
        scores[frame.overlaps < _MATCH_IOU - _ROUNDING] = 0.0
        rows, columns = linear_sum_assignment(scores, maximize=True)
        real = scores[rows, columns] > _ROUNDING
        pairs = dict(zip(frame.true_ids[rows[real]].tolist(),
                         frame.found_ids[columns[real]].tolist(), strict=True))
        matched[k] = len(pairs)
        switches[k] = sum(last.get(number, other) != other for number, other in pairs.items())
        last |= pairs
        before = pairs
    return matched, switches
