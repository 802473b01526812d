"""
What a box shows, by a linear classifier on the features of a trained trunk.

R-CNN (Girshick et al., 2014) computes features for each warped box; OverFeat (Sermanet et al.,
2014) and Fast R-CNN (Girshick, 2015) compute them once for the image. Both ways are here, with
the trunk of the shipped COCO detector.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.backends.networks.mobilenet_v2 import CHANNELS, MobileNetV2
from perception_nodes.core.boxes import iou_matrix
from perception_nodes.training.detection import image_batch
from perception_nodes.training.pretrained import load_coco_trunk
import torch
from torch.nn import functional
from torchvision.ops import roi_align

Array = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

_CROP_PX = 128  # side of a warped box
_BATCH = 32
_SHORT_SIDE_PX = 480  # of an image whose features are shared
_GRID = 2  # a box's features are averaged over so many parts each way
_STRIDE = 32
_OBJECT_IOU, _BACKGROUND_IOU = 0.5, 0.3
_BACKGROUND_PER_IMAGE = 80
_DECAY = 1e-2
_STEPS = 100

FEATURES = CHANNELS[-1] * _GRID ** 2


class BoxFeatures:
    """
    Features of boxes in an image.

    :param shared: Compute them once for the image, instead of once per box.
    """

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._trunk = MobileNetV2().eval()
        load_coco_trunk(self._trunk)

    @torch.inference_mode()
    def __call__(self, rgb: Pixels, boxes_xyxy: Array) -> Array:
        """
        Return (N, 640) features.

        :param rgb: (H, W, 3).
        :param boxes_xyxy: (N, 4) pixels.
        """
        if self._shared:
            return self._pooled(rgb, boxes_xyxy)
        parts = [self._trunk_of(_warped(rgb, boxes_xyxy[k:k + _BATCH]))
                 for k in range(0, len(boxes_xyxy), _BATCH)]
        grids = [functional.adaptive_avg_pool2d(part, _GRID).flatten(1) for part in parts]
        return torch.cat([torch.empty(0, FEATURES), *grids]).numpy()

    def _pooled(self, rgb: Pixels, boxes_xyxy: Array) -> Array:
        scale = _SHORT_SIDE_PX / min(rgb.shape[:2])
        image = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        features = self._trunk_of(np.asarray(image[None], np.uint8))
        boxes = torch.from_numpy(np.ascontiguousarray(boxes_xyxy * np.float32(scale)))
        return roi_align(features, [boxes], _GRID, 1.0 / _STRIDE, 2, aligned=True
                         ).flatten(1).numpy()

    def _trunk_of(self, images: Pixels) -> torch.Tensor:
        x = image_batch(list(images), torch.device('cpu'))
        return self._trunk.late(self._trunk.early(x)[1])[1]


def _warped(rgb: Pixels, boxes_xyxy: Array) -> Pixels:
    """Return (N, 128, 128, 3) crops, each stretched."""
    crops = np.empty((len(boxes_xyxy), _CROP_PX, _CROP_PX, 3), np.uint8)
    height, width = rgb.shape[:2]
    low = np.clip(np.floor(boxes_xyxy[:, :2]), 0, (width - 1, height - 1)).astype(int)
    high = np.maximum(low + 1, np.ceil(boxes_xyxy[:, 2:]).astype(int))
    for crop, (left, top), (right, bottom) in zip(crops, low, high, strict=True):
        crop[:] = cv2.resize(rgb[top:bottom, left:right], (_CROP_PX, _CROP_PX),
                             interpolation=cv2.INTER_AREA)
    return crops


class RegionClassifier:
    """
    Softmax over classes and background, linear in standardised features.

    :param classes: N, without the background.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._mean, self._std = torch.zeros(FEATURES), torch.ones(FEATURES)
        self._linear = torch.nn.Linear(FEATURES, classes + 1)

    def fit(self, features: Array, targets: npt.NDArray[np.int64]) -> float:
        """
        Train from scratch; return the loss that is left.

        :param features: (M, 640).
        :param targets: (M,) from 0, the background last.
        """
        x, y = torch.from_numpy(features), torch.from_numpy(targets)
        self._std, self._mean = torch.std_mean(x, 0)
        self._std.clamp_(min=1e-3)
        x = (x - self._mean) / self._std
        with torch.no_grad():
            self._linear.weight.zero_()
            self._linear.bias.zero_()
        optimiser = torch.optim.LBFGS(
            self._linear.parameters(), max_iter=_STEPS, line_search_fn='strong_wolfe')

        def loss() -> torch.Tensor:
            optimiser.zero_grad()
            value = functional.cross_entropy(self._linear(x), y) + (
                _DECAY * self._linear.weight.square().sum())
            value.backward()
            return value

        optimiser.step(loss)  # type: ignore[arg-type]
        return float(loss().detach())

    @torch.inference_mode()
    def scores(self, features: Array) -> Array:
        """Return (N, classes) probabilities; what is missing to 1 is the background's."""
        x = (torch.from_numpy(features) - self._mean) / self._std
        return torch.softmax(self._linear(x), 1)[:, :self._classes].numpy()


def labelled_boxes(
    proposals: Array, true_xyxy: Array, true_classes: Sequence[int], background: int,
    rng: np.random.Generator,
) -> tuple[Array, npt.NDArray[np.int64]]:
    """
    Return boxes to learn from and their classes: the true ones, those much like them, and others.

    What overlaps a true box by 0.3 to 0.5 is neither and left out, as R-CNN does.

    :param proposals: (N, 4).
    :param true_xyxy: (M, 4).
    :param true_classes: M classes from 0.
    :param background: What the others are labelled.
    """
    classes = np.array(true_classes, np.int64)
    if not len(classes):
        chosen = rng.permutation(len(proposals))[:_BACKGROUND_PER_IMAGE]
        return proposals[chosen], np.full(len(chosen), background, np.int64)
    overlap = iou_matrix(proposals, true_xyxy)
    best = overlap.max(axis=1)
    alike = np.flatnonzero(best >= _OBJECT_IOU)
    other = rng.permutation(np.flatnonzero(best < _BACKGROUND_IOU))[:_BACKGROUND_PER_IMAGE]
    return (np.concatenate([true_xyxy, proposals[alike], proposals[other]]),
            np.concatenate([classes, classes[overlap[alike].argmax(axis=1)],
                            np.full(len(other), background)]))
