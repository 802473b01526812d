"""The grid that rolls along with a robot: what it remembers, and the ways it finds."""

import math

import numpy as np
from perception_nodes.core.navigation import NavigationParams, ObservationBuilder
from perception_nodes.core.rolling_map import (
    CELL_M,
    clearances_m,
    distances_to,
    GuidedPolicy,
    RollingMap,
)
from perception_nodes.core.types import LaserRanges, VelocityCommand
import pytest

PARAMS = NavigationParams()
BEAMS = 720
# a wall across x = 2 from y = -3 to y = 1.2, and one back towards the robot at its upper end
WALLS = (((2.0, -3.0), (2.0, 1.2)), ((2.0, 1.2), (0.6, 1.2)))


def look(walls, goal, pose=(0.0, 0.0, 0.0)):
    """Return what a robot at a pose in odom sees of walls with its lidar of 360 degrees."""
    x, y, yaw = pose
    angles = (np.arange(BEAMS) + 0.5) / BEAMS * 2.0 * np.pi - np.pi
    ranges = np.full(BEAMS, np.inf, np.float32)
    for i, angle in enumerate(angles + yaw):
        ray = np.array([math.cos(angle), math.sin(angle)])
        for a, b in walls:
            side = np.subtract(b, a)
            off = np.subtract(a, (x, y))
            det = ray[0] * -side[1] + ray[1] * side[0]
            if abs(det) < 1e-9:
                continue
            distance = (off[0] * -side[1] + off[1] * side[0]) / det
            share = (ray[0] * off[1] - ray[1] * off[0]) / det
            if distance > 0.0 and 0.0 <= share <= 1.0:
                ranges[i] = min(ranges[i], distance)
    builder = ObservationBuilder(PARAMS)
    builder.add(LaserRanges(ranges, float(angles[0]), 2.0 * math.pi / BEAMS, 0.05, 10.0, 0,
                            'laser'), np.eye(4))
    c, s = math.cos(yaw), math.sin(yaw)
    dx, dy = goal[0] - x, goal[1] - y
    return builder.observe((c * dx + s * dy, c * dy - s * dx), VelocityCommand(), pose)


@pytest.mark.parametrize('yaw', [0.0, 2.0])
def test_the_way_leads_around_what_was_seen(yaw):
    """Straight on without walls; out of the pocket that two walls make, first back, with them."""
    pose = (0.0, 0.0, yaw)
    free = look((), (4.0, 0.0), pose)
    rolling = RollingMap(0.0, 0.0)
    rolling.take(free)
    x, y = rolling.ahead(free, 2.0)
    assert (x, y) == pytest.approx((2.0 * math.cos(yaw), -2.0 * math.sin(yaw)), abs=0.12)
    seen = look(WALLS, (4.0, 0.0), pose)
    rolling = RollingMap(0.0, 0.0)
    rolling.take(seen)
    x, y = rolling.ahead(seen, 1.2)
    odom_x = math.cos(yaw) * x - math.sin(yaw) * y
    odom_y = math.sin(yaw) * x + math.cos(yaw) * y
    assert odom_x < 0.45 and odom_y > 0.6  # around the end of the wall at (0.6, 1.2)


def test_it_remembers_and_forgets():
    """A wall that is no longer in view still bars the way; seen to be gone, it does not."""
    rolling = RollingMap(0.0, 0.0)
    wall = (((1.5, -2.0), (1.5, 2.0)),)
    rolling.take(look(wall, (4.0, 0.0)))
    row = column = round(12.0 / 0.05)  # of the robot
    barred = rolling.potential_m[row, column]
    assert barred > 5.0  # 4 m straight on
    blind = look((), (4.0, 0.0))
    blind.ranges_m[:] = np.nan
    for _ in range(5):
        rolling.take(blind)
    assert rolling.potential_m[row, column] == pytest.approx(barred)
    for k in range(30):  # a few beams at a time
        rolling.take(look((), (4.0, 0.0), (0.0, 0.0, 0.01 * k)))
    assert rolling.potential_m[row, column] == pytest.approx(4.0, abs=0.1)


def test_it_rolls_along():
    """Three metres on, the wall stands where it stood in odom, and the grid is as large."""
    rolling = RollingMap(0.0, 0.0)
    wall = (((1.5, 1.0), (1.5, 3.0)),)
    seen = look(wall, (0.0, 5.0))
    rolling.take(seen)
    shape = rolling.clearances_m().shape
    blind = look((), (0.0, 5.0), (-3.0, 0.0, 0.0))
    blind.ranges_m[:] = np.nan
    rolling.take(blind)
    assert rolling.clearances_m().shape == shape
    assert rolling.corner_m == pytest.approx((-15.0, -12.0), abs=0.03)
    column = int((1.5 - rolling.corner_m[0]) / 0.05)
    row = int((2.0 - rolling.corner_m[1]) / 0.05)
    assert rolling.clearances_m()[row, column - 1:column + 2].min() == 0.0
    assert rolling.clearances_m()[row, column - 20] > 0.8


class Noting:
    """A policy that notes what it is shown, and counts."""

    def act(self, observation, state):
        self.shown = observation.goal_xy_m
        return VelocityCommand(0.1, 0.2), (state or 0) + 1


def test_a_guided_policy_sees_the_way_instead_of_the_goal():
    policy = Noting()
    guided = GuidedPolicy(policy)
    command, memory = guided.act(look((), (0.7, 0.0)), None)
    assert policy.shown == pytest.approx((0.7, 0.0), abs=0.08)  # so near that it is the goal
    assert command == VelocityCommand(0.1, 0.2)
    command, memory = guided.act(look(WALLS, (4.0, 0.0)), memory)
    assert memory.of_policy == 2
    _, fresh = guided.act(look(WALLS, (4.0, 0.0)), None)
    assert fresh.of_policy == 1
    assert math.hypot(*policy.shown) < 0.9
    assert policy.shown[1] > 0.5


def test_a_search_that_ends_early_knows_the_way_as_well():
    """Behind a wall with one door, as far as the robot and a metre more."""
    free = np.full((80, 80), 255, np.uint8)
    free[40, :60] = 0
    clearances = clearances_m(free)
    everything = distances_to(clearances, 0.1, 0.3, 3.0, 10, 10, CELL_M)
    robot = 70 * 80 + 20
    enough = distances_to(clearances, 0.1, 0.3, 3.0, 10, 10, CELL_M, robot, 1.0)
    near = everything <= everything[70, 20] + 1.0
    assert enough[near] == pytest.approx(everything[near])
    assert np.isinf(enough).any()
