"""BARN's files and score, baselines that drive, and pictures of it."""

from dataclasses import replace
import json

import cv2
import numpy as np
from perception_nodes.cli.main import main
from perception_nodes.core.dynamic_window import DynamicWindow
from perception_nodes.core.navigation import NavigationParams
from perception_nodes.evaluation.navigation import barn_score, Course, Drive, load_barn, shares
from perception_nodes.evaluation.navigation_baselines import (
    InnateRule,
    PlannedWindow,
    StraightLine,
)
from perception_nodes.evaluation.navigation_pictures import write_trajectories
from perception_nodes.sim.navigation_batch import SensorParams
from perception_nodes.sim.navigation_worlds import NavigationWorld
import pytest

LIDAR = SensorParams(beams=180, level=0.0)


def room(walls=(), posts=()):
    return NavigationWorld(
        'test', np.array(posts, float).reshape(-1, 3), np.array(walls, float).reshape(-1, 4),
        (0.0, 0.0, 0.0), (4.0, 0.0), 0.5)


def a_drive(reached, time_s):
    return Drive(0, reached, not reached, time_s, np.zeros((2, 3)), 0, 0.1)


# a trap that opens towards the start; the straight way leads into it
TRAP = [(2.0, -0.9, 2.0, 0.9), (1.0, 0.9, 2.0, 0.9), (1.0, -0.9, 2.0, -0.9)]


def test_score_is_the_challenges():
    """A quarter up to four optimal times, an eighth from eight on, nothing without success."""
    world = replace(room(), reference_m=10.0)  # optimal: 5 s
    assert barn_score(a_drive(True, 3.0), world) == pytest.approx(0.25)
    assert barn_score(a_drive(True, 25.0), world) == pytest.approx(0.2)
    assert barn_score(a_drive(True, 90.0), world) == pytest.approx(0.125)
    assert barn_score(a_drive(False, 3.0), world) == 0.0


def test_barn_files_are_read_and_refused(tmp_path):
    path = tmp_path / 'worlds.npz'
    occupied = np.zeros((1, 30, 30), np.uint8)
    cells = np.stack([np.full(30, 15), np.arange(30)], axis=1).astype(np.int8)
    arrays = {'world_id': [7], 'occupied': occupied, 'reference_path': cells,
              'reference_path_length': [30]}
    np.savez(path, **arrays)
    world, = load_barn(path)
    assert world.name == 'barn 7'
    # 29 cells straight on, from the start beside the lattice and to the goal
    x = -4.575 + 0.15 * 15
    expected = (29 * 0.15 + np.hypot(x + 2.25, 5.075 - 3.0)
                + np.hypot(x + 2.25, 13.0 - 5.075 - 29 * 0.15))
    assert world.reference_m == pytest.approx(expected)
    np.savez(path, **{**arrays, 'reference_path_length': [29]})
    with pytest.raises(ValueError, match='expected one'):
        load_barn(path)
    path.write_bytes(b'no archive')
    with pytest.raises(ValueError, match='is no file of BARN worlds'):
        load_barn(path)


def test_the_challenges_worlds(data_dir):
    worlds = load_barn(data_dir / 'datasets/barn_100.npz')
    assert len(worlds) == 100
    lengths = np.array([world.reference_m for world in worlds])
    assert lengths.min() > 9.9  # no way is shorter than the straight line
    assert lengths.max() < 20.0


def test_who_gets_where():
    """All cross free ground; out of a trap only the planner finds."""
    course = Course([room(), room(TRAP)], NavigationParams(recoveries=0), LIDAR, 20.0)
    for policy in (StraightLine(), InnateRule(), DynamicWindow(), PlannedWindow()):
        assert course.drive(policy, 0, 1).reached
    assert not course.drive(StraightLine(), 1, 1).reached
    assert not course.drive(InnateRule(), 1, 1).reached
    planned = course.drive(PlannedWindow(), 1, 1)
    assert planned.reached
    assert np.abs(planned.poses[:, 1]).max() > 0.9  # around the trap
    again = course.drive(PlannedWindow(), 1, 1)
    assert np.array_equal(again.poses, planned.poses)


def test_the_layer_is_what_stops_a_straight_line():
    course = Course([room([(2.0, -3.0, 2.0, 3.0)])], NavigationParams(), LIDAR, 6.0)
    assert course.drive(StraightLine(), 0, 1, guarded=False).collided
    guarded = course.drive(StraightLine(), 0, 1)
    assert not guarded.collided
    assert guarded.changed > 0


def test_shares_and_pictures(tmp_path):
    """Two worlds, one reached: a half, with the interval from none to all."""
    worlds = [room(), room(TRAP)]
    drives = {'some_': [a_drive(True, 5.0), replace(a_drive(False, 5.0), world=1)]}
    values = shares(drives['some_'], worlds, 'some_room2d', seed=0)
    assert values['some_room2d_success'] == 0.5
    assert (values['some_room2d_success_ci_low'], values['some_room2d_success_ci_high']) == (0, 1)
    assert 'some_room2d_score' not in values
    write_trajectories(tmp_path / 'ways.png', worlds, drives)
    picture = cv2.imread(str(tmp_path / 'ways.png'))
    assert (picture == (60, 60, 60)).all(axis=2).any()  # walls
    assert (picture == (0, 0, 230)).all(axis=2).any()  # the collision


@pytest.mark.slow
def test_the_benchmark_writes_its_file(data_dir, tmp_path):
    out = tmp_path / 'navigation.json'
    assert main(['benchmark', 'navigation', '--first', '1', '--trials', '1', '--worlds',
                 str(data_dir / 'datasets/barn_100.npz'), '--out', str(out)]) == 0
    written = json.loads(out.read_text())
    assert written['policy'] == 'navigation_policy'
    assert written['policy_step_ms'] > 0.0
    assert 0.0 <= written['barn_hard_collision'] <= 1.0
    for prefix in ('', 'memory_', 'nosafety_', 'innate_', 'dwa_', 'planner_', 'straight_'):
        assert 0.0 <= written[f'{prefix}barn_success'] <= 1.0
        assert f'{prefix}people_collision_ci_high' in written
    assert (tmp_path / 'navigation_barn.png').is_file()
