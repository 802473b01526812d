"""Grasps for a parallel gripper from one depth image, by geometry alone."""

from collections import Counter
from dataclasses import dataclass, replace
import math

import numpy as np
import numpy.typing as npt
from perception_nodes.core import grasp_kernels as kernels
from perception_nodes.core.geometry import (
    pixel_rays,
    project,
    read_only,
    transform_points,
    up_in_camera,
)
from perception_nodes.core.height_map import (
    approach_frame,
    find_support,
    HeightMap,
    make_height_map,
    NoSupportError,
    object_bounds,
    smoothed,
    Support,
)
from perception_nodes.core.params import param, Params
from perception_nodes.core.plane_objects import boxes_of_objects, objects_on_plane
from perception_nodes.core.protocols import GraspFinder, GraspScorer
from perception_nodes.core.types import CameraIntrinsics, Detections, GraspCandidates, RgbdFrame

REASONS = ('usable', 'too_wide', 'not_opposed', 'leaning', 'finger_collision', 'palm_collision',
           'too_shallow')
_MOST_CANDIDATES = 60_000
_LEVEL_STEP_M, _LEVELS = 0.008, 6  # between tips; long fingers are tried at fewer heights
_OBJECT_STEP_M = 0.02  # in height between neighbouring cells, that divides objects
_LEAST_CELLS = 6  # of an object
_MARGIN_M = 0.07  # of the map around objects, where fingers and palm go
_WIDEST_MAP_M = 1.2
_LEAST_GRIP_M, _LOWEST_TIP_M = 0.008, 0.004
_CM = 300  # half the width of the search for objects, centimetres
_TILT_AZIMUTHS = 8
# what networks learn from, beyond what the geometry alone would dare
_RELAXED_FRICTION, _RELAXED_CLEARANCE = 1.5, 0.3
_LEAST_PER_OBJECT = 3  # grasps that one object may have, however many objects there are
# grasps nearer than both to a better one say nothing new
_SAME_PLACE_M, _SAME_TURN_COS = 0.01, math.cos(math.radians(25.0))


@dataclass(frozen=True, kw_only=True)
class GraspParams(Params):
    """Parameters of grasp planning, in the node and in the benchmark."""

    max_opening_m: float = param(
        0.08, "Largest distance between the gripper's fingers.", unit='m', ge=0.005, le=0.5)
    finger_width_m: float = param(
        0.02, 'Width of a finger, across the closing direction.', unit='m', ge=0.002, le=0.1)
    finger_thickness_m: float = param(
        0.01, 'Thickness of a finger, along the closing direction.', unit='m', ge=0.001, le=0.1)
    finger_depth_m: float = param(
        0.045, 'From the palm to the fingertips.', unit='m', ge=0.01, le=0.3)
    palm_length_m: float = param(
        0.11, 'Size of the palm along the closing direction.', unit='m', ge=0.01, le=0.5)
    palm_width_m: float = param(
        0.036, 'Size of the palm across the closing direction.', unit='m', ge=0.005, le=0.3)
    friction: float = param(
        0.7, 'Coefficient of friction between fingers and objects: how far surfaces may lean.',
        ge=0.05, le=2.0, dynamic=True)
    clearance_m: float = param(
        0.003, 'Kept between the open gripper and everything seen.', unit='m', ge=0.0, le=0.05,
        dynamic=True)
    min_height_m: float = param(
        0.012, 'Lower things on the support are not grasped.', unit='m', ge=0.002, le=0.2,
        dynamic=True)
    max_height_m: float = param(
        0.4, 'Readings higher over the support belong to no object.', unit='m', ge=0.02, le=2.0,
        dynamic=True)
    cell_m: float = param(
        0.0025, 'Side of a cell of the height map.', unit='m', ge=0.001, le=0.02)
    directions: int = param(18, 'Closing directions tried in half a turn.', ge=4, le=90)
    tilt_deg: float = param(
        0.0, 'Where nothing can be grasped from above, approaches that lean by so much to eight '
        'sides are tried; 0 for none.',
        unit='degrees', ge=0.0, le=45.0)
    max_grasps: int = param(20, 'Grasps in the result.', ge=1, le=1000, dynamic=True)


@dataclass(frozen=True, eq=False)
class GraspContext:
    """What is known beside the depth image."""

    up: npt.NDArray[np.float64] | None = None  # (3,) against gravity, in the camera's frame
    camera_height_m: float | None = None  # over the support; depth is scaled to agree
    window_xyxy: tuple[int, int, int, int] | None = None  # pixels that objects must be in
    detections: Detections | None = None  # of this image, that name what is grasped

    @classmethod
    def of_pose(
        cls, level_from_camera: npt.NDArray[np.float64], support_height_m: float | None = None
    ) -> 'GraspContext':
        """
        Return what the pose of the camera tells.

        :param level_from_camera: (4, 4) transform into a frame whose z axis points up.
        :param support_height_m: Of the support plane in that frame, if known.
        """
        height_m = None if support_height_m is None else (
            float(level_from_camera[2, 3]) - support_height_m)
        return cls(up=up_in_camera(level_from_camera), camera_height_m=height_m)


@dataclass(frozen=True, eq=False)
class GraspPlan:
    """What one direction of approach offers: the map, and every candidate looked at."""

    heights: HeightMap
    labels: npt.NDArray[np.int32]  # (R, C) objects from 1, 0 for none
    rows: npt.NDArray[np.float32]  # (N, COLUMNS), the columns of grasp_kernels
    scores: npt.NDArray[np.float32]  # (N,) in [0, 1], of usable ones
    depth_m: npt.NDArray[np.float32]  # (H, W) the map was made of, 0 where there is no reading

    @property
    def usable(self) -> npt.NDArray[np.int64]:
        """Return the (M,) candidates that nothing speaks against."""
        return np.flatnonzero(self.rows[:, kernels.REASON] == kernels.USABLE)

    def rejections(self) -> dict[str, int]:
        """Return how many candidates each reason ruled out."""
        codes = Counter(self.rows[:, kernels.REASON].astype(int).tolist())
        return {REASONS[code]: n for code, n in codes.most_common() if code != kernels.USABLE}

    def centres_m(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return (N, 3) places between the fingertips, in the map's frame."""
        places = rows[:, [kernels.X, kernels.Y, kernels.TIP]].astype(np.float64)
        places[:, :2] = places[:, :2] * self.heights.cell_m + self.heights.origin_m
        return places

    def openings_m(self, keep: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
        """Return how far the hand opens for some candidates."""
        return self.rows[keep, kernels.OPENING]

    def poses(self, keep: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Return (N, 4, 4) camera_from_grasp of some candidates."""
        rows = self.rows[keep]
        angles = rows[:, kernels.ANGLE].astype(np.float64)
        c, s = np.cos(angles), np.sin(angles)
        map_from_grasp = np.zeros((len(rows), 4, 4))
        map_from_grasp[:, 0, 0], map_from_grasp[:, 1, 0] = -s, c
        map_from_grasp[:, 0, 1], map_from_grasp[:, 1, 1] = c, s
        map_from_grasp[:, 2, 2], map_from_grasp[:, 3, 3] = -1.0, 1.0
        map_from_grasp[:, :3, 3] = self.centres_m(rows)
        return np.asarray(self.heights.camera_from_map @ map_from_grasp)


class GraspPlanner:
    """
    Finds grasps by geometry, and orders them by a score that may be learned.

    :param scorer: Judges usable candidates; None keeps the score of the geometry.
    :param finder: Finds and judges candidates in the place of both.
    :param fallback: The same, where nothing was found.
    """

    def __init__(self, params: GraspParams, scorer: GraspScorer | None = None,
                 finder: GraspFinder | None = None,
                 fallback: GraspFinder | None = None) -> None:
        self.params = params
        self.scorer = scorer
        self.finder = finder
        self.fallback = fallback

    def propose(
        self, frame: RgbdFrame, context: GraspContext = GraspContext(),  # noqa: B008
        *, with_rejected: bool = False, with_objects: bool = False,
    ) -> GraspCandidates:
        """
        Find grasps in one frame, best first and no two alike, or say why there are none.

        :param with_rejected: Whether the candidates that were ruled out are wanted too.
        :param with_objects: Whether what stands on the support is wanted too.
        :raises ValueError: If the frame lacks depth or intrinsics, or their sizes differ.
        """
        try:
            plans = self.plans(frame, context)
        except NoSupportError as error:
            return GraspCandidates.none(str(error))
        found = self._best(plans, frame, context)
        if with_objects:
            found = self._with_objects(found, plans[0], frame, context)
        return replace(found, rejected_m=_rejected(plans)) if with_rejected else found

    def plans(
        self, frame: RgbdFrame, context: GraspContext = GraspContext()  # noqa: B008
    ) -> list[GraspPlan]:
        """
        Look for grasps, from above and, where nothing is found there, by other ways there are.

        :return: One plan for each direction that was tried, and one of the fallback.
        :raises NoSupportError: If there is nothing to plan on, saying why.
        :raises ValueError: If the frame lacks depth or intrinsics, or their sizes differ.
        """
        if frame.depth_m is None or frame.intrinsics is None:
            raise ValueError('grasps need a depth image and camera_info')
        support = find_support(
            frame.depth_m, frame.intrinsics, context.up, context.camera_height_m)
        clean = read_only(smoothed(frame.depth_m, support))
        plans = [self._plan(clean, frame.intrinsics, support, approach_frame(support), context)]
        if self.params.tilt_deg > 0.0 and len(plans[0].usable) == 0:
            plans += [
                self._plan(clean, frame.intrinsics, support, camera_from_map, context)
                for camera_from_map in self._leaning_approaches(support)]
        if self.fallback is not None and not any(len(plan.usable) for plan in plans):
            top = plans[0]
            plans.append(GraspPlan(top.heights, top.labels, *self.fallback.find(
                top.heights, top.labels, self.params), top.depth_m))
        return plans

    def _best(
        self, plans: list[GraspPlan], frame: RgbdFrame, context: GraspContext
    ) -> GraspCandidates:
        rows = np.concatenate([plan.rows[plan.usable] for plan in plans])
        if len(rows) == 0:
            return GraspCandidates.none(_why_none(plans))
        scores = np.concatenate([plan.scores[plan.usable] for plan in plans])
        poses = np.concatenate([plan.poses(plan.usable) for plan in plans])
        _, owners = np.unique(rows[:, kernels.OBJECT], return_inverse=True)
        most = self.params.max_grasps
        order = kernels.unlike(
            np.ascontiguousarray(poses[:, :3, 3]), np.ascontiguousarray(poses[:, :3, 1]), owners,
            np.argsort(-scores, kind='stable'), most,
            max(_LEAST_PER_OBJECT, math.ceil(most / (owners.max() + 1))), _SAME_PLACE_M,
            _SAME_TURN_COS)
        return GraspCandidates(
            poses[order], rows[order, kernels.OPENING], scores[order],
            _classes(poses[order], frame, context.detections))

    def _with_objects(
        self, found: GraspCandidates, plan: GraspPlan, frame: RgbdFrame, context: GraspContext
    ) -> GraspCandidates:
        if frame.intrinsics is None:
            return found
        objects = objects_on_plane(
            plan.depth_m, frame.intrinsics, plan.heights, plan.labels, self.params.min_height_m,
            context.detections)
        boxes = boxes_of_objects(objects, frame, plan.depth_m, plan.heights)
        return replace(found, objects=objects, objects_3d=boxes)

    def _leaning_approaches(self, support: Support) -> list[npt.NDArray[np.float64]]:
        return [
            approach_frame(support, math.radians(self.params.tilt_deg), azimuth)
            for azimuth in np.arange(_TILT_AZIMUTHS) * (2.0 * math.pi / _TILT_AZIMUTHS)]

    def _plan(
        self, depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics, support: Support,
        camera_from_map: npt.NDArray[np.float64], context: GraspContext,
    ) -> GraspPlan:
        p = self.params
        heights = make_height_map(
            depth_m, intrinsics, support, camera_from_map,
            self._bounds(depth_m, intrinsics, support, camera_from_map, context), p.cell_m)
        labels = self._objects(heights)
        if context.window_xyxy is not None:
            _keep_window(labels, heights, intrinsics, context.window_xyxy)
        if self.finder is not None:
            return GraspPlan(heights, labels, *self.finder.find(heights, labels, p), depth_m)
        hand = kernels.Hand(
            p.max_opening_m, p.finger_width_m, p.finger_thickness_m, p.finger_depth_m,
            p.palm_length_m, p.palm_width_m, p.friction, p.clearance_m,
            min_grip=min(_LEAST_GRIP_M, 0.7 * p.min_height_m), lowest_tip=_LOWEST_TIP_M)
        table = np.empty((_MOST_CANDIDATES, kernels.COLUMNS), np.float32)
        n = kernels.candidates(
            heights.top_m, heights.upper_m, heights.known, heights.support_m, labels, p.cell_m,
            hand, p.directions, max(_LEVEL_STEP_M, p.finger_depth_m / _LEVELS),
            max(1, round(0.5 * p.finger_width_m / p.cell_m)), table)
        plan = GraspPlan(heights, labels, table[:n], np.zeros(n, np.float32), depth_m)
        usable = plan.usable
        plan.scores[usable] = (geometric_scores(plan, usable) if self.scorer is None
                               else self.scorer.score(plan, usable))
        return plan

    def _objects(self, heights: HeightMap) -> npt.NDArray[np.int32]:
        """Find the connected surfaces that stand on the support."""
        over = heights.top_m - heights.support_m
        labels = np.zeros(over.shape, np.int32)
        count = kernels.connected(over, self.params.min_height_m, _OBJECT_STEP_M, labels)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        labels[(sizes < _LEAST_CELLS)[labels]] = 0
        return labels

    def _bounds(
        self, depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics, support: Support,
        camera_from_map: npt.NDArray[np.float64], context: GraspContext,
    ) -> tuple[float, float, float, float]:
        """Return the part of the map's plane that objects are on: smallest x, y, largest x, y."""
        x0, y0, x1, y1 = _clipped(context.window_xyxy, intrinsics)
        turn = np.ascontiguousarray(camera_from_map[:3, :3].T)
        sums = np.zeros((2, 2 * _CM), np.int64)
        object_bounds(
            depth_m, pixel_rays(intrinsics), turn, -turn @ camera_from_map[:3, 3],
            support.plane.normal, support.plane.offset_m, self.params.min_height_m,
            self.params.max_height_m, x0, y0, x1, y1, sums)
        lows, highs = [], []
        for line in sums:
            taken = np.flatnonzero(line > 2)
            if len(taken) == 0:
                where = 'the region' if context.window_xyxy else 'the support plane'
                raise NoSupportError(f'there is nothing on {where}')
            low, high = (taken[0] - _CM) * 0.01, (taken[-1] + 1 - _CM) * 0.01
            if high - low > _WIDEST_MAP_M:
                share = np.cumsum(line) / line.sum()
                middle = (int(np.searchsorted(share, 0.5)) - _CM) * 0.01
                low, high = (max(low, middle - _WIDEST_MAP_M / 2),
                             min(high, middle + _WIDEST_MAP_M / 2))
            lows.append(low - _MARGIN_M)
            highs.append(high + _MARGIN_M)
        return lows[0], lows[1], highs[0], highs[1]


def geometric_scores(
    plan: GraspPlan, which: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """
    Return (N,) scores in [0, 1] of some candidates by how well they should hold.

    Good are opposed upright sides that were seen, much to hold, room for the fingers, a place
    near the object's middle, and what lies on top.
    """
    k, rows = kernels, plan.rows[which]
    # rounded from a logistic regression on 4,000 simulated grasps; height is a wish, not a rule
    merit = (
        - 3.0 * rows[:, k.SKEW] - 1.5 * rows[:, k.WEDGE] - 1.5 * rows[:, k.LEAN]
        - 2.5 * rows[:, k.UNSEEN] - 8.0 * distances_from_middle_m(plan, which)
        + 20.0 * np.minimum(rows[:, k.GRIP], 0.03)
        + 120.0 * np.minimum(rows[:, k.ROOM], 0.01) + 1.5 * rows[:, k.BREADTH]
        + 60.0 * np.minimum(rows[:, k.PALM_ROOM], 0.015)
        + 2.0 * np.minimum(rows[:, k.TIP] + rows[:, k.GRIP], 0.15))
    return np.asarray(1.0 / (1.0 + np.exp(-merit)), np.float32)


def distances_from_middle_m(
    plan: GraspPlan, which: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return (N,) how far grasps are from the middle of what is seen of their objects."""
    i, j = np.nonzero(plan.labels)
    owner = plan.labels[i, j]
    cells = np.maximum(np.bincount(owner), 1)
    x, y = np.bincount(owner, j + 0.5) / cells, np.bincount(owner, i + 0.5) / cells
    rows = plan.rows[which]
    mine = rows[:, kernels.OBJECT].astype(np.int64)
    return np.asarray(plan.heights.cell_m * np.hypot(
        rows[:, kernels.X] - x[mine], rows[:, kernels.Y] - y[mine]))


def relaxed(params: GraspParams) -> GraspParams:
    """Return parameters that let doubtful candidates through, for networks to learn from."""
    return replace(
        params, friction=_RELAXED_FRICTION * params.friction,
        clearance_m=_RELAXED_CLEARANCE * params.clearance_m)


def warm_up(params: GraspParams) -> None:
    """Compile what planning needs, on a block on a table: no frame shall wait for it."""
    frame = block_on_table(params)
    height, width = frame.rgb.shape[:2]
    GraspPlanner(params).propose(
        frame, GraspContext(window_xyxy=(0, 0, width, height)), with_objects=True)


def block_on_table(params: GraspParams) -> RgbdFrame:
    """Return a view straight down on a block that the hand can hold."""
    camera = CameraIntrinsics.from_fov(320, 240, 60.0)
    table_m, high_m = 0.5, 0.05
    depth_m = np.full((camera.height, camera.width), table_m, np.float32)
    half = max(4, round(0.25 * params.max_opening_m * camera.fx / (table_m - high_m)))  # pixels
    row, column = camera.height // 2, camera.width // 2
    depth_m[row - half:row + half, column - 2 * half:column + 2 * half] = table_m - high_m
    return RgbdFrame(
        np.zeros((*depth_m.shape, 3), np.uint8), 0, 'camera', read_only(depth_m), camera)


def _why_none(plans: list[GraspPlan]) -> str:
    reasons: Counter[str] = Counter()
    for plan in plans:
        reasons.update(plan.rejections())
    if not reasons:
        return 'nothing that stands on the support plane has two free sides'
    listed = ', '.join(f'{name} {n}' for name, n in reasons.most_common(3))
    return f'all {reasons.total()} candidates were ruled out: {listed}'


def _clipped(
    window_xyxy: tuple[int, int, int, int] | None, intrinsics: CameraIntrinsics
) -> tuple[int, int, int, int]:
    """Return the part of a window that lies in the image; compiled loops check no index."""
    width, height = intrinsics.width, intrinsics.height
    left, upper, right, lower = window_xyxy or (0, 0, width, height)
    return max(left, 0), max(upper, 0), min(right, width), min(lower, height)


def _keep_window(
    labels: npt.NDArray[np.int32], heights: HeightMap, intrinsics: CameraIntrinsics,
    window_xyxy: tuple[int, int, int, int],
) -> None:
    """Leave only objects' cells that are seen inside a window of the image."""
    i, j = np.nonzero(labels)
    x0, y0 = heights.origin_m
    points = np.column_stack([
        x0 + (j + 0.5) * heights.cell_m, y0 + (i + 0.5) * heights.cell_m, heights.top_m[i, j]])
    pixels = project(transform_points(heights.camera_from_map, points), intrinsics)
    left, upper, right, lower = window_xyxy
    outside = ~((pixels[:, 0] >= left) & (pixels[:, 0] < right)
                & (pixels[:, 1] >= upper) & (pixels[:, 1] < lower))
    labels[i[outside], j[outside]] = 0


def _rejected(plans: list[GraspPlan]) -> dict[str, npt.NDArray[np.float64]]:
    """Return where candidates were ruled out, in the camera's frame, by reason."""
    rows = np.concatenate([plan.rows for plan in plans])
    places = np.concatenate([
        transform_points(plan.heights.camera_from_map, plan.centres_m(plan.rows))
        for plan in plans])
    codes = rows[:, kernels.REASON].astype(int)
    return {REASONS[code]: places[codes == code] for code in np.unique(codes).tolist()
            if code != kernels.USABLE}


def _classes(
    camera_from_grasp: npt.NDArray[np.float64], frame: RgbdFrame, detections: Detections | None
) -> npt.NDArray[np.int64]:
    """Return the class of the smallest box about each grasp, -1 where there is none."""
    classes = np.full(len(camera_from_grasp), -1, np.int64)
    if detections is None or frame.intrinsics is None or not len(detections):
        return classes
    boxes = detections.boxes_xyxy
    sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for n, pixel in enumerate(project(camera_from_grasp[:, :3, 3], frame.intrinsics)):
        about = ((boxes[:, :2] <= pixel) & (pixel <= boxes[:, 2:])).all(axis=1)
        if about.any():
            classes[n] = detections.class_ids[np.where(about, sizes, np.inf).argmin()]
    return classes
