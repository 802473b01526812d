"""Torchvision's classifiers by their names there, with weights from a local file."""

import difflib
import logging
import re

from perception_nodes.backends.torch_classifier import TorchClassifier
from perception_nodes.backends.torch_runtime import (
    check_class_count,
    choose_device,
    fill,
    load_state_dict,
)
from perception_nodes.backends.torchvision_backend import Uninitialised
from perception_nodes.core.manifest import ModelEntry
import torch
from torchvision import models

log = logging.getLogger(__name__)

# as the DenseNets were published: norm.1 is called norm1 today
_OLD_DENSENET = re.compile(r'(denselayer\d+\.(?:norm|conv))\.([12])\.')


def load_classifier(entry: ModelEntry, device: str, half_precision: bool) -> TorchClassifier:
    """Load a classifier; see :func:`perception_nodes.backends.registry.load_model`."""
    place = choose_device(device, half_precision)
    state = {_OLD_DENSENET.sub(r'\1\2.', name): tensor
             for name, tensor in load_state_dict(entry.verified_path()).items()}
    try:
        network = _network(entry)
        check_class_count(network, state, entry.class_names)
        fill(network, state, entry.architecture)
        classifier = TorchClassifier(network, entry, place, half_precision)
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error
    log.info("model '%s' runs on %s", entry.name, place)
    return classifier


def architectures() -> list[str]:
    """Return the names of torchvision's classifiers."""
    return models.list_models(module=models)


def _network(entry: ModelEntry) -> torch.nn.Module:
    known = architectures()
    if entry.architecture not in known:
        close = difflib.get_close_matches(entry.architecture, known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f'there are {", ".join(known)}'
        raise ValueError(f"torchvision has no classifier '{entry.architecture}'; {hint}")
    with Uninitialised():  # weights None: torchvision would download them
        return models.get_model(
            entry.architecture, weights=None, num_classes=max(entry.class_names) + 1)
