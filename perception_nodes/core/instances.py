"""Objects with the pixels that belong to each of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt
from perception_nodes.core.detection import clipped, DetectionParams, ObjectDetector
from perception_nodes.core.protocols import DetectorModel, InstanceModel
from perception_nodes.core.types import Detections, Masks


class InstanceDetector(ObjectDetector):
    """
    An instance model and what is kept of its boxes; masks are made of those alone.

    :raises ValueError: If the parameters name a class that the model does not know.
    """

    model: InstanceModel

    def __init__(
        self, model: InstanceModel, params: DetectionParams, weak_score: float = 1.0
    ) -> None:
        super().__init__(model, params, weak_score)
        self.gives_masks = model.has_masks
        self.gives_keypoints = model.keypoints > 0

    def detect(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """
        Find objects, with masks or key points where the model gives them.

        :param frames: (H, W, 3) uint8 RGB images.
        :return: One result per frame, in its pixels and clipped to it, best first; a key point
            that is not seen has NaN for x and y.
        """
        found = self.model.predict_instances(frames, self.select)
        return [self._seen(clipped(f, frame)) for f, frame in zip(found, frames, strict=True)]

    def _seen(self, found: Detections) -> Detections:
        if found.keypoints is None:
            return found
        unseen = found.keypoints[..., 2] < self.params.keypoint_score_threshold
        keypoints = found.keypoints.copy()
        keypoints[unseen, :2] = np.nan
        return replace(found, keypoints=keypoints)


def detector_for(
    task: str, model: DetectorModel, params: DetectionParams, weak_score: float = 1.0
) -> ObjectDetector:
    """Return the detector of a model by its manifest's task, ``detection`` or ``instances``."""
    if task == 'instances':
        return InstanceDetector(cast(InstanceModel, model), params, weak_score)
    return ObjectDetector(model, params, weak_score)


def instance_image(masks: Masks, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """
    Give the pixels of one image the number of the object they belong to.

    :param scores: (N,), of several masks over one pixel the best decides.
    :return: (H, W) uint16: index of the mask + 1, 0 where there is none.
    """
    ids = np.zeros(masks.image_shape, np.uint16)
    for i in np.argsort(-scores, kind='stable')[::-1].tolist():
        ids[masks.place(i)][masks.parts[i]] = i + 1
    return ids
