"""Torchvision's Mask R-CNN and Keypoint R-CNN: the branches of both run on boxes that are kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.masks import masks_from_fields
from perception_nodes.backends.preprocess import Resize
from perception_nodes.backends.torch_runtime import inference
from perception_nodes.backends.torchvision_backend import (
    keep_every_box,
    open_network,
    TorchvisionDetector,
)
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.protocols import Select
from perception_nodes.core.types import Detections, Masks
import torch
from torchvision.models.detection.roi_heads import keypointrcnn_inference


class TorchvisionInstances(TorchvisionDetector):
    """A network of the R-CNN family with masks (He et al., 2017) or key points."""

    def __init__(self, network: torch.nn.Module, entry: ModelEntry, device: torch.device,
                 half_precision: bool) -> None:
        super().__init__(network, entry, device, half_precision)
        for kind in ('mask', 'keypoint'):
            network.add_module(f'{kind}_branch', _branch(network, kind))
        keep_every_box(network)
        self.has_masks = self._mask_branch is not None
        self.keypoints = 0
        if self._keypoint_branch is not None:
            self.keypoints = self._keypoint_branch[2].kps_score_lowres.out_channels

    @property
    def _mask_branch(self) -> Any:
        return self._network.mask_branch

    @property
    def _keypoint_branch(self) -> Any:
        return self._network.keypoint_branch

    def predict_instances(
        self, frames: Sequence[npt.NDArray[np.uint8]], select: Select
    ) -> list[Detections]:
        """Find objects with masks or key points; see ``InstanceModel``."""
        network = self._network
        with inference(self._device, self._half_precision):
            batch, _ = network.transform(self._images(frames))
            features = network.backbone(batch.tensors)
            proposals, _ = network.rpn(batch, features)
            answers, _ = network.roi_heads(features, proposals, batch.image_sizes)
            return [
                self._instances(answer, _Place(
                    {name: level[i:i + 1] for name, level in features.items()},
                    batch.image_sizes[i], frame.shape[:2]), select)
                for i, (answer, frame) in enumerate(zip(answers, frames, strict=True))]

    def _instances(
        self, answer: dict[str, torch.Tensor], place: '_Place', select: Select
    ) -> Detections:
        owned = torch.isin(answer['labels'], torch.from_numpy(self._ids).to(self._device))
        answer = {name: value[owned] for name, value in answer.items()}
        found = self._detections(answer)
        found = replace(found, boxes_xyxy=place.step.undo(found.boxes_xyxy))
        rows = select(found)
        found, boxes = found[rows], answer['boxes'][torch.from_numpy(rows).to(self._device)]
        return replace(found, masks=self._masks(found, boxes, place),
                       keypoints=self._keypoints(boxes, place))

    def _masks(self, found: Detections, boxes: torch.Tensor, place: '_Place') -> Masks | None:
        """Return the masks as torchvision pastes them: in boxes grown to whole pixels."""
        if self._mask_branch is None:
            return None
        if not len(boxes):
            return masks_from_fields([], [], np.empty((0, 4), np.int64), place.image_shape, 0.5)
        logits = self._run(self._mask_branch, boxes, place)
        classes = torch.from_numpy(found.class_ids).to(self._device)
        of_class = logits[torch.arange(len(boxes), device=self._device), classes]
        fields = of_class.sigmoid().cpu().numpy()
        side = fields.shape[1]
        # a frame of zeros lets a mask fade out at its box
        fields = np.pad(fields, ((0, 0), (1, 1), (1, 1)))
        low, high = found.boxes_xyxy[:, :2], found.boxes_xyxy[:, 2:]
        middle, half = (low + high) * 0.5, (high - low) * (0.5 * (side + 2) / side)
        first = (middle - half).astype(np.int64)
        size = np.maximum((middle + half).astype(np.int64) - first + 1, 1)
        steps = [Resize((scale[0], scale[1]), (-x * scale[0], -y * scale[1]))
                 for scale, (x, y) in zip((side + 2) / size, first, strict=True)]
        return masks_from_fields(
            fields, steps, np.hstack([first, first + size]), place.image_shape, 0.5)

    def _keypoints(
        self, boxes: torch.Tensor, place: '_Place'
    ) -> npt.NDArray[np.float32] | None:
        """Return key points; their score is the logistic function of the heat map's peak."""
        if self._keypoint_branch is None:
            return None
        keypoints = np.zeros((len(boxes), self.keypoints, 3), np.float32)
        if len(boxes):
            places, logits = keypointrcnn_inference(
                self._run(self._keypoint_branch, boxes, place), [boxes])
            keypoints[..., :2] = places[0][..., :2].cpu().numpy() / place.step.scale_xy
            keypoints[..., 2] = logits[0].sigmoid().cpu().numpy()
        return keypoints

    @staticmethod
    def _run(
        branch: torch.nn.ModuleList, boxes: torch.Tensor, place: '_Place'
    ) -> torch.Tensor:
        pool, head, predictor = branch
        pooled = pool(place.features, [boxes], [place.network_shape])
        logits: torch.Tensor = predictor(head(pooled))
        return logits.float()


@dataclass(frozen=True, eq=False)
class _Place:
    """One image of a batch: its features, its size in the network, and its own."""

    features: dict[str, torch.Tensor]
    network_shape: tuple[int, int]  # height, width
    image_shape: tuple[int, int]

    @property
    def step(self) -> Resize:
        """Return the step from image to network pixels."""
        height, width = (n / i for n, i in zip(self.network_shape, self.image_shape, strict=True))
        return Resize((width, height), (0.0, 0.0))


def load_instances(entry: ModelEntry, device: str, half_precision: bool) -> TorchvisionInstances:
    """Load an instance model; see :func:`perception_nodes.backends.registry.load_model`."""
    network, place = open_network(entry, device, half_precision)
    return TorchvisionInstances(network, entry, place, half_precision)


def _branch(network: Any, kind: str) -> torch.nn.ModuleList | None:
    """Return what pools, thinks and answers for masks or key points; None where there is none."""
    parts = [getattr(network.roi_heads, f'{kind}_{part}', None)
             for part in ('roi_pool', 'head', 'predictor')]
    there = [part for part in parts if part is not None]
    return torch.nn.ModuleList(there) if there else None
