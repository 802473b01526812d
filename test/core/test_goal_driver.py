"""Goals, plans and inputs that arrive at their own pace, late, broken or not at all."""

import math

import numpy as np
from perception_nodes.core.dynamic_window import DynamicWindow
from perception_nodes.core.goal_driver import (
    ahead_on,
    GoalDriver,
    GoalDriverParams,
    OdometryReading,
    passed_on,
    Route,
    warm_up,
)
from perception_nodes.core.navigation import NavigationState
from perception_nodes.core.transforms import TransformBuffer
from perception_nodes.core.types import LaserRanges, StampedTransform, VelocityCommand
import pytest

MS = 1_000_000
PARAMS = GoalDriverParams()
LEVEL = (0.0, 0.0, 0.0, 1.0)


class Wanting:
    """A policy that always wants the same, and remembers what it saw."""

    def __init__(self, command):
        self.command, self.seen = command, []

    def act(self, observation, state):
        self.seen.append(observation)
        return self.command, None


class Robot:
    """A driver with inputs that the test moves on."""

    def __init__(self, policy=None, params=PARAMS):
        self.transforms = TransformBuffer()
        self.transforms.add(
            [StampedTransform('base_link', 'laser', 0, (0.1, 0.0, 0.2), LEVEL)], static=True)
        self.policy = policy or Wanting(VelocityCommand(0.5, 0.0))
        self.driver = GoalDriver(self.policy, params, self.transforms)
        self.now_ns = 10**9

    def scan(self, ranges=math.inf, stamp_ns=None, frame='laser'):
        ranges = np.broadcast_to(np.asarray(ranges, np.float32), 360).copy()
        self.driver.take_scan(LaserRanges(
            ranges, -math.pi, math.radians(1.0), 0.05, 10.0,
            self.now_ns if stamp_ns is None else stamp_ns, frame))

    def odometry(self, x=0.0, stamp_ns=None, speed=0.0):
        self.driver.take_odometry(OdometryReading(
            StampedTransform('odom', 'base_link', self.now_ns if stamp_ns is None else stamp_ns,
                             (x, 0.0, 0.0), LEVEL), VelocityCommand(speed, 0.0)))

    def map_from_odom(self, x, stamp_ns=None):
        self.transforms.add([StampedTransform(
            'map', 'odom', self.now_ns if stamp_ns is None else stamp_ns, (x, 0.0, 0.0), LEVEL)])

    def goal(self, x=3.0, y=0.0, frame='odom'):
        self.driver.send(Route(np.array([[x, y, 0.0]]), frame))

    def step(self):
        return self.driver.step(self.now_ns)

    def ready(self):
        self.scan()
        self.odometry()
        self.goal()
        return self


def test_states_from_idle_to_cancelled():
    robot = Robot()
    assert robot.step().state is NavigationState.IDLE
    robot.ready()
    step = robot.step()
    assert step.state is NavigationState.MOVING
    assert step.command.linear_mps > 0.0
    assert robot.driver.cancel('enough')
    step = robot.step()
    assert (step.state, step.reason) == (NavigationState.CANCELLED, 'enough')
    assert step.command == VelocityCommand()
    assert not robot.driver.cancel('nothing to cancel')


@pytest.mark.parametrize(('input_', 'after_ms', 'sentence'), [
    ('scan', 600, 'the newest scan is 600 ms old, more than 500 ms'),
    ('odometry', 600, 'the newest odometry is 600 ms old, more than 500 ms'),
    ('scan', -600, 'the newest scan is stamped 600 ms in the future'),
    ('odometry', -600, 'the newest odometry is stamped 600 ms in the future')])
def test_an_input_that_does_not_come_stops_the_robot(input_, after_ms, sentence):
    """The goal is kept: the robot goes on when the input is back."""
    robot = Robot().ready()
    robot.step()
    robot.now_ns += after_ms * MS
    getattr(robot, {'scan': 'odometry', 'odometry': 'scan'}[input_])()
    step = robot.step()
    assert step.state is NavigationState.STALE
    assert step.command == VelocityCommand()
    assert step.reason.startswith(sentence)
    getattr(robot, input_)()
    assert robot.step().state is NavigationState.MOVING


def test_a_robot_that_has_arrived_needs_no_inputs():
    """It stays there, whatever its sensors do, and nothing is left to cancel."""
    robot = Robot().ready()
    robot.goal(0.1)
    assert robot.step().state is NavigationState.REACHED
    robot.now_ns += 10_000 * MS
    assert robot.step().state is NavigationState.REACHED
    assert robot.driver.halt('held up').state is NavigationState.REACHED
    assert not robot.driver.cancel('')


def test_inputs_that_never_came_are_named():
    robot = Robot()
    robot.goal()
    assert robot.step().reason == 'no scan has arrived'
    robot.driver.refuse('scan', 'its angles are wrong')
    assert robot.step().reason == 'no scan has arrived; its angles are wrong'
    robot.scan()
    assert robot.step().reason == 'no odometry has arrived'


def test_a_scan_without_readings_is_no_free_way():
    """All NaN stops; NaN ahead lets turn, not drive; +inf is free."""
    robot = Robot().ready()
    robot.scan(np.nan)
    step = robot.step()
    assert step.state is NavigationState.STALE
    assert step.reason == 'the newest scan shows nothing: none of its 360 beams has a reading'
    ranges = np.full(360, np.inf)
    ranges[150:210] = np.nan
    robot.scan(ranges)
    step = robot.step()
    assert step.state is NavigationState.MOVING
    assert step.command.linear_mps == 0.0
    assert step.reason == 'not ahead: the scan does not show what is there'
    robot.scan(np.inf)
    assert robot.step().command.linear_mps > 0.0


def test_goals_in_frames_that_move_or_are_not_known():
    """Unknown: said, kept, driven to once the frame appears; then it moves with its frame."""
    robot = Robot().ready()
    robot.goal(3.0, frame='map')
    step = robot.step()
    assert step.state is NavigationState.NO_TRANSFORM
    assert "nobody publishes frame 'map'" in step.reason
    assert step.command == VelocityCommand()
    robot.map_from_odom(1.0)
    assert robot.step().state is NavigationState.MOVING
    assert robot.driver.distance_m == pytest.approx(2.0)
    robot.now_ns += 100 * MS
    robot.map_from_odom(0.5)
    robot.odometry()
    robot.step()
    assert robot.driver.distance_m == pytest.approx(2.5)
    robot.now_ns += 600 * MS
    robot.scan()
    robot.odometry()
    step = robot.step()
    assert step.state is NavigationState.STALE
    assert step.reason.startswith("the newest transform from 'map' to 'odom' is 600 ms old")


@pytest.mark.parametrize(('ahead_ms', 'state'), [
    (1000, NavigationState.MOVING), (2100, NavigationState.STALE)])
def test_localisation_stamps_its_transform_ahead(ahead_ms, state):
    """AMCL's transform_tolerance is 1 s; what is far ahead is of another clock."""
    robot = Robot().ready()
    robot.map_from_odom(1.0, robot.now_ns + ahead_ms * MS)
    robot.goal(3.0, frame='map')
    step = robot.step()
    assert step.state is state
    assert ('in the future' in step.reason) == (state is NavigationState.STALE)


def test_the_distance_to_a_goal_is_never_that_of_the_last_one():
    robot = Robot().ready()
    robot.step()
    assert robot.driver.distance_m == pytest.approx(3.0)
    robot.goal(3.0, frame='nowhere')
    assert "no transform from 'nowhere' to 'odom': nobody" in robot.step().reason
    assert math.isnan(robot.driver.distance_m)


def test_a_laser_that_leans_or_is_nowhere():
    robot = Robot().ready()
    robot.scan(frame='mast')
    assert robot.step().state is NavigationState.NO_TRANSFORM
    half = math.sqrt(0.5)
    robot.transforms.add([StampedTransform(
        'base_link', 'mast', 0, (0.0, 0.0, 1.0), (0.0, half, 0.0, half))], static=True)
    step = robot.step()
    assert step.state is NavigationState.STALE
    assert 'leans by 90 degrees' in step.reason


def test_a_scan_is_moved_to_where_the_robot_is_now():
    """A wall at 2 m, and 0.4 m driven since: 1.6 m."""
    robot = Robot().ready()
    ranges = np.full(360, np.inf)
    ranges[180] = 1.9  # from the laser, which is 0.1 m ahead
    robot.scan(ranges)
    for _ in range(4):
        robot.now_ns += 50 * MS
        robot.odometry(x=0.1 * (robot.now_ns / MS - 1000) / 50)
        robot.step()
    assert np.allclose(robot.driver.observation.points_m, [[1.6, 0.0]], atol=1e-6)
    # twice as many commands as decisions, which come as in training
    assert len(robot.policy.seen) == 2


def test_time_that_jumps_ends_the_drive():
    robot = Robot().ready()
    robot.step()
    robot.driver.reset('time jumped back')
    step = robot.step()
    assert (step.state, step.reason) == (NavigationState.CANCELLED, 'time jumped back')
    robot.goal()
    assert robot.step().reason == 'no scan has arrived'


def test_a_goal_inside_an_obstacle_ends_blocked():
    """The robot tries to get there, gives up, and says what is there."""
    params = GoalDriverParams(stuck_after_s=0.5, recovery_s=0.2, recoveries=1)
    robot = Robot(Wanting(VelocityCommand()), params)
    ranges = np.full(360, np.inf)
    ranges[160:200] = 1.5
    robot.goal(1.6)
    for _ in range(60):
        robot.now_ns += 50 * MS
        robot.scan(ranges)
        robot.odometry()
        step = robot.step()
    assert step.state is NavigationState.BLOCKED
    assert step.reason == 'no way out was found: the goal lies in an obstacle, or at one'
    robot.goal(0.0, 2.0)
    assert robot.step().state is NavigationState.MOVING


def test_a_plan_is_followed_by_a_point_ahead_on_it():
    """Once around a corner: the aim lies on the plan, a metre ahead, and moves on."""
    corner = [(0.2 * i, 0.0, 0.0) for i in range(11)] + [(2.0, 0.2 * i, 0.0) for i in range(1, 11)]
    robot = Robot().ready()
    robot.driver.send(Route(np.array(corner), 'odom'))
    robot.step()
    assert robot.driver.observation.goal_xy_m == pytest.approx((1.0, 0.0), abs=1e-6)
    robot.now_ns += 200 * MS
    robot.odometry(x=1.5)
    robot.scan()
    robot.step()
    x, y = robot.driver.observation.goal_xy_m
    assert x == pytest.approx(0.5)
    assert y == pytest.approx(1.0)
    assert robot.driver.distance_m == pytest.approx(math.hypot(0.5, 2.0))


def test_a_plan_that_crosses_itself_is_driven_in_its_order():
    """At the crossing, the stretch that was driven counts, not the nearest point of all."""
    angles = np.linspace(0.0, 2.0 * math.pi, 200)
    eight = np.stack([3.0 * np.sin(angles), 3.0 * np.sin(2.0 * angles)], axis=1)
    passed = 0
    for i in range(0, 200, 4):
        passed = passed_on(eight, eight[i], passed)
        assert passed == i
        ahead = ahead_on(eight, eight[i], passed, 0.5)
        assert i <= ahead <= i + 12
    assert ahead_on(eight, eight[-1], 199, 0.5) == 199


def test_a_plan_that_is_only_made_anew_keeps_the_policys_memory():
    """Planners send the same way every second; the policy and recovery go on."""
    robot = Robot().ready()
    way = np.array([(0.5 * i, 0.0, 0.0) for i in range(7)])
    starts = []
    start = robot.driver._navigator.start
    robot.driver._navigator.start = lambda: (starts.append(1), start())
    robot.driver.send(Route(way, 'odom'))
    robot.driver.send(Route(way[1:] + (0.0, 0.01, 0.0), 'odom'))
    assert len(starts) == 1
    robot.driver.send(Route(way + (0.0, 2.0, 0.0), 'odom'))
    assert len(starts) == 2


@pytest.mark.parametrize(('points', 'frame', 'sentence'), [
    ([], 'map', 'the plan has no poses'),
    ([(math.nan, 0.0, 0.0)], 'map', 'the goal has a position that is not finite'),
    ([(0.0, 0.0, 0.0)], '', 'the goal names no frame')])
def test_goals_that_are_none_are_refused(points, frame, sentence):
    with pytest.raises(ValueError, match=sentence):
        Route(np.array(points, np.float64).reshape(-1, 3), frame)


def test_odometry_that_is_none_is_refused():
    pose = StampedTransform('odom', 'base_link', 0, (0.0, 0.0, 0.0), LEVEL)
    with pytest.raises(ValueError, match='velocity nan m/s'):
        OdometryReading(pose, VelocityCommand(math.nan, 0.0))


def test_parameters_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="'plan_lookahead_m' is 0.2; it must be larger than"):
        GoalDriverParams(plan_lookahead_m=0.2)


def test_warming_up_asks_the_policy():
    policy = Wanting(VelocityCommand())
    warm_up(policy, PARAMS)
    assert len(policy.seen) == 1
    warm_up(DynamicWindow(), PARAMS)
