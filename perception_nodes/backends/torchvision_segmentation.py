"""Torchvision's segmenters by their names there, with weights from a local file."""

from collections.abc import Sequence
import difflib
import logging
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.preprocess import network_input, smallest_letterbox
from perception_nodes.backends.segmentation import MaskReader
from perception_nodes.backends.torch_runtime import (
    check_class_count,
    choose_device,
    fill,
    image_tensor,
    inference,
    load_state_dict,
)
from perception_nodes.backends.torchvision_backend import Uninitialised
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.types import SegmentationMask
import torch
from torchvision.models import get_model, list_models, segmentation

log = logging.getLogger(__name__)

# of the second head of FCN and DeepLabV3, which serves their training only
_AUXILIARY = 'aux_classifier.'


class TorchvisionSegmenter:
    """
    A network of ``torchvision.models.segmentation``, without the interpolation at its end.

    :raises ValueError: If the manifest's classes do not suit masks.
    """

    def __init__(self, network: Any, entry: ModelEntry, device: torch.device,
                 half_precision: bool) -> None:
        self.class_names = entry.class_names
        self._reader = MaskReader(entry)
        self._input = entry.input
        network.to(memory_format=torch.channels_last)
        self._network = network.eval().to(device)
        self._device = device
        self._half_precision = half_precision

    def predict(
        self, frames: Sequence[npt.NDArray[np.uint8]], *, confidence: bool = False
    ) -> list[SegmentationMask]:
        """Segment each (H, W, 3) uint8 RGB frame; see ``SegmenterModel``."""
        return [self._predict_one(frame, confidence) for frame in frames]

    def _predict_one(self, rgb: npt.NDArray[np.uint8], confidence: bool) -> SegmentationMask:
        height, width = rgb.shape[:2]
        # any size will do: the networks are convolutions throughout
        spec = smallest_letterbox(width, height, self._input, 1)
        pixels, resize = network_input(rgb, spec)
        with inference(self._device, self._half_precision):
            logits = self._logits(image_tensor(pixels[None], self._device))[0].float()
        return self._reader.from_logits(
            logits.contiguous().cpu().numpy(), resize, (spec.width, spec.height), (width, height),
            confidence=confidence)

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the (N, C, h, w) scores before torchvision brings them to the input's size."""
        features = self._network.backbone(images)
        if not isinstance(self._network, segmentation.LRASPP):
            features = features['out']
        logits: torch.Tensor = self._network.classifier(features)
        return logits


def load_segmenter(entry: ModelEntry, device: str, half_precision: bool) -> TorchvisionSegmenter:
    """Load a segmentation model; see :func:`perception_nodes.backends.registry.load_model`."""
    place = choose_device(device, half_precision)
    state = {name: tensor for name, tensor in load_state_dict(entry.verified_path()).items()
             if not name.startswith(_AUXILIARY)}
    try:
        network = _network(entry)
        check_class_count(network, state, entry.class_names)
        fill(network, state, entry.architecture)
        segmenter = TorchvisionSegmenter(network, entry, place, half_precision)
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error
    log.info("model '%s' runs on %s", entry.name, place)
    return segmenter


def untrained_segmenter(entry: ModelEntry) -> TorchvisionSegmenter:
    """Build a network with random weights on the CPU, to measure what it costs."""
    place = choose_device('cpu', False)
    network = get_model(entry.architecture, weights=None, weights_backbone=None,
                        num_classes=max(entry.class_names) + 1)
    return TorchvisionSegmenter(network, entry, place, False)


def architectures() -> list[str]:
    """Return the names of torchvision's segmenters."""
    return list_models(module=segmentation)


def _network(entry: ModelEntry) -> torch.nn.Module:
    """Build the untrained network; torchvision counts classes from 0, the background."""
    known = architectures()
    if entry.architecture not in known:
        close = difflib.get_close_matches(entry.architecture, known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f'there are {", ".join(known)}'
        raise ValueError(f"torchvision has no segmenter '{entry.architecture}'; {hint}")
    # both None: torchvision would download them
    with Uninitialised():
        return get_model(entry.architecture, weights=None, weights_backbone=None,
                         num_classes=max(entry.class_names) + 1)
