"""What is really there: masks, boxes and poses, exact by construction."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import inverse, share_in_view
from perception_nodes.sim.classes import VOID
from perception_nodes.sim.poses import fixed_matrix, Matrix
from perception_nodes.sim.rendering import Silhouettes, View
from perception_nodes.sim.scene import Scene, Shape, shape_extent

MIN_AREA_PX = 100  # smaller ones are marked as to be ignored


@dataclass(frozen=True, eq=False)
class Box3d:
    """A box about gravity: its z is up, its size is never rotated."""

    map_from_box: Matrix  # (4, 4), origin in the middle
    size_m: npt.NDArray[np.float64]  # (3,) along its own axes


@dataclass(frozen=True, eq=False)
class SeenObject:
    """One object of which a camera sees at least a pixel."""

    instance_id: int  # its value in the instance mask, the same in every frame of a scene
    class_id: int
    name: str
    family: str
    box_xyxy: npt.NDArray[np.float32]  # (4,) pixels: tight around what is visible
    area_px: int  # visible pixels
    visible_fraction: float  # of its silhouette inside the image
    inside_fraction: float  # of its 3D box that lies in the field of view
    box_3d: Box3d

    @property
    def ignore(self) -> bool:
        """Return whether so little is seen that nobody should be asked to find it."""
        return (self.visible_fraction * self.inside_fraction < 0.5
                or self.area_px < MIN_AREA_PX)


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """What one camera should have found."""

    stamp_ns: int
    view: View
    class_mask: npt.NDArray[np.uint8]  # (H, W) class ids, 255 void
    instance_mask: npt.NDArray[np.uint16]  # (H, W) instance ids, 0 none
    depth_m: npt.NDArray[np.float32]  # (H, W) along z, +inf where there is nothing
    objects: tuple[SeenObject, ...]


@dataclass(frozen=True, eq=False)
class ThingState:
    """Where one thing is."""

    instance_id: int
    class_id: int
    name: str
    family: str
    map_from_thing: Matrix
    box_3d: Box3d


def instance_id(index: int) -> int:
    """Return the id of a thing by its place in the scene."""
    return index + 1


def look(scene: Scene, found: Silhouettes, view: View, poses: Sequence[Matrix],
         stamp_ns: int) -> GroundTruth:
    """
    Name what a view shows.

    :param found: The rays of the view.
    :param poses: map_from_thing of every thing.
    """
    things = found.layers.things
    labels = np.array([*(thing.class_id for thing in scene.things), VOID], np.uint8)
    is_object = np.array([*(thing.is_object for thing in scene.things), False])
    ids = np.arange(1, len(scene.things) + 2) * is_object
    counts = np.bincount(things[things >= 0], minlength=len(scene.things))
    boxes = _tight_boxes(things, len(scene.things))
    objects = []
    for i in np.flatnonzero((counts > 0) & is_object[:-1]).tolist():
        thing, box_3d = scene.things[i], bounding_box(scene.things[i].shapes, poses[i])
        objects.append(SeenObject(
            instance_id(i), thing.class_id, thing.name, thing.family, boxes[i], int(counts[i]),
            float(counts[i] / found.pixels[i]), inside_fraction(box_3d, view), box_3d))
    return GroundTruth(stamp_ns, view, labels[things], ids[things].astype(np.uint16),
                       found.layers.depth_m, tuple(objects))


def states(scene: Scene, poses: Sequence[Matrix]) -> tuple[ThingState, ...]:
    """Return where every thing of a scene is, structure and planes excepted."""
    return tuple(
        ThingState(instance_id(i), thing.class_id, thing.name, thing.family, poses[i],
                   bounding_box(thing.shapes, poses[i]))
        for i, thing in enumerate(scene.things) if thing.is_object)


def bounding_box(shapes: Sequence[Shape], map_from_thing: Matrix) -> Box3d:
    """Return the smallest upright box around shapes that is turned as their thing is."""
    across = map_from_thing[:3, 0]
    if math.hypot(across[0], across[1]) < 0.5:  # it stands on its x axis
        across = map_from_thing[:3, 1]
    yaw = math.atan2(across[1], across[0])
    map_from_level = np.eye(4)
    map_from_level[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    map_from_level[:3, 3] = map_from_thing[:3, 3]
    level_from_thing = inverse(map_from_level) @ map_from_thing
    lows, highs = zip(
        *(shape_extent(s, level_from_thing @ fixed_matrix(s.pose)) for s in shapes), strict=True)
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    map_from_box = map_from_level.copy()
    map_from_box[:3, 3] += map_from_level[:3, :3] @ ((low + high) / 2.0)
    return Box3d(map_from_box, high - low)


def inside_fraction(box: Box3d, view: View) -> float:
    """Return the share of a box's volume that lies in front of a camera's pixels."""
    camera_from_box = inverse(view.map_from_camera) @ box.map_from_box
    return share_in_view(camera_from_box, box.size_m, view.intrinsics)


def _tight_boxes(things: npt.NDArray[np.int32], count: int) -> npt.NDArray[np.float32]:
    """Return (count, 4) left, top, right, bottom (outer edges) of each index in the image."""
    height, width = things.shape
    rows, columns = np.nonzero(things >= 0)
    owners = things[rows, columns]
    boxes = np.empty((count, 4), np.float32)
    for axis, places, limit in ((0, columns, width), (1, rows, height)):
        low, high = np.full(count, limit), np.full(count, -1)
        np.minimum.at(low, owners, places)
        np.maximum.at(high, owners, places)
        boxes[:, axis], boxes[:, axis + 2] = low, high + 1
    return boxes
