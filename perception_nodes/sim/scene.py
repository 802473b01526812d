"""
What a scene consists of, as plain data: no physics engine and no renderer.

Frames are those of REP 103: ``map`` has its origin on the floor and z up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import OccupancyMap
from perception_nodes.sim.classes import FIRST_OBJECT
from perception_nodes.sim.poses import fixed_matrix, Matrix, Pose

Rgb = tuple[float, float, float]
ShapeKind = Literal['plane', 'sphere', 'capsule', 'ellipsoid', 'cylinder', 'box']
Split = Literal['train', 'val', 'test']
SPLITS: tuple[Split, ...] = ('train', 'val', 'test')


@dataclass(frozen=True)
class Surface:
    """How a shape looks: a tint, times a texture of :mod:`perception_nodes.sim.textures`."""

    rgb: Rgb
    texture: str = ''  # empty: plain
    # 0 stretches one picture over each side; else repeats per metre along local x and y
    repeats_per_m: float = 0.0
    specular: float = 0.1
    shininess: float = 0.3


@dataclass(frozen=True)
class Shape:
    """
    A primitive in the frame of its thing.

    ``size_m`` is half of what one would measure: a box's half edges, an ellipsoid's radii, a
    sphere's radius, radius and half length of a cylinder or capsule (without its caps) along z,
    a plane's half edges (0: endless; it always collides endlessly).
    """

    kind: ShapeKind
    size_m: tuple[float, float, float]
    surface: Surface
    pose: Pose = Pose()  # thing_from_shape
    collides: bool = True


@dataclass(frozen=True)
class Thing:
    """One instance: a piece of furniture, an object, a person, a wall."""

    name: str  # unique in its scene
    family: str
    class_id: int
    shapes: tuple[Shape, ...]
    pose: Pose  # map_from_thing
    motion: Literal['fixed', 'free', 'walks', 'floats'] = 'fixed'
    density_kgpm3: float = 400.0
    path_xy_m: tuple[tuple[float, float], ...] = ()  # what a walking one goes along, in map
    speed_mps: float = 0.0

    @property
    def is_object(self) -> bool:
        """Return whether it is something to detect, other than floor, walls and door frames."""
        return self.class_id >= FIRST_OBJECT


@dataclass(frozen=True)
class Light:
    """A lamp in map; a directional one has no place."""

    position_m: tuple[float, float, float]
    direction: tuple[float, float, float]
    diffuse: Rgb
    specular: Rgb = (0.2, 0.2, 0.2)
    directional: bool = False


@dataclass(frozen=True)
class Footprint:
    """Outline of the robot on the ground: a disc, or a rectangle about base_link."""

    radius_m: float = 0.0
    length_m: float = 0.0
    width_m: float = 0.0

    @property
    def reach_m(self) -> float:
        """Return the distance of the farthest point from base_link."""
        return self.radius_m or float(np.hypot(self.length_m, self.width_m) / 2.0)


ROUND_ROBOT = Footprint(radius_m=0.21)
LONG_ROBOT = Footprint(length_m=0.508, width_m=0.432)  # that of the BARN challenge


@dataclass(frozen=True)
class RobotStart:
    """Where the robot starts, in map."""

    x_m: float
    y_m: float
    yaw_rad: float
    footprint: Footprint = ROUND_ROBOT


@dataclass(frozen=True)
class Workspace:
    """The piece of table that the second camera and the gripper work on, in map."""

    centre_m: tuple[float, float, float]  # on the surface
    half_size_m: tuple[float, float]  # along x and y
    map_from_camera: tuple[tuple[float, ...], ...]  # (4, 4), optical frame of the table camera

    @property
    def camera_pose(self) -> Matrix:
        """Return the (4, 4) map_from_camera."""
        return np.array(self.map_from_camera)


@dataclass(frozen=True)
class Scene:
    """Everything that is drawn from a seed before physics starts."""

    world: str
    seed: int
    split: Split
    things: tuple[Thing, ...]
    lights: tuple[Light, ...]
    ambient: Rgb  # light from everywhere
    headlight: Rgb  # light from the camera
    sky: tuple[Rgb, Rgb]  # overhead, underfoot
    bounds_xy_m: tuple[float, float, float, float]  # x_min, y_min, x_max, y_max of the world
    interior_xy_m: tuple[float, float, float, float] | None = None  # between the walls of a room
    robot: RobotStart | None = None
    goal_xy_m: tuple[float, float] | None = None
    workspace: Workspace | None = None
    has_gripper: bool = False
    settle_s: float = 0.0  # how long physics runs before time 0
    is_herded: bool = False  # while it does, nothing rolls off the workspace
    wave_height_m: float = 0.0  # of a water surface; 0: a floor


def corners(shape: Shape) -> npt.NDArray[np.float64]:
    """Return the (8, 3) corners of the shape's bounding box in its own frame, metres."""
    signs = np.array(np.meshgrid((-1, 1), (-1, 1), (-1, 1), indexing='ij')).reshape(3, -1).T
    return signs * half_extents(shape)


def half_extents(shape: Shape) -> npt.NDArray[np.float64]:
    """Return the (3,) half edges of the shape's bounding box in its own frame, metres."""
    a, b, c = shape.size_m
    if shape.kind in ('cylinder', 'capsule'):
        return np.array([a, a, b + (a if shape.kind == 'capsule' else 0.0)])
    if shape.kind == 'sphere':
        return np.array([a, a, a])
    return np.array([a, b, 0.0 if shape.kind == 'plane' else c])


def bounds(shapes: Sequence[Shape]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the (3,) lowest and highest coordinates of the shapes in their thing's frame."""
    lows, highs = zip(
        *(shape_extent(shape, fixed_matrix(shape.pose)) for shape in shapes), strict=True)
    return np.min(lows, axis=0), np.max(highs, axis=0)


def shape_extent(
    shape: Shape, parent_from_shape: Matrix
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the exact axis-aligned extent of one shape in the parent frame."""
    turn, centre = parent_from_shape[:3, :3], parent_from_shape[:3, 3]
    a, b, _ = shape.size_m
    if shape.kind in ('sphere', 'ellipsoid'):
        reach = np.linalg.norm(turn * half_extents(shape), axis=1)
    elif shape.kind == 'capsule':
        reach = np.abs(turn[:, 2]) * b + a
    elif shape.kind == 'cylinder':
        reach = np.abs(turn[:, 2]) * b + a * np.sqrt(np.clip(1.0 - turn[:, 2] ** 2, 0.0, 1.0))
    else:
        reach = np.abs(turn) @ half_extents(shape)
    return centre - reach, centre + reach


def outline(shape: Shape, map_from_shape: Matrix) -> npt.NDArray[np.float64]:
    """
    Return points on the shape whose convex hull, seen from above, is its footprint.

    :return: (N, 2) metres in map; round shapes are good to 1 % of their radius.
    """
    a, b, _ = shape.size_m
    turn, centre = map_from_shape[:3, :3], map_from_shape[:3, 3]
    angles = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if shape.kind in ('sphere', 'ellipsoid'):
        spread = (turn * half_extents(shape))[:2]  # the outline is that of spread @ unit sphere
        return centre[:2] + ring @ _root(spread @ spread.T)
    if shape.kind == 'capsule':
        ends = np.array([[0.0, 0.0, -b], [0.0, 0.0, b]]) @ turn.T + centre
        return (ends[:, None, :2] + a * ring[None]).reshape(-1, 2)
    if shape.kind == 'cylinder':
        rims = np.concatenate([
            np.column_stack([a * ring, np.full(len(ring), z)]) for z in (-b, b)])
        return (rims @ turn.T + centre)[:, :2]
    return (corners(shape) @ turn.T + centre)[:, :2]


def _root(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


def occupancy(
    scene: Scene, z_low_m: float, z_high_m: float, resolution_m: float = 0.05,
    poses: Sequence[Matrix] | None = None, only_fixed: bool = False,
) -> OccupancyMap:
    """
    Draw where a body between two heights cannot be, from the description itself.

    :param z_low_m: Things below this height are driven over.
    :param z_high_m: Things above this height are driven under.
    :param poses: map_from_thing of every thing, for a scene in motion; None takes the start.
    :param only_fixed: Leave out what can move.
    :return: Grid in map over the scene's bounds; a cell that a thing touches is occupied.
    """
    x_min, y_min, x_max, y_max = scene.bounds_xy_m
    shape = (int(np.ceil((y_max - y_min) / resolution_m)),
             int(np.ceil((x_max - x_min) / resolution_m)))
    cells = np.zeros(shape, np.uint8)
    for i, thing in enumerate(scene.things):
        if only_fixed and thing.motion != 'fixed':
            continue
        pose = thing.pose.matrix if poses is None else poses[i]
        for part in thing.shapes:
            if part.kind != 'plane' and part.collides:
                _draw(cells, part, pose @ fixed_matrix(part.pose), (x_min, y_min), resolution_m,
                      (z_low_m, z_high_m))
    return OccupancyMap(cells.view(np.int8), resolution_m, (x_min, y_min), 'map')


def _draw(
    cells: npt.NDArray[np.uint8], part: Shape, map_from_part: Matrix,
    origin_m: tuple[float, float], resolution_m: float, band_m: tuple[float, float],
) -> None:
    low, high = shape_extent(part, map_from_part)
    if low[2] > band_m[1] or high[2] < band_m[0]:
        return
    points = (outline(part, map_from_part) - origin_m) / resolution_m - 0.5
    sixteenths = np.round(points * 16.0).astype(np.int32)
    hull = cv2.convexHull(sixteenths.reshape(-1, 1, 2))
    cv2.fillConvexPoly(cells, hull, 100, lineType=cv2.LINE_8, shift=4)
