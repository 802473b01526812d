"""From the masks found in a data set to its figures: mIoU, accuracy, contours, families."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
import math

import numpy as np
import numpy.typing as npt
from perception_nodes.evaluation.metrics import scores_with_intervals
from perception_nodes.evaluation.segmentation_metrics import (
    boundary_f,
    class_iou,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)

Mask = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class MaskTally:
    """What is kept of each picture: its confusion matrix and how well its contours lie."""

    class_names: Mapping[int, str]
    confusions: npt.NDArray[np.int64]  # (images, C, C + 1)
    boundary_fs: npt.NDArray[np.float64]  # (images,) NaN where there is no contour
    groups: npt.NDArray[np.int64]  # (images,) scene of each image

    def of(self, chosen: npt.NDArray[np.bool_]) -> 'MaskTally':
        """Return what is kept of some pictures, (images,) bool; at least one."""
        groups = np.unique(self.groups[chosen], return_inverse=True)[1]
        return MaskTally(
            self.class_names, self.confusions[chosen], self.boundary_fs[chosen], groups)

    def confusion(self) -> npt.NDArray[np.int64]:
        """Return the sum over the pictures, (C, C + 1)."""
        return np.asarray(self.confusions.sum(axis=0))

    def scores(self, seed: int) -> dict[str, float]:
        """
        Return ``mIoU``, ``pixel_accuracy``, ``boundary_f`` and the ``IoU_<name>`` of each class.

        Each with its 95 % interval over scenes; the IoU of a class that neither side has is NaN.

        :param seed: Seed of the intervals.
        """
        def score(weights: npt.NDArray[np.int64]) -> dict[str, float]:
            total = np.tensordot(weights, self.confusions, axes=1)
            known = weights * ~np.isnan(self.boundary_fs)
            contours = math.nan
            if known.any():
                contours = float(np.average(np.nan_to_num(self.boundary_fs), weights=known))
            by_class = zip(self.class_names.values(), class_iou(total).tolist(), strict=True)
            return {'mIoU': mean_iou(total), 'pixel_accuracy': pixel_accuracy(total),
                    'boundary_f': contours, **{f'IoU_{name}': iou for name, iou in by_class}}

        return scores_with_intervals(score, self.groups, seed, _RESAMPLES)


def tally(
    truths: Iterable[npt.NDArray[np.uint8]], found: Iterable[Mask],
    class_names: Mapping[int, str], groups: npt.NDArray[np.int64],
) -> MaskTally:
    """
    Compare masks with true ones, one picture at a time.

    :param truths: (H, W) class ids of each picture, 255 void.
    :param found: (H, W) class ids of each.
    :param class_names: The classes to score.
    :param groups: (images,) scene of each, counted from 0; see :func:`metrics.groups_of`.
    """
    ids = list(class_names)
    confusions, boundary_fs = [], []
    for truth, mask in zip(truths, found, strict=True):
        confusions.append(confusion_matrix(truth, mask, ids))
        boundary_fs.append(boundary_f(truth, mask, ids))
    return MaskTally(class_names, np.array(confusions), np.array(boundary_fs), groups)


def pixels_found(
    mask: Mask, instances: npt.NDArray[np.uint16], numbers: Collection[int], class_id: int
) -> tuple[int, int]:
    """
    Count the pixels of some objects of a picture, and how many have the class they should.

    :param mask: (H, W) class ids found.
    :param instances: (H, W) number of the object of each pixel.
    :param numbers: The objects to count.
    :param class_id: The class of all of them.
    :return: Pixels with that class, and pixels.
    """
    theirs = np.isin(instances, list(numbers))
    return int(np.count_nonzero(mask[theirs] == class_id)), int(np.count_nonzero(theirs))
