"""Markers of key points and of boxes in space, by what they say."""

import numpy as np
from perception_nodes.core.types import Detections3D
import pytest

pytest.importorskip('visualization_msgs')
from perception_nodes.conversions.encode import header_to_msg  # noqa: E402
from perception_nodes.conversions.encode_markers import (  # noqa: E402
    boxes_to_markers_msg,
    keypoints_to_msg,
)
from visualization_msgs.msg import Marker  # noqa: E402

HEADER = header_to_msg(1_700_000_000_000_000_007, 'camera_color_optical_frame')


def test_each_known_key_point_is_a_sphere_of_its_name():
    """Bones are drawn between two known ends; what was shown before goes."""
    points = np.full((2, 17, 3), np.nan)
    points[1, 7] = [0.5, 0.25, 2.0]  # left elbow
    points[1, 9] = [0.5, 0.5, 2.0]  # left wrist
    points[1, 0] = [0.0, 0.0, 2.0]  # nose
    markers = keypoints_to_msg(points, HEADER).markers
    assert markers[0].action == Marker.DELETEALL
    assert all(marker.header == HEADER for marker in markers)
    spheres = {(m.ns, m.id): m.pose.position for m in markers if m.type == Marker.SPHERE
               and m.action == Marker.ADD}
    assert set(spheres) == {('nose', 1), ('left_elbow', 1), ('left_wrist', 1)}
    wrist = spheres['left_wrist', 1]
    assert (wrist.x, wrist.y, wrist.z) == (0.5, 0.5, 2.0)
    bones, = (m for m in markers if m.type == Marker.LINE_LIST)
    assert (bones.ns, bones.id) == ('skeleton', 1)
    assert [(p.x, p.y, p.z) for p in bones.points] == [(0.5, 0.25, 2.0), (0.5, 0.5, 2.0)]
    assert len(keypoints_to_msg(np.empty((0, 17, 3)), HEADER).markers) == 1


@pytest.mark.parametrize(('stds', 'text'), [
    (np.array([[0.002, 0.003, 0.0006]]), 'can 0.066±0.002 x 0.067±0.003 x 0.122±0.001 m'),
    (None, 'can 0.066 x 0.067 x 0.122 m')])
def test_boxes_wear_their_size_and_its_deviation(stds, text):
    """As a cube of that size, and as words."""
    boxes = Detections3D(
        np.array([[1.0, 2.0, 3.0]]), np.eye(3)[None], np.array([[0.066, 0.067, 0.122]]),
        np.zeros((1, 6, 6)), np.ones(1, np.float32), np.array([9]), np.array([0]),
        ('mask_depth',), size_stds_m=stds)
    clearing, cube, words = boxes_to_markers_msg(boxes, {9: 'can'}, HEADER).markers
    assert clearing.action == Marker.DELETEALL
    assert (cube.scale.x, cube.scale.y, cube.scale.z) == (0.066, 0.067, 0.122)
    assert cube.pose.position == words.pose.position
    assert cube.pose.position.z == 3.0
    assert words.text == text
    assert words.header == HEADER


def test_markers_of_tracked_objects_have_their_ids():
    boxes = Detections3D(
        np.zeros((2, 3)), np.stack([np.eye(3)] * 2), np.ones((2, 3)), np.zeros((2, 6, 6)),
        np.ones(2, np.float32), np.array([9, 9]), np.arange(2), ('depth',) * 2,
        object_ids=np.array([41, 7]))
    markers = boxes_to_markers_msg(boxes, {9: 'can'}, HEADER).markers[1:]
    assert [(m.ns, m.id) for m in markers] == [
        ('boxes', 41), ('sizes', 41), ('boxes', 7), ('sizes', 7)]
    assert markers[3].text == 'can #7 1.000 x 1.000 x 1.000 m'
