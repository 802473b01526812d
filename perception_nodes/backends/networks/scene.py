"""
The small networks behind the shipped models: one trunk, a pyramid, and a head for each task.

The detector is single-shot and anchor-free: every cell of three grids tells class scores and the
distances to the four sides of its box, each as a distribution over whole cells (Generalized Focal
Loss, Li et al., 2020). The segmenter is an encoder-decoder whose decoder is the pyramid, a
global context as in LR-ASPP (Howard et al., 2019), and a skip from stride 4. Trained together
they share the trunk; each is exported with a trunk and pyramid of its own.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

from perception_nodes.backends.networks.mobilenet_v2 import CHANNELS, MobileNetV2
import torch
from torch import nn
from torch.nn import functional

STRIDES = (8, 16, 32)
BINS = 13  # a side lies at most BINS - 1 cells away
_PRIOR = 0.01  # score of a cell before training: most are background (RetinaNet)
_PYRAMID_CHANNELS = 80
_MASK_CHANNELS = 48
_SKIP_CHANNELS = 16


class BoxGrid(NamedTuple):
    """What the detector tells of the A cells of its three grids, row by row."""

    logits: torch.Tensor  # (N, A, classes)
    side_logits: torch.Tensor  # (N, A, 4, BINS): left, top, right, bottom
    centers: torch.Tensor  # (A, 2) x, y of the cells, pixels of the input
    strides: torch.Tensor  # (A,) pixels

    def boxes(self) -> torch.Tensor:
        """Return (N, A, 4) left, top, right, bottom in pixels of the input."""
        steps = torch.arange(BINS, dtype=self.side_logits.dtype, device=self.side_logits.device)
        sides = (self.side_logits.softmax(-1) * steps).sum(-1) * self.strides[:, None]
        return torch.cat([self.centers - sides[..., :2], self.centers + sides[..., 2:]], -1)


class Pyramid(nn.Module):
    """Features of strides 8, 16, 32 that know of each other (FPN, then PAN: Liu et al., 2018)."""

    def __init__(self, channels: int = _PYRAMID_CHANNELS) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(_pointwise(c, channels) for c in CHANNELS[1:])
        self.down = nn.ModuleList(_separable(channels, channels) for _ in range(2))
        self.up = nn.ModuleList(_separable(channels, channels) for _ in range(2))
        self.shrink = nn.ModuleList(_separable(channels, channels, stride=2) for _ in range(2))

    def forward(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Mix the trunk's features of strides 8, 16, 32; all come out equally wide."""
        p8, p16, p32 = (layer(x) for layer, x in zip(self.lateral, features, strict=True))
        p16 = self.down[0](p16 + _resized(p32, p16))
        p8 = self.down[1](p8 + _resized(p16, p8))
        p16 = self.up[0](p16 + self.shrink[0](p8))
        return [p8, p16, self.up[1](p32 + self.shrink[1](p16))]


class BoxHead(nn.Module):
    """Class scores and sides of every cell of a :class:`Pyramid`."""

    def __init__(self, classes: int, channels: int = _PYRAMID_CHANNELS) -> None:
        super().__init__()
        self.classes = classes
        self.shared = nn.ModuleList(_separable(channels, channels) for _ in STRIDES)
        self.score_towers = nn.ModuleList(_separable(channels, channels) for _ in STRIDES)
        self.side_towers = nn.ModuleList(_separable(channels, channels) for _ in STRIDES)
        self.scores = nn.ModuleList(_score_layer(channels, classes) for _ in STRIDES)
        self.sides = nn.ModuleList(nn.Conv2d(channels, 4 * BINS, 1) for _ in STRIDES)

    def forward(self, pyramid: Sequence[torch.Tensor]) -> BoxGrid:
        """Read the three levels."""
        logits, sides, centers, strides = [], [], [], []
        for k, (x, stride) in enumerate(zip(pyramid, STRIDES, strict=True)):
            x = self.shared[k](x)
            score = self.scores[k](self.score_towers[k](x))
            side = self.sides[k](self.side_towers[k](x))
            logits.append(score.flatten(2).transpose(1, 2))
            sides.append(side.flatten(2).transpose(1, 2).unflatten(-1, (4, BINS)))
            centers.append(_cell_centers(x, stride))
            strides.append(torch.full_like(centers[-1][:, 0], stride))
        return BoxGrid(torch.cat(logits, 1), torch.cat(sides, 1), torch.cat(centers),
                       torch.cat(strides))


class MaskHead(nn.Module):
    """Class logits at stride 4."""

    def __init__(self, classes: int, channels: int = _PYRAMID_CHANNELS) -> None:
        super().__init__()
        self.classes = classes
        self.context = nn.Sequential(nn.Conv2d(CHANNELS[3], channels, 1), nn.Sigmoid())
        self.narrow = _separable(channels, _MASK_CHANNELS)
        self.skip = nn.Sequential(nn.Conv2d(CHANNELS[0], _SKIP_CHANNELS, 1), nn.ReLU())
        self.mix = _separable(_MASK_CHANNELS + _SKIP_CHANNELS, _MASK_CHANNELS)
        self.logits = nn.Conv2d(_MASK_CHANNELS, classes, 1)

    def forward(self, stride_4: torch.Tensor, stride_32: torch.Tensor,
                p8: torch.Tensor) -> torch.Tensor:
        """
        Return (N, classes, H / 4, W / 4) logits.

        :param stride_4: The trunk's features.
        :param stride_32: The trunk's features, of which only the average is used.
        :param p8: The finest level of the pyramid.
        """
        x = self.narrow(p8 * self.context(stride_32.mean((2, 3), keepdim=True)))
        skip = self.skip(stride_4)
        logits: torch.Tensor = self.logits(self.mix(torch.cat([_resized(x, skip), skip], 1)))
        return logits


class _Scene(nn.Module):
    """The trunk and the pyramid that every head stands on."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = MobileNetV2()
        self.pyramid = Pyramid()

    def late(self, stride_8: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Return the pyramid and the trunk's features of stride 32."""
        stride_16, stride_32 = self.trunk.late(stride_8)
        return self.pyramid([stride_8, stride_16, stride_32]), stride_32


class SceneNetwork(_Scene):
    """Boxes and masks from one trunk and one pyramid, as they are trained."""

    def __init__(self, box_classes: int, mask_classes: int) -> None:
        super().__init__()
        self.boxes = BoxHead(box_classes)
        self.masks = MaskHead(mask_classes)

    def forward(self, stride_4: torch.Tensor,
                stride_8: torch.Tensor) -> tuple[BoxGrid, torch.Tensor]:
        """Go on from the features of the early trunk: boxes, and mask logits at stride 4."""
        pyramid, stride_32 = self.late(stride_8)
        return self.boxes(pyramid), self.masks(stride_4, stride_32, pyramid[0])


class SceneDetector(_Scene):
    """The detector alone, its output laid out as head ``dense`` reads it."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.boxes = BoxHead(classes)

    def grid(self, image: torch.Tensor) -> BoxGrid:
        """
        Return what every cell tells, for training.

        :param image: (N, 3, H, W) float32 RGB from -1 to 1.
        """
        return self.late_grid(self.trunk.early(image)[1])

    def late_grid(self, stride_8: torch.Tensor) -> BoxGrid:
        """Go on from the features of the early trunk."""
        pyramid, _ = self.late(stride_8)
        grid: BoxGrid = self.boxes(pyramid)
        return grid

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """
        Return (N, 4 + classes, A): centre, size, class scores of every cell.

        :param image: (N, 3, H, W) float32 RGB from -1 to 1.
        """
        grid = self.grid(image)
        low, high = grid.boxes().chunk(2, -1)
        table = torch.cat([(low + high) / 2.0, high - low, grid.logits.sigmoid()], -1)
        return table.transpose(1, 2)


class SceneSegmenter(_Scene):
    """The segmenter alone."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.masks = MaskHead(classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """
        Return (N, classes, H / 4, W / 4) logits.

        :param image: (N, 3, H, W) float32 RGB from -1 to 1.
        """
        stride_4, stride_8 = self.trunk.early(image)
        pyramid, stride_32 = self.late(stride_8)
        logits: torch.Tensor = self.masks(stride_4, stride_32, pyramid[0])
        return logits


def _pointwise(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels),
        nn.ReLU())


def _separable(channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    # one norm is enough, and at these sizes it costs as much as a convolution
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        *_pointwise(channels, out_channels))


def _score_layer(channels: int, classes: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, classes, 1)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, -math.log((1.0 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]
    return layer


def _resized(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    size = [int(n) for n in like.shape[2:]]  # int: a constant of the exported network
    return functional.interpolate(x, size, mode='bilinear', align_corners=False)


def _cell_centers(x: torch.Tensor, stride: int) -> torch.Tensor:
    rows = torch.arange(int(x.shape[2]), dtype=x.dtype, device=x.device)
    columns = torch.arange(int(x.shape[3]), dtype=x.dtype, device=x.device)
    y, x_ = torch.meshgrid(rows, columns, indexing='ij')
    return (torch.stack([x_, y], -1).reshape(-1, 2) + 0.5) * stride
