"""Train the small single-shot detector on labelled pictures."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.heads import dense_scores, ScoreColumns
from perception_nodes.backends.networks.scene import SceneDetector
from perception_nodes.backends.preprocess import network_input, Resize
from perception_nodes.core.boxes import non_maximum_suppression
from perception_nodes.core.manifest import ModelInput
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.datasets import DetectionDataset, LabelledImage
from perception_nodes.evaluation.metrics import BoxLabels, coco_average_precision
from perception_nodes.training.augmentation import (
    cut_out,
    mix,
    random_view,
    recolour,
    Strength,
    warp_boxes,
    warp_picture,
)
from perception_nodes.training.detection_loss import BoxTargets, detection_loss
from perception_nodes.training.loop import shuffled, whole_batches
from perception_nodes.training.pretrained import freeze_early, initialise, load_coco_trunk
import torch
from torch import nn

MEAN = STD = (127.5, 127.5, 127.5)  # of what the trunk has learned from
LEAST_SCORE = 0.02  # of what counts for average precision
_MAX_IOU, _MAX_BOXES = 0.6, 100

_FREE = 2**32  # so many views are as good as new ones

View = tuple[int, int]  # row of a picture, and which of its changed copies
Example = tuple[npt.NDArray[np.uint8], BoxLabels]


class DetectionTask:
    """
    Boxes from pictures.

    The early trunk stays as COCO taught it. The late trunk does so for the first epochs, until
    the new layers know what they want of it.

    :param train: Pictures to learn from; class ids count from 0.
    :param val: Pictures to choose the checkpoint by, with the same class ids.
    :param spec: Size of the network's input, and how pictures are brought to it.
    :param frozen_epochs: How long the late trunk stays as it is.
    :param seed: Of the new layers' weights, and of the changed copies.
    :param views: How many changed copies of each picture there are, whose early features are
        kept; 0 for a new one at every step.
    :param from_scratch: Whether to begin with random weights everywhere instead.
    """

    score = 'AP'

    def __init__(
        self, train: DetectionDataset, val: DetectionDataset, spec: ModelInput,
        strength: Strength, frozen_epochs: int, seed: int, *, views: int = 0,
        from_scratch: bool = False,
    ) -> None:
        self._train, self._val, self._spec, self._strength = train, val, spec, strength
        self._frozen_epochs, self._from_scratch = frozen_epochs, from_scratch
        self._seed, self._views = seed, views
        self._kept: dict[View, tuple[torch.Tensor, BoxLabels]] = {}
        self._columns = ScoreColumns(train.class_names)
        torch.manual_seed(seed)
        self.network = SceneDetector(len(train.class_names))
        if from_scratch:
            initialise(self.network.trunk)
        else:
            load_coco_trunk(self.network.trunk)
            freeze_early(self.network.trunk)

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the layers behind the trunk, and the late trunk; or all, from scratch."""
        if self._from_scratch:
            return list(self.network.parameters()), []
        trunk = {id(p) for p in self.network.trunk.parameters()}
        new = [p for p in self.network.parameters() if id(p) not in trunk]
        return new, self._late_parameters

    def steps(self, batch_size: int) -> int:
        """Return how many whole batches there are; a smaller set makes one."""
        return whole_batches(len(self._train.images), batch_size)

    def batches(
        self, epoch: int, batch_size: int, rng: np.random.Generator
    ) -> Iterator[list[View]]:
        """Yield views of the pictures, every picture once."""
        for parameter in self._late_parameters:
            parameter.requires_grad_(epoch >= self._frozen_epochs)
        batches = shuffled(len(self._train.images), batch_size, rng)
        views = rng.integers(self._views or _FREE, size=len(self._train.images))
        for rows in batches:
            yield [(int(row), int(views[row])) for row in rows]

    def losses(self, batch: Sequence[View], device: torch.device) -> Mapping[str, torch.Tensor]:
        """Return the terms of :func:`detection_loss`."""
        if self._views and not self._from_scratch:
            kept = [self._features(view, device) for view in batch]
            labels = [labels for _, labels in kept]
            features = torch.stack([features for features, _ in kept]).to(device).float()
            grid = self.network.late_grid(features.to(memory_format=torch.channels_last))
        else:
            examples = [self._example(view) for view in batch]
            labels = [labels for _, labels in examples]
            grid = self.network.grid(image_batch([rgb for rgb, _ in examples], device))
        return detection_loss(grid, box_targets(labels).to(device))

    def validate(self, network: SceneDetector, device: torch.device) -> Mapping[str, float]:
        """Return AP and AP50 as COCO counts them, in the pixels of the pictures."""
        found = [self._found(network, image, device) for image in self._val.images]
        scores = coco_average_precision([image.labels for image in self._val.images], found)
        return {'AP': scores['AP'], 'AP50': scores['AP50']}

    @property
    def _late_parameters(self) -> list[nn.Parameter]:
        if self._from_scratch:
            return []
        early = {id(p) for p in self.network.trunk.early_parameters()}
        return [p for p in self.network.trunk.parameters() if id(p) not in early]

    def _features(self, view: View, device: torch.device) -> tuple[torch.Tensor, BoxLabels]:
        """Return the early features (C, h, w) float16 of a view, on the CPU, and its boxes."""
        if view not in self._kept:
            rgb, labels = self._example(view)
            with torch.no_grad():
                _, stride_8 = self.network.trunk.early(image_batch([rgb], device))
            self._kept[view] = stride_8[0].half().cpu(), labels
        return self._kept[view]

    def _example(self, view: View) -> Example:
        """Return a changed copy of a picture, always the same of a number."""
        rng = np.random.default_rng([self._seed, *view])
        example = self._one_view(self._train.images[view[0]], rng)
        if rng.random() < self._strength.mixup:
            other = self._train.images[int(rng.integers(len(self._train.images)))]
            return mix(example, self._one_view(other, rng))
        return example

    def _one_view(self, image: LabelledImage, rng: np.random.Generator) -> Example:
        size = (self._spec.width, self._spec.height)
        resize = Resize.between(image.width, image.height, self._spec)
        matrix = random_view(
            (image.width, image.height),
            np.column_stack([np.diag(resize.scale_xy), resize.offset_xy]), size,
            self._strength, rng)
        rgb = recolour(warp_picture(image.rgb(), matrix, size), self._strength, rng)
        return cut_out(rgb, self._strength, rng), warp_boxes(image.labels, matrix, size)

    def detect(self, image: LabelledImage) -> Detections:
        """Return what the network finds in a picture, in its pixels."""
        network = self.network.eval()
        with torch.inference_mode():
            return self._found(network, image, next(network.parameters()).device)

    def _found(
        self, network: SceneDetector, image: LabelledImage, device: torch.device
    ) -> Detections:
        pixels, resize = network_input(image.rgb(), self._spec)
        grid = network.grid(torch.from_numpy(pixels[None]).to(device))
        boxes, scores = grid.boxes()[0].cpu().numpy(), grid.logits[0].sigmoid().cpu().numpy()
        found = kept_boxes(boxes, scores, self._columns)
        return Detections(resize.undo(found.boxes_xyxy), found.scores, found.class_ids)


def image_batch(pictures: Sequence[npt.NDArray[np.uint8]], device: torch.device) -> torch.Tensor:
    """Return (N, 3, h, w) float32 from -1 to 1 of (h, w, 3) uint8 pictures."""
    image = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2).float()
    return (image - MEAN[0]) / STD[0]


def box_targets(labels: Sequence[BoxLabels], first_id: int = 0) -> BoxTargets:
    """
    Return the true boxes of some pictures.

    :param first_id: Class id of the first score column; the others follow.
    """
    most = max(1, *(len(found) for found in labels))
    boxes = np.zeros((len(labels), most, 4), np.float32)
    columns = np.zeros((len(labels), most), np.int64)
    wanted, ignored = np.zeros((2, len(labels), most), bool)
    for k, found in enumerate(labels):
        n = len(found)
        boxes[k, :n] = found.boxes_xyxy
        columns[k, :n] = found.class_ids - first_id
        wanted[k, :n], ignored[k, :n] = ~found.ignored, found.ignored
    return BoxTargets(*map(torch.from_numpy, (boxes, columns, wanted, ignored)))


def kept_boxes(
    boxes_xyxy: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], columns: ScoreColumns
) -> Detections:
    """
    Return the boxes of one picture after suppression.

    :param boxes_xyxy: (A, 4) pixels.
    :param scores: (A, classes).
    """
    likely = scores.max(1) >= LEAST_SCORE
    corners, scores = boxes_xyxy[likely], scores[likely]
    middles, sizes = (corners[:, :2] + corners[:, 2:]) / 2.0, corners[:, 2:] - corners[:, :2]
    found = dense_scores(np.concatenate([middles, sizes], 1), scores.T, columns)
    return found[non_maximum_suppression(
        found.boxes_xyxy, found.scores, found.class_ids, _MAX_IOU, _MAX_BOXES)]
