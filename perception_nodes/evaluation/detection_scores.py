"""From the boxes found in a data set to its figures: average precision, families, confusion."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from perception_nodes.core.boxes import iou_matrix
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.coco_matches import match_as_coco
from perception_nodes.evaluation.datasets import LabelledImage
from perception_nodes.evaluation.metrics import (
    BoxLabels,
    coco_average_precision,
    groups_of,
    scores_with_intervals,
)

RESAMPLES = 400


def coco_scores(
    images: Sequence[LabelledImage], found: Sequence[Detections], seed: int,
    class_names: Mapping[int, str] | None = None,
) -> dict[str, float]:
    """
    Return COCO's ``AP``, ``AP50`` and ``AP75`` with 95 % intervals over scenes.

    :param images: The data set; boxes marked as ignored count neither way.
    :param found: Detections of the same images.
    :param seed: Seed of the intervals.
    :param class_names: Classes to score alone as well, as ``AP_<name>`` and ``AP50_<name>``.
    """
    labels = [image.labels for image in images]
    matches = match_as_coco(labels, found)
    values = scores_with_intervals(
        lambda weights: matches.scores(weights, class_names),
        groups_of([image.scene for image in images]), seed, RESAMPLES)
    return values | coco_average_precision(labels, found)


def all_counted(images: Sequence[LabelledImage]) -> list[LabelledImage]:
    """Return the images with no box ignored."""
    return [replace(image, labels=replace(
        image.labels, ignored=np.zeros(len(image.labels), np.bool_))) for image in images]


def only_families(
    images: Sequence[LabelledImage], families: Collection[str], class_ids: Collection[int]
) -> list[LabelledImage]:
    """Return the images with boxes of some families to find, and those of others ignored."""
    return [replace(image, labels=_only(image, families, class_ids)) for image in images]


def confusion(
    labels: Sequence[BoxLabels], found: Sequence[Detections], class_ids: Sequence[int],
    score_threshold: float, min_iou: float = 0.5,
) -> npt.NDArray[np.int64]:
    """
    Count which class was found where which was true, whatever the class.

    Best score first, a box takes the free true box that it overlaps most, if by ``min_iou``.

    :return: (C + 1, C + 1) int64, rows true; the last row holds false alarms, the last column
        what was missed.
    """
    n = len(class_ids)
    index = {class_id: i for i, class_id in enumerate(class_ids)}
    counts = np.zeros((n + 1, n + 1), np.int64)
    for truth, boxes in zip(labels, found, strict=True):
        seen = boxes[boxes.scores >= score_threshold]
        for row, column in _pairs(truth, seen, min_iou):
            counts[n if row is None else index[row], n if column is None else index[column]] += 1
    return counts


def _only(
    image: LabelledImage, families: Collection[str], class_ids: Collection[int]
) -> BoxLabels:
    mine = np.isin(image.labels.class_ids, list(class_ids))
    others = np.array([family not in families for family in image.families], np.bool_)
    return replace(image.labels, ignored=image.labels.ignored | others)[mine]


def _pairs(
    truth: BoxLabels, boxes: Detections, min_iou: float
) -> list[tuple[int | None, int | None]]:
    """Return true and found class of each match, miss and false alarm; ignored boxes are none."""
    overlap = iou_matrix(boxes.boxes_xyxy, truth.boxes_xyxy)
    free = np.ones(len(truth), np.bool_)
    pairs: list[tuple[int | None, int | None]] = []
    for i in np.argsort(-boxes.scores, kind='stable').tolist():
        candidates = np.where(free, overlap[i], -1.0)
        j = int(np.argmax(candidates)) if len(truth) else -1
        if j < 0 or candidates[j] < min_iou:
            pairs.append((None, int(boxes.class_ids[i])))
        elif truth.ignored[j]:
            continue  # stays free: several boxes may lie on it
        else:
            free[j] = False
            pairs.append((int(truth.class_ids[j]), int(boxes.class_ids[i])))
    missed = truth.class_ids[free & ~truth.ignored].tolist()
    return pairs + [(class_id, None) for class_id in missed]
