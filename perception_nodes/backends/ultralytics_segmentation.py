"""YOLO checkpoints of ultralytics as segmenters: semantic ones, and the masks of instances."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends import heads
from perception_nodes.backends.preprocess import network_input, smallest_letterbox
from perception_nodes.backends.segmentation import MaskReader
from perception_nodes.backends.torch_runtime import image_tensor, inference
from perception_nodes.backends.ultralytics_backend import open_network
from perception_nodes.backends.ultralytics_instances import UltralyticsInstances
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.protocols import SegmenterModel
from perception_nodes.core.segmentation import PaintedInstances
from perception_nodes.core.types import BACKGROUND, SegmentationMask
import torch

_SEMANTIC = 'SemanticSegmentationModel'  # of ultralytics 8.4 and newer
_KINDS = (_SEMANTIC, 'SegmentationModel')


class UltralyticsSegmenter:
    """
    A network with a score for each class and cell.

    :raises ValueError: If its classes are not the manifest's.
    """

    def __init__(self, network: Any, entry: ModelEntry, device: torch.device,
                 half_precision: bool) -> None:
        self.class_names = entry.class_names
        self._reader = MaskReader(entry)
        self._input = entry.input
        self._stride = int(network.stride.max())
        self._network = network.to(device, memory_format=torch.channels_last)
        self._device = device
        self._half_precision = half_precision

    def predict(
        self, frames: Sequence[npt.NDArray[np.uint8]], *, confidence: bool = False
    ) -> list[SegmentationMask]:
        """Segment each (H, W, 3) uint8 RGB frame; see ``SegmenterModel``."""
        return [self._predict_one(frame, confidence) for frame in frames]

    def _predict_one(self, rgb: npt.NDArray[np.uint8], confidence: bool) -> SegmentationMask:
        height, width = rgb.shape[:2]
        spec = smallest_letterbox(width, height, self._input, self._stride)
        pixels, resize = network_input(rgb, spec)
        with inference(self._device, self._half_precision):
            logits = self._network(image_tensor(pixels[None], self._device))[0].float()
        return self._reader.from_logits(
            logits.contiguous().cpu().numpy(), resize, (spec.width, spec.height), (width, height),
            confidence=confidence)


def load_segmenter(entry: ModelEntry, device: str, half_precision: bool) -> SegmenterModel:
    """Load a segmentation model; see :func:`perception_nodes.backends.registry.load_model`."""
    network, place = open_network(entry, device, half_precision, _KINDS, check_classes=False)
    try:
        if type(network).__name__ == _SEMANTIC:
            heads.ScoreColumns(entry.class_names).ids(len(network.names))
            return UltralyticsSegmenter(network, entry, place, half_precision)
        things = {i: name for i, name in entry.class_names.items() if name != BACKGROUND}
        heads.ScoreColumns(things).ids(len(network.names))
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error
    return PaintedInstances(
        UltralyticsInstances(
            network, replace(entry, class_names=things), place, half_precision),
        entry.class_names)
