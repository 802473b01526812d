"""Grasp networks in ONNX files, through onnxruntime."""

from collections.abc import Callable
import math

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
from perception_nodes.backends.onnxruntime_backend import open_session
from perception_nodes.core import grasp_kernels as kernels
from perception_nodes.core.grasp_patches import CHANNELS, FEATURES, mixed, scorer_inputs, SIDE
from perception_nodes.core.grasp_search import (
    COARSE_SIDE,
    every_rectangle,
    Fingers,
    MAP_CHANNELS,
    MAP_PIXEL_M,
    map_pixels,
    OPENING_UNIT_M,
    RECTANGLE_CHANNELS,
    RECTANGLE_SIDE,
    rectangles,
    set_tips,
)
from perception_nodes.core.grasping import geometric_scores, GraspParams, GraspPlan
from perception_nodes.core.height_map import HeightMap
from perception_nodes.core.manifest import ModelEntry

_MOST_SCORED = 64  # of a frame
_LEAST_OF_ONE = 8  # of an object, however many objects there are
# candidates nearer than both to a better one are left to the geometry
_SAME_PLACE_M, _SAME_TURN_COS = 0.006, math.cos(math.radians(15.0))
_GRID_M, _TURNS = 0.01, 12  # between the cascade's rectangles, and turns in half a circle
_OPENINGS = (0.4, 0.6, 0.8, 1.0)  # shares of the largest opening that it tries
_MOST_FINE = 100  # rectangles that its large network looks at
_MOST_SUMMITS = 50
_LEAST_OPENING_M = 0.01
_NOWHERE = np.float32(-1e9)  # quality of places without an object


class OnnxGraspScorer:
    """
    A network that judges the best of the geometric candidates.

    Its logit has a quarter of the weight, that of the geometry's score the rest: the highest of
    many judgements is too often an error. In trials all of the weight was worse than none.

    :raises ValueError: If its inputs or its output are others.
    """

    def __init__(self, session: onnxruntime.InferenceSession, entry: ModelEntry) -> None:
        self._session = session
        _check_inputs(session, entry, {
            'patches': (CHANNELS, SIDE, SIDE), 'features': (FEATURES,)})
        _check_outputs(session, entry, ('logits',))

    def score(
        self, plan: GraspPlan, which: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Judge candidates of a plan; those that geometry holds to be worse rank behind."""
        if len(which) == 0:
            return np.zeros(0, np.float32)
        scores = geometric_scores(plan, which)
        best = shortlist(plan, which, scores)
        patches, features = scorer_inputs(plan, which[best])
        logits = self._session.run(None, {'patches': patches, 'features': features})[0]
        judged = _share(mixed(logits, features))
        scores *= judged.min()
        scores[best] = judged
        return scores


def shortlist(
    plan: GraspPlan, which: npt.NDArray[np.int64], scores: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """Return up to 64 places in ``which``, best first and no two alike, of every object some."""
    poses = plan.poses(which)
    _, owners = np.unique(plan.rows[which, kernels.OBJECT], return_inverse=True)
    most_of_one = max(_LEAST_OF_ONE, math.ceil(_MOST_SCORED / (int(owners.max()) + 1)))
    return np.asarray(kernels.unlike(
        np.ascontiguousarray(poses[:, :3, 3]), np.ascontiguousarray(poses[:, :3, 1]), owners,
        np.argsort(-scores, kind='stable'), _MOST_SCORED, most_of_one, _SAME_PLACE_M,
        _SAME_TURN_COS))


class OnnxGraspCascade:
    """
    A small network that looks at rectangles all over the objects, and a large one at the best.

    :raises ValueError: If the inputs or the outputs are others.
    """

    def __init__(self, session: onnxruntime.InferenceSession, entry: ModelEntry) -> None:
        self._session = session
        _check_inputs(session, entry, {
            'coarse': (RECTANGLE_CHANNELS, COARSE_SIDE, COARSE_SIDE),
            'fine': (RECTANGLE_CHANNELS, RECTANGLE_SIDE, RECTANGLE_SIDE)})
        _check_outputs(session, entry, ('small', 'large'))

    def find(
        self, heights: HeightMap, labels: npt.NDArray[np.int32], params: GraspParams
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Judge rectangles on a grid twice; see ``GraspFinder``."""
        openings_m = np.array(_OPENINGS, np.float32) * params.max_opening_m
        rows = every_rectangle(labels, heights.cell_m, _GRID_M, _TURNS, openings_m)
        small = self._run(heights, rows, 'small')
        rows = rows[np.argsort(-small, kind='stable')[:_MOST_FINE]]
        set_tips(heights, labels, rows, _fingers(params))
        return rows, _share(self._run(heights, rows, 'large'))

    def _run(
        self, heights: HeightMap, rows: npt.NDArray[np.float32], stage: str
    ) -> npt.NDArray[np.float32]:
        """Ask one network; the other gets nothing to look at."""
        none = rows[:0]
        coarse, fine = (rows, none) if stage == 'small' else (none, rows)
        return np.asarray(self._session.run([stage], {
            'coarse': rectangles(heights, coarse, COARSE_SIDE),
            'fine': rectangles(heights, fine, RECTANGLE_SIDE)})[0], np.float32)


class OnnxGraspMap:
    """
    A network that says of every place on the map how good a grasp is there, how turned, how wide.

    :raises ValueError: If the input or the output is another.
    """

    def __init__(self, session: onnxruntime.InferenceSession, entry: ModelEntry) -> None:
        self._session = session
        _check_inputs(session, entry, {'maps': (MAP_CHANNELS, 'height', 'width')})
        _check_outputs(session, entry, ('grasps',))

    def find(
        self, heights: HeightMap, labels: npt.NDArray[np.int32], params: GraspParams
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Take the summits of the quality; see ``GraspFinder``."""
        pixels = map_pixels(heights)
        height, width = pixels.shape[1:]
        padded = np.pad(pixels, ((0, 0), (0, -height % 4), (0, -width % 4)))
        quality, cosine, sine, opening = self._session.run(
            None, {'maps': padded[None]})[0][0, :, :height, :width]
        objects = cv2.resize((labels > 0).astype(np.uint8), (width, height),
                             interpolation=cv2.INTER_NEAREST)
        lines, columns = summits(np.where(objects, quality, _NOWHERE), _MOST_SUMMITS)
        scale = MAP_PIXEL_M / heights.cell_m
        rows = np.zeros((len(lines), kernels.COLUMNS), np.float32)
        rows[:, kernels.X], rows[:, kernels.Y] = (columns + 0.5) * scale, (lines + 0.5) * scale
        rows[:, kernels.ANGLE] = 0.5 * np.arctan2(sine[lines, columns], cosine[lines, columns])
        rows[:, kernels.OPENING] = rows[:, kernels.WIDTH] = np.clip(
            opening[lines, columns] * OPENING_UNIT_M, _LEAST_OPENING_M, params.max_opening_m)
        set_tips(heights, labels, rows, _fingers(params))
        return rows, _share(quality[lines, columns])


def summits(
    quality: npt.NDArray[np.float32], most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows and columns of the highest pixels that no neighbour within two is above."""
    highest = cv2.dilate(quality, np.ones((5, 5), np.uint8))
    lines, columns = np.nonzero((quality >= highest) & (quality > _NOWHERE))
    best = np.argsort(-quality[lines, columns], kind='stable')[:most]
    return lines[best], columns[best]


GraspModel = OnnxGraspScorer | OnnxGraspCascade | OnnxGraspMap

_KINDS: dict[str, Callable[[onnxruntime.InferenceSession, ModelEntry], GraspModel]] = {
    'GraspScorerNetwork': OnnxGraspScorer, 'GraspCascadeNetwork': OnnxGraspCascade,
    'GraspMapNetwork': OnnxGraspMap}


def load_grasping(entry: ModelEntry, device: str, half_precision: bool) -> GraspModel:
    """
    Load a grasping model; see :func:`perception_nodes.backends.registry.load_model`.

    :return: A ``GraspScorer`` or a ``GraspFinder``, as the entry's architecture says.
    """
    if entry.architecture not in _KINDS:
        raise ValueError(
            f"model '{entry.name}' names architecture '{entry.architecture}'; choose one of "
            f'{", ".join(_KINDS)}')
    return _KINDS[entry.architecture](open_session(entry, device, half_precision), entry)


def _check_inputs(
    session: onnxruntime.InferenceSession, entry: ModelEntry,
    wanted: dict[str, tuple[int | str, ...]],
) -> None:
    found = {i.name: tuple(i.shape[1:]) for i in session.get_inputs()}
    if found != wanted:
        raise ValueError(
            f"model '{entry.name}' takes {found}, but this version hands over {wanted}; train it "
            'again with: perception train grasp')


def _check_outputs(
    session: onnxruntime.InferenceSession, entry: ModelEntry, wanted: tuple[str, ...]
) -> None:
    found = tuple(output.name for output in session.get_outputs())
    if found != wanted:
        raise ValueError(
            f"model '{entry.name}' answers {', '.join(found)}; {', '.join(wanted)} is needed: "
            'train it again with: perception train grasp')


def _fingers(params: GraspParams) -> Fingers:
    return Fingers(params.finger_width_m, params.finger_thickness_m, params.clearance_m)


def _share(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(1.0 / (1.0 + np.exp(-logits)), np.float32)
