"""YOLO checkpoints of ultralytics with masks or key points."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends import heads
from perception_nodes.backends.masks import masks_from_fields
from perception_nodes.backends.preprocess import Resize
from perception_nodes.backends.ultralytics_backend import (
    open_network,
    Reading,
    UltralyticsDetector,
)
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.protocols import Select
from perception_nodes.core.types import Detections, Masks
import torch

_KINDS = ('SegmentationModel', 'PoseModel')


class UltralyticsInstances(UltralyticsDetector):
    """
    A YOLO network with masks or key points.

    A mask is a sum of prototypes with an object's own coefficients, cut off at its box (Bolya et
    al., 2019, YOLACT).
    """

    def __init__(self, network: Any, entry: ModelEntry, device: torch.device,
                 half_precision: bool) -> None:
        self.has_masks = type(network).__name__ == 'SegmentationModel'
        super().__init__(network, entry, device, half_precision)
        # number of points, and of values of each: with or without a score
        self._keypoint_shape = (0, 3) if self.has_masks else tuple(network.model[-1].kpt_shape)
        self.keypoints = self._keypoint_shape[0]

    def predict_instances(
        self, frames: Sequence[npt.NDArray[np.uint8]], select: Select
    ) -> list[Detections]:
        """Find objects with masks or key points; see ``InstanceModel``."""
        return [
            self._instances(outputs, resize, size, frame, select)
            for frame, (outputs, resize, size) in zip(frames, self._answers(frames), strict=True)]

    def _readings(self) -> tuple[tuple[str, ...], Reading]:
        if self.has_masks:
            return ('decoded', 'prototypes'), _decoded_and_prototypes
        return super()._readings()

    def _instances(
        self, outputs: heads.Outputs, resize: Resize, size: tuple[int, int],
        frame: npt.NDArray[np.uint8], select: Select,
    ) -> Detections:
        if self._is_end_to_end:
            table, first = outputs['decoded'], 6
            found, rows = heads.yolo_end_to_end_rows(table, self._columns)
        else:
            table, first = outputs['decoded'].T, self._channels
            found, rows = heads.yolo_scores_rows(table[:, :first], self._columns)
        found = replace(found, boxes_xyxy=resize.undo(found.boxes_xyxy))
        kept = select(found)
        found, further = found[kept], table[rows[kept], first:]
        if not self.has_masks:
            return replace(found, keypoints=self._points(further, resize))
        height, width = frame.shape[:2]
        return replace(found, masks=_masks(
            found.boxes_xyxy, further, outputs['prototypes'], _finer(resize, size, outputs),
            (height, width)))

    def _points(
        self, values: npt.NDArray[np.float32], resize: Resize
    ) -> npt.NDArray[np.float32]:
        points = np.ones((len(values), self.keypoints, 3), np.float32)
        points[..., :self._keypoint_shape[1]] = values.reshape(-1, *self._keypoint_shape)
        points[..., :2] = (points[..., :2] - resize.offset_xy) / resize.scale_xy
        return points


def _decoded_and_prototypes(network: Any, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    (decoded, prototypes), _ = network(images)
    return decoded, prototypes


def load_instances(entry: ModelEntry, device: str, half_precision: bool) -> UltralyticsInstances:
    """Load an instance model; see :func:`perception_nodes.backends.registry.load_model`."""
    network, place = open_network(entry, device, half_precision, _KINDS)
    return UltralyticsInstances(network, entry, place, half_precision)


def _finer(resize: Resize, size: tuple[int, int], outputs: heads.Outputs) -> Resize:
    """Return the step from image to prototypes, which are smaller than the network's input."""
    height, width = outputs['prototypes'].shape[1:]
    ratio = (width / size[0], height / size[1])
    return Resize(
        (resize.scale_xy[0] * ratio[0], resize.scale_xy[1] * ratio[1]),
        (resize.offset_xy[0] * ratio[0], resize.offset_xy[1] * ratio[1]))


def _masks(
    boxes_xyxy: npt.NDArray[np.float32], coefficients: npt.NDArray[np.float32],
    prototypes: npt.NDArray[np.float32], step: Resize, image_shape: tuple[int, int],
) -> Masks:
    """
    Sum the prototypes of each object, where its box is.

    :param coefficients: (N, P).
    :param prototypes: (P, h, w).
    :param step: From image to prototypes.
    """
    scale, offset = np.array(step.scale_xy * 2), np.array(step.offset_xy * 2)
    limits = np.array(prototypes.shape[:0:-1] * 2)
    # one more on each side: what lies between two values is interpolated
    around = boxes_xyxy * scale + offset + np.array([-1, -1, 1, 1])
    around = np.clip(around, 0, limits - np.array([1, 1, 0, 0])).astype(np.int64)
    around[:, 2:] = np.maximum(around[:, 2:] + 1, around[:, :2] + 1)
    fields, steps = [], []
    for (left, top, right, bottom), weights in zip(around.tolist(), coefficients, strict=True):
        fields.append(np.tensordot(weights, prototypes[:, top:bottom, left:right], axes=1))
        steps.append(Resize(
            step.scale_xy, (step.offset_xy[0] - left, step.offset_xy[1] - top)))
    regions = np.ceil(boxes_xyxy).astype(np.int64)
    return masks_from_fields(fields, steps, regions, image_shape, 0.0)
