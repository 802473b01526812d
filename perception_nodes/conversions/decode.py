"""
ROS messages to arrays.

Only attributes are read, so the messages of a bag reader serve as well as those of rclpy,
and this module needs no ROS. Errors are sentences; the caller knows the topic.
"""

from dataclasses import replace
import math
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import rotation_of
from perception_nodes.core.types import (
    CameraIntrinsics,
    Detections,
    Detections3D,
    LaserRanges,
    OccupancyMap,
    StampedTransform,
    VelocityCommand,
)

ZeroDepth = Literal['unknown', 'beyond_range']
_ANGLE_SLACK_RAD = 0.05
_LONGEST_ID = 18  # decimal digits that always fit into 64 bits

# encoding: (sample dtype without byte order, channels, OpenCV code to RGB or None)
_COLOUR = {
    'rgb8': ('u1', 3, None),
    'bgr8': ('u1', 3, cv2.COLOR_BGR2RGB),
    'rgba8': ('u1', 4, cv2.COLOR_RGBA2RGB),
    'bgra8': ('u1', 4, cv2.COLOR_BGRA2RGB),
    'mono8': ('u1', 1, cv2.COLOR_GRAY2RGB),
    'mono16': ('u2', 1, cv2.COLOR_GRAY2RGB),
}
# the same for pixels that do not have all of their colour by themselves
_SHARED = {
    'bayer_rggb8': ('u1', 1, cv2.COLOR_BayerRGGB2RGB),
    'bayer_bggr8': ('u1', 1, cv2.COLOR_BayerBGGR2RGB),
    'bayer_gbrg8': ('u1', 1, cv2.COLOR_BayerGBRG2RGB),
    'bayer_grbg8': ('u1', 1, cv2.COLOR_BayerGRBG2RGB),
    'yuv422': ('u1', 2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': ('u1', 2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': ('u1', 2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': ('u1', 2, cv2.COLOR_YUV2RGB_YUY2),
}
_READ = {**_COLOUR, **_SHARED}
_DEPTH = {'32FC1': 'f4', '16UC1': 'u2'}


def stamp_ns_from_msg(stamp: Any) -> int:
    """Convert a ``builtin_interfaces/Time`` to nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def rgb_from_msg(msg: Any) -> npt.NDArray[np.uint8]:
    """
    Convert a colour or grey ``sensor_msgs/Image`` to RGB.

    Grey images become three equal channels; 16-bit grey keeps its upper eight bits. Bayer mosaics
    are interpolated linearly, and YUV is that of ITU-R BT.601, as in cv_bridge.

    :return: (H, W, 3) uint8; for ``rgb8`` without row padding a read-only view of the message.
    :raises ValueError: If the encoding is not a colour one or the buffer does not fit.
    """
    if msg.encoding not in _READ:
        return _rgb_through_cv_bridge(msg)
    dtype, channels, to_rgb = _READ[msg.encoding]
    pixels = _pixels(msg, dtype, channels)
    if channels == 2 and msg.width % 2:
        raise ValueError(
            f"image in '{msg.encoding}' is {msg.width} pixels wide; two neighbours share a "
            'colour: the width must be even')
    if dtype == 'u2':
        pixels = (pixels >> 8).astype(np.uint8)
    if to_rgb is None:
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), to_rgb), np.uint8)


def samples_from_msg(msg: Any) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """
    Return a copy of the pixels of a ``sensor_msgs/Image`` as its encoding has them.

    :return: (H, W) for grey or (H, W, 3 or 4) colours in the encoding's own order.
    :raises ValueError: If each pixel does not have all of its colour by itself (Bayer, YUV), or
        the buffer does not fit.
    """
    if msg.encoding not in _COLOUR:
        raise ValueError(
            f"image has encoding '{msg.encoding}'; supported are {', '.join(_COLOUR)}")
    dtype, channels, _ = _COLOUR[msg.encoding]
    return _pixels(msg, dtype, channels).astype(dtype)


def is_depth(encoding: str) -> bool:
    """Return whether an encoding of images is one of depth, not of light."""
    return encoding in _DEPTH


def depth_m_from_msg(
    msg: Any, zero_depth_means: ZeroDepth = 'unknown'
) -> npt.NDArray[np.float32]:
    """
    Convert a depth ``sensor_msgs/Image`` (REP 118) to metres along the optical axis.

    ``32FC1`` holds metres, with NaN, +inf and -inf as in REP 117; ``16UC1`` holds millimetres.

    :param zero_depth_means: What a ``16UC1`` zero stands for.
    :return: (H, W) float32 metres: NaN no reading, +inf beyond range, -inf too near.
    :raises ValueError: If the encoding is not a depth one or the buffer does not fit.
    """
    if msg.encoding not in _DEPTH:
        raise ValueError(
            f"depth image has encoding '{msg.encoding}'; "
            'supported are 32FC1 (metres) and 16UC1 (millimetres)')
    raw = _pixels(msg, _DEPTH[msg.encoding], 1)
    if msg.encoding == '16UC1':
        return metres_from_mm(raw, zero_depth_means)
    depth_m = raw.astype(np.float32)
    # a metric zero is no distance: drivers write it where REP 118 asks for NaN
    depth_m[raw == 0.0] = np.nan
    return depth_m


def rgb_from_compressed_msg(msg: Any) -> npt.NDArray[np.uint8]:
    """
    Convert a ``sensor_msgs/CompressedImage`` (JPEG or PNG) to RGB.

    :return: (H, W, 3) uint8.
    :raises ValueError: If the data is no such picture, or cut off.
    """
    data = np.frombuffer(msg.data, np.uint8)
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if bgr is None:
        raise ValueError(
            f"compressed image (format '{msg.format}', {data.size} bytes) cannot be decoded; "
            'it must be a whole JPEG or PNG')
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def depth_m_from_compressed_msg(
    msg: Any, zero_depth_means: ZeroDepth = 'unknown'
) -> npt.NDArray[np.float32]:
    """
    Convert a ``compressedDepth`` image of image_transport to metres.

    It is a PNG behind twelve bytes of settings: millimetres for ``16UC1``; for ``32FC1`` the
    inverse of depth, quantised.

    :return: (H, W) float32 metres, as :func:`depth_m_from_msg` gives them.
    :raises ValueError: If the data is no such picture, or cut off.
    """
    data = np.frombuffer(msg.data, np.uint8)
    encoding = msg.format.partition(';')[0].strip()
    known = encoding in _DEPTH and 'rvl' not in msg.format
    raw = cv2.imdecode(data[12:], cv2.IMREAD_UNCHANGED) if known and data.size > 12 else None
    if raw is None or raw.dtype != np.uint16 or raw.ndim != 2:
        raise ValueError(
            f"compressed depth image (format '{msg.format}', {data.size} bytes) cannot be "
            "decoded; supported are '16UC1; compressedDepth png' and '32FC1; compressedDepth png'")
    if encoding == '16UC1':
        return metres_from_mm(raw, zero_depth_means)
    scale, offset = np.frombuffer(data[4:12].tobytes(), '<f4')
    with np.errstate(divide='ignore'):
        depth_m = scale / (raw.astype(np.float32) - offset)
    depth_m[raw == 0] = np.nan
    return np.asarray(depth_m, np.float32)


def ids_from_msg(msg: Any) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """
    Convert a mask of class or instance ids, as a ``mono8`` or ``mono16`` image, to ids.

    :return: (H, W) uint8 or uint16.
    :raises ValueError: If the encoding is another one or the buffer does not fit.
    """
    if msg.encoding not in ('mono8', 'mono16'):
        raise ValueError(
            f"mask has encoding '{msg.encoding}'; supported are mono8 and mono16")
    if msg.encoding == 'mono8':
        return np.asarray(_pixels(msg, 'u1', 1), np.uint8)
    return _pixels(msg, 'u2', 1).astype(np.uint16)


def detections_from_msg(msg: Any) -> Detections:
    """
    Convert a ``vision_msgs/Detection2DArray``; of several hypotheses the best one counts.

    :return: One detection per box with a hypothesis, in the message's order; with object ids
        where every one of them is a decimal number.
    :raises ValueError: If a class id is not a decimal number, or a box is none.
    """
    boxes, scores, class_ids, object_ids = [], [], [], []
    for detection in msg.detections:
        if not detection.results:
            continue
        best = max((result.hypothesis for result in detection.results), key=lambda h: h.score)
        centre, box = detection.bbox.center.position, detection.bbox
        boxes.append((centre.x, centre.y, box.size_x, box.size_y))
        scores.append(best.score)
        class_ids.append(_class_id(best, 'detection'))
        object_ids.append(detection.id)
    rows = np.array(boxes, np.float64).reshape(-1, 4)
    _check_boxes(rows, 'x, y and size in pixels')
    return Detections(
        _corners(rows), np.array(scores, np.float32), np.array(class_ids, np.int64),
        np.array(object_ids, np.int64) if all(map(_is_id, object_ids)) else None)


def class_from_msg(msg: Any) -> int:
    """
    Return the best class of a ``vision_msgs/Classification``.

    :raises ValueError: If it has none, or its id is not a decimal number.
    """
    if not msg.results:
        raise ValueError('a classification has no class')
    return _class_id(max(msg.results, key=lambda one: one.score), 'classification')


def _class_id(hypothesis: Any, what: str) -> int:
    if not _is_id(hypothesis.class_id):
        raise ValueError(
            f"a {what} has class id '{hypothesis.class_id}'; it must be a decimal number that "
            'label_info resolves')
    return int(hypothesis.class_id)


def _is_id(text: str) -> bool:
    """Return whether a text is a decimal number of 64 bits."""
    return text.isdecimal() and len(text) <= _LONGEST_ID


def detections_3d_from_msg(msg: Any) -> Detections3D:
    """
    Convert a ``vision_msgs/Detection3DArray``; of several hypotheses the best one counts.

    :return: One box per detection with a hypothesis, in the message's frame and order; class -1
        where the class id is no decimal number, object ids where every id is one.
    :raises ValueError: If a box's quaternion is not of length 1, or a number of it not finite.
    """
    kept = [d for d in msg.detections if d.results]
    best = [max((r for r in d.results), key=lambda r: r.hypothesis.score) for d in kept]
    n, ids = len(kept), [b.hypothesis.class_id for b in best]
    centers = [d.bbox.center.position for d in kept]
    turns = [d.bbox.center.orientation for d in kept]
    rotations = [rotation_of((q.x, q.y, q.z, q.w)) for q in turns]
    sizes = [d.bbox.size for d in kept]
    boxes = np.array([(c.x, c.y, c.z, s.x, s.y, s.z) for c, s in zip(centers, sizes, strict=True)],
                     np.float64).reshape(n, 6)
    _check_boxes(boxes, 'x, y, z and size in metres')
    is_numbered = all(_is_id(d.id) for d in kept)
    return Detections3D(
        boxes[:, :3],
        np.array(rotations, np.float64).reshape(n, 3, 3),
        boxes[:, 3:],
        np.array([b.pose.covariance for b in best], np.float64).reshape(n, 6, 6),
        np.array([b.hypothesis.score for b in best], np.float32),
        np.array([int(i) if _is_id(i) else -1 for i in ids], np.int64), np.arange(n),
        tuple('ground_contact' if d.id.startswith('ground_contact') else 'depth' for d in kept),
        np.array([int(d.id) for d in kept], np.int64) if is_numbered else None)


def boxes_from_msg(msg: Any) -> npt.NDArray[np.float32]:
    """
    Convert a ``vision_msgs/Detection2DArray`` to its boxes alone, with or without hypotheses.

    :return: (N, 4) float32 pixels: left, top, right, bottom.
    """
    rows = [(d.bbox.center.position.x, d.bbox.center.position.y, d.bbox.size_x, d.bbox.size_y)
            for d in msg.detections]
    return _corners(np.array(rows, np.float64).reshape(-1, 4))


def window_from_msg(msg: Any) -> tuple[int, int, int, int] | None:
    """
    Convert a ``sensor_msgs/RegionOfInterest`` to left, top, right, bottom in pixels.

    :return: None for the whole image, which a width or height of 0 stands for.
    """
    if not (msg.width and msg.height):
        return None
    return msg.x_offset, msg.y_offset, msg.x_offset + msg.width, msg.y_offset + msg.height


def class_names_from_msg(msg: Any) -> dict[int, str]:
    """Convert a ``vision_msgs/LabelInfo`` to class ids and names."""
    return {int(entry.class_id): str(entry.class_name) for entry in msg.class_map}


def _corners(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return (N, 4) left, top, right, bottom from centre and size."""
    half = boxes[:, 2:] * 0.5
    return np.hstack([boxes[:, :2] - half, boxes[:, :2] + half]).astype(np.float32)


def _check_boxes(boxes: npt.NDArray[np.float64], what: str) -> None:
    """
    Refuse boxes that are none.

    :param boxes: (N, 2 D) centres and sizes.
    :param what: Their columns, for the sentence.
    :raises ValueError: If a number is not finite, or a size negative.
    """
    good = np.isfinite(boxes).all(axis=1) & (boxes[:, boxes.shape[1] // 2:] >= 0.0).all(axis=1)
    if not good.all():
        raise ValueError(
            f'a detection has the box {boxes[~good][0].tolist()} ({what}); all must be numbers, '
            'and no size negative')


def metres_from_mm(
    raw: npt.NDArray[Any], zero_depth_means: ZeroDepth = 'unknown'
) -> npt.NDArray[np.float32]:
    """Convert (H, W) millimetres to float32 metres; zeros are no reading, or +inf."""
    depth_m = raw.astype(np.float32)
    depth_m *= np.float32(0.001)
    depth_m[raw == 0] = np.nan if zero_depth_means == 'unknown' else np.inf
    return depth_m


def is_rectified(image_topic: str) -> bool:
    """Return whether a topic carries rectified images, by the field's names (image_rect...)."""
    return image_topic.rpartition('/')[2].startswith('image_rect')


def intrinsics_from_msg(msg: Any, rectified: bool = False) -> CameraIntrinsics:
    """
    Convert a ``sensor_msgs/CameraInfo`` to intrinsics.

    :param rectified: Whether they are for the rectified image (P, no distortion) or for the raw
        one (K and D).
    :return: Those of the image as it is sent: a region of interest and binning are applied, as
        ``image_geometry`` does.
    :raises ValueError: If the size or a focal length is zero, or the distortion model unknown.
    """
    width, height = int(msg.width), int(msg.height)
    if rectified:
        p = [float(x) for x in msg.p]
        return _as_sent(CameraIntrinsics(width, height, p[0], p[5], p[2], p[6]), msg)
    distortion = tuple(float(x) for x in msg.d) if any(msg.d) else ()
    if distortion and msg.distortion_model not in ('plumb_bob', 'rational_polynomial'):
        raise ValueError(
            f"camera_info has distortion model '{msg.distortion_model}'; supported are "
            'plumb_bob and rational_polynomial: rectify the image first')
    k = [float(x) for x in msg.k]
    return _as_sent(CameraIntrinsics(width, height, k[0], k[4], k[2], k[5], distortion), msg)


def _as_sent(full: CameraIntrinsics, msg: Any) -> CameraIntrinsics:
    roi = msg.roi  # in pixels before binning; a size of 0 is the whole image
    x, y = max(1, int(msg.binning_x)), max(1, int(msg.binning_y))
    return replace(
        full, width=(int(roi.width) or full.width) // x, fx=full.fx / x,
        cx=(full.cx - int(roi.x_offset)) / x, height=(int(roi.height) or full.height) // y,
        fy=full.fy / y, cy=(full.cy - int(roi.y_offset)) / y)


def _rgb_through_cv_bridge(msg: Any) -> npt.NDArray[np.uint8]:
    """Decode what only a ROS install can, or say what is supported."""
    if msg.encoding in _DEPTH:
        raise ValueError(
            f"colour image has encoding '{msg.encoding}', that of a depth image; "
            'remap the depth topic')
    try:
        from cv_bridge import CvBridge
    except ImportError:
        raise ValueError(
            f"colour image has encoding '{msg.encoding}'; supported are {', '.join(_READ)}, "
            'and more where cv_bridge is installed') from None
    return np.asarray(CvBridge().imgmsg_to_cv2(msg, 'rgb8'), np.uint8)


def velocity_from_msg(msg: Any) -> VelocityCommand:
    """Convert a ``geometry_msgs/Twist`` or ``TwistStamped`` of base_link to a command."""
    twist = getattr(msg, 'twist', msg)
    return VelocityCommand(float(twist.linear.x), float(twist.angular.z))


def laser_ranges_from_msg(msg: Any) -> LaserRanges:
    """
    Convert a ``sensor_msgs/LaserScan``; its ranges stay as they are (REP 117).

    :raises ValueError: If it has no ranges, or its angles or limits cannot be.
    """
    ranges = np.array(msg.ranges, np.float32)
    if ranges.size == 0:
        raise ValueError('the laser scan has no ranges; it must have one for each beam')
    first, step = float(msg.angle_min), float(msg.angle_increment)
    # one beam more than a turn is what some drivers send
    if not math.isfinite(first) or not 0.0 < abs(step) * (ranges.size - 1) < 2.01 * math.pi:
        raise ValueError(
            f'the laser scan has {ranges.size} ranges from {first:g} rad on, {step:g} rad apart; '
            'at least two within one turn are needed: does the driver give degrees?')
    last, says = first + step * (ranges.size - 1), float(msg.angle_max)
    # drivers differ by a beam or two; more is a scan whose obstacles are elsewhere
    if not abs(says - last) <= max(3.0 * abs(step), _ANGLE_SLACK_RAD):
        raise ValueError(
            f'the laser scan has {ranges.size} ranges from {first:g} rad on, {step:g} rad apart, '
            f'which ends at {last:g} rad, but angle_max is {says:g} rad: which of them is wrong?')
    near, far = float(msg.range_min), float(msg.range_max)
    if not 0.0 <= near < far < math.inf:
        raise ValueError(
            f'the laser scan has range_min {near:g} m and range_max {far:g} m; both must be '
            'finite, from 0 on, and range_min the smaller')
    return LaserRanges(
        ranges, first, step, near, far, stamp_ns_from_msg(msg.header.stamp), msg.header.frame_id)


def occupancy_from_msg(msg: Any) -> OccupancyMap:
    """
    Convert ``nav_msgs/OccupancyGrid`` to a grid along the axes of its frame.

    :raises ValueError: If it is turned in its frame, or the buffer does not fit.
    """
    info, turn = msg.info, msg.info.origin.orientation
    if abs(turn.x) + abs(turn.y) + abs(turn.z) > 1e-6:
        raise ValueError(
            f"the map is turned in frame '{msg.header.frame_id}' (quaternion {turn.x:g}, "
            f'{turn.y:g}, {turn.z:g}, {turn.w:g}); only maps along its axes are read')
    cells = np.asarray(msg.data, np.int8)
    if cells.size != info.height * info.width:
        raise ValueError(
            f'the map has {cells.size} cells, but its size is {info.width}x{info.height}')
    return OccupancyMap(
        cells.reshape(info.height, info.width), info.resolution,
        (info.origin.position.x, info.origin.position.y), msg.header.frame_id)


def transform_from_msg(msg: Any) -> StampedTransform:
    """
    Convert a ``geometry_msgs/TransformStamped``, one of those in a ``tf2_msgs/TFMessage``.

    :raises ValueError: If it is no transform between two frames.
    """
    t, q = msg.transform.translation, msg.transform.rotation
    return StampedTransform(
        msg.header.frame_id, msg.child_frame_id, stamp_ns_from_msg(msg.header.stamp),
        (t.x, t.y, t.z), (q.x, q.y, q.z, q.w))


def attitude_from_msg(msg: Any, level_frame: str) -> StampedTransform:
    """
    Convert the orientation of a ``sensor_msgs/Imu`` to the pose of its frame in a level one.

    :param level_frame: Name of that frame, whose z axis points up (REP 145).
    :raises ValueError: If the IMU says that it has no orientation, or gives none.
    """
    if msg.orientation_covariance[0] == -1.0:
        raise ValueError(
            f"the IMU in frame '{msg.header.frame_id}' measures no orientation "
            '(orientation_covariance[0] is -1); a filter such as imu_filter_madgwick adds it')
    q = msg.orientation
    return StampedTransform(
        level_frame, msg.header.frame_id, stamp_ns_from_msg(msg.header.stamp), (0.0, 0.0, 0.0),
        (q.x, q.y, q.z, q.w))


def _pixels(msg: Any, dtype: str, channels: int) -> npt.NDArray[Any]:
    """Return the message's buffer as an (H, W[, C]) view in native meaning, rows unpadded."""
    if msg.height == 0 or msg.width == 0:
        raise ValueError(f'image is {msg.width}x{msg.height} pixels; it must not be empty')
    row_bytes = msg.width * channels * np.dtype(dtype).itemsize
    if msg.step < row_bytes:
        raise ValueError(
            f"image of {msg.width} pixels in '{msg.encoding}' needs rows of {row_bytes} bytes; "
            f'step says {msg.step}')
    data = np.frombuffer(msg.data, np.uint8)
    needed = msg.step * (msg.height - 1) + row_bytes
    if data.size < needed:
        raise ValueError(
            f'image buffer holds {data.size} bytes; {msg.width}x{msg.height} in '
            f"'{msg.encoding}' with step {msg.step} needs {needed}")
    # strides instead of reshape: a last row without its padding is allowed
    rows = np.lib.stride_tricks.as_strided(
        data, (msg.height, row_bytes), (msg.step, 1), writeable=False)
    order = '>' if msg.is_bigendian else '<'
    samples = (rows if msg.step == row_bytes else np.ascontiguousarray(rows)).view(order + dtype)
    return samples if channels == 1 else samples.reshape(msg.height, msg.width, channels)
