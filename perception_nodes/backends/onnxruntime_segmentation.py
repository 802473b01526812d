"""Segmenters in ONNX files, through onnxruntime."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime
from perception_nodes.backends.onnxruntime_backend import OnnxNetwork, open_session
from perception_nodes.backends.segmentation import MaskReader
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.types import SegmentationMask


class OnnxSegmenter:
    """
    A network whose output ``logits``, or the first of any name, holds the classes.

    The network runs once on construction, so that one which is not what the manifest says is
    refused then.

    :raises ValueError: If its input, its output or its classes are not the manifest's.
    """

    def __init__(self, session: onnxruntime.InferenceSession, entry: ModelEntry) -> None:
        self.class_names = entry.class_names
        self._layout = entry.input.layout
        try:
            self._reader = MaskReader(entry)
            self._network = OnnxNetwork(session, entry)
            self.predict([self._network.black()])
        except ValueError as error:
            raise ValueError(f"model '{entry.name}': {error}") from error

    def predict(
        self, frames: Sequence[npt.NDArray[np.uint8]], *, confidence: bool = False
    ) -> list[SegmentationMask]:
        """Segment each (H, W, 3) uint8 RGB frame; see ``SegmenterModel``."""
        # one by one: exported networks often have a fixed batch of one
        return [self._predict_one(frame, confidence) for frame in frames]

    def _predict_one(self, rgb: npt.NDArray[np.uint8], confidence: bool) -> SegmentationMask:
        outputs, resize = self._network.run(rgb)
        values = outputs.get('logits', next(iter(outputs.values())))
        return self._reader.from_output(
            values, self._layout, resize, self._network.size, (rgb.shape[1], rgb.shape[0]),
            confidence=confidence)


def load_segmenter(entry: ModelEntry, device: str, half_precision: bool) -> OnnxSegmenter:
    """Load a segmentation model; see :func:`perception_nodes.backends.registry.load_model`."""
    return OnnxSegmenter(open_session(entry, device, half_precision), entry)
