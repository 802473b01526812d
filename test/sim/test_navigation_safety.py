"""The safety layer against a policy that wants full speed ahead, whatever the scan shows."""

from collections import deque

import numpy as np
from perception_nodes.core.navigation import NavigationParams
from perception_nodes.sim import navigation_kernels as kernels
from perception_nodes.sim.navigation_batch import RobotBatch, SensorParams
from perception_nodes.sim.navigation_worlds import make_navigation_world
import pytest

PERIODS = 24
ROBOT = NavigationParams(max_linear_mps=2.0)
# as late, slow and noisy as the layer is told to expect, but no lost beams: what is not seen is
# not promised
SENSOR = SensorParams(beams=360, lost_beams=0.0, range_noise_m=0.01, round_share=0.3)


def random_states(count, seed):
    """Return robots anywhere in worlds of all static kinds, at speeds that they can still stop."""
    worlds = [make_navigation_world(kind, 'validation', seed + i)
              for i in range(4) for kind in ('cellular', 'clutter', 'room')]
    batch = RobotBatch(worlds, ROBOT, SENSOR, count, 1e9)
    rng = np.random.default_rng(seed)
    for row in range(count):
        world = int(rng.integers(len(worlds)))
        low, high = np.split(np.array(worlds[world].corners_m), 2)
        while True:
            pose = rng.uniform((*low, -np.pi), (*high, np.pi))
            if not kernels.collides(batch.packed, world, *pose, np.array([0.3, 0.3, 0.26, 0.0])):
                break
        batch.place(row, world, rng, start=tuple(pose))
    give_speeds(batch, rng)
    return batch


def give_speeds(batch, rng):
    """Set random speeds, and take those away again from which braking at once ends in a hit."""
    r, rows = batch.robots, np.arange(len(batch.outcomes))
    poses = r.pose.copy()
    twists = rng.uniform((-0.3, -2.0), (2.0, 2.0), (len(rows), 2))
    body = r.body.copy()
    r.body[:] += 0.06  # with the margin that the layer keeps
    r.twist[:] = twists
    r.sent[:] = twists[:, None]
    hit = np.zeros(len(rows), bool)
    for _ in range(30):
        kernels.advance(batch.packed, r, rows, np.zeros((len(rows), 2)), 0.1, 1e9, batch.outcomes)
        hit |= batch.outcomes == kernels.COLLIDED
    r.body[:], r.pose[:], r.odometry[:] = body, poses, poses
    r.twist[:] = np.where(hit[:, None], 0.0, twists)
    r.sent[:] = r.twist[:, None]
    batch.sense(rows)


def adversarial(batch, rng):
    """Return full speed ahead with any turn, and sometimes full speed back."""
    n = len(batch.outcomes)
    turns = rng.choice([-2.0, -0.5, 0.0, 0.5, 2.0], n)
    return np.stack([np.where(rng.random(n) < 0.9, 5.0, -5.0), turns], axis=1)


def drive(batch, seed):
    """Return who hit anything, who hit what it could know of, and the ways."""
    rng = np.random.default_rng(seed)
    n = len(batch.outcomes)
    hit, known, way = np.zeros(n, bool), np.zeros(n, bool), np.zeros(n)
    moments = deque(maxlen=10)
    for k in range(PERIODS):
        if k % 8 == 0:  # for a while in one direction, as a policy would
            wanted = adversarial(batch, rng)
        before, live = batch.robots.pose[:, :2].copy(), np.flatnonzero(~hit)
        moments.append(([state.copy() for state in batch.robots], batch.ranges_m.copy()))
        batch.advance(live, batch.guard(live, wanted))
        way += np.linalg.norm(batch.robots.pose[:, :2] - before, axis=1)
        for row in live[batch.outcomes[live] == kernels.COLLIDED].tolist():
            hit[row] = True
            known[row] = was_known(batch, row, moments)
    return hit, known, way


def was_known(batch, row, moments):
    """Return whether a scan of the last second showed the place when stopping still helped."""
    touched = touched_places(batch, row)
    return any(shows(batch, row, robots, ranges, touched) and could_stop(batch, row, robots)
               for robots, ranges in moments)


def touched_places(batch, row):
    """Return where on the outline of the robot the newest scan has returns."""
    body = batch.robots.body[row]
    touched = seen_from(batch, row, batch.robots.pose[row], batch.ranges_m[row])
    x, y, yaw = batch.robots.pose[row]
    c, s = np.cos(yaw), np.sin(yaw)
    dx, dy = (touched - (x, y)).T
    ahead, aside = c * dx + s * dy, c * dy - s * dx
    out = np.stack([np.maximum(ahead - body[0], -body[1] - ahead),
                    np.abs(aside) - body[2]]) + body[3]
    room = np.where((out > 0.0).all(axis=0), np.hypot(*out), out.max(axis=0)) - body[3]
    return touched[room < max(0.03, room.min(initial=np.inf) + 0.01)]


def shows(batch, row, robots, ranges, touched):
    """Return whether a scan has a return within 0.1 m of one of some places."""
    points = seen_from(batch, row, kernels.Robots(*robots).pose[row], ranges[row])
    apart = np.linalg.norm(points[:, None] - touched[None], axis=2)
    return apart.min(initial=np.inf) <= 0.1


def could_stop(batch, row, robots):
    """Return whether braking at once, as the robot was at that moment, ends without a hit."""
    robots = kernels.Robots(*(state.copy() for state in robots))
    outcomes = np.zeros(len(batch.outcomes), np.int64)
    stop = np.zeros((len(outcomes), 2))
    for _ in range(30):
        kernels.advance(batch.packed, robots, np.array([row]), stop, 0.1, 1e9, outcomes)
        if outcomes[row] == kernels.COLLIDED:
            return False
    return True


def seen_from(batch, row, pose, ranges):
    angles = batch.scan(row).angles_rad + pose[2]
    ends = np.stack([np.cos(angles), np.sin(angles)], axis=1) * ranges[:, None] + pose[:2]
    return ends[np.isfinite(ranges)]


@pytest.mark.parametrize('count', [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_an_adversarial_policy_never_hits_what_the_scan_shows(count):
    batch = random_states(count, 1)
    hit, known, way = drive(batch, 2)
    assert not known.any(), [
        (batch.worlds[batch.robots.world[i]].name, batch.robots.pose[i]) for i in
        np.flatnonzero(known)[:5]]
    # what stood behind something else until it was too late is no promise, but is rare
    assert hit.mean() < 0.005
    assert np.median(way) > 0.3  # it drives, it does not just stand


def test_without_the_layer_it_hits():
    """The test can fail: the same robots unguarded hit what the scans show."""
    batch = random_states(100, 1)
    batch.guard = lambda live, wanted: np.clip(wanted, -2.0, 2.0)
    hit, known, _ = drive(batch, 2)
    assert hit.mean() > 0.5
    assert known.mean() > 0.4
