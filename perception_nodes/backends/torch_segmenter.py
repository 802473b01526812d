"""Segmenters that run in torch, wherever their networks come from."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.preprocess import network_input, smallest_letterbox
from perception_nodes.backends.segmentation import MaskReader
from perception_nodes.backends.torch_runtime import image_tensor, inference
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.types import SegmentationMask
import torch


class TorchSegmenter:
    """
    A network from (N, 3, H, W) images to (N, C, h, w) logits of the whole input.

    :param network: On the CPU, ready for inference.
    :param stride: What both sides of its input must be a multiple of, pixels; 0 where the
        manifest's size is the only one. Otherwise bars about the image are left out.
    :param logits: From the network and the images to the logits; None: calling it.
    :raises ValueError: If the manifest's classes do not suit masks.
    """

    def __init__(
        self, network: torch.nn.Module, entry: ModelEntry, device: torch.device,
        half_precision: bool, *, stride: int = 0,
        logits: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self.class_names = entry.class_names
        self._reader = MaskReader(entry)
        self._input = entry.input
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network.eval().to(device)
        self._device = device
        self._half_precision = half_precision
        self._stride = stride
        self._logits = logits or (lambda network, images: network(images))

    def predict(
        self, frames: Sequence[npt.NDArray[np.uint8]], *, confidence: bool = False
    ) -> list[SegmentationMask]:
        """Segment each (H, W, 3) uint8 RGB frame; see ``SegmenterModel``."""
        # those of one shape together, usually all of them
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, frame in enumerate(frames):
            by_shape.setdefault(frame.shape, []).append(i)
        masks: dict[int, SegmentationMask] = {}
        for rows in by_shape.values():
            found = self._predict_alike([frames[i] for i in rows], confidence)
            masks |= dict(zip(rows, found, strict=True))
        return [masks[i] for i in range(len(frames))]

    def _predict_alike(
        self, frames: list[npt.NDArray[np.uint8]], confidence: bool
    ) -> list[SegmentationMask]:
        height, width = frames[0].shape[:2]
        spec = self._input
        if self._stride:
            spec = smallest_letterbox(width, height, spec, self._stride)
        prepared = [network_input(frame, spec) for frame in frames]
        pixels = image_tensor(np.stack([one for one, _ in prepared]), self._device)
        with inference(self._device, self._half_precision):
            logits = self._logits(self._network, pixels).float()
        return [
            self._reader.from_logits(
                scores, prepared[0][1], (spec.width, spec.height), (width, height),
                confidence=confidence)
            for scores in logits.contiguous().cpu().numpy()]
