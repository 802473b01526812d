"""The networks of this project by their names in ``backends/networks``, with local weights."""

import difflib
import logging

from perception_nodes.backends.networks import NETWORKS
from perception_nodes.backends.torch_classifier import TorchClassifier
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

log = logging.getLogger(__name__)


def load_classifier(entry: ModelEntry, device: str, half_precision: bool) -> TorchClassifier:
    """Load a classifier; see :func:`perception_nodes.backends.registry.load_model`."""
    place = choose_device(device, half_precision)
    try:
        classifier = TorchClassifier(_network(entry), entry, place, half_precision)
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error
    log.info("model '%s' runs on %s", entry.name, place)
    return classifier


def load_segmenter(entry: ModelEntry, device: str, half_precision: bool) -> TorchSegmenter:
    """Load a segmenter; see :func:`perception_nodes.backends.registry.load_model`."""
    place = choose_device(device, half_precision)
    try:
        segmenter = TorchSegmenter(_network(entry), entry, place, half_precision)
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
