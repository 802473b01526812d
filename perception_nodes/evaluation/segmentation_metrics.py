"""
How good masks are: intersection over union, pixel accuracy, and how well contours lie.

A confusion matrix has a row per true class and a column per class found, and one column more for
classes that the data set does not name. Void pixels of the truth count nowhere.
"""

from collections.abc import Sequence
import math

import cv2
import numpy as np
import numpy.typing as npt

# of the image's diagonal, as the Berkeley benchmark and after it Csurka et al. take it
BOUNDARY_TOLERANCE = 0.0075
_VOID = 255


def confusion_matrix(
    truth: npt.NDArray[np.uint8], found: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    class_ids: Sequence[int],
) -> npt.NDArray[np.int64]:
    """
    Count the pixels of each pair of true and found class.

    :param truth: (H, W) class ids, 255 void.
    :param found: (H, W) class ids of the same picture.
    :param class_ids: The ids that the truth may have, in the order of the rows.
    :return: (C, C + 1) int64; the last column counts other ids.
    :raises ValueError: If the sizes differ.
    """
    if truth.shape != found.shape:
        raise ValueError(f'the mask is {found.shape}, but the true one is {truth.shape}')
    n = len(class_ids)
    index = np.full(np.iinfo(np.uint16).max + 1, n)
    index[list(class_ids)] = np.arange(n)
    counted = truth != _VOID
    pairs = index[truth[counted]] * (n + 1) + index[found[counted]]
    return np.bincount(pairs, minlength=n * (n + 1))[:n * (n + 1)].reshape(n, n + 1)


def class_iou(confusion: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """
    Return the intersection over union of each class, (C,), NaN where neither side has it.

    See M. Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective",
    2015, section 2.4.
    """
    hits = np.diag(confusion)
    union = confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0) - hits
    with np.errstate(invalid='ignore'):
        return np.asarray(hits / union, np.float64)


def mean_iou(confusion: npt.NDArray[np.int64]) -> float:
    """Return the mean over the classes that either side has; NaN without any."""
    present = [value for value in class_iou(confusion).tolist() if not math.isnan(value)]
    return float(np.mean(present)) if present else math.nan


def pixel_accuracy(confusion: npt.NDArray[np.int64]) -> float:
    """Return the share of pixels that have the right class; NaN without any."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else math.nan


def boundary_f(
    truth: npt.NDArray[np.uint8], found: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
    class_ids: Sequence[int], tolerance: float = BOUNDARY_TOLERANCE,
) -> float:
    """
    Return how well the contours of the classes lie: the mean of their F scores in one picture.

    Precision is the share of the found contour within the tolerance of the true one, recall the
    reverse; a class that only one side has scores 0. See G. Csurka et al., "What is a good
    evaluation measure for semantic segmentation?", BMVC 2013, and for the same measure on objects
    F. Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
    Segmentation", CVPR 2016.

    :param truth: (H, W) class ids, 255 void.
    :param found: (H, W) class ids of the same picture.
    :param class_ids: The ids to score.
    :param tolerance: Largest distance, as a fraction of the image's diagonal.
    :return: In [0, 1]; NaN where no class has a contour.
    """
    radius_px = max(1, round(tolerance * math.hypot(*truth.shape)))
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius_px + 1,) * 2)
    counted = truth != _VOID
    # what borders on void has no true contour there
    counted_contours = cv2.erode(counted.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_)
    scores = []
    for class_id in class_ids:
        true_contour = _contour(truth == class_id) & counted_contours
        found_contour = _contour(found == class_id) & counted_contours
        true_px, found_px = np.count_nonzero(true_contour), np.count_nonzero(found_contour)
        if not true_px and not found_px:
            continue
        if not true_px or not found_px:
            scores.append(0.0)
            continue
        near_true, near_found = (
            cv2.dilate(c.view(np.uint8), disk).view(np.bool_)
            for c in (true_contour, found_contour))
        precision = np.count_nonzero(found_contour & near_true) / found_px
        recall = np.count_nonzero(true_contour & near_found) / true_px
        total = precision + recall
        scores.append(2.0 * precision * recall / total if total else 0.0)
    return float(np.mean(scores)) if scores else math.nan


def _contour(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels inside that touch a pixel outside; the image's border is none."""
    plane = inside.view(np.uint8)
    eroded = cv2.erode(plane, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return inside & ~eroded.view(np.bool_)
