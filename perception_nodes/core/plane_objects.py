"""What stands on a support plane as detections of no class: masks, and boxes in space."""

from dataclasses import replace

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.boxes import iou_matrix
from perception_nodes.core.detection_3d import Detection3DParams, lift
from perception_nodes.core.geometry import pixel_rays, read_only
from perception_nodes.core.height_map import cell_of, HeightMap, placing
from perception_nodes.core.types import (
    CameraIntrinsics,
    Detections,
    Detections3D,
    Masks,
    RgbdFrame,
)

_LEAST_PIXELS = 150  # of an object
_SAME_OBJECT_IOU = 0.5  # of its box with the detection that names it
_LIFT = Detection3DParams(boxes_3d='depth', min_depth_m=0.05)


def objects_on_plane(
    depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics, heights: HeightMap,
    labels: npt.NDArray[np.int32], min_height_m: float, named: Detections | None = None,
) -> Detections:
    """
    Find the pixels of each surface that stands on the support, whatever it is.

    :param depth_m: (H, W) metres that the map was made of, 0 where there is no reading.
    :param labels: (R, C) the map's cells by object from 1, 0 for none.
    :param min_height_m: Readings lower over the support belong to no object.
    :param named: Detections of the same image; the one whose box fits gives its class.
    :return: Objects with masks, the largest first, score 1, class -1 where it is not known, and
        object ids from 1: the values of their pixels in an instance image.
    """
    ids = np.zeros(depth_m.shape, np.int32)
    # left, top, right, bottom, and the number of pixels
    extents = np.zeros((int(labels.max()) + 1, 5), np.int64)
    extents[:, :2] = max(depth_m.shape)
    _project_labels(
        read_only(depth_m), pixel_rays(intrinsics),
        placing(heights.camera_from_map, heights.origin_m, heights.cell_m), heights.support_m,
        labels, min_height_m, ids, extents)
    large = np.flatnonzero(extents[:, 4] >= _LEAST_PIXELS)
    large = large[np.argsort(-extents[large, 4], kind='stable')]
    boxes = extents[large, :4]
    masks = Masks(
        tuple(ids[top:bottom, left:right] == label for label, (left, top, right, bottom)
              in zip(large.tolist(), boxes.tolist(), strict=True)),
        np.ascontiguousarray(boxes[:, [1, 0]]), (intrinsics.height, intrinsics.width))
    found = Detections(
        boxes.astype(np.float32), np.ones(len(large), np.float32),
        np.full(len(large), -1, np.int64), np.arange(1, len(large) + 1), masks)
    return found if named is None or not len(named) else replace(
        found, class_ids=_classes(found.boxes_xyxy, named))


def boxes_of_objects(
    objects: Detections, frame: RgbdFrame, depth_m: npt.NDArray[np.float32], heights: HeightMap
) -> Detections3D:
    """
    Find the box in space of each object, upright on the support plane.

    :param depth_m: As :func:`objects_on_plane` takes it.
    :return: In the camera's optical frame; see :func:`detection_3d.lift`.
    """
    scaled = replace(frame, depth_m=read_only(depth_m))
    return lift(objects, scaled, heights.camera_from_map[:3, 2], _LIFT)


def _classes(
    boxes_xyxy: npt.NDArray[np.float32], named: Detections
) -> npt.NDArray[np.int64]:
    """Return the class of the detection that fits each box best, -1 where none does."""
    fits = iou_matrix(boxes_xyxy, named.boxes_xyxy)
    best = fits.argmax(axis=1)
    is_same = fits[np.arange(len(best)), best] >= _SAME_OBJECT_IOU
    return np.where(is_same, named.class_ids[best], -1)


@njit(cache=True, error_model='numpy')
def _project_labels(  # type: ignore[no-untyped-def]
    depth, rays, placing, support, labels, least, ids, extents,
):
    """Give each pixel the label of the cell that its reading falls into."""
    for r in range(depth.shape[0]):
        for c in range(depth.shape[1]):
            if not depth[r, c] > 0.0:
                continue
            i, j, height = cell_of(placing, rays, depth, r, c)
            if not (0.0 <= i < labels.shape[0] and 0.0 <= j < labels.shape[1]):
                continue
            label = labels[np.int64(i), np.int64(j)]
            if label == 0 or height < support[np.int64(i), np.int64(j)] + least:
                continue
            ids[r, c] = label
            extent = extents[label]
            extent[0], extent[1] = min(extent[0], c), min(extent[1], r)
            extent[2], extent[3] = max(extent[2], c + 1), max(extent[3], r + 1)
            extent[4] += 1
