"""
The rules of :mod:`perception_nodes.core.mapping` once more, in plain numpy.

It is what the compiled loops are tested against, and what they are to be faster than.
"""

import numpy as np
import numpy.typing as npt
from perception_nodes.core import mapping
from perception_nodes.core.mapping import MappingParams, View
from perception_nodes.core.mapping_kernels import SLICES
from perception_nodes.core.types import CameraIntrinsics, OccupancyMap

FLOOR_LOOKS_M = (0.0, 0.15)
PROBES = ((0.0, 0.0), (-0.35, 0.0), (0.35, 0.0), (0.0, -0.45), (0.0, 0.45))
TAIL, JUMP, LEVEL_M, NOISE = 0.05, 0.04, 0.015, 2.0
TOUCH, FADED = 4, 0.9


class ReferenceMapper:
    """A map of undistorted cameras, whose arrays lie as the map does and are copied to move."""

    def __init__(self, params: MappingParams) -> None:
        self.params = params
        n = params.cells
        self.log_odds = np.zeros((n, n))
        self.heights = np.zeros((n, n, SLICES), bool)
        self.origin = np.zeros(2, np.int64)  # column and row of the map's first cell
        self.is_placed = False
        self.stamp_ns = 0

    def move(self, map_from_base: npt.NDArray[np.float64], stamp_ns: int) -> None:
        """Centre the map on the robot, and let it fade."""
        n = self.params.cells
        first = np.floor(map_from_base[:2, 3] / self.params.resolution_m).astype(int) - n // 2
        if self.is_placed:
            elapsed_s = (stamp_ns - self.stamp_ns) * 1e-9
            self.log_odds *= np.exp(-elapsed_s / self.params.memory_s)
            self.heights[self.log_odds < mapping.OCCUPIED] = False
            self._shift(first - self.origin)
        self.origin, self.stamp_ns, self.is_placed = first, stamp_ns, True

    def _shift(self, by: npt.NDArray[np.int64]) -> None:
        n = self.params.cells
        old_log_odds, old_heights = self.log_odds, self.heights
        self.log_odds, self.heights = np.zeros_like(old_log_odds), np.zeros_like(old_heights)
        columns, rows = (
            (slice(max(0, s), max(0, n + min(0, s))), slice(max(0, -s), max(0, n - max(0, s))))
            for s in by)
        self.log_odds[rows[1], columns[1]] = old_log_odds[rows[0], columns[0]]
        self.heights[rows[1], columns[1]] = old_heights[rows[0], columns[0]]

    def integrate(self, view: View) -> None:
        """Mark and clear what a view shows."""
        counts, seen = self._scatter(view)
        foot, lift = self._columns(view)
        marked = self._marked(counts, view.intrinsics, foot, lift)
        self.log_odds[marked] = np.minimum(
            self.log_odds[marked] + mapping.HIT, mapping.SUREST_OCCUPIED)
        self.heights[marked] |= seen[marked]
        top = foot[..., 2] + lift[2] * self.params.max_height_m
        looked = np.logical_and(
            ~marked, np.maximum(foot[..., 2], top) > self.params.min_depth_m)
        empty = ~self.heights.any(axis=2)
        floor = np.logical_and.reduce((
            looked, empty, self.log_odds >= FADED * mapping.SUREST_FREE))
        free = np.zeros_like(floor)
        free[floor] = self._floor_is_seen(view, foot[floor], lift)
        held = np.logical_and(looked, ~empty)
        kept = self._kept(view, foot[held], lift, self.heights[held])
        gone = np.logical_not(kept.any(axis=1))
        self.heights[held] = np.where(gone[:, None], self.heights[held], kept)
        free[held] = gone
        self.log_odds[free] = np.maximum(
            self.log_odds[free] - mapping.MISS, mapping.SUREST_FREE)
        self.heights[free & (self.log_odds < mapping.OCCUPIED)] = False

    def occupancy(self) -> OccupancyMap:
        """Return the map as it is now."""
        cells = np.full(self.log_odds.shape, -1, np.int8)
        cells[self.log_odds > mapping.OCCUPIED] = 100
        cells[self.log_odds < mapping.FREE] = 0
        x, y = self.origin * self.params.resolution_m
        return OccupancyMap(cells, self.params.resolution_m, (x, y), self.params.map_frame)

    def _scatter(self, view: View) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return (N, N) counts, and (N, N, slices) whether a slice has readings."""
        p = self.params
        n = p.cells
        z = view.depth_m
        with np.errstate(invalid='ignore'):
            height = np.float32(view.ground.camera_height_m) + z * (
                view.rays @ view.up[:2] + view.up[2]).astype(np.float32)
            wanted = np.logical_and.reduce((
                height >= p.min_height_m + p.min_height_slope * z, height < p.max_height_m,
                z >= p.min_depth_m, z <= p.max_depth_m, ~_flying(z, height)))
        wanted[[0, -1]] = wanted[:, [0, -1]] = False
        depth, rays = z[wanted], view.rays[wanted]
        points = np.column_stack([rays * depth[:, None], depth])
        xy = (points @ view.turn[:2].T + view.camera_xy_m) / p.resolution_m - self.origin
        inside = ((xy >= 0) & (xy < n)).all(axis=1)
        cell = xy[inside, 1].astype(int) * n + xy[inside, 0].astype(int)
        part = (height[wanted][inside] * np.float32(SLICES / p.max_height_m)).astype(int)
        counts = np.bincount(cell, minlength=n * n).reshape(n, n)
        per_slice = np.bincount(
            cell * SLICES + part, minlength=n * n * SLICES)
        return counts, per_slice.reshape(n, n, SLICES) > 0

    def _columns(self, view: View) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the camera's coordinates of each cell's floor, and what a metre up adds."""
        n, resolution = self.params.cells, self.params.resolution_m
        x = (self.origin[0] + np.arange(n) + 0.5) * resolution - view.camera_xy_m[0]
        y = (self.origin[1] + np.arange(n) + 0.5) * resolution - view.camera_xy_m[1]
        normal = view.ground.prior_normal
        across = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=2)
        down = -(view.ground.camera_height_m + across @ normal[:2]) / normal[2]
        return np.dstack([across, down]) @ view.turn, view.turn[2] / normal[2]

    def _marked(
        self, counts: npt.NDArray[np.int64], k: CameraIntrinsics,
        foot: npt.NDArray[np.float64], lift: npt.NDArray[np.float64],
    ) -> npt.NDArray[np.bool_]:
        p = self.params
        z = np.maximum(foot[..., 2] + 0.25 * lift[2] * p.max_height_m, 0.1)
        least = np.maximum(p.min_points, p.min_area_cm2 * 1e-4 * k.fx * k.fy / z ** 2)
        n = len(counts)
        padded = np.pad(counts, 2)
        most = np.max([padded[i:i + n, j:j + n] for i in range(5) for j in range(5)], axis=0)
        blurred = 4.0 * p.depth_noise * z ** 2 >= p.resolution_m
        return np.asarray((counts >= least) & (~blurred | (counts >= TAIL * most)))

    def _floor_is_seen(
        self, view: View, foot: npt.NDArray[np.float64], lift: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        looks = [self._through(view, foot + lift * h, h) > 0 for h in FLOOR_LOOKS_M]
        return np.asarray(np.any(looks, axis=0))

    def _kept(
        self, view: View, foot: npt.NDArray[np.float64], lift: npt.NDArray[np.float64],
        heights: npt.NDArray[np.bool_],
    ) -> npt.NDArray[np.bool_]:
        """Return the (M, slices) slices of M cells that are not seen through."""
        step = self.params.max_height_m / SLICES
        states = np.zeros(heights.shape, int)
        for side, up in PROBES:
            aside = np.array([side * self.params.resolution_m, 0.0, 0.0])
            at = np.maximum(
                (np.arange(SLICES) + 0.5 + up) * step, self.params.min_height_m)
            here = np.stack(
                [self._through(view, foot + lift * h + aside, h) for h in at], axis=1)
            states = np.where(states == 0, here, states)
        kept = np.zeros_like(heights)
        for cell, slices in enumerate(heights):
            edges = np.flatnonzero(np.diff(np.r_[0, slices.astype(int), 0]))
            for first, last in edges.reshape(-1, 2):
                run = states[cell, first:last]
                passed, hidden, touched = (run > 0).sum(), (run == 0).sum(), (run < 0).sum()
                if passed == 0 or passed < hidden or passed < TOUCH * touched:
                    kept[cell, first:last] = True
        return kept

    def _through(
        self, view: View, points: npt.NDArray[np.float64], h: float
    ) -> npt.NDArray[np.int64]:
        """Look at (M, 3) points: 1 seen through, -1 seen, 0 not known."""
        p, k, depth = self.params, view.intrinsics, view.depth_m
        z = points[:, 2]
        with np.errstate(invalid='ignore', divide='ignore'):
            u = k.fx * points[:, 0] / z + k.cx + 0.5
            v = k.fy * points[:, 1] / z + k.cy + 0.5
            inside = (z >= p.min_depth_m) & (u >= 0) & (u < k.width) & (v >= 0) & (v < k.height)
        column, row = np.where(inside, u, 0).astype(int), np.where(inside, v, 0).astype(int)
        reading = depth[row, column]
        for aside in (np.minimum(column + 2, k.width - 1), np.maximum(column - 2, 0)):
            reading = np.where(np.isnan(reading), depth[row, aside], reading)
        blur = p.depth_noise * z ** 2
        margin = 0.7 * p.resolution_m + NOISE * blur
        camera_height = view.ground.camera_height_m
        with np.errstate(invalid='ignore', divide='ignore'):
            end = camera_height + (h - camera_height) * reading / z
            is_floor = end < p.min_height_m + p.min_height_slope * reading
            beyond = is_floor & (reading > (z - 0.5 * blur if h == 0.0 else z))
            touched = (reading <= z + 0.7 * p.resolution_m) & (h > 0.0)
            at = np.where(beyond, 1, np.where(touched, -1, 0))
            state = np.where(reading > z + margin, 1, np.where(reading > z - margin, at, 0))
        return np.where(inside, state, 0)


def _flying(
    z: npt.NDArray[np.float32], height: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Return which readings hang between two surfaces, at the sides or above and below."""
    flying = np.zeros(z.shape, bool)
    with np.errstate(invalid='ignore'):
        jump = JUMP * z[1:-1, 1:-1]
        level = np.logical_and(*(
            np.abs(h - height[1:-1, 1:-1]) < LEVEL_M
            for h in (height[:-2, 1:-1], height[2:, 1:-1])))
        beside, over = (z[1:-1, :-2], z[1:-1, 2:]), (z[:-2, 1:-1], z[2:, 1:-1])
        for (one, other), surface in ((beside, np.zeros_like(level)), (over, level)):
            before, after = one - z[1:-1, 1:-1], other - z[1:-1, 1:-1]
            flying[1:-1, 1:-1] |= np.logical_and.reduce((
                ~(np.abs(before) <= jump), ~(np.abs(after) <= jump), ~(before * after > 0.0),
                np.logical_not(surface)))
    return flying
