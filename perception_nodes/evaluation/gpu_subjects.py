"""The networks that a GPU is checked with: those that ship, and our own with seeded weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.device_network import DeviceNetwork
from perception_nodes.backends.networks import NETWORKS
from perception_nodes.backends.onnx_device import OnnxInTorch, segmenter_in_torch
from perception_nodes.backends.onnxruntime_backend import OnnxDetector
from perception_nodes.backends.torch_classifier import TorchClassifier
from perception_nodes.backends.torch_runtime import choose_device
from perception_nodes.backends.torch_segmenter import TorchSegmenter
from perception_nodes.backends.torchvision_segmentation import untrained_segmenter
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.manifest import find_model, ModelEntry, ModelInput
from perception_nodes.evaluation.gpu_frames import LabelledFrame
from perception_nodes.evaluation.metrics import BoxLabels, match_detections
from perception_nodes.evaluation.segmentation_metrics import confusion_matrix, mean_iou
import torch
from torch import nn

_CLASSES = 9
_PHOTO = {'mean': (123.675, 116.28, 103.53), 'std': (58.395, 57.12, 57.375)}
_SURE = 0.3  # score of boxes that stand for the truth where none is known
_FRAME_CLASSES = list(range(_CLASSES))  # of the masks of labelled frames

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Loaded:
    """A network as a node uses it."""

    predict: Callable[[Sequence[Frame]], Any]
    network: DeviceNetwork
    input: ModelInput


@dataclass(frozen=True)
class Subject:
    """
    A network to check.

    :param load: From device and half precision to the loaded network.
    :param score: From frames, answers and the CPU's answers to how good they are, from 0 to 1;
        None where the weights are random.
    :param is_steady: Whether small errors stay small. Where random weights choose the places of
        maxima, as in SegNet, rounding moves them, and with them the answers.
    """

    name: str
    load: Callable[[str, bool], Loaded]
    score: Callable[[Sequence[LabelledFrame], Any, Any], float] | None = None
    is_steady: bool = True


def subjects() -> list[Subject]:
    """Return every network that is checked."""
    return [
        Subject('sim_scene_detector', partial(_detector, 'sim_scene_detector'), _found_labels),
        Subject('sim_scene_segmenter', partial(_segmenter, 'sim_scene_segmenter'), _mask_overlap),
        Subject('coco_ssdlite_mobilenet_v2', partial(_detector, 'coco_ssdlite_mobilenet_v2'),
                _found_as_on_cpu),
        Subject('segnet_small', partial(_own, 'segmentation', 'segnet_small', (320, 240)),
                is_steady=False),
        Subject('fcn8s_resnet18', partial(_own, 'segmentation', 'fcn8s_resnet18', (320, 240))),
        Subject('lenet5', partial(_own, 'classification', 'lenet5', (32, 32))),
        Subject('lraspp_mobilenet_v3_large', _lraspp)]


def _detector(name: str, device: str, half_precision: bool) -> Loaded:
    entry = find_model(name)
    network = OnnxInTorch(entry, device, half_precision)
    detector = ObjectDetector(
        OnnxDetector(network, entry), DetectionParams(model=name, score_threshold=0.02))
    return Loaded(detector.detect, network.network, entry.input)


def _segmenter(name: str, device: str, half_precision: bool) -> Loaded:
    entry = find_model(name)
    segmenter = segmenter_in_torch(entry, device, half_precision)
    if segmenter is None:
        raise ValueError(f"model '{name}' answers class ids, which are not read on the device")
    return Loaded(segmenter.predict, segmenter.network, entry.input)


def _own(
    task: str, architecture: str, size: tuple[int, int], device: str, half_precision: bool
) -> Loaded:
    entry = _entry(task, architecture, ModelInput(*size, **_PHOTO))  # type: ignore[arg-type]
    network = _seeded(lambda: NETWORKS[task][architecture](_CLASSES), size)
    place = choose_device(device, half_precision)
    kind: Any = TorchSegmenter if task == 'segmentation' else TorchClassifier
    model = kind(network, entry, place, half_precision)
    return Loaded(model.predict, model.network, entry.input)


def _lraspp(device: str, half_precision: bool) -> Loaded:
    entry = find_model('lraspp_mobilenet_v3_large')
    entry = replace(entry, input=replace(entry.input, width=320, height=240))
    torch.manual_seed(0)
    model = untrained_segmenter(entry, device, half_precision)
    return Loaded(model.predict, model.network, entry.input)


def _seeded(make: Callable[[], nn.Module], size: tuple[int, int]) -> nn.Module:
    """Return a network whose random weights are always the same, and keep features in range."""
    torch.manual_seed(0)
    network = make()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            network(torch.randn(2, 3, size[1], size[0]))
    return network.eval()


def _entry(task: str, architecture: str, image: ModelInput) -> ModelEntry:
    return ModelEntry(
        name=architecture, task=task, backend='own', architecture=architecture, head=None,
        domain='real', path=Path(architecture), url='', sha256='', size_bytes=None,
        licence='Apache-2.0', source='', class_names={i: str(i) for i in range(_CLASSES)},
        input=image, quality=(), training={}, converted_by='', manifest=Path('manifest.yaml'))


def _found_labels(frames: Sequence[LabelledFrame], answers: Any, on_cpu: Any) -> float:
    """Return the mean average precision at an overlap of one half."""
    return match_detections([frame.labels for frame in frames], answers).mean_average_precision()


def _found_as_on_cpu(frames: Sequence[LabelledFrame], answers: Any, on_cpu: Any) -> float:
    """Return the same with the CPU's sure boxes as the truth; NaN where it is sure of none."""
    labels = [BoxLabels(sure.boxes_xyxy, sure.class_ids, np.zeros(len(sure), np.bool_))
              for sure in (found[found.scores >= _SURE] for found in on_cpu)]
    if not any(len(sure) for sure in labels):
        return math.nan
    return match_detections(labels, answers).mean_average_precision()


def _mask_overlap(frames: Sequence[LabelledFrame], answers: Any, on_cpu: Any) -> float:
    return mean_iou(np.sum([
        confusion_matrix(frame.mask, mask.ids, _FRAME_CLASSES)
        for frame, mask in zip(frames, answers, strict=True)], axis=0))
