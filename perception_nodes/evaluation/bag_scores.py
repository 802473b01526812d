"""What nodes found in a bag against what was there: collected by frame, scored at the end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
import math
from pathlib import Path

import numpy as np
from perception_nodes.core.types import ClassScores, Detections, Ids, RgbdFrame
from perception_nodes.evaluation.bag_notes import PackedMasks
from perception_nodes.evaluation.bag_pictures import (
    BagPictures,
    ClassifiedFrame,
    LabelledFrame,
    MaskedFrame,
    UnpackedMasks,
)
from perception_nodes.evaluation.bag_truth import (
    BoxFile,
    BoxTruth,
    ClassTruth,
    MaskTruth,
    TrueBoxes,
)
from perception_nodes.evaluation.classification_task import ClassComparison
from perception_nodes.evaluation.coco_matches import match_as_coco
from perception_nodes.evaluation.detection_task import BoxComparison
from perception_nodes.evaluation.metrics import groups_of, scores_with_intervals
from perception_nodes.evaluation.model_page import Evaluation
from perception_nodes.evaluation.segmentation_task import MaskComparison

# frames of a bag resemble those just before: this much of it is drawn as one for intervals
BLOCK_NS = 2_000_000_000
_RESAMPLES = 200


@dataclass(frozen=True)
class Place:
    """Where in a bag a frame is."""

    stamp_ns: int
    received_ns: int
    first_ns: int  # received_ns of the bag's first frame
    frame: RgbdFrame

    @property
    def title(self) -> str:
        """Return the time since the first frame."""
        return f'{(self.received_ns - self.first_ns) * 1e-9:.2f} s'

    @property
    def block(self) -> int:
        """Return the number of the stretch of the bag that the frame is in."""
        return (self.received_ns - self.first_ns) // BLOCK_NS


@dataclass
class BoxScores:
    """
    Boxes of one node against true ones.

    :param class_names: The classes to score: those of the truth that the node knows.
    """

    truth: BoxTruth | BoxFile
    class_names: Mapping[int, str]
    pictures: BagPictures
    images: list[LabelledFrame] = field(default_factory=list)
    answers: list[Detections] = field(default_factory=list)
    truths: list[TrueBoxes] = field(default_factory=list)
    unlabelled: int = 0

    def add(self, place: Place, found: Detections) -> None:
        """Take what was found in a frame, if the truth of it is known."""
        true = self.truth.at(place.frame)
        if true is None:
            self.unlabelled += 1
            return
        height, width = place.frame.rgb.shape[:2]
        kept = found[np.isin(found.class_ids, list(self.class_names))]
        self.answers.append(replace(kept, masks=None, keypoints=None))
        self.truths.append(true)
        self.images.append(LabelledFrame(
            Path(place.title), width, height, true.labels, (), place.block,
            read=partial(self.pictures.rgb, place.stamp_ns, place.received_ns)))

    def evaluation(self, seed: int) -> Evaluation:
        """Return tables, curves, confusion and worst frames; the values are COCO's."""
        comparison = _BagBoxes(self.images, self.class_names, seed)
        return comparison.evaluate([replace(a, object_ids=None) for a in self.answers])


class _BagBoxes(BoxComparison):
    """Boxes whose figures are ``AP``, ``AP50`` and ``AP75``, alone and by class."""

    def scores(self, answers: Sequence[Detections]) -> dict[str, float]:
        """Return COCO's figures with 95 % intervals over stretches of the bag."""
        matches = match_as_coco(self._labels, answers)
        values = scores_with_intervals(
            matches.scores, groups_of([image.scene for image in self.images]), self._seed,
            _RESAMPLES)
        by_class = matches.scores(class_names=self._class_names)
        return values | {k: v for k, v in by_class.items()
                         if k not in values and not math.isnan(v)}


@dataclass
class MaskScores:
    """Masks of one node against true ones."""

    truth: MaskTruth
    class_names: Mapping[int, str]
    pictures: BagPictures
    images: list[MaskedFrame] = field(default_factory=list)
    unlabelled: int = 0
    of_other_size: int = 0
    _answers: PackedMasks = field(default_factory=PackedMasks)
    _reads: list[Callable[[], Ids]] = field(default_factory=list)

    def add(self, place: Place, ids: Ids) -> None:
        """Take the mask of a frame, if the truth of it is known."""
        stamp_ns = self.truth.stamp_of(place.frame)
        if stamp_ns is None:
            self.unlabelled += 1
            return
        if self.truth.at(stamp_ns).shape != ids.shape:
            self.of_other_size += 1
            return
        key = len(self.images)
        self._answers[key] = ids
        self._reads.append(partial(self._answers.__getitem__, key))
        self.images.append(MaskedFrame(
            Path(place.title), Path(), None, np.empty(0, np.int16), place.block,
            read=partial(self.pictures.rgb, place.stamp_ns, place.received_ns),
            read_mask=partial(self.truth.at, stamp_ns)))

    def evaluation(self, seed: int) -> Evaluation:
        """Return tables, confusion and worst frames."""
        return MaskComparison(self.images, self.class_names, seed).evaluate(
            UnpackedMasks(self._reads))


@dataclass
class PictureScores:
    """
    What one node says of whole pictures against what they show.

    :param class_names: The classes to score: those of the truth that the node knows.
    :param answer_names: All classes that the node knows.
    """

    truth: ClassTruth
    class_names: Mapping[int, str]
    answer_names: Mapping[int, str]
    pictures: BagPictures
    images: list[ClassifiedFrame] = field(default_factory=list)
    answers: list[ClassScores] = field(default_factory=list)
    unlabelled: int = 0
    _blocks: list[int] = field(default_factory=list)

    def add(self, place: Place, answer: ClassScores) -> None:
        """Take the answer to a frame, if the truth of it is known."""
        class_id = self.truth.at(place.frame)
        if class_id is None:
            self.unlabelled += 1
            return
        self.answers.append(answer)
        self._blocks.append(place.block)
        self.images.append(ClassifiedFrame(
            Path(place.title), class_id,
            read=partial(self.pictures.rgb, place.stamp_ns, place.received_ns)))

    def evaluation(self, seed: int) -> Evaluation:
        """Return the table, ROC curves, confusion and worst frames."""
        return ClassComparison(
            self.images, self.class_names, self.answer_names, seed, groups_of(self._blocks)
        ).evaluate(self.answers)
