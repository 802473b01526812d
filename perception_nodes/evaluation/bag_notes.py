"""
What a bag says beside its pictures, read in one pass: transforms, truth, results, motion.

Masks are kept as PNG files in memory, so that a bag of minutes fits.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.conversions import decode
from perception_nodes.core.types import (
    CameraIntrinsics,
    Detections,
    Detections3D,
    Ids,
    LaserRanges,
    OccupancyMap,
    StampedTransform,
)
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.bag_frames import CameraTopics, INFO, TRANSFORMS
from perception_nodes.evaluation.result_hash import content_digest

TRUTH = '/simulation/ground_truth'
_DETECTIONS = 'vision_msgs/msg/Detection2DArray'
_DETECTIONS_3D = 'vision_msgs/msg/Detection3DArray'
_LABELS, _GRID = 'vision_msgs/msg/LabelInfo', 'nav_msgs/msg/OccupancyGrid'
_ODOMETRY, _VECTOR = 'nav_msgs/msg/Odometry', 'geometry_msgs/msg/Vector3Stamped'
_IMAGE, _SCAN = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/LaserScan'
_POSE, _CLASSES = 'geometry_msgs/msg/PoseStamped', 'vision_msgs/msg/Classification'

Take = Callable[[int, Any], None]  # gets the recorder's stamp and a message


class PackedMasks:
    """Masks by stamp, each (H, W) uint8 or uint16, packed without loss."""

    def __init__(self) -> None:
        self._pngs: dict[int, npt.NDArray[np.uint8]] = {}

    def __setitem__(self, stamp_ns: int, ids: Ids) -> None:
        self._pngs[stamp_ns] = np.asarray(
            cv2.imencode('.png', ids, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1], np.uint8)

    def __getitem__(self, stamp_ns: int) -> Ids:
        return np.asarray(cv2.imdecode(self._pngs[stamp_ns], cv2.IMREAD_UNCHANGED))

    def __len__(self) -> int:
        return len(self._pngs)

    def stamps_ns(self) -> list[int]:
        """Return all stamps, ascending."""
        return sorted(self._pngs)


@dataclass
class Truth:
    """What really was there, as a bag tells it; every dictionary by stamp_ns."""

    class_names: dict[int, str] = field(default_factory=dict)
    # scores: the visible share of the silhouette; object ids: instances
    detections: dict[int, Detections] = field(default_factory=dict)
    boxes_3d: dict[int, tuple[Detections3D, str]] = field(default_factory=dict)  # and their frame
    masks: PackedMasks = field(default_factory=PackedMasks)
    classes: dict[int, int] = field(default_factory=dict)  # of the whole picture
    areas_px: dict[int, dict[int, int]] = field(default_factory=dict)  # visible, by instance
    occupancy: OccupancyMap | None = None
    # received_ns, stamp_ns, x and y in metres
    places: list[tuple[int, int, float, float]] = field(default_factory=list)
    places_frame: str = ''
    impacts: list[tuple[int, float]] = field(default_factory=list)  # received_ns, m/s

    def __bool__(self) -> bool:
        return bool(self.detections or len(self.masks) or self.classes
                    or self.occupancy is not None)


@dataclass
class RecordedResults:
    """Detections or masks that some node published when the bag was recorded."""

    topic: str
    detections: dict[int, Detections] = field(default_factory=dict)
    masks: PackedMasks = field(default_factory=PackedMasks)
    received_ns: dict[int, int] = field(default_factory=dict)  # when the recorder got each
    class_names: dict[int, str] = field(default_factory=dict)

    def digests(self) -> Iterator[tuple[int, str, bytes]]:
        """Yield stamp, topic and digest of each, as the same results of a node would have them."""
        for stamp_ns, found in self.detections.items():
            yield stamp_ns, self.topic, content_digest(found)
        for stamp_ns in self.masks.stamps_ns():
            yield stamp_ns, self.topic, content_digest(self.masks[stamp_ns])


@dataclass
class BagNotes:
    """Everything of a bag but the pictures of its camera."""

    transforms: list[tuple[int, StampedTransform]] = field(default_factory=list)
    static_transforms: list[StampedTransform] = field(default_factory=list)
    intrinsics: list[tuple[int, CameraIntrinsics]] = field(default_factory=list)
    depth_intrinsics: CameraIntrinsics | None = None
    frame_ids: dict[str, str] = field(default_factory=dict)  # by topic of camera_info
    scans: list[tuple[int, LaserRanges]] = field(default_factory=list)
    truth: Truth = field(default_factory=Truth)
    recorded: list[RecordedResults] = field(default_factory=list)
    # received_ns, frame, x and y in metres
    goals: list[tuple[int, str, float, float]] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)  # sentences


def read_notes(
    bag: Bag, camera: CameraTopics, truth: str = TRUTH, recorded: tuple[str, ...] = (),
    scan: str = '/scan', goal: str = '/goal_pose',
) -> BagNotes:
    """
    Read everything but pictures.

    :param truth: Prefix of the topics of ground truth.
    :param recorded: Topics of results to keep.
    :raises ValueError: If a topic of ``recorded`` is missing, or of a type that is not scored.
    """
    notes = BagNotes()
    takers = _Takers(bag, notes, camera).all(truth, recorded, scan, goal)
    present = [topic for topic in takers if topic in bag.topics]
    failed: dict[str, list[str]] = {}
    for raw in bag.raw(present) if present else ():
        try:
            message = bag.decoded(raw)
            for take in takers[raw.topic]:
                take(raw.stamp_ns, message)
        except (ValueError, cv2.error) as error:
            failed.setdefault(raw.topic, []).append(str(error))
    notes.damage += [
        f'{len(errors)} message(s) of {topic} cannot be used: {errors[0]}'
        for topic, errors in failed.items()]
    return notes


class _Takers:
    """Functions that each take the messages of one topic over into the notes."""

    def __init__(self, bag: Bag, notes: BagNotes, camera: CameraTopics) -> None:
        self._bag, self._notes, self._camera = bag, notes, camera

    def all(
        self, truth: str, recorded: tuple[str, ...], scan: str, goal: str
    ) -> dict[str, list[Take]]:
        """Return the functions of each topic that is wanted and has the type it should."""
        notes = self._notes
        takers: dict[str, list[Take]] = {
            name: [self._camera_info(name)] for name, topic in self._bag.topics.items()
            if topic.type_name == INFO}
        known: dict[tuple[str, str], Take] = {
            ('/tf', TRANSFORMS): self._transform,
            ('/tf_static', TRANSFORMS): self._static_transform,
            (scan, _SCAN): lambda at, msg: notes.scans.append(
                (at, decode.laser_ranges_from_msg(msg))),
            (goal, _POSE): self._goal,
            (f'{truth}/odom', _ODOMETRY): self._place,
            (f'{truth}/contact', _VECTOR): lambda at, msg: notes.truth.impacts.append(
                (at, float(msg.vector.x))),
            (f'{truth}/map', _GRID): self._occupancy,
            (f'{truth}/label_info', _LABELS): lambda at, msg: notes.truth.class_names.update(
                decode.class_names_from_msg(msg)),
            (f'{truth}/detections', _DETECTIONS): self._true_boxes,
            (f'{truth}/detections_3d', _DETECTIONS_3D): self._true_boxes_3d,
            (f'{truth}/mask', _IMAGE): self._true_mask,
            (f'{truth}/classification', _CLASSES): self._true_class,
            (f'{truth}/instances', _IMAGE): self._areas}
        takers |= {name: [take] for (name, type_name), take in known.items()
                   if self._type(name) == type_name}
        for one in recorded:  # several may share their label_info, with the truth, too
            for name, take in self._recorded(one).items():
                takers.setdefault(name, []).append(take)
        return takers

    def _type(self, topic: str) -> str:
        return self._bag.topics[topic].type_name if topic in self._bag.topics else ''

    def _recorded(self, topic: str) -> dict[str, Take]:
        type_name = self._type(topic)
        if type_name not in (_DETECTIONS, _IMAGE):
            has = f'it carries {type_name}' if type_name else (
                f'bag {self._bag.path} has {", ".join(self._bag.topics)}')
            raise ValueError(
                f'--recorded {topic}: {has}; what is scored is {_DETECTIONS}, and {_IMAGE} with '
                'a class id in each pixel')
        results = RecordedResults(topic)
        self._notes.recorded.append(results)
        names = f'{topic.rpartition("/")[0]}/label_info'
        takers: dict[str, Take] = {}
        if self._type(names) == _LABELS:
            takers[names] = lambda at, msg: results.class_names.update(
                decode.class_names_from_msg(msg))

        def take(at_ns: int, msg: Any) -> None:
            stamp_ns = _stamp_ns(msg)
            if type_name == _DETECTIONS:
                found = results.detections[stamp_ns] = _with_numbers(msg, results.class_names)
                present = found.class_ids.tolist()
            else:
                ids = results.masks[stamp_ns] = decode.ids_from_msg(msg)
                present = [] if takers else np.unique(ids).tolist()
            for class_id in present:  # without a name it is called by its number
                results.class_names.setdefault(class_id, str(class_id))
            results.received_ns[stamp_ns] = at_ns

        return takers | {topic: take}

    def _camera_info(self, topic: str) -> Take:
        depth_info = f'{self._camera.depth.rpartition("/")[0]}/camera_info'

        def take(at_ns: int, msg: Any) -> None:
            self._notes.frame_ids[topic] = str(msg.header.frame_id)
            if topic == self._camera.camera_info:
                found = decode.intrinsics_from_msg(msg, decode.is_rectified(self._camera.first))
                known = self._notes.intrinsics
                if not known or known[-1][1] != found:
                    known.append((at_ns, found))
            elif topic == depth_info:
                self._notes.depth_intrinsics = decode.intrinsics_from_msg(
                    msg, decode.is_rectified(self._camera.depth))

        return take

    def _transform(self, at_ns: int, msg: Any) -> None:
        self._notes.transforms += [
            (at_ns, decode.transform_from_msg(one)) for one in msg.transforms]

    def _static_transform(self, at_ns: int, msg: Any) -> None:
        self._notes.static_transforms += map(decode.transform_from_msg, msg.transforms)

    def _goal(self, at_ns: int, msg: Any) -> None:
        at = msg.pose.position
        self._notes.goals.append((at_ns, str(msg.header.frame_id), float(at.x), float(at.y)))

    def _place(self, at_ns: int, msg: Any) -> None:
        at = msg.pose.pose.position
        self._notes.truth.places.append((at_ns, _stamp_ns(msg), float(at.x), float(at.y)))
        self._notes.truth.places_frame = str(msg.header.frame_id)

    def _occupancy(self, at_ns: int, msg: Any) -> None:
        self._notes.truth.occupancy = decode.occupancy_from_msg(msg)

    def _true_boxes(self, at_ns: int, msg: Any) -> None:
        self._notes.truth.detections[_stamp_ns(msg)] = decode.detections_from_msg(msg)

    def _true_boxes_3d(self, at_ns: int, msg: Any) -> None:
        self._notes.truth.boxes_3d[_stamp_ns(msg)] = (
            decode.detections_3d_from_msg(msg), str(msg.header.frame_id))

    def _true_mask(self, at_ns: int, msg: Any) -> None:
        self._notes.truth.masks[_stamp_ns(msg)] = decode.ids_from_msg(msg)

    def _true_class(self, at_ns: int, msg: Any) -> None:
        self._notes.truth.classes[_stamp_ns(msg)] = decode.class_from_msg(msg)

    def _areas(self, at_ns: int, msg: Any) -> None:
        counts = np.bincount(decode.ids_from_msg(msg).reshape(-1))
        self._notes.truth.areas_px[_stamp_ns(msg)] = {
            number: int(counts[number]) for number in np.flatnonzero(counts).tolist()}


def _with_numbers(msg: Any, class_names: dict[int, str]) -> Detections:
    """Read detections whose class ids may be names, as some vendors write them."""
    ids = {name: i for i, name in class_names.items()}
    for detection in msg.detections:
        for result in detection.results:
            name = str(result.hypothesis.class_id)
            if name.isdecimal():
                continue
            if name not in ids:
                ids[name] = max(class_names, default=-1) + 1
                class_names[ids[name]] = name
            result.hypothesis.class_id = str(ids[name])
    return decode.detections_from_msg(msg)


def _stamp_ns(msg: Any) -> int:
    return decode.stamp_ns_from_msg(msg.header.stamp)


def nearest_stamp(
    stamps_ns: Sequence[int], stamp_ns: int, tolerance_ns: int
) -> int | None:
    """
    Return the stamp that is nearest, if it lies within the tolerance.

    :param stamps_ns: Ascending.
    """
    at = bisect_left(stamps_ns, stamp_ns)
    best = min(stamps_ns[max(at - 1, 0):at + 1], key=lambda other: abs(other - stamp_ns),
               default=None)
    return best if best is not None and abs(best - stamp_ns) <= tolerance_ns else None
