"""Grasps planned on a bag against rectangles that people drew."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import project
from perception_nodes.core.types import CameraIntrinsics, GraspCandidates
from perception_nodes.evaluation.bag_notes import nearest_stamp
from perception_nodes.evaluation.bag_page import Findings, PageSection
from perception_nodes.evaluation.bag_run import Moment
from perception_nodes.evaluation.bag_scores import Place
from perception_nodes.evaluation.grasp_rectangles import (
    GraspRectangle,
    is_correct,
    read_cornell,
)
from perception_nodes.evaluation.metrics import groups_of, scores_with_intervals
from perception_nodes.evaluation.model_page import Table

_ENDING = 'cpos.txt'
_RESAMPLES = 1000


def read_grasp_labels(folder: Path) -> dict[int, list[GraspRectangle]]:
    """
    Read rectangles as the Cornell files hold them, one file ``STAMP_NScpos.txt`` for a frame.

    :return: By the stamp of the frame, nanoseconds.
    :raises FileNotFoundError: If there is no such file.
    :raises ValueError: If a name is no stamp, or a file holds no rectangles.
    """
    files = sorted(folder.glob(f'*{_ENDING}'))
    if not files:
        raise FileNotFoundError(
            f'there is no file STAMP_NS{_ENDING} in {folder}; each holds the rectangles of the '
            'frame of that stamp')
    labels = {}
    for file in files:
        stamp = file.name.removesuffix(_ENDING)
        if not stamp.isdecimal():
            raise ValueError(
                f'{file} is not named by a stamp in nanoseconds; write it as STAMP_NS{_ENDING}')
        labels[int(stamp)] = read_cornell(file)
    return labels


def rectangle_of(
    grasps: GraspCandidates, n: int, finger_width_m: float, intrinsics: CameraIntrinsics
) -> GraspRectangle | None:
    """Return where in the image the plates of a grasp are; None where that is not in sight."""
    pose: npt.NDArray[np.float64] = grasps.camera_from_grasp[n]
    across, along = pose[:3, 0] * finger_width_m / 2.0, pose[:3, 1] * grasps.openings_m[n] / 2.0
    corners = project(np.array([
        pose[:3, 3] + a * along + b * across for a, b in ((-1, -1), (-1, 1), (1, 1), (1, -1))]),
        intrinsics)
    return GraspRectangle.from_corners(corners) if np.isfinite(corners).all() else None


class GraspPart:
    """The best grasp of each labelled frame by the rectangle metric."""

    def __init__(
        self, name: str, labels: dict[int, list[GraspRectangle]], finger_width_m: float,
        tolerance_ns: int,
    ) -> None:
        self._name, self._labels = name, labels
        self._finger_width_m, self._tolerance_ns = finger_width_m, tolerance_ns
        self._stamps_ns = sorted(labels)
        self._right: list[bool] = []
        self._blocks: list[int] = []

    def add(self, place: Place, moment: Moment) -> None:
        """Judge the best grasp of a frame, if it has labels; none is wrong."""
        stamp_ns = nearest_stamp(self._stamps_ns, place.stamp_ns, self._tolerance_ns)
        found, intrinsics = moment.answers.grasps, place.frame.intrinsics
        if stamp_ns is None or intrinsics is None:
            return
        best = None if found is None or not len(found) else rectangle_of(
            found, 0, self._finger_width_m, intrinsics)
        self._right.append(best is not None and is_correct(best, self._labels[stamp_ns]))
        self._blocks.append(place.block)

    def finish(self, seed: int) -> Findings:
        """Return the share of frames whose best grasp is right."""
        name, n = self._name, len(self._right)
        if not n:
            return Findings(sentences=[
                f'{name}: not one of {len(self._labels)} labelled frames is in the bag'])
        right = np.array(self._right, np.float64)
        scored = scores_with_intervals(
            lambda weights: {f'{name}_rectangle_accuracy': float(
                np.average(right, weights=weights))},
            groups_of(self._blocks), seed, _RESAMPLES)
        return Findings({**scored, f'{name}_labelled_frames': n}, [PageSection(
            f'{name}: rectangles', 'The best grasp of a frame is right when its rectangle lies '
            'within 30 degrees of a labelled one, and their intersection is more than a quarter '
            'of their union (Jiang et al., 2011).', tables=[Table(
                'Rectangle metric', 'With a 95 % interval.', ('measure', 'value', 'low', 'high'),
                [('right', list(scored.values()))])])])
