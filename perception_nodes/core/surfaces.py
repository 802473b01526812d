"""
The surface of one object in a small depth image, and how far it extends.

Everything here is compiled, runs on the part of a depth image around one box, and was kept free
of array expressions: those take seconds to compile and are no faster.
"""

from numba import njit
import numpy as np

# Khoshelham and Elberink 2012 (doi:10.3390/s120201437): depth noise grows with its square
NOISE_PER_M = 0.0014

_TURN_POINTS = 250
_FACE = 0.4  # of a reading's deviation: how well the place of a face is known


@njit(cache=True)
def support(z, rays, inside, first_row, up, level, step):  # type: ignore[no-untyped-def]
    """
    Find the plane that is seen around a box: what the object stands on, or is in front of.

    :param z: (R, C) float32 depth, 0 where there is no reading.
    :param rays: (R, C, 2) float32 x and y of each ray at z = 1.
    :param inside: (R, C) bool, what belongs to the box.
    :param first_row: Only what is around the box from here on down counts.
    :param up: (3,) normal of the plane if ``level``; else any plane will do.
    :param step: Pixels between two readings.
    :return: Normal (3) towards the camera's side, offset, and whether there is such a plane.
    """
    rows, columns = z.shape
    shown = np.zeros((rows, columns), np.bool_)
    available = 0
    for c in range(columns):
        last = 0.0
        for r in range(first_row, rows):
            d = z[r, c]
            if last - d > (0.01 + 0.01 * d) * step and d > 0.0:
                break  # something nearer: an occluder's top is not what the object stands on
            if d > 0.0:
                last = d
                shown[r, c] = not inside[r, c]
                available += shown[r, c]
    if available < 20:
        return up, 0.0, False
    stride = max(1, available // 400)
    around = np.empty((available // stride + 1, 3))
    n, seen, mean = 0, 0, 0.0
    for r in range(first_row, rows):
        for c in range(columns):
            if not shown[r, c]:
                continue
            if seen % stride == 0:
                d = np.float64(z[r, c])
                around[n, 0], around[n, 1], around[n, 2] = rays[r, c, 0] * d, rays[r, c, 1] * d, d
                mean += d
                n += 1
            seen += 1
    mean /= n
    tolerance = max(0.008, 3.0 * NOISE_PER_M * mean * mean)
    normal = up if level else _plane_normal(around, n, tolerance)
    heights = np.empty(n)
    low, high = np.inf, -np.inf
    for i in range(n):
        h = normal[0] * around[i, 0] + normal[1] * around[i, 1] + normal[2] * around[i, 2]
        heights[i] = h
        low, high = min(low, h), max(high, h)
    # the height within whose tolerance most readings lie, to half a tolerance
    width = 0.5 * tolerance
    bins = np.zeros(int((high - low) / width) + 5, np.int64)
    for i in range(n):
        bins[int((heights[i] - low) / width)] += 1
    best, start = 0, 0
    for b in range(len(bins) - 4):
        votes = bins[b] + bins[b + 1] + bins[b + 2] + bins[b + 3]
        if votes > best:
            best, start = votes, b
    if best < 0.3 * n:
        return up, 0.0, False
    total = 0.0
    for i in range(n):
        if start <= int((heights[i] - low) / width) < start + 4:
            total += heights[i]
    return normal, total / best, True


@njit(cache=True)
def _plane_normal(points, n, tolerance):  # type: ignore[no-untyped-def]
    """Return the normal, towards the camera, of the plane most points lie on (RANSAC)."""
    best_votes = -1
    best = np.array([0.0, 0.0, -1.0])
    state = np.uint64(12345)  # a generator of its own: the same picture gives the same box
    pick = np.zeros(3, np.int64)
    for _ in range(40):
        for k in range(3):
            state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
            pick[k] = np.int64((state >> np.uint64(33)) % np.uint64(n))
        p, q, s = points[pick[0]], points[pick[1]], points[pick[2]]
        ax, ay, az = q[0] - p[0], q[1] - p[1], q[2] - p[2]
        bx, by, bz = s[0] - p[0], s[1] - p[1], s[2] - p[2]
        x, y, w = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        length = np.sqrt(x * x + y * y + w * w)
        if length < 1e-9:
            continue
        offset = (x * p[0] + y * p[1] + w * p[2]) / length
        length = -length if offset > 0.0 else length
        x, y, w, offset = x / length, y / length, w / length, -abs(offset)
        votes = 0
        for i in range(n):
            off = x * points[i, 0] + y * points[i, 1] + w * points[i, 2] - offset
            votes += abs(off) < tolerance
        if votes > best_votes:
            best_votes = votes
            best[0], best[1], best[2] = x, y, w
    return best


@njit(cache=True)
def _above(x, y, d, normal, offset):  # type: ignore[no-untyped-def]
    """Return whether a reading stands out of the plane around the object."""
    height = (normal[0] * x + normal[1] * y + normal[2]) * d - offset
    return height > max(0.01, 3.0 * NOISE_PER_M * d * d)


@njit(cache=True)
def surfaces(z, rays, candidates, normal, offset, step):  # type: ignore[no-untyped-def]
    """
    Divide readings into connected surfaces.

    :param candidates: (R, C) bool, the readings that count.
    :param offset: Of the plane around the object; -inf leaves nothing out.
    :param step: Pixels between two readings.
    :return: (R, C) int32 numbers from 1; 0 belongs to no surface.
    """
    rows, columns = z.shape
    labels = np.zeros((rows, columns), np.int32)
    parent = np.empty(rows * columns + 1, np.int32)  # union-find, in two scans
    count = 0
    for r in range(rows):
        for c in range(columns):
            d = z[r, c]
            if not (d > 0.0 and candidates[r, c] and _above(
                    rays[r, c, 0], rays[r, c, 1], d, normal, offset)):
                continue
            jump = (0.01 + 0.01 * d) * step
            left, above = 0, 0
            if c > 0 and labels[r, c - 1] > 0 and (
                    abs(z[r, c - 1] - d) < jump or _slants_on(z, r, c, 0, 1, jump)):
                left = _root(parent, labels[r, c - 1])
            if r > 0 and labels[r - 1, c] > 0 and (
                    abs(z[r - 1, c] - d) < jump or _slants_on(z, r, c, 1, 0, jump)):
                above = _root(parent, labels[r - 1, c])
            if left == 0 and above == 0:
                count += 1
                parent[count] = count
                labels[r, c] = count
            elif left == 0 or above == 0:
                labels[r, c] = left + above
            else:
                labels[r, c] = min(left, above)
                parent[max(left, above)] = min(left, above)
    for r in range(rows):
        for c in range(columns):
            if labels[r, c] > 0:
                labels[r, c] = _root(parent, labels[r, c])
    return labels


@njit(cache=True)
def _slants_on(z, r, c, dr, dc, jump):  # type: ignore[no-untyped-def]
    """Return whether the step from the reading before is one of several: a face seen aslant."""
    rows, columns = z.shape
    step = z[r, c] - z[r - dr, c - dc]
    if abs(step) > 6.0 * jump:
        return False
    if r + dr < rows and c + dc < columns and z[r + dr, c + dc] > 0.0 and abs(
            z[r + dr, c + dc] - z[r, c] - step) < 0.5 * abs(step):
        return True
    r, c = r - 2 * dr, c - 2 * dc
    return r >= 0 and c >= 0 and z[r, c] > 0.0 and abs(
        z[r + dr, c + dc] - z[r, c] - step) < 0.5 * abs(step)


@njit(cache=True)
def _root(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True)
def best_surface(labels, inside, z, step):  # type: ignore[no-untyped-def]
    """
    Choose the surface that lies in the box rather than around it.

    Pieces of it that an occluder has cut off, at the depth of the largest piece, join it.

    :return: Its number in ``labels`` (0: none), its readings, and whether it goes on outside.
    """
    n = labels.max() + 1
    within, outside = np.zeros(n, np.int64), np.zeros(n, np.int64)
    near, far = np.full(n, np.inf), np.zeros(n)
    rows, columns = z.shape
    for r in range(rows):
        for c in range(columns):
            i = labels[r, c]
            if i > 0:
                if inside[r, c]:
                    within[i] += 1
                else:
                    outside[i] += 1
                near[i], far[i] = min(near[i], z[r, c]), max(far[i], z[r, c])
    best = 0
    for i in range(1, n):
        if within[i] - 2 * outside[i] > within[best] - 2 * outside[best] or best == 0:
            best = i
    if best == 0:
        return 0, 0, False
    if within[best] < 2 * outside[best]:
        return best, within[best], True
    slack = (0.01 + 0.01 * near[best]) * step
    joins = np.zeros(n, np.bool_)
    for i in range(1, n):
        middle = 0.5 * (near[i] + far[i])
        joins[i] = i == best or (
            within[i] > 2 * outside[i] and 20 * within[i] > within[best]
            and near[best] - slack < middle < far[best] + slack)
    count = 0
    for r in range(rows):
        for c in range(columns):
            if joins[labels[r, c]]:
                labels[r, c] = best
                count += 1
    return best, count, False


@njit(cache=True)
def points(  # type: ignore[no-untyped-def]
        labels, best, count, z, step, corner, depth, rays, limits, mask, axes, normal, offset):
    """
    Return the readings of a surface.

    Where pixels were left out, all of those at the surface's edges follow: they decide its size.

    :param corner: Row and column in ``depth`` of the first reading of ``z``.
    :param depth: (H, W) float32 of which ``z`` holds each ``step``-th pixel; ``rays`` is as large.
    :param limits: Smallest and largest depth that counts.
    :param mask: Bool, its first element at ``corner``; without any elements, what stands out of
        the plane counts.
    :param axes: (3, 3) float64, rows away, left and up in the camera's frame.
    :return: (4, N) float64 along away, left and up, and the depth.
    """
    rows, columns = z.shape
    height, width = depth.shape
    edges = np.zeros((rows, columns), np.bool_)
    border = 0
    for r in range(rows):
        for c in range(columns):
            if step > 1 and labels[r, c] == best and not (
                    0 < r < rows - 1 and 0 < c < columns - 1
                    and labels[r - 1, c] == best and labels[r + 1, c] == best
                    and labels[r, c - 1] == best and labels[r, c + 1] == best):
                edges[r, c] = True
                border += 1
    found = np.empty((4, count + border * (2 * step - 1) ** 2))
    n = 0
    for r in range(rows):
        for c in range(columns):
            if labels[r, c] == best:
                y, x = corner[0] + r * step, corner[1] + c * step
                found[3, n], found[0, n], found[1, n] = z[r, c], rays[y, x, 0], rays[y, x, 1]
                n += 1
    for r in range(rows):
        for c in range(columns):
            if not edges[r, c]:
                continue
            jump = (0.01 + 0.01 * z[r, c]) * step
            y0, x0 = corner[0] + r * step, corner[1] + c * step
            for y in range(max(y0 - step + 1, 0), min(y0 + step, height)):
                for x in range(max(x0 - step + 1, 0), min(x0 + step, width)):
                    d, u, v = depth[y, x], rays[y, x, 0], rays[y, x, 1]
                    if not (limits[0] <= d <= limits[1] and abs(d - z[r, c]) < jump and u == u):
                        continue
                    if mask.size > 0:
                        my, mx = y - corner[0], x - corner[1]
                        belongs = (0 <= my < mask.shape[0] and 0 <= mx < mask.shape[1]
                                   and mask[my, mx])
                    else:
                        belongs = _above(u, v, d, normal, offset)
                    if belongs:
                        found[3, n], found[0, n], found[1, n] = d, u, v
                        n += 1
    for i in range(n):
        d = found[3, i]
        x, y = found[0, i] * d, found[1, i] * d
        for k in range(3):
            found[k, i] = axes[k, 0] * x + axes[k, 1] * y + axes[k, 2] * d
    return found[:, :n]


@njit(cache=True)
def seen_through(labels, z, rays, best, away, slack):  # type: ignore[no-untyped-def]
    """
    Return whether one can see under the object: then it does not reach the surface below it.

    Where a pixel below the object shows something beyond its lower edge, the line of sight has
    passed under it. Something nearer hides the foot; straight from above the object does.
    """
    rows, columns = z.shape
    free, shown = 0, 0
    for c in range(columns):
        for r in range(rows - 3, -1, -1):
            if labels[r, c] != best:
                continue
            below = z[r + 2, c]  # the pixel next to an edge may mix both depths
            if below > 0.0:
                shown += 1
                edge = z[r, c] * (
                    away[0] * rays[r, c, 0] + away[1] * rays[r, c, 1] + away[2])
                beyond = below * (
                    away[0] * rays[r + 2, c, 0] + away[1] * rays[r + 2, c, 1] + away[2])
                free += beyond > edge + slack
            break
    return 2 * free > shown


@njit(cache=True)
def noise_m(labels, z, best):  # type: ignore[no-untyped-def]
    """Return the standard deviation of a surface's readings, from how they jitter in a row."""
    rows, columns = z.shape
    jitter = np.empty(rows * columns)
    n = 0
    for r in range(0, rows, max(1, rows // 16)):
        for c in range(1, columns - 1):
            if labels[r, c - 1] == best and labels[r, c] == best and labels[r, c + 1] == best:
                jitter[n] = abs(z[r, c] - 0.5 * (z[r, c - 1] + z[r, c + 1]))
                n += 1
    if n == 0:
        return 0.0
    # median of a normal deviate: 0.6745 sigma; of these three readings: sqrt(1.5) times that
    return quantiles(jitter, n, n // 2)[0] / (0.6745 * np.sqrt(1.5))


@njit(cache=True)
def extents(points, level, foot, noise, lost, pixel):  # type: ignore[no-untyped-def]
    """
    Measure the box around points.

    :param points: (3 or more, N) float64 along away, left and up.
    :param level: Whether the box may be turned about up.
    :param foot: Height on which it stands; NaN takes the lowest point.
    :param noise: Standard deviation of a reading, metres.
    :param lost: (4,) how far the outermost readings lie within the object's edge on its left,
        right, top and bottom in the image, metres.
    :param pixel: What a pixel is wide at the object's distance, metres.
    :return: (11,) centre (3) and size (3) along the turned axes, turn, how much of the first
        extent is a guess, and the standard deviations of the size (3).
    """
    n = points.shape[1]
    turn = _turn(points) if level else 0.0
    cosine, sine = np.cos(turn), np.sin(turn)
    view = np.zeros(3)
    for i in range(n):
        a, b = points[0, i], points[1, i]
        view[0] += cosine * a + sine * b
        view[1] += cosine * b - sine * a
        view[2] += points[2, i]
    distance = np.sqrt(view[0] ** 2 + view[1] ** 2 + view[2] ** 2)
    low, high, along = np.empty(3), np.empty(3), np.empty(n)
    for k in range(3):
        for i in range(n):
            if k == 0:
                along[i] = cosine * points[0, i] + sine * points[1, i]
            elif k == 1:
                along[i] = cosine * points[1, i] - sine * points[0, i]
            else:
                along[i] = points[2, i]
        low[k], high[k] = quantiles(along, n, n // 300)  # stray readings at either end
        # the outermost of many noisy readings of a face lie in front of it
        slant = view[k] / distance
        near, far = 2.5 * noise * abs(slant), noise * abs(slant)
        if high[k] - low[k] > near + far:
            low[k] += near if slant > 0.0 else far
            high[k] -= far if slant > 0.0 else near
    distance /= n
    seen = high[0] - low[0]
    # an end that shows a face, some pixels wide, is where the face is; an outline lost a part of
    # a pixel, and lies anywhere in another
    wide = 3.0 * pixel * distance
    near_1, far_1, top = low[1] * seen > wide, -high[1] * seen > wide, -high[2] * seen > wide
    if not near_1:
        low[1] -= lost[1]
    if not far_1:
        high[1] += lost[0]
    if not top:
        high[2] += lost[2]
    standing = not np.isnan(foot)
    low[2] = min(foot, high[2]) if standing else low[2] - lost[3]
    # one upright face: how far it goes back is not to be seen
    guessed = 0.0
    single = seen < max(0.01, 4.0 * noise, 0.05 * (high[1] - low[1]))
    # the far edge is foreshortened: that of the top seen from above, or that of a side
    slant = -high[2] / distance if high[2] < 0.0 else abs(view[1]) / (n * distance)
    high[0] += lost[2] / max(slant, 0.1)
    if single:
        guessed = max(min(high[1] - low[1], high[2] - low[2]) - seen, 0.0)
        high[0] = low[0] + seen + guessed
    values = np.empty(11)
    for k in range(3):
        values[k] = 0.5 * (low[k] + high[k])
        values[3 + k] = high[k] - low[k]
    values[6], values[7] = turn, guessed
    # an end that shows a face is known as well as its readings, an outline as its pixels
    face = _FACE * noise
    edge = np.sqrt((0.2 * pixel + 0.25 * lost) ** 2 + face**2)
    values[8] = np.sqrt(face**2 + (edge[2] / max(slant, 0.1)) ** 2 + guessed**2 / 12.0)
    values[9] = np.hypot(face if near_1 else edge[1], face if far_1 else edge[0])
    values[10] = np.hypot(face if top else edge[2], face if standing else edge[3])
    return values


@njit(cache=True, fastmath=True)
def quantiles(values, n, k):  # type: ignore[no-untyped-def]
    """
    Return the k-th smallest and k-th largest of the first n values, counted from 0.

    Exact to a thousandth of their range; sorting would take three times as long.
    """
    low, high = np.inf, -np.inf
    for i in range(n):
        low, high = min(low, values[i]), max(high, values[i])
    bins = 1024
    counts = np.zeros(bins + 1, np.int32)
    scale = bins / max(high - low, 1e-9)
    for i in range(n):
        counts[int((values[i] - low) * scale)] += 1
    first, passed = 0, counts[0]
    while passed <= k:
        first += 1
        passed += counts[first]
    last, passed = bins, counts[bins]
    while passed <= k:
        last -= 1
        passed += counts[last]
    return low + first / scale, low + min(last + 1, bins) / scale


@njit(cache=True)
def _turn(points):  # type: ignore[no-untyped-def]
    """
    Return the turn about up, in [-45, 45) degrees, at which an upright box fits the points best.

    Among the turns with nearly the smallest footprint, the one whose sides lie closest to the
    points (Zhang et al. 2017, "Efficient L-shape fitting"): two faces alone form a triangle,
    whose smallest rectangle may as well lie along its diagonal.
    """
    step = max(1, points.shape[1] // _TURN_POINTS)
    coarse = 30
    areas = np.empty(coarse)
    smallest = np.inf
    for i in range(coarse):
        areas[i] = _footprint_fit(points, step, np.radians(-45.0 + 3.0 * i), False)
        smallest = min(smallest, areas[i])
    best, best_gap = 0.0, np.inf
    for i in range(coarse):
        if areas[i] <= 1.15 * smallest:
            angle = np.radians(-45.0 + 3.0 * i)
            gap = _footprint_fit(points, step, angle, True)
            if gap < best_gap:
                best, best_gap = angle, gap
    width = np.radians(1.5)
    for _ in range(4):
        middle = best
        for side in (-1.0, 1.0):
            gap = _footprint_fit(points, step, middle + side * width, True)
            if gap < best_gap:
                best, best_gap = middle + side * width, gap
        width *= 0.5
    return best


@njit(cache=True, fastmath=True)
def _footprint_fit(points, step, angle, close):  # type: ignore[no-untyped-def]
    """Return the area of the turned footprint, or the mean distance of points to its border."""
    cosine, sine = np.cos(angle), np.sin(angle)
    a0, a1, b0, b1 = np.inf, -np.inf, np.inf, -np.inf
    for i in range(0, points.shape[1], step):
        x, y = points[0, i], points[1, i]
        a, b = cosine * x + sine * y, cosine * y - sine * x
        a0, a1, b0, b1 = min(a0, a), max(a1, a), min(b0, b), max(b1, b)
    if not close:
        return (a1 - a0) * (b1 - b0)
    total, n = 0.0, 0
    for i in range(0, points.shape[1], step):
        x, y = points[0, i], points[1, i]
        a, b = cosine * x + sine * y, cosine * y - sine * x
        total += min(a - a0, a1 - a, b - b0, b1 - b)
        n += 1
    return total / n
