"""The subjects of an evaluation: each watches the moments of a bag, then says what it found."""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Protocol

import numpy as np
import numpy.typing as npt
from perception_nodes.core.classification import NOTHING
from perception_nodes.core.overlay import (
    blend_mask,
    colour_of,
    colourise_depth,
    draw_detections,
    draw_mask,
    draw_occupancy,
)
from perception_nodes.core.transforms import TransformBuffer, TransformError
from perception_nodes.core.types import ClassScores, Detections, Detections3D, Ids
from perception_nodes.evaluation.bag_page import Findings, PageSection
from perception_nodes.evaluation.bag_run import Moment
from perception_nodes.evaluation.bag_scores import BoxScores, MaskScores, PictureScores, Place
from perception_nodes.evaluation.bag_truth import BoxFile
from perception_nodes.evaluation.consistency import (
    BoxConsistency,
    MaskConsistency,
    projected_boxes,
    reprojection_iou,
)
from perception_nodes.evaluation.grasp_overlay import draw_grasps
from perception_nodes.evaluation.metrics import groups_of, scores_with_intervals
from perception_nodes.evaluation.model_page import Table
from perception_nodes.evaluation.report import Legend, Panel
from perception_nodes.evaluation.report import Moment as PanelRow
from perception_nodes.evaluation.results import percentiles
from perception_nodes.evaluation.tracking_metrics import match_tracks

BoxesOf = Callable[[Place, Moment], Detections | None]
MaskOf = Callable[[Place, Moment], Ids | None]

_FAR_M = 6.0  # far end of the depth scale
_AGREEING_IOU = 0.3  # of a 2D box with the projection of its box in space
_WORST = 3
_SHOWN = 4  # moments of the bag that are shown as they are


class Part(Protocol):
    """One subject."""

    def add(self, place: Place, moment: Moment) -> None:
        """Take one frame, and what was known when it counted."""
        ...

    def finish(self, seed: int) -> Findings:
        """
        Return what was found.

        :param seed: Of the intervals.
        """
        ...


class BoxPart:
    """
    Boxes of one node against true ones, and where both follow objects, their tracks.

    :param boxes_of: What the node says at a frame; None leaves the frame out.
    """

    def __init__(self, name: str, scores: BoxScores, boxes_of: BoxesOf) -> None:
        self._name, self._scores, self._boxes_of = name, scores, boxes_of

    def add(self, place: Place, moment: Moment) -> None:
        """Compare the boxes of a frame with the true ones."""
        found = self._boxes_of(place, moment)
        if found is not None:
            self._scores.add(place, found)

    def finish(self, seed: int) -> Findings:
        """Return average precision, and HOTA and IDF1 where tracks are known."""
        findings = _scored(
            self._name, 'boxes', self._scores, ('AP50', 'AP', 'AP75'), seed)
        tracked = self._tracked(seed) if self._scores.images else None
        if tracked is not None:
            findings.values |= {
                f'{self._name}_{key}': value for key, value in tracked.values.items()}
            findings.sections += tracked.sections
        return findings

    def _tracked(self, seed: int) -> Findings | None:
        scores = self._scores
        if not any(answer.object_ids is not None and len(answer) for answer in scores.answers) \
                or any(true.object_ids is None for true in scores.truths):
            return None
        matches = match_tracks(
            [(true.labels, true.object_ids) for true in scores.truths], scores.answers)
        result = scores_with_intervals(
            matches.scores, groups_of([image.scene for image in scores.images]), seed)
        rows = [(key, [result[key], result[f'{key}_ci_low'], result[f'{key}_ci_high']])
                for key in result if '_ci_' not in key]
        return Findings(dict(result), [PageSection(
            f'{self._name}: tracks',
            'HOTA weighs finding boxes (DetA) and keeping their numbers (AssA) alike; IDF1 asks '
            'how much of each object one number covers; MOTA counts misses, false alarms and '
            'switches of numbers. Ignored boxes count neither way. Intervals are 95 %, with the '
            'objects matched as over the whole recording.',
            tables=[Table('Tracks', '', ('measure', 'value', 'from', 'to'), rows)])])


class MaskPart:
    """Masks of one node against true ones."""

    def __init__(self, name: str, scores: MaskScores, mask_of: MaskOf) -> None:
        self._name, self._scores, self._mask_of = name, scores, mask_of

    def add(self, place: Place, moment: Moment) -> None:
        """Compare the mask of a frame with the true one."""
        ids = self._mask_of(place, moment)
        if ids is not None:
            self._scores.add(place, ids)

    def finish(self, seed: int) -> Findings:
        """Return mIoU and what belongs to it."""
        return _scored(
            self._name, 'masks', self._scores, ('mIoU', 'pixel_accuracy', 'boundary_f'), seed)


class PicturePart:
    """What a classifier says of whole pictures against what they show."""

    def __init__(self, name: str, scores: PictureScores) -> None:
        self._name, self._scores = name, scores

    def add(self, place: Place, moment: Moment) -> None:
        """Compare the answer to a frame with the truth; none is a wrong one."""
        answer = moment.answers.classification
        self._scores.add(place, NOTHING if answer is None else answer)

    def finish(self, seed: int) -> Findings:
        """Return accuracy and ROC curves."""
        return _scored(
            self._name, 'whole pictures', self._scores, ('accuracy', 'top5_accuracy'), seed)


class BoxConsistencyPart:
    """Boxes against themselves: from frame to frame, and in the image against in space."""

    def __init__(
        self, name: str, class_names: Mapping[int, str], boxes_of: BoxesOf,
        transforms: TransformBuffer,
    ) -> None:
        self._name, self._boxes_of, self._transforms = name, boxes_of, transforms
        self._class_names = class_names
        self._boxes = BoxConsistency()
        self._overlaps: list[float] = []
        self._in_space, self._in_image, self._frames = 0, 0, 0
        self._worst: list[tuple[int, int, PanelRow]] = []  # boxes that disagree, frame, pictures

    def add(self, place: Place, moment: Moment) -> None:
        """Compare the boxes of a frame with those of the frames before."""
        found = self._boxes_of(place, moment)
        if found is None:
            return
        self._frames += 1
        self._in_image += len(found)
        self._boxes.add(place.stamp_ns, found)
        located, frame = moment.answers.located, place.frame
        if located is None or frame.intrinsics is None or found is not moment.answers.detections:
            return
        boxes = located.boxes
        try:
            if located.frame_id != frame.frame_id:
                boxes = boxes.transformed(self._transforms.lookup(
                    frame.frame_id, located.frame_id, frame.stamp_ns))
        except TransformError:
            return
        projected = projected_boxes(boxes, frame.intrinsics)
        overlaps = reprojection_iou(found, boxes, projected)
        self._in_space += len(boxes)
        self._overlaps += overlaps.tolist()
        disagree = int(np.count_nonzero(overlaps < _AGREEING_IOU))
        if disagree and (len(self._worst) < _WORST or disagree > self._worst[-1][0]):
            row = self._drawn(place, found, boxes, projected, disagree)
            self._worst = sorted([*self._worst, (disagree, self._frames, row)],
                                 key=lambda one: (-one[0], one[1]))[:_WORST]

    def _drawn(
        self, place: Place, found: Detections, boxes: Detections3D,
        projected: npt.NDArray[np.float32], disagree: int,
    ) -> PanelRow:
        """Return a frame with its boxes in the image, and with those in space as they project."""
        rgb, seen = place.frame.rgb, np.isfinite(projected).all(axis=1)
        in_space = Detections(projected[seen], boxes.scores[seen], boxes.class_ids[seen])
        return PanelRow(f'{place.title}: {disagree} of {len(boxes)} disagree', [
            Panel('in the image', f'{len(found)} boxes',
                  draw_detections(rgb, found, self._class_names)),
            Panel('in space, projected', f'{len(in_space)} boxes',
                  draw_detections(rgb, in_space, self._class_names))])

    def finish(self, seed: int) -> Findings:
        """Return flicker, tracks, and how well boxes in space lie in their 2D boxes."""
        name, values = self._name, self._boxes.values()
        values |= {'boxes_per_frame': self._in_image / self._frames if self._frames else math.nan}
        if self._overlaps:
            values |= percentiles('box_2d_3d_iou', self._overlaps, (5, 50))
            values['boxes_with_3d'] = self._in_space / max(1, self._in_image)
        how = 'the numbers that the node gives' if self._boxes.is_tracked else (
            'boxes that overlap from frame to frame, as the node gives no numbers')
        rows = [(_SPOKEN[key], [value]) for key, value in values.items() if key in _SPOKEN]
        return Findings({f'{name}_{key}': value for key, value in values.items()}, [PageSection(
            f'{name}: does it agree with itself?',
            f'Without ground truth. Tracks are {how}. Frames more than half a second apart are '
            'not compared.', tables=[Table('Boxes', '', ('measure', 'value'), rows)],
            moments=[row for _, _, row in self._worst],
            moments_note='Frames with the most boxes whose IoU with the projection of their box '
            f'in space is less than {_AGREEING_IOU:g}.')])


_SPOKEN = {
    'boxes_per_frame': 'boxes per frame',
    'box_flicker': 'flicker: share of steady objects missing in the frame between',
    'tracks': 'tracks', 'track_fragments': 'tracks that go on where one has ended',
    'track_length_s_p50': 'length of tracks, median, s',
    'track_length_s_p90': 'length of tracks, p90, s',
    'boxes_with_3d': 'share of boxes that have one in space',
    'box_2d_3d_iou_p50': 'IoU of 2D boxes with projected 3D boxes, median',
    'box_2d_3d_iou_p5': 'IoU of 2D boxes with projected 3D boxes, worst 5 %',
    'mask_flicker': 'flicker: share of pixels unlike the frames before and after, which agree',
    'mask_edges_on_depth_edges': 'share of class edges within 3 px of a jump of depth',
    'depth_edges_on_mask_edges': 'share of jumps of depth within 3 px of a class edge'}


class MaskConsistencyPart:
    """Masks against themselves and against depth."""

    def __init__(self, name: str, mask_of: MaskOf) -> None:
        self._name, self._mask_of = name, mask_of
        self._masks = MaskConsistency()

    def add(self, place: Place, moment: Moment) -> None:
        """Compare the mask of a frame with those before and with depth."""
        ids = self._mask_of(place, moment)
        if ids is not None:
            self._masks.add(place.stamp_ns, ids, place.frame.depth_m)

    def finish(self, seed: int) -> Findings:
        """Return flicker, and how well class edges lie on depth edges."""
        values = self._masks.values()
        rows = [(_SPOKEN[key], [value]) for key, value in values.items()]
        return Findings(
            {f'{self._name}_{key}': value for key, value in values.items()}, [PageSection(
                f'{self._name}: does it agree with itself?',
                'Without ground truth. Classes also meet where depth does not jump, so the '
                'shares of edges are for comparing models on one bag.',
                tables=[Table('Masks', '', ('measure', 'value'), rows)])])


class ShotsPart:
    """
    A few moments of the bag as they are, with everything the nodes found.

    :param frames: How many frames there will be.
    :param class_names: Of the nodes, by their kind.
    """

    def __init__(self, frames: int, class_names: Mapping[str, Mapping[int, str]]) -> None:
        self._class_names = class_names
        self._wanted = set(np.linspace(0, max(0, frames - 1), _SHOWN + 2).astype(int).tolist())
        self._seen = 0
        self._rows: list[PanelRow] = []

    def add(self, place: Place, moment: Moment) -> None:
        """Draw the frame, if its turn has come."""
        if self._seen in self._wanted:
            self._rows.append(PanelRow(place.title, self._panels(place, moment)))
        self._seen += 1

    def finish(self, seed: int) -> Findings:
        """Return the pictures."""
        return Findings(sections=[PageSection(
            'What was seen', moments=self._rows, moments_title='Moments spread over the bag',
            moments_note='With what was known when each frame counted.')] if self._rows else [])

    def _panels(self, place: Place, moment: Moment) -> list[Panel]:
        frame, answers = place.frame, moment.answers
        panels = []
        if answers.detections is not None:
            panels.append(Panel(
                'detection', f'{len(answers.detections)} boxes',
                draw_detections(
                    frame.rgb, answers.detections, self._class_names.get('detection', {}))))
        elif moment.seen.has_colour:
            panels.append(Panel('picture', self._shown(answers.classification), frame.rgb))
        if answers.mask is not None:
            panels.append(Panel(
                'segmentation', '', draw_mask(
                    frame.rgb, answers.mask, self._class_names['segmentation'])
                if answers.mask.shape == frame.rgb.shape[:2]
                else blend_mask(frame.rgb, answers.mask)))
        if frame.depth_m is not None:
            panels.append(Panel(
                'depth', f'yellow 0 m, violet {_FAR_M:g} m, grey unknown',
                colourise_depth(frame.depth_m, 0.0, _FAR_M)))
        if answers.occupancy is not None:
            panels.append(Panel(
                'obstacle map', 'seen from above', draw_occupancy(answers.occupancy.cells)))
        if answers.grasps is not None and frame.intrinsics is not None:
            panels.append(Panel(
                'grasps', f'{len(answers.grasps)}, the best one green',
                draw_grasps(frame.rgb, answers.grasps, frame.intrinsics)))
        return panels

    def _shown(self, answer: ClassScores | None) -> str:
        """Return the classes of a picture with their scores, best first."""
        if answer is None:
            return ''
        names = self._class_names['classification']
        return ', '.join(f'{names[class_id]} {score:.2f}' for class_id, score in zip(
            answer.class_ids.tolist(), answer.scores.tolist(), strict=True))


def _scored(
    name: str, what: str, scores: BoxScores | MaskScores | PictureScores,
    measures: Sequence[str], seed: int,
) -> Findings:
    """Return the figures and the section of what a node says against the truth."""
    sentences = _coverage(name, scores)
    if not scores.images:
        return Findings(sentences=sentences)
    evaluation = scores.evaluation(seed)
    values: dict[str, float | int | str] = {
        f'{name}_{key}': value for key, value in evaluation.values.items()}
    values[f'{name}_labelled_frames'] = len(scores.images)
    legends = [Legend(label, colour_of(i)) for i, label in scores.class_names.items()]
    return Findings(values, [PageSection.of_evaluation(
        f'{name}: {what}', _headline(values, name, measures, len(scores.images)), evaluation,
        legends)], sentences)


def _headline(
    values: Mapping[str, float | int | str], name: str, measures: Sequence[str], frames: int
) -> str:
    shown = []
    for measure in measures:
        value, low, high = (values.get(f'{name}_{measure}{end}', math.nan)
                            for end in ('', '_ci_low', '_ci_high'))
        shown.append(f'{measure.replace("_", " ")} {value:.3f} (95 % interval {low:.3f} to '
                     f'{high:.3f})')
    return f'{", ".join(shown)}, over {frames} labelled frames.'


def _coverage(name: str, scores: BoxScores | MaskScores | PictureScores) -> list[str]:
    """Return what a reader must know about frames and labels that did not meet."""
    sentences = []
    if scores.unlabelled:
        sentences.append(f'{name}: {scores.unlabelled} frame(s) have no labels and are not scored')
    if isinstance(scores, MaskScores) and scores.of_other_size:
        sentences.append(f'{name}: {scores.of_other_size} mask(s) are of another size than the '
                         'true ones and are not scored')
    if isinstance(scores.truth, BoxFile) and scores.truth.unmatched():
        sentences.append(
            f'{name}: {scores.truth.unmatched()} of {len(scores.truth.boxes)} labelled pictures '
            f'in {scores.truth.file} have no frame within '
            f'{scores.truth.tolerance_ns * 1e-6:g} ms')
    return sentences
