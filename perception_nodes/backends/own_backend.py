"""The networks of this project by their names in ``backends/networks``, with local weights."""

from collections.abc import Sequence
import difflib
import logging

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.networks import NETWORKS
from perception_nodes.backends.preprocess import network_input
from perception_nodes.backends.segmentation import MaskReader
from perception_nodes.backends.torch_classifier import TorchClassifier
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

log = logging.getLogger(__name__)


class OwnSegmenter:
    """
    A network from (N, 3, H, W) images to (N, C, h, w) logits of the whole input.

    :raises ValueError: If the manifest's classes do not suit masks.
    """

    def __init__(self, network: torch.nn.Module, entry: ModelEntry, device: torch.device,
                 half_precision: bool) -> None:
        self.class_names = entry.class_names
        self._reader = MaskReader(entry)
        self._input = entry.input
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network.eval().to(device)
        self._device = device
        self._half_precision = half_precision

    def predict(
        self, frames: Sequence[npt.NDArray[np.uint8]], *, confidence: bool = False
    ) -> list[SegmentationMask]:
        """Segment each (H, W, 3) uint8 RGB frame; see ``SegmenterModel``."""
        prepared = [network_input(frame, self._input) for frame in frames]
        pixels = np.stack([pixels for pixels, _ in prepared])
        with inference(self._device, self._half_precision):
            logits = self._network(image_tensor(pixels, self._device)).float()
        size = (self._input.width, self._input.height)
        return [
            self._reader.from_logits(
                scores, resize, size, (frame.shape[1], frame.shape[0]), confidence=confidence)
            for scores, (_, resize), frame in zip(
                logits.contiguous().cpu().numpy(), prepared, frames, strict=True)]


def load_classifier(entry: ModelEntry, device: str, half_precision: bool) -> TorchClassifier:
    """Load a classifier; see :func:`perception_nodes.backends.registry.load_model`."""
    place = choose_device(device, half_precision)
    try:
        classifier = TorchClassifier(_network(entry), entry, place, half_precision)
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error
    log.info("model '%s' runs on %s", entry.name, place)
    return classifier


def load_segmenter(entry: ModelEntry, device: str, half_precision: bool) -> OwnSegmenter:
    """Load a segmenter; see :func:`perception_nodes.backends.registry.load_model`."""
    place = choose_device(device, half_precision)
    try:
        segmenter = OwnSegmenter(_network(entry), entry, place, half_precision)
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error
    log.info("model '%s' runs on %s", entry.name, place)
    return segmenter


def _network(entry: ModelEntry) -> torch.nn.Module:
    """Build the network of an entry, with its weights."""
    known = NETWORKS.get(entry.task, {})
    if entry.architecture not in known:
        close = difflib.get_close_matches(entry.architecture, known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f'there are {", ".join(known)}'
        raise ValueError(f"there is no own network '{entry.architecture}'; {hint}")
    state = load_state_dict(entry.verified_path())
    with Uninitialised():
        network = known[entry.architecture](len(entry.class_names))
    check_class_count(network, state, entry.class_names)
    fill(network, state, entry.architecture)
    return network
