"""
ROS messages to arrays.

Only attributes are read, so the messages of a bag reader serve as well as those of rclpy,
and this module needs no ROS. Errors are sentences; the caller knows the topic.
"""

from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import CameraIntrinsics, Detections

ZeroDepth = Literal['unknown', 'beyond_range']

# encoding: (sample dtype without byte order, channels, OpenCV code to RGB or None)
_COLOUR = {
    'rgb8': ('u1', 3, None),
    'bgr8': ('u1', 3, cv2.COLOR_BGR2RGB),
    'rgba8': ('u1', 4, cv2.COLOR_RGBA2RGB),
    'bgra8': ('u1', 4, cv2.COLOR_BGRA2RGB),
    'mono8': ('u1', 1, cv2.COLOR_GRAY2RGB),
    'mono16': ('u2', 1, cv2.COLOR_GRAY2RGB),
}
_DEPTH = {'32FC1': 'f4', '16UC1': 'u2'}


def stamp_ns_from_msg(stamp: Any) -> int:
    """Convert a ``builtin_interfaces/Time`` to nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def rgb_from_msg(msg: Any) -> npt.NDArray[np.uint8]:
    """
    Convert a colour or grey ``sensor_msgs/Image`` to RGB.

    Grey images become three equal channels; 16-bit grey keeps its upper eight bits.

    :return: (H, W, 3) uint8; for ``rgb8`` without row padding a read-only view of the message.
    :raises ValueError: If the encoding is not a colour one or the buffer does not fit.
    """
    if msg.encoding not in _COLOUR:
        hint = ' (a depth image: remap the depth topic)' if msg.encoding in _DEPTH else ''
        raise ValueError(
            f"colour image has encoding '{msg.encoding}'{hint}; "
            f'supported are {", ".join(_COLOUR)}')
    dtype, channels, to_rgb = _COLOUR[msg.encoding]
    pixels = _pixels(msg, dtype, channels)
    if dtype == 'u2':
        pixels = (pixels >> 8).astype(np.uint8)
    if to_rgb is None:
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), to_rgb), np.uint8)


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
    depth_m = raw.astype(np.float32)
    if msg.encoding == '16UC1':
        depth_m *= np.float32(0.001)
        depth_m[raw == 0] = np.nan if zero_depth_means == 'unknown' else np.inf
    else:
        # a metric zero is no distance: drivers write it where REP 118 asks for NaN
        depth_m[raw == 0.0] = np.nan
    return depth_m


def intrinsics_from_msg(msg: Any) -> CameraIntrinsics:
    """
    Convert a ``sensor_msgs/CameraInfo`` of the raw image to intrinsics.

    :raises ValueError: If the size or a focal length is zero, or the distortion model unknown.
    """
    # message fields are upper-case in ROS 1 bags only; bag readers keep the ROS 2 names
    k, d = msg.k, tuple(float(x) for x in msg.d)
    distorted = any(d)
    if distorted and msg.distortion_model not in ('plumb_bob', 'rational_polynomial'):
        raise ValueError(
            f"camera_info has distortion model '{msg.distortion_model}'; supported are "
            'plumb_bob and rational_polynomial: rectify the image first')
    return CameraIntrinsics(
        int(msg.width), int(msg.height), float(k[0]), float(k[4]), float(k[2]), float(k[5]),
        d if distorted else ())


def rgb_from_compressed_msg(msg: Any) -> npt.NDArray[np.uint8]:
    """
    Convert a JPEG or PNG ``sensor_msgs/CompressedImage`` to RGB.

    :return: (H, W, 3) uint8.
    :raises ValueError: If it is a compressed depth image or cannot be decompressed.
    """
    if 'compressedDepth' in msg.format:
        raise ValueError(
            f"compressed image has format '{msg.format}', which is depth; use the raw depth topic")
    data = np.frombuffer(msg.data, np.uint8)
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if bgr is None:
        raise ValueError(
            f"compressed image of {data.size} bytes with format '{msg.format}' cannot be "
            'decompressed; JPEG and PNG can')
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


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

    :return: One detection per box with a hypothesis, in the message's order.
    :raises ValueError: If a class id is not a decimal number.
    """
    boxes, scores, class_ids = [], [], []
    for detection in msg.detections:
        if not detection.results:
            continue
        best = max((result.hypothesis for result in detection.results), key=lambda h: h.score)
        centre, box = detection.bbox.center.position, detection.bbox
        boxes.append((centre.x, centre.y, box.size_x, box.size_y))
        scores.append(best.score)
        if not best.class_id.isdecimal():
            raise ValueError(
                f"a detection has class id '{best.class_id}'; it must be a decimal number that "
                'label_info resolves')
        class_ids.append(int(best.class_id))
    box_array = np.array(boxes, np.float64).reshape(-1, 4)
    half = box_array[:, 2:] * 0.5
    corners = np.hstack([box_array[:, :2] - half, box_array[:, :2] + half])
    return Detections(
        corners.astype(np.float32), np.array(scores, np.float32), np.array(class_ids, np.int64))


def class_names_from_msg(msg: Any) -> dict[int, str]:
    """Convert a ``vision_msgs/LabelInfo`` to class ids and names."""
    return {int(entry.class_id): str(entry.class_name) for entry in msg.class_map}


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
