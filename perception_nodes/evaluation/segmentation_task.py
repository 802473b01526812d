"""A segmenter on a data set: its figures, confusion and worst pictures."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from perception_nodes.core.overlay import blend_mask
from perception_nodes.core.protocols import SegmenterModel
from perception_nodes.evaluation.mask_datasets import MaskedImage, SegmentationDataset, VOID
from perception_nodes.evaluation.metrics import (
    first_of_groups,
    groups_of,
    scores_with_intervals,
)
from perception_nodes.evaluation.model_page import ConfusionTable, Evaluation, Table
from perception_nodes.evaluation.report import Moment, Panel
from perception_nodes.evaluation.segmentation_metrics import (
    BOUNDARY_TOLERANCE,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)
from perception_nodes.evaluation.segmentation_scores import Mask, tally

Pixels = npt.NDArray[np.uint8]

_WORST = 6


class MaskComparison:
    """Masks against true masks; the headline is ``mIoU``."""

    metric = 'mIoU'

    def __init__(
        self, images: Sequence[MaskedImage], class_names: Mapping[int, str], seed: int
    ) -> None:
        self.images = images
        self._class_names = class_names
        self._seed = seed

    def headline(self, answers: Sequence[Mask]) -> dict[str, float]:
        """Return the headline figure with its 95 % interval over scenes or images."""
        ids = list(self._class_names)
        counts = np.array([confusion_matrix(image.mask(), mask, ids)
                           for image, mask in zip(self.images, answers, strict=True)])
        return scores_with_intervals(
            lambda weights: {self.metric: mean_iou(np.tensordot(weights, counts, axes=1))},
            groups_of([image.scene for image in self.images]), self._seed)

    def evaluate(self, answers: Sequence[Mask]) -> Evaluation:
        """Return all that is known about the answers to the images."""
        result = tally(
            (image.mask() for image in self.images), answers, self._class_names,
            groups_of([image.scene for image in self.images]))
        values = result.scores(self._seed)
        counts, names = result.confusion(), list(self._class_names.values())
        shares = counts.sum(axis=1) / max(1, counts.sum())
        recall = np.diag(counts) / np.maximum(counts.sum(axis=1), 1)
        table = Table(
            'By class', 'Intersection over union, the share of the true pixels that are found, '
            'and the share of all pixels; void counts nowhere, a class that neither side has '
            'stays out of the mean. Boundary F lets contours be off by '
            f'{BOUNDARY_TOLERANCE:.2%} of the diagonal.',
            ('class', 'IoU', 'found', 'of all pixels'),
            [(name, (values[f'IoU_{name}'], float(recall[k]), float(shares[k])))
             for k, name in enumerate(names)])
        accuracy = [pixel_accuracy(one) for one in result.confusions]
        return Evaluation(
            values, [table], [],
            ConfusionTable('Percent of the pixels of each row.', names, [*names, 'other'], counts),
            self._worst(answers, accuracy),
            'Pictures with the smallest share of right pixels.')

    def _worst(self, answers: Sequence[Mask], accuracy: Sequence[float]) -> list[Moment]:
        order = np.argsort(np.nan_to_num(accuracy, nan=1.0), kind='stable')
        shown = first_of_groups(order, groups_of([image.scene for image in self.images]), _WORST)
        return [self._moment(i, answers[i], accuracy[i]) for i in shown if accuracy[i] < 1.0]

    def _moment(self, i: int, mask: Mask, accuracy: float) -> Moment:
        rgb, truth = self.images[i].rgb_and_mask()
        known = mask.copy()
        known[truth == VOID] = VOID
        return Moment(f'{self.images[i].path.name}: {accuracy:.1%} of the pixels are right', [
            Panel('picture', '', rgb), Panel('true', '', blend_mask(rgb, truth)),
            Panel('found', '', blend_mask(rgb, known))])


class SegmentationTask(MaskComparison):
    """A segmenter on a data set."""

    def __init__(self, model: SegmenterModel, dataset: SegmentationDataset, seed: int) -> None:
        super().__init__(dataset.images, dataset.class_names, seed)
        self._model = model

    def predict(self, rgb: Pixels) -> Mask:
        """Return the (H, W) class ids."""
        return self._model.predict([rgb])[0].ids

    def confidence(self, rgb: Pixels) -> tuple[str, Callable[[Pixels], float]]:
        """Return a function that gives the share of pixels with the class they have here."""
        whole = self.predict(rgb)
        return ('share of pixels that keep their class',
                lambda picture: float(np.mean(self.predict(picture) == whole)))
