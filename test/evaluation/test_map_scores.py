"""Maps against true ones, in rooms whose answers are known."""

import math

import numpy as np
from perception_nodes.core.types import OccupancyMap
from perception_nodes.evaluation.map_scores import f1, Ghosts, MapView, score_map
import pytest

VIEW = MapView((0.0, 0.0), 0.0, math.radians(30.0))


def grid(cells, frame_id='map'):
    """Return a map of 8 m about the origin, in which cells of 0.1 m are free but for some."""
    plane = np.zeros((80, 80), np.int8)
    for rows, columns in cells:
        plane[rows, columns] = 100
    return OccupancyMap(plane, 0.1, (-4.0, -4.0), frame_id)


WALL = (slice(10, 70), slice(60, 62))  # 2 m ahead, across


def test_the_true_map_scores_one():
    score = score_map(grid([WALL]), grid([WALL]), np.eye(4), VIEW)
    assert score.false == 0
    assert score.found == score.rays > 100
    assert not score.ghosts
    assert f1(score.right, score.false, score.found, score.rays) == (1.0, 1.0, 1.0)


def test_a_cell_more_or_less_is_right():
    beside = (slice(10, 70), slice(59, 61))
    score = score_map(grid([beside]), grid([WALL]), np.eye(4), VIEW)
    assert (score.false, score.found) == (0, score.rays)


def test_half_a_wall_is_half_found():
    score = score_map(grid([(slice(40, 70), slice(60, 62))]), grid([WALL]), np.eye(4), VIEW)
    assert score.found / score.rays == pytest.approx(0.5, abs=0.06)  # a cell more
    assert score.false == 0


def test_what_is_not_there_is_a_ghost_while_in_view():
    ahead, behind = (slice(40, 42), slice(50, 52)), (slice(40, 42), slice(20, 22))
    score = score_map(grid([WALL, ahead, behind]), grid([WALL]), np.eye(4), VIEW)
    assert score.false == 8
    assert score.ghosts == {(10, 0), (11, 0), (10, 1), (11, 1)}


def test_people_are_no_ghosts():
    ahead = (slice(40, 42), slice(50, 52))
    person = np.array([(1.0, 0.0), (1.2, 0.0), (1.2, 0.2), (1.0, 0.2)])
    score = score_map(grid([WALL, ahead]), grid([WALL]), np.eye(4), VIEW, [person])
    assert (score.false, score.ghosts) == (0, frozenset())


def test_maps_of_two_frames_are_compared_where_they_lie():
    """The map's frame is turned by a quarter and moved: the wall ahead is on its right there."""
    truth_from_found = np.eye(4)
    truth_from_found[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    truth_from_found[0, 3] = 0.5
    aside = (slice(23, 25), slice(10, 70))  # y from -1.7 to -1.5 in its own frame
    score = score_map(grid([aside], 'odom'), grid([WALL]), truth_from_found, VIEW)
    assert score.false == 0
    assert score.found == score.rays


def test_ghosts_last_as_long_as_they_are_seen():
    ghosts = Ghosts()
    for n, cells in enumerate([{(1, 1)}, {(1, 1), (2, 2)}, {(2, 2)}, {(2, 2)}]):
        ghosts.add(n * 500_000_000, frozenset(cells))
    assert sorted(ghosts.finish()) == [0.5, 1.0]


def test_nothing_to_find_is_no_score():
    assert all(map(math.isnan, f1(0, 0, 0, 0)[:2]))
