"""Segmenters in ONNX files."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.onnxruntime_backend import black, ImageNetwork, open_network
from perception_nodes.backends.preprocess import Resize
from perception_nodes.backends.runtime_choice import choose_runtime
from perception_nodes.backends.segmentation import MaskReader
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.protocols import SegmenterModel
from perception_nodes.core.types import SegmentationMask


class OnnxSegmenter:
    """
    A network whose output ``logits``, or the first of any name, holds the classes.

    The network runs once on construction, so that one which is not what the manifest says is
    refused then.

    :raises ValueError: If its input, its output or its classes are not the manifest's.
    """

    def __init__(self, network: ImageNetwork, entry: ModelEntry) -> None:
        self.class_names = entry.class_names
        self._layout = entry.input.layout
        try:
            self._reader = MaskReader(entry)
            self._network = network
            self.predict([black(network)])
        except ValueError as error:
            raise ValueError(f"model '{entry.name}': {error}") from error

    def predict(
        self, frames: Sequence[npt.NDArray[np.uint8]], *, confidence: bool = False
    ) -> list[SegmentationMask]:
        """Segment each (H, W, 3) uint8 RGB frame; see ``SegmenterModel``."""
        return [self._mask(*answer, (frame.shape[1], frame.shape[0]), confidence)
                for frame, answer in zip(frames, self._network.run(frames), strict=True)]

    def _mask(
        self, outputs: dict[str, npt.NDArray[Any]], resize: Resize, size: tuple[int, int],
        confidence: bool,
    ) -> SegmentationMask:
        values = outputs.get('logits', next(iter(outputs.values())))
        return self._reader.from_output(
            values, self._layout, resize, self._network.size, size, confidence=confidence)


def load_segmenter(entry: ModelEntry, device: str, half_precision: bool) -> SegmenterModel:
    """Load a segmentation model; see :func:`perception_nodes.backends.registry.load_model`."""
    choice = choose_runtime(entry.backend, device)
    if choice.runtime == 'torch':
        from perception_nodes.backends.onnx_device import segmenter_in_torch
        if segmenter := segmenter_in_torch(entry, choice.device, half_precision):
            return segmenter
    return OnnxSegmenter(open_network(entry, device, half_precision), entry)
