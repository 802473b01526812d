"""A detector on a data set: its figures, curves, confusion and worst pictures."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from perception_nodes.core.boxes import iou_matrix
from perception_nodes.core.detection import ObjectDetector
from perception_nodes.core.overlay import colour_of, draw_detections
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.datasets import DetectionDataset, LabelledImage
from perception_nodes.evaluation.detection_scores import coco_scores, confusion
from perception_nodes.evaluation.metrics import (
    BoxLabels,
    first_of_groups,
    groups_of,
    match_detections,
    Matches,
    scores_with_intervals,
)
from perception_nodes.evaluation.model_page import (
    Chart,
    ConfusionTable,
    Curve,
    Evaluation,
    Table,
)
from perception_nodes.evaluation.report import Moment, Panel

Pixels = npt.NDArray[np.uint8]

WORKING_SCORE = 0.5  # from which on a box is acted on: for confusion and worst cases
_MIN_IOU = 0.5
_WORST = 6
_MOST_FALSE_ALARMS = 5.0  # per image, where the curve ends


class BoxComparison:
    """
    Boxes against true boxes; the headline is ``mAP50``.

    It is average precision at IoU 0.5 as PASCAL VOC takes it, over all points of the curve,
    averaged over the classes with ground truth; COCO's own numbers stand beside it.
    """

    metric = 'mAP50'

    def __init__(
        self, images: Sequence[LabelledImage], class_names: Mapping[int, str], seed: int
    ) -> None:
        self.images = images
        self._class_names = class_names
        self._labels = [image.labels for image in images]
        self._seed = seed

    def of_classes(self, found: Detections) -> Detections:
        """Leave out what the data set has no labels for, and all but the boxes."""
        kept = found[np.isin(found.class_ids, list(self._class_names))]
        return Detections(kept.boxes_xyxy, kept.scores, kept.class_ids)

    def headline(self, answers: Sequence[Detections]) -> dict[str, float]:
        """Return the headline figure with its 95 % interval over scenes or images."""
        matches = match_detections(self._labels, answers)
        return scores_with_intervals(
            lambda weights: {self.metric: matches.mean_average_precision(weights)},
            groups_of([image.scene for image in self.images]), self._seed)

    def scores(self, answers: Sequence[Detections]) -> dict[str, float]:
        """Return each figure with the ends of its 95 % interval."""
        coco = coco_scores(self.images, answers, self._seed)
        return self.headline(answers) | {f'coco_{name}': value for name, value in coco.items()}

    def evaluate(self, answers: Sequence[Detections]) -> Evaluation:
        """Return all that is known about the answers to the images."""
        matches = match_detections(self._labels, answers)
        ids = sorted(self._class_names, key=self._class_names.__getitem__)
        names = [self._class_names[i] for i in ids]
        ap = {i: matches.curve(i) for i in ids}
        table = Table(
            'By class', 'Average precision at IoU 0.5 over all points of the curve; boxes to '
            'find, and boxes found above the score threshold, ignored ones left out.',
            ('class', 'AP50', 'to find', 'found'),
            [(self._class_names[i], (ap[i].average_precision(), ap[i].labels, len(ap[i].scores)))
             for i in ids])
        counts = confusion(self._labels, answers, ids, WORKING_SCORE, _MIN_IOU)
        return Evaluation(
            self.scores(answers), [table], self._charts(matches, ids),
            ConfusionTable(
                f'Boxes with a score of {WORKING_SCORE:g} or more, paired with true boxes at IoU '
                f'{_MIN_IOU:g} whatever the class; percent of each row.',
                [*names, 'nothing'], [*names, 'missed'], counts),
            self._worst(answers),
            f'Pictures with the most boxes missed or invented at a score of {WORKING_SCORE:g}.')

    def _charts(self, matches: Matches, ids: Sequence[int]) -> list[Chart]:
        """Return precision over recall, and recall over false alarms per image."""
        curves = [(i, matches.curve(i)) for i in ids]
        known = [(i, curve) for i, curve in curves if curve.labels and len(curve.scores)]
        hits = np.cumsum(matches.hits)
        total = max(1, len(matches.label_class_ids))
        alarms = np.cumsum(~matches.hits) / max(1, len(self.images))
        seen = np.arange(1, len(hits) + 1)
        return [
            Chart('Precision over recall', 'As the score threshold falls, at IoU 0.5: a line per '
                  'class, and bold all boxes together.', 'recall', 'precision',
                  [*(Curve(self._class_names[i], curve.recall, curve.precision, colour_of(i))
                     for i, curve in known),
                   Curve('all boxes', hits / total, hits / seen)]),
            Chart('Recall over false alarms', 'The free-response ROC: boxes have no true '
                  'negatives that the rate of an ordinary ROC curve could count.',
                  'false alarms per picture', 'recall',
                  [Curve('all boxes', alarms, hits / total)], _MOST_FALSE_ALARMS)]

    def _worst(self, answers: Sequence[Detections]) -> list[Moment]:
        ids = list(self._class_names)
        errors = []
        for truth, found in zip(self._labels, answers, strict=True):
            counts = confusion([truth], [found], ids, WORKING_SCORE, _MIN_IOU)
            errors.append(int(counts.sum() - np.trace(counts)))
        order = np.argsort(-np.array(errors), kind='stable')
        shown = first_of_groups(order, groups_of([image.scene for image in self.images]), _WORST)
        return [self._moment(i, answers[i], errors[i]) for i in shown if errors[i]]

    def _moment(self, i: int, found: Detections, errors: int) -> Moment:
        image = self.images[i]
        rgb, truth = image.rgb(), image.labels[~image.labels.ignored]
        seen = found[found.scores >= WORKING_SCORE]
        return Moment(f'{image.path.name}: {errors} wrong', [
            Panel('true', f'{len(truth)} boxes, {int(image.labels.ignored.sum())} more ignored',
                  draw_detections(rgb, _as_detections(truth), self._class_names)),
            Panel('found', f'{len(seen)} boxes', draw_detections(rgb, seen, self._class_names))])


class DetectionTask(BoxComparison):
    """A detector on a data set."""

    def __init__(self, detector: ObjectDetector, dataset: DetectionDataset, seed: int) -> None:
        super().__init__(dataset.images, dataset.class_names, seed)
        self._detector = detector

    def predict(self, rgb: Pixels) -> Detections:
        """Return the boxes of the classes that the data set has labels for."""
        return self.of_classes(self._detector.detect([rgb])[0])

    def confidence(self, rgb: Pixels) -> tuple[str, Callable[[Pixels], float]]:
        """
        Return what the surest box of a picture is, and a function that scores it elsewhere.

        The function gives the best score of a box of its class that overlaps it by half.
        """
        found = self.predict(rgb)
        if not len(found):
            return 'nothing found', lambda _: 0.0
        best = found[[int(np.argmax(found.scores))]]

        def score(picture: Pixels) -> float:
            others = self.predict(picture)
            same = (iou_matrix(others.boxes_xyxy, best.boxes_xyxy)[:, 0] >= _MIN_IOU) & (
                others.class_ids == best.class_ids[0])
            return float(others.scores[same].max(initial=0.0))

        return (f'{self._class_names[int(best.class_ids[0])]} {best.scores[0]:.2f}', score)


def _as_detections(truth: BoxLabels) -> Detections:
    return Detections(truth.boxes_xyxy, np.ones(len(truth), np.float32), truth.class_ids)
