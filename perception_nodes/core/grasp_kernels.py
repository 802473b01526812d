"""
The loops over lines and cells of :mod:`perception_nodes.core.grasping`, compiled.

A map of heights is cut along lines in many directions and at many levels. Each stretch that
stands above its level, with room for a finger at both ends, is one candidate: fingertips at that
level, closing along the line. All positions along a stretch would be the same grasp after
centring, so none is tried twice.
"""

from typing import NamedTuple

from numba import njit
import numpy as np

# columns of a candidate's row
X, Y, ANGLE, TIP, OPENING, WIDTH, GRIP, SKEW, WEDGE, LEAN, BREADTH, ROOM, UNSEEN, HIDDEN, \
    PALM_ROOM, REASON, OBJECT, COLUMNS = range(18)

# why a candidate is not usable
USABLE, TOO_WIDE, NOT_OPPOSED, LEANING, FINGER_HITS, PALM_HITS, SHALLOW = range(7)

_SLICE_M = 0.003  # above the fingertips, where contact is looked for
_PALM_MARGIN_M = 0.004  # more for the palm: it presses on what fingers only brush
_BEYOND_M = 0.012  # the stretch on the middle line, where the contour is looked for
_MOST_ROOM_M = 0.010  # beside the object, that an open finger is given


class Hand(NamedTuple):
    """The gripper as the loops read it, metres."""

    max_opening: float
    finger_width: float
    finger_thickness: float
    finger_depth: float
    palm_length: float  # along the closing direction
    palm_width: float
    friction: float
    clearance: float  # kept on every side
    min_grip: float  # least overlap of fingers and object
    lowest_tip: float  # of the fingertips over the support


@njit(cache=True)
def _cell(map_shape, x, y):  # type: ignore[no-untyped-def]
    """Return row and column of a place in cells, and whether it is on the map."""
    return np.int64(y), np.int64(x), 0.0 <= y < map_shape[0] and 0.0 <= x < map_shape[1]


@njit(cache=True)
def _at(values, x, y):  # type: ignore[no-untyped-def]
    """Return what a widened map holds at a place, which must be on it: nothing is checked."""
    return values[np.uint64(np.int64(y)), np.uint64(np.int64(x))]  # unsigned: no wrapping round


@njit(cache=True)
def _widened(values, margin, outside):  # type: ignore[no-untyped-def]
    """Return a map with a margin, so that looking at it needs no check of the borders."""
    wide = np.full(
        (values.shape[0] + 2 * margin, values.shape[1] + 2 * margin), outside, values.dtype)
    wide[margin:margin + values.shape[0], margin:margin + values.shape[1]] = values
    return wide


@njit(cache=True, nogil=True, error_model='numpy')
def candidates(  # type: ignore[no-untyped-def]
    top, upper, known, base, labels, cell, hand, angles, level_step, line_step, out,
):
    """
    Find and judge every stretch that fingers could close on.

    :param labels: (R, C) int32 objects from 1, 0 for none.
    :param angles: Number of closing directions in half a turn.
    :param level_step: Between fingertip heights, metres.
    :param line_step: Between lines, cells.
    :param out: (N, COLUMNS) float32 candidates, lengths in metres and places in cells.
    :return: How many were found; at most N.
    """
    rows, columns = top.shape
    over = top - base
    reach = int(np.ceil(0.5 * np.hypot(rows, columns)))
    heights = np.zeros(2 * reach + 1, np.float32)
    lowest = hand.lowest_tip + _SLICE_M
    margin = _reach(hand, cell)
    wide = (_widened(top, margin, np.float32(-np.inf)),
            _widened(upper, margin, np.float32(np.inf)), _widened(known, margin, False))
    edges = np.empty((2, 2 * int(0.5 * hand.finger_width / cell + 0.5) + 1))
    n = 0
    for a in range(angles):
        theta = np.pi * a / angles
        cx, cy = np.cos(theta), np.sin(theta)
        for line in range(-reach, reach + 1, line_step):
            x0, y0 = 0.5 * columns - cy * line, 0.5 * rows + cx * line
            k, end = _profile(over, x0, y0, cx, cy, heights)
            while k < end:
                if heights[k] < lowest:
                    k += 1
                    continue
                first, highest = k, heights[k]
                while k < end and heights[k] >= lowest:
                    highest = max(highest, heights[k])
                    k += 1
                level = hand.lowest_tip
                while level < highest - 0.5 * hand.min_grip:
                    n = _cut(
                        wide, margin, base, labels, heights, first, k, level, x0, y0, cx, cy,
                        theta, cell, hand, edges, out, n)
                    level += level_step
    return n


@njit(cache=True, error_model='numpy')
def _reach(hand, cell):  # type: ignore[no-untyped-def]
    """Return how far from the middle of a stretch on the map anything is looked at, cells."""
    contact = 0.75 * hand.max_opening + _BEYOND_M  # centring moves a hand by less than that
    palm = 0.5 * (hand.palm_length + hand.palm_width)
    finger = hand.finger_thickness + hand.finger_width + _MOST_ROOM_M + hand.clearance
    return int(np.ceil((contact + max(palm, contact + finger)) / cell)) + 3


@njit(cache=True, error_model='numpy')
def _profile(over, x0, y0, cx, cy, heights):  # type: ignore[no-untyped-def]
    """Sample heights over the support along a line; return the part that is on the map."""
    first, last = 0, 0
    half = len(heights) // 2
    for k in range(len(heights)):
        i, j, inside = _cell(over.shape, x0 + cx * (k - half), y0 + cy * (k - half))
        if inside:
            heights[k] = over[i, j]
            last = k + 1
        elif last == 0:
            first = k + 1
        else:
            break
    return first, last


@njit(cache=True, error_model='numpy')
def _cut(  # type: ignore[no-untyped-def]
    wide, margin, base, labels, heights, first, last, level, x0, y0, cx, cy, theta, cell, hand,
    edges, out, n,
):
    """Judge every stretch of a part of a line that stands above one level; return their end."""
    start, summit, half = -1, first, len(heights) // 2
    for k in range(first, last + 1):
        if k < last and heights[k] >= level + _SLICE_M:
            if start < 0:
                start, summit = k, k
            if heights[k] > heights[summit]:
                summit = k
            continue
        if start < 0 or n == out.shape[0]:
            continue
        length, deep = (k - start) * cell, heights[summit] - level
        if 0.003 < length < 1.5 * hand.max_opening and deep < hand.finger_depth:
            i, j, _ = _cell(base.shape, x0 + cx * (summit - half), y0 + cy * (summit - half))
            if labels[i, j] > 0:
                row = out[n]
                row[:] = 0.0
                middle = 0.5 * (start + k - 1) - half
                row[X], row[Y] = x0 + cx * middle, y0 + cy * middle
                row[TIP], row[GRIP] = level + base[i, j], deep
                row[WIDTH] = row[OPENING] = length
                row[ANGLE], row[OBJECT] = theta, labels[i, j]
                n += 1
                if deep < hand.min_grip:
                    row[REASON] = SHALLOW
                elif length > hand.max_opening + 2.0 * cell:
                    row[REASON] = TOO_WIDE
                else:
                    _judge(wide, margin, cx, cy, 0.5 * (k - start), cell, hand, edges, row)
        start = -1
    return n


@njit(cache=True)
def unlike(  # type: ignore[no-untyped-def]
    centres, closing, owners, order, most, most_of_one, place, cosine,
):
    """
    Return the first of an order, without those like an earlier one.

    :param centres: (N, 3) places of grasps.
    :param closing: (N, 3) unit vectors; a hand is the same after half a turn.
    :param owners: (N,) objects, from 0.
    :param most: How many are wanted; ``most_of_one`` of one object.
    :param place: Grasps nearer than this, with closing directions of ``cosine`` or more between
        them, are alike.
    """
    kept = np.empty(most, np.int64)
    taken = np.zeros(owners.max() + 1, np.int64)
    n = 0
    for k in order:
        fresh = taken[owners[k]] < most_of_one
        for m in range(n):
            far, along = 0.0, 0.0
            for axis in range(3):
                far += (centres[k, axis] - centres[kept[m], axis]) ** 2
                along += closing[k, axis] * closing[kept[m], axis]
            if far < place * place and abs(along) > cosine:
                fresh = False
                break
        if fresh:
            kept[n] = k
            taken[owners[k]] += 1
            n += 1
            if n == most:
                break
    return kept[:n]


@njit(cache=True, error_model='numpy')
def _edge(top, x, y, dx, dy, level, inner, outer):  # type: ignore[no-untyped-def]
    """Return how far out along (dx, dy), from ``inner`` on, the surface stands above a level."""
    s = inner
    if _at(top, x + dx * s, y + dy * s) < level:
        # the contour may lie further in than on the middle line
        while s > 0.0:
            s -= 0.5
            if _at(top, x + dx * s, y + dy * s) >= level:
                return s + 0.25
        return -1.0
    s += 0.5
    while s <= outer and _at(top, x + dx * s, y + dy * s) >= level:
        s += 0.5
    return s - 0.25


@njit(cache=True, error_model='numpy')
def _judge(  # type: ignore[no-untyped-def]
    wide, margin, cx, cy, half, cell, hand, edges, row,
):
    """
    Measure one candidate, centre it, and say what is wrong with it.

    :param wide: The maps of what stands there, what may, and whether that was seen, widened.
    :param half: Half the stretch on the middle line, cells.
    :param edges: (2, N) room for how far out each side reaches on lines a cell apart.
    :param row: Holds place, fingertip height and grip; the rest is filled in.
    """
    top, upper, known = wide
    x, y, tip = row[X] + np.float64(margin), row[Y] + np.float64(margin), np.float64(row[TIP])
    level = tip + _SLICE_M
    reach = 0.5 * hand.finger_width / cell
    outer = half + _BEYOND_M / cell
    if (_is_askew(top, x, y, cx, cy, level, half, outer, hand.friction, edges[0])
            or _is_askew(top, x, y, -cx, -cy, level, half, outer, hand.friction, edges[1])):
        row[REASON] = NOT_OPPOSED
        return
    near, near_slope = _contour(top, x, y, cx, cy, level, half, outer, edges[0])
    if near < 0.0 or abs(near_slope) > hand.friction:
        row[REASON] = NOT_OPPOSED
        return
    far, far_slope = _contour(top, x, y, -cx, -cy, level, half, outer, edges[1])
    if far < 0.0 or abs(far_slope) > hand.friction:
        row[REASON] = NOT_OPPOSED
        return
    row[SKEW], row[WEDGE] = 0.5 * abs(near_slope - far_slope), abs(near_slope + far_slope)
    width = (near + far) * cell
    row[WIDTH] = row[OPENING] = width
    if width > hand.max_opening - 2.0 * hand.clearance:
        row[REASON] = TOO_WIDE
        return
    rise = min(0.012, max(0.004, 0.6 * (row[GRIP] - _SLICE_M)))
    row[BREADTH] = 1.0
    for side in range(2):
        sign = 1.0 - 2.0 * side
        lean, breadth, hidden = _flank(
            top, upper, known, x, y, sign * cx, sign * cy, level, rise / cell, edges[side],
            (near if side == 0 else far) - 0.004 / cell, cell)
        row[LEAN], row[HIDDEN] = max(row[LEAN], lean), max(row[HIDDEN], hidden)
        row[BREADTH] = min(row[BREADTH], breadth)
    shift = 0.5 * (near - far)
    x, y = x + cx * shift, y + cy * shift
    row[X], row[Y] = x - margin, y - margin
    if row[LEAN] > hand.friction:
        row[REASON] = LEANING
        return
    finger = hand.finger_thickness / cell
    room = min(0.5 * (hand.max_opening - width), _MOST_ROOM_M) / cell
    for side in range(2):
        sign = 1.0 - 2.0 * side
        free, share = _room(
            top, upper, known, x, y, sign * cx, sign * cy, 0.5 * width / cell, tip, reach,
            room + finger, hand.clearance / cell)
        room = min(room, free - finger)
        row[UNSEEN] = max(row[UNSEEN], share)
    row[ROOM], row[OPENING] = room * cell, width + 2.0 * room * cell
    if room * cell < hand.clearance:
        row[REASON] = FINGER_HITS
        return
    row[PALM_ROOM] = _palm_room(
        top, x, y, cx, cy, 0.5 * hand.palm_length / cell, 0.5 * hand.palm_width / cell,
        tip + hand.finger_depth)
    if row[PALM_ROOM] < hand.clearance + _PALM_MARGIN_M:
        row[REASON] = PALM_HITS


@njit(cache=True, error_model='numpy')
def _is_askew(  # type: ignore[no-untyped-def]
    top, x, y, dx, dy, level, half, outer, friction, edges,
):
    """Return whether one side's ends lie so differently that the rest cannot mend it."""
    middle = len(edges) // 2
    edges[0] = _edge(top, x + dy * middle, y - dx * middle, dx, dy, level, half, outer)
    edges[-1] = _edge(top, x - dy * middle, y + dx * middle, dx, dy, level, half, outer)
    return (edges[0] > 0.0 and edges[-1] > 0.0
            and abs(edges[-1] - edges[0]) > 1.3 * friction * 2.0 * middle)


@njit(cache=True, error_model='numpy')
def _contour(top, x, y, dx, dy, level, half, outer, edges):  # type: ignore[no-untyped-def]
    """
    Find one side's contour under the width of a finger.

    :param edges: Filled with how far out the object reaches on each line, -1 for nowhere; both
        ends are there already.
    :return: The third farthest (where the finger touches; -1 without any), since the farthest of
        many lines is so by noise, and the contour's slope.
    """
    middle = len(edges) // 2
    for n in range(1, len(edges) - 1):
        b = float(n - middle)
        edges[n] = _edge(top, x - dy * b, y + dx * b, dx, dy, level, half, outer)
    sum_b, sum_bb, sum_e, sum_be, count = 0.0, 0.0, 0.0, 0.0, 0
    widest = wider = wide = -1.0
    for n in range(len(edges)):
        b = float(n - middle)
        e = edges[n]
        if e > 0.0:
            sum_b += b
            sum_bb += b * b
            sum_e += e
            sum_be += b * e
            count += 1
            if e > widest:
                widest, wider, wide = e, widest, wider
            elif e > wider:
                wider, wide = e, wider
            elif e > wide:
                wide = e
    spread = count * sum_bb - sum_b * sum_b
    slope = (count * sum_be - sum_b * sum_e) / spread if spread > 1e-6 else 0.0
    return wide if count > 2 else widest, slope


@njit(cache=True, error_model='numpy')
def _flank(  # type: ignore[no-untyped-def]
    top, upper, known, x, y, dx, dy, level, rise, edges, least, cell,
):
    """
    Look at the side that a finger is going to touch.

    :param rise: How much higher the second look is taken, cells.
    :param least: Lines whose edge is farther out are touched.
    :return: Tangent of its lean from upright, the share of the finger's width that touches, and
        the share of that which ends in unseen space.
    """
    middle = len(edges) // 2
    touched, hidden, reaching, inward = 0, 0, 0, 0.0
    for n in range(len(edges)):
        e = edges[n]
        if e < least:
            continue
        b = float(n - middle)
        bx, by = x - dy * b, y + dx * b
        touched += 1
        higher = _edge(top, bx, by, dx, dy, level + rise * cell, max(e - 0.5, 0.0), e)
        if higher >= 0.0:  # where the object is lower, as under a roof, it cannot be told
            inward += e - higher
            reaching += 1
        beside_x, beside_y = bx + dx * (e + 1.0), by + dy * (e + 1.0)
        hidden += not _at(known, beside_x, beside_y) and _at(upper, beside_x, beside_y) > level
    lean = inward / reaching / rise if reaching > 0 else np.inf
    return lean, touched / len(edges), hidden / touched


@njit(cache=True, error_model='numpy')
def _room(  # type: ignore[no-untyped-def]
    top, upper, known, x, y, dx, dy, start, tip, reach, wanted, margin,
):
    """
    Return how far a finger can stay from its contact, and the share of that space unseen.

    :param start: From the middle to the contact, cells.
    :param wanted: Farthest that is asked for, from the contact to the finger's outer side.
    :param margin: Kept beside the finger.
    """
    free = wanted
    hidden, count = 0, 0
    wide = reach + 0.5 * margin
    b = -wide
    while b <= wide + 1e-6:
        s = 2.0  # beyond the fringe that noise gives an object
        while s <= wanted + 0.5 * margin:
            px, py = x + dx * (start + s) - dy * b, y + dy * (start + s) + dx * b
            if _at(known, px, py):
                if _at(top, px, py) > tip - 0.002:
                    free = min(free, s - 0.5 - 0.5 * margin)
                    break
            elif _at(upper, px, py) > tip:
                hidden += 1
            count += 1
            s += 1.0
        b += 1.0
    return free, hidden / max(count, 1)


@njit(cache=True, error_model='numpy')
def _palm_room(top, x, y, cx, cy, long, wide, palm):  # type: ignore[no-untyped-def]
    """Return how far the palm stays above everything under it."""
    highest = -1.0
    s = -long
    while s <= long:
        b = -wide
        while b <= wide:
            highest = max(highest, _at(top, x + cx * s - cy * b, y + cy * s + cx * b))
            b += 1.0
        s += 1.0
    return palm - highest


@njit(cache=True, error_model='numpy')
def connected(height, least, jump, labels):  # type: ignore[no-untyped-def]
    """
    Find the connected surfaces that stand at least so high; a step of ``jump`` divides.

    :param labels: (R, C) int32, filled with numbers from 1; 0 is lower.
    :return: How many there are.
    """
    rows, columns = height.shape
    stack = np.empty((rows * columns, 2), np.int32)
    labels[:] = 0
    count = 0
    for i in range(rows):
        for j in range(columns):
            if labels[i, j] != 0 or not height[i, j] >= least:
                continue
            count += 1
            labels[i, j] = count
            stack[0, 0], stack[0, 1] = i, j
            n = 1
            while n > 0:
                n -= 1
                r, c = stack[n, 0], stack[n, 1]
                for a in range(-1, 2):
                    for b in range(-1, 2):
                        p, q = r + a, c + b
                        if (0 <= p < rows and 0 <= q < columns and labels[p, q] == 0
                                and height[p, q] >= least
                                and abs(height[p, q] - height[r, c]) < jump):
                            labels[p, q] = count
                            stack[n, 0], stack[n, 1] = p, q
                            n += 1
    return count
