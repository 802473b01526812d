"""The navigation environment: exact shapes, the same episode again, what Gymnasium asks for."""

from dataclasses import replace

from gymnasium.utils.env_checker import check_env
import numpy as np
from perception_nodes.core.navigation import NavigationParams, ObservationBuilder
from perception_nodes.core.navigation_rules import commands_of
from perception_nodes.core.types import VelocityCommand
from perception_nodes.sim import navigation_kernels as kernels
from perception_nodes.sim.navigation_batch import RobotBatch, SensorParams
from perception_nodes.sim.navigation_env import (
    NavigationEnv,
    NavigationEnvParams,
    NavigationVectorEnv,
)
from perception_nodes.sim.navigation_worlds import (
    automaton,
    FILLS,
    KINDS,
    lattice_world,
    make_navigation_world,
    NavigationWorld,
    Person,
    SMOOTHINGS,
)
import pytest

ROBOT = NavigationParams(sectors=60)
EXACT = SensorParams(level=0.0)
FEW = NavigationEnvParams(worlds=1)


def world(posts=(), walls=(), goal=(8.0, 0.0), people=()):
    return NavigationWorld(
        'test', np.array(posts, float).reshape(-1, 3), np.array(walls, float).reshape(-1, 4),
        (0.0, 0.0, 0.0), goal, 0.5, people)


def batch_of(one, sensor=EXACT, robot=ROBOT):
    batch = RobotBatch([one], robot, sensor, 1, 60.0)
    batch.place(0, 0, np.random.default_rng(0), start=one.start)
    return batch


def drive(batch, v, w, steps):
    for _ in range(steps):
        batch.advance(np.array([0]), np.array([[v, w]]))
        if batch.outcomes[0] != kernels.RUNNING:
            break
    return int(batch.outcomes[0])


def test_ranges_are_exact():
    """Beams end on a thin leg and on a wall aslant where geometry says."""
    sensor = SensorParams(level=0.0, beams=360, laser_yaw_deg=0.5)
    batch = batch_of(world([(2.0, 0.0, 0.01)], [(-1.0, 3.0, 3.0, -1.0 - 2.0)]), sensor)
    scan = batch.scan(0)
    angles = scan.angles_rad + np.radians(0.5)
    # the wall lies on x + (4/6) y = 1, which is 3x + 2y = 3
    expected = 3.0 / (3.0 * np.cos(angles) + 2.0 * np.sin(angles))
    at = np.stack([expected * np.cos(angles), expected * np.sin(angles)], axis=1)
    hits = (expected > 0.0) & (at[:, 0] >= -1.0) & (at[:, 0] <= 3.0) & (expected < 10.0)
    assert np.allclose(scan.ranges_m[hits], expected[hits], atol=1e-5)
    assert np.isinf(scan.ranges_m[~hits]).all()
    leg = batch_of(world([(2.0, 0.0, 0.01)]), sensor).scan(0).ranges_m
    ahead = np.argmin(np.abs(angles))
    assert leg[ahead] == pytest.approx(1.99, abs=1e-5)
    assert np.isinf(np.delete(leg, ahead)).all()


def test_footprint_is_a_rectangle():
    """A robot passes 1 cm beside a post, and hits one that the corner reaches, not the circle."""
    half_width, front = ROBOT.footprint_half_width_m, ROBOT.footprint_front_m
    assert drive(batch_of(world([(2.0, half_width + 0.11, 0.1)])), 1.0, 0.0, 40) == kernels.RUNNING
    hit = batch_of(world([(2.0, half_width + 0.09, 0.1)]))
    assert drive(hit, 1.0, 0.0, 40) == kernels.COLLIDED
    # the corner leads the post's middle line by a known chord
    chord = np.sqrt(0.1 ** 2 - 0.09 ** 2)
    assert hit.robots.pose[0, 0] + front == pytest.approx(2.0 - chord, abs=0.03)
    # turning on the spot: only the corners reach a wall at 0.3 m
    turning = batch_of(world(walls=[(-2.0, 0.3, 2.0, 0.3)]))
    assert drive(turning, 0.0, 1.0, 40) == kernels.COLLIDED
    yaw = turning.robots.pose[0, 2]
    assert front * np.sin(yaw) + half_width * np.cos(yaw) == pytest.approx(0.3, abs=0.01)


def test_round_corners_touch_what_a_sampled_outline_touches():
    """Posts and walls at random: all but touching ones are judged as by points of the body."""
    rng = np.random.default_rng(0)
    judged = {True: 0, False: 0}
    for _ in range(300):
        front, rear, side = rng.uniform(0.15, 0.4, 3)
        corner = rng.uniform(0.0, 1.0) * min(front, rear, side)
        x, y, yaw = *rng.uniform(-0.5, 0.5, 2), rng.uniform(-np.pi, np.pi)
        post, wall = (*rng.uniform(-1.0, 1.0, 2), 0.1), rng.uniform(-1.5, 1.5, 4)
        is_wall = rng.random() < 0.5
        batch = batch_of(world(walls=[wall]) if is_wall else world([post]))
        outside = rounded_distances(
            points_of(wall) if is_wall else np.array([post[:2]]), (x, y, yaw),
            (front, rear, side, corner)).min() - (0.0 if is_wall else post[2])
        if abs(outside) < 2e-3:  # between two samples
            continue
        hit = kernels.collides(
            batch.packed, 0, x, y, yaw, np.array([front, rear, side, corner]))
        assert hit == (outside < 0.0)
        judged[bool(hit)] += 1
    assert min(judged.values()) > 50


def points_of(wall):
    share = np.linspace(0.0, 1.0, 2000)[:, None]
    return wall[:2] + share * (wall[2:] - wall[:2])


def rounded_distances(points, pose, body):
    """Return how far points are from a body: from the inner rectangle, less the corners."""
    x, y, yaw = pose
    front, rear, side, corner = body
    dx, dy = (points - (x, y)).T
    ahead, aside = np.cos(yaw) * dx + np.sin(yaw) * dy, np.cos(yaw) * dy - np.sin(yaw) * dx
    inner_x = np.clip(ahead, corner - rear, front - corner)
    inner_y = np.clip(aside, corner - side, side - corner)
    return np.hypot(ahead - inner_x, aside - inner_y) - corner


def test_robots_are_drawn_as_different_as_told():
    sensor = SensorParams(footprint_share=0.25, round_share=0.5, limits_share=0.4)
    batch = RobotBatch([world()], ROBOT, sensor, 200, 60.0)
    for row in range(200):
        batch.place(row, 0, np.random.default_rng(row))
    body, limits = batch.robots.body, batch.robots.limits
    is_round = body[:, 3] > 0.0
    assert 70 < is_round.sum() < 130
    assert np.ptp(body[is_round], axis=1).max() == 0.0
    shares = body[~is_round, :3] / ROBOT.footprint.numbers[:3]
    assert 0.75 <= shares.min() < 0.8 and 1.2 < shares.max() <= 1.25
    shares = limits / ROBOT.limits.numbers
    assert 0.6 <= shares.min() < 0.65 and 1.35 < shares.max() <= 1.4


def test_drive_ends_at_the_goal_or_in_time():
    """A metre per second needs about the distance in seconds; standing runs out of time."""
    reached = batch_of(world(goal=(4.5, 0.0)))
    assert drive(reached, 1.0, 0.0, 100) == kernels.REACHED
    assert reached.robots.time_s[0] == pytest.approx(4.0 + 1.0 / (2 * ROBOT.max_linear_mps2),
                                                     abs=0.11)
    assert drive(batch_of(world()), 0.0, 0.0, 700) == kernels.TIMED_OUT


def test_latency_delays_commands():
    """With 0.1 s of latency nothing moves in the first period, and everything one later."""
    robot = NavigationParams()
    now, late = batch_of(world(), robot=robot), batch_of(world(), robot=robot)
    late.robots.delays_s[0, 0] = 0.1
    drive(now, 1.0, 0.0, 5)
    drive(late, 1.0, 0.0, 1)
    assert late.robots.pose[0, 0] == 0.0
    drive(late, 1.0, 0.0, 5)
    assert late.robots.pose[0, 0] == pytest.approx(now.robots.pose[0, 0])


def test_people_walk_and_wait():
    """Someone walks to and fro past a robot far away, and stops in front of one in the way."""
    person = Person((3.0, -2.0), (3.0, 2.0), 1.0)
    far = batch_of(world(people=(person,)))
    seen = []
    for _ in range(41):
        drive(far, 0.0, 0.0, 1)
        seen.append(far.robots.walked[0, 0, 0])
    assert max(seen) == pytest.approx(4.0, abs=0.05)
    assert seen[-1] < max(seen)
    near = batch_of(world(people=(Person((3.0, 0.0), (-3.0, 0.0), 1.0),)))
    assert drive(near, 0.0, 0.0, 60) == kernels.RUNNING
    assert near.robots.walked[0, 0, 0] == pytest.approx(3.0 - 0.75 - 0.254, abs=0.05)
    # and the scan shows the person at that distance
    assert near.scan(0).ranges_m.min() == pytest.approx(0.75 + 0.254 - 0.25, abs=0.05)


def test_ways_left_lead_around_walls():
    """Behind a long wall the way to the goal is longer than the straight line; in the open not."""
    batch = batch_of(world(walls=[(2.0, -3.0, 2.0, 3.0)], goal=(4.0, 0.0)))
    assert batch.remaining_m(np.array([0]))[0] > 2 * np.hypot(3.0, 2.0) - 0.3
    open_ground = batch_of(world(goal=(4.0, 0.0)))
    assert open_ground.remaining_m(np.array([0]))[0] == pytest.approx(4.0, abs=0.11)


def test_strata_are_balanced_and_splits_disjoint():
    """Twelve seeds have every fill and smoothing once, even where draws are refused."""
    rng = np.random.default_rng(0)
    denser = [np.mean([automaton(rng, fill, 3)[1:-1].mean() for _ in range(30)])
              for fill in FILLS]
    assert denser == sorted(denser)
    posts = [len(make_navigation_world('cellular', 'train', seed).posts) for seed in range(48)]
    by_fill = np.array(posts).reshape(4, len(SMOOTHINGS), len(FILLS)).mean(axis=(0, 1))
    assert (np.diff(by_fill) > 0).all()
    for kind in KINDS:
        one, two = (make_navigation_world(kind, split, 0) for split in ('train', 'test'))
        assert one.posts.shape != two.posts.shape or not np.array_equal(one.posts, two.posts)
    with pytest.raises(ValueError, match="no kind of world 'maze'; there are cellular"):
        make_navigation_world('maze', 'train', 0)


def test_lattice_lies_where_the_challenge_has_it():
    occupied = np.zeros((30, 30), bool)
    occupied[3, 7] = True
    posts = lattice_world(occupied, 'one').posts
    assert np.allclose(posts[0], (-4.425 + 0.45, 5.175 + 1.05, 0.075))
    assert posts[1:, 1].max() < 5.1


def test_same_seed_same_episode():
    """Bit for bit, alone or among others."""
    many, one = NavigationVectorEnv(4, FEW), NavigationEnv(FEW)
    actions = np.random.default_rng(1).uniform(-1.0, 1.0, (60, 2)).astype(np.float32)
    first = many.reset(seed=5)[0]
    again, _ = one.reset(seed=7)
    assert np.array_equal(first[2], again)
    for k, action in enumerate(actions):
        others = np.roll(np.tile(action, (4, 1)), k)
        others[2] = action
        observed, rewards, ended, cut, infos = many.step(others)
        single = one.step(action)
        if ended[2] or cut[2]:
            assert np.array_equal(infos['final_obs'][2], single[0])
            single = (one.reset()[0], *single[1:])
        assert np.array_equal(observed[2], single[0])
        assert rewards[2] == single[1]


def test_gymnasium_accepts_it():
    check_env(NavigationEnv(FEW), skip_render_check=True)


def test_observation_is_the_builders():
    """What the environment shows is what the node would build from the scan."""
    robot = NavigationParams(sectors=24, stacked_scans=3)
    sensor = SensorParams(beams=90, field_of_view_deg=270.0, laser_x_m=0.1, laser_yaw_deg=30.0)
    batch = RobotBatch([make_navigation_world('room', 'train', 1)], robot, sensor, 2, 60.0)
    for row in range(2):
        batch.place(row, 0, np.random.default_rng(row))
    builder = ObservationBuilder(robot)
    builder.add(batch.scan(1), batch.base_from_laser)
    for _ in range(4):
        batch.advance(np.arange(2), np.array([[0.5, 0.3], [0.4, -0.2]]))
        builder.add(batch.scan(1), batch.base_from_laser)
    distance, bearing = batch.goals[1]
    built = builder.observe((distance * np.cos(bearing), distance * np.sin(bearing)),
                            VelocityCommand(*batch.robots.twist[1].tolist()))
    assert np.allclose(built.vector(), batch.observations()[1], atol=1e-6)
    assert np.isnan(built.ranges_m).any()  # 90 degrees are not seen


def test_depth_camera_sees_87_degrees():
    batch = batch_of(world(walls=[(3.0, -9.0, 3.0, 9.0)]), replace(EXACT, sensor='depth'))
    seen = np.isfinite(batch.sectors_m[0, 0])
    assert 60 * 87 / 360 <= seen.sum() <= 60 * 87 / 360 + 2  # those at the edges in part
    assert not batch.guard(np.array([0]), np.array([[-0.3, 0.0]]))[0, 0] < 0.0


def test_actions_span_the_limits():
    speeds = commands_of(np.array([[-1.0, -1.0], [1.0, 3.0]]), ROBOT.limits)
    assert np.allclose(speeds, [[-0.3, -2.0], [1.0, 2.0]])
