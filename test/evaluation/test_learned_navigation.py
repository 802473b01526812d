"""The navigation policy that ships: it goes where it should, and around what stands there."""

import numpy as np
import pytest

pytest.importorskip('onnxruntime')
from perception_nodes.backends.registry import load_model  # noqa: E402
from perception_nodes.core.manifest import find_model  # noqa: E402
from perception_nodes.core.navigation import NavigationParams  # noqa: E402
from perception_nodes.core.navigation_rules import policy_input  # noqa: E402
from perception_nodes.evaluation.navigation import Course  # noqa: E402
from perception_nodes.sim.navigation_batch import SensorParams  # noqa: E402
from perception_nodes.sim.navigation_worlds import NavigationWorld  # noqa: E402

ROBOT = NavigationParams()
# actions of the network in PyTorch, with the weights of the file, on inputs drawn from seed 11
EXPECTED = [
    [-0.6566, 0.9519], [-0.8194, 0.9333], [-0.8948, 0.9879], [-0.7813, 0.8640],
    [-0.6757, 0.6203], [-0.2512, 0.2345], [0.2283, 0.4755], [-0.4920, 0.9419]]
LIDAR = SensorParams(beams=360, field_of_view_deg=270.0, level=0.0)


@pytest.fixture(scope='module')
def policy():
    return load_model(find_model('navigation_policy', 'navigation'), 'cpu')


def driven(policy, walls=(), goal=(5.0, 0.0), guarded=True):
    world = NavigationWorld(
        'test', np.empty((0, 3)), np.array(walls, float).reshape(-1, 4), (0.0, 0.0, 0.0), goal,
        0.5)
    return Course([world], ROBOT, LIDAR, 30.0).drive(policy, 0, 1, guarded=guarded)


def test_it_suits_the_nodes_defaults(policy):
    policy.check(ROBOT)


@pytest.mark.parametrize('goal', [(5.0, 0.0), (0.0, 4.0), (-3.0, -3.0)])
def test_over_open_ground_it_drives_to_the_goal(policy, goal):
    """Also to one aside or behind, without much of a detour."""
    drive = driven(policy, goal=goal)
    assert drive.reached
    way_m = np.linalg.norm(np.diff(drive.poses[:, :2], axis=0), axis=1).sum()
    assert way_m < 1.5 * np.hypot(*goal) + 0.5


@pytest.mark.parametrize('guarded', [True, False])
def test_it_drives_around_a_wall(policy, guarded):
    """A wall of two metres stands across the way."""
    drive = driven(policy, [(2.5, -1.0, 2.5, 1.0)], guarded=guarded)
    assert drive.reached
    assert np.abs(drive.poses[:, 1]).max() > 1.0


def test_it_turns_before_a_wall(policy):
    """Right before a wall it neither drives on nor stands still."""
    drive = driven(policy, [(1.2, -2.0, 1.2, 0.3)])
    assert not drive.collided
    assert drive.poses[:40, 2].max() > 0.3  # to the left, where the wall ends


def test_it_decides_as_the_trained_network_did(policy):
    """Actions that the network gave in PyTorch, with the weights that the file holds."""
    rng = np.random.default_rng(11)
    state = np.zeros((1, policy.facts.memory), np.float32)
    last = np.zeros((1, 2), np.float32)
    found = []
    for _ in range(len(EXPECTED)):
        vector = rng.uniform(0.2, 1.0, (1, ROBOT.sectors + 14)).astype(np.float32)
        inputs = policy_input(vector, last, ROBOT.reach_m, policy.facts.innate)
        last, state = policy._session.run(
            ('action', 'next_state'), {'inputs': inputs, 'state': state})
        found.append(last[0].tolist())
    assert np.array(found) == pytest.approx(np.array(EXPECTED), abs=5e-3)
