"""Classifiers in ONNX files."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.class_scores import ScoreReader
from perception_nodes.backends.onnxruntime_backend import black, ImageNetwork, open_network
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.types import ClassScores


class OnnxClassifier:
    """
    A classifier whose first output holds the logits or probabilities of one image.

    The network runs once on construction, so that one which is not what the manifest says is
    refused then.

    :raises ValueError: If its input, its output or its classes are not the manifest's.
    """

    def __init__(self, network: ImageNetwork, entry: ModelEntry) -> None:
        self.class_names = entry.class_names
        try:
            self._network = network
            (outputs, _), = network.run([black(network)])
            self._reader = ScoreReader(entry.class_names, _first(outputs))
        except ValueError as error:
            raise ValueError(f"model '{entry.name}': {error}") from error

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[ClassScores]:
        """Classify each (H, W, 3) uint8 RGB frame; see ``ClassifierModel``."""
        return [self._reader.read(_first(outputs))[0]
                for outputs, _ in self._network.run(frames)]


def load_classifier(entry: ModelEntry, device: str, half_precision: bool) -> OnnxClassifier:
    """Load a classifier; see :func:`perception_nodes.backends.registry.load_model`."""
    return OnnxClassifier(open_network(entry, device, half_precision), entry)


def _first(outputs: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """Return the first output as a batch of one."""
    return np.asarray(next(iter(outputs.values()))[None], np.float32)
