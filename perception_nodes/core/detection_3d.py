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

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import check_size, pixel_rays, undistort
from perception_nodes.core.params import param, Params
from perception_nodes.core.types import CameraIntrinsics, Detections, Detections3D, RgbdFrame

# Khoshelham and Elberink 2012 (doi:10.3390/s120201437): depth noise grows with its square
NOISE_PER_M = 0.0014

# four times as many are thinned out, except at the object's edges: they give the accuracy
_PIXELS_PER_BOX = 2_500
_TURN_POINTS = 250
_FEW_VALID, _NOTHING_STANDS_OUT, _FEW_POINTS = 1, 2, 3
_PIXEL_SIGMA = 2.0  # of a detector's box edge


@dataclass(frozen=True, kw_only=True)
class Detection3DParams(Params):
    """Parameters of boxes in space, beside those of the detection they start from."""

    boxes_3d: str = param(
        'off', "Boxes in space: 'off', 'depth' (needs a depth image) or 'ground' (from where each "
        'box touches the ground; needs the camera height).', choices=('off', 'depth', 'ground'))
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
    masks: npt.NDArray[np.bool_] | None = None,
) -> Detections3D:
    """
    Find the box in space of each detection, from depth.

    An object is the connected surface that lies in the 2D box rather than around it, after the
    surface it stands on was taken away; so an occluder in front and a wall behind are left out.

    :param frame: With depth registered to the image, and intrinsics.
    :param up_in_camera: (3,) direction against gravity in the camera's frame: boxes stand
        upright, turned about it. None aligns them with the camera's axes.
    :param masks: (N, H, W) bool, the pixels of each detection where a model knows them.
    :return: Boxes in the camera's optical frame, x away from the camera and z up where up is
        known.
    :raises ValueError: If the frame has no depth or no intrinsics, or sizes disagree.
    """
    if frame.depth_m is None or frame.intrinsics is None:
        missing = 'depth image' if frame.depth_m is None else 'camera_info'
        raise ValueError(f"boxes in space need a {missing}, and the frame of '{frame.frame_id}' "
                         "has none: connect it, or choose boxes_3d 'ground' or 'off'")
    check_size(frame.depth_m, frame.intrinsics)
    if masks is not None and masks.shape != (len(detections), *frame.depth_m.shape):
        raise ValueError(f'masks have shape {masks.shape}; expected '
                         f'{(len(detections), *frame.depth_m.shape)}')
    k, upright = frame.intrinsics, up_in_camera is not None
    up = np.array([0.0, -1.0, 0.0]) if up_in_camera is None else np.asarray(
        up_in_camera / np.linalg.norm(up_in_camera), np.float64)
    status, counts, boxes = _measure_all(
        np.ascontiguousarray(frame.depth_m), pixel_rays(k),
        np.empty((0, 0, 0), np.bool_) if masks is None else np.ascontiguousarray(masks),
        detections.boxes_xyxy.astype(np.float64), up, upright,
        np.array([params.min_depth_m, params.max_depth_m, params.min_points, k.fx, k.fy]))
    good = np.flatnonzero(status == 0)
    return Detections3D(
        boxes[good, :3], boxes[good, 6:15].reshape(-1, 3, 3), boxes[good, 3:6],
        boxes[good, 15:].reshape(-1, 6, 6), detections.scores[good], detections.class_ids[good],
        good, ('depth' if masks is None else 'mask_depth',) * len(good),
        tuple((int(i), _reason(int(status[i]), int(counts[i]), params, masked=masks is not None))
              for i in np.flatnonzero(status)))


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
    rays = undistort(corners.transpose(0, 2, 1).reshape(-1, 2), intrinsics)
    rays = np.concatenate([rays, np.ones((len(rays), 1))], axis=1).reshape(4, -1, 3)
    boxes, rejected = [], []
    for i in range(len(detections)):
        reason = _no_contact(rays[0, i], bottom[i], intrinsics, up, camera_height_m, params)
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
        detections.class_ids[rows], rows, ('ground_contact',) * n, tuple(rejected))


def _no_contact(
    ray: npt.NDArray[np.float64], bottom: float, intrinsics: CameraIntrinsics,
    up: npt.NDArray[np.float64], camera_height_m: float, params: Detection3DParams,
) -> str:
    """Return the sentence why a box shows no ground contact; empty if it does."""
    if bottom >= intrinsics.height - 1:
        return 'the box is cut off by the lower border: its ground contact is out of the image'
    down = -float(ray @ up)
    if not down > 0.0:  # also where the lens model ends and the ray is NaN
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
    Return centre, rotation, size and covariance of a box on the ground.

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
    return center, rotation, np.array([width, width, height]), covariance


def _reason(status: int, count: int, params: Detection3DParams, *, masked: bool) -> str:
    where = 'mask' if masked else 'box'
    if status == _FEW_VALID:
        return (f'the {where} holds {count} depth readings between {params.min_depth_m} and '
                f'{params.max_depth_m} m; min_points is {params.min_points}')
    if status == _NOTHING_STANDS_OUT:
        return f'nothing in the {where} stands out of the surface around it'
    return (f'the largest surface in the {where} has {count} depth readings; '
            f'min_points is {params.min_points}')


@njit(cache=True)
def _measure_all(depth, rays, masks, boxes, up, upright, limits):  # type: ignore[no-untyped-def]
    """
    Measure every object.

    :return: Status of each (0 is good), count of readings, and a row of centre (3), size (3),
        rotation (9) and covariance (36).
    """
    n = len(boxes)
    status, counts, rows = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros((n, 51))
    no_mask = np.empty((0, 0), np.bool_)
    for i in range(n):
        axes = _axes(boxes[i], rays, up, upright)
        mask = masks[i] if len(masks) > 0 else no_mask
        status[i], counts[i], values = _measure(depth, rays, mask, boxes[i], axes, upright, limits)
        if status[i] != 0:
            continue
        cosine, sine = np.cos(values[6]), np.sin(values[6])
        rotation = np.empty((3, 3))
        rotation[:, 0] = cosine * axes[0] + sine * axes[1]
        rotation[:, 1] = cosine * axes[1] - sine * axes[0]
        rotation[:, 2] = axes[2]
        center = values[0] * rotation[:, 0] + values[1] * rotation[:, 1] + values[2] * axes[2]
        rows[i, :3], rows[i, 3:6] = center, values[3:6]
        rows[i, 6:15] = rotation.ravel()
        rows[i, 15:] = _covariance(
            center, rotation, values[3:6], counts[i], values[7], upright, limits[3]).ravel()
    return status, counts, rows


@njit(cache=True)
def _axes(box, rays, up, upright):  # type: ignore[no-untyped-def]
    """Return (3, 3) with rows away, left and up in the camera's frame."""
    if not upright:
        return np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    height, width = rays.shape[:2]
    ray = rays[min(max(int(0.5 * (box[1] + box[3])), 0), height - 1),
               min(max(int(0.5 * (box[0] + box[2])), 0), width - 1)]
    view = np.array([0.0, 0.0, 1.0])
    if not np.isnan(ray[0]):
        view[0], view[1] = ray[0], ray[1]
    away = view - (view * up).sum() * up
    if (away * away).sum() < 0.0025 * (view * view).sum():  # straight down: the image's own top
        away = np.array([0.0, -1.0, 0.0]) + up[1] * up
    axes = np.empty((3, 3))
    axes[0] = away / np.sqrt((away * away).sum())
    axes[1] = np.cross(up, axes[0])
    axes[2] = up
    return axes


@njit(cache=True)
def _covariance(center, rotation, size, count, guessed, upright, focal):  # type: ignore[no-untyped-def]
    """
    Return the (6, 6) covariance of a box's centre and orientation.

    The centre lies midway between the outermost readings; the outermost of n readings of normal
    noise sigma has the variance (pi sigma)^2 / (12 ln n) (Gumbel), and an edge lies anywhere in
    its pixel. An extent that was guessed, and the turn of a box not fitted, are uniform.
    """
    square = (center * center).sum()
    depth_edge = (np.pi * NOISE_PER_M * square) ** 2 / (12.0 * np.log(max(count, 3)))
    pixel_edge = square / (12.0 * focal * focal)
    turn = (np.pi / 2.0) ** 2 / 12.0
    if upright:
        turn = 2.0 * (depth_edge + pixel_edge) / max(size[0], size[1], 1e-3) ** 2
    covariance = np.zeros((6, 6))
    for i in range(3):
        for j in range(3):
            along = center[i] * center[j] / square
            same = 1.0 if i == j else 0.0
            covariance[i, j] = (
                0.5 * (along * depth_edge + (same - along) * pixel_edge)
                + rotation[i, 0] * rotation[j, 0] * guessed * guessed / 12.0)
            about_up = rotation[i, 2] * rotation[j, 2]
            covariance[3 + i, 3 + j] = turn * (about_up if upright else same)
    return covariance


@njit(cache=True)
def _measure(depth, rays, mask, box, axes, level, limits):  # type: ignore[no-untyped-def]
    """
    Measure one object.

    :return: Status (0 is good), a count of readings, and along the box's own axes centre (3),
        size (3), turn from the axes, and the extent that is a guess.
    """
    values = np.zeros(8)
    masked = mask.size > 0
    height, width = depth.shape
    left, right = max(int(np.floor(box[0])), 0), min(int(np.ceil(box[2])), width)
    top, bottom = max(int(np.floor(box[1])), 0), min(int(np.ceil(box[3])), height)
    if right <= left or bottom <= top:
        return _FEW_VALID, 0, values
    # what surrounds the box tells what the object stands on and which surface goes on outside
    margin_x, margin_y = max(4, (right - left) // 8), max(4, (bottom - top) // 8)
    x0, x1 = max(left - margin_x, 0), min(right + margin_x, width)
    y0, y1 = max(top - margin_y, 0), min(bottom + margin_y, height)
    step = max(1, int(np.sqrt((x1 - x0) * (y1 - y0) / _PIXELS_PER_BOX)))
    thin_rays = rays[y0:y1:step, x0:x1:step].copy()
    z = depth[y0:y1:step, x0:x1:step].copy()
    rows, columns = z.shape
    inside = np.zeros((rows, columns), np.bool_)
    valid = 0
    for r in range(rows):
        for c in range(columns):
            d = z[r, c]
            # a ray that is no number differs from itself
            if not (limits[0] <= d <= limits[1] and thin_rays[r, c, 0] == thin_rays[r, c, 0]):
                z[r, c] = d = 0.0  # no reading
            y, x = y0 + r * step, x0 + c * step
            if masked:
                inside[r, c] = _deep_in(mask, y, x)
            else:
                inside[r, c] = left <= x < right and top <= y < bottom
            valid += inside[r, c] and d > 0.0
    per_reading = step * step  # pixels that one reading stands for
    needed = max(10.0, limits[2] / per_reading)
    if valid < needed:
        return _FEW_VALID, valid * per_reading, values
    middle = ((top + bottom) // 2 - y0) // step
    normal, offset, has_support = _support(z, thin_rays, inside, middle, axes[2], level)
    labels = _surfaces(z, thin_rays, inside, masked, normal, offset, has_support, step)
    best, count, around = _best_surface(labels, inside, z, step)
    if best == 0 or around:
        return _NOTHING_STANDS_OUT, 0, values
    if count < needed:
        return _FEW_POINTS, count * per_reading, values
    points = _points(
        depth, rays, mask, labels, z, best, count, (y0, x0), step, axes, normal,
        offset if has_support else -np.inf, limits)
    distance = points[3, :count].mean()
    if has_support and not level:
        points = _with_foot(points, axes @ normal, offset)
    foot = np.nan
    if level and has_support:
        lowest = _trimmed(points[2])[0]
        slack = max(0.03, 6.0 * NOISE_PER_M * distance * distance)
        if lowest - offset < slack or not _seen_through(
                labels, z, thin_rays, best, axes[0], slack):
            foot = offset
    # the outermost readings lie this far within the edge, in pixels
    lost = 1.25 if masked else 0.25
    lost_m = np.array([lost * distance / limits[3], lost * distance / limits[4]])
    _extents(points, level, foot, _noise(labels, z, best), lost_m, values)
    return 0, count * per_reading, values


@njit(cache=True)
def _points(  # type: ignore[no-untyped-def]
        depth, rays, mask, labels, z, best, count, corner, step, axes, normal, offset, limits):
    """
    Return (4, N) readings of the object along away, left and up, and their depth.

    The first ``count`` are the thinned ones; where pixels were left out, all of those at the
    object's edges follow.
    """
    rows, columns = z.shape
    height, width = depth.shape
    edges = np.zeros((rows, columns), np.bool_)
    border = 0
    if step > 1:
        for r in range(rows):
            for c in range(columns):
                if labels[r, c] == best and not (
                        0 < r < rows - 1 and 0 < c < columns - 1
                        and labels[r - 1, c] == best and labels[r + 1, c] == best
                        and labels[r, c - 1] == best and labels[r, c + 1] == best):
                    edges[r, c] = True
                    border += 1
    points = np.empty((4, count + border * (2 * step - 1) ** 2))
    n = 0
    for r in range(rows):
        for c in range(columns):
            if labels[r, c] == best:
                _put(points, n, rays, corner[0] + r * step, corner[1] + c * step, z[r, c], axes)
                n += 1
    for r in range(rows):
        for c in range(columns):
            if not edges[r, c]:
                continue
            jump = (0.01 + 0.01 * z[r, c]) * step
            y0, x0 = corner[0] + r * step, corner[1] + c * step
            for y in range(max(y0 - step + 1, 0), min(y0 + step, height)):
                for x in range(max(x0 - step + 1, 0), min(x0 + step, width)):
                    d = depth[y, x]
                    if not (limits[0] <= d <= limits[1] and abs(d - z[r, c]) < jump):
                        continue
                    if mask.size > 0:
                        belongs = _deep_in(mask, y, x)
                    else:
                        belongs = _above(rays[y, x], d, normal, offset)
                    if belongs:
                        _put(points, n, rays, y, x, d, axes)
                        n += 1
    return points[:, :n].copy()


@njit(cache=True)
def _with_foot(points, normal, offset):  # type: ignore[no-untyped-def]
    """Return the points, and where those next to the surface behind or below meet it."""
    near = np.zeros(points.shape[1], np.bool_)
    heights = normal[0] * points[0] + normal[1] * points[1] + normal[2] * points[2] - offset
    for i in range(len(near)):
        near[i] = heights[i] < 2.0 * max(0.01, 3.0 * NOISE_PER_M * points[3, i] ** 2)
    foot = points[:, near].copy()
    for k in range(3):
        foot[k] -= normal[k] * heights[near]
    return np.concatenate((points, foot), axis=1)


@njit(cache=True)
def _put(points, n, rays, y, x, d, axes):  # type: ignore[no-untyped-def]
    px, py = rays[y, x, 0] * d, rays[y, x, 1] * d
    for k in range(3):
        points[k, n] = axes[k, 0] * px + axes[k, 1] * py + axes[k, 2] * d
    points[3, n] = d


@njit(cache=True)
def _above(ray, d, normal, offset):  # type: ignore[no-untyped-def]
    """Return whether a reading stands out of the surface around the object."""
    height = (normal[0] * ray[0] + normal[1] * ray[1] + normal[2]) * d - offset
    return height > max(0.01, 3.0 * NOISE_PER_M * d * d)


@njit(cache=True)
def _deep_in(mask, y, x):  # type: ignore[no-untyped-def]
    """Return whether a pixel and its neighbours are in the mask: its border mixes two depths."""
    height, width = mask.shape
    return (mask[y, x] and mask[max(y - 1, 0), x] and mask[min(y + 1, height - 1), x]
            and mask[y, max(x - 1, 0)] and mask[y, min(x + 1, width - 1)])


@njit(cache=True)
def _support(z, rays, inside, middle, up, level):  # type: ignore[no-untyped-def]
    """
    Find the plane around the lower half of the box: what the object stands on, or is in front of.

    :return: Normal towards the camera's side, offset, and whether there is such a plane.
    """
    rows, columns = z.shape
    around = np.empty((rows * columns, 3))
    n = 0
    for r in range(middle, rows):
        for c in range(columns):
            if z[r, c] > 0.0 and not inside[r, c]:
                around[n, 0] = rays[r, c, 0] * z[r, c]
                around[n, 1] = rays[r, c, 1] * z[r, c]
                around[n, 2] = z[r, c]
                n += 1
    if n < 20:
        return up, 0.0, False
    around = around[:n:max(1, n // 400)].copy()
    tolerance = max(0.008, 3.0 * NOISE_PER_M * np.median(around[:, 2]) ** 2)
    normal = up.copy() if level else _plane_normal(around, tolerance)
    heights = np.sort(around @ normal)
    best, start, j = 0, 0, 0
    for i in range(len(heights)):
        while heights[i] - heights[j] > 2.0 * tolerance:
            j += 1
        if i - j + 1 > best:
            best, start = i - j + 1, j
    if best < 0.3 * len(heights):
        return up, 0.0, False
    return normal, np.median(heights[start:start + best]), True


@njit(cache=True)
def _plane_normal(points, tolerance):  # type: ignore[no-untyped-def]
    """Return the normal, towards the camera, of the plane most points lie on (RANSAC)."""
    n = len(points)
    best_votes, best = -1, np.array([0.0, 0.0, -1.0])
    state = np.uint64(12345)  # a generator of its own: the same picture gives the same box
    pick = np.zeros(3, np.int64)
    for _ in range(40):
        for k in range(3):
            state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
            pick[k] = np.int64((state >> np.uint64(33)) % np.uint64(n))
        normal = np.cross(points[pick[1]] - points[pick[0]], points[pick[2]] - points[pick[0]])
        length = np.sqrt((normal * normal).sum())
        if length < 1e-9:
            continue
        normal = normal / length
        offset = (normal * points[pick[0]]).sum()
        if offset > 0.0:
            normal, offset = -normal, -offset
        a, b, c = normal
        votes = 0
        for i in range(n):
            off = a * points[i, 0] + b * points[i, 1] + c * points[i, 2] - offset
            votes += abs(off) < tolerance
        if votes > best_votes:
            best_votes, best = votes, normal
    return best


@njit(cache=True)
def _surfaces(z, rays, inside, masked, normal, offset, has_support, step):  # type: ignore[no-untyped-def]
    """Return (rows, columns) numbers from 1: readings of one number are connected; 0 is no one."""
    rows, columns = z.shape
    labels = np.zeros((rows, columns), np.int32)
    for r in range(rows):
        for c in range(columns):
            d = z[r, c]
            if d <= 0.0 or (masked and not inside[r, c]):
                continue
            if has_support and not masked and not _above(rays[r, c], d, normal, offset):
                continue
            labels[r, c] = -1  # waits for its number
    return _connected(labels, z, step)


@njit(cache=True)
def _connected(labels, z, step):  # type: ignore[no-untyped-def]
    """Give connected readings among those marked -1 one number (union-find in two scans)."""
    rows, columns = z.shape
    parent = np.empty(rows * columns + 1, np.int32)
    count = 0
    for r in range(rows):
        for c in range(columns):
            if labels[r, c] == 0:
                continue
            d = z[r, c]
            jump = (0.01 + 0.01 * d) * step
            left, above = 0, 0
            if c > 0 and labels[r, c - 1] > 0 and (
                    abs(z[r, c - 1] - d) < jump or _slants_on(z, r, c, 0, 1, jump)):
                left = _root(parent, labels[r, c - 1])
            if r > 0 and labels[r - 1, c] > 0 and (
                    abs(z[r - 1, c] - d) < jump or _slants_on(z, r, c, 1, 0, jump)):
                above = _root(parent, labels[r - 1, c])
            if left == 0 and above == 0:
                count += 1
                parent[count] = count
                labels[r, c] = count
            elif left == 0 or above == 0:
                labels[r, c] = left + above
            else:
                labels[r, c] = min(left, above)
                parent[max(left, above)] = min(left, above)
    for r in range(rows):
        for c in range(columns):
            if labels[r, c] > 0:
                labels[r, c] = _root(parent, labels[r, c])
    return labels


@njit(cache=True)
def _slants_on(z, r, c, dr, dc, jump):  # type: ignore[no-untyped-def]
    """Return whether the step from the reading before is one of several: a face seen aslant."""
    rows, columns = z.shape
    step = z[r, c] - z[r - dr, c - dc]
    if abs(step) > 6.0 * jump:
        return False
    if r + dr < rows and c + dc < columns and z[r + dr, c + dc] > 0.0 and abs(
            z[r + dr, c + dc] - z[r, c] - step) < 0.5 * abs(step):
        return True
    r, c = r - 2 * dr, c - 2 * dc
    return r >= 0 and c >= 0 and z[r, c] > 0.0 and abs(
        z[r + dr, c + dc] - z[r, c] - step) < 0.5 * abs(step)


@njit(cache=True)
def _root(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True)
def _best_surface(labels, inside, z, step):  # type: ignore[no-untyped-def]
    """
    Choose the surface that lies in the box rather than around it.

    Pieces of it that an occluder has cut off, at the depth of the largest piece, join it.

    :return: Its number in ``labels`` (0: none), its readings, and whether it goes on outside.
    """
    n = labels.max() + 1
    within, outside = np.zeros(n, np.int64), np.zeros(n, np.int64)
    near, far = np.full(n, np.inf), np.zeros(n)
    rows, columns = z.shape
    for r in range(rows):
        for c in range(columns):
            i = labels[r, c]
            if i > 0:
                if inside[r, c]:
                    within[i] += 1
                else:
                    outside[i] += 1
                near[i], far[i] = min(near[i], z[r, c]), max(far[i], z[r, c])
    best = 0
    for i in range(1, n):
        if within[i] - 2 * outside[i] > within[best] - 2 * outside[best] or best == 0:
            best = i
    if best == 0:
        return 0, 0, False
    if within[best] < 2 * outside[best]:
        return best, within[best], True
    slack = (0.01 + 0.01 * near[best]) * step
    joins = np.zeros(n, np.bool_)
    for i in range(1, n):
        middle = 0.5 * (near[i] + far[i])
        joins[i] = i == best or (
            within[i] > 2 * outside[i] and 20 * within[i] > within[best]
            and near[best] - slack < middle < far[best] + slack)
    count = 0
    for r in range(rows):
        for c in range(columns):
            if joins[labels[r, c]]:
                labels[r, c] = best
                count += 1
    return best, count, False


@njit(cache=True)
def _seen_through(labels, z, rays, best, away, slack):  # type: ignore[no-untyped-def]
    """
    Return whether one can see under the object: then it does not reach the surface below it.

    Where a pixel below the object shows something beyond its lower edge, the line of sight has
    passed under it. Something nearer hides the foot; straight from above the object does.
    """
    rows, columns = z.shape
    free, shown = 0, 0
    for c in range(columns):
        for r in range(rows - 3, -1, -1):
            if labels[r, c] != best:
                continue
            below = z[r + 2, c]  # the pixel next to an edge may mix both depths
            if below > 0.0:
                shown += 1
                edge = z[r, c] * (
                    away[0] * rays[r, c, 0] + away[1] * rays[r, c, 1] + away[2])
                beyond = below * (
                    away[0] * rays[r + 2, c, 0] + away[1] * rays[r + 2, c, 1] + away[2])
                free += beyond > edge + slack
            break
    return 2 * free > shown


@njit(cache=True)
def _noise(labels, z, best):  # type: ignore[no-untyped-def]
    """Return the standard deviation of the readings, metres, from how they jitter in a row."""
    rows, columns = z.shape
    jitter = np.empty(rows * columns)
    n = 0
    for r in range(0, rows, max(1, rows // 16)):
        for c in range(1, columns - 1):
            if labels[r, c - 1] == best and labels[r, c] == best and labels[r, c + 1] == best:
                jitter[n] = abs(z[r, c] - 0.5 * (z[r, c - 1] + z[r, c + 1]))
                n += 1
    # median of a normal deviate: 0.6745 sigma; of these three readings: sqrt(1.5) times that
    return np.median(jitter[:n]) / (0.6745 * np.sqrt(1.5)) if n > 0 else 0.0


@njit(cache=True)
def _extents(points, level, foot, noise, lost, values):  # type: ignore[no-untyped-def]
    """Fill ``values`` from points along away, left and up."""
    turn = _turn(points[0], points[1]) if level else 0.0
    cosine, sine = np.cos(turn), np.sin(turn)
    center = np.array([points[0].mean(), points[1].mean(), points[2].mean()])
    distance = np.sqrt((center * center).sum())
    center /= distance
    low, high = np.empty(3), np.empty(3)
    for k in range(3):
        if k == 2:
            along, view = points[2], center[2]
        else:
            a, b = (cosine, sine) if k == 0 else (-sine, cosine)
            along, view = a * points[0] + b * points[1], a * center[0] + b * center[1]
        low[k], high[k] = _trimmed(along)
        # the outermost of many noisy readings of a face lie in front of it
        near, far = 2.5 * noise * abs(view), 1.0 * noise * abs(view)
        if high[k] - low[k] > near + far:
            low[k] += near if view > 0.0 else far
            high[k] -= far if view > 0.0 else near
    low[1] -= lost[0]
    high[1] += lost[0]
    high[2] += lost[1]
    low[2] = low[2] - lost[1] if np.isnan(foot) else min(foot, high[2])
    # one upright face: how far it goes back is not to be seen
    seen = high[0] - low[0]
    # the far edge is foreshortened: that of the top seen from above, or that of a side
    slant = -high[2] / distance if high[2] < 0.0 else abs(cosine * center[1] - sine * center[0])
    high[0] += lost[1] / max(slant, 0.1)
    if seen < max(0.01, 4.0 * noise, 0.05 * (high[1] - low[1])):
        guess = min(high[1] - low[1], high[2] - low[2])
        if guess > seen:
            values[7] = guess - seen
            high[0] = low[0] + guess
    for k in range(3):
        values[k] = 0.5 * (low[k] + high[k])
        values[3 + k] = high[k] - low[k]
    values[6] = turn


@njit(cache=True, fastmath=True)
def _trimmed(values):  # type: ignore[no-untyped-def]
    """Return the smallest and largest value without one stray reading in 300 at either end."""
    low, high = np.inf, -np.inf
    for value in values:
        low, high = min(low, value), max(high, value)
    bins = 1024  # sorting would take three times as long; this is exact to a thousandth
    counts = np.zeros(bins + 1, np.int32)
    scale = bins / max(high - low, 1e-9)
    for value in values:
        counts[int((value - low) * scale)] += 1
    strays = len(values) // 300
    first, passed = 0, counts[0]
    while passed <= strays:
        first += 1
        passed += counts[first]
    last, passed = bins, counts[bins]
    while passed <= strays:
        last -= 1
        passed += counts[last]
    return low + first / scale, low + min(last + 1, bins) / scale


@njit(cache=True)
def _turn(away, left):  # type: ignore[no-untyped-def]
    """
    Return the turn about up, in [-45, 45) degrees, at which an upright box fits the points best.

    Among the turns with nearly the smallest footprint, the one whose sides lie closest to the
    points (Zhang et al. 2017, "Efficient L-shape fitting"): two faces alone form a triangle,
    whose smallest rectangle may as well lie along its diagonal.
    """
    step = max(1, len(away) // _TURN_POINTS)
    x, y = away[::step].copy(), left[::step].copy()
    coarse = 30
    areas = np.empty(coarse)
    for i in range(coarse):
        areas[i] = _footprint_fit(x, y, np.radians(-45.0 + 3.0 * i), False)
    limit = 1.15 * areas.min()
    best, best_gap = 0.0, np.inf
    for i in range(coarse):
        if areas[i] <= limit:
            angle = np.radians(-45.0 + 3.0 * i)
            gap = _footprint_fit(x, y, angle, True)
            if gap < best_gap:
                best, best_gap = angle, gap
    for width in (1.5, 0.75, 0.375, 0.1875):
        middle = best
        for side in (-1.0, 1.0):
            angle = middle + side * np.radians(width)
            gap = _footprint_fit(x, y, angle, True)
            if gap < best_gap:
                best, best_gap = angle, gap
    return best


@njit(cache=True, fastmath=True)
def _footprint_fit(x, y, angle, close):  # type: ignore[no-untyped-def]
    """Return the area of the turned footprint, or the mean distance of points to its border."""
    cosine, sine = np.cos(angle), np.sin(angle)
    a0, a1, b0, b1 = np.inf, -np.inf, np.inf, -np.inf
    for i in range(len(x)):
        a, b = cosine * x[i] + sine * y[i], cosine * y[i] - sine * x[i]
        a0, a1, b0, b1 = min(a0, a), max(a1, a), min(b0, b), max(b1, b)
    if not close:
        return (a1 - a0) * (b1 - b0)
    total = 0.0
    for i in range(len(x)):
        a, b = cosine * x[i] + sine * y[i], cosine * y[i] - sine * x[i]
        total += min(a - a0, a1 - a, b - b0, b1 - b)
    return total / len(x)
