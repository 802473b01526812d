"""Clutter removal keeps to its protocol, and its figures are what the rounds say."""

import numpy as np
import pytest

pytest.importorskip('mujoco')

from perception_nodes.cli.benchmark_grasp import shares  # noqa: E402
from perception_nodes.core.grasping import GraspParams, GraspPlanner  # noqa: E402
from perception_nodes.core.types import GraspCandidates  # noqa: E402
from perception_nodes.evaluation.grasp_clutter import (  # noqa: E402
    Attempt,
    clear,
    make_simulator,
    OBJECTS,
    Round,
)
from perception_nodes.sim.gripper import GraspOutcome  # noqa: E402


@pytest.fixture(scope='module')
def sim():
    simulator = make_simulator()
    yield simulator
    simulator.close()


def test_geometry_clears_a_table_of_blocks(sim):
    """Five blocks side by side: each is lifted, at the first try or the second."""
    found = clear(sim, GraspPlanner(GraspParams()), 3, pile=False, split='train',
                  families=('block',))
    assert found.objects == OBJECTS
    assert found.lifted == OBJECTS
    assert len(found.attempts) <= OBJECTS + 2
    assert sim.reachable() == ()
    assert found.why_ended == ''


def test_a_round_ends_when_nothing_is_found(sim):
    class Clueless:
        def propose(self, frame, context):
            return GraspCandidates.none('no idea')

    found = clear(sim, Clueless(), 3, pile=False, split='train', families=('block',))
    assert (found.attempts, found.lifted, found.why_ended) == ((), 0, 'no idea')
    assert found.objects == OBJECTS


def test_a_round_ends_after_two_failures(sim):
    """A grasp into the table fails each time; the depth has noise, the height is known."""
    seen = []

    class IntoTheTable:
        def propose(self, frame, context):
            seen.append((frame, context))
            pose = np.eye(4)
            pose[2, 3] = context.camera_height_m + 0.05
            return GraspCandidates(
                pose[None], np.array([0.05], np.float32), np.ones(1, np.float32), np.array([-1]))

    found = clear(sim, IntoTheTable(), 4, pile=False, split='train', families=('block',))
    assert [a.outcome.lifted for a in found.attempts] == [False, False]
    first, second = (frame.depth_m for frame, _ in seen)
    assert not np.array_equal(first, second)  # noise is drawn anew
    assert seen[0][1].up[2] < -0.5  # the camera looks down


def test_shares_with_intervals():
    """Three of four grasps lift three of five objects, in every round: no doubt about it."""
    outcomes = [GraspOutcome('lifted', 1, 0.04)] * 3 + [GraspOutcome('slipped', -1, 0.0)]
    attempts = tuple(Attempt(None, None, outcome) for outcome in outcomes)
    rounds = [Round(5, attempts, (10.0,) * 4, '')] * 6
    values = shares({'geometry_': rounds}, 'pile', 0)
    assert values['geometry_pile_success'] == pytest.approx(0.75)
    assert values['geometry_pile_cleared'] == pytest.approx(0.6)
    assert values['geometry_pile_cleared_ci_low'] == pytest.approx(0.6)
    assert values['geometry_pile_success_ci_high'] == pytest.approx(0.75)
