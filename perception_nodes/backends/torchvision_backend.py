"""Torchvision's detectors by their names there, with weights from a local file."""

from collections.abc import Sequence
import difflib
import logging
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.device_network import by_shape, DeviceNetwork
from perception_nodes.backends.heads import SCORE_FLOOR
from perception_nodes.backends.torch_runtime import (
    choose_device,
    fill,
    inference,
    load_state_dict,
)
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.types import Detections
import torch
from torch.overrides import TorchFunctionMode
from torchvision.models import detection, get_model, list_models

log = logging.getLogger(__name__)

# more than any of the networks proposes: duplicates are left for the caller to suppress
_ALL = 10_000
# beginnings of the sha256 of weights from before frozen normalisation had an epsilon;
# torchvision's own loader treats them the same way
_TRAINED_WITHOUT_EPSILON = ('258fb6c6', 'bf2d0c1e', 'eeacb38b', 'fc266e95')
# beginnings of the names of those that give masks or key points
_INSTANCES = ('maskrcnn', 'keypointrcnn')
# what gives features, and what gives boxes relative to others
_BEFORE_BOXES = ('backbone', 'head', 'rpn.head', 'roi_heads.box_predictor')
_KEYPOINT_COUNT = 'roi_heads.keypoint_predictor.kps_score_lowres.bias'  # one element for each


class TorchvisionDetector:
    """A network of ``torchvision.models.detection``, which resizes and normalises by itself."""

    needs_suppression = True

    def __init__(self, network: torch.nn.Module, entry: ModelEntry, device: torch.device,
                 half_precision: bool) -> None:
        self.class_names = entry.class_names
        self._ids = np.fromiter(entry.class_names, np.int64)
        # it decides by what it sees, so its launches cannot be recorded
        self._on_device = DeviceNetwork(network, device, half_precision, records=False)
        self._device = device
        self._half_precision = half_precision
        for name, part in network.named_modules() if half_precision else ():
            if name in _BEFORE_BOXES:
                # torchvision computes boxes in the precision of features and of what heads give:
                # 16 bits would round them to whole pixels from 1024 on
                part.register_forward_hook(lambda part, given, answer: _in_32_bits(answer))

    @property
    def _network(self) -> Any:
        """The network; held in one place, so that its memory is free when that is."""
        return self._on_device.network

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """Find objects in each (H, W, 3) uint8 RGB frame; see ``DetectorModel``."""
        with inference(self._device, self._half_precision):
            answers = self._network(self._images(frames))
        return [self._detections(answer) for answer in answers]

    def _images(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[torch.Tensor]:
        """Return (3, H, W) float32 images from 0 to 1 on the device."""
        images: dict[int, torch.Tensor] = {}
        for places in by_shape(frames):
            pixels = self._on_device.uploaded([frames[i] for i in places])
            images |= dict(zip(places, pixels.permute(0, 3, 1, 2).float() / 255, strict=True))
        return [images[i] for i in range(len(frames))]

    def _detections(self, answer: dict[str, torch.Tensor]) -> Detections:
        # one table, so that the host waits once
        table = torch.cat([
            answer['boxes'].float(), answer['scores'].float()[:, None],
            answer['labels'].float()[:, None]], 1).cpu().numpy()
        labels = table[:, 5].astype(np.int64)
        # the numbers that COCO leaves out
        owned = np.isin(labels, self._ids)
        return Detections(
            np.ascontiguousarray(table[owned, :4]), np.ascontiguousarray(table[owned, 4]),
            labels[owned])


def _in_32_bits(answer: Any) -> Any:
    """Return tensors, however they are nested, in 32 bits."""
    if isinstance(answer, torch.Tensor):
        return answer.float()
    if isinstance(answer, dict):
        return {name: _in_32_bits(value) for name, value in answer.items()}
    return type(answer)(_in_32_bits(value) for value in answer)


def load_detector(entry: ModelEntry, device: str, half_precision: bool) -> TorchvisionDetector:
    """Load a detection model; see :func:`perception_nodes.backends.registry.load_model`."""
    network, place = open_network(entry, device, half_precision)
    keep_every_box(network)
    return TorchvisionDetector(network, entry, place, half_precision)


def open_network(
    entry: ModelEntry, device: str, half_precision: bool
) -> tuple[torch.nn.Module, torch.device]:
    """
    Build the network that an entry names, and fill it with its weights.

    :return: The network, on the CPU, and the device on which it is to run.
    :raises ValueError: If there is no such device or network, or the weights are not its own.
    """
    place = choose_device(device, half_precision)
    state = load_state_dict(entry.verified_path())
    try:
        network = _network(entry, state)
        _load(network, state, entry)
        _set_input_size(network, entry)
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error
    log.info("model '%s' runs on %s", entry.name, place)
    return network, place


class Uninitialised(TorchFunctionMode):
    """Leaves out the random numbers that weights would replace; VGG takes seconds for them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Skip the functions of ``torch.nn.init``, which return the tensor they are given."""
        if getattr(func, '__module__', None) == 'torch.nn.init':
            return args[0] if args else kwargs['tensor']
        return func(*args, **(kwargs or {}))


def architectures(task: str) -> list[str]:
    """Return the names of torchvision's networks for ``detection`` or for ``instances``."""
    names = list_models(module=detection)
    if task == 'instances':
        return [name for name in names if name.startswith(_INSTANCES)]
    return [name for name in names if not name.startswith('keypoint')]


def _network(entry: ModelEntry, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Build the untrained network; torchvision counts classes from 0, the background."""
    known = architectures(entry.task)
    if entry.architecture not in known:
        close = difflib.get_close_matches(entry.architecture, known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f'there are {", ".join(known)}'
        raise ValueError(
            f"torchvision has no detector '{entry.architecture}' for {entry.task}; {hint}")
    options = {}
    if _KEYPOINT_COUNT in state and entry.architecture.startswith('keypoint'):
        options = {'num_keypoints': len(state[_KEYPOINT_COUNT])}
    # both None: torchvision would download them
    with Uninitialised():
        return get_model(entry.architecture, weights=None, weights_backbone=None,
                         num_classes=max(entry.class_names) + 1, **options)


def _load(network: torch.nn.Module, state: dict[str, torch.Tensor], entry: ModelEntry) -> None:
    for name, tensor in network.state_dict().items():
        if any(part in name for part in ('cls', 'class', 'predictor')):
            _check_class_count(tensor, state.get(name, tensor), entry)
    fill(network, state, entry.architecture)
    if entry.sha256[:8] in _TRAINED_WITHOUT_EPSILON:
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 0.0


def _check_class_count(ours: torch.Tensor, theirs: torch.Tensor, entry: ModelEntry) -> None:
    """Refuse a tensor of another number of classes; each may have several boxes, or anchors."""
    classes, rest = divmod(theirs.numel() * (max(entry.class_names) + 1), ours.numel())
    if theirs.shape != ours.shape and not rest:
        raise ValueError(
            f'the network has {classes} classes counting the background 0, but the manifest '
            f'names {len(entry.class_names)} with ids from {min(entry.class_names)} to '
            f'{max(entry.class_names)}; correct its classes or take the file they belong to')


def _set_input_size(network: Any, entry: ModelEntry) -> None:
    """Let images be scaled until the short side or the long side is that of the manifest."""
    long, short = sorted((entry.input.width, entry.input.height), reverse=True)
    fixed = network.transform.fixed_size
    if fixed is None:
        network.transform.min_size, network.transform.max_size = (short,), long
    elif (entry.input.width, entry.input.height) != tuple(fixed):
        raise ValueError(
            f'{entry.architecture} takes {fixed[0]}x{fixed[1]} pixels only, not '
            f'{entry.input.width}x{entry.input.height}; leave input_size empty')


def keep_every_box(network: Any) -> None:
    """Take the network's own thresholds out of the way, and what serves no box."""
    last = getattr(network, 'roi_heads', network)
    last.score_thresh, last.nms_thresh, last.detections_per_img = SCORE_FLOOR, 1.0, _ALL
    if last is not network:
        last.mask_roi_pool = last.mask_head = last.mask_predictor = None
        last.keypoint_roi_pool = last.keypoint_head = last.keypoint_predictor = None
