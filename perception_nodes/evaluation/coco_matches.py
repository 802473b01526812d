"""
COCO's average precision from matches that are made once and then counted in many ways.

The numbers are those of ``metrics.coco_average_precision``, whose library would match again for
every draw of a bootstrap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.metrics import BoxLabels, joined

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_MAX_DETECTIONS = 100  # per image and class
_HIT, _IGNORED = 1, 2


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """The detections of one class in all images, best first, and what became of them."""

    images: npt.NDArray[np.int64]  # (N,) index of the image
    outcomes: npt.NDArray[np.uint8]  # (10, N) by IoU threshold: 0 false alarm, 1 hit, 2 ignored
    label_images: npt.NDArray[np.int64]  # (M,) index of the image of each box to find

    def average_precision(
        self, image_weights: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.float64]:
        """
        Return the average precision at each IoU threshold, (10,); NaN without boxes to find.

        Precision is read at 101 recalls, as COCO does.

        :param image_weights: (images,) how often each image counts; None counts each once.
        """
        labels, weights = len(self.label_images), np.ones(len(self.images), np.int64)
        if image_weights is not None:
            labels = int(image_weights[self.label_images].sum())
            weights = image_weights[self.images]
        if not labels:
            return np.full(len(IOU_THRESHOLDS), math.nan)
        hits = np.cumsum(weights * (self.outcomes == _HIT), axis=1)
        counted = np.cumsum(weights * (self.outcomes != _IGNORED), axis=1)
        precision = hits / np.maximum(counted, 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        envelope = np.pad(envelope, ((0, 0), (0, 1)))  # recalls that are never reached
        return np.array([
            row[np.searchsorted(recall, _RECALLS, side='left')].mean()
            for row, recall in zip(envelope, hits / labels, strict=True)])


@dataclass(frozen=True, eq=False)
class CocoMatches:
    """The matches of every class that has boxes to find or was found."""

    classes: dict[int, ClassMatches]

    def scores(
        self, image_weights: npt.NDArray[np.int64] | None = None,
        class_names: Mapping[int, str] | None = None,
    ) -> dict[str, float]:
        """
        Return ``AP`` (mean over IoU 0.50 to 0.95), ``AP50`` and ``AP75``; NaN without truth.

        :param image_weights: (images,) how often each image counts; None counts each once.
        :param class_names: Classes to score alone as well, as ``AP_<name>`` and ``AP50_<name>``.
        """
        by_class = {class_id: matches.average_precision(image_weights)
                    for class_id, matches in self.classes.items()}
        none = np.full(len(IOU_THRESHOLDS), math.nan)
        known = [row for row in by_class.values() if not math.isnan(row[0])]
        by_iou = np.mean(known, axis=0) if known else none
        scores = {'AP': by_iou.mean(), 'AP50': by_iou[0], 'AP75': by_iou[5]}
        for class_id, name in (class_names or {}).items():
            row = by_class.get(class_id, none)
            scores |= {f'AP_{name}': row.mean(), f'AP50_{name}': row[0]}
        return {name: float(value) for name, value in scores.items()}


def match_as_coco(labels: Sequence[BoxLabels], found: Sequence[Detections]) -> CocoMatches:
    """
    Match detections and true boxes as COCO's own tool does.

    Best score first, a detection takes the free true box of its class that it overlaps most; one
    that overlaps none enough, but an ignored one (by the share of itself inside), is ignored.

    :param labels: True boxes, one item per image.
    :param found: Detections of the same images.
    :raises ValueError: If the two disagree in length.
    """
    kept: list[Detections] = []
    outcomes = [np.empty((len(IOU_THRESHOLDS), 0), np.uint8)]
    for truth, boxes in zip(labels, found, strict=True):
        best = boxes[np.argsort(-boxes.scores, kind='stable')]
        best = best[_rank_in_class(best.class_ids) < _MAX_DETECTIONS]
        truth = truth[np.argsort(truth.ignored, kind='stable')]
        outcomes.append(_match(
            np.ascontiguousarray(best.boxes_xyxy, np.float64), best.class_ids,
            np.ascontiguousarray(truth.boxes_xyxy, np.float64), truth.class_ids, truth.ignored,
            IOU_THRESHOLDS))
        kept.append(best)
    order = np.argsort(-joined([best.scores for best in kept], np.float32), kind='stable')
    images = np.repeat(np.arange(len(kept)), [len(best) for best in kept])[order]
    class_ids = joined([best.class_ids for best in kept], np.int64)[order]
    outcome = np.concatenate(outcomes, axis=1)[:, order]
    expected = [truth.class_ids[~truth.ignored] for truth in labels]
    label_images = np.repeat(np.arange(len(labels)), [len(ids) for ids in expected])
    label_ids = joined(expected, np.int64)
    return CocoMatches({
        int(i): ClassMatches(
            images[class_ids == i], outcome[:, class_ids == i], label_images[label_ids == i])
        for i in np.union1d(class_ids, label_ids)})


def _rank_in_class(class_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how many detections of the same class come before each."""
    order = np.argsort(class_ids, kind='stable')
    grouped = class_ids[order]
    starts = np.searchsorted(grouped, grouped, side='left')
    ranks = np.empty(len(class_ids), np.int64)
    ranks[order] = np.arange(len(class_ids)) - starts
    return ranks


@njit(cache=True)
def _match(boxes, class_ids, true_boxes, true_ids, ignored, thresholds):  # type: ignore[no-untyped-def]
    """Return (thresholds, N) outcomes of one image; true boxes have the ignored ones last."""
    outcomes = np.zeros((len(thresholds), len(boxes)), np.uint8)
    for t in range(len(thresholds)):
        taken = np.zeros(len(true_boxes), np.bool_)
        for i in range(len(boxes)):
            best, match = min(thresholds[t], 1.0 - 1e-10), -1
            for j in range(len(true_boxes)):
                if true_ids[j] != class_ids[i] or (taken[j] and not ignored[j]):
                    continue
                if match >= 0 and not ignored[match] and ignored[j]:
                    break
                overlap = _overlap(boxes[i], true_boxes[j], ignored[j])
                if overlap >= best:
                    best, match = overlap, j
            if match >= 0:
                taken[match] = True
                outcomes[t, i] = _IGNORED if ignored[match] else _HIT
    return outcomes


@njit(cache=True)
def _overlap(a, b, within):  # type: ignore[no-untyped-def]
    """Return the intersection over the union, or over box ``a`` alone."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0.0 or height <= 0.0:
        return 0.0
    shared = width * height
    area = (a[2] - a[0]) * (a[3] - a[1])
    if not within:
        area += (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / area
