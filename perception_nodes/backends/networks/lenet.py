"""
LeNet-5 (LeCun et al., Gradient-based learning applied to document recognition, 1998).

Of the paper are the layers, the connections between the maps of S2 and C3 (its table I), the
trainable subsampling and the scaled tanh; 60,000 trainable parameters up to F6. Its output layer,
distances to pictures of the digits, is a linear one here, so that softmax and cross entropy apply.
"""

import math

import torch
from torch import nn
from torch.nn import functional

SIZE = 32  # width and height of the input, pixels

_TRIPLES = tuple(tuple((i + k) % 6 for k in range(3)) for i in range(6))
_QUADS = tuple(tuple((i + k) % 6 for k in range(4)) for i in range(6))
_SPLIT_QUADS = tuple(tuple((i + k) % 6 for k in (0, 1, 3, 4)) for i in range(3))
_C3_INPUTS = (*_TRIPLES, *_QUADS, *_SPLIT_QUADS, tuple(range(6)))


class LeNet5(nn.Module):
    """Classifier of small grey pictures; colour is averaged away."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(1, 6, 5)
        self.s2 = Subsampling(6)
        self.c3 = nn.ModuleList(nn.Conv2d(len(maps), 1, 5) for maps in _C3_INPUTS)
        self.s4 = Subsampling(16)
        self.c5 = nn.Conv2d(16, 120, 5)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """
        Return (N, classes) logits.

        :param image: (N, 3, 32, 32) float32, background near 0.
        """
        x = self.s2(squash(self.c1(image.mean(1, keepdim=True))))
        planes = x.unbind(1)  # a GPU would wait for lists of indices in each run
        maps = [c3(torch.stack([planes[i] for i in inputs], 1))
                for c3, inputs in zip(self.c3, _C3_INPUTS, strict=True)]
        x = self.s4(squash(torch.cat(maps, 1)))
        x = squash(self.c5(x)).flatten(1)
        logits: torch.Tensor = self.output(squash(self.f6(x)))
        return logits


class Subsampling(nn.Module):
    """Average of 2x2 pixels, times a weight and plus a bias of each map, squashed."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Halve (N, C, H, W)."""
        return squash(functional.avg_pool2d(x, 2) * self.weight + self.bias)


def squash(x: torch.Tensor) -> torch.Tensor:
    """Return the paper's f(a) = A tanh(S a) with A = 1.7159 and S = 2/3, so that f(1) = 1."""
    return _AMPLITUDE * torch.tanh(2.0 / 3.0 * x)


_AMPLITUDE = 1.0 / math.tanh(2.0 / 3.0)  # the paper's 1.7159
