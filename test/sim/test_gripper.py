"""Grasps whose outcome anyone can tell."""

import numpy as np
from perception_nodes.core.types import VelocityCommand
from perception_nodes.sim.poses import looking_at, Pose
from perception_nodes.sim.scene import Workspace
from perception_nodes.sim.simulator import Simulator, SimulatorParams
import pytest

TOP_M = 0.5
PARAMS = SimulatorParams(renderer='rays', noise=False, camera_width=80, camera_height=60)


@pytest.fixture
def table(scene, thing):
    """Return a simulator of a table with the given things on it."""
    def make(*things):
        top = thing('box', (0.4, 0.4, 0.02), (0, 0, TOP_M - 0.02), 'table', 'table')
        view = looking_at((0.0, -0.1, TOP_M + 0.6), (0.0, 0.0, TOP_M))
        return Simulator(PARAMS, scene(
            top, *things, robot=None, has_gripper=True, settle_s=0.2,
            workspace=Workspace((0.0, 0.0, TOP_M), (0.15, 0.15),
                                tuple(tuple(row) for row in view.tolist()))))
    return make


def from_above(x_m, y_m, tip_m, yaw_rad=0.0):
    """Return a grasp that comes straight down, its fingers closing along y turned by yaw."""
    return Pose.at(x_m, y_m, TOP_M + tip_m, yaw_rad, 0.0, np.pi).matrix


@pytest.fixture
def block(thing):
    """Return a block 4 cm wide along y, 12 cm long along x, 6 cm high, at the origin."""
    return thing('box', (0.06, 0.02, 0.03), (0, 0, TOP_M + 0.03), 'block', motion='free')


def test_a_block_across_its_width_is_lifted(table, block):
    """It comes along, is put aside, and the camera does not see it any more."""
    sim = table(block)
    assert [state.name for state in sim.reachable()] == ['block']
    outcome = sim.execute_grasp(from_above(0, 0, 0.015), 0.07)
    assert (outcome.reason, outcome.lifted) == ('lifted', True)
    assert sim.scene.things[outcome.thing].name == 'block'
    assert outcome.opening_m == pytest.approx(0.04, abs=0.004)
    assert sim.reachable() == ()
    assert [o.name for o in sim.truth('table_camera').objects] == ['table']


def test_a_block_along_its_length_is_run_into(table, block):
    """The open hand is narrower than the block is long."""
    outcome = table(block).execute_grasp(from_above(0, 0, 0.015, np.pi / 2), 0.08)
    assert (outcome.reason, outcome.lifted) == ('collision', False)


def test_closing_on_air_holds_nothing(table, block):
    sim = table(block)
    outcome = sim.execute_grasp(from_above(0.0, 0.13, 0.02), 0.05)
    assert outcome.reason == 'nothing_held'
    assert len(sim.reachable()) == 1


def test_going_through_the_table_is_a_collision(table, block):
    sim = table(block)
    outcome = sim.execute_grasp(from_above(0.0, 0.12, -0.02), 0.05)
    assert outcome.reason == 'collision'
    assert sim.scene.things[outcome.thing].name == 'table'


def test_what_is_too_heavy_slips(table, thing):
    """Ten kilograms stay on the table."""
    lead = thing('box', (0.03, 0.02, 0.04), (0, 0, TOP_M + 0.04), 'lead', motion='free',
                 density_kgpm3=52000.0)
    sim = table(lead)
    outcome = sim.execute_grasp(from_above(0, 0, 0.045), 0.07)
    assert outcome.reason == 'slipped'
    assert len(sim.reachable()) == 1


def test_a_turned_block_needs_a_turned_hand(table, thing):
    """The frame's y axis is the closing direction, in map, at any yaw."""
    turned = thing('box', (0.07, 0.015, 0.03), Pose.at(0.03, -0.02, TOP_M + 0.03, 0.6), 'turned',
                   motion='free')
    sim = table(turned)
    start = sim.snapshot()
    assert sim.execute_grasp(from_above(0.03, -0.02, 0.015, 0.6), 0.06).lifted
    sim.restore(start)
    assert len(sim.reachable()) == 1
    assert not sim.execute_grasp(from_above(0.03, -0.02, 0.015, 0.6 + np.pi / 2), 0.06).lifted


def test_snapshots_repeat(table, block):
    """From the same state the same grasp ends the same, to the last bit."""
    sim = table(block)
    start = sim.snapshot()
    first = sim.execute_grasp(from_above(0.02, 0.003, 0.02, 0.1), 0.08)
    sim.restore(start)
    assert sim.execute_grasp(from_above(0.02, 0.003, 0.02, 0.1), 0.08) == first


def test_a_pile_comes_to_rest_and_stays():
    """Nothing jitters, and nothing rolls away, over several piles."""
    for seed in range(3):
        sim = Simulator(SimulatorParams(world='tabletop_pile', renderer='rays'), seed)
        before = sim.poses()
        sim.step(VelocityCommand(), 0.5)
        moved = [np.linalg.norm(a[:3, 3] - b[:3, 3])
                 for a, b in zip(before, sim.poses(), strict=True)]
        assert np.median(moved) < 1e-4
        assert max(moved) < 5e-3
        assert len(sim.reachable()) >= 3
        sim.close()


def test_no_gripper_in_a_room():
    sim = Simulator(SimulatorParams(world='room', renderer='rays'))
    with pytest.raises(ValueError, match="world 'room' has no gripper; take a tabletop"):
        sim.execute_grasp(np.eye(4), 0.05)
    sim.close()


def test_a_grasp_that_is_no_number(table, block):
    with pytest.raises(ValueError, match='the grasp is not finite'):
        table(block).execute_grasp(np.full((4, 4), np.nan), 0.05)


def test_only_movable_objects_can_be_removed(table, block):
    sim = table(block)
    with pytest.raises(ValueError, match='instance 2 is no movable object'):
        sim.remove(2)
    sim.remove(3)
    assert sim.reachable() == ()
