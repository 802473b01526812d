"""
SegNet (Badrinarayanan, Kendall and Cipolla, 2017): an encoder-decoder for segmentation.

The decoder puts what it makes back where each maximum of the encoder's pooling came from, and
needs to remember only that place instead of whole feature maps.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

# channels and number of convolutions of each stage
_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_SMALL = ((24, 1), (48, 2), (96, 2), (128, 2))

Layer = Callable[[int, int], nn.Module]


class SegNet(nn.Module):
    """
    As many decoder stages as encoder stages, the same convolutions in reverse order.

    Without further arguments it is the paper's: the 13 convolutions of VGG16, and back.

    :param classes: Channels of the output.
    :param stages: Channels and number of convolutions of each stage of the encoder.
    :param layer: Builds a convolution from input and output channels.
    """

    def __init__(
        self, classes: int, stages: Sequence[tuple[int, int]] = _VGG16, layer: Layer | None = None
    ) -> None:
        super().__init__()
        layer = layer or _convolution
        widths = [3, *(channels for channels, _ in stages)]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for narrow, (wide, count) in zip(widths[:-1], stages, strict=True):
            # three colours are too few for anything but a full convolution
            first = _convolution(narrow, wide) if narrow == 3 else layer(narrow, wide)
            same = (layer(wide, wide) for _ in range(1, count))
            self.encoder.append(nn.Sequential(first, *same))
        for narrow, (wide, count) in zip(widths[:0:-1][1:], reversed(stages[1:]), strict=True):
            same = (layer(wide, wide) for _ in range(1, count))
            self.decoder.append(nn.Sequential(*same, layer(wide, narrow)))
        wide, count = stages[0]
        self.decoder.append(nn.Sequential(*(layer(wide, wide) for _ in range(1, count))))
        self.classifier = nn.Conv2d(wide, classes, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """
        Return (N, classes, H, W) logits.

        :param image: (N, 3, H, W) float32 of any size.
        """
        x, places = image, []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape[2:]
            # rounding up, as in the authors' Caffe: no pixel is left out
            x, indices = functional.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            places.append((indices, size))
        for stage in self.decoder:
            indices, size = places.pop()
            x = stage(functional.max_unpool2d(x, indices, (2, 2), output_size=size))
        logits: torch.Tensor = self.classifier(x)
        return logits


def segnet_small(classes: int) -> SegNet:
    """Return a narrow one of depthwise separable convolutions (as in MobileNet, Howard 2017)."""
    return SegNet(classes, _SMALL, _separable)


def _convolution(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU())


def _separable(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU())
