"""How good the answers of a classifier are: accuracy, confusion, ROC curves."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class RocCurve:
    """True against false alarms of one class as the score threshold falls."""

    false_positive_rate: npt.NDArray[np.float64]  # (N,) rising from 0 to 1
    true_positive_rate: npt.NDArray[np.float64]  # (N,)

    @property
    def area(self) -> float:
        """Return the area under the curve; NaN where one side has no pictures."""
        heights = (self.true_positive_rate[1:] + self.true_positive_rate[:-1]) / 2.0
        return float(np.sum(np.diff(self.false_positive_rate) * heights))


def roc_curve(scores: npt.NDArray[np.float32], is_class: npt.NDArray[np.bool_]) -> RocCurve:
    """
    Return the receiver operating characteristic of one class against the rest.

    Equal scores are one step, so that their order does not matter; see T. Fawcett, "An
    introduction to ROC analysis", 2006.

    :param scores: (N,) score of the class in each picture.
    :param is_class: (N,) whether the picture shows it.
    """
    order = np.argsort(-scores, kind='stable')
    hits = is_class[order]
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    with np.errstate(invalid='ignore'):
        rates = [np.concatenate([[0.0], np.cumsum(side)[last] / np.float64(side.sum())])
                 for side in (~hits, hits)]
    return RocCurve(*rates)


def confusion_counts(
    truth: Sequence[int], found: Sequence[int], class_ids: Sequence[int]
) -> npt.NDArray[np.int64]:
    """
    Count the pictures of each pair of true and found class.

    :return: (C, C + 1) int64, rows true; the last column counts classes not in ``class_ids``.
    """
    column = {class_id: i for i, class_id in enumerate(class_ids)}
    counts = np.zeros((len(class_ids), len(class_ids) + 1), np.int64)
    for true_id, found_id in zip(truth, found, strict=True):
        counts[column[true_id], column.get(found_id, len(class_ids))] += 1
    return counts


def mean_area(curves: Sequence[RocCurve]) -> float:
    """Return the mean area under the curves of the classes that have one; NaN without any."""
    areas = [curve.area for curve in curves if not math.isnan(curve.area)]
    return float(np.mean(areas)) if areas else math.nan
