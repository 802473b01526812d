"""Train a classifier: LeNet-5 on digits as the worked example, or any of ours on your pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.backends.preprocess import network_input, Resize
from perception_nodes.backends.torch_runtime import fill
from perception_nodes.core.manifest import ModelInput
from perception_nodes.training.augmentation import (
    cut_out,
    random_view,
    recolour,
    Strength,
    warp_picture,
)
from perception_nodes.training.loop import shuffled, whole_batches
import torch
from torch import nn
from torch.nn import functional

# black is -0.1 and white 1.175, as LeCun et al. 1998 normalise their digits
DIGITS_INPUT = ModelInput(32, 32, mean=(20.0,) * 3, std=(200.0,) * 3)
_DIGIT_SIDE, _DIGIT_MARGIN = 24, 4  # pixels; the strokes stay clear of the border
_CHUNK = 256  # pictures of the validation at a time

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


class Example(Protocol):
    """A picture that shows one class."""

    @property
    def class_id(self) -> int:
        """Its class, counted from 0."""
        ...

    def rgb(self) -> Pixels:
        """Read the picture, (H, W, 3) uint8."""
        ...


@dataclass(frozen=True, eq=False)
class Digit:
    """A handwritten digit."""

    pixels: Pixels  # (32, 32, 3), white on black
    class_id: int

    def rgb(self) -> Pixels:
        """Return the picture."""
        return self.pixels


class ClassificationTask:
    """
    Classes of pictures.

    :param network: From (N, 3, H, W) to (N, C) logits; its last layer is that of the classes.
    :param train: Pictures to learn from.
    :param val: Pictures to choose the checkpoint by.
    :param spec: The network's input, to which pictures are stretched.
    :param frozen_epochs: How long all but the last layer stays as it is; None: that is not
        pretrained.
    """

    score = 'accuracy'

    def __init__(self, network: nn.Module, train: Sequence[Example], val: Sequence[Example],
                 class_count: int, spec: ModelInput, strength: Strength,
                 frozen_epochs: int | None = None) -> None:
        self.network = network
        self._frozen_epochs = frozen_epochs
        self._train, self._val = train, val
        self._class_count, self._spec, self._strength = class_count, spec, strength

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the last layer and what is pretrained, or all as new."""
        if self._frozen_epochs is None:
            return list(self.network.parameters()), []
        last = last_layer(self.network)
        named = list(self.network.named_parameters())
        return ([p for name, p in named if name.startswith(last)],
                [p for name, p in named if not name.startswith(last)])

    def steps(self, batch_size: int) -> int:
        """Return how many whole batches there are; a smaller set makes one."""
        return whole_batches(len(self._train), batch_size)

    def batches(
        self, epoch: int, batch_size: int, rng: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield new views of the pictures, and the share of each class in them."""
        for parameter in self.parameters()[1]:
            parameter.requires_grad_(epoch >= (self._frozen_epochs or 0))
        for rows in shuffled(len(self._train), batch_size, rng):
            views = [self._view(row, rng) for row in rows]
            yield (torch.from_numpy(np.stack([pixels for pixels, _ in views])),
                   torch.from_numpy(np.stack([shares for _, shares in views])))

    def losses(
        self, batch: tuple[torch.Tensor, torch.Tensor], device: torch.device
    ) -> Mapping[str, torch.Tensor]:
        """Return the cross entropy."""
        images, shares = (part.to(device) for part in batch)
        return {'classes': functional.cross_entropy(self.network(images).float(), shares)}

    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        """Return the share of pictures whose best class is the right one, and the loss."""
        right, loss = 0, 0.0
        for first in range(0, len(self._val), _CHUNK):
            chunk = self._val[first:first + _CHUNK]
            pixels = np.stack([network_input(e.rgb(), self._spec)[0] for e in chunk])
            truth = torch.tensor([e.class_id for e in chunk], device=device)
            logits = network(torch.from_numpy(pixels).to(device))
            right += int((logits.argmax(1) == truth).sum())
            loss += float(functional.cross_entropy(logits, truth, reduction='sum'))
        return {'accuracy': right / len(self._val), 'loss_val': loss / len(self._val)}

    def _view(
        self, row: int, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return (3, h, w) network input and (C,) shares of the classes."""
        rgb, class_id = self._one_view(row, rng)
        shares = np.zeros(self._class_count, np.float32)
        shares[class_id] = 1.0
        if rng.random() < self._strength.mixup:
            other, other_id = self._one_view(int(rng.integers(len(self._train))), rng)
            rgb = np.asarray(cv2.addWeighted(rgb, 0.5, other, 0.5, 0.0), np.uint8)
            shares *= 0.5
            shares[other_id] += 0.5
        return network_input(rgb, self._spec)[0], shares  # of the right size: only normalised

    def _one_view(self, row: int, rng: np.random.Generator) -> tuple[Pixels, int]:
        example, size = self._train[row], (self._spec.width, self._spec.height)
        rgb = example.rgb()
        height, width = rgb.shape[:2]
        resize = Resize.between(width, height, self._spec)
        matrix = random_view(
            (width, height), np.column_stack([np.diag(resize.scale_xy), resize.offset_xy]), size,
            self._strength, rng)
        view = recolour(warp_picture(rgb, matrix, size), self._strength, rng)
        return cut_out(view, self._strength, rng), example.class_id


def last_layer(network: nn.Module) -> str:
    """Return the name of the layer that tells the classes, up to and with its dot."""
    return list(network.state_dict())[-1].rpartition('.')[0] + '.'


def start_from(network: nn.Module, state: Mapping[str, torch.Tensor], architecture: str) -> None:
    """
    Begin with weights that were trained on other classes; the last layer stays random.

    :raises ValueError: If they are not those of the architecture.
    """
    last = last_layer(network)
    ours = {name: value for name, value in network.state_dict().items() if name.startswith(last)}
    fill(network, {n: v for n, v in state.items() if not n.startswith(last)} | ours, architecture)


def digits() -> list[Digit]:
    """
    Return the 1797 handwritten digits that come with scikit-learn.

    They are test pictures of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten
    Digits, UCI Machine Learning Repository, 1998 (CC BY 4.0), 8x8 pixels each.

    :raises ImportError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ImportError(
            'the digits come with scikit-learn: pip install scikit-learn') from error
    found = load_digits()
    return [Digit(_drawn(image), int(target))
            for image, target in zip(found.images, found.target, strict=True)]


def held_out(class_ids: Sequence[int], share: float, seed: int) -> tuple[Rows, Rows]:
    """
    Return rows to learn from and rows to validate on, with the same share of every class.

    :raises ValueError: If a class would be missing on one side.
    """
    rng = np.random.default_rng(seed)
    ids = np.asarray(class_ids)
    is_held_out = np.zeros(len(ids), bool)
    for class_id in np.unique(ids):
        rows = rng.permutation(np.flatnonzero(ids == class_id))
        count = round(share * len(rows))
        if not 0 < count < len(rows):
            raise ValueError(
                f'{count} of the {len(rows)} pictures of class {class_id} would be held out for '
                'validation; give another share, or more pictures of it')
        is_held_out[rows[:count]] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _drawn(image: npt.NDArray[np.float64]) -> Pixels:
    """Return (32, 32, 3) from (8, 8) of 0 to 16."""
    grey = np.asarray((image * (255.0 / 16.0)).round(), np.uint8)
    large = cv2.resize(grey, (_DIGIT_SIDE, _DIGIT_SIDE), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.pad(large, _DIGIT_MARGIN)[:, :, None].repeat(3, axis=2), np.uint8)
