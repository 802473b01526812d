"""A classifier on a data set: its figures, ROC curves, confusion and worst pictures."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from perception_nodes.core.overlay import colour_of
from perception_nodes.core.protocols import ClassifierModel
from perception_nodes.core.types import ClassScores
from perception_nodes.evaluation.classification_metrics import (
    confusion_counts,
    mean_area,
    roc_curve,
    RocCurve,
)
from perception_nodes.evaluation.datasets import ClassificationDataset, ClassifiedImage
from perception_nodes.evaluation.metrics import scores_with_intervals
from perception_nodes.evaluation.model_page import (
    Chart,
    ConfusionTable,
    Curve,
    Evaluation,
    Table,
)
from perception_nodes.evaluation.report import Moment, Panel

Pixels = npt.NDArray[np.uint8]

_WORST = 6
_TOP = 5
_NOTHING = -1  # the class of an empty answer


class ClassComparison:
    """
    Answers against the class of each picture; the headline is ``accuracy``.

    An answer may be cut short, or empty: a class that it lacks has the score 0.

    :param shown: The classes that pictures may show.
    :param class_names: All classes that answers may have.
    :param groups: (images,) what is drawn together for intervals, counted from 0; each picture
        alone if None.
    """

    metric = 'accuracy'

    def __init__(
        self, images: Sequence[ClassifiedImage], shown: Mapping[int, str],
        class_names: Mapping[int, str], seed: int, groups: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.images = images
        self._shown, self._class_names = shown, class_names
        self._truth = np.array([image.class_id for image in images], np.int64)
        self._seed = seed
        self._groups = np.arange(len(images)) if groups is None else groups

    def headline(self, answers: Sequence[ClassScores]) -> dict[str, float]:
        """Return the headline figure with its 95 % interval."""
        right = self._first(answers) == self._truth
        return scores_with_intervals(
            lambda weights: {self.metric: float(np.average(right, weights=weights))},
            self._groups, self._seed)

    def evaluate(self, answers: Sequence[ClassScores]) -> Evaluation:
        """Return all that is known about the answers to the images."""
        right = self._first(answers) == self._truth
        among = np.array([true in answer.class_ids[:_TOP]
                          for true, answer in zip(self._truth, answers, strict=True)])

        def score(weights: npt.NDArray[np.int64]) -> dict[str, float]:
            return {'accuracy': float(np.average(right, weights=weights)),
                    f'top{_TOP}_accuracy': float(np.average(among, weights=weights))}

        values = scores_with_intervals(score, self._groups, self._seed)
        ids = list(self._shown)
        curves = {i: self._roc(answers, i) for i in ids}
        counts = confusion_counts(self._truth.tolist(), self._first(answers).tolist(), ids)
        names = list(self._shown.values())
        table = Table(
            'By class', 'Pictures, the share that is recognised, and the area under the ROC curve '
            'of this class against the rest.', ('class', 'pictures', 'recognised', 'ROC area'),
            [(self._shown[i], (int(counts[k].sum()), counts[k, k] / max(1, counts[k].sum()),
                               curves[i].area)) for k, i in enumerate(ids)])
        chart = Chart(
            'ROC', 'Each class against the rest, as the score threshold falls.',
            'false positive rate', 'true positive rate',
            [Curve(self._shown[i], curve.false_positive_rate, curve.true_positive_rate,
                   colour_of(i)) for i, curve in curves.items()])
        return Evaluation(
            values | {'roc_area': mean_area(list(curves.values()))}, [table], [chart],
            ConfusionTable('Percent of the pictures of each row.', names, [*names, 'other'],
                           counts),
            self._worst(answers, right), 'Wrong answers, the surest first.')

    def _first(self, answers: Sequence[ClassScores]) -> npt.NDArray[np.int64]:
        return np.array([answer.class_ids[0] if len(answer.class_ids) else _NOTHING
                         for answer in answers], np.int64)

    def _roc(self, answers: Sequence[ClassScores], class_id: int) -> RocCurve:
        scores = np.array([
            answer.scores[answer.class_ids == class_id].max(initial=0.0) for answer in answers],
            np.float32)
        return roc_curve(scores, self._truth == class_id)

    def _worst(
        self, answers: Sequence[ClassScores], right: npt.NDArray[np.bool_]
    ) -> list[Moment]:
        sureness = np.array([answer.scores.max(initial=0.0) for answer in answers])
        order = np.argsort(np.where(right, np.inf, -sureness), kind='stable')[:_WORST].tolist()
        first = self._first(answers).tolist()
        return [Moment(self.images[i].path.name, [Panel(
            f'is {self._shown[int(self._truth[i])]}',
            f'taken for {self._class_names[first[i]]} {sureness[i]:.2f}'
            if first[i] != _NOTHING else 'no answer',
            self.images[i].rgb())]) for i in order if not right[i]]


class ClassificationTask(ClassComparison):
    """A classifier on a data set."""

    def __init__(self, model: ClassifierModel, dataset: ClassificationDataset, seed: int) -> None:
        super().__init__(dataset.images, dataset.class_names, model.class_names, seed)
        self._model = model

    def predict(self, rgb: Pixels) -> ClassScores:
        """Return the score of every class of the model, best first."""
        return self._model.predict([rgb])[0]

    def confidence(self, rgb: Pixels) -> tuple[str, Callable[[Pixels], float]]:
        """Return what a picture shows, and a function that gives the score of that class."""
        best = int(self.predict(rgb).class_ids[0])

        def score(picture: Pixels) -> float:
            answer = self.predict(picture)
            return float(answer.scores[answer.class_ids == best].max(initial=0.0))

        return f'{self._class_names[best]} {score(rgb):.2f}', score
