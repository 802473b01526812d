"""
What really was in the frames of a bag: from topics of ground truth, or from labels in a file.

Labels are expressed in the class ids of whoever is scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import difflib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import inverse, share_in_view
from perception_nodes.core.transforms import TransformBuffer, TransformError
from perception_nodes.core.types import Detections, RgbdFrame
from perception_nodes.evaluation.bag_notes import nearest_stamp, Truth
from perception_nodes.evaluation.datasets import DetectionDataset
from perception_nodes.evaluation.mask_datasets import VOID
from perception_nodes.evaluation.metrics import BoxLabels
from perception_nodes.sim.classes import SEGMENTED_AS

# what nobody is asked to find, as the simulator's data sets mark it
_LEAST_SEEN, _LEAST_PX = 0.5, 100


@dataclass(frozen=True, eq=False)
class TrueBoxes:
    """The true boxes of one frame."""

    labels: BoxLabels
    object_ids: npt.NDArray[np.int64] | None  # (N,) instances, where the truth tells them


class BoxTruth:
    """
    True boxes by frame.

    :param ids: The class id that each class id of the truth becomes; others are left out.
    """

    def __init__(
        self, truth: Truth, ids: Mapping[int, int], transforms: TransformBuffer,
        tolerance_ns: int,
    ) -> None:
        self._truth, self._ids = truth, ids
        self._transforms, self._tolerance_ns = transforms, tolerance_ns
        self._stamps_ns = sorted(truth.detections)

    def at(self, frame: RgbdFrame) -> TrueBoxes | None:
        """Return the boxes of a frame; None where the bag does not tell."""
        stamp_ns = nearest_stamp(self._stamps_ns, frame.stamp_ns, self._tolerance_ns)
        if stamp_ns is None:
            return None
        found = self._truth.detections[stamp_ns]
        found = found[np.isin(found.class_ids, list(self._ids))]
        class_ids = np.array([self._ids[i] for i in found.class_ids.tolist()], np.int64)
        return TrueBoxes(
            BoxLabels(found.boxes_xyxy, class_ids, self._ignored(found, frame, stamp_ns)),
            found.object_ids)

    def _ignored(
        self, found: Detections, frame: RgbdFrame, stamp_ns: int
    ) -> npt.NDArray[np.bool_]:
        """Return which boxes show so little of their object that missing it is no mistake."""
        sides = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
        area_px, inside = np.prod(sides, axis=1), np.ones(len(found))
        if found.object_ids is not None:
            counted = self._truth.areas_px.get(stamp_ns, {})
            shares = self._shares_inside(frame, stamp_ns)
            for i, number in enumerate(found.object_ids.tolist()):
                area_px[i] = counted.get(number, area_px[i])
                inside[i] = shares.get(number, 1.0)
        return np.asarray((found.scores * inside < _LEAST_SEEN) | (area_px < _LEAST_PX))

    def _shares_inside(self, frame: RgbdFrame, stamp_ns: int) -> dict[int, float]:
        """Return how much of each object's box in space lies in the picture, by instance."""
        boxes, frame_id = self._truth.boxes_3d.get(stamp_ns, (None, ''))
        if boxes is None or boxes.object_ids is None or frame.intrinsics is None:
            return {}
        try:
            camera_from_map = inverse(
                self._transforms.lookup(frame_id, frame.frame_id, frame.stamp_ns))
        except TransformError:
            return {}
        shares = {}
        for i, number in enumerate(boxes.object_ids.tolist()):
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = boxes.rotations[i], boxes.centers_m[i]
            shares[number] = share_in_view(
                camera_from_map @ pose, boxes.sizes_m[i], frame.intrinsics)
        return shares


@dataclass
class BoxFile:
    """
    True boxes of a COCO file, whose pictures are named by their stamps in nanoseconds.

    :param boxes: In the class ids of whoever is scored, by stamp.
    :param sizes: Width and height of the labelled pictures, by stamp.
    """

    file: Path
    boxes: Mapping[int, BoxLabels]
    sizes: Mapping[int, tuple[int, int]]
    tolerance_ns: int
    matched: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._stamps_ns = sorted(self.boxes)

    def at(self, frame: RgbdFrame) -> TrueBoxes | None:
        """
        Return the boxes of a frame; None where it has no labels.

        :raises ValueError: If the labelled picture has another size.
        """
        stamp_ns = nearest_stamp(self._stamps_ns, frame.stamp_ns, self.tolerance_ns)
        if stamp_ns is None or stamp_ns in self.matched:
            return None
        self.matched.add(stamp_ns)
        height, width = frame.rgb.shape[:2]
        if self.sizes[stamp_ns] != (width, height):
            labelled = '{}x{}'.format(*self.sizes[stamp_ns])
            raise ValueError(
                f'{self.file} has the picture {stamp_ns} as {labelled}, but the frame of the bag '
                f'is {width}x{height}; label the pictures in their own size')
        return TrueBoxes(self.boxes[stamp_ns], None)

    def unmatched(self) -> int:
        """Return how many labelled pictures no frame came for."""
        return len(self.boxes) - len(self.matched)


def box_file(
    labels: DetectionDataset, class_names: Mapping[int, str], renamed: Mapping[str, str],
    tolerance_ns: int,
) -> BoxFile:
    """
    Express the labels of a file in the class ids of a model.

    :param renamed: The file's name to the model's, where the two differ.
    :raises ValueError: If a class that has boxes is not one of the model's, or a picture's name
        is no stamp.
    """
    for name in renamed:
        if name not in labels.class_names.values():
            raise ValueError(f"{labels.file} has no class '{name}' to map; there are "
                             f'{", ".join(sorted(labels.class_names.values()))}')
    known = {name: i for i, name in class_names.items()}
    ids = {i: known[renamed.get(name, name)] for i, name in labels.class_names.items()
           if renamed.get(name, name) in known}
    used = {int(i) for image in labels.images for i in image.labels.class_ids}
    if foreign := [labels.class_names[i] for i in sorted(used) if i not in ids]:
        raise ValueError(
            f'{labels.file} has boxes of {", ".join(foreign)}, which the model does not know: '
            f"say which of its classes they are, as in --map '{_likely(foreign[0], list(known))}'"
            f' (it knows {", ".join(known)})')
    boxes, sizes = {}, {}
    for image in labels.images:
        stem = image.path.stem
        if not stem.isdecimal():
            raise ValueError(
                f"{labels.file} names the picture '{image.path.name}'; pictures of a bag are "
                'named by their stamp in nanoseconds, as perception extract-frames does')
        own = image.labels
        boxes[int(stem)] = BoxLabels(
            own.boxes_xyxy, np.array([ids[i] for i in own.class_ids.tolist()], np.int64),
            own.ignored)
        sizes[int(stem)] = (image.width, image.height)
    return BoxFile(labels.file, boxes, sizes, tolerance_ns)


def _likely(foreign: str, known: Sequence[str]) -> str:
    """Return how to say that a foreign class is the one of ours that sounds most like it."""
    close = difflib.get_close_matches(foreign, known, n=1, cutoff=0.0)
    return f'{close[0] if close else "..."}={foreign}'


class ClassTruth:
    """
    What each frame shows.

    :param classes: In the class ids of whoever is scored, by stamp.
    """

    def __init__(self, classes: Mapping[int, int], tolerance_ns: int) -> None:
        self.classes, self._tolerance_ns = classes, tolerance_ns
        self._stamps_ns = sorted(classes)

    @classmethod
    def of_boxes(cls, file: BoxFile) -> 'ClassTruth':
        """Take the pictures of a file that have boxes of one class alone."""
        return cls({stamp_ns: int(labels.class_ids[0]) for stamp_ns, labels in file.boxes.items()
                    if len(set(labels.class_ids.tolist())) == 1}, file.tolerance_ns)

    def at(self, frame: RgbdFrame) -> int | None:
        """Return the class of a frame; None where nobody tells."""
        stamp_ns = nearest_stamp(self._stamps_ns, frame.stamp_ns, self._tolerance_ns)
        return None if stamp_ns is None else self.classes[stamp_ns]


class MaskTruth:
    """True masks by frame, in the class ids of whoever is scored."""

    def __init__(self, truth: Truth, ids: Mapping[int, int], tolerance_ns: int) -> None:
        self._truth, self._tolerance_ns = truth, tolerance_ns
        self._table = np.full(np.iinfo(np.uint16).max + 1, VOID, np.uint8)
        for theirs, ours in ids.items():
            self._table[theirs] = ours
        self._stamps_ns = truth.masks.stamps_ns()

    def stamp_of(self, frame: RgbdFrame) -> int | None:
        """Return the stamp of a frame's mask; None where the bag does not tell."""
        return nearest_stamp(self._stamps_ns, frame.stamp_ns, self._tolerance_ns)

    def at(self, stamp_ns: int) -> npt.NDArray[np.uint8]:
        """Return the (H, W) class ids of a stamp, 255 void."""
        return np.asarray(self._table[self._truth.masks[stamp_ns]])


def shared_classes(
    theirs: Mapping[int, str], ours: Mapping[int, str], renamed: Mapping[str, str]
) -> tuple[dict[int, int], list[str]]:
    """
    Match the classes of ground truth with those of a model, by name.

    A class of the simulator that a model does not tell from others is the wider one it knows.

    :param renamed: Truth's name to the model's, where the two differ.
    :return: Our id by theirs, and the names that only the truth has.
    """
    ids = {name: i for i, name in ours.items()}
    matched, foreign = {}, []
    for class_id, name in theirs.items():
        wanted = renamed.get(name, name)
        wider = SEGMENTED_AS.get(wanted, wanted)
        if wanted in ids or wider in ids:
            matched[class_id] = ids[wanted if wanted in ids else wider]
        else:
            foreign.append(name)
    return matched, foreign


def no_common_class(
    theirs: Sequence[str], ours: Sequence[str], prefix: str, topic: str
) -> str:
    """
    Return the sentence for two class lists that have nothing in common.

    :param prefix: Of the topics of ground truth.
    """
    if not theirs:
        return (f'nothing is scored: no message on {prefix}/label_info says what the class ids '
                f'of {prefix}/{topic} mean')
    return (f'nothing is scored: {prefix}/{topic} has the classes {", ".join(theirs)}, and the '
            f"model {', '.join(ours)}; say which are the same with --map 'ours=theirs'")
