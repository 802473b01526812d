"""A planner asks its scorer about its candidates, of which a scorer sees the surroundings."""

import numpy as np
from perception_nodes.core.grasp_patches import FEATURES, GEOMETRY, scorer_inputs
from perception_nodes.core.grasping import GraspParams, GraspPlanner
import pytest
from test_grasping import context_of, frame_of, table_with

pytestmark = pytest.mark.timeout(600)  # the first plan compiles for long on a busy machine

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
