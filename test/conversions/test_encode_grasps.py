"""Grasps as messages: the pose is the grasp frame, the size is that of the open hand."""

import numpy as np
from perception_nodes.core.types import GraspCandidates
import pytest

pytest.importorskip('vision_msgs', reason='vision_msgs is not installed')

from perception_nodes.conversions.decode import window_from_msg  # noqa: E402
from perception_nodes.conversions.encode import header_to_msg  # noqa: E402
from perception_nodes.conversions.encode_grasps import (  # noqa: E402
    grasp_markers_to_msg,
    grasp_poses_to_msg,
    grasps_to_msg,
)
from sensor_msgs.msg import RegionOfInterest  # noqa: E402

HEADER = header_to_msg(5_000_000_001, 'table')


@pytest.fixture
def grasps():
    """Return two grasps that come straight down on what lies 0.5 and 0.6 m ahead."""
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[:, 2, 3] = 0.5, 0.6
    return GraspCandidates(
        poses, np.array([0.06, 0.04], np.float32), np.array([0.9, 0.3], np.float32),
        np.array([4, -1]), rejected_m={'too_wide': np.array([[0.1, 0.2, 0.5]])})


@pytest.fixture
def target_from_camera():
    """Return a camera one metre up that looks down."""
    return np.array([[0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, -1, 1], [0, 0, 0, 1]], np.float64)


def test_a_grasp_is_a_pose_and_the_size_of_the_hand(grasps, target_from_camera):
    msg = grasps_to_msg(grasps, target_from_camera, 0.02, 0.045, HEADER)
    assert (msg.header.frame_id, msg.header.stamp.nanosec) == ('table', 1)
    first, second = msg.detections
    assert first.header == HEADER
    assert first.bbox.center.position.z == pytest.approx(0.5)
    assert first.results[0].pose.pose == first.bbox.center
    assert (first.bbox.size.x, first.bbox.size.y, first.bbox.size.z) == pytest.approx(
        (0.02, 0.06, 0.045))
    assert (first.results[0].hypothesis.class_id, second.results[0].hypothesis.class_id) == (
        '4', '')
    assert first.results[0].hypothesis.score == pytest.approx(0.9)
    o = first.bbox.center.orientation
    # z of the grasp, turned by the quaternion, points down
    assert 1.0 - 2.0 * (o.x ** 2 + o.y ** 2) == pytest.approx(-1.0)


def test_poses_are_those_of_the_grasps(grasps, target_from_camera):
    poses = grasp_poses_to_msg(grasps, target_from_camera, HEADER)
    boxes = grasps_to_msg(grasps, target_from_camera, 0.02, 0.045, HEADER)
    assert poses.header == HEADER
    assert [pose == box.bbox.center for pose, box in zip(
        poses.poses, boxes.detections, strict=True)] == [True, True]


def test_markers_show_hands_and_why_others_were_ruled_out(grasps, target_from_camera):
    hands, rejected = grasp_markers_to_msg(grasps, target_from_camera, 0.045, HEADER).markers
    assert len(hands.points) == len(hands.colors) == 16
    assert hands.colors[0].g > hands.colors[8].g
    assert rejected.ns == 'rejected/too_wide'
    place = rejected.points[0]
    assert (place.x, place.y, place.z) == pytest.approx((-0.2, -0.1, 0.5))


def test_no_grasps_are_an_empty_array_and_take_old_markers_away(target_from_camera):
    none = GraspCandidates.none('the table is empty')
    assert grasps_to_msg(none, target_from_camera, 0.02, 0.045, HEADER).detections == []
    (marker,) = grasp_markers_to_msg(none, target_from_camera, 0.045, HEADER).markers
    assert marker.action == marker.DELETE


def test_a_region_is_a_window_and_nothing_is_the_whole_image():
    region = RegionOfInterest(x_offset=10, y_offset=20, width=30, height=40)
    assert window_from_msg(region) == (10, 20, 40, 60)
    assert window_from_msg(RegionOfInterest()) is None
