"""Results to ROS messages: the only place that builds them."""

from array import array
from collections.abc import Mapping

from builtin_interfaces.msg import Time
import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import CameraIntrinsics, Detections
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesisWithPose,
    VisionClass,
)

_IMAGE_FORMATS = {
    # encoding: (dtype, channels)
    'rgb8': (np.uint8, 3),
    'bgr8': (np.uint8, 3),
    'mono8': (np.uint8, 1),
    'mono16': (np.uint16, 1),
    '16UC1': (np.uint16, 1),
    '32FC1': (np.float32, 1),
}


def header_to_msg(stamp_ns: int, frame_id: str) -> Header:
    """Build a header from nanoseconds of ROS time and a frame."""
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)


def image_to_msg(pixels: npt.NDArray[np.generic], encoding: str, header: Header) -> Image:
    """
    Convert an array to ``sensor_msgs/Image``.

    :param pixels: (H, W, 3) uint8 for rgb8 and bgr8; (H, W) uint8 for mono8, uint16 for
        mono16 and 16UC1, float32 for 32FC1.
    :raises ValueError: If shape or dtype do not suit the encoding.
    """
    dtype, channels = _IMAGE_FORMATS[encoding]
    shape = pixels.shape if channels > 1 else (*pixels.shape, 1)
    if pixels.dtype != dtype or len(shape) != 3 or shape[2] != channels:
        raise ValueError(
            f"an image of {pixels.shape} {pixels.dtype} cannot be encoded as '{encoding}'; "
            f'it needs {channels} channel(s) of {np.dtype(dtype).name}')
    msg = Image(header=header, height=shape[0], width=shape[1], encoding=encoding,
                step=shape[1] * channels * pixels.itemsize)
    # array.array is the one type rclpy stores without looking at each byte
    data = array('B')
    data.frombytes(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data)
    msg.data = data
    return msg


def intrinsics_to_msg(intrinsics: CameraIntrinsics, header: Header) -> CameraInfo:
    """Convert intrinsics to the ``sensor_msgs/CameraInfo`` of a monocular raw image."""
    k = intrinsics.matrix
    model = 'rational_polynomial' if len(intrinsics.distortion) > 5 else 'plumb_bob'
    return CameraInfo(
        header=header, width=intrinsics.width, height=intrinsics.height,
        distortion_model=model, d=list(intrinsics.distortion) or [0.0] * 5,
        k=k.ravel(), r=np.eye(3).ravel(), p=np.hstack([k, np.zeros((3, 1))]).ravel())


def detections_to_msg(detections: Detections, header: Header) -> Detection2DArray:
    """Convert detections to ``vision_msgs/Detection2DArray`` under the image's own header."""
    # whole arrays to Python numbers at once: scalar by scalar costs 80 times as much
    low, high = detections.boxes_xyxy[:, :2], detections.boxes_xyxy[:, 2:]
    ids = detections.object_ids
    rows = zip(((low + high) * 0.5).tolist(), (high - low).tolist(),
               detections.scores.tolist(), detections.class_ids.tolist(),
               [''] * len(detections) if ids is None else map(str, ids.tolist()), strict=True)
    return Detection2DArray(
        header=header, detections=[_detection_to_msg(*row, header) for row in rows])


def label_info_to_msg(
    class_names: Mapping[int, str], threshold: float, header: Header
) -> LabelInfo:
    """
    Convert a class list to the ``vision_msgs/LabelInfo`` that resolves ``class_id``.

    :param class_names: Class id (0 to 65535) to name.
    :param threshold: Lowest score that is published.
    """
    return LabelInfo(
        header=header, threshold=threshold,
        class_map=[VisionClass(class_id=i, class_name=n) for i, n in class_names.items()])


def _detection_to_msg(
    centre: list[float], size: list[float], score: float, class_id: int, object_id: str,
    header: Header,
) -> Detection2D:
    # filled in place: a constructor builds the parts it is given a second time
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = str(class_id)
    hypothesis.hypothesis.score = score
    msg = Detection2D()
    msg.header = header
    msg.id = object_id
    msg.results = [hypothesis]
    msg.bbox.center.position.x, msg.bbox.center.position.y = centre
    msg.bbox.size_x, msg.bbox.size_y = size
    return msg
