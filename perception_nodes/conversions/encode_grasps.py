"""Grasps as ROS messages."""

from collections.abc import Mapping
import colorsys

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, PoseArray
import numpy as np
import numpy.typing as npt
from perception_nodes.conversions.encode_robot import pose_to_msg
from perception_nodes.core.geometry import transform_points
from perception_nodes.core.types import GraspCandidates
from std_msgs.msg import ColorRGBA, Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose
from visualization_msgs.msg import Marker, MarkerArray

Matrix = npt.NDArray[np.float64]

_LINE_M, _POINT_M = 0.003, 0.003
_LIFETIME = Duration(sec=2)
_MOST_POINTS = 2_000  # of one reason; others are thinned out


def grasps_to_msg(
    grasps: GraspCandidates, target_from_camera: Matrix, finger_width_m: float,
    finger_depth_m: float, header: Header,
) -> Detection3DArray:
    """
    Convert grasps to ``vision_msgs/Detection3DArray`` under the frame they are published in.

    ``bbox.center`` and the hypothesis' pose are the grasp frame; ``bbox.size`` is finger width,
    opening and finger depth. The class id is empty where what is held is not known.
    """
    msg = Detection3DArray(header=header)
    for camera_from_grasp, opening_m, score, class_id in zip(
            grasps.camera_from_grasp, grasps.openings_m.tolist(), grasps.scores.tolist(),
            grasps.class_ids.tolist(), strict=True):
        pose = pose_to_msg(target_from_camera @ camera_from_grasp)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = str(class_id) if class_id >= 0 else ''
        hypothesis.hypothesis.score = score
        hypothesis.pose.pose = pose
        found = Detection3D(header=header, results=[hypothesis])
        found.bbox.center = pose
        size = found.bbox.size
        size.x, size.y, size.z = finger_width_m, opening_m, finger_depth_m
        msg.detections.append(found)
    return msg


def grasp_poses_to_msg(
    grasps: GraspCandidates, target_from_camera: Matrix, header: Header
) -> PoseArray:
    """Convert grasps to ``geometry_msgs/PoseArray``, best first."""
    return PoseArray(header=header, poses=[
        pose_to_msg(target_from_camera @ pose) for pose in grasps.camera_from_grasp])


def grasp_markers_to_msg(
    grasps: GraspCandidates, target_from_camera: Matrix, finger_depth_m: float, header: Header
) -> MarkerArray:
    """
    Convert grasps to ``visualization_msgs/MarkerArray``: open hands, green to red by score.

    Candidates that were ruled out are points in the namespace ``rejected/REASON``.
    """
    hands = Marker(header=header, ns='grasps', type=Marker.LINE_LIST, lifetime=_LIFETIME)
    hands.scale.x = _LINE_M
    hands.pose.orientation.w = 1.0
    for n in range(len(grasps)):
        share = float(grasps.scores[n] / max(float(grasps.scores.max()), 1e-6))
        lines = transform_points(
            target_from_camera @ grasps.camera_from_grasp[n],
            _hand_lines(float(grasps.openings_m[n]), finger_depth_m))
        hands.points += _points(lines)
        hands.colors += [ColorRGBA(r=1.0 - share, g=share, b=0.1, a=1.0)] * len(lines)
    if not hands.points:
        hands.action = Marker.DELETE
    rejected = _rejected_markers(grasps.rejected_m or {}, target_from_camera, header)
    return MarkerArray(markers=[hands, *rejected])


def _rejected_markers(
    rejected_m: Mapping[str, Matrix], target_from_camera: Matrix, header: Header
) -> list[Marker]:
    markers = []
    for n, (reason, places) in enumerate(sorted(rejected_m.items())):
        marker = Marker(header=header, ns=f'rejected/{reason}', type=Marker.POINTS,
                        lifetime=_LIFETIME)
        marker.scale.x = marker.scale.y = _POINT_M
        marker.pose.orientation.w = 1.0
        r, g, b = colorsys.hsv_to_rgb(0.55 + 0.4 * n / len(rejected_m), 0.8, 0.9)
        marker.color = ColorRGBA(r=r, g=g, b=b, a=0.8)
        step = 1 + len(places) // _MOST_POINTS
        marker.points = _points(transform_points(target_from_camera, places[::step]))
        markers.append(marker)
    return markers


def _hand_lines(opening_m: float, depth_m: float) -> Matrix:
    """Return (8, 3) ends of lines in the grasp frame: finger, palm, finger, wrist."""
    half = opening_m / 2.0
    return np.array([
        (0.0, -half, 0.0), (0.0, -half, -depth_m), (0.0, -half, -depth_m), (0.0, half, -depth_m),
        (0.0, half, -depth_m), (0.0, half, 0.0), (0.0, 0.0, -depth_m),
        (0.0, 0.0, -1.6 * depth_m)])


def _points(places: npt.NDArray[np.floating]) -> list[Point]:
    return [Point(x=x, y=y, z=z) for x, y, z in places.tolist()]
