"""
Casting and shading rays on primitives: compiled loops over plain arrays, no physics engine.

Every primitive is tested only against the pixels its bounding box projects to, which makes all
channels of a 320x240 image a matter of milliseconds, and gives each thing's whole silhouette
beside its visible part. Kinds are MuJoCo's: 0 plane, 2 sphere, 3 capsule, 4 ellipsoid,
5 cylinder, 6 box; sizes are those of :class:`perception_nodes.sim.scene.Shape`.
"""

import math

from numba import njit
import numpy as np

PLANE, SPHERE, CAPSULE, ELLIPSOID, CYLINDER, BOX = 0, 2, 3, 4, 5, 6
NEAR_M = 0.02
_FAST = {'arcp', 'contract', 'nsz', 'reassoc'}  # infinities stay infinities
_FAR = 1e9
_ENDLESS_M = 100.0  # a plane without size, in pixels' eyes


@njit(cache=True)
def _half_extents(kind, size):  # type: ignore[no-untyped-def]
    a, b, c = size[0], size[1], size[2]
    if kind == SPHERE:
        return a, a, a
    if kind == CAPSULE:
        return a, a, a + b
    if kind == CYLINDER:
        return a, a, b
    if kind == PLANE:
        return (a if a > 0.0 else _ENDLESS_M), (b if b > 0.0 else _ENDLESS_M), 0.0
    return a, b, c


@njit(cache=True)
def _window(  # type: ignore[no-untyped-def]
    kind, size, turn, place, fx, fy, cx, cy, width, height, out,
):
    """Write the pixels [u0, u1) x [v0, v1) a bounding box covers; return its nearest depth."""
    ex, ey, ez = _half_extents(kind, size)
    corner = np.empty((8, 3))
    nearest = _FAR
    for i in range(8):
        x = ex if i & 1 else -ex
        y = ey if i & 2 else -ey
        z = ez if i & 4 else -ez
        for k in range(3):
            corner[i, k] = turn[k, 0] * x + turn[k, 1] * y + turn[k, 2] * z + place[k]
        nearest = min(nearest, corner[i, 2])
    u0, u1, v0, v1 = _FAR, -_FAR, _FAR, -_FAR
    for i in range(8):
        for axis in range(3):
            j = i | (1 << axis)
            if j == i:
                continue
            for end in range(2):
                a, b = (i, j) if end == 0 else (j, i)
                x, y, z = corner[a, 0], corner[a, 1], corner[a, 2]
                if z < NEAR_M:  # take the point where the edge comes out of the near plane
                    if corner[b, 2] <= NEAR_M:
                        continue
                    s = (NEAR_M - z) / (corner[b, 2] - z)
                    x += s * (corner[b, 0] - x)
                    y += s * (corner[b, 1] - y)
                    z = NEAR_M
                u, v = fx * x / z + cx, fy * y / z + cy
                u0, u1, v0, v1 = min(u0, u), max(u1, u), min(v0, v), max(v1, v)
    if u1 < u0:
        out[:] = 0
        return nearest
    out[0] = max(0, min(width, int(math.floor(max(u0, -1.0)))))
    out[1] = max(0, min(width, int(math.ceil(min(u1, width + 1.0))) + 1))
    out[2] = max(0, min(height, int(math.floor(max(v0, -1.0)))))
    out[3] = max(0, min(height, int(math.ceil(min(v1, height + 1.0))) + 1))
    return nearest


@njit(cache=True, fastmath=_FAST)
def _hit(kind, size, ox, oy, oz, dx, dy, dz, shortest):  # type: ignore[no-untyped-def]
    """Return where o + t d enters the primitive from outside, or _FAR; t > shortest."""
    a, b, c = size[0], size[1], size[2]
    if kind == BOX:
        near, far = -_FAR, _FAR
        if dx != 0.0:
            t1, t2 = (-a - ox) / dx, (a - ox) / dx
            near, far = max(near, min(t1, t2)), min(far, max(t1, t2))
        elif abs(ox) > a:
            return _FAR
        if dy != 0.0:
            t1, t2 = (-b - oy) / dy, (b - oy) / dy
            near, far = max(near, min(t1, t2)), min(far, max(t1, t2))
        elif abs(oy) > b:
            return _FAR
        if dz != 0.0:
            t1, t2 = (-c - oz) / dz, (c - oz) / dz
            near, far = max(near, min(t1, t2)), min(far, max(t1, t2))
        elif abs(oz) > c:
            return _FAR
        return near if near <= far and near > shortest else _FAR
    if kind == PLANE:
        if dz >= 0.0:
            return _FAR
        t = -oz / dz
        if t <= shortest:
            return _FAR
        if (a > 0.0 and abs(ox + t * dx) > a) or (b > 0.0 and abs(oy + t * dy) > b):
            return _FAR
        return t
    if kind in (SPHERE, ELLIPSOID):
        if kind == SPHERE:
            b = c = a
        ox, oy, oz, dx, dy, dz = ox / a, oy / b, oz / c, dx / a, dy / b, dz / c
        qa = dx * dx + dy * dy + dz * dz
        qb = ox * dx + oy * dy + oz * dz
        root = qb * qb - qa * (ox * ox + oy * oy + oz * oz - 1.0)
        if root < 0.0:
            return _FAR
        t = (-qb - math.sqrt(root)) / qa
        return t if t > shortest else _FAR
    best = _FAR
    qa = dx * dx + dy * dy
    qb = ox * dx + oy * dy
    root = qb * qb - qa * (ox * ox + oy * oy - a * a)
    if root < 0.0:
        return _FAR
    if qa > 0.0:
        t = (-qb - math.sqrt(root)) / qa
        if t > shortest and abs(oz + t * dz) <= b:
            best = t
    if kind == CYLINDER:
        if dz != 0.0:
            t = ((-b if dz > 0.0 else b) - oz) / dz
            x, y = ox + t * dx, oy + t * dy
            if t > shortest and t < best and x * x + y * y <= a * a:
                best = t
        return best
    norm = qa + dz * dz
    for end in range(2):
        z = oz - b if end == 0 else oz + b
        qb = ox * dx + oy * dy + z * dz
        root = qb * qb - norm * (ox * ox + oy * oy + z * z - a * a)
        if root >= 0.0:
            t = (-qb - math.sqrt(root)) / norm
            if t > shortest and t < best:
                z_hit = oz + t * dz
                if (end == 0 and z_hit >= b) or (end == 1 and z_hit <= -b):
                    best = t
    return best


@njit(cache=True, nogil=True, fastmath=_FAST)
def cast(  # type: ignore[no-untyped-def]
    kinds, sizes, turns, places, owners, thing_count, map_from_camera, focal, centre, shape,
):
    """
    Find what every pixel sees.

    :param kinds: (G,) int32; the primitives of one thing must be neighbours.
    :param sizes: (G, 3) float64 metres.
    :param turns: (G, 3, 3) float64, map_from_primitive.
    :param places: (G, 3) float64, map_from_primitive.
    :param owners: (G,) int32 index of the thing a primitive belongs to; -1 for none.
    :param map_from_camera: (4, 4) float64, of the optical frame.
    :param focal: fx, fy in pixels.
    :param centre: cx, cy in pixels.
    :param shape: height, width.
    :return: depth (H, W) float32 metres along z, inf for nothing; (H, W) int32 index of the
        primitive, -1 for nothing; (thing_count, 5) int64 of each thing's silhouette as if it
        were alone: pixels, left, top, right, bottom (exclusive).
    """
    height, width = shape
    fx, fy = focal
    cx, cy = centre
    depth = np.full((height, width), np.inf, np.float32)
    seen = np.full((height, width), -1, np.int32)
    stamp = np.full((height, width), -1, np.int32)
    outlines = np.zeros((thing_count, 5), np.int64)
    outlines[:, 1] = width
    outlines[:, 2] = height
    turn_c = map_from_camera[:3, :3]
    place_c = map_from_camera[:3, 3]
    window = np.zeros(4, np.int64)
    turn = np.empty((3, 3))
    place = np.empty(3)
    for g in range(len(kinds)):
        kind, size, owner = kinds[g], sizes[g], owners[g]
        for i in range(3):  # camera_from_primitive
            place[i] = 0.0
            for j in range(3):
                place[i] += turn_c[j, i] * (places[g, j] - place_c[j])
                turn[i, j] = (turn_c[0, i] * turns[g, 0, j] + turn_c[1, i] * turns[g, 1, j]
                              + turn_c[2, i] * turns[g, 2, j])
        _window(kind, size, turn, place, fx, fy, cx, cy, width, height, window)
        ox = -(turn[0, 0] * place[0] + turn[1, 0] * place[1] + turn[2, 0] * place[2])
        oy = -(turn[0, 1] * place[0] + turn[1, 1] * place[1] + turn[2, 1] * place[2])
        oz = -(turn[0, 2] * place[0] + turn[1, 2] * place[1] + turn[2, 2] * place[2])
        for v in range(window[2], window[3]):
            y = (v - cy) / fy
            rx = turn[1, 0] * y + turn[2, 0]
            ry = turn[1, 1] * y + turn[2, 1]
            rz = turn[1, 2] * y + turn[2, 2]
            for u in range(window[0], window[1]):
                x = (u - cx) / fx
                t = _hit(kind, size, ox, oy, oz, turn[0, 0] * x + rx, turn[0, 1] * x + ry,
                         turn[0, 2] * x + rz, NEAR_M)
                if t >= _FAR:
                    continue
                if owner >= 0 and stamp[v, u] != owner:
                    stamp[v, u] = owner
                    outline = outlines[owner]
                    outline[0] += 1
                    outline[1] = min(outline[1], u)
                    outline[2] = min(outline[2], v)
                    outline[3] = max(outline[3], u + 1)
                    outline[4] = max(outline[4], v + 1)
                if t < depth[v, u]:
                    depth[v, u] = t
                    seen[v, u] = g
    return depth, seen, outlines


@njit(cache=True, fastmath=_FAST)
def _texel(levels, starts, texture, s, t, texels):  # type: ignore[no-untyped-def]
    """Sample a texture bilinearly on the level where ``texels`` of level 0 fit one pixel."""
    level = 0
    while texels > 1.5 and level < len(starts) - 1:
        texels *= 0.5
        level += 1
    side = 128 >> level
    x = (s - math.floor(s)) * side - 0.5
    y = (t - math.floor(t)) * side - 0.5
    x0, y0 = math.floor(x), math.floor(y)
    ax, ay = x - x0, y - y0
    i0, j0 = int(x0) % side, int(y0) % side
    i1, j1 = (i0 + 1) % side, (j0 + 1) % side
    base = starts[level]
    r = g = b = 0.0
    for k in range(4):
        row = j0 if k < 2 else j1
        column = i0 if k % 2 == 0 else i1
        w = (1.0 - ay if k < 2 else ay) * (1.0 - ax if k % 2 == 0 else ax)
        texel = levels[texture, base + row * side + column]
        r += w * texel[0]
        g += w * texel[1]
        b += w * texel[2]
    return r / 255.0, g / 255.0, b / 255.0


@njit(cache=True, fastmath=_FAST)
def _normal(kind, size, x, y, z):  # type: ignore[no-untyped-def]
    """Return the outward normal at a point on the surface, in the primitive's frame."""
    a, b, c = size[0], size[1], size[2]
    if kind == PLANE:
        return 0.0, 0.0, 1.0
    if kind == BOX:
        px, py, pz = abs(x) / a, abs(y) / b, abs(z) / c
        if px >= py and px >= pz:
            return (1.0 if x > 0.0 else -1.0), 0.0, 0.0
        if py >= pz:
            return 0.0, (1.0 if y > 0.0 else -1.0), 0.0
        return 0.0, 0.0, (1.0 if z > 0.0 else -1.0)
    if kind == CYLINDER:
        if abs(z) / b > math.sqrt(x * x + y * y) / a:
            return 0.0, 0.0, (1.0 if z > 0.0 else -1.0)
        return x / a, y / a, 0.0
    if kind == CAPSULE:
        z = z - b if z > b else (z + b if z < -b else 0.0)
        return x / a, y / a, z / a
    if kind == SPHERE:
        return x / a, y / a, z / a
    nx, ny, nz = x / (a * a), y / (b * b), z / (c * c)
    n = math.sqrt(nx * nx + ny * ny + nz * nz)
    return nx / n, ny / n, nz / n


@njit(cache=True, fastmath=_FAST)
def _face(x, y, z):  # type: ignore[no-untyped-def]
    """Return where a direction meets a picture laid on a cube's sides as OpenGL does."""
    ax, ay, az = abs(x), abs(y), abs(z)
    if ax >= ay and ax >= az:
        return 0.5 - 0.5 * z / x, 0.5 - 0.5 * y / ax
    if ay >= az:
        return 0.5 + 0.5 * x / ay, 0.5 + 0.5 * z / y
    return 0.5 + 0.5 * x / z, 0.5 - 0.5 * y / az


@njit(cache=True, nogil=True, fastmath=_FAST)
def shade(  # type: ignore[no-untyped-def]
    depth, seen, kinds, sizes, turns, places, looks, textures, levels, starts,
    map_from_camera, focal, centre, lamps, surround, sky, shadows, shadow_views, shadow_focal,
):
    """
    Light what :func:`cast` found, as OpenGL's fixed pipeline does: ambient, diffuse, specular.

    :param looks: (G, 6) float64: red, green, blue, specular, shininess, repeats per metre.
    :param textures: (G,) int32 index into ``levels``, -1 for none.
    :param levels: (T, N, 3) uint8 textures with their half-size copies, one after another.
    :param starts: (L,) where each level starts.
    :param lamps: (K, 10) float64: place or direction towards the lamp (3), 1 if directional,
        diffuse (3), specular (3).
    :param surround: (2, 3) float64: ambient light and diffuse light from the camera.
    :param sky: (2, 3) float64 colours overhead and underfoot.
    :param shadows: (K, S, S) float32 depth as the lamps see it; K is 0 without shadows.
    :param shadow_views: (K, 4, 4) float64 map_from_lamp, optical frames.
    :param shadow_focal: Focal length of the lamps' views, pixels.
    :return: (H, W, 3) uint8 RGB.
    """
    height, width = depth.shape
    fx, fy = focal
    cx, cy = centre
    turn_c = map_from_camera[:3, :3]
    eye = map_from_camera[:3, 3]
    out = np.empty((height, width, 3), np.uint8)
    for v in range(height):
        for u in range(width):
            x, y = (u - cx) / fx, (v - cy) / fy
            rx = turn_c[0, 0] * x + turn_c[0, 1] * y + turn_c[0, 2]
            ry = turn_c[1, 0] * x + turn_c[1, 1] * y + turn_c[1, 2]
            rz = turn_c[2, 0] * x + turn_c[2, 1] * y + turn_c[2, 2]
            length = math.sqrt(rx * rx + ry * ry + rz * rz)
            g = seen[v, u]
            if g < 0:
                up = 0.5 + 0.5 * rz / length
                for k in range(3):
                    c = sky[1, k] + up * (sky[0, k] - sky[1, k])
                    out[v, u, k] = int(255.0 * min(1.0, max(0.0, c)) + 0.5)
                continue
            t = depth[v, u]
            wx, wy, wz = eye[0] + t * rx, eye[1] + t * ry, eye[2] + t * rz
            ex, ey, ez = -rx / length, -ry / length, -rz / length
            turn, size = turns[g], sizes[g]
            qx, qy, qz = wx - places[g, 0], wy - places[g, 1], wz - places[g, 2]
            lx = turn[0, 0] * qx + turn[1, 0] * qy + turn[2, 0] * qz
            ly = turn[0, 1] * qx + turn[1, 1] * qy + turn[2, 1] * qz
            lz = turn[0, 2] * qx + turn[1, 2] * qy + turn[2, 2] * qz
            kind = kinds[g]
            a, b, c = _normal(kind, size, lx, ly, lz)
            nx = turn[0, 0] * a + turn[0, 1] * b + turn[0, 2] * c
            ny = turn[1, 0] * a + turn[1, 1] * b + turn[1, 2] * c
            nz = turn[2, 0] * a + turn[2, 1] * b + turn[2, 2] * c
            facing = max(0.05, nx * ex + ny * ey + nz * ez)
            red, green, blue = looks[g, 0], looks[g, 1], looks[g, 2]
            texture = textures[g]
            if texture >= 0:
                pixel_m = t / fx / facing
                repeats = looks[g, 5]
                if repeats > 0.0:
                    sr, sg, sb = _texel(levels, starts, texture, 0.5 + lx * repeats,
                                        0.5 - ly * repeats, 0.5 * pixel_m * repeats * 128.0)
                else:
                    hx, hy, hz = _half_extents(kind, size)
                    s, q = _face(lx / hx, ly / hy, lz / hz)
                    broad = max(hx, hy, hz)
                    sr, sg, sb = _texel(levels, starts, texture, s, q,
                                        0.5 * pixel_m / (2.0 * broad) * 128.0)
                red, green, blue = red * sr, green * sg, blue * sb
            lr = surround[0, 0] + surround[1, 0] * facing
            lg = surround[0, 1] + surround[1, 1] * facing
            lb = surround[0, 2] + surround[1, 2] * facing
            pr = pg = pb = 0.0
            for k in range(len(lamps)):
                dx, dy, dz = lamps[k, 0], lamps[k, 1], lamps[k, 2]
                if lamps[k, 3] == 0.0:
                    dx, dy, dz = dx - wx, dy - wy, dz - wz
                n = math.sqrt(dx * dx + dy * dy + dz * dz)
                dx, dy, dz = dx / n, dy / n, dz / n
                lit = nx * dx + ny * dy + nz * dz
                if lit <= 0.0:
                    continue
                if len(shadows) > 0:
                    lit *= _lit_share(shadows[k], shadow_views[k], shadow_focal,
                                      wx + 0.02 * nx, wy + 0.02 * ny, wz + 0.02 * nz)
                lr += lit * lamps[k, 4]
                lg += lit * lamps[k, 5]
                lb += lit * lamps[k, 6]
                hx, hy, hz = dx + ex, dy + ey, dz + ez
                n = math.sqrt(hx * hx + hy * hy + hz * hz)
                shine = (nx * hx + ny * hy + nz * hz) / n
                sharp = looks[g, 4] * 128.0
                # beyond this the power is below a grey level, and not worth its time
                if looks[g, 3] > 0.0 and lit > 0.0 and sharp * (1.0 - shine) < 6.0:
                    shine = looks[g, 3] * shine ** sharp
                    pr += shine * lamps[k, 7]
                    pg += shine * lamps[k, 8]
                    pb += shine * lamps[k, 9]
            out[v, u, 0] = int(255.0 * min(1.0, red * lr + pr) + 0.5)
            out[v, u, 1] = int(255.0 * min(1.0, green * lg + pg) + 0.5)
            out[v, u, 2] = int(255.0 * min(1.0, blue * lb + pb) + 0.5)
    return out


@njit(cache=True, fastmath=_FAST)
def _lit_share(shadow, view, focal, x, y, z):  # type: ignore[no-untyped-def]
    """Return the share of four texels of a lamp's depth that do not cut a point off."""
    x, y, z = x - view[0, 3], y - view[1, 3], z - view[2, 3]
    depth = view[0, 2] * x + view[1, 2] * y + view[2, 2] * z
    if depth <= NEAR_M:
        return 1.0
    side = len(shadow)
    u = focal * (view[0, 0] * x + view[1, 0] * y + view[2, 0] * z) / depth + 0.5 * (side - 1)
    v = focal * (view[0, 1] * x + view[1, 1] * y + view[2, 1] * z) / depth + 0.5 * (side - 1)
    i, j = int(math.floor(u)), int(math.floor(v))
    if i < 0 or j < 0 or i >= side - 1 or j >= side - 1:
        return 1.0
    slack = depth - 0.02 - 2.0 * depth / focal
    au, av = u - i, v - j
    share = 0.0
    share += (1.0 - au) * (1.0 - av) * (1.0 if shadow[j, i] > slack else 0.0)
    share += au * (1.0 - av) * (1.0 if shadow[j, i + 1] > slack else 0.0)
    share += (1.0 - au) * av * (1.0 if shadow[j + 1, i] > slack else 0.0)
    share += au * av * (1.0 if shadow[j + 1, i + 1] > slack else 0.0)
    return share


@njit(cache=True)
def soften_edges(rgb, seen):  # type: ignore[no-untyped-def]
    """Return the picture with the borders between primitives mixed, as a real lens does."""
    height, width = seen.shape
    out = rgb.copy()
    for v in range(1, height - 1):
        for u in range(1, width - 1):
            g = seen[v, u]
            if (seen[v, u - 1] == g and seen[v, u + 1] == g
                    and seen[v - 1, u] == g and seen[v + 1, u] == g):
                continue
            for k in range(3):
                mixed = (4 * int(rgb[v, u, k]) + int(rgb[v, u - 1, k]) + int(rgb[v, u + 1, k])
                         + int(rgb[v - 1, u, k]) + int(rgb[v + 1, u, k]))
                out[v, u, k] = (mixed + 4) // 8
    return out
