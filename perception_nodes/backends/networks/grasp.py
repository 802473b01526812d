"""Networks that judge or find grasps on height maps."""

from perception_nodes.core.grasp_patches import CHANNELS, FEATURES, GEOMETRY
from perception_nodes.core.grasp_search import (
    COARSE_SIDE,
    MAP_CHANNELS,
    RECTANGLE_CHANNELS,
    RECTANGLE_SIDE,
)
import torch
from torch import nn
from torch.nn import functional

_PATCH_CHANNELS = (16, 24, 32)
_EMBEDDING = 48
_SMALL, _LARGE = 50, 200  # hidden units of the cascade's stages
_MAP_WIDTHS = (8, 16, 24)


class GraspScorerNetwork(nn.Module):
    """
    Says whether a geometric candidate holds, from the heights about it and what was measured.

    The hand is symmetric: a scene mirrored along the closing direction, or across it, gives the
    same logit. The geometry's own logit goes past the network, so that there is something to be
    better than.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = CHANNELS
        for channels in _PATCH_CHANNELS:
            layers += [nn.Conv2d(before, channels, 3, 2, 1, bias=False),
                       nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            before = channels
        self.patch = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3),
                                   nn.Linear(16 * before, _EMBEDDING), nn.ReLU(inplace=True))
        self.norm = nn.BatchNorm1d(FEATURES)
        self.head = nn.Sequential(nn.Linear(_EMBEDDING + FEATURES, 32), nn.ReLU(inplace=True),
                                  nn.Dropout(0.2), nn.Linear(32, 1))
        self.trust = nn.Parameter(torch.ones(1))  # in the geometry

    def forward(self, patches: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """
        Return (N,) logits.

        :param patches: (N, CHANNELS, SIDE, SIDE) of :mod:`~perception_nodes.core.grasp_patches`.
        :param features: (N, FEATURES) of the same.
        """
        if self.training:  # which sees each example flipped at random
            seen = self.patch(patches)
        else:
            flipped = [patches, patches.flip(2), patches.flip(3), patches.flip(2, 3)]
            seen = self.patch(torch.cat(flipped)).unflatten(0, (4, -1)).mean(0)
        learned = self.head(torch.cat([seen, self.norm(features)], 1))[:, 0]
        logits: torch.Tensor = learned + self.trust * features[:, GEOMETRY]
        return logits


class GraspCascadeNetwork(nn.Module):
    """
    Two fully connected networks that judge the same rectangles, a small and a large one.

    Lenz, Lee and Saxena, Deep learning for detecting robotic grasps, 2015: two hidden layers
    each, here 50 or 200 units wide; the small one looks at every rectangle, coarsely, the large
    one at the best. Heights and surface normals are seen, colour is not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.small = _perceptron(RECTANGLE_CHANNELS * COARSE_SIDE ** 2, _SMALL)
        self.large = _perceptron(RECTANGLE_CHANNELS * RECTANGLE_SIDE ** 2, _LARGE)

    def forward(
        self, coarse: torch.Tensor, fine: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return the (M,) logits of the small network and the (N,) of the large one.

        :param coarse: (M, RECTANGLE_CHANNELS, COARSE_SIDE, COARSE_SIDE) of
            :func:`~perception_nodes.core.grasp_search.rectangles`.
        :param fine: (N, RECTANGLE_CHANNELS, RECTANGLE_SIDE, RECTANGLE_SIDE) of the same.
        """
        return self.small(coarse.flatten(1))[:, 0], self.large(fine.flatten(1))[:, 0]


class GraspMapNetwork(nn.Module):
    """
    Says of every cell of a height map how good a grasp there is, how turned and how wide.

    The idea, and the four outputs quality, cos 2 theta, sin 2 theta and width, are those of
    GG-CNN (Morrison, Corke and Leitner, Closing the loop for robotic grasping, 2018); the layers,
    an encoder and decoder with short cuts, are not.
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third = _MAP_WIDTHS
        self.encode_1 = _convolution(MAP_CHANNELS, first)
        self.encode_2 = _convolution(first, second, stride=2)
        self.encode_3 = nn.Sequential(
            _convolution(second, third, stride=2), _convolution(third, third, dilation=2),
            _convolution(third, third, dilation=4))
        self.decode_2 = _convolution(second + third, second)
        self.decode_1 = _convolution(first + second, first)
        self.outputs = nn.Conv2d(first, 4, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """
        Return (N, 4, H, W): logit of the quality, cos 2 theta, sin 2 theta, opening.

        :param maps: (N, MAP_CHANNELS, H, W) of :mod:`~perception_nodes.core.grasp_search`; H and
            W multiples of 4.
        """
        fine = self.encode_1(maps)
        middle = self.encode_2(fine)
        x = self.decode_2(torch.cat([middle, _doubled(self.encode_3(middle))], 1))
        values: torch.Tensor = self.outputs(self.decode_1(torch.cat([fine, _doubled(x)], 1)))
        return values


def _perceptron(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.Sigmoid(), nn.Linear(hidden, hidden), nn.Sigmoid(),
        nn.Linear(hidden, 1))


def _convolution(before: int, after: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, dilation, dilation, bias=False),
        nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode='nearest')
