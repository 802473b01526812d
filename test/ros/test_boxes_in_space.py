"""Boxes in space over a real graph: synchronised depth, transforms, and what may be missing."""

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from perception_nodes.conversions.encode import (
    header_to_msg,
    image_to_msg,
    intrinsics_to_msg,
)
from perception_nodes.conversions.encode_robot import transforms_to_msg
from perception_nodes.core.types import CameraIntrinsics
from perception_nodes.ros.inference_node import LATCHED
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray

pytestmark = pytest.mark.graph

CAMERA = CameraIntrinsics.from_fov(128, 96, 60.0)
GREY = np.full((96, 128, 3), 60, np.uint8)
FRAME = 'camera_color_optical_frame'
# one metre above the origin of map, looking along its x axis
MAP_FROM_CAMERA = np.array(
    [[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 0, 1]], np.float64)


@pytest.fixture
def rig(graph, start_node, touchy):
    """Start the node with boxes in space, and return a camera of a box before a wall."""
    class Rig:
        def __init__(self):
            self.stamp = 0
            self.node = None
            self.depth_m = np.full((96, 128), 3.0, np.float32)
            # where the fixed box of the test network lies: rows 24 to 72, columns 32 to 64
            self.depth_m[26:70, 34:62] = 2.0

        def start(self, *arguments):
            self.node = start_node(
                'detection_node', *touchy, '-p', 'boxes_3d:=depth', *arguments)
            self.flat = graph.collect(Detection2DArray, '/detection/detections')
            self.space = graph.collect(Detection3DArray, '/detection/detections_3d')
            self.arrays = graph.collect(DiagnosticArray, '/diagnostics')
            sensor = qos_profile_sensor_data
            self.image = graph.publisher(Image, '/image', sensor)
            self.depth = graph.publisher(Image, '/depth', sensor)
            self.info = graph.publisher(CameraInfo, '/camera_info', sensor)
            return self

        def publish(self, *, depth=True, info=True, depth_m=None):
            self.stamp += 100_000_000
            header = header_to_msg(self.stamp, FRAME)
            if info:
                self.info.publish(intrinsics_to_msg(CAMERA, header))
            if depth:
                depth_m = self.depth_m if depth_m is None else depth_m
                self.depth.publish(image_to_msg(depth_m, '32FC1', header))
            self.image.publish(image_to_msg(GREY, 'rgb8', header))

        def until(self, happened, what, **options):
            def acted():
                self.publish(**options)
                return happened()
            return graph.wait_for(acted, what)

        def says(self, text):
            return any(text in s.message for a in self.arrays for s in a.status)

    return Rig()


def test_a_box_before_a_wall_is_found_in_map(rig, graph):
    """Depth and transform of the same stamp put the box where it is."""
    rig.start('-p', 'target_frame:=map')
    statics = graph.publisher(TFMessage, '/tf_static', LATCHED)
    statics.publish(transforms_to_msg([('map', FRAME, MAP_FROM_CAMERA)], 0))
    rig.until(lambda: any(m.detections for m in rig.space), 'a box in space')
    found = next(m for m in rig.space if m.detections)
    assert found.header.frame_id == 'map'
    in_space = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in rig.space}
    graph.wait_for(lambda: in_space <= {
        (m.header.stamp.sec, m.header.stamp.nanosec) for m in rig.flat}, 'the same stamps')
    box = found.detections[0].bbox
    # its face is 2 m ahead, left of the middle
    assert box.center.position.x - box.size.x / 2 == pytest.approx(2.0, abs=0.02)
    assert box.size.y == pytest.approx(28 * 2.0 / CAMERA.fx, rel=0.05)
    assert box.center.position.y == pytest.approx((63.5 - 47.5) * 2.0 / CAMERA.fx, abs=0.02)


def test_what_is_missing_is_said_and_boxes_in_the_image_go_on(rig):
    """No transform: 2D is published, 3D is not, and the frames are named."""
    rig.start('-p', 'target_frame:=map', '-p', 'transform_timeout_ms:=10.0')
    rig.until(lambda: rig.says("'map'"), 'the complaint about the transform')
    rig.until(lambda: rig.flat, 'boxes in the image')
    assert rig.space == []


def test_no_camera_info_and_no_depth_are_named_by_topic(rig):
    """Each missing half is counted, and its topic is in the sentence."""
    rig.start()
    rig.until(lambda: rig.says("nothing arrives on '/camera_info'"), 'camera_info', info=False)
    rig.until(lambda: rig.says("nothing arrives on '/depth'"), 'depth', depth=False)
    values = {v.key: v.value for a in rig.arrays for s in a.status for v in s.values}
    assert int(values['dropped_no_camera_info']) > 0
    assert int(values['dropped_no_depth']) > 0


def test_depth_without_a_reading_gives_no_box_but_an_answer(rig):
    """All NaN: an empty array in space, and the box in the image stays."""
    rig.start()
    rig.until(lambda: rig.space and rig.flat, 'answers',
              depth_m=np.full((96, 128), np.nan, np.float32))
    assert rig.space[0].detections == []
    assert len(rig.flat[0].detections) == 1
