"""The simulated part of the demo: a short drive is recorded, shown and counted."""

import json

import numpy as np
from perception_nodes.cli import demo, demo_simulation
from perception_nodes.cli.demo_simulation import GOALS, SEED, WORLD
from perception_nodes.cli.main import main
from perception_nodes.evaluation.bag import Bag
import pytest


@pytest.mark.graph
@pytest.mark.timeout(1300)  # a slow machine drives slowly
def test_a_drive_is_recorded_and_shown(tmp_path, monkeypatch, capsys):
    """The robot really moved, and truth, results and pictures of it are in bag and page."""
    pytest.importorskip('mujoco', reason='mujoco is not installed: the simulator needs it')
    monkeypatch.setattr(demo_simulation, 'GOALS', GOALS[:1])
    assert main(['demo', '--only', 'simulation', '--out', str(tmp_path)]) == 0
    with Bag(tmp_path / 'simulation_bag') as bag:
        assert not bag.damage
        for topic in ('/camera/color/image_raw', '/detection/detections', '/odom',
                      '/segmentation/mask', '/obstacle_map/map', '/simulation/ground_truth/mask',
                      '/clock', '/tf', '/scan', '/cmd_vel', '/goal_pose', '/navigation/status'):
            assert bag.topics[topic].count > 0, topic
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert (metrics['goals_reached'], metrics['goals'], metrics['collisions']) == (1, 1, 0)
    assert metrics['simulation_frames'] >= 15
    assert 2.2 < metrics['simulation_distance_m'] < 5.0  # of 2.75 m
    assert 0.0 < metrics['simulation_real_time_factor'] < 1.1
    page = (tmp_path / 'report.html').read_text()
    assert page.count('class="moment') == 6
    assert 'on a real camera the nodes refuse them' in page
    # mIoU hangs on the few pixels of rare classes, and so on how long the robot stood where
    assert metrics['segmentation_pixel_accuracy'] > 0.8
    assert 0.1 < metrics['segmentation_mIoU'] < 1.0
    assert metrics['detection_AP50'] > 0.3
    assert metrics['map_f1'] > 0.5
    assert metrics['grasp_candidates'] > 0
    assert len(metrics['lockstep_hash']) == 64
    for node in ('detection', 'segmentation', 'obstacle_map', 'grasp'):
        assert metrics[f'age_p95_ms_{node}'] > 0.0, node
        assert metrics[f'dropped_{node}'] >= 0, node
    assert (tmp_path / 'drive.webp').stat().st_size > 10_000
    assert 'detection' in (tmp_path / 'evaluation' / 'report.html').read_text()
    assert 'What was seen' not in page
    assert 'A simulated robot reached 1 of 1 goal' in capsys.readouterr().out


def test_the_goals_are_free_places_of_the_room():
    """The robot can stand at each of them, and has to drive from each to the next."""
    pytest.importorskip('mujoco', reason='mujoco is not installed: the simulator needs it')
    from perception_nodes.sim.simulator import Simulator, SimulatorParams
    simulator = Simulator(SimulatorParams(world=WORLD, renderer='rays'), SEED)
    grid, at = simulator.occupancy(), simulator.map_from_base[:2, 3]
    simulator.close()
    rows, columns = np.nonzero(grid.cells == 100)
    occupied = (np.stack([columns, rows], axis=1) + 0.5) * grid.resolution_m + grid.origin_xy_m
    for goal in GOALS:
        assert np.hypot(*(occupied - goal).T).min() > 0.4
        assert np.hypot(*(goal - at)) > 1.5
        at = np.array(goal)


def test_without_mujoco_the_simulator_part_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, 'why_not', lambda: 'MuJoCo is not installed: pip install mujoco')
    assert main(['demo', '--only', 'simulation', '--out', str(tmp_path / 'demo')]) == 1
    said = capsys.readouterr().err
    assert 'pip install mujoco' in said
    assert said.count('\n') == 1
    assert not (tmp_path / 'demo').exists()


def test_without_mujoco_page_and_terminal_say_so(tmp_path, monkeypatch, capsys):
    """Photos are left out here: they need a graph."""
    monkeypatch.setattr(demo, 'why_not', lambda: 'MuJoCo is not installed: pip install mujoco')
    monkeypatch.setattr(demo, '_photos', list)
    monkeypatch.setattr(demo, '_show_photos', lambda *arguments: None)
    assert main(['demo', '--out', str(tmp_path)]) == 0
    assert 'No simulated robot: MuJoCo is not installed' in capsys.readouterr().out
    page = (tmp_path / 'report.html').read_text()
    assert 'Left out: MuJoCo is not installed: pip install mujoco.' in page
