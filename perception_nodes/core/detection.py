"""Object detection on arrays: the parameters, and a model with the filtering all callers want."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
import difflib
import math

import numpy as np
import numpy.typing as npt
from perception_nodes.core.boxes import non_maximum_suppression
from perception_nodes.core.model_params import ModelParams
from perception_nodes.core.params import param
from perception_nodes.core.protocols import DetectorModel
from perception_nodes.core.types import Detections


@dataclass(frozen=True, kw_only=True)
class DetectionParams(ModelParams):
    """Parameters of object detection, in the node, the bag evaluator and the benchmarks."""

    model: str = param(
        'coco_ssdlite_mobilenet_v2', 'Name of a detection model in the manifest.')
    score_threshold: float = param(
        0.5, 'Lowest score that is published.', ge=0.0, le=1.0, dynamic=True)
    class_score_thresholds: tuple[str, ...] = param(
        (), "Other lowest scores for some classes, each written as 'name=0.4'.",
        dynamic=True)
    classes: tuple[str, ...] = param(
        (), 'Names of the classes to publish; empty: all.', dynamic=True)
    nms_iou: float = param(
        0.6, 'Largest overlap (intersection over union) of two boxes of one class; models that '
        'give one box per object ignore it.', ge=0.0, le=1.0, dynamic=True)
    max_detections: int = param(
        100, 'Boxes kept per image, best first.', ge=1, le=65535, dynamic=True)
    keypoint_score_threshold: float = param(
        0.5, 'Lowest score of a key point that counts as seen, for models that give key points.',
        ge=0.0, le=1.0, dynamic=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.class_thresholds()

    def class_thresholds(self) -> dict[str, float]:
        """
        Return the lowest score of each class that has its own.

        :raises ValueError: If an entry is not written as ``name=0.4``.
        """
        thresholds = {}
        for text in self.class_score_thresholds:
            name, _, number = text.rpartition('=')
            thresholds[name.strip()] = value = _number(number)
            if not name.strip() or not 0.0 <= value <= 1.0:
                raise ValueError(
                    f"parameter 'class_score_thresholds' contains '{text}'; each entry must be a "
                    "class, '=' and a score from 0 to 1, for example 'person=0.4'")
        return thresholds


class ObjectDetector:
    """
    A detector model and what is kept of its boxes.

    :param weak_score: Boxes from this score on are found too, where the parameters ask for more;
        :meth:`is_confident` tells them apart. For trackers.
    :raises ValueError: If the parameters name a class that the model does not know.
    """

    gives_masks = False
    gives_keypoints = False

    def __init__(
        self, model: DetectorModel, params: DetectionParams, weak_score: float = 1.0
    ) -> None:
        self.model = model
        self._weak_score = weak_score
        self.params = params

    @property
    def params(self) -> DetectionParams:
        """The parameters; setting them changes nothing if the model lacks a class they name."""
        return self._params

    @params.setter
    def params(self, params: DetectionParams) -> None:
        lowest = lowest_scores(params, self.model.class_names)
        weak = np.minimum(lowest, np.float32(self._weak_score))
        self._lowest_scores, self._params = lowest, params
        self._lowest_found = np.where(np.isinf(lowest), lowest, weak)

    def detect(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """
        Find objects.

        :param frames: (H, W, 3) uint8 RGB images.
        :return: One result per frame, in its pixels and clipped to it, best first.
        """
        found = self.model.predict(frames)
        return [clipped(f[self.select(f)], frame) for f, frame in zip(found, frames, strict=True)]

    def select(self, found: Detections) -> npt.NDArray[np.int64]:
        """Return the rows of what a model found that the parameters ask for, best first."""
        rows = np.flatnonzero(found.scores >= self._lowest_found[found.class_ids])
        return np.asarray(rows[self._best(found[rows])])

    def is_confident(self, found: Detections) -> npt.NDArray[np.bool_]:
        """Return (N,) whether the score of each box is one that the parameters ask for."""
        return np.asarray(found.scores >= self._lowest_scores[found.class_ids])

    def _best(self, found: Detections) -> npt.NDArray[np.int64]:
        if not self.model.needs_suppression:
            return np.argsort(-found.scores, kind='stable')[:self.params.max_detections]
        return non_maximum_suppression(
            found.boxes_xyxy, found.scores, found.class_ids,
            self.params.nms_iou, self.params.max_detections)


def clipped(found: Detections, frame: npt.NDArray[np.uint8]) -> Detections:
    """Return the detections with boxes that end where their (H, W, 3) frame does."""
    height, width = frame.shape[:2]
    limits = np.array([width, height, width, height], np.float32)
    return replace(found, boxes_xyxy=np.clip(found.boxes_xyxy, np.float32(0.0), limits))


def lowest_scores(
    params: DetectionParams, class_names: Mapping[int, str]
) -> npt.NDArray[np.float32]:
    """
    Return the lowest score to keep of each class id; +inf for ids that are not wanted.

    :return: (largest id + 1,) float32.
    :raises ValueError: If a class is named that is not in ``class_names``.
    """
    own = params.class_thresholds()
    _check_names('class_score_thresholds', own, class_names.values())
    _check_names('classes', params.classes, class_names.values())
    lowest = np.full(max(class_names) + 1, np.inf, np.float32)
    for class_id, name in class_names.items():
        if not params.classes or name in params.classes:
            lowest[class_id] = own.get(name, params.score_threshold)
    return lowest


def _check_names(parameter: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name.lower(), known, n=3)
            hint = (f'did you mean {" or ".join(map(repr, close))}?' if close
                    else f'there are {", ".join(known)}')
            raise ValueError(
                f"parameter '{parameter}' names class '{name}', which the model does not know; "
                f'{hint}')


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
