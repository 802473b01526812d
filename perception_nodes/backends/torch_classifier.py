"""Classifiers on torch, from whichever source the network is."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.class_scores import ScoreReader
from perception_nodes.backends.device_network import by_shape, DeviceNetwork
from perception_nodes.backends.runtime_choice import is_of_device
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.types import ClassScores
import torch


class TorchClassifier:
    """
    A network from (N, 3, H, W) images to (N, C) logits.

    It runs once on construction, so that one which is not what the manifest says is refused then.

    :raises ValueError: If its output, its classes or its input are not the manifest's.
    """

    def __init__(self, network: torch.nn.Module, entry: ModelEntry, device: torch.device,
                 half_precision: bool) -> None:
        self.class_names = entry.class_names
        self._input = entry.input
        self.network = DeviceNetwork(network, device, half_precision)
        try:
            blank = self._run([np.zeros((entry.input.height, entry.input.width, 3), np.uint8)])
        except (AssertionError, RuntimeError) as error:  # torch's words for a size it cannot take
            if is_of_device(error):
                raise
            raise ValueError(
                f'{entry.architecture} does not take images of '
                f'{entry.input.width}x{entry.input.height} pixels ({error}); leave input_size '
                'empty, or correct the manifest') from error
        self._reader = ScoreReader(entry.class_names, blank)

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[ClassScores]:
        """Classify each (H, W, 3) uint8 RGB frame; see ``ClassifierModel``."""
        return self._reader.read(self._run(frames))

    def _run(self, frames: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        rows: dict[int, npt.NDArray[np.float32]] = {}
        for places in by_shape(frames):
            logits, = self.network.to_host(
                self.network.run([frames[i] for i in places], self._input))
            rows |= dict(zip(places, logits, strict=True))
        return np.stack([rows[i] for i in range(len(frames))])
