"""What moves by itself: people and water."""

import math

import numpy as np
from perception_nodes.core.types import VelocityCommand
from perception_nodes.sim.poses import Pose
from perception_nodes.sim.scene import RobotStart
from perception_nodes.sim.simulator import Simulator, SimulatorParams
from perception_nodes.sim.waves import Waves
import pytest

PARAMS = SimulatorParams(renderer='rays', noise=False, camera_width=80, camera_height=60)


@pytest.fixture
def walking(scene, thing):
    """Return a simulator in which someone walks from x = 4 m to x = 1 m and back at 1 m/s."""
    def make(robot):
        person = thing('capsule', (0.2, 0.6, 0), (4.0, 0.0, 0.8), 'person', 'person',
                       motion='walks', path_xy_m=((4.0, 0.0), (1.0, 0.0)), speed_mps=1.0)
        return Simulator(PARAMS, scene(person, robot=robot))
    return make


def x_of_person(sim):
    [state] = sim.states()
    return float(state.map_from_thing[0, 3])


def test_people_follow_their_path_and_turn_back(walking):
    sim = walking(RobotStart(0.0, 3.0, 0.0))
    places = []
    for _ in range(90):
        sim.step(VelocityCommand(), 0.1)
        places.append(x_of_person(sim))
    assert min(places) == pytest.approx(1.0, abs=0.1)
    assert max(places[50:]) > 3.5
    assert np.abs(np.diff(places)).max() < 0.11


def test_people_wait_for_the_robot(walking):
    """Nobody walks into a robot that stands in the way."""
    sim = walking(RobotStart(1.5, 0.0, 0.0))
    sim.step(VelocityCommand(), 6.0)
    assert 0.7 < x_of_person(sim) - 1.5 < 0.8
    assert sim.take_contacts() == ()


def test_walking_into_a_person_is_a_contact(walking):
    """The impact counts both speeds: 0.5 m/s against someone who stands."""
    sim = walking(RobotStart(1.5, 0.0, 0.0))
    sim.step(VelocityCommand(), 5.0)
    sim.step(VelocityCommand(0.5, 0.0), 3.0)
    first = sim.take_contacts()[0]
    assert (first.name, first.class_id) == ('person', 7)
    assert first.impact_mps == pytest.approx(0.5, abs=0.05)


def test_water_lifts_and_rolls_the_boat():
    """The camera heaves and rolls by centimetres and degrees, around the calm surface."""
    sim = Simulator(SimulatorParams(world='water', **{
        'renderer': 'rays', 'camera_width': 80, 'camera_height': 60}), 2)
    heights, rolls, buoys = [], [], []
    floating = next(t.name for t in sim.scene.things if t.motion == 'floats')
    for _ in range(60):
        sim.step(VelocityCommand(), 0.1)
        pose = sim.map_from_base
        heights.append(pose[2, 3])
        rolls.append(math.atan2(pose[2, 1], pose[2, 2]))
        buoys.append(sim.pose_of(floating)[2, 3])
    wave = sim.scene.wave_height_m
    assert 0.2 * wave < np.std(heights) * 2 < 2.0 * wave
    assert abs(np.mean(heights)) < wave
    assert 0.001 < np.std(rolls) < 0.3
    assert 0.0 < np.std(buoys) < wave
    sim.close()


def test_a_hull_lies_on_the_slope():
    """Heading uphill the bow is up (pitch below zero, REP 103); across it, it rolls."""
    waves = Waves(((0.1, 0.0, 1.0, 0.0),))  # a wave along x, rising at the origin at time 0
    height, pitch, roll = waves.tilt(0.0, 0.0, 0.0, 0.0)
    assert (height, roll) == pytest.approx((0.0, 0.0))
    assert pitch == pytest.approx(-math.atan(0.1))
    _, pitch, roll = waves.tilt(0.0, 0.0, math.pi / 2, 0.0)
    assert pitch == pytest.approx(0.0, abs=1e-9)
    assert roll == pytest.approx(-math.atan(0.1))
    up = waves.lifted(Pose.at(0.0, 0.0, 0.0), 0.0).matrix[:3, 2]
    assert up[0] < 0.0 < up[2]
