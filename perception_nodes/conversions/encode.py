"""Results to ROS messages: the only place that builds them."""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from builtin_interfaces.msg import Time
from nav_msgs.msg import OccupancyGrid
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import quaternion_xyzw
from perception_nodes.core.types import (
    CameraIntrinsics,
    ClassScores,
    Detections,
    Detections3D,
    LaserRanges,
    OccupancyMap,
)
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2, PointField
from std_msgs.msg import Header
from vision_msgs.msg import (
    Classification,
    Detection2D,
    Detection2DArray,
    Detection3D,
    Detection3DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    VisionClass,
)

_IMAGE_FORMATS = {
    # encoding: (dtype, channels)
    'rgb8': (np.uint8, 3),
    'bgr8': (np.uint8, 3),
    'rgba8': (np.uint8, 4),
    'bgra8': (np.uint8, 4),
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

    :param pixels: (H, W, 3) uint8 for rgb8 and bgr8, (H, W, 4) for rgba8 and bgra8; (H, W)
        uint8 for mono8, uint16 for mono16 and 16UC1, float32 for 32FC1.
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
    msg.data = _array('B', pixels)
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
    boxes = detections.boxes_xyxy.astype(np.float64)  # so that they come back bit by bit
    low, high = boxes[:, :2], boxes[:, 2:]
    ids = detections.object_ids
    rows = zip(((low + high) * 0.5).tolist(), (high - low).tolist(),
               detections.scores.tolist(), detections.class_ids.tolist(),
               [''] * len(detections) if ids is None else map(str, ids.tolist()), strict=True)
    return Detection2DArray(
        header=header, detections=[_detection_to_msg(*row, header) for row in rows])


def classification_to_msg(scores: ClassScores, header: Header) -> Classification:
    """Convert the classes of one picture to ``vision_msgs/Classification``, best first."""
    return Classification(header=header, results=_hypotheses(scores))


def classified_boxes_to_msg(
    boxes: Detection2DArray, answers: Sequence[ClassScores]
) -> Detection2DArray:
    """
    Return the message of a detector with the hypotheses of a classifier in place of its own.

    Header, boxes and ids stay, so that each answer can be traced to its detection; a box without
    an answer keeps none.

    :param answers: One per box.
    """
    detections = []
    for box, scores in zip(boxes.detections, answers, strict=True):
        results = [ObjectHypothesisWithPose(hypothesis=h) for h in _hypotheses(scores)]
        detections.append(
            Detection2D(header=box.header, id=box.id, bbox=box.bbox, results=results))
    return Detection2DArray(header=boxes.header, detections=detections)


def detections_3d_to_msg(detections: Detections3D, header: Header) -> Detection3DArray:
    """
    Convert boxes in space to ``vision_msgs/Detection3DArray`` under the frame they are in.

    ``bbox.center`` and the hypothesis' pose are the same; the covariance is the pose's. The class
    id of a negative class is ``unknown``. The id is
    that of the object, with ``ground_contact`` (and a colon) before it where no depth was seen.
    """
    ids = detections.object_ids
    names = [''] * len(detections) if ids is None else [str(i) for i in ids.tolist()]
    rows = zip(
        detections.centers_m.tolist(), map(quaternion_xyzw, detections.rotations),
        detections.sizes_m.tolist(), detections.covariances.reshape(-1, 36),
        detections.scores.tolist(), detections.class_ids.tolist(), detections.methods, names,
        strict=True)
    return Detection3DArray(
        header=header, detections=[_detection_3d_to_msg(header, *row) for row in rows])


def laser_scan_to_msg(scan: LaserRanges) -> LaserScan:
    """Convert one sweep to ``sensor_msgs/LaserScan`` under its own stamp and frame (REP 117)."""
    return LaserScan(
        header=header_to_msg(scan.stamp_ns, scan.frame_id), angle_min=scan.angle_min_rad,
        angle_max=scan.angle_min_rad + scan.angle_increment_rad * (len(scan.ranges_m) - 1),
        angle_increment=scan.angle_increment_rad, range_min=scan.range_min_m,
        range_max=scan.range_max_m, ranges=_array('f', scan.ranges_m))


def occupancy_to_msg(occupancy: OccupancyMap, stamp_ns: int) -> OccupancyGrid:
    """Convert a grid to ``nav_msgs/OccupancyGrid`` in its own frame."""
    header = header_to_msg(stamp_ns, occupancy.frame_id)
    msg = OccupancyGrid(header=header, data=_array('b', occupancy.cells))
    msg.info.map_load_time = header.stamp
    msg.info.resolution = occupancy.resolution_m
    msg.info.height, msg.info.width = occupancy.cells.shape
    msg.info.origin.position.x, msg.info.origin.position.y = occupancy.origin_xy_m
    return msg


def points_to_msg(points: npt.NDArray[np.float32], header: Header) -> PointCloud2:
    """
    Convert (N, 3) float32 metres to an unordered ``sensor_msgs/PointCloud2`` of x, y, z.

    The header's frame is the one the points are in.
    """
    fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
              for i, name in enumerate('xyz')]
    return PointCloud2(
        header=header, height=1, width=len(points), fields=fields, is_bigendian=False,
        point_step=12, row_step=12 * len(points), data=_array('B', points), is_dense=True)


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


def _hypotheses(scores: ClassScores) -> list[ObjectHypothesis]:
    rows = zip(scores.class_ids.tolist(), scores.scores.tolist(), strict=True)
    return [ObjectHypothesis(class_id=str(class_id), score=score) for class_id, score in rows]


def _array(code: str, values: npt.NDArray[np.generic]) -> 'array[Any]':
    """Return an array of the standard library: what rclpy stores without a look at each item."""
    data = array(code)
    data.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return data


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


def _detection_3d_to_msg(
    header: Header, center: list[float], quaternion: tuple[float, ...], size: list[float],
    covariance: npt.NDArray[np.float64], score: float, class_id: int, method: str,
    object_id: str,
) -> Detection3D:
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = str(class_id) if class_id >= 0 else 'unknown'
    hypothesis.hypothesis.score = score
    hypothesis.pose.covariance = covariance
    msg = Detection3D()
    msg.header = header
    msg.id = object_id
    if method == 'ground_contact':
        msg.id = f'{method}:{object_id}' if object_id else method
    msg.results = [hypothesis]
    for pose in (msg.bbox.center, hypothesis.pose.pose):
        pose.position.x, pose.position.y, pose.position.z = center
        o = pose.orientation
        o.x, o.y, o.z, o.w = quaternion
    msg.bbox.size.x, msg.bbox.size.y, msg.bbox.size.z = size
    return msg
