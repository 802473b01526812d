"""The robot moves as told, senses what is there, and repeats itself exactly."""

import hashlib
import math
import subprocess
import sys

import numpy as np
from perception_nodes.core.types import VelocityCommand
from perception_nodes.sim.poses import planar, yaw_of
from perception_nodes.sim.scene import RobotStart
from perception_nodes.sim.simulator import Simulator, SimulatorParams
import pytest

SMALL = {'renderer': 'rays', 'camera_width': 80, 'camera_height': 60}


@pytest.fixture
def ideal(scene):
    """Return a simulator without noise in a given scene."""
    made = []

    def make(*things, **more):
        params = SimulatorParams(noise=False, **SMALL, **more.pop('params', {}))
        sim = Simulator(params, scene(*things, **more))
        made.append(sim)
        return sim
    yield make
    for sim in made:
        sim.close()


def test_drives_the_commanded_arc(ideal):
    """A quarter circle of one metre radius ends where geometry says."""
    sim = ideal(params={'max_linear_mps2': 100.0, 'max_angular_rps2': 100.0})
    sim.step(VelocityCommand(0.5, 0.5), math.pi)
    assert np.allclose(sim.map_from_base[:2, 3], (1.0, 1.0), atol=0.04)
    assert yaw_of(sim.map_from_base) == pytest.approx(math.pi / 2, abs=0.02)
    assert sim.stamp_ns == pytest.approx(math.pi * 1e9, abs=4e6)
    assert sim.twist.linear_mps == pytest.approx(0.5, abs=0.01)


def test_odometry_without_noise_is_true(ideal):
    """Odometry starts at the origin; map_from_odom is where the robot started."""
    sim = ideal(robot=RobotStart(1.0, -0.5, 0.7))
    for turn in (0.8, -1.0, 0.3):
        sim.step(VelocityCommand(0.4, turn), 0.7)
    assert np.allclose(sim.map_from_odom, planar(1.0, -0.5, 0.7), atol=2e-3)
    assert np.allclose(sim.map_from_odom @ sim.odom_from_base, sim.map_from_base, atol=1e-9)


def test_acceleration_and_speed_are_limited(ideal):
    """After 0.2 s at 1.5 m/s^2 the base moves at 0.3 m/s, and never faster than 1 m/s."""
    sim = ideal()
    sim.step(VelocityCommand(50.0, 0.0), 0.2)
    assert sim.twist.linear_mps == pytest.approx(0.3, abs=0.03)
    sim.step(VelocityCommand(50.0, 0.0), 1.0)
    assert sim.twist.linear_mps == pytest.approx(1.0, abs=0.01)


def test_a_late_command(ideal):
    """With a latency of 100 ms nothing moves for 100 ms."""
    sim = ideal(params={'command_latency_ms': 100.0})
    sim.step(VelocityCommand(1.0, 0.0), 0.096)
    assert np.allclose(sim.map_from_base[:2, 3], 0.0, atol=1e-6)
    sim.step(VelocityCommand(1.0, 0.0), 0.1)
    assert sim.map_from_base[0, 3] > 0.005


def test_a_wall_stops_the_robot_and_is_noted(ideal, thing):
    """Running into a wall at 0.5 m/s is one contact of 0.5 m/s, and the wall stands."""
    wall = thing('box', (0.1, 2.0, 1.0), (1.1, 0.0, 1.0), 'wall', 'wall')
    sim = ideal(wall)
    sim.step(VelocityCommand(0.5, 0.0), 4.0)
    [hit] = sim.take_contacts()
    assert (hit.name, hit.class_id, hit.instance_id) == ('wall', 1, 0)
    assert hit.impact_mps == pytest.approx(0.5, abs=0.02)
    assert hit.map_xyz_m[0] == pytest.approx(1.0, abs=0.02)
    assert sim.map_from_base[0, 3] == pytest.approx(1.0 - 0.21, abs=0.02)
    assert sim.take_contacts() == ()


def test_a_light_box_is_pushed(ideal, thing):
    """What is free and light gives way."""
    crate = thing('box', (0.1, 0.1, 0.1), (0.6, 0.0, 0.1), 'crate', motion='free',
                  density_kgpm3=100.0)
    sim = ideal(crate)
    sim.step(VelocityCommand(0.5, 0.0), 2.5)
    [state] = sim.states()
    assert state.map_from_thing[0, 3] > 0.9
    assert state.map_from_thing[2, 3] == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_a_command_that_is_no_number_stops(ideal, caplog, bad):
    """It brakes, says so, and keeps every state finite."""
    sim = ideal()
    sim.step(VelocityCommand(0.5, 0.0), 1.0)
    sim.step(VelocityCommand(bad, 0.0), 1.0)
    assert sim.twist.linear_mps == pytest.approx(0.0, abs=1e-3)
    assert np.isfinite(sim.map_from_base).all()
    assert 'not finite' in caplog.text


def test_scan_measures_the_walls(ideal, thing):
    """Beam 180 looks ahead; nothing behind is beyond range, the robot itself is not seen."""
    wall = thing('box', (0.1, 5.0, 1.0), (2.1, 0.0, 1.0), 'wall', 'wall')
    scan = ideal(wall).scan()
    assert len(scan.ranges_m) == 360
    assert scan.angles_rad[180] == pytest.approx(0.0)
    assert scan.ranges_m[180] == pytest.approx(2.0, abs=1e-4)
    assert scan.ranges_m[180 + 45] == pytest.approx(2.0 * math.sqrt(2.0), abs=1e-3)
    assert np.isposinf(scan.ranges_m[0])


def test_ideal_depth_says_too_far_and_too_near(ideal, thing):
    """Sky and what is beyond 8 m is +inf; nothing is NaN without noise."""
    sim = ideal(params={'camera_pitch_deg': 0.0})
    depth = sim.depth('camera')
    assert np.isposinf(depth[0]).all()
    assert np.isfinite(depth[-1]).all()
    assert not np.isnan(depth).any()


def test_everything_repeats(scene):
    """The same seed and steps give the same bytes, whatever else was asked for."""
    def run(extra):
        sim = Simulator(SimulatorParams(world='room', **SMALL), 11)
        digest = hashlib.sha256()
        for k in range(4):
            sim.step(VelocityCommand(0.3, 0.4 - 0.2 * k), 0.25)
            if extra:
                sim.truth('camera')
                sim.scan()
            frame = sim.frame('camera')
            for array in (frame.rgb, frame.depth_m, sim.scan().ranges_m, sim.odom_from_base,
                          sim.map_from_base, sim.truth('camera').instance_mask):
                digest.update(np.ascontiguousarray(array).tobytes())
        sim.close()
        return digest.hexdigest()
    assert run(extra=False) == run(extra=True)


def test_reset_starts_anew():
    """A reset is the same as a new simulator, and another seed is another scene."""
    sim = Simulator(SimulatorParams(world='room', **SMALL), 1)
    first = sim.rgb('camera')
    sim.step(VelocityCommand(0.5, 0.5), 0.5)
    sim.reset(2)
    assert not np.array_equal(first, sim.rgb('camera'))
    sim.reset(1)
    assert sim.stamp_ns == 0
    assert np.array_equal(first, sim.rgb('camera'))
    sim.close()


def test_noise_looks_like_a_sensor(ideal, scene, thing):
    """Holes are NaN, odometry drifts by percents, ranges by centimetres; the truth stays."""
    wall = thing('box', (0.1, 5.0, 1.0), (2.1, 0.0, 1.0), 'wall', 'wall')
    post = thing('box', (0.05, 0.1, 1.0), (1.2, 0.0, 1.0), 'post')
    sim = Simulator(SimulatorParams(noise=True, **SMALL), scene(wall, post))
    depth, truth = sim.depth('camera'), sim.truth('camera')
    measured = np.isfinite(depth)
    assert 0.5 < measured[np.isfinite(truth.depth_m)].mean() < 0.99
    error = np.abs(depth - truth.depth_m)[measured]
    assert 0.0005 < np.median(error) < 0.02
    ranges = sim.scan().ranges_m[170:190]
    assert np.nanstd(ranges[np.abs(ranges - 1.15) < 0.2]) > 0.001
    sim.step(VelocityCommand(0.0, 1.0), 3.0)
    drift = abs(yaw_of(sim.odom_from_base) - yaw_of(sim.map_from_base))
    assert 1e-4 < drift < 0.2
    assert np.allclose(sim.map_from_odom @ sim.odom_from_base, sim.map_from_base, atol=1e-9)
    sim.close()


@pytest.mark.parametrize(('world', 'sentence'), [
    ('rom', "there is no world 'rom'; did you mean 'room'"),
    ('moon base', "there is no world 'moon base'; there are room")])
def test_unknown_world(world, sentence):
    with pytest.raises(ValueError, match=sentence):
        Simulator(SimulatorParams(world=world, **SMALL))


def test_unknown_camera(ideal):
    with pytest.raises(ValueError, match="has no camera 'rear'; there is camera"):
        ideal().rgb('rear')


def test_without_mujoco_it_says_what_to_install():
    code = "import sys; sys.modules['mujoco'] = None; import perception_nodes.sim.simulator"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "pip install 'perception_nodes[sim]'" in done.stderr


def test_needs_neither_ros_nor_networks():
    """Every module of the simulator imports where rclpy, messages and torch cannot be."""
    code = """
import importlib, pkgutil, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        top = name.partition('.')[0]
        if top in ('rclpy', 'torch', 'onnxruntime') or top.endswith(('_msgs', '_srvs')):
            raise ImportError(f'{name} is imported here')
sys.meta_path.insert(0, Blocked())
import perception_nodes.sim as room
for module in pkgutil.walk_packages(room.__path__, 'perception_nodes.sim.'):
    importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
