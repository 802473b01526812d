"""
The loops over beams of :mod:`perception_nodes.core.navigation` and the safety layer, compiled.

All numbers are in base_link, metres, seconds and radians. A body is (front, rear, half width,
radius of the corners) of a rectangle around base_link. Limits are (ahead, back, turn,
acceleration, angular acceleration).
"""

from numba import njit
import numpy as np

# why the safety layer changed a command
KEPT, LIMITED, SLOWED, TURNED, STOPPED = range(5)

MEMORY = 512  # points that the safety layer remembers at most
_STEP_S = 0.025  # of the prediction
_AT_REST = 0.01  # m/s and rad/s
_ROLL_OUT_S = 6.0  # no robot brakes longer
_SLACK = 1e-4  # metres by which rounding may bring it nearer to what is within the margin
_FRACTIONS = np.array([1.0, 0.8, 0.6, 0.4, 0.2])  # of both speeds: slower on the same arc
_REMEMBERED_M = 2.5  # around base_link
_CELL_M = 0.05
# a remembered point counts if it is so much nearer than those of the newest scan beside it: where
# these are few, an edge may have been missed; where they are many, it was noise
_NEARER_M, _FEW, _NOISE_M = 0.005, 3, 0.06
_CELLS = 2 * int(_REMEMBERED_M / _CELL_M) + 2


@njit(cache=True)
def see(  # type: ignore[no-untyped-def]
    ranges, angle_min, angle_step, near, far, mount, reach, sectors, points,
):
    """
    Turn one sweep into sectors around base_link and points.

    :param mount: x, y and yaw of the laser; -1 as the fourth number where it hangs upside down.
    :param sectors: (S,) overwritten: nearest distance, ``reach`` where free, NaN unseen; sector 0
        begins straight behind, they go counter-clockwise.
    :param points: (N, 2) overwritten with the obstacles within ``reach``.
    :return: How many points there are.
    """
    n = 0
    count = len(sectors)
    sectors[:] = np.nan
    last, last_distance = -1, 0.0
    for beam in range(len(ranges)):
        reading = ranges[beam]
        free = reading == np.inf
        if free:
            distance = far
        elif reading == -np.inf:
            distance = near
        else:
            distance = reading
        if not near <= distance <= far:  # NaN, or what the driver says to discard
            last = -1
            continue
        angle = mount[2] + mount[3] * (angle_min + beam * angle_step)
        x = mount[0] + distance * np.cos(angle)
        y = mount[1] + distance * np.sin(angle)
        from_base = np.sqrt(x * x + y * y)
        if from_base >= reach:
            from_base = reach
        elif not free:
            points[n, 0], points[n, 1] = x, y
            n += 1
        sector = int((np.arctan2(y, x) / (2.0 * np.pi) + 0.5) * count) % count
        _put_nearest(sectors, sector, from_base)
        if last >= 0:  # what lies between two neighbouring beams is seen, too
            way = (sector - last + count // 2) % count - count // 2
            if 1 < abs(way) <= count // 4:
                for between in range(1, abs(way)):
                    at = (last + (between if way > 0 else -between)) % count
                    _put_nearest(sectors, at, min(from_base, last_distance))
        last, last_distance = sector, from_base
    return n


@njit(cache=True, inline='always')
def _put_nearest(sectors, sector, distance):  # type: ignore[no-untyped-def]
    if not sectors[sector] <= distance:  # also where it is NaN
        sectors[sector] = distance


@njit(cache=True)
def remember(points, n, pose, now, longest, memory, count):  # type: ignore[no-untyped-def]
    """
    Take the points of the newest scan into a memory, and forget what is old or seen again.

    Legs thinner than the gap between two beams are in one scan and not in the next.

    :param points: (N, 2) of which the first ``n`` are obstacles, in base_link.
    :param pose: x, y and yaw of base_link in odom.
    :param now: Time in seconds.
    :param longest: For how many seconds points are remembered.
    :param memory: (M, 3) x, y in odom and the time when they were seen; changed.
    :param count: How many of them are valid.
    :return: How many points of earlier scans there are, and how many points in all; the former
        come first.
    """
    c, s = np.cos(pose[2]), np.sin(pose[2])
    # how near the points are that lie around a cell, and how many
    seen, crowd = np.full((_CELLS, _CELLS), np.inf), np.zeros((_CELLS, _CELLS), np.int64)
    for i in range(n):
        x, y = points[i, 0], points[i, 1]
        column, row = int((x + _REMEMBERED_M) / _CELL_M), int((y + _REMEMBERED_M) / _CELL_M)
        if 0 < column < _CELLS - 1 and 0 < row < _CELLS - 1:
            distance = np.sqrt(x * x + y * y)
            for k in range(row - 1, row + 2):
                for j in range(column - 1, column + 2):
                    seen[k, j] = min(seen[k, j], distance)
                    crowd[k, j] += 1
    kept = 0
    for i in range(count):
        dx, dy = memory[i, 0] - pose[0], memory[i, 1] - pose[1]
        x, y = c * dx + s * dy, c * dy - s * dx
        age, distance = now - memory[i, 2], np.sqrt(x * x + y * y)
        if not (0.0 <= age <= longest and distance < _REMEMBERED_M):
            continue
        row, column = int((y + _REMEMBERED_M) / _CELL_M), int((x + _REMEMBERED_M) / _CELL_M)
        nearer = _NEARER_M if crowd[row, column] <= _FEW else _NOISE_M
        if distance < seen[row, column] - nearer:
            memory[kept] = memory[i]
            kept += 1
    filled = kept
    for i in range(n):
        x, y = points[i, 0], points[i, 1]
        if filled < len(memory) and x * x + y * y < _REMEMBERED_M * _REMEMBERED_M:
            memory[filled, 0] = pose[0] + c * x - s * y
            memory[filled, 1] = pose[1] + s * x + c * y
            memory[filled, 2] = now
            filled += 1
    return kept, filled


@njit(cache=True)
def approached(speed, wanted, lag, acceleration, dt):  # type: ignore[no-untyped-def]
    """Return a speed after ``dt``: a first-order lag whose acceleration is limited."""
    change = (wanted - speed) * min(1.0, dt / max(lag, 1e-6))
    return speed + min(acceleration * dt, max(-acceleration * dt, change))


@njit(cache=True)
def guarded(  # type: ignore[no-untyped-def]
    points, n, pose, memory, remembered, body, moving, sent, wanted, limits, timing, margin,
    sees_behind,
):
    """
    Return the nearest command to ``wanted`` after which the robot can still stop in free space.

    Each candidate is rolled out: the command on its way acts for the latency, the candidate for
    one period, then the robot brakes. This is the admissible velocity of the dynamic window (Fox,
    Burgard and Thrun, 1997) with the footprint and the delays of the robot.

    :param pose: x, y and yaw of base_link in odom.
    :param memory: (M, 3) as :func:`remember` keeps it; the first ``remembered`` count.
    :param moving: Measured speed ahead and turn.
    :param sent: The command before this one.
    :param timing: Latency, lag and period of control.
    :return: Speed ahead, turn, and one of KEPT, LIMITED, SLOWED, TURNED and STOPPED.
    """
    ahead, back, turn, acceleration, angular = limits
    if not sees_behind:
        back = 0.0
    period = timing[2]
    v = min(ahead, max(-back, wanted[0]))
    w = min(turn, max(-turn, wanted[1]))
    v = min(sent[0] + acceleration * period, max(sent[0] - acceleration * period, v))
    w = min(sent[1] + angular * period, max(sent[1] - angular * period, w))
    if not sees_behind:
        v = max(v, 0.0)
    limited = abs(v - wanted[0]) > 1e-9 or abs(w - wanted[1]) > 1e-9
    # only what the robot can reach before it stands has to be looked at
    fastest = max(abs(moving[0]), abs(sent[0]), abs(v))
    reach = (fastest * (timing[0] + timing[1] + period + 0.5 * fastest / acceleration) + margin
             + np.sqrt(max(body[0], body[1]) ** 2 + body[2] ** 2) + 0.1)
    near = np.empty((n + remembered, 3))
    count = 0
    c, s = np.cos(pose[2]), np.sin(pose[2])
    for i in range(n + remembered):
        if i < n:
            x, y = points[i, 0], points[i, 1]
        else:
            dx, dy = memory[i - n, 0] - pose[0], memory[i - n, 1] - pose[1]
            x, y = c * dx + s * dy, c * dy - s * dx
        if x * x + y * y < reach * reach:
            near[count, 0], near[count, 1] = x, y
            # what is too near already must not get nearer, or a robot at a wall could not leave
            near[count, 2] = min(margin, _clearance(x, y, body) - _SLACK)
            count += 1
    near = near[:count]
    for i in range(len(_FRACTIONS)):
        f = _FRACTIONS[i]
        if _stops_free(near, body, moving, sent, v * f, w * f, limits, timing):
            return v * f, w * f, (SLOWED if i > 0 else LIMITED if limited else KEPT)
    for f in (0.5, 0.25, 0.0):
        if _stops_free(near, body, moving, sent, v * f, w, limits, timing):
            return v * f, w, TURNED
    # nothing is surely free: brake, with the turn that keeps farthest away
    best, best_w = -np.inf, 0.0
    for k in range(-2, 3):
        w = moving[1] + k * 0.5 * angular * period if k != 0 else 0.0
        w = min(turn, max(-turn, w))
        room = min(_roll_out(near, body, moving, sent, 0.0, w, limits, timing, -np.inf),
                   _roll_out(near, body, moving, moving, 0.0, w, limits, (0.0, 0.0, period),
                             -np.inf))
        if room > best + 1e-6 or (k == 0 and room >= best):
            best, best_w = room, w
    return 0.0, best_w, STOPPED


@njit(cache=True, inline='always')
def _clearance(x, y, body):  # type: ignore[no-untyped-def]
    """Return how far a point is outside the footprint; negative inside."""
    corner = body[3]
    dx = max(x - body[0], -body[1] - x) + corner
    dy = abs(y) - body[2] + corner
    if dx > 0.0 and dy > 0.0:
        return np.sqrt(dx * dx + dy * dy) - corner
    return max(dx, dy) - corner


@njit(cache=True)
def _stops_free(  # type: ignore[no-untyped-def]
    near, body, moving, sent, v_wanted, w_wanted, limits, timing,
):
    """Return whether the robot comes to rest in free space, as slow and as fast as it may be."""
    return (
        _roll_out(near, body, moving, sent, v_wanted, w_wanted, limits, timing, 0.0) >= 0.0
        and _roll_out(near, body, moving, sent, v_wanted, w_wanted, limits,
                      (0.0, 0.0, timing[2]), 0.0) >= 0.0)


@njit(cache=True)
def _roll_out(  # type: ignore[no-untyped-def]
    near, body, moving, sent, v_wanted, w_wanted, limits, timing, least,
):
    """
    Return how much more room than it must have a robot keeps until it stands.

    :param least: The search ends where there is less.
    :return: Metres by which no point comes nearer than it may; negative where one does.
    """
    v, w = moving[0], moving[1]
    x, y, yaw, t = 0.0, 0.0, 0.0, 0.0
    room = np.inf
    while t < _ROLL_OUT_S:
        if t < timing[0]:
            v_now, w_now = sent[0], sent[1]
        elif t < timing[0] + timing[2]:
            v_now, w_now = v_wanted, w_wanted
        else:
            v_now, w_now = 0.0, 0.0
            if abs(v) < _AT_REST and abs(w) < _AT_REST:
                return room
        v = approached(v, v_now, timing[1], limits[3], _STEP_S)
        w = approached(w, w_now, timing[1], limits[4], _STEP_S)
        yaw += w * _STEP_S
        c, s = np.cos(yaw), np.sin(yaw)
        x += v * c * _STEP_S
        y += v * s * _STEP_S
        for i in range(len(near)):
            dx, dy = near[i, 0] - x, near[i, 1] - y
            room = min(room, _clearance(c * dx + s * dy, c * dy - s * dx, body) - near[i, 2])
        if room < least:
            return room
        t += _STEP_S
    return room
