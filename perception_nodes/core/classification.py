"""Classification on arrays: the parameters, and a model with what all callers want of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from perception_nodes.core.model_params import ModelParams
from perception_nodes.core.params import param
from perception_nodes.core.protocols import ClassifierModel
from perception_nodes.core.types import ClassScores

NOTHING = ClassScores(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, kw_only=True)
class ClassificationParams(ModelParams):
    """Parameters of classification, in the node and the evaluation."""

    model: str = param(
        'mobilenet_v3_small', 'Name of a classification model in the manifest.')
    score_threshold: float = param(
        0.1, 'Lowest score that is published.', ge=0.0, le=1.0, dynamic=True)
    max_classes: int = param(
        5, 'Classes published of one image or box, best first.', ge=1, dynamic=True)
    crops: str = param(
        'none', "What is classified: the whole image, or with 'detections' the boxes that arrive "
        'on the topic detections.', choices=('none', 'detections'))
    crop_margin: float = param(
        0.15, 'Room left around a box, in parts of its longer side; classifiers look at the '
        'middle of a picture.', ge=0.0, le=2.0, dynamic=True)


class ImageClassifier:
    """A classifier model and what is kept of its answers."""

    def __init__(self, model: ClassifierModel, params: ClassificationParams) -> None:
        self.model = model
        self.params = params

    def classify(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[ClassScores]:
        """
        Say what each picture shows.

        :param frames: (H, W, 3) uint8 RGB images.
        :return: One result per picture: the best classes above the threshold, possibly none.
        """
        return [self._select(answer) for answer in self.model.predict(frames)] if frames else []

    def classify_boxes(
        self, rgb: npt.NDArray[np.uint8], boxes_xyxy: npt.NDArray[np.float32]
    ) -> list[ClassScores]:
        """
        Say what is in each box of an image.

        :param rgb: (H, W, 3) uint8 RGB.
        :param boxes_xyxy: (N, 4) pixels.
        :return: One result per box; without any class for a box outside the image.
        """
        cuts = [cut_out(rgb, box, self.params.crop_margin) for box in boxes_xyxy]
        answers = iter(self.classify([cut for cut in cuts if cut.size]))
        return [next(answers) if cut.size else NOTHING for cut in cuts]

    def _select(self, answer: ClassScores) -> ClassScores:
        # best first: what is above the threshold stands at the beginning
        count = min(
            int((answer.scores >= self.params.score_threshold).sum()), self.params.max_classes)
        return ClassScores(answer.class_ids[:count], answer.scores[:count])


def cut_out(
    rgb: npt.NDArray[np.uint8], box_xyxy: npt.NDArray[np.float32], margin: float = 0.0
) -> npt.NDArray[np.uint8]:
    """
    Return the square about a box, as far as it lies inside the image.

    A square keeps the proportions of things through the resizing of a classifier, and shows the
    surroundings instead of grey bars.

    :param rgb: (H, W, 3) uint8 RGB.
    :param box_xyxy: (4,) pixels.
    :param margin: Room around the box, in parts of its longer side.
    :return: (h, w, 3) view of the image, of size 0 where the box lies outside or is no box.
    """
    height, width = rgb.shape[:2]
    low, high = box_xyxy[:2].astype(np.float64), box_xyxy[2:].astype(np.float64)
    inside = (low < high) & (low < (width, height)) & (high > 0.0)
    if not (inside.all() and np.isfinite(box_xyxy).all()):
        return rgb[:0, :0]
    half = 0.5 * (1.0 + margin) * (high - low).max()
    left, top = np.floor(np.maximum((low + high) / 2 - half, 0.0)).astype(int)
    right, bottom = np.ceil(np.minimum((low + high) / 2 + half, (width, height))).astype(int)
    return rgb[top:bottom, left:right]
