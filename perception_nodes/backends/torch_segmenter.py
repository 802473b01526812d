"""Segmenters that run in torch, wherever their networks come from."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.device_masks import DeviceMasks
from perception_nodes.backends.device_network import by_shape, DeviceNetwork
from perception_nodes.backends.heads import NOT_A_NUMBER
from perception_nodes.backends.preprocess import Resize, smallest_letterbox
from perception_nodes.backends.segmentation import MaskReader
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
    :param takes_batches: Whether it takes several images at once.
    :raises ValueError: If the manifest's classes do not suit masks.
    """

    def __init__(
        self, network: torch.nn.Module, entry: ModelEntry, device: torch.device,
        half_precision: bool, *, stride: int = 0,
        logits: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor] | None = None,
        takes_batches: bool = True,
    ) -> None:
        self.class_names = entry.class_names
        self._reader = MaskReader(entry)
        self._input = entry.input
        self._stride = stride
        self.network = DeviceNetwork(
            network, device, half_precision, logits, takes_batches=takes_batches)
        self._masks: DeviceMasks | None = None  # once the number of classes is known

    def predict(
        self, frames: Sequence[npt.NDArray[np.uint8]], *, confidence: bool = False
    ) -> list[SegmentationMask]:
        """Segment each (H, W, 3) uint8 RGB frame; see ``SegmenterModel``."""
        masks: dict[int, SegmentationMask] = {}
        for rows in by_shape(frames):
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
        step, sizes = Resize.between(width, height, spec), ((spec.width, spec.height),
                                                            (width, height))
        logits, = self.network.run(frames, spec)
        if self.network.is_cpu:
            return [self._reader.from_logits(scores, step, *sizes, confidence=confidence)
                    for scores in logits.contiguous().numpy()]
        if self._masks is None:
            self._masks = DeviceMasks(self._reader.table(logits.shape[1]), logits.device)
        ids, broken, *probabilities = self.network.to_host(
            self._masks.masks(logits, step, *sizes, confidence=confidence))
        if broken:
            raise ValueError(NOT_A_NUMBER)
        narrow = ids.astype(self._reader.dtype, copy=False)
        return [SegmentationMask(mask, *rest)
                for mask, *rest in zip(narrow, *probabilities, strict=True)]
