"""
YOLO and RT-DETR checkpoints of ultralytics: their networks only, none of its machinery.

Ultralytics is AGPL-3.0 and therefore optional. Its predictor is left out because it reports its
use, downloads, installs packages and runs what checkpoints say; the network alone does not.
"""

import atexit
from collections.abc import Callable, Sequence
import inspect
import logging
import os
from pathlib import Path
import shutil
import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends import heads
from perception_nodes.backends.device_network import by_shape, DeviceNetwork
from perception_nodes.backends.preprocess import Resize, smallest_letterbox
from perception_nodes.backends.torch_runtime import (
    choose_device,
    require_safe_loading,
)
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.types import Detections
import torch

log = logging.getLogger(__name__)

# from a network and images to the tensors that are needed
Reading = Callable[[Any, torch.Tensor], tuple[torch.Tensor, ...]]

# of segmenters and pose networks the boxes are taken
_KINDS = ('DetectionModel', 'SegmentationModel', 'PoseModel', 'RTDETRDetectionModel')
_QUIET = {'YOLO_OFFLINE': 'true', 'YOLO_AUTOINSTALL': 'false', 'YOLO_VERBOSE': 'false'}


class UltralyticsDetector:
    """The network inside a checkpoint, read by the same heads as exported networks."""

    def __init__(self, network: Any, entry: ModelEntry, device: torch.device,
                 half_precision: bool) -> None:
        self.class_names = entry.class_names
        self._columns = heads.ScoreColumns(entry.class_names)
        self._input = entry.input
        self._stride = max(32, int(network.stride.max()))
        self._is_transformer = type(network).__name__ == 'RTDETRDetectionModel'
        self._is_end_to_end = bool(getattr(network.model[-1], 'end2end', False))
        self._channels = 4 + len(network.names)  # further ones are masks or key points
        self.needs_suppression = not (self._is_transformer or self._is_end_to_end)
        self._names, reading = self._readings()
        # its networks keep grids of the last shape, which a recording would not know of
        self._network = DeviceNetwork(network, device, half_precision, reading, records=False)

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """Find objects in each (H, W, 3) uint8 RGB frame; see ``DetectorModel``."""
        return [self._detections(outputs, resize, size)
                for outputs, resize, size in self._answers(frames)]

    def _answers(
        self, frames: Sequence[npt.NDArray[np.uint8]]
    ) -> list[tuple[heads.Outputs, Resize, tuple[int, int]]]:
        """Return the raw outputs for each frame, how it was resized, and to which size."""
        answers: dict[int, tuple[heads.Outputs, Resize, tuple[int, int]]] = {}
        for places in by_shape(frames):
            alike = [frames[i] for i in places]
            height, width = alike[0].shape[:2]
            spec = smallest_letterbox(width, height, self._input, self._stride)
            resize = Resize.between(width, height, spec)
            values = self._network.to_host(self._network.run(alike, spec))
            for k, i in enumerate(places):
                outputs = {name: np.asarray(value[k], np.float32)
                           for name, value in zip(self._names, values, strict=True)}
                heads.check_numbers(outputs)
                answers[i] = outputs, resize, (spec.width, spec.height)
        return [answers[i] for i in range(len(frames))]

    def _readings(self) -> tuple[tuple[str, ...], Reading]:
        """Return the names of the tensors that are needed, and what reads them."""
        if self._is_transformer:
            return ('boxes', 'logits'), _boxes_and_logits
        return ('decoded',), _decoded

    def _detections(
        self, outputs: heads.Outputs, resize: Resize, size: tuple[int, int]
    ) -> Detections:
        if self._is_transformer:
            found = heads.detr(outputs, size, self._columns)
        elif self._is_end_to_end:
            found = heads.yolo_end_to_end(outputs['decoded'][:, :6], self._columns)
        else:
            found = heads.yolo_scores(outputs['decoded'][:self._channels].T, self._columns)
        return Detections(resize.undo(found.boxes_xyxy), found.scores, found.class_ids)


def _boxes_and_logits(network: Any, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Read the last decoder layer, before what the versions of ultralytics do differently."""
    _, raw = network(images)
    return raw[0][-1], raw[1][-1]


def _decoded(network: Any, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    decoded, _ = network(images)
    # segmenters add what their masks are made of
    return (decoded[0] if isinstance(decoded, tuple) else decoded,)


def load_detector(entry: ModelEntry, device: str, half_precision: bool) -> UltralyticsDetector:
    """Load a detection model; see :func:`perception_nodes.backends.registry.load_model`."""
    network, place = open_network(entry, device, half_precision, _KINDS)
    return UltralyticsDetector(network, entry, place, half_precision)


def open_network(
    entry: ModelEntry, device: str, half_precision: bool, kinds: tuple[str, ...], *,
    check_classes: bool = True,
) -> tuple[Any, torch.device]:
    """
    Read the network of a checkpoint.

    :param kinds: Names of the classes of networks that can be used.
    :param check_classes: Whether its classes must be the manifest's, and all of them.
    :return: The network, on the CPU, and the device on which it is to run.
    :raises ValueError: If there is no such device, or the network is not the manifest's.
    """
    place = choose_device(device, half_precision)
    try:
        network = _network(entry.verified_path(), kinds)
        if any(side % max(32, int(network.stride.max()))
               for side in (entry.input.width, entry.input.height)):
            raise ValueError(
                f'the input is {entry.input.width}x{entry.input.height}; both must be multiples '
                f'of {max(32, int(network.stride.max()))} pixels')
        if check_classes:
            heads.ScoreColumns(entry.class_names).ids(len(network.names))
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error
    log.info("model '%s' runs on %s", entry.name, place)
    return network, place


def _network(path: Path, kinds: tuple[str, ...]) -> Any:
    """
    Return the trained network of a checkpoint, ready for inference.

    :raises ValueError: If the file holds anything but the classes that ultralytics knows.
    """
    tasks = import_tasks()
    # under a name of our own: it looks for files called yolov5*.pt elsewhere, and downloads them
    with tempfile.TemporaryDirectory() as folder:
        alias = Path(folder) / 'weights.pt'
        alias.symlink_to(path.absolute())
        try:
            checkpoint, _ = tasks.torch_safe_load(alias, safe_only=True)
        except Exception as error:  # it has many, of no common base
            first_line = str(error).partition('\n')[0].replace(str(alias), path.name)
            raise ValueError(
                f'{path} was not opened: it is damaged, or holds more than a network of '
                f'ultralytics, which could run code ({first_line})') from error
    network = checkpoint.get('ema') or checkpoint.get('model')
    if type(network).__name__ not in kinds:
        raise ValueError(
            f'{path} holds a {type(network).__name__}; supported are {", ".join(kinds)}')
    network = network.float().eval()
    for module in network.modules():
        # checkpoints from before torch 1.11 lack it
        if isinstance(module, torch.nn.Upsample):
            module.recompute_scale_factor = None
    return network.fuse(verbose=False)


def import_tasks() -> Any:
    """
    Import the networks of ultralytics with its downloads, reports and installations switched off.

    :raises ImportError: If this version cannot open a checkpoint without executing it.
    """
    os.environ.update(_QUIET)
    if 'YOLO_CONFIG_DIR' not in os.environ:
        # its settings file otherwise lands in the user's home
        folder = tempfile.mkdtemp(prefix='perception_nodes_ultralytics_')
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ['YOLO_CONFIG_DIR'] = folder
    from ultralytics import __version__
    from ultralytics.nn import tasks

    require_safe_loading()  # with an older torch it would open the file the unsafe way
    if 'safe_only' not in inspect.signature(tasks.torch_safe_load).parameters:
        raise ImportError(
            f'ultralytics {__version__} runs whatever a checkpoint says; install 8.4.190 or newer'
            ': pip install -U ultralytics-opencv-headless')
    return tasks
