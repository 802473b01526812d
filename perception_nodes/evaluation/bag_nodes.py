"""
The work of each node on the frames of a bag, without a ROS graph.

Each runs the core object that its node runs, with the node's own parameters, and gives results
under the names of the node's topics.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.grasp_planner import make_planner
from perception_nodes.backends.registry import load_model
from perception_nodes.core import grasping, localization, mapping
from perception_nodes.core.classification import ClassificationParams, ImageClassifier
from perception_nodes.core.grasping import GraspContext
from perception_nodes.core.instances import detector_for, instance_image
from perception_nodes.core.localization import locate
from perception_nodes.core.mapping import MappingParams, ObstacleMapper, View
from perception_nodes.core.model_params import ModelParams
from perception_nodes.core.node_params import DetectionNodeParams, GraspNodeParams
from perception_nodes.core.segmentation import SegmentationParams, Segmenter
from perception_nodes.core.tracking import ObjectTracker
from perception_nodes.core.transforms import TransformBuffer, TransformError
from perception_nodes.core.types import (
    ClassScores,
    Detections,
    Detections3D,
    GraspCandidates,
    Ids,
    LaserRanges,
    OccupancyMap,
    RgbdFrame,
)
from perception_nodes.evaluation.parameter_sets import NodeSetup


@dataclass(frozen=True, eq=False)
class Located:
    """Boxes in space, and the frame they are in."""

    boxes: Detections3D
    frame_id: str


@dataclass
class Answers:
    """What the nodes found in one frame."""

    results: dict[str, Any] = field(default_factory=dict)  # by topic
    detections: Detections | None = None
    located: Located | None = None
    mask: Ids | None = None
    mask_names: Mapping[int, str] = field(default_factory=dict)
    classification: ClassScores | None = None
    occupancy: OccupancyMap | None = None
    grasps: GraspCandidates | None = None
    problems: list[str] = field(default_factory=list)  # parts that could not be made, and why


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What a bag offers beside the frames of its camera."""

    transforms: TransformBuffer
    # scans recorded since the last frame, in the order of recording
    new_scans: Callable[[], Sequence[LaserRanges]] = list
    is_simulated: bool = False


class BagNode(Protocol):
    """One node's work on one frame after the other."""

    name: str
    kind: str
    needs: frozenset[str]  # of 'image', 'depth', 'camera_info', 'detections', 'mask'
    wants: frozenset[str]  # of the last two: used where another node gives them
    class_names: Mapping[int, str]

    def answer(self, frame: RgbdFrame, answers: Answers) -> None:
        """
        Work on a frame, and add the results to what earlier nodes found in it.

        :raises ValueError: If the frame cannot be worked on.
        :raises TransformError: If a transform is missing.
        """
        ...

    def reset(self) -> None:
        """Forget what was seen before, because time jumped."""
        ...


def make_node(setup: NodeSetup, surroundings: Surroundings) -> BagNode:
    """
    Load what a node needs, and run it once so that the first frame is not the slow one.

    :raises FileNotFoundError: If a model's file is not there.
    :raises ValueError: If a model or parameter does not suit.
    """
    kinds: dict[str, Callable[[NodeSetup, Surroundings], BagNode]] = {
        'detection': DetectionRun, 'segmentation': SegmentationRun,
        'classification': ClassificationRun, 'obstacle_map': MapRun, 'grasp': GraspRun}
    return kinds[setup.kind](setup, surroundings)


class _Stateless:
    """A node whose answer hangs on the frame alone."""

    class_names: Mapping[int, str] = {}
    wants: frozenset[str] = frozenset()

    def __init__(self, setup: NodeSetup, surroundings: Surroundings) -> None:
        self.name, self.kind = setup.name, setup.kind
        self._surroundings = surroundings

    def reset(self) -> None:
        """Do nothing."""

    def _topic(self, name: str) -> str:
        return f'/{self.name}/{name}'

    def _model(self, task: str, p: ModelParams) -> tuple[Any, str, npt.NDArray[np.uint8]]:
        """Return the model, its task in the manifest, and a black picture of its size."""
        entry = p.entry(task, self._surroundings.is_simulated)
        model = load_model(
            entry, p.device, half_precision=p.half_precision, input_size=p.input_size)
        return model, entry.task, np.zeros((entry.input.height, entry.input.width, 3), np.uint8)


class DetectionRun(_Stateless):
    """Boxes, and with depth or a ground plane also boxes in space."""

    def __init__(self, setup: NodeSetup, surroundings: Surroundings) -> None:
        super().__init__(setup, surroundings)
        p = setup.params
        assert isinstance(p, DetectionNodeParams)
        model, task, black = self._model('detection', p)
        self._params = p
        self._core = detector_for(task, model, p, p.track_weak_score if p.track else 1.0)
        self._tracker = ObjectTracker(p) if p.track else None
        self.class_names = model.class_names
        self.needs = frozenset({'image'} | {
            'none': set(), 'depth': {'depth', 'camera_info'}, 'ground': {'camera_info'},
        }[p.boxes_3d])
        self._core.detect([black])
        if p.boxes_3d == 'depth':
            localization.warm_up(p)

    def reset(self) -> None:
        """Follow nothing across a jump of time."""
        if self._tracker is not None:
            self._tracker.reset()

    def answer(self, frame: RgbdFrame, answers: Answers) -> None:
        """Find boxes."""
        found = self._core.detect([frame.rgb])[0]
        if self._tracker is not None:
            found = self._tracker.step(found, frame.stamp_ns, self._core.is_confident(found))
        answers.detections = found
        answers.results[self._topic('detections')] = replace(found, masks=None, keypoints=None)
        if found.masks is not None:
            answers.results[self._topic('instances')] = instance_image(found.masks, found.scores)
        if self._params.boxes_3d == 'none':
            return
        try:
            boxes, frame_id = locate(
                found, frame, self._surroundings.transforms, 0.0, self._params)
        except (ValueError, TransformError) as error:  # the boxes in the image are there all right
            answers.problems.append(f'{self.name}: no boxes in space: {error}')
            return
        answers.located = Located(boxes, frame_id)
        answers.results[self._topic('detections_3d')] = answers.located


class SegmentationRun(_Stateless):
    """The class of every pixel."""

    needs = frozenset({'image'})

    def __init__(self, setup: NodeSetup, surroundings: Surroundings) -> None:
        super().__init__(setup, surroundings)
        p = setup.params
        assert isinstance(p, SegmentationParams)
        model, _, black = self._model('segmentation', p)
        self._core = Segmenter(model, p)
        self.class_names = model.class_names
        self._core.segment([black])

    def answer(self, frame: RgbdFrame, answers: Answers) -> None:
        """Segment."""
        answers.mask = self._core.segment([frame.rgb])[0].ids
        answers.mask_names = self.class_names
        answers.results[self._topic('mask')] = answers.mask


class ClassificationRun(_Stateless):
    """What the image shows, or each box of the detector."""

    def __init__(self, setup: NodeSetup, surroundings: Surroundings) -> None:
        super().__init__(setup, surroundings)
        p = setup.params
        assert isinstance(p, ClassificationParams)
        model, _, black = self._model('classification', p)
        self._core, self._of_boxes = ImageClassifier(model, p), p.crops == 'detections'
        self.class_names = model.class_names
        self.needs = frozenset({'image', 'detections'} if self._of_boxes else {'image'})
        self._core.classify([black])

    def answer(self, frame: RgbdFrame, answers: Answers) -> None:
        """Classify."""
        if not self._of_boxes:
            answers.classification = self._core.classify([frame.rgb])[0]
            answers.results[self._topic('classification')] = answers.classification
            return
        assert answers.detections is not None
        answers.results[self._topic('detections')] = tuple(
            self._core.classify_boxes(frame.rgb, answers.detections.boxes_xyxy))


class MapRun(_Stateless):
    """The obstacle map, which grows from frame to frame."""

    def __init__(self, setup: NodeSetup, surroundings: Surroundings) -> None:
        super().__init__(setup, surroundings)
        p = setup.params
        assert isinstance(p, MappingParams)
        if p.use_imu:
            raise ValueError(
                f"node {setup.name}: parameter 'use_imu' is true, but an IMU is not read from "
                'bags; set it to false, then the map frame tells how the camera is tilted')
        self._params, self._core = p, ObstacleMapper(p)
        waits_for = {'mask'} if p.is_water else {'depth'}
        self.needs = frozenset({'camera_info'} | waits_for)
        self.wants = frozenset({'mask'} if p.use_mask else ())
        mapping.warm_up(p)

    def reset(self) -> None:
        """Forget the map of another time."""
        self._core.reset()

    def answer(self, frame: RgbdFrame, answers: Answers) -> None:
        """Bring the map up to date."""
        p, core = self._params, self._core
        if p.use_mask and answers.mask is not None and not core.class_names:
            core.set_class_names(answers.mask_names)
        if p.use_scan:
            self._take_scans(answers)
        view, map_from_base = self._view(frame, answers)
        core.move(map_from_base, frame.stamp_ns)
        core.integrate(view)
        if p.use_mask:
            if answers.mask is not None:
                core.label(view, answers.mask)
            answers.results[self._topic('class_map')] = core.class_map()
        answers.occupancy = core.occupancy()
        answers.results[self._topic('map')] = answers.occupancy

    def _take_scans(self, answers: Answers) -> None:
        for scan in self._surroundings.new_scans():
            try:
                map_from_laser, map_from_base = self._poses(scan.frame_id, scan.stamp_ns)
                self._core.move(map_from_base, scan.stamp_ns)
                self._core.integrate_scan(scan, map_from_laser, map_from_base)
            except (ValueError, TransformError) as error:  # depth can still be mapped
                answers.problems.append(f'{self.name}: a laser scan is left out: {error}')

    def _view(
        self, frame: RgbdFrame, answers: Answers
    ) -> tuple[View, npt.NDArray[np.float64]]:
        assert frame.intrinsics is not None
        map_from_camera, map_from_base = self._poses(frame.frame_id, frame.stamp_ns)
        if self._params.is_water:
            assert answers.mask is not None
            return self._core.view_water(
                answers.mask, frame.intrinsics, map_from_camera, map_from_base,
                frame.depth_m if self._params.use_depth else None), map_from_base
        assert frame.depth_m is not None
        view = self._core.view(frame.depth_m, frame.intrinsics, map_from_camera, map_from_base)
        return view, map_from_base

    def _poses(
        self, frame_id: str, stamp_ns: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return where a sensor and the robot were in the map."""
        p, transforms = self._params, self._surroundings.transforms
        map_from_sensor = transforms.lookup(p.map_frame, frame_id, stamp_ns)
        if p.base_frame:
            return map_from_sensor, transforms.lookup(p.map_frame, p.base_frame, stamp_ns)
        map_from_base = np.eye(4)  # in the hand: under the camera, level
        map_from_base[:2, 3] = map_from_sensor[:2, 3]
        return map_from_sensor, map_from_base


class GraspRun(_Stateless):
    """Ways to grasp what stands on a support."""

    def __init__(self, setup: NodeSetup, surroundings: Surroundings) -> None:
        super().__init__(setup, surroundings)
        p = setup.params
        assert isinstance(p, GraspNodeParams)
        self._params = p
        self._core = make_planner(p, p.model, p.manifest, fallback_model=p.fallback_model)
        self.needs = frozenset(
            {'depth', 'camera_info'} | ({'detections'} if p.use_detections else set()))
        grasping.warm_up(p)

    def answer(self, frame: RgbdFrame, answers: Answers) -> None:
        """Plan."""
        p, transforms = self._params, self._surroundings.transforms

        def into(target: str) -> npt.NDArray[np.float64]:
            return transforms.lookup(target, frame.frame_id, frame.stamp_ns)

        context = GraspContext()
        if gravity_frame := p.gravity_frame or p.target_frame:
            context = GraspContext.of_pose(
                into(gravity_frame), p.support_height_m if p.scale_depth else None)
        if p.use_detections:
            context = replace(context, detections=answers.detections)
        answers.grasps = found = self._core.propose(frame, context)
        if found.why_none:
            answers.problems.append(f'{self.name}: no grasps: {found.why_none}')
        target_from_camera = into(p.target_frame) if p.target_frame else np.eye(4)
        answers.results[self._topic('grasps')] = replace(
            found, camera_from_grasp=target_from_camera @ found.camera_from_grasp,
            why_none='', rejected_m=None)
