"""Segmentation on arrays: the parameters, and a model with what all callers want of its masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.core.detection import DetectionParams
from perception_nodes.core.geometry import deproject
from perception_nodes.core.instances import instance_image, InstanceDetector
from perception_nodes.core.model_params import ModelParams
from perception_nodes.core.params import param
from perception_nodes.core.protocols import InstanceModel, SegmenterModel
from perception_nodes.core.types import (
    BACKGROUND,
    CameraIntrinsics,
    Detections,
    Ids,
    SegmentationMask,
)

_LEAST_SCORE = 0.25  # of an object that is painted: what the YOLO families show by default
_MOST_OBJECTS = 300


@dataclass(frozen=True, kw_only=True)
class SegmentationParams(ModelParams):
    """Parameters of semantic segmentation, in the node and the evaluation."""

    model: str = param(
        'lraspp_mobilenet_v3_large', 'Name of a segmentation model in the manifest.')
    confidence_threshold: float = param(
        0.0, 'Pixels whose class is less probable become void (255, or 65535 in mono16); above 0 '
        'the probabilities are computed for every frame.', ge=0.0, le=1.0, dynamic=True)
    points: bool = param(
        False, 'Publish the points of the depth image with their classes as well; takes depth '
        'and camera_info.')


class Segmenter:
    """A segmenter model and what is kept of its masks."""

    def __init__(self, model: SegmenterModel, params: SegmentationParams) -> None:
        self.model = model
        self.params = params

    def segment(
        self, frames: Sequence[npt.NDArray[np.uint8]], *, confidence: bool = False
    ) -> list[SegmentationMask]:
        """
        Name the class of every pixel.

        :param frames: (H, W, 3) uint8 RGB images.
        :param confidence: Whether the probabilities are wanted too.
        :return: One mask per frame, of its size; what is not sure enough is void.
        :raises ValueError: If a threshold is set and the model gives no probabilities.
        """
        threshold = self.params.confidence_threshold
        masks = self.model.predict(frames, confidence=confidence or threshold > 0.0)
        return [keep_confident(mask, threshold) for mask in masks] if threshold else masks


class PaintedInstances:
    """
    An instance model as a segmenter: objects painted on a background, the best on top.

    A class called ``background`` is what the rest of the image becomes; without one it is void.
    The confidence is the score of the object, and 1 where none was found.
    """

    def __init__(self, model: InstanceModel, class_names: Mapping[int, str]) -> None:
        self.class_names = class_names
        self._dtype: Any = np.uint8 if max(class_names) <= np.iinfo(np.uint8).max else np.uint16
        named = [i for i, name in class_names.items() if name == BACKGROUND]
        self._background = named[0] if named else np.iinfo(self._dtype).max
        self._detector = InstanceDetector(
            model, DetectionParams(score_threshold=_LEAST_SCORE, max_detections=_MOST_OBJECTS))

    def predict(
        self, frames: Sequence[npt.NDArray[np.uint8]], *, confidence: bool = False
    ) -> list[SegmentationMask]:
        """Segment each (H, W, 3) uint8 RGB frame; see ``SegmenterModel``."""
        return [self._painted(found, confidence) for found in self._detector.detect(frames)]

    def _painted(self, found: Detections, confidence: bool) -> SegmentationMask:
        assert found.masks is not None
        numbers = instance_image(found.masks, found.scores)
        table = np.array([self._background, *found.class_ids.tolist()], self._dtype)
        scores = np.array([1.0, *found.scores.tolist()], np.float32)
        return SegmentationMask(table[numbers], scores[numbers] if confidence else None)


def keep_confident(mask: SegmentationMask, threshold: float) -> SegmentationMask:
    """
    Make the pixels void whose class is less probable than a threshold.

    :raises ValueError: If the mask comes without probabilities.
    """
    if mask.confidence is None:
        raise ValueError(
            f"parameter 'confidence_threshold' is {threshold}, but the model gives classes "
            'without probabilities; set it to 0')
    ids = mask.ids.copy()
    ids[mask.confidence < threshold] = np.iinfo(ids.dtype).max
    return replace(mask, ids=ids)


def class_edges(ids: Ids) -> npt.NDArray[np.uint8]:
    """
    Return where classes meet, one pixel wide: those unlike their right or lower neighbour.

    :param ids: (H, W) class ids; void is a class like the others.
    :return: (H, W) uint8, 255 on edges and 0 elsewhere.
    """
    edges = np.zeros(ids.shape, np.bool_)
    edges[:, :-1] = ids[:, :-1] != ids[:, 1:]
    edges[:-1] |= ids[:-1] != ids[1:]
    return edges.view(np.uint8) * np.uint8(255)


def labelled_points(
    ids: Ids, depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16]]:
    """
    Return the points that the pixels of a mask see.

    :param ids: (H, W) class ids.
    :param depth_m: (H, W) float32 metres, registered to the mask's image.
    :param intrinsics: The camera of both.
    :return: (N, 3) float32 metres in the camera's optical frame, of pixels with a finite
        positive depth only, and their (N,) uint16 class ids.
    :raises ValueError: If the images are not of the camera's size.
    """
    points = deproject(depth_m, intrinsics)
    seen = ~np.isnan(points[..., 2])
    return points[seen], ids[seen].astype(np.uint16)


def warm_up() -> None:
    """Compile what points need, so that the first frame does not wait for it."""
    camera = CameraIntrinsics.from_fov(4, 3, 60.0)
    labelled_points(np.zeros((3, 4), np.uint8), np.ones((3, 4), np.float32), camera)
