"""Results in space against the truth of a bag: where objects are, and where obstacles are."""

import math

import numpy as np
import numpy.typing as npt
from perception_nodes.core.boxes import iou_matrix
from perception_nodes.core.geometry import transform_points
from perception_nodes.core.transforms import TransformBuffer, TransformError
from perception_nodes.core.types import Detections, OccupancyMap
from perception_nodes.evaluation.bag_notes import Truth
from perception_nodes.evaluation.bag_page import Findings, PageSection
from perception_nodes.evaluation.bag_run import Moment
from perception_nodes.evaluation.bag_scores import Place
from perception_nodes.evaluation.bag_truth import BoxTruth, TrueBoxes
from perception_nodes.evaluation.map_scores import f1, Ghosts, MapScore, MapView, score_map
from perception_nodes.evaluation.metrics import groups_of, scores_with_intervals
from perception_nodes.evaluation.model_page import Table
from perception_nodes.evaluation.results import percentiles

_SAME_IOU = 0.5  # of the 2D boxes that make a pair
_RANGES_M = (0.0, 1.0, 2.0, 4.0, 8.0)
_WALKS = 'person'  # class of what moves by itself
_EVERY_NS = 500_000_000  # a map changes little in less
_RESAMPLES = 400


class PositionPart:
    """
    Middles of boxes in space against true ones.

    A pair is a detection and a true object of its class whose 2D boxes overlap by half.
    """

    def __init__(
        self, name: str, truth: Truth, boxes: BoxTruth, transforms: TransformBuffer
    ) -> None:
        self._name, self._truth, self._boxes = name, truth, boxes
        self._transforms = transforms
        self._ranges_m: list[float] = []
        self._errors_m: list[float] = []
        self._size_errors: list[float] = []  # of the volume's cube root, relative

    def add(self, place: Place, moment: Moment) -> None:
        """Compare the boxes of a frame with the true ones."""
        located, found = moment.answers.located, moment.answers.detections
        true = self._boxes.at(place.frame)
        solid, frame_id = self._truth.boxes_3d.get(place.stamp_ns, (None, ''))
        if (located is None or found is None or true is None or true.object_ids is None
                or solid is None or solid.object_ids is None):
            return
        camera = place.frame.frame_id
        try:
            camera_from_truth = self._transforms.lookup(camera, frame_id, place.stamp_ns)
            camera_from_found = np.eye(4) if located.frame_id == camera else \
                self._transforms.lookup(camera, located.frame_id, place.stamp_ns)
        except TransformError:
            return
        rows = {number: i for i, number in enumerate(solid.object_ids.tolist())}
        centres = transform_points(camera_from_found, located.boxes.centers_m)
        true_centres = transform_points(camera_from_truth, solid.centers_m)
        for i, j in _pairs(located.boxes.sources, found, true):
            row = rows.get(int(true.object_ids[j]))
            if row is None:
                continue
            self._ranges_m.append(float(np.linalg.norm(true_centres[row])))
            self._errors_m.append(float(np.linalg.norm(centres[i] - true_centres[row])))
            volume, true_volume = (
                max(float(np.prod(sizes)), 1e-12)
                for sizes in (located.boxes.sizes_m[i], solid.sizes_m[row]))
            self._size_errors.append((volume / true_volume) ** (1.0 / 3.0) - 1.0)

    def finish(self, seed: int) -> Findings:
        """Return errors by range."""
        name, ranges = self._name, np.array(self._ranges_m)
        errors, sizes = np.array(self._errors_m), np.array(self._size_errors)
        if not len(errors):
            return Findings()
        values: dict[str, float | int | str] = {
            f'{name}_position_pairs': len(errors),
            **percentiles(f'{name}_position_error_m', errors.tolist(), (50, 90))}
        rows = [('all', [len(errors), *np.percentile(errors, [50, 90]).tolist(),
                         float(np.median(sizes))])]
        for near, far in zip(_RANGES_M[:-1], _RANGES_M[1:], strict=True):
            inside = (ranges >= near) & (ranges < far)
            if inside.any():
                key = f'{name}_position_error_{near:g}_{far:g}m_m'
                values |= percentiles(key, errors[inside].tolist(), (50, 90))
                rows.append((f'{near:g} to {far:g} m', [
                    int(inside.sum()), *np.percentile(errors[inside], [50, 90]).tolist(),
                    float(np.median(sizes[inside]))]))
        return Findings(values, [PageSection(
            f'{name}: positions', 'Distance between the middles of boxes in space and true ones, '
            f'for pairs whose 2D boxes overlap by {_SAME_IOU:g}; size is the cube root of the '
            'volume, 0 where it is right.', tables=[Table(
                'By distance', '', ('distance', 'pairs', 'error p50, m', 'p90, m', 'size p50'),
                rows)])])


def _pairs(
    sources: npt.NDArray[np.int64], found: Detections, true: TrueBoxes
) -> list[tuple[int, int]]:
    """Return rows of boxes in space and of true boxes that belong together, best overlap first."""
    overlap = iou_matrix(found.boxes_xyxy[sources], true.labels.boxes_xyxy)
    overlap[found.class_ids[sources][:, None] != true.labels.class_ids[None, :]] = 0.0
    pairs = []
    while overlap.size and overlap.max() >= _SAME_IOU:
        i, j = np.unravel_index(int(np.argmax(overlap)), overlap.shape)
        pairs.append((int(i), int(j)))
        overlap[i], overlap[:, j] = 0.0, 0.0
    return pairs


class MapPart:
    """The obstacle map against the true one."""

    def __init__(
        self, name: str, truth: Truth, occupancy: OccupancyMap, transforms: TransformBuffer
    ) -> None:
        self._name, self._truth, self._occupancy = name, truth, occupancy
        self._transforms = transforms
        self._scores: list[MapScore] = []
        self._blocks: list[int] = []
        self._ghosts = Ghosts()
        self._last_ns: int | None = None
        self.sentences: list[str] = []

    def add(self, place: Place, moment: Moment) -> None:
        """Compare the map of a frame with the true one, twice a second."""
        found, frame = moment.answers.occupancy, place.frame
        if found is None or frame.intrinsics is None or (
                self._last_ns is not None and place.stamp_ns < self._last_ns + _EVERY_NS):
            return
        truth_frame = self._occupancy.frame_id
        try:
            truth_from_found = np.eye(4) if found.frame_id == truth_frame else \
                self._transforms.lookup(truth_frame, found.frame_id, place.stamp_ns)
            truth_from_camera = self._transforms.lookup(
                truth_frame, frame.frame_id, place.stamp_ns)
        except TransformError as error:
            if not self.sentences:
                self.sentences.append(f'{self._name}: a map is not scored: {error}')
            return
        lens = frame.intrinsics
        view = MapView.of_camera(truth_from_camera, math.atan(0.5 * lens.width / lens.fx))
        score = score_map(found, self._occupancy, truth_from_found, view,
                          self._people(place.stamp_ns))
        self._scores.append(score)
        self._blocks.append(place.block)
        self._ghosts.add(place.stamp_ns, score.ghosts)
        self._last_ns = place.stamp_ns

    def finish(self, seed: int) -> Findings:
        """Return precision, recall and F1, and how long ghosts stay."""
        if not self._scores:
            return Findings(sentences=self.sentences)
        counts = np.array([(s.right, s.false, s.found, s.rays) for s in self._scores], np.float64)

        def score(weights: npt.NDArray[np.int64]) -> dict[str, float]:
            precision, recall, both = f1(*(weights @ counts).tolist())
            return {'precision': precision, 'recall': recall, 'f1': both}

        scored = scores_with_intervals(score, groups_of(self._blocks), seed, _RESAMPLES)
        ghosts_s = self._ghosts.finish()
        longest_s = max(ghosts_s, default=0.0)
        p95_s = float(np.percentile(ghosts_s, 95)) if ghosts_s else 0.0
        values: dict[str, float | int | str] = {
            f'{self._name}_{key}': value for key, value in scored.items()}
        values |= {
            f'{self._name}_ghost_cells': len(ghosts_s),
            f'{self._name}_ghost_s_max': longest_s, f'{self._name}_ghost_s_p95': p95_s,
            f'{self._name}_maps_scored': len(self._scores)}
        rows = [(key, [scored[key], scored[f'{key}_ci_low'], scored[f'{key}_ci_high']])
                for key in ('precision', 'recall', 'f1')]
        ghost_rows: list[tuple[str, list[float]]] = [
            ('cells that were ghosts', [len(ghosts_s)]), ('longest, s', [longest_s]),
            ('95th percentile, s', [p95_s])]
        return Findings(values, [PageSection(
            f'{self._name}: the map', 'Against the true map, a cell more or less, within 3 m of '
            'the camera; recall is of places that rays in view meet first. The true map is that '
            'of things as high as the robot: max_height_m of the map should be, too.',
            tables=[
                Table('Cells', 'With 95 % intervals.', ('measure', 'value', 'low', 'high'), rows),
                Table('Ghosts', 'Cells that stay occupied while they are in view, with nothing '
                      'there.', ('measure', 'value'), ghost_rows)])], self.sentences)

    def _people(self, stamp_ns: int) -> list[npt.NDArray[np.float64]]:
        """Return the outlines of people, who walk and so are elsewhere in the true map."""
        boxes, frame_id = self._truth.boxes_3d.get(stamp_ns, (None, ''))
        if boxes is None or frame_id != self._occupancy.frame_id:
            return []
        people = [i for i, name in self._truth.class_names.items() if name == _WALKS]
        rows = np.flatnonzero(np.isin(boxes.class_ids, people))
        corners = np.array([(-0.5, -0.5, 0), (0.5, -0.5, 0), (0.5, 0.5, 0), (-0.5, 0.5, 0)])
        return [(corners * boxes.sizes_m[i]) @ boxes.rotations[i, :2].T + boxes.centers_m[i, :2]
                for i in rows]
