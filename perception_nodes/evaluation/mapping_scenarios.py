"""Scenes with exact truth for obstacle maps, and what is measured in them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import deproject, inverse, project, transform_points
from perception_nodes.core.mapping import MappingParams
from perception_nodes.core.types import CameraIntrinsics
from perception_nodes.evaluation.depth_scenes import noisy, pose, render, Scene, Solid
from perception_nodes.evaluation.mapping_baselines import Mapper

CAMERA = CameraIntrinsics(640, 480, 525.0, 525.0, 319.5, 239.5)
FRAME_NS = 66_666_667
RANGE_M = 4.0  # within which cells are scored
FREE_SHARE = 0.95
GIVE_UP_FRAMES = 60
SURFACE_PIXELS = 3  # that must see a cell's surface for it to be missed
_NEIGHBOURS = np.ones((3, 3), np.uint8)
_UNOCCLUDED_SHARE = 0.5  # of a cell's points that must be seen to be empty
_BEHIND_M = 0.1  # that a ray must go on behind a place to have seen it empty

MakeMapper = Callable[[MappingParams], Mapper]


@dataclass(frozen=True, eq=False)
class Shots:
    """A camera in a scene, as it is and as the transforms have it."""

    scene: Scene
    map_from_camera: npt.NDArray[np.float64]
    believed: npt.NDArray[np.float64]


@dataclass(frozen=True)
class CellScore:
    """Cells near the robot against the surfaces in view."""

    right: int  # occupied, within a cell of a surface
    false: int  # occupied, with no surface near
    found: int  # cells of surfaces with an occupied one within a cell
    there: int  # cells of surfaces


def draw_shots(rng: np.random.Generator, pitch_error_deg: float = 0.0) -> Shots:
    """Draw a room with furniture, boxes, poles and often a wall, and a camera in it."""
    solids: list[Solid] = []
    for _ in range(rng.integers(3, 9)):
        x, y = rng.uniform(0.8, 4.5), rng.uniform(-2.5, 2.5)
        if rng.random() < 0.4:
            solids.append(Solid(x, y, rng.uniform(0.03, 0.4), 0.0, rng.uniform(0.05, 1.5)))
        else:
            solids.append(_box(rng, x, y, (0.05, 0.8), (0.05, 1.5)))
    if rng.random() < 0.4:
        solids += _table(rng.uniform(1.5, 4.0), rng.uniform(-2.0, 2.0))
    if rng.random() < 0.7:
        solids.append(Solid(rng.uniform(3, 6), 0.0, 0.1, 14.0, 2.5, yaw=rng.uniform(-0.5, 0.5)))
    return _shots(Scene(tuple(solids)), rng, pitch_error_deg)


def draw_cube_shots(rng: np.random.Generator, distance_m: float, pitch_error_deg: float) -> Shots:
    """Draw a 5 cm cube on a floor at some distance ahead, with a wall or nothing behind."""
    angle = rng.uniform(-0.4, 0.4)
    cube = Solid(distance_m * np.cos(angle), distance_m * np.sin(angle), 0.05, 0.05, 0.05,
                 yaw=rng.uniform(0, 1.5))
    others = [Solid(rng.uniform(3, 6), 0.0, 0.1, 14.0, 2.5)] if rng.random() < 0.5 else []
    return _shots(Scene((cube, *others)), rng, pitch_error_deg)


def _shots(scene: Scene, rng: np.random.Generator, pitch_error_deg: float) -> Shots:
    height = rng.uniform(0.3, 1.2)
    pitch = np.radians(rng.uniform(5.0, 15.0) + (height - 0.3) * 20.0)
    roll = np.radians(rng.uniform(-1.0, 1.0))
    believed = pose(0.0, 0.0, height, 0.0, pitch + np.radians(pitch_error_deg), roll)
    return Shots(scene, pose(0.0, 0.0, height, 0.0, pitch, roll), believed)


def _box(
    rng: np.random.Generator, x: float, y: float, sides_m: tuple[float, float],
    tops_m: tuple[float, float],
) -> Solid:
    length, width = rng.uniform(*sides_m, 2).tolist()
    return Solid(x, y, length, width, rng.uniform(*tops_m), yaw=rng.uniform(0.0, 3.0))


def _table(x: float, y: float) -> list[Solid]:
    legs = [Solid(x + a, y + b, 0.05, 0.05, 0.71) for a in (-0.35, 0.35) for b in (-0.55, 0.55)]
    return [Solid(x, y, 0.8, 1.2, 0.75, 0.71), *legs]


def visible_points(shots: Shots, params: MappingParams) -> npt.NDArray[np.float64]:
    """Return the (N, 3) points in the map that the camera sees of what stands in the way."""
    depth_m, what = render(shots.scene, shots.map_from_camera, CAMERA)
    points = deproject(depth_m, CAMERA)[what >= 0].astype(np.float64)
    points = np.asarray(transform_points(shots.map_from_camera, points), np.float64)
    return points[(points[:, 2] > params.min_height_m) & (points[:, 2] < params.max_height_m)]


def cells_of(
    points: npt.NDArray[np.float64], params: MappingParams
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return row and column of points in a map around the origin, -1 for those outside."""
    at = np.floor((points[:, :2] + params.size_m / 2) / params.resolution_m).astype(np.int64)
    outside = ((at < 0) | (at >= params.cells)).any(axis=1)
    at[outside] = -1
    return at[:, 1], at[:, 0]


def surface_cells(
    points: npt.NDArray[np.float64], params: MappingParams, least: int = 1
) -> npt.NDArray[np.bool_]:
    """Return the (N, N) cells that at least so many of the points lie in."""
    row, column = cells_of(points, params)
    counts = np.zeros((params.cells, params.cells), int)
    np.add.at(counts, (row[row >= 0], column[row >= 0]), 1)
    return counts >= least


def near_cells(params: MappingParams) -> npt.NDArray[np.bool_]:
    """Return the (N, N) cells within the distance that is scored."""
    middle = (np.arange(params.cells) + 0.5) * params.resolution_m - params.size_m / 2
    return np.asarray(np.hypot(middle[None, :], middle[:, None]) < RANGE_M)


def grown(cells: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the cells and their eight neighbours."""
    return cv2.dilate(cells.astype(np.uint8), _NEIGHBOURS) > 0


def score_cells(
    occupied: npt.NDArray[np.bool_], shots: Shots, params: MappingParams
) -> CellScore:
    """Compare with the surfaces in view, a cell more or less."""
    near, points = near_cells(params), visible_points(shots, params)
    right = occupied & near & grown(surface_cells(points, params))
    surfaces = surface_cells(points, params, SURFACE_PIXELS) & near
    found = surfaces & grown(occupied)
    return CellScore(
        int(right.sum()), int((occupied & near).sum() - right.sum()), int(found.sum()),
        int(surfaces.sum()))


def map_shots(
    mapper: Mapper, shots: Shots, rng: np.random.Generator, frames: int, first_frame: int = 0
) -> None:
    """Show noisy images of a scene to a mapper."""
    depth_m, _ = render(shots.scene, shots.map_from_camera, CAMERA)
    for frame in range(first_frame, first_frame + frames):
        mapper.show(noisy(depth_m, rng), CAMERA, shots.believed, frame * FRAME_NS)


def cube_is_seen(
    mapper: Mapper, shots: Shots, rng: np.random.Generator, params: MappingParams
) -> bool:
    """Return whether one image is enough to mark the cube that is the scene's first solid."""
    map_shots(mapper, shots, rng, frames=1)
    cube = shots.scene.solids[0]
    cells = surface_cells(np.array([[cube.x_m, cube.y_m, 0.0]]), params)
    return bool((mapper.occupied() & grown(cells)).any())


@dataclass(frozen=True, eq=False)
class Removal:
    """An obstacle that is there, and then is gone or elsewhere."""

    before: Shots
    after: Shots
    with_wall: bool


def draw_removal(rng: np.random.Generator, with_wall: bool) -> Removal:
    """Draw a scene whose first solid is taken away, or in half of the cases put elsewhere."""
    distance, angle = rng.uniform(1.2, 3.6), rng.uniform(-0.3, 0.3)
    x, y = distance * np.cos(angle), distance * np.sin(angle)
    top = rng.uniform(0.1, 1.7)
    mover = Solid(x, y, rng.uniform(0.1, 0.6), 0.0, top) if rng.random() < 0.5 else _box(
        rng, x, y, (0.1, 0.6), (top, top))
    others = [_box(rng, rng.uniform(1.0, 4.0), rng.choice((-1, 1)) * rng.uniform(0.8, 2.0),
                   (0.1, 0.5), (0.1, 1.2)) for _ in range(2)]
    if with_wall:
        others.append(Solid(distance + rng.uniform(0.8, 2.0), 0.0, 0.1, 14.0, 2.5))
    before = _shots(Scene((mover, *others)), rng, rng.uniform(-3.0, 3.0))
    left = [replace(mover, y_m=y + rng.choice((-1, 1)) * rng.uniform(0.7, 1.5))] \
        if rng.random() < 0.5 else []
    return Removal(before, replace(before, scene=Scene((*others, *left))), with_wall)


def ghost_frames(
    mapper: Mapper, removal: Removal, rng: np.random.Generator, params: MappingParams
) -> int | None:
    """
    Return after how many frames 95 % of the cells that can be seen to be empty are free.

    None where the mapper had marked nothing of the obstacle, or nothing of its place can be seen.
    """
    map_shots(mapper, removal.before, rng, frames=15)
    cells = vacated_cells(removal, params) & mapper.occupied()
    if cells.sum() < 3:
        return None
    for frame in range(GIVE_UP_FRAMES):
        map_shots(mapper, removal.after, rng, frames=1, first_frame=15 + frame)
        if (mapper.occupied() & cells).sum() <= (1.0 - FREE_SHARE) * cells.sum():
            return frame + 1
    return GIVE_UP_FRAMES


def vacated_cells(removal: Removal, params: MappingParams) -> npt.NDArray[np.bool_]:
    """
    Return the cells of what was taken away that the camera now sees to be empty.

    Of the points that were in view there, more than half must now have a ray that goes on behind
    them; no surface may be in a neighbouring cell.
    """
    only = replace(removal.before, scene=Scene(removal.before.scene.solids[:1]))
    alone, now = visible_points(only, params), visible_points(removal.after, params)
    depth_before, _ = render(removal.before.scene, removal.before.map_from_camera, CAMERA)
    depth_after, _ = render(removal.after.scene, removal.after.map_from_camera, CAMERA)
    in_camera = transform_points(inverse(removal.before.map_from_camera), alone)
    pixel = np.round(project(in_camera, CAMERA)).astype(int)
    was_seen = depth_before[pixel[:, 1], pixel[:, 0]] > in_camera[:, 2] - 0.01
    is_empty = depth_after[pixel[:, 1], pixel[:, 0]] > in_camera[:, 2] + _BEHIND_M
    row, column = cells_of(alone, params)
    seen, empty = np.zeros((2, params.cells, params.cells), int)
    np.add.at(seen, (row[was_seen], column[was_seen]), 1)
    np.add.at(empty, (row[was_seen & is_empty], column[was_seen & is_empty]), 1)
    return (seen > 0) & (empty > _UNOCCLUDED_SHARE * seen) & ~grown(surface_cells(now, params))
