"""What a policy sees, what the safety layer lets through, and the states around them."""

import math

import numpy as np
from perception_nodes.core.navigation import (
    NavigationParams,
    NavigationState,
    Navigator,
    ObservationBuilder,
    planar_mount,
)
from perception_nodes.core.safety import RobotFootprint, SafetyLayer
from perception_nodes.core.types import LaserRanges, VelocityCommand
import pytest

PARAMS = NavigationParams(sectors=60)
STRAIGHT_ON = VelocityCommand(1.0, 0.0)


class Wanting:
    """A policy that always wants the same."""

    def __init__(self, command):
        self.command = command

    def act(self, observation, state):
        return self.command, (state or 0) + 1


def scan_of(ranges, first=-math.pi, step=None, near=0.1, far=10.0):
    ranges = np.asarray(ranges, np.float32)
    step = 2.0 * math.pi / len(ranges) if step is None else step
    return LaserRanges(ranges, first, step, near, far, 0, 'laser')


def mount(x=0.0, y=0.0, yaw=0.0, upside_down=False):
    c, s = math.cos(yaw), math.sin(yaw)
    out = np.eye(4)
    flip = -1.0 if upside_down else 1.0
    out[:3, :3] = [[c, -s * flip, 0.0], [s, c * flip, 0.0], [0.0, 0.0, flip]]
    out[:2, 3] = x, y
    return out


def observed(scan, base_from_laser=None, params=PARAMS, goal=(3.0, 4.0)):
    builder = ObservationBuilder(params)
    builder.add(scan, mount() if base_from_laser is None else base_from_laser)
    return builder.observe(goal, VelocityCommand())


def sector_of(degrees, params=PARAMS):
    return int((degrees / 360.0 + 0.5) * params.sectors)


def test_ranges_follow_rep_117():
    """NaN is unseen, +inf is free to the end of the range, -inf is as near as can be."""
    ranges = np.full(60, np.inf)
    ranges[[10, 20, 30, 40]] = np.nan, -np.inf, 2.0, 0.05  # the last is below range_min
    seen = observed(scan_of(ranges, first=-math.pi + math.pi / 60)).ranges_m[0]
    assert np.isnan(seen[[10, 40]]).all()
    assert seen[20] == pytest.approx(0.1)
    assert seen[30] == pytest.approx(2.0)
    assert seen[5] == PARAMS.reach_m
    vector = observed(scan_of(ranges, first=-math.pi + math.pi / 60)).vector()
    assert vector[10] == -1.0
    assert vector[5] == 1.0
    assert vector[60:63].tolist() == pytest.approx([0.5, 0.6, 0.8])


@pytest.mark.parametrize(('base_from_laser', 'beam_deg', 'x', 'y'), [
    (mount(yaw=math.pi / 2.0), 0.0, 0.0, 2.0),
    (mount(x=0.3), 0.0, 2.3, 0.0),
    (mount(upside_down=True), 90.0, 0.0, -2.0),
    (mount(x=0.1, yaw=math.radians(30.0), upside_down=True), 30.0, 2.1, 0.0)])
def test_mount_of_the_laser_is_heeded(base_from_laser, beam_deg, x, y):
    ranges = np.full(360, np.nan)
    ranges[180 + round(beam_deg)] = 2.0
    seen = observed(scan_of(ranges), base_from_laser)
    assert np.allclose(seen.points_m, [[x, y]], atol=1e-6)
    nearest = np.nanargmin(seen.ranges_m[0])
    # these directions lie on the edge of two sectors
    assert nearest in (sector_of(math.degrees(math.atan2(y, x)) + side) for side in (-1.0, 1.0))
    assert seen.ranges_m[0, nearest] == pytest.approx(math.hypot(x, y))


def test_bad_scans_and_mounts_are_refused():
    with pytest.raises(ValueError, match='must be finite and within one turn'):
        observed(scan_of(np.ones(10), step=math.nan))
    with pytest.raises(ValueError, match='must be finite and within one turn'):
        observed(scan_of(np.ones(360), step=math.radians(10.0)))
    leaning = np.eye(4)
    leaning[:3, :3] = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match='leans by 90 degrees'):
        planar_mount(leaning)
    with pytest.raises(ValueError, match='must be positive'):
        RobotFootprint(0.3, 0.0, 0.2)


def test_scans_are_stacked_newest_first():
    params = NavigationParams(stacked_scans=3)
    builder = ObservationBuilder(params)
    for distance in (1.0, 2.0):
        builder.add(scan_of(np.full(90, distance)), mount())
    seen = builder.observe((1.0, 0.0), VelocityCommand()).ranges_m
    assert seen[:, 30].tolist() == pytest.approx([2.0, 1.0, 1.0])


def ahead_wall(distance):
    """Return points of a wall across the way, as a dense scan sees them."""
    y = np.arange(-2.0, 2.0, 0.02)
    return np.stack([np.full(len(y), distance), y], axis=1)


def test_limits_are_kept():
    """A command grows by the acceleration of one period, to the limit."""
    layer, sent = SafetyLayer(PARAMS), []
    for _ in range(8):
        sent.append(layer.guard(VelocityCommand(9.0, 0.0), np.empty((0, 2)),
                                sent[-1].command if sent else VelocityCommand()))
    speeds = [out.command.linear_mps for out in sent]
    assert speeds == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.0])
    assert sent[0].reason == 'limits of the robot'


def test_it_stops_where_it_is_told_nothing_good():
    layer = SafetyLayer(PARAMS)
    for kwargs, reason in (({'age_ms': 501.0}, 'inputs are 501 ms old'),
                           ({'age_ms': math.nan}, 'inputs are nan ms old')):
        out = layer.guard(STRAIGHT_ON, np.empty((0, 2)), VelocityCommand(), **kwargs)
        assert out.command == VelocityCommand()
        assert out.reason.startswith(reason)
    out = layer.guard(VelocityCommand(math.nan, 0.0), np.empty((0, 2)), VelocityCommand())
    assert out.reason == 'the command of the policy is not finite'
    out = layer.guard(STRAIGHT_ON, np.empty((0, 2)), VelocityCommand(math.inf, 0.0))
    assert out.reason == 'the measured velocity is not finite'


def test_it_comes_to_rest_before_a_wall():
    """At full speed towards a wall the robot ends at the margin, not before 0.1 m of it."""
    layer, x, v = SafetyLayer(PARAMS), 0.0, 0.0
    for _ in range(100):
        v = layer.guard(STRAIGHT_ON, ahead_wall(4.0 - x), VelocityCommand(v, 0.0)
                        ).command.linear_mps
        x += 0.1 * v
    gap = 4.0 - x - PARAMS.footprint_front_m
    assert PARAMS.margin_m - 1e-3 <= gap < 0.15
    # it may leave backwards, and turn away is no hit either
    assert layer.guard(VelocityCommand(-0.3, 0.0), ahead_wall(4.0 - x),
                       VelocityCommand()).command.linear_mps < 0.0


def test_a_disc_turns_where_a_square_would_hit():
    """Beside a wall at a hand's breadth the square may not turn on the spot, the disc may."""
    wall = np.stack([np.linspace(-1.0, 1.0, 81), np.full(81, 0.28)], axis=1)
    turn = VelocityCommand(0.0, 0.5)
    sides = {f'footprint_{side}_m': 0.21 for side in ('front', 'rear', 'half_width')}
    for corner_m, is_free in ((0.0, False), (0.1, False), (0.21, True)):
        layer = SafetyLayer(NavigationParams(**sides, footprint_corner_m=corner_m))
        yaw = 0.0
        for k in range(30):
            c, s = math.cos(yaw), math.sin(yaw)
            w = layer.guard(turn, wall @ np.array([[c, -s], [s, c]]), VelocityCommand(),
                            odom_from_base=(0.0, 0.0, yaw), time_s=0.1 * k).command.angular_rps
            yaw += 0.1 * w
        assert (yaw > 1.4) == is_free, corner_m


def test_rounded_footprints():
    with pytest.raises(ValueError, match=r'radius of 0\.3 m; it must be between 0 and 0\.2 m'):
        RobotFootprint(0.4, 0.4, 0.2, 0.3)
    disc = np.array(RobotFootprint(0.3, 0.3, 0.3, 0.3).outline_m())
    assert np.hypot(*disc.T) == pytest.approx(0.3)
    assert np.array(RobotFootprint(0.4, 0.3, 0.2).outline_m()) == pytest.approx(
        np.array([(0.4, 0.2), (-0.3, 0.2), (-0.3, -0.2), (0.4, -0.2), (0.4, 0.2)]))


def test_a_leg_that_falls_between_beams_is_remembered():
    """One scan in eight shows it: the robot stops, and goes on a second after the last one."""
    layer, x, v, leg = SafetyLayer(PARAMS), 0.0, 0.0, np.array([[2.0, 0.0]])
    for k in range(60):
        seen = leg - (x, 0.0) if k % 8 == 0 else np.empty((0, 2))
        v = layer.guard(STRAIGHT_ON, seen, VelocityCommand(v, 0.0), odom_from_base=(x, 0.0, 0.0),
                        time_s=0.1 * k).command.linear_mps
        x += 0.1 * v
    assert 2.0 - x - PARAMS.footprint_front_m >= PARAMS.margin_m - 1e-3
    assert x > 1.0
    out = [layer.guard(STRAIGHT_ON, np.empty((0, 2)), VelocityCommand(),
                       odom_from_base=(x, 0.0, 0.0), time_s=5.6 + t).command.linear_mps
           for t in (0.9, 1.1)]
    assert out[0] < 0.05 < out[1]


def test_a_robot_that_cannot_stop_in_time_keeps_as_far_away_as_it_can():
    """Too fast and too near: turning aside would touch the post, so it brakes straight."""
    layer = SafetyLayer(NavigationParams(latency_ms=0.0, lag_ms=0.0))
    post = np.array([[0.42, 0.25]])  # beside the way
    out = layer.guard(VelocityCommand(1.0, 2.0), post, VelocityCommand(1.0, 0.0))
    assert out.command.linear_mps == 0.0
    assert abs(out.command.angular_rps) < 1e-9 or out.command.angular_rps < 0.0


def test_nothing_drives_ahead_where_it_does_not_see():
    out = SafetyLayer(PARAMS).guard(
        STRAIGHT_ON, np.empty((0, 2)), VelocityCommand(), sees_ahead=False)
    assert out.command.linear_mps == 0.0
    assert out.reason == 'not ahead: the scan does not show what is there'


def test_nothing_backs_off_where_it_does_not_see():
    out = SafetyLayer(PARAMS).guard(
        VelocityCommand(-0.3, 0.0), np.empty((0, 2)), VelocityCommand(), sees_behind=False)
    assert out.command.linear_mps == 0.0


def test_states():
    """Moving until the goal is reached; stale stops and goes on; a new goal begins anew."""
    navigator = Navigator(Wanting(STRAIGHT_ON), PARAMS)
    free = observed(scan_of(np.full(360, np.inf)), goal=(3.0, 0.0))
    step = navigator.step(free, 0.0)
    assert step.state is NavigationState.MOVING
    assert step.command.linear_mps > 0.0
    stale = navigator.step(free, 0.1, age_ms=900.0)
    assert stale.state is NavigationState.STALE
    assert stale.command == VelocityCommand()
    assert '900 ms old' in stale.reason
    assert navigator.step(free, 0.2).state is NavigationState.MOVING
    there = observed(scan_of(np.full(360, np.inf)), goal=(0.1, 0.1))
    assert navigator.step(there, 0.3).state is NavigationState.REACHED
    assert navigator.step(free, 0.4).command == VelocityCommand()
    navigator.start()
    assert navigator.step(free, 0.5).state is NavigationState.MOVING


def test_a_stuck_robot_tries_and_gives_up():
    """Recoveries move within the limits, take turns, and end in the state blocked."""
    params = NavigationParams(recoveries=3, stuck_after_s=1.0, recovery_s=1.0)
    navigator = Navigator(Wanting(VelocityCommand()), params)
    free = observed(scan_of(np.full(360, np.inf)), params=params)
    moves, states = set(), []
    for k in range(150):
        step = navigator.step(free, 0.1 * k)
        states.append(step.state)
        moves.add((np.sign(step.command.linear_mps), np.sign(step.command.angular_rps)))
    assert {(-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)} <= moves
    assert states[40] is NavigationState.MOVING
    assert states[-1] is NavigationState.BLOCKED
    assert navigator.step(free, 20.0).reason == 'no way out was found'
