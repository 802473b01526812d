"""A small auto-encoder that takes blur and noise out of pictures."""

import torch
from torch import nn
from torch.nn import functional

STRIDE = 4  # the sides of pictures must be multiples of it
_CHANNELS = (24, 48)  # at strides 2 and 4
_BLOCKS = 4
_LEAK = 0.1  # without it most features die in training


class EnhancementNetwork(nn.Module):
    """
    Encode to a quarter of the size, filter there, decode, and add what was found to the picture.

    The decoder sees what the encoder saw at half size, as in U-Net (Ronneberger et al., 2015), and
    grows by sub-pixel convolution (Shi et al., 2016). What is learned is the difference, as in
    DnCNN (Zhang et al., 2017): before training a picture comes out as it went in.
    """

    def __init__(self) -> None:
        super().__init__()
        half, quarter = _CHANNELS
        self.encode_2 = nn.Conv2d(3, half, 5, 2, 2)
        self.encode_4 = nn.Conv2d(half, quarter, 3, 2, 1)
        self.blocks = nn.Sequential(*(_Block(quarter) for _ in range(_BLOCKS)))
        self.decode_2 = nn.Conv2d(quarter, half * 4, 1)
        self.decode_1 = nn.Conv2d(half, 3 * 4, 3, 1, 1)
        for parameter in self.decode_1.parameters():
            nn.init.zeros_(parameter)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """
        Return better pictures.

        :param image: (N, 3, H, W) float32 from -1 to 1; H and W are multiples of :data:`STRIDE`.
        :return: The same shape and range, not cut off.
        """
        half = _active(self.encode_2(image))
        quarter = self.blocks(_active(self.encode_4(half)))
        grown = _active(functional.pixel_shuffle(self.decode_2(quarter), 2) + half)
        return image + functional.pixel_shuffle(self.decode_1(grown), 2)


def _active(x: torch.Tensor) -> torch.Tensor:
    return functional.leaky_relu(x, _LEAK)


class _Block(nn.Module):
    """A depthwise residual block (Sandler et al., 2018), wide enough to see along a blur."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 5, 1, 2, groups=channels), nn.LeakyReLU(_LEAK),
            nn.Conv2d(channels, channels * 2, 1), nn.LeakyReLU(_LEAK),
            nn.Conv2d(channels * 2, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)
