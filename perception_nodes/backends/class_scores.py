"""The output of a classifying network to class scores."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.heads import ScoreColumns
from perception_nodes.core.types import ClassScores


class ScoreReader:
    """
    Reads the one output of a classifier, which holds logits or already probabilities.

    :param sample: (N, C) float32, an output of the network for any input.
    :raises ValueError: If it has another shape, or another number of classes than the manifest.
    """

    def __init__(self, class_names: Mapping[int, str], sample: npt.NDArray[np.float32]) -> None:
        if sample.ndim != 2:
            raise ValueError(
                f'the network gives an output of shape {sample.shape}; expected (N, classes)')
        self._ids = ScoreColumns(class_names).ids(sample.shape[1])
        self._is_normalised = bool(
            (sample >= 0.0).all() and np.allclose(sample.sum(axis=1), 1.0, atol=1e-2))

    def read(self, output: npt.NDArray[np.float32]) -> list[ClassScores]:
        """
        Return the scores of each row of (N, C) float32, best first.

        :raises ValueError: If a score is not finite.
        """
        if not np.isfinite(output).all():
            raise ValueError('the network gives scores that are not finite: its weights, or the '
                             'precision it runs in, do not suit it')
        scores = output if self._is_normalised else _softmax(output)
        return [self._ordered(row) for row in scores]

    def _ordered(self, scores: npt.NDArray[np.float32]) -> ClassScores:
        best_first = np.argsort(-scores, kind='stable')
        owned = best_first[self._ids[best_first] >= 0]
        return ClassScores(self._ids[owned], scores[owned])


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
