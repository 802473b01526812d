"""
A fully convolutional network with skips, FCN-8s (Long, Shelhamer and Darrell, 2015).

The trunk is one of torchvision's classifiers, cut behind its last layers of strides 8, 16 and 32.
The paper's is VGG16 with its fully connected layers turned into convolutions, which are left out
here: they hold nine tenths of its weights.
"""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import get_model

STRIDES = (8, 16, 32)
BACKBONES = (
    'vgg16', 'vgg16_bn', 'resnet18', 'resnet34', 'resnet50', 'mobilenet_v2', 'mobilenet_v3_small',
    'mobilenet_v3_large', 'efficientnet_b0')
_PROBE = 64  # pixels, a multiple of the largest stride


class Fcn8s(nn.Module):
    """
    Class scores at strides 32, 16 and 8, each added to the one before, interpolated.

    The scores of the skips begin at 0, so that training starts from the coarse answer, as the
    authors' does. Between the sums scores are interpolated bilinearly, which is what their
    deconvolutions begin as.

    :param classes: Channels of the output.
    :param backbone: One of :data:`BACKBONES`.
    """

    def __init__(self, classes: int, backbone: str) -> None:
        super().__init__()
        parts, (c8, c16, c32) = _parts(backbone)
        self.parts = nn.ModuleList(parts)
        self.score_16 = nn.Conv2d(c16, classes, 1)
        self.score_8 = nn.Conv2d(c8, classes, 1)
        self.score_32 = nn.Conv2d(c32, classes, 1)
        for layer in (self.score_16, self.score_8):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """
        Return (N, classes, H / 8, W / 8) logits, rounded as the trunk rounds.

        :param image: (N, 3, H, W) float32 of any size from 32 pixels.
        """
        x8 = self.parts[0](image)
        x16 = self.parts[1](x8)
        scores = self.score_32(self.parts[2](x16))
        for x, layer in ((x16, self.score_16), (x8, self.score_8)):
            skip = layer(x)
            size = [int(n) for n in skip.shape[2:]]  # int: a constant of an exported network
            scores = skip + functional.interpolate(
                scores, size, mode='bilinear', align_corners=False)
        return scores


def _parts(backbone: str) -> tuple[list[nn.Sequential], list[int]]:
    """Cut a classifier into what ends at strides 8, 16 and 32, and tell the channels there."""
    layers = list(_layers(get_model(backbone, weights=None)))
    x, ends, channels = torch.zeros(1, 3, _PROBE, _PROBE), [0] * len(STRIDES), [0] * len(STRIDES)
    for count, layer in enumerate(layers, start=1):
        with torch.no_grad():
            x = layer.eval()(x)
        layer.train()
        stride = _PROBE // int(x.shape[2])
        if stride in STRIDES:  # the last layer of a stride knows most
            ends[STRIDES.index(stride)], channels[STRIDES.index(stride)] = count, int(x.shape[1])
    begins = [0, *ends[:-1]]
    return [nn.Sequential(*layers[b:e]) for b, e in zip(begins, ends, strict=True)], channels


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    """Walk through what comes before the global pooling."""
    for name, module in network.named_children():
        if name in ('avgpool', 'classifier', 'fc'):
            return
        yield from module.children() if name == 'features' else (module,)
