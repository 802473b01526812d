"""
Boxes in space from boxes in an image, with depth or from the ground they stand on.

A depth camera sees only the surfaces that face it. What is taken as the object's extent:

- up and down: from the highest visible point to the surface the object stands on, when that
  surface is seen around the object and the object reaches it or its foot is hidden; else to the
  lowest visible point;
- across and along the view: the footprint of all visible points. Seen from above, the far edge
  of the top closes it; seen from the side, two faces do;
- along the view, when a single upright face is all there is to see: the smaller of width and
  height, which the covariance then calls unknown.
"""

from dataclasses import dataclass
import math

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core import surfaces
from perception_nodes.core.geometry import check_size, pixel_rays, read_only, undistort
from perception_nodes.core.params import param, Params
from perception_nodes.core.types import CameraIntrinsics, Detections, Detections3D, RgbdFrame

# four times as many are thinned out, except at the object's edges: they give the accuracy
_PIXELS_PER_BOX = 2_500
_PIXEL_SIGMA = 2.0  # of a detector's box edge
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


@dataclass(frozen=True, kw_only=True)
class Detection3DParams(Params):
    """Parameters of boxes in space, beside those of the detection they start from."""

    boxes_3d: str = param(
        'none', "Boxes in space: 'none', 'depth' (needs a depth image) or 'ground' (from where "
        'each box touches the ground; needs the camera height).',
        choices=('none', 'depth', 'ground'))
    target_frame: str = param('', 'Frame of the boxes in space; empty for the camera.')
    gravity_frame: str = param(
        '', 'Frame whose z axis points up, by which boxes are oriented; empty for target_frame, '
        'and if that is empty too, boxes are aligned with the camera.')
    min_depth_m: float = param(
        0.15, 'Nearer depth readings are ignored.', unit='m', ge=0.0, dynamic=True)
    max_depth_m: float = param(
        8.0, 'Farther depth readings are ignored, and farther ground contacts.',
        unit='m', ge=0.1, dynamic=True)
    min_points: int = param(
        40, 'Depth readings of an object that a box needs.', ge=10, dynamic=True)
    camera_height_m: float = param(
        0.0, "Height of the camera over the ground, for 'ground'; 0 takes it from gravity_frame, "
        'whose origin must lie on the ground.', unit='m', ge=0.0)
    camera_pitch_deg: float = param(
        0.0, "How far the camera looks down, for 'ground' with camera_height_m.",
        unit='degrees', ge=-89.0, le=90.0)


def lift(
    detections: Detections,
    frame: RgbdFrame,
    up_in_camera: npt.NDArray[np.float64] | None,
    params: Detection3DParams,
) -> Detections3D:
    """
    Find the box in space of each detection, from depth.

    An object is the connected surface that lies in its mask, or where it has none in the 2D box
    rather than around it, after the surface it stands on was taken away; so an occluder in front
    and a wall behind are left out.

    :param frame: With depth registered to the image, and intrinsics.
    :param up_in_camera: (3,) direction against gravity in the camera's frame: boxes stand
        upright, turned about it. None aligns them with the camera's axes.
    :return: Boxes in the camera's optical frame, x away from the camera and z up where up is
        known.
    :raises ValueError: If the frame has no depth or no intrinsics, or sizes disagree.
    """
    if frame.depth_m is None or frame.intrinsics is None:
        missing = 'depth image' if frame.depth_m is None else 'camera_info'
        raise ValueError(f"boxes in space need a {missing}, and the frame of '{frame.frame_id}' "
                         "has none: connect it, or choose boxes_3d 'ground' or 'none'")
    check_size(frame.depth_m, frame.intrinsics)
    masks = detections.masks
    if masks is not None and masks.image_shape != frame.depth_m.shape:
        raise ValueError(f'masks are of an image of {masks.image_shape} pixels; the depth image '
                         f'has {frame.depth_m.shape}')
    intrinsics, upright = frame.intrinsics, up_in_camera is not None
    depth_m = read_only(frame.depth_m)
    boxes = detections.boxes_xyxy.astype(np.float64)
    axes = _axes(boxes, intrinsics, up_in_camera)
    rows, measured, counts, rejected = [], [], [], []
    for i, box in enumerate(boxes):
        mask = None if masks is None else (masks.place(i), masks.parts[i])
        region = _Region(depth_m, intrinsics, mask, box, params)
        try:
            values, count = _measure(region, axes[i], upright, intrinsics, params)
        except _NoObjectError as error:
            rejected.append((i, str(error)))
            continue
        rows.append(i)
        measured.append(values)
        counts.append(count)
    index = np.array(rows, np.int64)
    values = np.array(measured).reshape(len(rows), 11)
    rotations = _turned(axes[index], values[:, 6])
    centers = np.einsum('nij,nj->ni', rotations, values[:, :3])
    return Detections3D(
        centers, rotations, values[:, 3:6],
        _covariances(centers, rotations, values, np.array(counts), intrinsics, upright=upright),
        detections.scores[index], detections.class_ids[index], index,
        ('depth' if masks is None else 'mask_depth',) * len(rows),
        None if detections.object_ids is None else detections.object_ids[index], tuple(rejected),
        values[:, 8:])


def lift_on_ground(
    detections: Detections,
    intrinsics: CameraIntrinsics,
    up_in_camera: npt.NDArray[np.float64],
    camera_height_m: float,
    params: Detection3DParams,
) -> Detections3D:
    """
    Find the box in space of each detection without depth, from where it touches the ground.

    The lower edge of the 2D box is taken as the front of the object on flat ground, its upper
    edge as the top right above. Objects are taken to be as deep as they are wide.

    :param up_in_camera: (3,) direction against gravity in the camera's frame.
    :param camera_height_m: Of the camera over the ground.
    :return: Upright boxes in the camera's optical frame, x away from the camera.
    :raises ValueError: If the camera is not above the ground.
    """
    if not camera_height_m > 0.0:
        raise ValueError(
            f'the camera is {camera_height_m:.3f} m above the ground, and ground contact needs '
            'more than 0: set camera_height_m, or a gravity_frame whose origin is on the ground')
    up = up_in_camera / np.linalg.norm(up_in_camera)
    left, top, right, bottom = detections.boxes_xyxy.astype(np.float64).T
    middle = 0.5 * (left + right)
    corners = np.array([[middle, bottom], [left, bottom], [right, bottom], [middle, top]])
    # a box's pixel 0 reaches from 0 to 1, the middle of a lens' pixel 0 lies at 0
    rays = undistort(corners.transpose(0, 2, 1).reshape(-1, 2) - 0.5, intrinsics)
    rays = np.concatenate([rays, np.ones((len(rays), 1))], axis=1).reshape(4, -1, 3)
    boxes, rejected = [], []
    for i in range(len(detections)):
        reason = _no_contact(rays[:, i], bottom[i], intrinsics, up, camera_height_m, params)
        if reason:
            rejected.append((i, reason))
        else:
            boxes.append((i, *_standing_box(rays[:, i], intrinsics, up, camera_height_m)))
    n, rows = len(boxes), np.array([box[0] for box in boxes], np.int64)
    return Detections3D(
        np.array([box[1] for box in boxes]).reshape(n, 3),
        np.array([box[2] for box in boxes]).reshape(n, 3, 3),
        np.array([box[3] for box in boxes]).reshape(n, 3),
        np.array([box[4] for box in boxes]).reshape(n, 6, 6), detections.scores[rows],
        detections.class_ids[rows], rows, ('ground_contact',) * n,
        None if detections.object_ids is None else detections.object_ids[rows], tuple(rejected),
        np.array([box[5] for box in boxes]).reshape(n, 3))


def _no_contact(
    rays: npt.NDArray[np.float64], bottom: float, intrinsics: CameraIntrinsics,
    up: npt.NDArray[np.float64], camera_height_m: float, params: Detection3DParams,
) -> str:
    """
    Return the sentence why a box shows no ground contact; empty if it does.

    :param rays: As :func:`_standing_box` takes them.
    """
    if bottom >= intrinsics.height - 1:
        return 'the box is cut off by the lower border: its ground contact is out of the image'
    if np.isnan(rays).any():
        return 'the box reaches to where the lens model ends, in a corner of the image'
    down = -float(rays[0] @ up)
    if down <= 0.0:
        return 'the lower edge of the box is above the horizon'
    if camera_height_m / down > params.max_depth_m:
        return (f'the box touches the ground {camera_height_m / down:.1f} m away; '
                f'max_depth_m is {params.max_depth_m}')
    return ''


def _standing_box(
    rays: npt.NDArray[np.float64], intrinsics: CameraIntrinsics, up: npt.NDArray[np.float64],
    camera_height_m: float,
) -> tuple[npt.NDArray[np.float64], ...]:
    """
    Return centre, rotation, size, covariance, and deviations of the size, of a box on the ground.

    :param rays: (4, 3) through the middle, left and right of its lower edge and the middle top.
    """
    contact = rays[0] * (camera_height_m / -float(rays[0] @ up))
    away = contact + camera_height_m * up
    distance = float(np.linalg.norm(away))
    away = away / distance if distance > 1e-6 else np.array([0.0, -1.0, 0.0])
    rotation = np.stack([away, np.cross(up, away), up], axis=1)
    width = float(np.linalg.norm(rays[2] - rays[1])) * contact[2]
    above = rays[3] * (distance / float(rays[3] @ away))
    height = max(float(above @ up) + camera_height_m, 0.0)
    center = contact + 0.5 * (width * away + height * up)
    # what two pixels at the box's edges are worth; along the view that grows with the square
    across = _PIXEL_SIGMA * contact[2] / intrinsics.fx
    along = _PIXEL_SIGMA / intrinsics.fy * (distance**2 / camera_height_m + camera_height_m)
    covariance = np.zeros((6, 6))
    spread = np.diag([along**2 + width**2 / 12.0, across**2, across**2])
    covariance[:3, :3] = rotation @ spread @ rotation.T
    covariance[3:, 3:] = np.outer(up, up) * (np.pi / 2.0) ** 2 / 12.0  # the turn is not known
    guessed, edges = width / math.sqrt(12.0), math.sqrt(2.0) * across
    deviations = np.array([guessed, edges, math.hypot(
        edges, along * (height - camera_height_m) / max(distance, 1e-6))])
    return center, rotation, np.array([width, width, height]), covariance, deviations


class _NoObjectError(Exception):
    """Why a detection has no box in space, in a sentence."""


class _Region:
    """The part of a frame in and around one box; thinned out where it is large."""

    def __init__(
        self, depth_m: npt.NDArray[np.float32], intrinsics: CameraIntrinsics,
        mask: tuple[tuple[slice, slice], npt.NDArray[np.bool_]] | None,
        box: npt.NDArray[np.float64], params: Detection3DParams,
    ) -> None:
        height, width = depth_m.shape
        left, top = max(math.floor(box[0]), 0), max(math.floor(box[1]), 0)
        right, bottom = min(math.ceil(box[2]), width), min(math.ceil(box[3]), height)
        if mask is not None:
            (top, bottom), (left, right) = ((edge.start, edge.stop) for edge in mask[0])
        # what surrounds the box tells what the object stands on and what goes on outside
        margin_x, margin_y = max(4, (right - left) // 8), max(4, (bottom - top) // 8)
        x0, y0 = max(left - margin_x, 0), max(top - margin_y, 0)
        part = np.s_[y0:max(bottom + margin_y, y0), x0:max(right + margin_x, x0)]
        self.corner = (y0, x0)
        self.depth, self.rays = depth_m, pixel_rays(intrinsics)
        self.masked = mask is not None
        self.mask: npt.NDArray[np.bool_] = np.empty((0, 0), np.bool_)
        inside = np.zeros(depth_m[part].shape, np.bool_)
        inside[max(top - y0, 0):max(bottom - y0, 0), max(left - x0, 0):max(right - x0, 0)] = (
            True if mask is None else mask[1])
        if mask is not None:
            # the border of a mask mixes two depths
            inside = self.mask = cv2.erode(inside.view(np.uint8), _CROSS).view(np.bool_)
        self.step = max(1, int(math.sqrt(inside.size / _PIXELS_PER_BOX)))
        thin = np.s_[::self.step, ::self.step]
        self.inside = np.ascontiguousarray(inside[thin])
        self.thin_rays = np.ascontiguousarray(self.rays[part][thin])
        depth = depth_m[part][thin]
        good = (depth >= params.min_depth_m) & (depth <= params.max_depth_m)
        good &= self.thin_rays[..., 0] == self.thin_rays[..., 0]  # NaN differs from itself
        self.thin_depth = np.where(good, depth, np.float32(0.0))
        self.middle = max((top + bottom) // 2 - y0, 0) // self.step
        self.limits = (params.min_depth_m, params.max_depth_m)

    def lost_px(self) -> npt.NDArray[np.float64]:
        """
        Return how far the outermost readings lie within the object's edge.

        Half of the pixel that the edge goes through, less the stray readings left out; and of a
        mask, whose edge is known, the pixels in which nothing could be read.

        :return: (4,) pixels on the left, right, top and bottom.
        """
        lost = np.full(4, 0.25)
        if self.masked:
            (y0, x0), (height, width) = self.corner, self.mask.shape
            depth = self.depth[y0:y0 + height, x0:x0 + width]
            read = self.mask & (depth >= self.limits[0]) & (depth <= self.limits[1])
            whole = cv2.dilate(self.mask.view(np.uint8), _CROSS)
            for k, axis in enumerate((0, 1)):
                known, all_of_it = (np.flatnonzero(a.any(axis=axis)) for a in (read, whole))
                lost[2 * k] += known[0] - all_of_it[0]
                lost[2 * k + 1] += all_of_it[-1] - known[-1]
        return lost


def _measure(
    region: _Region, axes: npt.NDArray[np.float64], upright: bool, intrinsics: CameraIntrinsics,
    params: Detection3DParams,
) -> tuple[npt.NDArray[np.float64], int]:
    """
    Measure one object.

    :param axes: (3, 3), rows away, left and up in the camera's frame.
    :return: What :func:`surfaces.extents` returns, and the number of readings.
    :raises _NoObjectError: With the sentence why there is none.
    """
    z, rays, inside, step = region.thin_depth, region.thin_rays, region.inside, region.step
    where = 'mask' if region.masked else 'box'
    per_reading = step * step  # pixels that one reading stands for
    needed = max(10.0, params.min_points / per_reading)
    valid = int(np.count_nonzero(z[inside]))
    if valid < needed:
        raise _NoObjectError(
            f'the {where} holds {valid * per_reading} depth readings between '
            f'{params.min_depth_m} and {params.max_depth_m} m; min_points is {params.min_points}')
    normal, offset, has_support = surfaces.support(
        z, rays, inside, region.middle, axes[2].copy(), upright, step)
    floor = offset if has_support and not region.masked else -math.inf
    labels = surfaces.surfaces(
        z, rays, inside if region.masked else np.ones_like(inside), normal, floor, step)
    best, count, goes_on = surfaces.best_surface(labels, inside, z, step)
    if best == 0 or goes_on:
        raise _NoObjectError(f'nothing in the {where} stands out of the surface around it')
    if count < needed:
        raise _NoObjectError(
            f'the largest surface in the {where} has {count * per_reading} depth readings; '
            f'min_points is {params.min_points}')
    points = surfaces.points(
        labels, best, count, z, step, region.corner, region.depth, region.rays,
        region.limits, region.mask, axes, normal, floor)
    distance_m = float(points[3].mean())
    foot = math.nan
    if has_support and upright:
        slack_m = max(0.03, 6.0 * surfaces.NOISE_PER_M * distance_m**2)
        lowest = surfaces.quantiles(points[2], points.shape[1], points.shape[1] // 300)[0]
        if lowest - offset < slack_m or not surfaces.seen_through(
                labels, z, rays, best, axes[0].copy(), slack_m):
            foot = offset
    elif has_support:
        points = _with_foot(points, axes @ normal, offset)
    pixel_m = np.array([1.0 / intrinsics.fx] * 2 + [1.0 / intrinsics.fy] * 2) * distance_m
    values = surfaces.extents(
        points, upright, foot, surfaces.noise_m(labels, z, best), region.lost_px() * pixel_m,
        pixel_m[0])
    return values, count * per_reading


def _with_foot(
    points: npt.NDArray[np.float64], normal: npt.NDArray[np.float64], offset: float
) -> npt.NDArray[np.float64]:
    """Return the points, and where those next to the plane around the object meet it."""
    heights = normal @ points[:3] - offset
    near = heights < 2.0 * np.maximum(0.01, 3.0 * surfaces.NOISE_PER_M * points[3] ** 2)
    foot = points[:, near]
    foot[:3] -= normal[:, None] * heights[near]
    return np.hstack([points, foot])


def _axes(
    boxes: npt.NDArray[np.float64], intrinsics: CameraIntrinsics,
    up: npt.NDArray[np.float64] | None,
) -> npt.NDArray[np.float64]:
    """Return (N, 3, 3), rows away, left and up in the camera's frame; without up its own axes."""
    if up is None:
        own = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
        return np.broadcast_to(own, (len(boxes), 3, 3)).copy()
    up = np.asarray(up / np.linalg.norm(up), np.float64)
    middles = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    views = np.nan_to_num(np.hstack([undistort(middles, intrinsics), np.ones((len(boxes), 1))]))
    away = views - np.outer(views @ up, up)
    # straight down, the image's own top is away
    steep = np.linalg.norm(away, axis=1) < 0.05 * np.linalg.norm(views, axis=1)
    away[steep] = np.array([0.0, -1.0, 0.0]) + up[1] * up
    away /= np.linalg.norm(away, axis=1)[:, None]
    return np.stack([away, np.cross(up, away), np.broadcast_to(up, away.shape)], axis=1)


def _turned(
    axes: npt.NDArray[np.float64], turns: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return (N, 3, 3) camera_from_box of axes that were turned about their third."""
    cosine, sine = np.cos(turns)[:, None], np.sin(turns)[:, None]
    return np.stack([
        cosine * axes[:, 0] + sine * axes[:, 1], cosine * axes[:, 1] - sine * axes[:, 0],
        axes[:, 2]], axis=2)


def _covariances(
    centers: npt.NDArray[np.float64], rotations: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64],
    intrinsics: CameraIntrinsics, *, upright: bool,
) -> npt.NDArray[np.float64]:
    """
    Return the (N, 6, 6) covariances of centre and orientation.

    The centre lies midway between the outermost readings; the outermost of n readings of normal
    noise sigma has the variance (pi sigma)^2 / (12 ln n) (Gumbel), and an edge lies anywhere in
    its pixel. An extent that was guessed, and the turn of a box not fitted, are uniform.
    """
    square = (centers**2).sum(axis=1)
    depth_edge = (np.pi * surfaces.NOISE_PER_M * square) ** 2 / (
        12.0 * np.log(np.maximum(counts, 3)))
    pixel_edge = square / (12.0 * intrinsics.fx**2)
    along = centers[:, :, None] * centers[:, None, :] / square[:, None, None]
    away, up = rotations[:, :, 0], rotations[:, :, 2]
    covariances = np.zeros((len(centers), 6, 6))
    covariances[:, :3, :3] = 0.5 * (
        along * depth_edge[:, None, None] + (np.eye(3) - along) * pixel_edge[:, None, None])
    covariances[:, :3, :3] += (
        away[:, :, None] * away[:, None, :] * (values[:, 7] ** 2 / 12.0)[:, None, None])
    if upright:
        lever = np.maximum(values[:, 3:5].max(axis=1, initial=1e-3), 1e-3)
        turn = 2.0 * (depth_edge + pixel_edge) / lever**2
        covariances[:, 3:, 3:] = up[:, :, None] * up[:, None, :] * turn[:, None, None]
    else:
        covariances[:, 3:, 3:] = np.eye(3) * (np.pi / 2.0) ** 2 / 12.0
    return covariances
