"""Grasps over a real graph: content, header, one-shot plans, regions, and why there are none."""

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseArray
import numpy as np
from perception_nodes.conversions.encode import (
    detections_to_msg,
    header_to_msg,
    image_to_msg,
    intrinsics_to_msg,
)
from perception_nodes.conversions.encode_robot import transforms_to_msg
from perception_nodes.core.types import CameraIntrinsics, Detections
from perception_nodes.ros.inference_node import LATCHED
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image, RegionOfInterest
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

pytestmark = pytest.mark.graph

CAMERA = CameraIntrinsics.from_fov(160, 120, 60.0)
FRAME = 'table_camera_color_optical_frame'
# half a metre above the table, which is at 0.7 m in map, looking down; its x is map's x
MAP_FROM_CAMERA = np.array(
    [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1.2], [0, 0, 0, 1]], np.float64)


@pytest.fixture
def rig(graph, start_node):
    """Return a depth camera over a table with one block, and the node that looks through it."""
    class Rig:
        def __init__(self):
            self.stamp = 0
            self.depth_m = np.full((120, 160), 0.5, np.float32)
            self.depth_m[50:70, 50:90] = 0.45  # left of the middle

        def start(self, *arguments):
            words = [word for value in arguments for word in ('-p', value)]
            self.node = start_node('grasp_node', *words)
            self.grasps = graph.collect(Detection3DArray, '/grasp/grasps')
            self.poses = graph.collect(PoseArray, '/grasp/poses')
            self.arrays = graph.collect(DiagnosticArray, '/diagnostics')
            self.depth = graph.publisher(Image, '/depth', qos_profile_sensor_data)
            self.info = graph.publisher(CameraInfo, '/camera_info', qos_profile_sensor_data)
            return self

        def publish(self, depth_m=None):
            self.stamp += 100_000_000
            header = header_to_msg(self.stamp, FRAME)
            self.info.publish(intrinsics_to_msg(CAMERA, header))
            depth_m = self.depth_m if depth_m is None else depth_m
            self.depth.publish(image_to_msg(depth_m, '32FC1', header))

        def until(self, happened, what, depth_m=None):
            def acted():
                self.publish(depth_m)
                return happened()
            return graph.wait_for(acted, what)

        def says(self, text):
            return any(text in s.message for a in self.arrays for s in a.status)

    return Rig()


def test_grasps_of_a_block_in_map(rig, graph):
    """The best one is on the block, comes from above and is stamped as the image was."""
    rig.start('target_frame:=map', 'scale_depth:=true', 'support_height_m:=0.7')
    statics = graph.publisher(TFMessage, '/tf_static', LATCHED)
    statics.publish(transforms_to_msg([('map', FRAME, MAP_FROM_CAMERA)], 0))
    rig.until(lambda: any(m.detections for m in rig.grasps), 'grasps')
    found = next(m for m in rig.grasps if m.detections)
    assert found.header.frame_id == 'map'
    best = found.detections[0].bbox
    x_m = (69.5 - CAMERA.cx) * 0.45 / CAMERA.fx
    assert best.center.position.x == pytest.approx(x_m, abs=0.03)
    assert best.center.position.y == pytest.approx(0.0, abs=0.02)
    assert 0.7 < best.center.position.z < 0.75
    assert 0.065 < best.size.y <= 0.08  # the block is 65 mm wide
    matching = graph.wait_for(lambda: next(
        (m for m in rig.poses if m.header.stamp == found.header.stamp), None), 'the poses')
    assert matching.poses == [d.bbox.center for d in found.detections]


def test_one_plan_when_asked(rig, graph):
    """Without ``continuous`` nothing is published until ~/plan is called, and that is answered."""
    rig.start('continuous:=false')
    client = graph.node.create_client(Trigger, '/grasp/plan')
    assert client.wait_for_service(60.0)
    for _ in range(10):
        rig.publish()
    answer = client.call_async(Trigger.Request())
    rig.until(answer.done, 'the answer')
    assert answer.result().success
    graph.wait_for(lambda: rig.grasps, 'the grasps')
    assert int(answer.result().message) == len(rig.grasps[0].detections) > 0
    assert len(rig.grasps) == 1
    for _ in range(10):  # the last frames with a block may still be on their way
        empty = client.call_async(Trigger.Request())
        rig.until(empty.done, 'the answer', np.full((120, 160), 0.5, np.float32))
        if not empty.result().success:
            break
    assert not empty.result().success
    assert 'nothing on the support plane' in empty.result().message
    for _ in range(10):  # and so may the last ones without
        late = client.call_async(Trigger.Request())
        graph.wait_for(late.done, 'an answer although no frame comes')
        if 'no frame' in late.result().message:
            break
    assert 'no frame' in late.result().message


@pytest.mark.parametrize(('depth_m', 'reason'), [
    (np.full((120, 160), np.nan, np.float32), 'readings are valid'),
    (np.full((120, 160), 500.0, np.float32), 'millimetres'),
    (np.full((120, 160), 0.5, np.float32), 'nothing on the support plane'),
])
def test_why_there_are_none(rig, depth_m, reason):
    """An empty array, and the sentence in the diagnostics."""
    rig.start()
    rig.until(lambda: rig.grasps and rig.says(reason), reason, depth_m)
    assert rig.grasps[0].detections == []
    assert rig.grasps[0].header.frame_id == FRAME
    assert rig.node.running


def test_a_region_limits_the_plan_until_the_next_one(rig, graph):
    rig.start()
    region = graph.publisher(RegionOfInterest, '/grasp/region')
    region.publish(RegionOfInterest(x_offset=110, y_offset=0, width=50, height=120))
    rig.until(lambda: rig.says('nothing on the region'), 'an empty region')
    region.publish(RegionOfInterest())
    before = len(rig.grasps)
    rig.until(lambda: any(m.detections for m in rig.grasps[before:]), 'the whole image')


def test_classes_come_from_detections_and_markers_while_watched(rig, graph):
    """The box about the block names it; a viewer gets hands and rejected candidates."""
    rig.start('use_detections:=true')
    markers = graph.collect(MarkerArray, '/grasp/markers')
    boxes = graph.publisher(Detection2DArray, '/detections', qos_profile_sensor_data)

    def acted():
        rig.publish()
        header = header_to_msg(rig.stamp, FRAME)
        boxes.publish(detections_to_msg(Detections(
            np.array([[45, 45, 95, 75]], np.float32), np.ones(1, np.float32),
            np.array([8])), header))
        return markers and any(m.detections for m in rig.grasps)
    graph.wait_for(acted, 'grasps with classes')
    found = next(m for m in rig.grasps if m.detections)
    assert {d.results[0].hypothesis.class_id for d in found.detections} == {'8'}
    names = {m.ns for m in markers[-1].markers}
    assert 'grasps' in names
    assert any(name.startswith('rejected/') for name in names)


def test_objects_on_the_table_while_watched(rig, graph):
    """The block's pixels and its box in space, named by the detection that fits; then none."""
    rig.start('use_detections:=true')
    images = graph.collect(Image, '/grasp/instances')
    boxes_3d = graph.collect(Detection3DArray, '/grasp/detections_3d')
    boxes = graph.publisher(Detection2DArray, '/detections', qos_profile_sensor_data)
    fitting = Detections(
        np.array([[50, 50, 90, 70]], np.float32), np.ones(1, np.float32), np.array([8]))

    def shows(depth_m, named, happened, what):
        def acted():
            rig.publish(depth_m)
            boxes.publish(detections_to_msg(named, header_to_msg(rig.stamp, FRAME)))
            return happened()
        graph.wait_for(acted, what)

    shows(rig.depth_m, fitting, lambda: images and any(m.detections for m in boxes_3d), 'objects')
    image = images[-1]
    assert (image.encoding, image.header.frame_id) == ('mono16', FRAME)
    ids = np.frombuffer(image.data, np.uint16).reshape(120, 160)
    assert np.unique(ids).tolist() == [0, 1]
    assert (ids[50:70, 50:90] == 1).mean() > 0.8
    assert (ids[75:] == 0).all()
    found = next(m for m in boxes_3d if m.detections)
    assert found.header.frame_id == FRAME
    block = found.detections[0]
    assert (block.id, block.results[0].hypothesis.class_id) == ('1', '8')
    assert block.bbox.center.position.z == pytest.approx(0.475, abs=0.01)
    assert block.bbox.size.z == pytest.approx(0.05, abs=0.01)
    before = len(boxes_3d)
    shows(rig.depth_m, Detections.empty(), lambda: any(
        d.results[0].hypothesis.class_id == 'unknown'
        for m in boxes_3d[before:] for d in m.detections), 'an object without a name')
    before = len(boxes_3d)
    shows(np.full((120, 160), 0.5, np.float32), Detections.empty(), lambda: any(
        not m.detections for m in boxes_3d[before:]), 'an empty table')
    stamp = next(m.header.stamp for m in boxes_3d[before:] if not m.detections)
    image = graph.wait_for(
        lambda: next((m for m in images if m.header.stamp == stamp), None), 'its image')
    assert not np.frombuffer(image.data, np.uint16).any()


def test_scale_without_a_level_frame_is_refused(rig, graph, start_node):
    """The node says which parameter is missing and stays, to be configured again."""
    node = start_node('grasp_node', '-p', 'scale_depth:=true')
    graph.wait_for(lambda: 'gravity_frame' in node.output, 'the refusal')
    assert node.running
