"""Arrays to messages and back: nothing is lost on the way."""

import numpy as np
from perception_nodes.conversions.decode import (
    class_from_msg,
    class_names_from_msg,
    depth_m_from_msg,
    detections_from_msg,
    intrinsics_from_msg,
    occupancy_from_msg,
    rgb_from_msg,
    stamp_ns_from_msg,
)
from perception_nodes.core.types import (
    CameraIntrinsics,
    ClassScores,
    Detections,
    LaserRanges,
    OccupancyMap,
)
import pytest

pytest.importorskip('vision_msgs', reason='the ROS message packages are not installed')
from perception_nodes.conversions.encode import (  # noqa: E402
    classification_to_msg,
    detections_to_msg,
    header_to_msg,
    image_to_msg,
    intrinsics_to_msg,
    label_info_to_msg,
    laser_scan_to_msg,
    occupancy_to_msg,
)

HEADER = header_to_msg(1_700_000_000_123_456_789, 'camera_color_optical_frame')


def test_header_keeps_the_nanosecond():
    """A stamp survives the way through a message."""
    assert stamp_ns_from_msg(HEADER.stamp) == 1_700_000_000_123_456_789
    assert HEADER.frame_id == 'camera_color_optical_frame'


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8'])
def test_colour_round_trip(encoding):
    """What was encoded is decoded, also from a view that is not contiguous."""
    rgb = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)[:, ::2]
    pixels = rgb if encoding == 'rgb8' else rgb[..., ::-1]
    msg = image_to_msg(pixels, encoding, HEADER)
    assert (msg.height, msg.width, msg.step) == (5, 4, 12)
    np.testing.assert_array_equal(rgb_from_msg(msg), rgb)


def test_depth_round_trip():
    """Metres and millimetres survive, with what is no distance."""
    depth_m = np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float32)
    np.testing.assert_array_equal(
        depth_m_from_msg(image_to_msg(depth_m, '32FC1', HEADER)), depth_m)
    mm = np.array([[1500, 0]], np.uint16)
    np.testing.assert_allclose(
        depth_m_from_msg(image_to_msg(mm, '16UC1', HEADER)), [[1.5, np.nan]])


@pytest.mark.parametrize(('pixels', 'encoding'), [
    (np.zeros((2, 2), np.uint8), 'rgb8'), (np.zeros((2, 2, 3), np.float32), 'rgb8'),
    (np.zeros((2, 2), np.uint8), '16UC1')])
def test_pixels_must_suit_the_encoding(pixels, encoding):
    """A wrong shape or dtype never reaches the wire."""
    with pytest.raises(ValueError, match=f"cannot be encoded as '{encoding}'"):
        image_to_msg(pixels, encoding, HEADER)


@pytest.mark.parametrize('distortion', [(), (-0.3, 0.1, 0.0, 0.0, 0.05), (0.1,) * 8])
def test_intrinsics_round_trip(distortion):
    """A camera survives the way through camera_info."""
    camera = CameraIntrinsics(640, 480, 500.0, 501.0, 319.0, 241.0, distortion)
    assert intrinsics_from_msg(intrinsics_to_msg(camera, HEADER)) == camera


def test_detections_carry_header_centre_size_class_and_score():
    """The message holds what vision_msgs asks for, under the input's header."""
    found = Detections(
        np.array([[10, 20, 30, 60], [0, 0, 1, 1]], np.float32),
        np.array([0.75, 0.5], np.float32), np.array([17, 3]))
    msg = detections_to_msg(found, HEADER)
    assert msg.header == HEADER
    first, second = msg.detections
    assert first.header == HEADER
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (20.0, 40.0)
    assert (first.bbox.size_x, first.bbox.size_y) == (20.0, 40.0)
    assert first.bbox.center.theta == 0.0
    assert first.results[0].hypothesis.class_id == '17'
    assert first.results[0].hypothesis.score == 0.75
    assert second.results[0].hypothesis.class_id == '3'
    assert detections_to_msg(Detections.empty(), HEADER).detections == []


def test_boxes_come_back_bit_by_bit():
    """Centre and size hold every bit of the edges: a recorded result equals the node's."""
    corners = np.random.default_rng(1).uniform(0.0, 1280.0, (200, 2, 2))
    boxes = np.sort(corners, axis=1).reshape(200, 4).astype(np.float32)
    found = Detections(boxes, np.full(200, 0.3, np.float32), np.zeros(200, np.int64))
    read = detections_from_msg(detections_to_msg(found, HEADER))
    np.testing.assert_array_equal(read.boxes_xyxy, boxes)
    np.testing.assert_array_equal(read.scores, found.scores)


def test_object_ids_round_trip():
    """Tracks and instances keep their number; foreign names are no numbers."""
    boxes = np.array([[10, 20, 30, 60], [0, 0, 1, 1]], np.float32)
    found = Detections(
        boxes, np.array([0.75, 0.5], np.float32), np.array([17, 3]), np.array([40, 7]))
    msg = detections_to_msg(found[::-1], HEADER)
    assert [d.id for d in msg.detections] == ['7', '40']
    assert detections_from_msg(msg).object_ids.tolist() == [7, 40]
    msg.detections[0].id = 'left hand'
    assert detections_from_msg(msg).object_ids is None


def test_laser_scan():
    """Ranges stay as they are, with NaN and infinity, and the last beam's angle is told."""
    ranges = np.array([1.0, np.inf, np.nan, -np.inf], np.float32)
    msg = laser_scan_to_msg(LaserRanges(ranges, -1.0, 0.5, 0.05, 12.0, 1_500_000_000, 'laser'))
    np.testing.assert_array_equal(np.array(msg.ranges, np.float32), ranges)
    assert (msg.angle_min, msg.angle_max, msg.angle_increment) == (-1.0, 0.5, 0.5)
    assert (msg.header.frame_id, msg.header.stamp.nanosec) == ('laser', 500_000_000)


def test_occupancy_grid():
    """Rows run along y from the origin, as nav_msgs wants them."""
    cells = np.array([[0, 100, -1], [1, 2, 3]], np.int8)
    msg = occupancy_to_msg(OccupancyMap(cells, 0.05, (-2.0, 3.0), 'odom'), 7)
    assert list(msg.data) == [0, 100, -1, 1, 2, 3]
    assert (msg.info.width, msg.info.height) == (3, 2)
    assert (msg.info.origin.position.x, msg.info.origin.position.y) == (-2.0, 3.0)
    assert msg.info.resolution == pytest.approx(0.05)
    assert msg.header.frame_id == 'odom'


def test_occupancy_grid_round_trip():
    """A map read back is the one that was sent; one that is turned is refused."""
    cells = np.array([[0, 100, -1], [1, 2, 3]], np.int8)
    msg = occupancy_to_msg(OccupancyMap(cells, 0.05, (-2.0, 3.0), 'odom'), 7)
    back = occupancy_from_msg(msg)
    np.testing.assert_array_equal(back.cells, cells)
    assert (back.origin_xy_m, back.frame_id) == ((-2.0, 3.0), 'odom')
    assert back.resolution_m == pytest.approx(0.05)
    msg.info.width = 4
    with pytest.raises(ValueError, match='6 cells, but its size is 4x2'):
        occupancy_from_msg(msg)
    msg.info.origin.orientation.z = 0.7
    with pytest.raises(ValueError, match="turned in frame 'odom'"):
        occupancy_from_msg(msg)


def test_label_info_resolves_ids():
    """Each id has its name, beside the threshold in force."""
    msg = label_info_to_msg({1: 'person', 17: 'cat'}, 0.5, HEADER)
    assert {c.class_id: c.class_name for c in msg.class_map} == {1: 'person', 17: 'cat'}
    assert msg.threshold == 0.5


def test_detections_round_trip():
    """Boxes, scores and class ids survive; a box without a hypothesis is none."""
    found = Detections(
        np.array([[1.5, 2, 30, 40.25], [0, 0, 7, 5]], np.float32),
        np.array([0.75, 0.5], np.float32), np.array([3, 90], np.int64), np.array([0, 12]))
    msg = detections_to_msg(found, HEADER)
    back = detections_from_msg(msg)
    for name in ('boxes_xyxy', 'scores', 'class_ids', 'object_ids'):
        before, after = getattr(found, name), getattr(back, name)
        np.testing.assert_array_equal(before, after)
        assert before.dtype == after.dtype
    msg.detections[0].results = []
    assert detections_from_msg(msg).class_ids.tolist() == [90]
    assert len(detections_from_msg(detections_to_msg(Detections.empty(), HEADER))) == 0


def test_a_class_id_that_is_no_number_is_explained():
    """Other vendors put names where the id belongs."""
    found = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.ones(1, np.int64))
    msg = detections_to_msg(found, HEADER)
    msg.detections[0].results[0].hypothesis.class_id = 'cup'
    with pytest.raises(ValueError, match="class id 'cup'; it must be a decimal number"):
        detections_from_msg(msg)


def test_of_a_classification_the_best_class_counts():
    answer = ClassScores(np.array([4, 7]), np.array([0.2, 0.7], np.float32))
    msg = classification_to_msg(answer, HEADER)
    assert class_from_msg(msg) == 7
    msg.results[1].class_id = 'cat'
    with pytest.raises(ValueError, match="a classification has class id 'cat'"):
        class_from_msg(msg)
    msg.results = []
    with pytest.raises(ValueError, match='has no class'):
        class_from_msg(msg)


@pytest.mark.parametrize(('center_x', 'size_x', 'shown'), [
    (np.nan, 4.0, 'nan, 6.0, 4.0, 8.0'), (5.0, np.inf, '5.0, 6.0, inf, 8.0'),
    (5.0, -4.0, '5.0, 6.0, -4.0, 8.0')])
def test_a_box_that_is_none_is_shown(center_x, size_x, shown):
    """With its numbers; the good ones beside it do not hide it."""
    found = Detections(
        np.array([[0, 0, 1, 1], [3, 2, 7, 10]], np.float32), np.ones(2, np.float32),
        np.ones(2, np.int64))
    msg = detections_to_msg(found, HEADER)
    msg.detections[1].bbox.center.position.x = center_x
    msg.detections[1].bbox.size_x = size_x
    with pytest.raises(ValueError, match=f'has the box .{shown}. .x, y and size in pixels'):
        detections_from_msg(msg)


def test_ids_too_long_for_a_number_are_none():
    """Some trackers number by 128 bits."""
    found = Detections(
        np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.ones(1, np.int64), np.array([3]))
    msg = detections_to_msg(found, HEADER)
    msg.detections[0].id = '9' * 30
    assert detections_from_msg(msg).object_ids is None
    msg.detections[0].results[0].hypothesis.class_id = '9' * 30
    with pytest.raises(ValueError, match='it must be a decimal number'):
        detections_from_msg(msg)


def test_class_names_round_trip():
    """The latched list resolves what the detections say."""
    names = {1: 'person', 90: 'toothbrush'}
    assert class_names_from_msg(label_info_to_msg(names, 0.5, HEADER)) == names
