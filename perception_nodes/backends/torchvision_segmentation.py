"""Torchvision's segmenters by their names there, with weights from a local file."""

import difflib
import logging
from typing import Any

from perception_nodes.backends.torch_runtime import (
    check_class_count,
    choose_device,
    fill,
    load_state_dict,
)
from perception_nodes.backends.torch_segmenter import TorchSegmenter
from perception_nodes.backends.torchvision_backend import Uninitialised
from perception_nodes.core.manifest import ModelEntry
import torch
from torchvision.models import get_model, list_models, segmentation

log = logging.getLogger(__name__)

# of the second head of FCN and DeepLabV3, which serves their training only
_AUXILIARY = 'aux_classifier.'


def load_segmenter(entry: ModelEntry, device: str, half_precision: bool) -> TorchSegmenter:
    """Load a segmentation model; see :func:`perception_nodes.backends.registry.load_model`."""
    place = choose_device(device, half_precision)
    state = {name: tensor for name, tensor in load_state_dict(entry.verified_path()).items()
             if not name.startswith(_AUXILIARY)}
    try:
        network = _network(entry)
        check_class_count(network, state, entry.class_names)
        fill(network, state, entry.architecture)
        segmenter = _segmenter(network, entry, place, half_precision)
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error
    log.info("model '%s' runs on %s", entry.name, place)
    return segmenter


def untrained_segmenter(
    entry: ModelEntry, device: str = 'cpu', half_precision: bool = False
) -> TorchSegmenter:
    """Build a network with random weights, to measure what it costs."""
    place = choose_device(device, half_precision)
    network = get_model(entry.architecture, weights=None, weights_backbone=None,
                        num_classes=max(entry.class_names) + 1)
    return _segmenter(network, entry, place, half_precision)


def _segmenter(
    network: torch.nn.Module, entry: ModelEntry, device: torch.device, half_precision: bool
) -> TorchSegmenter:
    # convolutions throughout: any input size will do
    return TorchSegmenter(
        network, entry, device, half_precision, stride=1, logits=_coarse_logits)


def _coarse_logits(network: Any, images: torch.Tensor) -> torch.Tensor:
    """Return the (N, C, h, w) scores before torchvision brings them to the input's size."""
    features = network.backbone(images)
    if not isinstance(network, segmentation.LRASPP):
        features = features['out']
    logits: torch.Tensor = network.classifier(features)
    return logits


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
