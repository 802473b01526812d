"""
MobileNetV2 (Sandler et al., 2018) as a trunk, with batch norms already folded into convolutions.

It pads as TensorFlow does, because the weights that ship were trained there.
"""

import torch
from torch import nn
from torch.nn import functional

# expansion, channels, blocks, stride of the first; the last stage of the paper is left out
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
           (6, 160, 3, 2))
_STEM_CHANNELS = 32
_EDGES = (3, 6, 13)  # blocks before which the features of stride 4, 8, 16 are taken
CHANNELS = (24, 32, 96, 160)  # of the features of strides 4, 8, 16, 32


class SamePadConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow's SAME: what is odd goes right and below."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (N, C, H, W) into (N, D, ceil(H / stride), ceil(W / stride))."""
        # int: an exported network is for one size, and keeps the padding as a constant
        top, bottom = _padding(int(x.shape[2]), self.kernel_size[0], self.stride[0])
        left, right = _padding(int(x.shape[3]), self.kernel_size[1], self.stride[1])
        x = functional.pad(x, (left, right, top, bottom))
        return functional.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; with a way around where the shapes allow it."""

    def __init__(self, channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        widen = [nn.Conv2d(channels, wide, 1), nn.ReLU6()] if expansion > 1 else []
        self.layers = nn.Sequential(
            *widen, SamePadConv2d(wide, wide, 3, stride, groups=wide), nn.ReLU6(),
            nn.Conv2d(wide, out_channels, 1))
        self._is_residual = stride == 1 and channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features of the same or half the size."""
        y = self.layers(x)
        return x + y if self._is_residual else y


class MobileNetV2(nn.Module):
    """
    Features of strides 4, 8, 16 and 32 with :data:`CHANNELS` channels.

    ``early`` holds what is left as it is when the trunk is trained on another domain: edges and
    textures up to stride 8. ``late`` goes on from there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(SamePadConv2d(3, _STEM_CHANNELS, 3, 2), nn.ReLU6())
        blocks = []
        channels = _STEM_CHANNELS
        for expansion, out_channels, count, stride in _STAGES:
            for k in range(count):
                blocks.append(InvertedResidual(
                    channels, out_channels, stride if k == 0 else 1, expansion))
                channels = out_channels
        self.blocks = nn.ModuleList(blocks)

    def early(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return the features of strides 4 and 8.

        :param image: (N, 3, H, W) float32 RGB from -1 to 1.
        """
        stride_4 = self._through(self.stem(image), 0, _EDGES[0])
        return stride_4, self._through(stride_4, _EDGES[0], _EDGES[1])

    def late(self, stride_8: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features of strides 16 and 32."""
        stride_16 = self._through(stride_8, _EDGES[1], _EDGES[2])
        return stride_16, self._through(stride_16, _EDGES[2], len(self.blocks))

    def early_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that :meth:`early` uses."""
        return [p for part in (self.stem, *self.blocks[:_EDGES[1]]) for p in part.parameters()]

    def convolutions(self) -> list[nn.Conv2d]:
        """Return every convolution in the order of the data."""
        return [module for module in self.modules() if isinstance(module, nn.Conv2d)]

    def _through(self, x: torch.Tensor, first: int, end: int) -> torch.Tensor:
        for block in self.blocks[first:end]:
            x = block(x)
        return x


def _padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2
