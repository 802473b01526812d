"""
A parameter set over a bag, from messages to findings, without ROS.

What is measured hangs on what the bag has: speed and consistency always, accuracy where there
is ground truth or a file of labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
import time
from typing import Literal

import cv2
import numpy as np
from perception_nodes.core.node_params import GraspNodeParams, NodeParams
from perception_nodes.core.types import Detections, Ids
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.bag_frames import shared_frame_ids
from perception_nodes.evaluation.bag_grasps import GraspPart, read_grasp_labels
from perception_nodes.evaluation.bag_motion import motion_findings
from perception_nodes.evaluation.bag_nodes import make_node
from perception_nodes.evaluation.bag_notes import nearest_stamp, RecordedResults
from perception_nodes.evaluation.bag_page import BagEvaluation, Findings
from perception_nodes.evaluation.bag_parts import (
    BoxConsistencyPart,
    BoxesOf,
    BoxPart,
    MaskConsistencyPart,
    MaskOf,
    MaskPart,
    Part,
    PicturePart,
    ShotsPart,
)
from perception_nodes.evaluation.bag_pictures import BagPictures
from perception_nodes.evaluation.bag_run import BagRun, Moment
from perception_nodes.evaluation.bag_scores import BoxScores, MaskScores, PictureScores, Place
from perception_nodes.evaluation.bag_source import BagSource, TopicNames
from perception_nodes.evaluation.bag_space import MapPart, PositionPart
from perception_nodes.evaluation.bag_speed import RecordedSpeedPart, speed_findings
from perception_nodes.evaluation.bag_truth import (
    box_file,
    BoxFile,
    BoxTruth,
    ClassTruth,
    MaskTruth,
    no_common_class,
    shared_classes,
)
from perception_nodes.evaluation.datasets import read_labels
from perception_nodes.evaluation.mask_datasets import VOID
from perception_nodes.evaluation.parameter_sets import KINDS, ParameterSet
from perception_nodes.evaluation.result_hash import lockstep_hash
from tqdm import tqdm

Mode = Literal['lockstep', 'realtime']

_MOST_LOST = 3  # sentences about messages that could not be used


@dataclass(frozen=True)
class BagTask:
    """One parameter set on one bag; complete in itself, so that any process can do it."""

    bag: Path
    parameters: ParameterSet
    name: str
    mode: Mode = 'lockstep'
    topics: TopicNames = TopicNames()
    labels: Path | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)  # their name to ours
    grasp_labels: Path | None = None
    tolerance_ms: float = 20.0
    seed: int = 0

    @property
    def tolerance_ns(self) -> int:
        """Return how far a label may lie from its frame in time."""
        return round(self.tolerance_ms * 1e6)


def evaluate_bag(task: BagTask) -> BagEvaluation:
    """
    Run the nodes over the bag and measure what they do.

    :raises FileNotFoundError: If the bag, a model or a file of labels is not there.
    :raises ValueError: If nothing can be evaluated; with the topic or file.
    """
    start_s = time.monotonic()
    cv2.setNumThreads(1)
    with Bag(task.bag) as bag:
        evaluation = _Evaluation(task, bag)
        evaluation.watch()
        findings = evaluation.findings()
        # what was met on the way is known only now
        findings.sentences = list(dict.fromkeys([*bag.damage, *findings.sentences]))
    wall_s = time.monotonic() - start_s
    return BagEvaluation(task.name, findings, evaluation.frames, wall_s)


class _Evaluation:
    """One task, step by step."""

    def __init__(self, task: BagTask, bag: Bag) -> None:
        self.task, self.bag, self.frames = task, bag, 0
        self.sentences: list[str] = []
        setups = task.parameters.nodes
        self.source = BagSource(
            bag, task.topics, setups[0].inputs if setups else NodeParams(),
            is_simulated=task.parameters.use_sim_time)
        self.notes, self.transforms = self.source.notes, self.source.transforms.buffer
        self.run = BagRun([make_node(setup, self.source.surroundings) for setup in setups])
        self.parts = self._parts()

    def watch(self) -> None:
        """Show every frame to the nodes, and every moment to the parts."""
        frames = tqdm(self.source.frames(), self.task.name, self.source.total, unit='frame',
                      disable=None, leave=False)
        show = self.run.realtime if self.task.mode == 'realtime' else self.run.lockstep
        first_ns = None
        for moment in show(frames):
            self.frames += 1
            seen = moment.seen
            first_ns = seen.received_ns if first_ns is None else first_ns
            place = Place(seen.rgbd.stamp_ns, seen.received_ns, first_ns, seen.rgbd)
            for part in self.parts:
                part.add(place, moment)

    def findings(self) -> Findings:
        """Return what everything comes to."""
        lost = self.source.lost
        result = Findings(sentences=[
            *shared_frame_ids(self.bag, self.notes.frame_ids), *self.notes.damage,
            *self.sentences, *(f'left out: {sentence}' for sentence in lost[:_MOST_LOST])])
        if len(lost) > _MOST_LOST:
            result.sentences.append(f'{len(lost) - _MOST_LOST} more messages are left out')
        left_out = self.task.parameters.left_out
        if left_out:
            result.sentences.append(
                f'not evaluated: {", ".join(left_out)}; evaluated are {", ".join(KINDS)}')
        result.values |= {'frames': self.frames, 'lost_messages': len(lost)}
        duration_s = (self.bag.end_ns - self.bag.start_ns) * 1e-9
        result.values['bag_s'] = round(duration_s, 3)
        result.values |= self._hashes()
        for found in (speed_findings(self.run.logs, self.task.mode),
                      *(part.finish(self.task.seed) for part in self.parts),
                      motion_findings(self.notes)):
            result.values |= found.values
            result.sections += found.sections
            result.sentences += found.sentences
        return result

    def _hashes(self) -> dict[str, str]:
        """Return the hash of all results, and of each topic; equal for what was recorded."""
        hashes = {}
        digests = self.run.digests
        if self.run.nodes and self.task.mode == 'lockstep':
            hashes['lockstep_hash'] = lockstep_hash(digests)
            for topic in dict.fromkeys(topic for _, topic, _ in digests):
                hashes[f'{_name(topic)}_hash'] = lockstep_hash(
                    one for one in digests if one[1] == topic)
        for recorded in self.notes.recorded:
            hashes[f'recorded_{_name(recorded.topic)}_hash'] = lockstep_hash(recorded.digests())
        return hashes

    def _parts(self) -> list[Part]:
        pictures = self.source.pictures
        truth = self.notes.truth
        scored: list[Part] = []
        unscored: list[Part] = []
        for node in self.run.nodes:
            if node.kind == 'detection':
                scored += self._box_parts(
                    node.name, node.class_names, _boxes_of_node, pictures)
                scored += self._position_parts(node.name, node.class_names)
                unscored.append(BoxConsistencyPart(
                    node.name, node.class_names, _boxes_of_node, self.transforms))
            elif node.kind == 'segmentation':
                scored += self._mask_parts(
                    node.name, node.class_names, _mask_or_nothing, pictures)
                unscored.append(MaskConsistencyPart(node.name, _mask_of_node))
            elif node.kind == 'classification' and 'detections' not in node.needs:
                scored += self._picture_parts(node.name, node.class_names, pictures)
            elif node.kind == 'obstacle_map' and truth.occupancy is not None:
                scored.append(MapPart(node.name, truth, truth.occupancy, self.transforms))
            elif node.kind == 'grasp' and self.task.grasp_labels is not None:
                scored.append(self._grasp_part(node.name, self.task.grasp_labels))
        for recorded in self.notes.recorded:
            name = f'recorded_{_name(recorded.topic)}'
            lookup = _Recorded(recorded, self.task)
            scored.append(RecordedSpeedPart(
                name, recorded.received_ns, self.task.tolerance_ns))
            if recorded.detections:
                scored += self._box_parts(name, recorded.class_names, lookup.boxes, pictures)
                unscored.append(BoxConsistencyPart(
                    name, recorded.class_names, lookup.boxes, self.transforms))
            elif len(recorded.masks):
                scored += self._mask_parts(name, recorded.class_names, lookup.mask, pictures)
                unscored.append(MaskConsistencyPart(name, lookup.mask))
            else:
                self.sentences.append(f'{recorded.topic} has no message that can be used')
        names = {node.kind: node.class_names for node in self.run.nodes}
        shots = ShotsPart(self.source.total, names)
        # in real time a result may be shown twice, and then agrees with itself
        return [*scored, *(unscored if self.task.mode == 'lockstep' else ()), shots]

    def _box_parts(
        self, name: str, class_names: Mapping[int, str], boxes_of: BoxesOf,
        pictures: BagPictures,
    ) -> list[Part]:
        task, truth = self.task, self.notes.truth
        source: BoxFile | BoxTruth
        if task.labels is not None:
            source = self._box_file(task.labels, class_names)
            wanted = {int(i) for labels in source.boxes.values() for i in labels.class_ids}
        elif truth.detections:
            ids = self._true_classes(name, class_names, 'detections')
            if not ids:
                return []
            source = BoxTruth(truth, ids, self.transforms, task.tolerance_ns)
            wanted = set(ids.values())
        else:
            return []
        scored = {i: label for i, label in class_names.items() if i in wanted}
        return [BoxPart(name, BoxScores(source, scored, pictures), boxes_of)]

    def _true_classes(
        self, name: str, class_names: Mapping[int, str], topic: str
    ) -> dict[int, int]:
        """Match the classes of the truth with the model's; where none is common, say so."""
        task, truth = self.task, self.notes.truth
        ids, foreign = shared_classes(truth.class_names, class_names, task.renamed)
        if not ids:
            self.sentences.append(f'{name}: ' + no_common_class(
                foreign, list(class_names.values()), task.topics.truth, topic))
        return ids

    def _box_file(self, labels: Path, class_names: Mapping[int, str]) -> BoxFile:
        return box_file(
            read_labels(labels), class_names, self.task.renamed, self.task.tolerance_ns)

    def _position_parts(self, name: str, class_names: Mapping[int, str]) -> list[Part]:
        truth, transforms = self.notes.truth, self.transforms
        ids, _ = shared_classes(truth.class_names, class_names, self.task.renamed)
        if not (truth.detections and truth.boxes_3d and ids):
            return []
        return [PositionPart(
            name, truth, BoxTruth(truth, ids, transforms, self.task.tolerance_ns), transforms)]

    def _grasp_part(self, name: str, labels: Path) -> Part:
        setup = next(setup for setup in self.task.parameters.nodes if setup.name == name)
        assert isinstance(setup.params, GraspNodeParams)
        return GraspPart(name, read_grasp_labels(labels), setup.params.finger_width_m,
                         self.task.tolerance_ns)

    def _mask_parts(
        self, name: str, class_names: Mapping[int, str], mask_of: MaskOf, pictures: BagPictures
    ) -> list[Part]:
        task, truth = self.task, self.notes.truth
        if not len(truth.masks):
            return []
        ids = self._true_classes(name, class_names, 'mask')
        if not ids:
            return []
        scored = {i: label for i, label in class_names.items() if i in ids.values()}
        source = MaskTruth(truth, ids, task.tolerance_ns)
        return [MaskPart(name, MaskScores(source, scored, pictures), mask_of)]

    def _picture_parts(
        self, name: str, class_names: Mapping[int, str], pictures: BagPictures
    ) -> list[Part]:
        task, truth = self.task, self.notes.truth
        if task.labels is not None:
            try:
                source = ClassTruth.of_boxes(self._box_file(task.labels, class_names))
            except ValueError as error:
                if all(node.kind == 'classification' for node in self.run.nodes):
                    raise
                self.sentences.append(f'{name}: not scored, as the labels are for others: {error}')
                return []
        elif truth.classes:
            ids = self._true_classes(name, class_names, 'classification')
            if not ids:
                return []
            source = ClassTruth({stamp_ns: ids[class_id] for stamp_ns, class_id in
                                 truth.classes.items() if class_id in ids}, task.tolerance_ns)
        else:
            return []
        wanted = set(source.classes.values())
        shown = {i: label for i, label in class_names.items() if i in wanted}
        return [PicturePart(name, PictureScores(source, shown, class_names, pictures))]


class _Recorded:
    """Results that were recorded, as they were known at each frame."""

    def __init__(self, recorded: RecordedResults, task: BagTask) -> None:
        self._recorded, self._task = recorded, task
        self._stamps_ns = sorted(recorded.received_ns)
        # by when each was there: the newest that came by then counts in real time
        self._arrivals = sorted((at, stamp) for stamp, at in recorded.received_ns.items())
        self._next = 0
        self._newest: int | None = None

    def boxes(self, place: Place, moment: Moment) -> Detections | None:
        """Return the boxes of a frame."""
        stamp_ns = self._stamp_at(place)
        if stamp_ns is None:
            return Detections.empty() if self._task.mode == 'realtime' else None
        return self._recorded.detections[stamp_ns]

    def mask(self, place: Place, moment: Moment) -> Ids | None:
        """Return the mask of a frame."""
        stamp_ns = self._stamp_at(place)
        return None if stamp_ns is None else self._recorded.masks[stamp_ns]

    def _stamp_at(self, place: Place) -> int | None:
        if self._task.mode == 'lockstep':
            return nearest_stamp(self._stamps_ns, place.stamp_ns, self._task.tolerance_ns)
        while (self._next < len(self._arrivals)
               and self._arrivals[self._next][0] <= place.received_ns):
            self._newest = self._arrivals[self._next][1]
            self._next += 1
        return self._newest


def _name(topic: str) -> str:
    """Return a topic as a part of a figure's name."""
    return topic.strip('/').replace('/', '_')


def _boxes_of_node(place: Place, moment: Moment) -> Detections | None:
    # a frame without an answer shows nothing to whoever acts on the boxes
    found = moment.answers.detections
    return Detections.empty() if found is None else found


def _mask_of_node(place: Place, moment: Moment) -> Ids | None:
    return moment.answers.mask


def _mask_or_nothing(place: Place, moment: Moment) -> Ids:
    """Return the mask that is known at a frame; without one no pixel has a class."""
    ids = moment.answers.mask
    return np.full(place.frame.rgb.shape[:2], VOID, np.uint8) if ids is None else ids
