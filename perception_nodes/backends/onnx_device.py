"""ONNX files in torch, for GPUs."""

from collections.abc import Sequence
import logging
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.device_network import by_shape, DeviceNetwork
from perception_nodes.backends.onnx_file import Graph, read_graph
from perception_nodes.backends.onnx_torch import OnnxModule
from perception_nodes.backends.onnxruntime_backend import Answer, check_image_shape
from perception_nodes.backends.preprocess import Resize
from perception_nodes.backends.segmentation import MaskReader
from perception_nodes.backends.torch_runtime import choose_device
from perception_nodes.backends.torch_segmenter import TorchSegmenter
from perception_nodes.core.manifest import ModelEntry
import torch

log = logging.getLogger(__name__)


class OnnxInTorch:
    """
    A network that takes one image; see ``ImageNetwork``.

    :raises ValueError: If torch cannot run it, or its input is not the manifest's.
    """

    def __init__(self, entry: ModelEntry, device: str, half_precision: bool) -> None:
        place = choose_device(device, half_precision)
        module = OnnxModule(_graph(entry))
        self.size = (entry.input.width, entry.input.height)
        self._spec = entry.input
        self._names = module.outputs
        self.network = DeviceNetwork(
            module, place, half_precision, takes_batches=module.takes_batches)
        log.info("model '%s' runs in torch on %s", entry.name, place)

    def run(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Answer]:
        """Return the outputs for each frame; those of one shape are one batch."""
        answers: dict[int, Answer] = {}
        for rows in by_shape(frames):
            alike = [frames[i] for i in rows]
            height, width = alike[0].shape[:2]
            resize = Resize.between(width, height, self._spec)
            values = self.network.to_host(self.network.run(alike, self._spec))
            for k, i in enumerate(rows):
                one: dict[str, npt.NDArray[Any]] = {
                    name: value[k] for name, value in zip(self._names, values, strict=True)}
                answers[i] = one, resize
        return [answers[i] for i in range(len(frames))]


def segmenter_in_torch(
    entry: ModelEntry, device: str, half_precision: bool
) -> TorchSegmenter | None:
    """
    Load a segmenter whose scores are read on the device; None for one that answers class ids.

    :raises ValueError: If torch cannot run it, or it is not the manifest's.
    """
    place = choose_device(device, half_precision)
    try:
        module = OnnxModule(_graph(entry))
        chosen = module.outputs.index('logits') if 'logits' in module.outputs else 0
        shape = _meta_shapes(module, entry)[chosen]
        if len(shape) != 4:
            return None
        is_last = MaskReader(entry).classes_are_last(shape[1:], entry.input.layout)

        def logits(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = network(images)[chosen]
            return scores.permute(0, 3, 1, 2) if is_last else scores

        segmenter = TorchSegmenter(module, entry, place, half_precision, logits=logits,
                                   takes_batches=module.takes_batches)
        segmenter.predict([np.zeros((entry.input.height, entry.input.width, 3), np.uint8)])
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error
    log.info("model '%s' runs in torch on %s", entry.name, place)
    return segmenter


def _graph(entry: ModelEntry) -> Graph:
    graph = read_graph(entry.verified_path())
    if len(graph.inputs) == 1:
        check_image_shape(graph.inputs[0].shape, entry)
    return graph


def _meta_shapes(module: OnnxModule, entry: ModelEntry) -> list[tuple[int, ...]]:
    image = entry.input
    sides = (3, image.height, image.width)
    if image.layout == 'NHWC':
        sides = (image.height, image.width, 3)
    return [tuple(answer.shape) for answer in module.on_meta(torch.empty(
        1, *sides, device='meta'))]
