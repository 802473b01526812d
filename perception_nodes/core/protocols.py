"""
What the core asks of a model. A backend satisfies a protocol by shape and inherits nothing.

Everything takes a sequence, so that frames of several cameras can share one batch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import (
    ClassScores,
    Detections,
    GraspCandidates,
    RgbdFrame,
    SegmentationMask,
    VelocityCommand,
)

if TYPE_CHECKING:  # modules that need the protocols themselves
    from perception_nodes.core.grasping import GraspContext, GraspParams, GraspPlan
    from perception_nodes.core.height_map import HeightMap
    from perception_nodes.core.navigation import NavigationObservation

# of what a model found in one image: the rows to keep, best first
Select = Callable[[Detections], npt.NDArray[np.int64]]


class DetectorModel(Protocol):
    """Finds boxes. Owns its resizing and normalisation: callers hand over raw pixels."""

    class_names: Mapping[int, str]
    needs_suppression: bool  # whether it may give several boxes for one object

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Detections]:
        """
        Find objects in each frame, in that frame's own pixels, before any thresholding.

        :param frames: (H, W, 3) uint8 RGB images, of any and of different sizes.
        :return: One result per frame; boxes may overlap and come in any order.
        """
        ...


class InstanceModel(DetectorModel, Protocol):
    """Finds boxes, and of those that are kept also the pixels or the key points."""

    has_masks: bool
    keypoints: int  # per object; 0: none

    def predict_instances(
        self, frames: Sequence[npt.NDArray[np.uint8]], select: Select
    ) -> list[Detections]:
        """
        Find objects in each frame, in that frame's own pixels, with masks or key points.

        :param frames: (H, W, 3) uint8 RGB images, of any and of different sizes.
        :param select: Asked once for each frame, in their order, which of its boxes to work on
            further.
        :return: One result per frame, with the rows that ``select`` named, in its order.
        """
        ...


class SegmenterModel(Protocol):
    """Names the class of every pixel. Owns its resizing and normalisation."""

    class_names: Mapping[int, str]

    def predict(
        self, frames: Sequence[npt.NDArray[np.uint8]], *, confidence: bool = False
    ) -> list[SegmentationMask]:
        """
        Segment each frame, at that frame's own size.

        :param frames: (H, W, 3) uint8 RGB images, of any and of different sizes.
        :param confidence: Whether the probability of each pixel's class is wanted too.
        :return: One mask per frame.
        """
        ...


class ClassifierModel(Protocol):
    """Says what a picture shows. Owns its resizing, cropping and normalisation."""

    class_names: Mapping[int, str]

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[ClassScores]:
        """
        Classify each frame.

        :param frames: (H, W, 3) uint8 RGB images, of any and of different sizes.
        :return: One result per frame, with every class of the model.
        """
        ...


class GraspScorer(Protocol):
    """Says how likely each candidate of a plan is to hold."""

    def score(
        self, plan: 'GraspPlan', which: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """
        Judge some candidates of a plan.

        :param which: (N,) rows of ``plan.rows``.
        :return: (N,) in [0, 1].
        """
        ...


class GraspFinder(Protocol):
    """Finds candidates on a height map by other means than geometry."""

    def find(
        self, heights: 'HeightMap', labels: npt.NDArray[np.int32], params: 'GraspParams'
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """
        Find and judge candidates.

        :param labels: (R, C) objects from 1, 0 for none.
        :param params: The gripper.
        :return: (N, COLUMNS) rows of :mod:`~perception_nodes.core.grasp_kernels`, and their (N,)
            scores in [0, 1].
        """
        ...


class GraspProposer(Protocol):
    """Finds ways to hold things with a parallel gripper."""

    def propose(self, frame: RgbdFrame, context: 'GraspContext' = ...) -> GraspCandidates:
        """
        Find grasps in one frame, best first, or say why there are none.

        :param frame: With depth and intrinsics.
        :param context: Which way is up, and what else is known; a proposer may do without.
        :raises ValueError: If it has none.
        """
        ...


class NavigationPolicy(Protocol):
    """Decides how to drive. What leaves it passes the safety layer."""

    def act(
        self, observation: 'NavigationObservation', state: Any
    ) -> tuple[VelocityCommand, Any]:
        """
        Choose the next command.

        :param state: What this method returned the last time, None at the start of an episode.
        :return: The command, and the state for the next call.
        """
        ...
