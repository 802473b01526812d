"""The floor in one depth image, near where the transforms say it is."""

from dataclasses import dataclass
import math

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import Plane

_STEP = 8  # pixels between the readings that are looked at
_TRIALS = 96
_SEED = 12345
_NEAREST_M = 0.2
_FARTHEST_M = 6.0
_LEAST_READINGS = 60
# how far a reading of the floor may lie from it: something fixed, and a share of its distance
_TOLERANCE_M, _TOLERANCE_PER_M = 0.012, 0.004


@dataclass(frozen=True, eq=False)
class Ground:
    """
    The floor as one camera sees it.

    Directions are along the axes of the map, as the given pose turns them; where pose and
    floor disagree, it is the pose that is wrong.
    """

    prior_normal: npt.NDArray[np.float64]  # (3,) against gravity by the transforms
    normal: npt.NDArray[np.float64]  # (3,) of the floor that was seen
    camera_height_m: float  # of the camera above that floor
    readings: int  # that lie on it; 0: no floor was seen, and the transforms are believed

    @property
    def tilt_deg(self) -> float:
        """Return the angle between the floor that is seen and that of the transforms."""
        cosine = float(np.clip(self.normal @ self.prior_normal, -1.0, 1.0))
        return float(np.degrees(np.arccos(cosine)))

    def levelled(self, rotation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """
        Return a (3, 3) rotation into the map's axes, corrected by what the floor tells.

        After it, the floor that is seen is parallel to the expected one.
        """
        return np.asarray(_levelled(self.normal, self.prior_normal, rotation))


def find_ground(
    depth_m: npt.NDArray[np.float32], rays: npt.NDArray[np.float32],
    map_from_camera: npt.NDArray[np.float64], floor: Plane,
    tilt_deg: float, offset_m: float,
) -> Ground:
    """
    Find the floor in a depth image.

    Planes through three readings each are tried (RANSAC, always the same draws), none more than
    ``tilt_deg`` or ``offset_m`` from the expected one. The best has most readings on it and
    fewest below: a table has a floor under it, a floor has nothing. Least squares over what lies
    on it, drawn towards the expected plane, gives the result; a small patch of floor next to the
    robot so cannot tilt what is far away.

    :param depth_m: (H, W) float32 metres along the optical axis.
    :param rays: (H, W, 2) float32, where each pixel looks at z = 1.
    :param map_from_camera: (4, 4) pose of the camera's optical frame.
    :param floor: Where the transforms expect the floor, in the map's axes.
    :return: The floor; the expected one where too little of it is in view.
    """
    normal, height, readings = _find(
        depth_m, rays, map_from_camera, floor.normal, floor.offset_m,
        math.tan(math.radians(tilt_deg)), offset_m)
    return Ground(floor.normal, normal, height, readings)


@njit(cache=True)
def _find(  # type: ignore[no-untyped-def]
    depth, rays, map_from_camera, expected, expected_offset, most_slope, most_offset,
):
    """Return the floor's normal, the camera's height over it, and how many readings it has."""
    height = -expected_offset
    for i in range(3):
        height += expected[i] * map_from_camera[i, 3]
    # two directions in the floor, at right angles
    helper = np.zeros(3)
    helper[0 if abs(expected[0]) < 0.9 else 1] = 1.0
    first = np.cross(expected, helper)
    first /= np.sqrt((first * first).sum())
    across = np.stack((first, np.cross(expected, first), expected))
    axes = np.zeros((3, 3))  # the same, and the way up, in the camera's axes
    for i in range(3):
        for j in range(3):
            for k in range(3):
                axes[i, j] += across[i, k] * map_from_camera[k, j]
    slope_a, slope_b, offset, readings = _fit(
        depth[::_STEP, ::_STEP], rays[::_STEP, ::_STEP], axes, height, most_slope, most_offset)
    tilted = expected - slope_a * across[0] - slope_b * across[1]
    length = np.sqrt((tilted * tilted).sum())
    return tilted / length, (height - offset) / length, readings


@njit(cache=True)
def _levelled(normal, expected, rotation):  # type: ignore[no-untyped-def]
    """Return ``rotation`` followed by the smallest turn that takes one normal to the other."""
    axis = np.cross(normal, expected)
    cosine = (normal * expected).sum()
    turned = np.empty((3, 3))
    for column in range(3):
        v = np.array([rotation[0, column], rotation[1, column], rotation[2, column]])
        once = np.cross(axis, v)
        turned[:, column] = v + once + np.cross(axis, once) / (1.0 + cosine)
    return turned


@njit(cache=True)
def _fit(depth, rays, axes, height, most_slope, most_offset):  # type: ignore[no-untyped-def]
    """Return slopes and offset of the floor against the expected one, and its readings."""
    points = np.empty((depth.shape[0] * depth.shape[1], 4))  # a, b, height, tolerance
    n = 0
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            z = depth[row, column]
            if not _NEAREST_M < z < _FARTHEST_M:
                continue
            x, y = rays[row, column, 0] * z, rays[row, column, 1] * z
            a = axes[0, 0] * x + axes[0, 1] * y + axes[0, 2] * z
            b = axes[1, 0] * x + axes[1, 1] * y + axes[1, 2] * z
            e = axes[2, 0] * x + axes[2, 1] * y + axes[2, 2] * z + height
            tolerance = _TOLERANCE_M + _TOLERANCE_PER_M * z
            if abs(e) < most_slope * np.sqrt(a * a + b * b) + most_offset + tolerance:
                points[n, 0], points[n, 1], points[n, 2], points[n, 3] = a, b, e, tolerance
                n += 1
    if n < _LEAST_READINGS:
        return 0.0, 0.0, 0.0, 0
    points = points[:n]
    best_a, best_b, best_c = 0.0, 0.0, 0.0
    best = _votes(points, best_a, best_b, best_c)
    np.random.seed(_SEED)
    for _ in range(_TRIALS):
        i, j, k = np.random.randint(0, n), np.random.randint(0, n), np.random.randint(0, n)
        a1, b1 = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1]
        a2, b2 = points[k, 0] - points[i, 0], points[k, 1] - points[i, 1]
        e1, e2 = points[j, 2] - points[i, 2], points[k, 2] - points[i, 2]
        area = a1 * b2 - a2 * b1
        if abs(area) < 1e-2:  # thinner triangles tell nothing about the slope
            continue
        slope_a, slope_b = (e1 * b2 - e2 * b1) / area, (a1 * e2 - a2 * e1) / area
        offset = points[i, 2] - slope_a * points[i, 0] - slope_b * points[i, 1]
        if slope_a ** 2 + slope_b ** 2 > most_slope ** 2 or abs(offset) > most_offset:
            continue
        votes = _votes(points, slope_a, slope_b, offset)
        if votes > best:
            best, best_a, best_b, best_c = votes, slope_a, slope_b, offset
    for _ in range(3):
        best_a, best_b, best_c, readings = _refined(
            points, best_a, best_b, best_c, most_slope, most_offset)
    if readings < _LEAST_READINGS or best_a ** 2 + best_b ** 2 > most_slope ** 2:
        return 0.0, 0.0, 0.0, 0
    return best_a, best_b, best_c, readings


@njit(cache=True)
def _votes(points, slope_a, slope_b, offset):  # type: ignore[no-untyped-def]
    votes = 0.0
    step = max(1, len(points) // 800)
    for i in range(0, len(points), step):
        e = points[i, 2] - slope_a * points[i, 0] - slope_b * points[i, 1] - offset
        near = abs(e) / points[i, 3]
        if near < 1.0:
            votes += 1.0 - near * near
        elif e < -2.0 * points[i, 3]:
            votes -= 1.0
    return votes


@njit(cache=True)
def _refined(  # type: ignore[no-untyped-def]
    points, slope_a, slope_b, offset, most_slope, most_offset,
):
    """Return the least squares over what lies on a plane, with the expected one as a prior."""
    # readings of neighbouring pixels err together: each is worth a few centimetres, not its noise
    saa = sbb = (0.04 / most_slope) ** 2
    scc = (0.04 / max(most_offset, 1e-3)) ** 2
    sab = sac = sbc = sae = sbe = sce = 0.0
    readings = 0
    for i in range(len(points)):
        a, b, e = points[i, 0], points[i, 1], points[i, 2]
        if abs(e - slope_a * a - slope_b * b - offset) > points[i, 3]:
            continue
        readings += 1
        saa += a * a
        sbb += b * b
        scc += 1.0
        sab += a * b
        sac += a
        sbc += b
        sae += a * e
        sbe += b * e
        sce += e
    # Cramer's rule
    det = (saa * (sbb * scc - sbc * sbc) - sab * (sab * scc - sbc * sac)
           + sac * (sab * sbc - sbb * sac))
    new_a = (sae * (sbb * scc - sbc * sbc) - sab * (sbe * scc - sbc * sce)
             + sac * (sbe * sbc - sbb * sce)) / det
    new_b = (saa * (sbe * scc - sbc * sce) - sae * (sab * scc - sbc * sac)
             + sac * (sab * sce - sbe * sac)) / det
    new_c = (saa * (sbb * sce - sbe * sbc) - sab * (sab * sce - sbe * sac)
             + sae * (sab * sbc - sbb * sac)) / det
    return new_a, new_b, new_c, readings
