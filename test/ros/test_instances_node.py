"""Instances over a real graph: masks that agree with the boxes of the same stamp."""

import re

import numpy as np
from perception_nodes import detection_node
from perception_nodes.conversions.encode import (
    header_to_msg,
    image_to_msg,
    intrinsics_to_msg,
)
from perception_nodes.core.types import CameraIntrinsics, Detections, Masks
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

pytestmark = pytest.mark.graph

CAMERA = CameraIntrinsics.from_fov(128, 96, 60.0)
GREY = np.full((96, 128, 3), 60, np.uint8)
FRAME = 'camera_color_optical_frame'
# two objects side by side, and a weak one over both
AREAS = (np.s_[24:72, 32:64], np.s_[24:72, 64:90], np.s_[40:50, 40:80])
SCORES = (0.8, 0.9, 0.2)


class PairModel:
    """Finds the same objects in every frame, with masks that fill their boxes, and a wrist."""

    class_names = {1: 'thing'}
    needs_suppression = True
    has_masks = True
    keypoints = 17

    def predict_instances(self, frames, select):
        """Return those that ``select`` chooses."""
        boxes = np.array([[c.start, r.start, c.stop, r.stop] for r, c in AREAS], np.float32)
        masks = Masks(tuple(np.ones((r.stop - r.start, c.stop - c.start), bool) for r, c in AREAS),
                      np.array([[r.start, c.start] for r, c in AREAS]), frames[0].shape[:2])
        keypoints = np.zeros((3, 17, 3), np.float32)
        keypoints[1, 9] = [74.5, 50.5, 0.8]  # one wrist is seen, of the best
        found = Detections(boxes, np.array(SCORES, np.float32), np.ones(3, np.int64),
                           masks=masks, keypoints=keypoints)
        return [found[select(found)] for _ in frames]


@pytest.fixture
def rig(graph, monkeypatch, write_manifest):
    """Run the node in this process, and return a camera of two things that touch."""
    manifest = write_manifest('pair', 'instances', backend='none', classes={1: 'thing'},
                              input={'width': 128, 'height': 96})
    monkeypatch.setattr(detection_node, 'share_model', lambda *_, **__: PairModel())

    class Rig:
        stamp = 0

        def start(self, **parameters):
            parameters |= {'manifest': str(manifest), 'model': 'pair'}
            self.node = detection_node.DetectionNode(context=graph.context, parameter_overrides=[
                Parameter(name, value=value) for name, value in parameters.items()])
            self.node.start()
            graph._executor.add_node(self.node)
            self.flat = graph.collect(Detection2DArray, '/detection/detections')
            self.instances = graph.collect(Image, '/detection/instances')
            self.space = graph.collect(Detection3DArray, '/detection/detections_3d')
            self.image = graph.publisher(Image, '/image', qos_profile_sensor_data)
            if parameters.get('boxes_3d') == 'depth':
                self.depth = graph.publisher(Image, '/depth', qos_profile_sensor_data)
                self.info = graph.publisher(CameraInfo, '/camera_info', qos_profile_sensor_data)
            return self

        def publish_until(self, happened, what, depth_m=None):
            def acted():
                self.stamp += 100_000_000
                header = header_to_msg(self.stamp, FRAME)
                if depth_m is not None:
                    self.info.publish(intrinsics_to_msg(CAMERA, header))
                    self.depth.publish(image_to_msg(depth_m, '32FC1', header))
                self.image.publish(image_to_msg(GREY, 'rgb8', header))
                return happened()
            return graph.wait_for(acted, what)

        def pairs(self):
            """Return boxes and instances of the same stamps."""
            boxes = {(m.header.stamp.sec, m.header.stamp.nanosec): m for m in list(self.flat)}
            return [(boxes[key], m) for m in list(self.instances)
                    if (key := (m.header.stamp.sec, m.header.stamp.nanosec)) in boxes]

    rig = Rig()
    yield rig
    graph._executor.remove_node(rig.node)
    rig.node.halt()
    rig.node.destroy_node()


def wall_with_two_things():
    """Return a depth image of one face over both objects, 1 m before a wall."""
    depth_m = np.full((96, 128), 3.0, np.float32)
    depth_m[24:72, 32:90] = 2.0
    return depth_m


def ids_of(msg):
    """Return (H, W) uint16 pixels."""
    assert (msg.encoding, msg.step) == ('mono16', 2 * msg.width)
    return np.frombuffer(msg.data, np.uint16).reshape(msg.height, msg.width)


def test_instances_number_the_pixels_of_the_detections(rig):
    """Same stamp, same frame; value = index + 1; what thresholds took away has no pixels."""
    rig.start(boxes_3d='none')
    rig.publish_until(rig.pairs, 'boxes and instances of one stamp')
    boxes, image = rig.pairs()[0]
    assert image.header == boxes.header
    assert image.header.frame_id == FRAME
    ids = ids_of(image)
    assert set(np.unique(ids)) == {0, 1, 2}
    assert len(boxes.detections) == 2
    for number, (detection, area) in enumerate(
            zip(boxes.detections, (AREAS[1], AREAS[0]), strict=True), start=1):
        rows, columns = (ids == number).nonzero()
        assert (rows.min(), rows.max() + 1) == (area[0].start, area[0].stop)
        assert (columns.min(), columns.max() + 1) == (area[1].start, area[1].stop)
        centre = detection.bbox.center.position
        assert ids[int(centre.y), int(centre.x)] == number
        assert detection.results[0].hypothesis.score == pytest.approx(sorted(SCORES)[-number])


def test_masks_part_neighbours_that_touch(rig):
    """One surface, two things: each has the size of its own mask in metres."""
    rig.start(boxes_3d='depth')
    rig.publish_until(
        lambda: any(m.detections for m in rig.space), 'boxes in space', wall_with_two_things())
    found = next(m for m in rig.space if m.detections)
    widths = [d.bbox.size.y for d in found.detections]
    expected = [pixels * 2.0 / CAMERA.fx for pixels in (26, 32)]
    assert widths == pytest.approx(expected, rel=0.06)


def test_sizes_and_key_points_are_shown_in_space(rig, graph):
    """The wrist 2 m ahead, in the camera's frame; sizes with their deviation as text."""
    rig.start(boxes_3d='depth')
    keypoints = graph.collect(MarkerArray, '/detection/keypoints')
    markers = graph.collect(MarkerArray, '/detection/markers')
    rig.publish_until(lambda: keypoints and markers, 'markers', wall_with_two_things())
    clearing, wrist = keypoints[0].markers
    assert clearing.action == Marker.DELETEALL
    assert (wrist.ns, wrist.id, wrist.header.frame_id) == ('left_wrist', 0, FRAME)
    place = wrist.pose.position
    assert (place.x, place.y, place.z) == pytest.approx(
        ((74.0 - CAMERA.cx) * 2.0 / CAMERA.fx, (50.0 - CAMERA.cy) * 2.0 / CAMERA.fy, 2.0))
    texts = [m.text for m in markers[0].markers if m.type == Marker.TEXT_VIEW_FACING]
    assert len(texts) == 2
    assert all(re.fullmatch(r'thing( x)?( ?\d\.\d{3}±\d\.\d{3}( x)?){3} m', t) for t in texts)


def test_without_depth_key_points_are_not_published_and_the_log_says_so(rig, graph, capfd):
    """Boxes and masks are."""
    rig.start(boxes_3d='none')
    rig.publish_until(rig.pairs, 'boxes and instances')
    assert graph.node.count_publishers('/detection/keypoints') == 0
    assert "boxes_3d is 'none', so key points are seen in the debug image only" in (
        capfd.readouterr().err)


def test_without_a_reading_of_depth_there_are_still_instances(rig):
    """All NaN: nothing in space, everything in the image."""
    rig.start(boxes_3d='depth')
    rig.publish_until(lambda: rig.pairs() and rig.space, 'answers',
                      np.full((96, 128), np.nan, np.float32))
    assert rig.space[0].detections == []
    assert set(np.unique(ids_of(rig.pairs()[0][1]))) == {0, 1, 2}


@pytest.mark.slow
def test_a_network_with_masks_runs_in_the_node(
        graph, start_node, tmp_path, write_manifest):
    """From the manifest through backend and node, in a process of its own; thresholds hold."""
    torch = pytest.importorskip('torch')
    tasks = pytest.importorskip('ultralytics.nn.tasks')
    torch.manual_seed(3)
    network = tasks.SegmentationModel('yolov8n-seg.yaml', nc=1, verbose=False)
    for name, parameter in network.model[-1].named_parameters():
        if name.startswith('cv3') and name.endswith('.2.bias'):
            parameter.data.fill_(1.0)  # every place is an object
    network.names = {0: 'thing'}
    path = tmp_path / 'weights.pt'
    torch.save({'model': network.eval(), 'ema': None, 'train_args': {}}, path)
    manifest = write_manifest(
        'pair', 'instances', backend='ultralytics', file=path.name, classes={0: 'thing'},
        input={'width': 128, 'height': 96, 'resize': 'letterbox'})
    start_node('detection_node', '-p', f'manifest:={manifest}', '-p', 'model:=pair',
               '-p', 'max_detections:=7')
    instances = graph.collect(Image, '/detection/instances')
    boxes = graph.collect(Detection2DArray, '/detection/detections')
    graph.wait_for(lambda: graph.node.count_subscribers('/image'), 'the node', 200.0)
    image = graph.publisher(Image, '/image', qos_profile_sensor_data)

    def answered():
        image.publish(image_to_msg(GREY, 'rgb8', header_to_msg(1_000_000_000, FRAME)))
        return instances and boxes
    graph.wait_for(answered, 'instances')
    assert len(boxes[0].detections) == 7
    assert instances[0].header == boxes[0].header
    assert ids_of(instances[0]).max() <= 7
