"""Segmenters in ONNX files, through onnxruntime."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime
from perception_nodes.backends.onnxruntime_backend import image_input, open_session
from perception_nodes.backends.preprocess import network_input
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
        self._session = session
        self._input = entry.input
        names = [output.name for output in session.get_outputs()]
        self._output_name = 'logits' if 'logits' in names else names[0]
        try:
            self._reader = MaskReader(entry)
            self._input_name, self._dtype = image_input(session, entry)
            self._predict_one(
                np.zeros((entry.input.height, entry.input.width, 3), np.uint8), False)
        except ValueError as error:
            raise ValueError(f"model '{entry.name}': {error}") from error

    def predict(
        self, frames: Sequence[npt.NDArray[np.uint8]], *, confidence: bool = False
    ) -> list[SegmentationMask]:
        """Segment each (H, W, 3) uint8 RGB frame; see ``SegmenterModel``."""
        # one by one: exported networks often have a fixed batch of one
        return [self._predict_one(frame, confidence) for frame in frames]

    def _predict_one(self, rgb: npt.NDArray[np.uint8], confidence: bool) -> SegmentationMask:
        pixels, resize = network_input(rgb, self._input)
        feed = {self._input_name: pixels[None].astype(self._dtype, copy=False)}
        values = np.asarray(self._session.run([self._output_name], feed)[0])
        return self._reader.from_output(
            values[0], self._input.layout, resize, (self._input.width, self._input.height),
            (rgb.shape[1], rgb.shape[0]), confidence=confidence)


def load_segmenter(entry: ModelEntry, device: str, half_precision: bool) -> OnnxSegmenter:
    """Load a segmentation model; see :func:`perception_nodes.backends.registry.load_model`."""
    return OnnxSegmenter(open_session(entry, device, half_precision), entry)
