"""Object detection on arrays: the parameters, and a model with the filtering all callers want."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from perception_nodes.core.boxes import non_maximum_suppression
from perception_nodes.core.params import param, Params
from perception_nodes.core.protocols import DetectorModel
from perception_nodes.core.types import Detections


@dataclass(frozen=True, kw_only=True)
class DetectionParams(Params):
    """Parameters of object detection, in the node, the bag evaluator and the benchmarks."""

    model: str = param(
        'coco_ssdlite_mobilenet_v2', 'Name of a detection model in the manifest.')
    manifest: str = param(
        '', 'Path of your own manifest.yaml, searched before the shipped one.')
    device: str = param(
        'auto', "Where the network runs: 'auto' (a GPU where there is one), 'cpu' or 'cuda:N'.")
    score_threshold: float = param(
        0.5, 'Lowest score that is published.', ge=0.0, le=1.0, dynamic=True)
    nms_iou: float = param(
        0.6, 'Largest overlap (intersection over union) of two boxes of one class.',
        ge=0.0, le=1.0, dynamic=True)
    max_detections: int = param(
        100, 'Boxes kept per image, best first.', ge=1, dynamic=True)


class ObjectDetector:
    """A detector model and what is kept of its boxes."""

    def __init__(self, model: DetectorModel, params: DetectionParams) -> None:
        self.model = model
        self.params = params

    def detect(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """
        Find objects.

        :param frames: (H, W, 3) uint8 RGB images.
        :return: One result per frame, in its pixels and clipped to it, best first.
        """
        found = self.model.predict(frames)
        return [self._select(f, frame.shape[:2]) for f, frame in zip(found, frames, strict=True)]

    def _select(self, found: Detections, shape: tuple[int, int]) -> Detections:
        found = found[found.scores >= self.params.score_threshold]
        kept = found[non_maximum_suppression(
            found.boxes_xyxy, found.scores, found.class_ids,
            self.params.nms_iou, self.params.max_detections)]
        height, width = shape
        limits = np.array([width, height, width, height], np.float32)
        return Detections(
            np.clip(kept.boxes_xyxy, np.float32(0.0), limits), kept.scores, kept.class_ids)
