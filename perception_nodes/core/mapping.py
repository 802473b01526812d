"""Obstacle maps from depth: a rolling grid of log-odds that forgets what it sees through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
import math
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core import mapping_kernels as kernels
from perception_nodes.core import scan_kernels
from perception_nodes.core.geometry import (
    check_size,
    distortion_coefficients,
    inverse,
    pixel_rays,
    Plane,
    up_in_camera,
)
from perception_nodes.core.ground import find_ground, Ground
from perception_nodes.core.params import param, Params
from perception_nodes.core.semantics import (
    class_ids,
    class_table,
    NO_CLASS,
    OCCUPIED_COST,
    parse_rules,
)
from perception_nodes.core.types import CameraIntrinsics, LaserRanges, OccupancyMap
from perception_nodes.core.water_surface import sort_classes, water_depth, WaterPlane

# the log-odds that one look adds or takes, and the range they stay in: a cell that was surely
# free becomes occupied with one look, one that was surely occupied becomes free with two
HIT, MISS = 1.5, 1.5
SUREST_FREE, SUREST_OCCUPIED = -1.0, 2.0
FREE, OCCUPIED = -0.4, 0.4  # what is between is unknown
_ODDS = (HIT, MISS, SUREST_FREE, SUREST_OCCUPIED, OCCUPIED)
# depth whose median is outside is in another unit
_PLAUSIBLE_M = (0.05, 100.0)
_LEAST_SAMPLE = 20
_NO_NAMES: Mapping[int, str] = {}
_MOST_PUBLISHED_CLASS = 127  # of an OccupancyGrid
_INFLATION_DECAY = 4.6  # from 99 to 1 over the radius
T = TypeVar('T', bound=np.generic)
_POINT_STEP, _RAY_STEP = 2, 4  # pixels between the points that are published
_BEAMS = 720
_LEVEL = np.array([0.0, 0.0, 1.0])  # normal of what is level in the map
_LEAST_UPRIGHT = 0.5  # cosine of the tilt of a laser's beams
_METRES_PER_STEP = 0.3  # that a robot may jump between two frames, beyond its speed


@dataclass(frozen=True, kw_only=True)
class MappingParams(Params):
    """Parameters of obstacle maps, in the node and in the benchmark."""

    map_frame: str = param('odom', 'Frame of the map; its z axis must point up.')
    base_frame: str = param(
        'base_link', "Frame the map is centred on, its x-y plane on the floor; '' for a camera "
        "in the hand: the map follows the camera and the floor is that of map_frame.")
    size_m: float = param(10.0, 'Side of the square map.', unit='m', ge=1.0, le=100.0)
    resolution_m: float = param(0.05, 'Side of a cell.', unit='m', ge=0.01, le=1.0)
    min_height_m: float = param(
        0.03, 'Lower things are floor.', unit='m', ge=0.0, le=1.0, dynamic=True)
    min_height_slope: float = param(
        0.004, 'How much min_height_m grows with the distance from the camera.', unit='m/m',
        ge=0.0, le=0.1, dynamic=True)
    max_height_m: float = param(
        1.8, 'Higher things do not stand in the way.', unit='m', ge=0.1, le=10.0)
    min_depth_m: float = param(
        0.2, 'Nearer readings are ignored, such as those of the robot itself.', unit='m', ge=0.0,
        dynamic=True)
    max_depth_m: float = param(
        6.0, 'Farther readings only clear.', unit='m', ge=0.5, dynamic=True)
    min_points: int = param(
        3, 'Fewest readings that make a cell occupied.', ge=1, dynamic=True)
    min_area_cm2: float = param(
        0.5, 'Least visible area that makes a cell occupied.', unit='cm2', ge=0.0, dynamic=True)
    depth_noise: float = param(
        0.002, 'Standard deviation of depth at 1 m; it grows with the square of the distance.',
        unit='m', ge=0.0, le=0.1, dynamic=True)
    ground_height_m: float = param(
        0.0, 'Height of the floor in base_frame, or in map_frame without one.', unit='m')
    ground_tilt_deg: float = param(
        5.0, 'Largest error of the transforms in tilt that the floor may correct; 0: none.',
        unit='deg', ge=0.0, le=20.0, dynamic=True)
    ground_offset_m: float = param(
        0.1, 'Largest error of the transforms in height that the floor may correct.', unit='m',
        ge=0.0, le=1.0, dynamic=True)
    memory_s: float = param(
        30.0, 'Time after which what is out of sight is as good as forgotten.', unit='s', ge=0.1,
        dynamic=True)
    max_speed_mps: float = param(
        5.0, 'A robot that is faster was moved: the map starts again.', unit='m/s', ge=0.1,
        dynamic=True)

    surface: str = param(
        'ground', "What things stand on: 'ground', which is found in the depth image, or 'water', "
        'which attitude and height tell; things on it then come from a segmentation (use_mask).',
        choices=('ground', 'water'))
    water_classes: tuple[str, ...] = param(
        ('water',), 'Names or numbers of the classes of the mask that are water.')
    use_depth: bool = param(
        True, 'Whether there is depth; on water it may be false, then topic image is read.')
    use_imu: bool = param(
        False, 'Let an IMU (topic imu), not map_frame, tell how a camera over water is tilted.')
    inflation_radius_m: float = param(
        0.0, 'Distance within which cells cost the more, the nearer an obstacle is; 0: none.',
        unit='m', ge=0.0, le=5.0, dynamic=True)
    use_scan: bool = param(
        False, 'Let a laser scan mark and clear, too (topic scan).')
    use_mask: bool = param(
        False, 'Give cells the class that a segmentation mask shows there (topics mask and '
        'label_info).')
    class_rules: tuple[str, ...] = param(
        (), "What classes mean, such as 'person memory_s=2 margin_m=0.3' or 'grass cost=30'; also "
        'weight, 0 of which never marks. Needs use_mask.', dynamic=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            rules = parse_rules(self.class_rules)
        except ValueError as error:
            raise ValueError(f"parameter 'class_rules': {error}") from None
        if rules and not self.use_mask:
            raise ValueError(
                "parameter 'class_rules' is set, but 'use_mask' is false: without a mask there "
                'are no classes')
        if self.is_water and not self.use_mask:
            raise ValueError(
                "parameter 'surface' is water, but 'use_mask' is false: on water, obstacles come "
                'from the mask of a segmentation')
        if not self.is_water and (self.use_imu or not self.use_depth):
            raise ValueError(
                "parameters 'use_imu: true' and 'use_depth: false' are for 'surface: water'; on "
                'the ground the map is made of depth')

    @property
    def is_water(self) -> bool:
        """Return whether the map is one of water."""
        return self.surface == 'water'

    @property
    def cells(self) -> int:
        """Return the number of cells along a side of the map."""
        return round(self.size_m / self.resolution_m)


@dataclass(frozen=True, eq=False)
class View:
    """One depth image, with the pose that its own floor has levelled."""

    depth_m: npt.NDArray[np.float32]  # (H, W), NaN no reading, +inf beyond range
    intrinsics: CameraIntrinsics
    map_from_camera: npt.NDArray[np.float64]  # (4, 4) as the transforms have it
    ground: Ground
    noise: float  # standard deviation of depth at 1 m, growing with its square

    @cached_property
    def turn(self) -> npt.NDArray[np.float64]:
        """Return the (3, 3) turn from the camera's axes to the map's, levelled."""
        return self.ground.levelled(self.map_from_camera)

    @cached_property
    def rays(self) -> npt.NDArray[np.float32]:
        """Return the (H, W, 2) float32 rays of the pixels."""
        return pixel_rays(self.intrinsics)

    @property
    def camera_xy_m(self) -> npt.NDArray[np.float64]:
        """Return where in the map the camera is."""
        return self.map_from_camera[:2, 3]

    @cached_property
    def up(self) -> npt.NDArray[np.float64]:
        """Return the (3,) direction away from the floor, in the camera's axes."""
        return self.ground.prior_normal @ self.turn


class ObstacleMapper:
    """
    A square grid around a robot, in a frame that does not move with it.

    A cell is occupied when enough readings in the height band lie in it. It also remembers at
    which heights, and is free again when a ray passes through it there: on its way to the floor,
    to another surface or to beyond range. A ray over a low obstacle, or under a table, so takes
    nothing away. Cells without memory of an obstacle become free where their floor, or the space
    just over it, is seen. Readings that are NaN say nothing.

    The arrays are addressed modulo their size: when the robot moves, only cells that come into
    the map are touched.
    """

    def __init__(self, params: MappingParams, class_names: Mapping[int, str] = _NO_NAMES) -> None:
        self.params = params
        self.set_class_names(class_names)
        n = params.cells
        self._log_odds = np.zeros((n, n), np.float32)
        self._heights = np.zeros((n, n), np.uint32)  # one bit for each slice with an obstacle
        self._classes = np.full((n, n), NO_CLASS, np.uint8)
        self._counts = np.zeros((n, n), np.int32)
        self._seen = np.zeros((n, n), np.uint32)
        self._reset_where()

    def set_class_names(self, class_names: Mapping[int, str]) -> None:
        """
        Learn what the ids of masks mean; without names, only rules for numbers count.

        :raises ValueError: If a rule, or the name of water, is for a class that is not among
            them.
        """
        rules = parse_rules(self.params.class_rules)
        if not class_names:
            rules = {name: rule for name, rule in rules.items() if name.isdecimal()}
        self._table = class_table(rules, class_names)
        self.class_names = class_names
        self._water_ids = class_ids(self.params.water_classes, class_names) \
            if self.params.is_water else frozenset()

    def reset(self) -> None:
        """Forget everything."""
        self._log_odds[:] = 0.0
        self._heights[:] = 0
        self._classes[:] = NO_CLASS
        self._reset_where()

    def _reset_where(self) -> None:
        self._origin = (0, 0)  # column and row, of all the plane's, of the map's first cell
        self._centre_m: tuple[float, float] | None = None
        self._stamp_ns = 0

    def view(
        self, depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics,
        map_from_camera: npt.NDArray[np.float64], map_from_base: npt.NDArray[np.float64],
    ) -> View:
        """
        Check a depth image, and find its floor.

        :param depth_m: (H, W) float32 metres: NaN no reading, +inf beyond range.
        :param map_from_camera: (4, 4) pose of the camera's optical frame.
        :param map_from_base: (4, 4) pose of the robot, whose x-y plane is the floor.
        :raises ValueError: If the image has another size than the camera, or its numbers cannot
            be metres.
        """
        check_size(depth_m, intrinsics)
        depth_m = _read_only(depth_m)
        check_plausible(depth_m)
        p = self.params
        ground = find_ground(
            depth_m, pixel_rays(intrinsics), map_from_camera, self._floor(map_from_base),
            p.ground_tilt_deg, p.ground_offset_m)
        return View(depth_m, intrinsics, map_from_camera, ground, p.depth_noise)

    def view_water(
        self, ids: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], intrinsics: CameraIntrinsics,
        map_from_camera: npt.NDArray[np.float64], map_from_base: npt.NDArray[np.float64],
        depth_m: npt.NDArray[np.float32] | None = None,
        up: npt.NDArray[np.float64] | None = None,
    ) -> View:
        """
        Find how far things on water are, from a mask of what is water.

        :param ids: (H, W) class of each pixel; 255 and more are no class.
        :param map_from_camera: (4, 4) pose of the camera's optical frame.
        :param map_from_base: (4, 4) pose of the robot, whose origin is ``ground_height_m`` under
            the water's surface, or over it.
        :param depth_m: (H, W) float32 metres, where a depth camera helps.
        :param up: (3,) against gravity in the camera's frame, as an IMU tells; else the z axis
            of the map is.
        :raises ValueError: If sizes do not agree, the camera is under water, or which class is
            water is not known.
        """
        if not self._water_ids:
            raise ValueError(
                f"which class is water ({', '.join(self.params.water_classes)}) is not known: no "
                "label_info has told it; give 'water_classes' as numbers, or as names of the "
                'model that makes the masks')
        if up is None:
            up = up_in_camera(map_from_camera)
        up_in_map = map_from_camera[:3, :3] @ up
        height_m = float(up_in_map @ (map_from_camera[:3, 3] - map_from_base[:3, 3]))
        plane = WaterPlane(up, height_m - self.params.ground_height_m)
        ground = Ground(_LEVEL, up_in_map, plane.camera_height_m, readings=0)
        depth_m = water_depth(
            sort_classes(ids, self._water_ids), plane, intrinsics, depth_m)
        # the line of contact is known to about a row
        noise = max(self.params.depth_noise, plane.range_error_m(1.0, intrinsics))
        return View(depth_m, intrinsics, map_from_camera, ground, noise)

    def move(self, map_from_base: npt.NDArray[np.float64], stamp_ns: int) -> bool:
        """
        Centre the map on the robot at a moment, and let what is known fade until then.

        :return: Whether the robot was moved in a way it cannot move, and the map is empty now.
        """
        x, y = map_from_base[:2, 3].tolist()
        elapsed_s = max(0.0, (stamp_ns - self._stamp_ns) * 1e-9)
        moved_m = math.dist((x, y), self._centre_m) if self._centre_m else 0.0
        jumped = moved_m > _METRES_PER_STEP + self.params.max_speed_mps * elapsed_s
        if jumped:
            self.reset()
        elif self._centre_m and elapsed_s > 0.0:
            kernels.fade(
                self._log_odds, self._heights, self._classes, elapsed_s, self.params.memory_s,
                self._table.memories_s, OCCUPIED)
        self._centre_m, self._stamp_ns = (x, y), max(stamp_ns, self._stamp_ns)
        half, resolution = self.params.cells // 2, self.params.resolution_m
        origin = math.floor(x / resolution) - half, math.floor(y / resolution) - half
        if origin != self._origin:
            self._scroll(origin)
        return jumped

    def integrate(self, view: View) -> None:
        """Mark what a view shows, and clear what it shows through."""
        n = self.params.cells
        column, row = self._origin
        shot = self._shot(view)
        kernels.integrate(
            shot, column % n, row % n, self._counts, self._seen, self._log_odds, self._heights,
            self._classes, self._table.weights, _ODDS)

    def integrate_scan(
        self, scan: LaserRanges, map_from_laser: npt.NDArray[np.float64],
        map_from_base: npt.NDArray[np.float64],
    ) -> None:
        """
        Mark where beams end, and clear what they pass through, at the height of the beams.

        What stands in a cell at other heights stays, as what the laser saw stays under camera
        rays that pass over it. Of cells without memory of an obstacle, beams lower than 0.4 m
        free those they pass over.

        :param scan: +inf clears up to its largest range; NaN, -inf and ranges out of its limits
            say nothing.
        :param map_from_laser: (4, 4) pose of the scan's frame.
        :param map_from_base: (4, 4) pose of the robot, whose x-y plane is the floor.
        :raises ValueError: If the beams run up and down.
        """
        if abs(map_from_laser[2, 2]) < _LEAST_UPRIGHT:
            raise ValueError(
                f"the beams of '{scan.frame_id}' are tilted by more than 60 degrees; a scan for "
                'the map must be about level')
        p, n = self.params, self.params.cells
        column, row = self._origin
        floor = self._floor(map_from_base)
        corner_m = np.array(self._origin) * p.resolution_m
        beams = (scan.ranges_m, (scan.angle_min_rad, scan.angle_increment_rad), scan.range_min_m,
                 scan.range_max_m, map_from_laser, floor.normal, floor.offset_m, corner_m,
                 p.resolution_m)
        scan_kernels.count(*beams, p.min_height_m, p.max_height_m, self._counts, self._seen)
        scan_kernels.update(
            *beams, p.max_height_m, column % n, row % n, self._counts, self._seen,
            self._log_odds, self._heights, self._classes, self._table.weights, _ODDS)

    def _floor(self, map_from_base: npt.NDArray[np.float64]) -> Plane:
        """Return where the transforms expect the floor, or the water, which no boat tilts."""
        normal = _LEVEL if self.params.is_water else np.ascontiguousarray(map_from_base[:3, 2])
        return Plane(
            normal, float(normal @ map_from_base[:3, 3]) + self.params.ground_height_m)

    def _shot(self, view: View) -> kernels.Shot:
        p, k = self.params, view.intrinsics
        corner_m = np.array(self._origin) * p.resolution_m
        return kernels.Shot(
            depth=view.depth_m, rays=view.rays, pixels=np.array([k.fx, k.fy, k.cx, k.cy]),
            bent=any(k.distortion), bends=distortion_coefficients(k), bounds=_bounds(k),
            turn=view.turn, up=view.up, normal=view.ground.prior_normal,
            camera_height=view.ground.camera_height_m,
            camera=(view.camera_xy_m - corner_m) / p.resolution_m, resolution=p.resolution_m,
            min_height=p.min_height_m, min_height_slope=p.min_height_slope,
            max_height=p.max_height_m, min_depth=p.min_depth_m, max_depth=p.max_depth_m,
            min_points=float(p.min_points), min_area=p.min_area_cm2 * 1e-4 * k.fx * k.fy,
            noise=view.noise)

    def label(self, view: View, ids: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> None:
        """
        Take over what things are, from a mask of the image that a view was made of.

        :param ids: (H, W) class of each pixel; 255 and more are no class.
        :raises ValueError: If the mask has another size than the depth image.
        """
        check_size(ids, view.intrinsics)
        n = self.params.cells
        column, row = self._origin
        kernels.classify(
            self._shot(view), _read_only(ids), _POINT_STEP, column % n, row % n, self._log_odds,
            self._classes, OCCUPIED)

    def occupancy(self) -> OccupancyMap:
        """
        Return the map as it is now: 0 free, -1 unknown, else the cost of what is there.

        That is 100, unless a class has another; about obstacles also their margin or inflation.
        """
        cells = np.empty(self._log_odds.shape, np.int8)
        n = self.params.cells
        column, row = self._origin
        kernels.publishable(
            self._log_odds, self._classes, self._table.costs, column % n, row % n, FREE, OCCUPIED,
            cells)
        if self._table.margins_m:
            self._widen(cells)
        if self.params.inflation_radius_m > 0.0:
            inflate(cells, self.params.inflation_radius_m / self.params.resolution_m)
        return self._as_map(cells)

    def class_map(self) -> OccupancyMap:
        """Return the class of each cell, -1 where none is known or the cell is unknown."""
        known = (self._log_odds > OCCUPIED) | (self._log_odds < FREE)
        is_class = known & (self._classes <= _MOST_PUBLISHED_CLASS)
        classes = np.where(is_class, self._classes, np.uint8(NO_CLASS)).astype(np.int8)
        return self._as_map(self._in_order(classes))

    def _widen(self, cells: npt.NDArray[np.int8]) -> None:
        """Put the margin of each class that has one around its obstacles."""
        classes = self._in_order(self._classes)
        occupied = self._in_order(self._log_odds) > OCCUPIED
        for class_id, margin_m in self._table.margins_m.items():
            reach = round(margin_m / self.params.resolution_m)
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
            there = (occupied & (classes == class_id)).astype(np.uint8)
            wide = cv2.dilate(there, disc) > 0
            cells[wide] = np.maximum(cells[wide], self._table.costs[class_id])

    def _in_order(self, plane: npt.NDArray[T]) -> npt.NDArray[T]:
        """Return an array of all cells as the map lies."""
        n = self.params.cells
        column, row = self._origin
        return np.roll(plane, (-(row % n), -(column % n)), axis=(0, 1))

    def _as_map(self, cells: npt.NDArray[np.int8]) -> OccupancyMap:
        resolution = self.params.resolution_m
        column, row = self._origin
        return OccupancyMap(
            cells, resolution, (column * resolution, row * resolution), self.params.map_frame)

    def obstacle_points(self, view: View) -> npt.NDArray[np.float32]:
        """
        Return the readings of a view that lie in occupied cells.

        :return: (N, 3) float32 metres in the camera's optical frame.
        """
        n, step = self.params.cells, _POINT_STEP
        points = np.empty((view.depth_m[::step, ::step].size, 3), np.float32)
        column, row = self._origin
        count = kernels.obstacle_points(
            self._shot(view), step, column % n, row % n, self._log_odds, OCCUPIED, points)
        return points[:count]

    def ray_ends(self, view: View) -> npt.NDArray[np.float32]:
        """
        Return where the rays of a view end: on obstacles, on the floor, or leaving the map.

        Everything between the camera and them is free; pixels without a reading have no end.

        :return: (N, 3) float32 metres in the camera's optical frame.
        """
        step = _RAY_STEP
        ends = np.empty((view.depth_m[::step, ::step].size, 3), np.float32)
        count = kernels.ray_ends(
            view.depth_m, view.rays, step, self.params.min_depth_m, self.params.size_m, ends)
        return ends[:count]

    def sweep(
        self, views: Sequence[View], map_from_base: npt.NDArray[np.float64], stamp_ns: int
    ) -> LaserRanges:
        """
        Return what a laser on the robot would measure if obstacles of any height stopped it.

        What the map remembers counts as well: a camera does not see what is beside the robot,
        nor at its feet.

        :return: Ranges all about ``base_frame``: +inf where only floor was seen, NaN where
            nothing was.
        """
        ranges = np.full(_BEAMS, np.nan, np.float32)
        base_from_map = inverse(map_from_base)
        for view in views:
            base_from_camera = base_from_map @ view.map_from_camera
            kernels.sweep(
                base_from_camera, self.obstacle_points(view), self.ray_ends(view), ranges)
        p, n = self.params, self.params.cells
        column, row = self._origin
        x, y = map_from_base[:2, 3] - np.array(self._origin) * p.resolution_m
        yaw = math.atan2(map_from_base[1, 0], map_from_base[0, 0])
        kernels.sweep_memory(
            self._log_odds, column % n, row % n, x, y, yaw, p.resolution_m, p.size_m / 2.0, FREE,
            OCCUPIED, ranges)
        increment = 2.0 * math.pi / _BEAMS
        return LaserRanges(
            ranges, increment / 2.0 - math.pi, increment, 0.0, max(p.max_depth_m, p.size_m),
            stamp_ns, p.base_frame or p.map_frame)

    def _scroll(self, origin: tuple[int, int]) -> None:
        """Move the map's first cell, and make unknown what comes in."""
        n = self.params.cells
        (old_column, old_row), self._origin = self._origin, origin
        for axis, (old, new) in enumerate(((old_row, origin[1]), (old_column, origin[0]))):
            low, high = min(old, new), max(old, new)
            fresh = np.arange(max(low, high - n), high) % n
            at = fresh if axis == 0 else (slice(None), fresh)
            self._log_odds[at] = 0.0
            self._heights[at] = 0
            self._classes[at] = NO_CLASS


def inflate(cells: npt.NDArray[np.int8], radius: float) -> None:
    """
    Let cells near an obstacle cost something: 99 next to it, 1 at the radius, in place.

    :param cells: (N, N) int8; those that are free or unknown and within reach are changed.
    :param radius: In cells.
    """
    distance = cv2.distanceTransform((cells != OCCUPIED_COST).astype(np.uint8), cv2.DIST_L2, 5)
    reached = (distance > 0.0) & (distance <= radius)
    cost = np.round(99.0 * np.exp(-_INFLATION_DECAY * distance[reached] / radius)).astype(np.int8)
    cells[reached] = np.maximum(cells[reached], np.maximum(cost, 1))


@lru_cache(maxsize=8)
def _bounds(intrinsics: CameraIntrinsics) -> npt.NDArray[np.float64]:
    """Return left, right, top and bottom of what a camera sees at z = 1."""
    rays = pixel_rays(intrinsics)
    low, high = np.nanmin(rays, axis=(0, 1)), np.nanmax(rays, axis=(0, 1))
    return np.array([low[0], high[0], low[1], high[1]], np.float64)


def check_plausible(depth_m: npt.NDArray[np.float32]) -> None:
    """
    Check that a depth image holds metres.

    :raises ValueError: If it holds no reading at all, or its numbers are too large or too small
        for metres.
    """
    readings, finite, small, large = kernels.census(depth_m, *_PLAUSIBLE_M)
    if readings == 0 and not (depth_m > 0.0).any():
        raise ValueError(
            'the depth image holds no reading: is the camera covered, too close to everything, '
            'or its depth stream without texture or light?')
    if finite >= _LEAST_SAMPLE and 2 * max(small, large) > finite:
        raise ValueError(
            f'the median of the depth image is {np.median(depth_m[np.isfinite(depth_m)]):.4g} m, '
            'which no camera sees: 32FC1 must hold metres and 16UC1 millimetres; ask the driver '
            'for that unit')


def _read_only(image: npt.NDArray[T]) -> npt.NDArray[T]:
    """Return a view that is always of one type to the compiler."""
    same = np.ascontiguousarray(image).view()
    same.flags.writeable = False
    return same


def warm_up(params: MappingParams) -> None:
    """Compile every loop, so that the first frame is not the slow one."""
    mapper = ObstacleMapper(params)
    intrinsics = CameraIntrinsics.from_fov(64, 48, 60.0)
    depth_m = np.full((48, 64), 1.0, np.float32)
    map_from_camera = np.array([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0],
                                [0.0, -1.0, 0.0, 0.5], [0.0, 0.0, 0.0, 1.0]])
    view = mapper.view(depth_m, intrinsics, map_from_camera, np.eye(4))
    for _ in range(2):
        mapper.move(np.eye(4), 0)
        mapper.integrate(view)
    mapper.label(view, np.zeros((48, 64), np.uint8))
    if params.is_water:
        plane = WaterPlane(view.up, view.ground.camera_height_m)
        water_depth(np.ones((48, 64), np.uint8), plane, intrinsics)
    mapper.occupancy()
    swept = mapper.sweep([view], np.eye(4), 0)
    if params.use_scan:
        mapper.integrate_scan(swept, np.eye(4), np.eye(4))
