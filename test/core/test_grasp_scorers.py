"""A planner asks its scorer about its candidates, of which a scorer sees the surroundings."""

import numpy as np
from perception_nodes.core import grasp_kernels as kernels
from perception_nodes.core.grasp_patches import FEATURES, GEOMETRY, scorer_inputs
from perception_nodes.core.grasping import GraspParams, GraspPlanner
import pytest
from test_grasping import context_of, frame_of, table_with

pytestmark = pytest.mark.timeout(600)  # the first plan compiles for long on a busy machine

WIDE = (0.0, 0.0, 0.0, 0.15, 0.11, 0.06)
EASY = (0.0, 0.0, 0.0, 0.12, 0.04, 0.06)


class Opinion:
    """Says the same of every candidate."""

    def __init__(self, share):
        self.share, self.asked = share, 0

    def score(self, plan, which):
        self.asked += len(which)
        return np.full(len(which), self.share, np.float32)


def propose(box, scorer):
    depth_m, pose = table_with([box])
    return GraspPlanner(GraspParams(), scorer).propose(frame_of(depth_m), context_of(pose))


def test_candidates_are_ordered_by_the_scorer():
    """It is asked about every usable candidate, and what it says is the score."""
    scorer = Opinion(0.2)
    found = propose(EASY, scorer)
    assert scorer.asked >= len(found) > 0
    np.testing.assert_allclose(found.scores, 0.2)


class Middle:
    """Finds one grasp, across the y axis in the middle of each object."""

    def __init__(self):
        self.asked = 0

    def find(self, heights, labels, params):
        self.asked += 1
        rows = np.zeros((int(labels.max()), kernels.COLUMNS), np.float32)
        for number, row in enumerate(rows, start=1):
            i, j = np.nonzero(labels == number)
            row[[kernels.X, kernels.Y, kernels.TIP]] = j.mean() + 0.5, i.mean() + 0.5, 0.01
            row[[kernels.OPENING, kernels.OBJECT]] = params.max_opening_m, number
        return rows, np.full(len(rows), 0.4, np.float32)


def test_a_fallback_is_asked_only_where_nothing_was_found():
    """The geometry alone finds nothing on the wide box; on the other it needs no help."""
    for box, asked in ((WIDE, 1), (EASY, 0)):
        depth_m, pose = table_with([box])
        frame, context = frame_of(depth_m), context_of(pose)
        alone = GraspPlanner(GraspParams()).propose(frame, context)
        helper = Middle()
        found = GraspPlanner(GraspParams(), fallback=helper).propose(frame, context)
        assert (helper.asked, len(alone) == 0) == (asked, asked == 1)
        assert len(found) > 0
        if asked:
            np.testing.assert_allclose(found.scores, 0.4)
            place = (pose @ found.camera_from_grasp[0])[:3, 3]
            np.testing.assert_allclose(place, (0.0, 0.0, 0.01), atol=0.005)


def test_nothing_is_asked_where_nothing_stands():
    scorer = Opinion(0.9)
    assert len(propose((0.0, 0.0, 0.0, 0.05, 0.04, 0.004), scorer)) == 0
    assert scorer.asked == 0


def test_a_patch_shows_the_box_between_the_fingers():
    """Heights over the fingertips in units of 6 cm: the box in the middle, the table beside."""
    depth_m, pose = table_with([EASY])
    plan, = GraspPlanner(GraspParams()).plans(frame_of(depth_m), context_of(pose))
    best = plan.usable[[plan.scores[plan.usable].argmax()]]
    patches, features = scorer_inputs(plan, best)
    assert patches.shape == (1, 2, 32, 32) and features.shape == (1, FEATURES)
    tip_m = plan.centres_m(plan.rows[best])[0, 2]
    middle = patches[0, 0, 14:18, 14:18]
    np.testing.assert_allclose(middle, (0.06 - tip_m) / 0.06, atol=0.05)
    for side in (slice(0, 6), slice(-6, None)):
        np.testing.assert_allclose(patches[0, 0, 14:18, side], -tip_m / 0.06, atol=0.05)
    share = 1.0 / (1.0 + np.exp(-features[0, GEOMETRY]))
    assert share == pytest.approx(float(plan.scores[best[0]]), abs=1e-4) or (
        features[0, GEOMETRY] == 5.0)
