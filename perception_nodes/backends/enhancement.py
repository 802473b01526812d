"""Better pictures from blurred and noisy ones, by :mod:`.networks.enhancement`."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.networks.enhancement import EnhancementNetwork, STRIDE
from perception_nodes.backends.torch_runtime import choose_device, fill, load_state_dict
import torch
from torch import nn
from torch.nn import functional

Pixels = npt.NDArray[np.uint8]


class Enhancer:
    """
    A network that makes pictures better.

    :param network: Takes and gives pictures from -1 to 1, sides multiples of 4.
    :param device: Where it is.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._network, self._device = network, device

    @classmethod
    def from_file(cls, path: Path) -> 'Enhancer':
        """
        Read the weights that ``perception train enhancement`` has written; for the CPU.

        :raises FileNotFoundError: If there is no such file.
        :raises ValueError: If it holds other weights, or is damaged.
        """
        if not path.is_file():
            raise FileNotFoundError(
                f'there is no file {path}; `perception train enhancement` writes one')
        network = EnhancementNetwork()
        fill(network, load_state_dict(path), 'the enhancement network')
        device = choose_device('cpu', False)
        return cls(network.eval().to(memory_format=torch.channels_last), device)

    @torch.inference_mode()
    def __call__(self, rgb: Pixels) -> Pixels:
        """
        Return a better picture of the same size.

        :param rgb: (H, W, 3) uint8, at least 4 pixels wide and high.
        """
        height, width = rgb.shape[:2]
        image = torch.from_numpy(rgb).to(self._device).permute(2, 0, 1)[None].float()
        below, right = -height % STRIDE, -width % STRIDE
        padded = functional.pad(image / 127.5 - 1.0, (0, right, 0, below), 'reflect')
        better = (self._network(padded)[0, :, :height, :width] + 1.0) * 127.5
        return np.asarray(
            better.round().clamp(0.0, 255.0).byte().permute(1, 2, 0).cpu().numpy(), np.uint8)
