"""Train a network for masks: SegNet, FCN-8s, or the small encoder-decoder of the simulator."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.networks import NETWORKS
from perception_nodes.backends.networks.scene import SceneSegmenter
from perception_nodes.backends.preprocess import network_input, Resize
from perception_nodes.core.manifest import find_model, ModelInput
from perception_nodes.evaluation.mask_datasets import MaskedImage, SegmentationDataset, VOID
from perception_nodes.evaluation.segmentation_metrics import confusion_matrix, mean_iou
from perception_nodes.training.augmentation import (
    cut_out,
    random_view,
    recolour,
    Strength,
    warp_mask,
    warp_picture,
)
from perception_nodes.training.loop import shuffled, whole_batches
from perception_nodes.training.pretrained import (
    freeze_early,
    initialise,
    load_classifier_trunk,
    load_coco_trunk,
)
import torch
from torch import nn
from torch.nn import functional

SCENE = 'scene'  # the name of the encoder-decoder on the COCO detector's trunk
ARCHITECTURES = (SCENE, *NETWORKS['segmentation'])
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_COCO = ((127.5,) * 3, (127.5,) * 3)

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A network to train."""

    network: nn.Module
    mean: tuple[float, float, float]  # of its input, pixel values
    std: tuple[float, float, float]
    pretrained: Sequence[nn.Parameter] = field(default_factory=tuple)  # trained more slowly


def new_segmenter(
    architecture: str, classes: int, seed: int, *, from_scratch: bool = False,
    start_from: str = '', manifest: str = '',
) -> Segmenter:
    """
    Return a network before training.

    :param architecture: One of :data:`ARCHITECTURES`.
    :param from_scratch: Whether ``scene`` begins without the COCO detector's trunk.
    :param start_from: Classifier of the manifest whose weights an FCN's trunk begins with.
    :raises ValueError: If that classifier has another trunk.
    """
    torch.manual_seed(seed)
    if architecture == SCENE:
        scene = SceneSegmenter(classes)
        if from_scratch:
            initialise(scene.trunk)
            return Segmenter(scene, *_COCO)
        load_coco_trunk(scene.trunk)
        freeze_early(scene.trunk)
        return Segmenter(scene, *_COCO, [p for p in scene.trunk.parameters() if p.requires_grad])
    network = NETWORKS['segmentation'][architecture](classes)
    if not start_from:
        return Segmenter(network, *_IMAGENET)
    entry = find_model(start_from, 'classification', manifest)
    _, _, backbone = architecture.partition('_')
    if not architecture.startswith('fcn8s_') or entry.architecture != backbone:
        raise ValueError(
            f"network '{architecture}' cannot start from '{start_from}', which is a "
            f'{entry.architecture}; take fcn8s_{entry.architecture}')
    trunk = network.get_submodule('parts')
    load_classifier_trunk(trunk, entry)
    return Segmenter(network, entry.input.mean, entry.input.std, list(trunk.parameters()))


class SegmentationTask:
    """
    Masks from pictures.

    Classes weigh by median frequency balancing (Eigen and Fergus, 2015), as in the SegNet paper:
    the median of the classes' shares over a class's share, each of the pictures that have it.

    :param segmenter: The network, its input and what of it is pretrained.
    :param train: Pictures to learn from; class ids count from 0.
    :param val: Pictures to choose the checkpoint by, with the same class ids.
    :param spec: The network's input.
    :param frozen_epochs: How long what is pretrained stays as it is.
    """

    score = 'mIoU'

    def __init__(self, segmenter: Segmenter, train: SegmentationDataset, val: SegmentationDataset,
                 spec: ModelInput, strength: Strength, frozen_epochs: int) -> None:
        self.network = segmenter.network
        self._pretrained = list(segmenter.pretrained)
        self._train, self._val, self._spec, self._strength = train, val, spec, strength
        self._frozen_epochs = frozen_epochs
        self._mean, self._std = (
            torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
        self._weights = torch.from_numpy(median_frequency_weights(
            [image.mask() for image in train.images], len(train.class_names)))

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the new layers, and those that are pretrained."""
        pretrained = {id(p) for p in self._pretrained}
        return [p for p in self.network.parameters() if id(p) not in pretrained], self._pretrained

    def steps(self, batch_size: int) -> int:
        """Return how many whole batches there are; a smaller set makes one."""
        return whole_batches(len(self._train.images), batch_size)

    def batches(
        self, epoch: int, batch_size: int, rng: np.random.Generator
    ) -> Iterator[list[tuple[Pixels, Pixels]]]:
        """Yield new views of the pictures and masks, every picture once."""
        for parameter in self._pretrained:
            parameter.requires_grad_(epoch >= self._frozen_epochs)
        for rows in shuffled(len(self._train.images), batch_size, rng):
            yield [self._view(self._train.images[i], rng) for i in rows.tolist()]

    def losses(
        self, batch: Sequence[tuple[Pixels, Pixels]], device: torch.device
    ) -> Mapping[str, torch.Tensor]:
        """Return the balanced cross entropy of the pixels that are not void."""
        image = torch.from_numpy(np.stack([rgb for rgb, _ in batch])).to(device)
        image = (image.permute(0, 3, 1, 2).float() - self._mean.to(device)) / self._std.to(device)
        ids = torch.from_numpy(np.stack([ids for _, ids in batch]).astype(np.int64)).to(device)
        logits = functional.interpolate(
            self.network(image).float(), ids.shape[1:], mode='bilinear', align_corners=False)
        weights = self._weights.to(device)
        total = functional.cross_entropy(
            logits, ids, weights, ignore_index=VOID, reduction='sum')
        # a batch that is all void teaches nothing
        counted = weights[ids[ids != VOID]].sum().clamp(min=1e-6)
        return {'masks': total / counted}

    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        """Return the mean intersection over union in the pixels of the pictures; void ignored."""
        ids = list(self._val.class_names)
        counts = np.zeros((len(ids), len(ids) + 1), np.int64)
        for image in self._val.images:
            rgb, mask = image.rgb_and_mask()
            counts += confusion_matrix(mask, self._segment(network, rgb, device), ids)
        return {'mIoU': mean_iou(counts),
                'pixel_accuracy': float(np.trace(counts) / max(1, counts.sum()))}

    def _view(self, image: MaskedImage, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        rgb, ids = image.rgb_and_mask()
        picture = (rgb.shape[1], rgb.shape[0])
        size = (self._spec.width, self._spec.height)
        resize = Resize.between(*picture, self._spec)
        matrix = random_view(
            picture, np.column_stack([np.diag(resize.scale_xy), resize.offset_xy]), size,
            self._strength, rng)
        view = recolour(warp_picture(rgb, matrix, size), self._strength, rng)
        return cut_out(view, self._strength, rng), warp_mask(ids, matrix, size)

    def _segment(self, network: nn.Module, rgb: Pixels, device: torch.device) -> Pixels:
        height, width = rgb.shape[:2]
        pixels, resize = network_input(rgb, self._spec)
        logits = network(torch.from_numpy(pixels[None]).to(device)).float()
        left, top = (round(o / s) for o, s in zip(
            resize.offset_xy, resize.scale_xy, strict=True))
        size = (max(height + top, round(self._spec.height / resize.scale_xy[1])),
                max(width + left, round(self._spec.width / resize.scale_xy[0])))
        whole = functional.interpolate(logits, size, mode='bilinear', align_corners=False)
        ids = whole[0, :, top:top + height, left:left + width].argmax(0)
        return np.asarray(ids.cpu().numpy(), np.uint8)


def median_frequency_weights(
    masks: Sequence[Pixels], classes: int
) -> npt.NDArray[np.float32]:
    """
    Return (classes,) weights for the cross entropy; 1 for classes that no mask has.

    :param masks: (H, W) class ids from 0, 255 void.
    :raises ValueError: If every pixel is void.
    """
    counts = np.stack([np.bincount(ids.ravel(), minlength=256)[:classes] for ids in masks])
    pixels = np.array([np.count_nonzero(ids != VOID) for ids in masks])
    with np.errstate(invalid='ignore'):
        shares = counts.sum(0) / ((counts > 0) * pixels[:, None]).sum(0)
    if np.isnan(shares).all():
        raise ValueError('every pixel of the masks is void; there is nothing to learn')
    return np.nan_to_num(np.nanmedian(shares) / shares, nan=1.0).astype(np.float32)
