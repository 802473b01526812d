"""
Hides objects of chosen classes in images, beyond recovery.

What hides them is not a filter that could be undone: of each region at most four by four mean
colours stay (``blur``), or none (``fill``). Only what the model finds is hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.params import param
from perception_nodes.core.protocols import DetectorModel
from perception_nodes.core.types import Detections

Region = tuple[slice, slice]  # rows and columns of an image

_CELLS = 4  # of a region along each side
_CELL_PX = 8  # a cell is at least so wide, where the region is
_LEAST_GROWTH_PX = 4


@dataclass(frozen=True, kw_only=True)
class AnonymisationParams(DetectionParams):
    """Parameters of hiding objects: those of the detection that finds them, and how."""

    score_threshold: float = param(
        0.3, 'Lowest score of what is hidden; low, as a false alarm does less harm than a miss.',
        ge=0.0, le=1.0, dynamic=True)
    classes: tuple[str, ...] = param(
        ('person',), 'Names of the classes to hide; empty: all.', dynamic=True)
    max_detections: int = param(
        1000, 'Boxes hidden per image, best first.', ge=1, le=65535, dynamic=True)
    margin: float = param(
        0.15, 'How far beyond each side of its box an object is hidden, in parts of the box.',
        ge=0.0, le=2.0, dynamic=True)
    method: str = param(
        'blur', "'blur' leaves at most 4 x 4 mean colours of an object, 'fill' nothing.",
        choices=('blur', 'fill'), dynamic=True)


class Anonymiser:
    """
    A detector model, and the hiding of what it finds.

    :raises ValueError: If the parameters name a class that the model does not know.
    """

    def __init__(self, model: DetectorModel, params: AnonymisationParams) -> None:
        self._detector = ObjectDetector(_Sound(model), params)
        self._params = params
        self.class_names = model.class_names

    @property
    def params(self) -> AnonymisationParams:
        """The parameters; setting them changes nothing if the model lacks a class they name."""
        return self._params

    @params.setter
    def params(self, params: AnonymisationParams) -> None:
        self._detector.params = self._params = params

    def find(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[list[Region]]:
        """
        Find what is to be hidden.

        :param frames: (H, W, 3) uint8 RGB images.
        :return: The regions of each frame.
        :raises ValueError: If the model's answer is not a number, and so nothing is known.
        """
        found = self._detector.detect(frames)
        return [self._regions(f.boxes_xyxy, *frame.shape[:2])
                for f, frame in zip(found, frames, strict=True)]

    def hide(
        self, pixels: npt.NDArray[Any], regions: Sequence[Region]
    ) -> npt.NDArray[Any]:
        """
        Return a copy of an image without what lies in ``regions``.

        :param pixels: (H, W) or (H, W, C) uint8 or uint16, in any order of colours.
        """
        hidden = pixels.copy()
        for region in regions:
            part = hidden[region]
            if self._params.method == 'fill':
                part[...] = np.iinfo(pixels.dtype).max // 2
                continue
            height, width = part.shape[:2]
            rows, columns = (max(1, min(_CELLS, n // _CELL_PX)) for n in (height, width))
            cells = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
            part[...] = cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST)
        return hidden

    def _regions(
        self, boxes_xyxy: npt.NDArray[np.float32], height: int, width: int
    ) -> list[Region]:
        if not np.isfinite(boxes_xyxy).all():
            raise ValueError("a box of the model's answer is not a number")
        low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
        growth = np.maximum(np.float32(self._params.margin) * (high - low), _LEAST_GROWTH_PX)
        starts = np.floor(np.maximum(low - growth, 0.0)).astype(int)
        stops = np.ceil(np.minimum(high + growth, (width, height))).astype(int)
        return [np.s_[top:bottom, left:right] for (left, top), (right, bottom) in zip(
            starts.tolist(), stops.tolist(), strict=True)]


class _Sound:
    """A model whose answer is refused where a score is no number: it would pass for nothing."""

    def __init__(self, model: DetectorModel) -> None:
        self._model = model
        self.class_names = model.class_names
        self.needs_suppression = model.needs_suppression

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """Find objects in each frame, or raise ValueError."""
        found = self._model.predict(frames)
        if any(np.isnan(f.scores).any() for f in found):
            raise ValueError("a score of the model's answer is not a number")
        return found
