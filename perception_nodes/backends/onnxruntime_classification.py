"""Classifiers in ONNX files, through onnxruntime."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from perception_nodes.backends.class_scores import ScoreReader
from perception_nodes.backends.onnxruntime_backend import OnnxNetwork, open_session
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.types import ClassScores


class OnnxClassifier:
    """
    A classifier whose first output holds the logits or probabilities of one image.

    The network runs once on construction, so that one which is not what the manifest says is
    refused then.

    :raises ValueError: If its input, its output or its classes are not the manifest's.
    """

    def __init__(self, session: onnxruntime.InferenceSession, entry: ModelEntry) -> None:
        self.class_names = entry.class_names
        try:
            self._network = OnnxNetwork(session, entry)
            outputs, _ = self._network.run(self._network.black())
            self._reader = ScoreReader(entry.class_names, _first(outputs))
        except ValueError as error:
            raise ValueError(f"model '{entry.name}': {error}") from error

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[ClassScores]:
        """Classify each (H, W, 3) uint8 RGB frame; see ``ClassifierModel``."""
        # one by one: exported networks often have a fixed batch of one
        return [self._reader.read(_first(self._network.run(frame)[0]))[0] for frame in frames]


def load_classifier(entry: ModelEntry, device: str, half_precision: bool) -> OnnxClassifier:
    """Load a classifier; see :func:`perception_nodes.backends.registry.load_model`."""
    return OnnxClassifier(open_session(entry, device, half_precision), entry)


def _first(outputs: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """Return the first output as a batch of one."""
    return np.asarray(next(iter(outputs.values()))[None], np.float32)
