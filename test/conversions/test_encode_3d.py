"""Boxes in space and transforms, to messages and from them."""

import math
from types import SimpleNamespace

import numpy as np
from perception_nodes.conversions.decode import detections_3d_from_msg, transform_from_msg
from perception_nodes.core.types import Detections3D
import pytest

pytest.importorskip('vision_msgs', reason='the ROS message packages are not installed')
from builtin_interfaces.msg import Time  # noqa: E402
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3  # noqa: E402
from perception_nodes.conversions.encode import detections_3d_to_msg, header_to_msg  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

HEADER = header_to_msg(1_700_000_000_000_000_007, 'map')


def boxes(methods, object_ids=None):
    """Return boxes a metre apart, turned by 60 degrees about z."""
    n = len(methods)
    cosine, sine = math.cos(math.radians(60)), math.sin(math.radians(60))
    turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return Detections3D(
        np.arange(n)[:, None] + np.array([0.5, -0.25, 0.125]), np.broadcast_to(turn, (n, 3, 3)),
        np.tile([0.3, 0.2, 0.1], (n, 1)), np.arange(n * 36.0).reshape(n, 6, 6),
        np.full(n, 0.75, np.float32), np.arange(7, 7 + n), np.arange(n), tuple(methods),
        object_ids)


def test_boxes_in_space_are_written_in_full():
    msg = detections_3d_to_msg(boxes(['depth', 'mask_depth']), HEADER)
    assert msg.header == HEADER
    assert len(msg.detections) == 2
    second = msg.detections[1]
    assert second.header == HEADER
    assert second.id == ''
    hypothesis, pose = second.results[0].hypothesis, second.bbox.center
    assert (hypothesis.class_id, hypothesis.score) == ('8', 0.75)
    assert (pose.position.x, pose.position.y, pose.position.z) == (1.5, 0.75, 1.125)
    assert (pose.orientation.z, pose.orientation.w) == pytest.approx(
        (math.sin(math.radians(30)), math.cos(math.radians(30))))
    assert (second.bbox.size.x, second.bbox.size.y, second.bbox.size.z) == (0.3, 0.2, 0.1)
    assert second.results[0].pose.pose == pose
    np.testing.assert_array_equal(second.results[0].pose.covariance, np.arange(36.0) + 36.0)


def test_ids_name_the_object_and_ground_contact():
    methods = ['depth', 'ground_contact']
    plain = detections_3d_to_msg(boxes(methods), HEADER).detections
    tracked = detections_3d_to_msg(boxes(methods, np.array([4, 5])), HEADER).detections
    assert [d.id for d in plain] == ['', 'ground_contact']
    assert [d.id for d in tracked] == ['4', 'ground_contact:5']


def test_no_boxes_are_an_empty_message():
    none = Detections3D(
        np.empty((0, 3)), np.empty((0, 3, 3)), np.empty((0, 3)), np.empty((0, 6, 6)),
        np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64), ())
    msg = detections_3d_to_msg(none, HEADER)
    assert msg.header.frame_id == 'map'
    assert msg.detections == []


def test_arrays_that_disagree_are_refused():
    with pytest.raises(ValueError, match='boxes in space have arrays of shapes'):
        boxes(['depth']).__class__(**{**vars(boxes(['depth'])), 'sizes_m': np.zeros((2, 3))})


def test_a_transform_is_read():
    msg = TransformStamped(
        header=Header(frame_id='odom', stamp=Time(sec=12, nanosec=5)), child_frame_id='base_link',
        transform=Transform(
            translation=Vector3(x=1.0, y=2.0, z=3.0), rotation=Quaternion(z=0.6, w=0.8)))
    found = transform_from_msg(msg)
    assert (found.parent, found.child, found.stamp_ns) == ('odom', 'base_link', 12_000_000_005)
    assert found.translation_m == (1.0, 2.0, 3.0)
    assert found.quaternion_xyzw == pytest.approx((0.0, 0.0, 0.6, 0.8))


def test_a_transform_without_a_rotation_is_refused():
    """A bag reader's message has the same attributes; zeros are what nobody filled in."""
    zero = SimpleNamespace(x=0.0, y=0.0, z=0.0, w=0.0)
    msg = SimpleNamespace(
        header=SimpleNamespace(frame_id='odom', stamp=SimpleNamespace(sec=0, nanosec=0)),
        child_frame_id='base_link', transform=SimpleNamespace(translation=zero, rotation=zero))
    with pytest.raises(ValueError, match="from frame 'base_link' to 'odom'"):
        transform_from_msg(msg)


def test_boxes_in_space_come_back():
    sent = boxes(['depth', 'ground_contact'], np.array([4, 9]))
    read = detections_3d_from_msg(detections_3d_to_msg(sent, HEADER))
    np.testing.assert_allclose(read.centers_m, sent.centers_m)
    np.testing.assert_allclose(read.rotations, sent.rotations, atol=1e-12)
    np.testing.assert_allclose(read.sizes_m, sent.sizes_m)
    np.testing.assert_allclose(read.covariances, sent.covariances)
    assert read.class_ids.tolist() == [7, 8]
    assert read.methods == sent.methods
    assert read.object_ids is None  # the second id says ground_contact as well


def test_object_ids_of_boxes_in_space_come_back():
    read = detections_3d_from_msg(
        detections_3d_to_msg(boxes(['depth', 'depth'], np.array([4, 9])), HEADER))
    assert read.object_ids.tolist() == [4, 9]


def test_a_box_in_space_that_is_none_is_shown():
    """The position of the second is no number."""
    msg = detections_3d_to_msg(boxes(['depth', 'depth'], np.array([4, 9])), HEADER)
    msg.detections[1].bbox.center.position.z = float('nan')
    with pytest.raises(ValueError, match='has the box .*nan.* .x, y, z and size in metres'):
        detections_3d_from_msg(msg)
