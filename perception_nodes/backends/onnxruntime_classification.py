"""Classifiers in ONNX files, through onnxruntime."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime
from perception_nodes.backends.class_scores import ScoreReader
from perception_nodes.backends.onnxruntime_backend import image_input, open_session
from perception_nodes.backends.preprocess import network_input
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
        self._session = session
        self._input = entry.input
        try:
            self._input_name, self._dtype = image_input(session, entry)
            self._reader = ScoreReader(entry.class_names, self._run(
                np.zeros((entry.input.height, entry.input.width, 3), np.uint8)))
        except ValueError as error:
            raise ValueError(f"model '{entry.name}': {error}") from error

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[ClassScores]:
        """Classify each (H, W, 3) uint8 RGB frame; see ``ClassifierModel``."""
        # one by one: exported networks often have a fixed batch of one
        return [self._reader.read(self._run(frame))[0] for frame in frames]

    def _run(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        pixels, _ = network_input(rgb, self._input)
        feed = {self._input_name: pixels[None].astype(self._dtype, copy=False)}
        return np.asarray(self._session.run(None, feed)[0], np.float32)


def load_classifier(entry: ModelEntry, device: str, half_precision: bool) -> OnnxClassifier:
    """Load a classifier; see :func:`perception_nodes.backends.registry.load_model`."""
    return OnnxClassifier(open_session(entry, device, half_precision), entry)
