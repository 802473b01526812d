"""
The loops of :mod:`perception_nodes.sim.navigation_env` over robots, beams and cells, compiled.

Obstacles are exact shapes, circles and segments, in a grid of buckets. Each robot has its own
generator of random numbers (splitmix64), so an episode does not depend on its neighbours.
"""

from typing import NamedTuple

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.navigation_kernels import approached, guarded, remember, see
from perception_nodes.core.rolling_map import descended

RUNNING, REACHED, COLLIDED, TIMED_OUT = range(4)
BUCKET_M = 0.3
FIELD_M = 0.1  # cells of distances to the goal

_SUBSTEP_S = 0.02
_PATIENCE_M = 0.75  # how near people come to the robot
_SMALL = 1e-12


class PackedWorlds(NamedTuple):
    """W worlds in arrays that compiled functions take."""

    shapes: npt.NDArray[np.float64]  # (P, 5): x, y, x, y of a segment and 0, or x, y, ., ., radius
    starts: npt.NDArray[np.int32]  # (T + 1,) first item of each bucket of all worlds
    items: npt.NDArray[np.int32]  # rows of shapes
    # (W, 5) x and y of the corner, buckets along x and y, number of the first
    grids: npt.NDArray[np.float64]
    fields: npt.NDArray[np.float32]  # distances to the goal, metres, of all cells
    field_grids: npt.NDArray[np.float64]  # (W, 5) as grids
    goals: npt.NDArray[np.float64]  # (W, 3) x, y, tolerance
    people: npt.NDArray[np.float64]  # (W, M, 6) x, y, x, y, speed, radius; radius 0: nobody


class Robots(NamedTuple):
    """The state of N robots and what distinguishes them."""

    world: npt.NDArray[np.int64]  # (N,)
    pose: npt.NDArray[np.float64]  # (N, 3) true x, y, yaw in the world
    odometry: npt.NDArray[np.float64]  # (N, 3) x, y, yaw as the robot believes
    twist: npt.NDArray[np.float64]  # (N, 2) true speed ahead and turn
    sent: npt.NDArray[np.float64]  # (N, 3, 2) this command and the two before it
    walked: npt.NDArray[np.float64]  # (N, M, 2) metres along the line, and direction
    time_s: npt.NDArray[np.float64]  # (N,)
    body: npt.NDArray[np.float64]  # (N, 4) front, rear, half width, radius of the corners
    limits: npt.NDArray[np.float64]  # (N, 5) as the safety layer takes them
    delays_s: npt.NDArray[np.float64]  # (N, 2) latency of commands, lag of the base
    drift: npt.NDArray[np.float64]  # (N, 2) share of distance, turn per metre
    noise: npt.NDArray[np.float64]  # (N, 2) of ranges in metres, share of lost beams
    random: npt.NDArray[np.uint64]  # (N,)


@njit(cache=True)
def uniform(random, i):  # type: ignore[no-untyped-def]
    """Return the next number in [0, 1) of one generator."""
    random[i] += np.uint64(0x9E3779B97F4A7C15)
    z = random[i]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) / 9007199254740992.0


@njit(cache=True)
def _normal(random, i):  # type: ignore[no-untyped-def]
    radius = np.sqrt(-2.0 * np.log(1.0 - uniform(random, i)))
    return radius * np.cos(2.0 * np.pi * uniform(random, i))


@njit(cache=True)
def _cast(worlds, w, x, y, c, s, far):  # type: ignore[no-untyped-def]
    """Return the distance to the first shape along a ray, infinite beyond ``far``."""
    x0, y0, nx, ny = worlds.grids[w, 0], worlds.grids[w, 1], worlds.grids[w, 2], worlds.grids[w, 3]
    first = int(worlds.grids[w, 4])
    entry = _entry(x - x0, c, nx * BUCKET_M, _entry(y - y0, s, ny * BUCKET_M, 0.0))
    if entry > far:
        return np.inf
    inside_x, inside_y = x - x0 + entry * c, y - y0 + entry * s
    column, row = int(np.floor(inside_x / BUCKET_M)), int(np.floor(inside_y / BUCKET_M))
    step_x, step_y = (1 if c > 0.0 else -1), (1 if s > 0.0 else -1)
    per_x = BUCKET_M / max(abs(c), _SMALL)
    per_y = BUCKET_M / max(abs(s), _SMALL)
    next_x = ((column + (c > 0.0)) * BUCKET_M + x0 - x) / (c if abs(c) > _SMALL else _SMALL)
    next_y = ((row + (s > 0.0)) * BUCKET_M + y0 - y) / (s if abs(s) > _SMALL else _SMALL)
    if abs(c) <= _SMALL:
        next_x = np.inf
    if abs(s) <= _SMALL:
        next_y = np.inf
    best = np.inf
    begun = entry
    while begun < far and 0 <= column < nx and 0 <= row < ny:
        cell = first + row * int(nx) + column
        for k in range(worlds.starts[cell], worlds.starts[cell + 1]):
            item = worlds.items[k]
            shape = worlds.shapes[item]
            if shape[4] > 0.0:
                best = min(best, _to_circle(shape[0] - x, shape[1] - y, shape[4], c, s))
            else:
                best = min(best, _to_segment(
                    shape[0] - x, shape[1] - y, shape[2] - x, shape[3] - y, c, s))
        begun = min(next_x, next_y)
        if best <= begun:
            break
        if next_x < next_y:
            column += step_x
            next_x += per_x
        else:
            row += step_y
            next_y += per_y
    return best if best <= far else np.inf


@njit(cache=True, inline='always')
def _entry(at, way, size, least):  # type: ignore[no-untyped-def]
    """Return from which distance a ray is between 0 and ``size``, or infinity where never."""
    if 0.0 <= at < size:
        return least
    edge = 0.0 if at < 0.0 else size
    if (edge - at) * way <= 0.0:
        return np.inf
    return max(least, (edge - at) / way + 1e-9)


@njit(cache=True, inline='always')
def _to_circle(dx, dy, radius, c, s):  # type: ignore[no-untyped-def]
    along = dx * c + dy * s
    aside2 = dx * dx + dy * dy - along * along
    if along <= 0.0 or aside2 >= radius * radius:
        return np.inf
    return max(0.0, along - np.sqrt(radius * radius - aside2))


@njit(cache=True, inline='always')
def _to_segment(ax, ay, bx, by, c, s):  # type: ignore[no-untyped-def]
    side_a, side_b = c * ay - s * ax, c * by - s * bx
    if side_a * side_b > 0.0 or side_a == side_b:
        return np.inf
    share = side_a / (side_a - side_b)
    along = (ax + share * (bx - ax)) * c + (ay + share * (by - ay)) * s
    return along if along >= 0.0 else np.inf


@njit(cache=True)
def collides(worlds, w, x, y, yaw, body):  # type: ignore[no-untyped-def]
    """Return whether the footprint of a robot overlaps a shape."""
    reach = np.sqrt(max(body[0], body[1]) ** 2 + body[2] ** 2)
    x0, y0, nx, ny = worlds.grids[w, 0], worlds.grids[w, 1], worlds.grids[w, 2], worlds.grids[w, 3]
    c, s = np.cos(yaw), np.sin(yaw)
    for row in range(max(0, int((y - reach - y0) / BUCKET_M)),
                     min(int(ny), int((y + reach - y0) / BUCKET_M) + 1)):
        for column in range(max(0, int((x - reach - x0) / BUCKET_M)),
                            min(int(nx), int((x + reach - x0) / BUCKET_M) + 1)):
            cell = int(worlds.grids[w, 4]) + row * int(nx) + column
            for k in range(worlds.starts[cell], worlds.starts[cell + 1]):
                shape = worlds.shapes[worlds.items[k]]
                ax, ay = shape[0] - x, shape[1] - y
                if shape[4] > 0.0:
                    if _hits_circle(c * ax + s * ay, c * ay - s * ax, shape[4], body):
                        return True
                else:
                    bx, by = shape[2] - x, shape[3] - y
                    if _hits_segment(c * ax + s * ay, c * ay - s * ax,
                                     c * bx + s * by, c * by - s * bx, body):
                        return True
    return False


@njit(cache=True, inline='always')
def _hits_circle(x, y, radius, body):  # type: ignore[no-untyped-def]
    corner = body[3]
    dx = max(x - body[0] + corner, -body[1] + corner - x, 0.0)
    dy = max(abs(y) - body[2] + corner, 0.0)
    return dx * dx + dy * dy < (radius + corner) ** 2


@njit(cache=True)
def _hits_segment(ax, ay, bx, by, body):  # type: ignore[no-untyped-def]
    """Return whether a segment enters the footprint."""
    corner = body[3]
    if corner <= 0.0:
        return _enters(ax, ay, bx, by, -body[1], body[0], body[2])
    # a rectangle with round corners is two that cross, and four discs
    rear, front, side = -body[1] + corner, body[0] - corner, body[2] - corner
    if _enters(ax, ay, bx, by, rear, front, body[2]) or _enters(
            ax, ay, bx, by, -body[1], body[0], side):
        return True
    dx, dy = bx - ax, by - ay
    length2 = max(dx * dx + dy * dy, _SMALL)
    for x in (rear, front):
        for y in (-side, side):
            share = min(1.0, max(0.0, ((x - ax) * dx + (y - ay) * dy) / length2))
            off_x, off_y = ax + share * dx - x, ay + share * dy - y
            if off_x * off_x + off_y * off_y < corner * corner:
                return True
    return False


@njit(cache=True)
def _enters(ax, ay, bx, by, rear, front, side):  # type: ignore[no-untyped-def]
    """Return whether a segment enters a rectangle, by Liang and Barsky's clipping."""
    enter, leave = 0.0, 1.0
    for a, d, low, high in ((ax, bx - ax, rear, front), (ay, by - ay, -side, side)):
        if abs(d) < _SMALL:
            if not low < a < high:
                return False
            continue
        t0, t1 = (low - a) / d, (high - a) / d
        enter, leave = max(enter, min(t0, t1)), min(leave, max(t0, t1))
    return enter < leave


@njit(cache=True)
def _person(worlds, w, walked, i, m):  # type: ignore[no-untyped-def]
    """Return where a person is: x, y and the direction they walk in."""
    p = worlds.people[w, m]
    dx, dy = p[2] - p[0], p[3] - p[1]
    length = max(np.sqrt(dx * dx + dy * dy), _SMALL)
    at, way = walked[i, m, 0] / length, walked[i, m, 1] / length
    return p[0] + dx * at, p[1] + dy * at, dx * way, dy * way, length


@njit(cache=True)
def advance(worlds, robots, live, commands, period, longest, outcomes):  # type: ignore[no-untyped-def]
    """
    Let one period of control pass.

    :param live: (L,) rows of robots that move.
    :param commands: (N, 2) speed ahead and turn.
    :param outcomes: (N,) overwritten for the live ones.
    """
    substeps = max(1, int(round(period / _SUBSTEP_S)))
    dt = period / substeps
    for i in live:
        robots.sent[i, 2] = robots.sent[i, 1]
        robots.sent[i, 1] = robots.sent[i, 0]
        robots.sent[i, 0] = commands[i]
        outcomes[i] = RUNNING
        for k in range(substeps):
            _drive(robots, i, k * dt, period, dt)
            _walk(worlds, robots, i, dt)
            robots.time_s[i] += dt
            if _is_hit(worlds, robots, i):
                outcomes[i] = COLLIDED
                break
        w = robots.world[i]
        dx, dy = worlds.goals[w, 0] - robots.pose[i, 0], worlds.goals[w, 1] - robots.pose[i, 1]
        if outcomes[i] == COLLIDED:
            continue
        if dx * dx + dy * dy <= worlds.goals[w, 2] ** 2:
            outcomes[i] = REACHED
        elif robots.time_s[i] >= longest - 1e-9:
            outcomes[i] = TIMED_OUT


@njit(cache=True)
def _drive(robots, i, at, period, dt):  # type: ignore[no-untyped-def]
    latency, lag = robots.delays_s[i, 0], robots.delays_s[i, 1]
    age = 0 if at >= latency - 1e-9 else 1 if at + period >= latency - 1e-9 else 2
    v = approached(robots.twist[i, 0], robots.sent[i, age, 0], lag, robots.limits[i, 3], dt)
    w = approached(robots.twist[i, 1], robots.sent[i, age, 1], lag, robots.limits[i, 4], dt)
    robots.twist[i, 0], robots.twist[i, 1] = v, w
    robots.pose[i, 2] += w * dt
    robots.pose[i, 0] += v * dt * np.cos(robots.pose[i, 2])
    robots.pose[i, 1] += v * dt * np.sin(robots.pose[i, 2])
    felt = v * (1.0 + robots.drift[i, 0])
    robots.odometry[i, 2] += (w + robots.drift[i, 1] * abs(v)) * dt
    robots.odometry[i, 0] += felt * dt * np.cos(robots.odometry[i, 2])
    robots.odometry[i, 1] += felt * dt * np.sin(robots.odometry[i, 2])


@njit(cache=True)
def _walk(worlds, robots, i, dt):  # type: ignore[no-untyped-def]
    w = robots.world[i]
    for m in range(worlds.people.shape[1]):
        if worlds.people[w, m, 5] <= 0.0:
            continue
        x, y, ahead_x, ahead_y, length = _person(worlds, w, robots.walked, i, m)
        dx, dy = robots.pose[i, 0] - x, robots.pose[i, 1] - y
        room = _PATIENCE_M + max(robots.body[i, 0], robots.body[i, 1])
        if dx * dx + dy * dy < room * room and dx * ahead_x + dy * ahead_y > 0.0:
            continue
        at = robots.walked[i, m, 0] + robots.walked[i, m, 1] * worlds.people[w, m, 4] * dt
        if at < 0.0 or at > length:
            robots.walked[i, m, 1] = -robots.walked[i, m, 1]
            at = min(length, max(0.0, at))
        robots.walked[i, m, 0] = at


@njit(cache=True)
def _is_hit(worlds, robots, i):  # type: ignore[no-untyped-def]
    w = robots.world[i]
    x, y, yaw = robots.pose[i]
    if collides(worlds, w, x, y, yaw, robots.body[i]):
        return True
    c, s = np.cos(yaw), np.sin(yaw)
    for m in range(worlds.people.shape[1]):
        radius = worlds.people[w, m, 5]
        if radius > 0.0:
            px, py, _, _, _ = _person(worlds, w, robots.walked, i, m)
            dx, dy = px - x, py - y
            if _hits_circle(c * dx + s * dy, c * dy - s * dx, radius, robots.body[i]):
                return True
    return False


@njit(cache=True)
def sense(worlds, robots, live, sweep, mount, reach, ranges, sectors):  # type: ignore[no-untyped-def]
    """
    Let the range finders of some robots sweep once.

    :param sweep: First angle, step, nearest and farthest range.
    :param mount: x, y and yaw of the laser on base_link, and 1 upright or -1 upside down.
    :param ranges: (N, B) float32, overwritten for the live ones: NaN lost, +inf free.
    :param sectors: (N, S) float32, overwritten for the live ones.
    """
    first, step, near, far = sweep
    points = np.empty((ranges.shape[1], 2))
    for i in live:
        w = robots.world[i]
        yaw = robots.pose[i, 2]
        c, s = np.cos(yaw), np.sin(yaw)
        x = robots.pose[i, 0] + c * mount[0] - s * mount[1]
        y = robots.pose[i, 1] + s * mount[0] + c * mount[1]
        for beam in range(ranges.shape[1]):
            angle = yaw + mount[2] + mount[3] * (first + beam * step)
            ray_c, ray_s = np.cos(angle), np.sin(angle)
            distance = _cast(worlds, w, x, y, ray_c, ray_s, far)
            for m in range(worlds.people.shape[1]):
                if worlds.people[w, m, 5] > 0.0:
                    px, py, _, _, _ = _person(worlds, w, robots.walked, i, m)
                    distance = min(distance, _to_circle(
                        px - x, py - y, worlds.people[w, m, 5], ray_c, ray_s))
            if robots.noise[i, 1] > 0.0 and uniform(robots.random, i) < robots.noise[i, 1]:
                distance = np.nan
            elif distance <= far and robots.noise[i, 0] > 0.0:
                distance += robots.noise[i, 0] * _normal(robots.random, i)
            if distance < near:
                distance = -np.inf
            elif distance > far:
                distance = np.inf
            ranges[i, beam] = distance
        see(ranges[i], first, step, near, far, mount, reach, sectors[i], points)


@njit(cache=True)
def guard(  # type: ignore[no-untyped-def]
    robots, live, commands, sweep, mount, reach, ranges, sees_behind, timing, margin, memory,
    remembered, longest,
):
    """
    Let the safety layer change the commands of some robots.

    :param commands: (N, 2) speed ahead and turn, overwritten for the live ones.
    :param sees_behind: (N,) bool.
    :param memory: (N, M, 3) points of earlier scans, (N,) ``remembered`` of each; changed.
    :param longest: For how many seconds points are remembered.
    """
    first, step, near, far = sweep
    points = np.empty((ranges.shape[1], 2))
    sectors = np.empty(1, np.float32)
    for i in live:
        n = see(ranges[i], first, step, near, far, mount, reach, sectors, points)
        earlier, remembered[i] = remember(
            points, n, robots.odometry[i], robots.time_s[i], longest, memory[i], remembered[i])
        v, w, _ = guarded(
            points, n, robots.odometry[i], memory[i], earlier, robots.body[i], robots.twist[i],
            robots.sent[i, 0], commands[i], robots.limits[i], timing, margin, sees_behind[i])
        commands[i, 0], commands[i, 1] = v, w


@njit(cache=True)
def remaining(worlds, robots, live, out):  # type: ignore[no-untyped-def]
    """Look up how far each live robot has to go, (N,) metres, between the cells' middles."""
    for i in live:
        at_x, at_y, nx, ny, first = _in_field(worlds, robots, i)
        column, row = int(at_x), int(at_y)
        a, b = at_x - column, at_y - row
        k = first + row * nx + column
        out[i] = ((worlds.fields[k] * (1.0 - a) + worlds.fields[k + 1] * a) * (1.0 - b)
                  + (worlds.fields[k + nx] * (1.0 - a) + worlds.fields[k + nx + 1] * a) * b)


@njit(cache=True)
def ways(worlds, robots, live, cells, out):  # type: ignore[no-untyped-def]
    """
    Look up where the way to the goal leads from each live robot.

    :param cells: How many cells ahead on the way is aimed at.
    :param out: (N, 2) cosine and sine of the bearing, overwritten for the live ones.
    """
    for i in live:
        at_x, at_y, nx, ny, first = _in_field(worlds, robots, i)
        column, row = int(at_x + 0.5), int(at_y + 0.5)
        field = worlds.fields[first:first + ny * nx].reshape(ny, nx)
        column, row = descended(field, column, row, cells)
        bearing = np.arctan2(row - at_y, column - at_x) - robots.pose[i, 2]
        out[i, 0], out[i, 1] = np.cos(bearing), np.sin(bearing)


@njit(cache=True, inline='always')
def _in_field(worlds, robots, i):  # type: ignore[no-untyped-def]
    """Return where a robot is among the cells' middles, how many there are, and the first."""
    w = robots.world[i]
    nx, ny = int(worlds.field_grids[w, 2]), int(worlds.field_grids[w, 3])
    at_x = (robots.pose[i, 0] - worlds.field_grids[w, 0]) / FIELD_M - 0.5
    at_y = (robots.pose[i, 1] - worlds.field_grids[w, 1]) / FIELD_M - 0.5
    return (min(max(at_x, 0.0), nx - 1.001), min(max(at_y, 0.0), ny - 1.001), nx, ny,
            int(worlds.field_grids[w, 4]))
