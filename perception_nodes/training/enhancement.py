"""Train the auto-encoder that takes blur and noise out of pictures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.backends.enhancement import Enhancer
from perception_nodes.backends.networks.enhancement import EnhancementNetwork
from perception_nodes.evaluation.corruptions import compressed, motion_blurred, noisy
from perception_nodes.evaluation.datasets import read_rgb
from perception_nodes.evaluation.enhancement import mean_squared_error, psnr_db
from perception_nodes.training.detection import image_batch
from perception_nodes.training.loop import shuffled, whole_batches
import torch
from torch import nn

Pixels = npt.NDArray[np.uint8]
Pair = tuple[Pixels, Pixels]  # a picture as it was spoilt, and as it was

CROP_PX = 64
_SMOOTH = 0.03  # errors below count by their square: crops left as they are hold nothing still
_CLEAN = 0.2  # share of crops that are left as they are: good pictures must stay good
_MOTION, _BLUR, _NOISE, _JPEG = 0.45, 0.25, 0.6, 0.2  # how often; never motion and blur at once
_MOTION_PX, _BLUR_SIGMA_PX = (2.0, 20.0), (0.5, 4.5)
_GRAIN_SD = (1.5, 5.0)  # of the simulated camera
_MOST_GRAIN = 10.0  # times that of the simulated camera: a high gain in little light
_JPEG_QUALITY = (10, 80)


class EnhancementTask:
    """
    Good pictures from spoilt ones.

    :param train: Files of pictures to learn from.
    :param val: Files of pictures to choose the checkpoint by.
    :param seed: Of the weights, and of how the pictures of ``val`` are spoilt.
    """

    score = 'PSNR'

    def __init__(self, train: Sequence[Path], val: Sequence[Path], seed: int) -> None:
        self._train, self._val, self._seed = train, val, seed
        torch.manual_seed(seed)
        self.network = EnhancementNetwork()

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return all, and none that are pretrained."""
        return list(self.network.parameters()), []

    def steps(self, batch_size: int) -> int:
        """Return how many whole batches there are; a smaller set makes one."""
        return whole_batches(len(self._train), batch_size)

    def batches(
        self, epoch: int, batch_size: int, rng: np.random.Generator
    ) -> Iterator[list[Pair]]:
        """Yield a crop of every picture, spoilt anew."""
        for rows in shuffled(len(self._train), batch_size, rng):
            good = [_crop(read_rgb(self._train[i]), rng) for i in rows.tolist()]
            yield [(spoilt(rgb, rng), rgb) for rgb in good]

    def losses(self, batch: Sequence[Pair], device: torch.device) -> Mapping[str, torch.Tensor]:
        """Return the Charbonnier loss (Lai et al., 2017): strong noise must not outweigh blur."""
        bad, good = (image_batch(pictures, device) for pictures in zip(*batch, strict=True))
        error = self.network(bad).float() - good
        return {'error': (error.square() + _SMOOTH ** 2).sqrt().mean()}

    def validate(
        self, network: EnhancementNetwork, device: torch.device
    ) -> Mapping[str, float]:
        """Return the peak signal-to-noise ratio of all pictures together, and before, dB."""
        enhancer = Enhancer(network, device)
        before, after = [], []
        for i, file in enumerate(self._val):
            good = read_rgb(file)
            bad = spoilt(good, np.random.default_rng([self._seed, i]))
            before.append(mean_squared_error(bad, good))
            after.append(mean_squared_error(enhancer(bad), good))
        return {'PSNR': psnr_db(float(np.mean(after))),
                'PSNR_before': psnr_db(float(np.mean(before)))}


def spoilt(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """
    Return a picture as a moving or badly focused camera takes it in little light.

    Blur comes first, then the noise of the sensor, then compression. Some pictures stay as they
    are.
    """
    if rng.random() < _CLEAN:
        return rgb
    kind = rng.random()
    if kind < _MOTION:
        rgb = motion_blurred(rgb, rng.uniform(*_MOTION_PX), rng.uniform(0.0, np.pi))
    elif kind < _MOTION + _BLUR:
        rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), rng.uniform(*_BLUR_SIGMA_PX)), np.uint8)
    if rng.random() < _NOISE:
        rgb = noisy(rgb, rng.uniform(*_GRAIN_SD) * rng.uniform(0.0, _MOST_GRAIN), rng)
    if rng.random() < _JPEG:
        rgb = compressed(rgb, int(rng.integers(*_JPEG_QUALITY)))
    return rgb


def _crop(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    top, left = (int(rng.integers(side - CROP_PX + 1)) for side in rgb.shape[:2])
    return rgb[top:top + CROP_PX, left:left + CROP_PX]
