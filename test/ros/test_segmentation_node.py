"""The segmentation node over a real graph: what it publishes, and what it survives."""

import math
import time

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import OccupancyGrid
import numpy as np
from perception_nodes.conversions.decode import ids_from_msg, rgb_from_msg
from perception_nodes.conversions.encode import header_to_msg, image_to_msg, intrinsics_to_msg
from perception_nodes.conversions.encode_robot import transforms_to_msg
from perception_nodes.core.types import CameraIntrinsics
from perception_nodes.evaluation.depth_scenes import pose, render, Scene, Solid
from perception_nodes.ros.inference_node import LATCHED
import pytest
from rclpy.qos import qos_profile_sensor_data, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import LabelInfo

pytestmark = pytest.mark.graph

FRAME_ID = 'camera_color_optical_frame'
CAMERA = CameraIntrinsics(128, 96, 100.0, 100.0, 63.5, 47.5)
START_S = 1_700_000_000


def picture():
    """Return a red picture with a green lower half."""
    rgb = np.full((96, 128, 3), (220, 10, 10), np.uint8)
    rgb[48:] = (10, 220, 10)
    return rgb


TRUTH = picture().argmax(axis=2)


class Camera:
    """A camera on the graph that shows its picture again and again, under new stamps."""

    def __init__(self, graph, with_depth=False):
        self.graph = graph
        self.stamp_ns = START_S * 1_000_000_000 + 7
        self.info = graph.publisher(
            CameraInfo, '/camera_info', qos_profile_sensor_data, matched=with_depth)
        self.depth = graph.publisher(
            Image, '/depth', qos_profile_sensor_data, matched=with_depth)
        self.image = graph.publisher(Image, '/image', qos_profile_sensor_data)

    def show_until(self, done, rgb=None, depth_m=None, change=()):
        """Publish until it has an effect, and return that."""
        for _ in range(200):
            self.stamp_ns += 100_000_000
            header = header_to_msg(self.stamp_ns, FRAME_ID)
            if depth_m is not None:
                self.info.publish(intrinsics_to_msg(CAMERA, header))
                self.depth.publish(image_to_msg(depth_m, '32FC1', header))
            msg = image_to_msg(picture() if rgb is None else rgb, 'rgb8', header)
            for name, value in change:
                setattr(msg, name, value)
            self.image.publish(msg)
            deadline = time.monotonic() + 0.3
            while time.monotonic() < deadline:
                if value := done():
                    return value
                time.sleep(0.01)
        raise AssertionError('200 frames had no effect')


@pytest.fixture
def segmentation(start_node, colour_segmenter):
    """Return a function that starts the node with the segmenter of colours."""
    def start(*parameters, name='colours', **model):
        arguments = [f'manifest:={colour_segmenter(**model)}', f'model:={name}', *parameters]
        return start_node('segmentation_node', *(w for a in arguments for w in ('-p', a)))
    return start


@pytest.fixture
def says(graph):
    """Return a function that finds the status whose message contains a sentence."""
    arrays = graph.collect(DiagnosticArray, '/diagnostics')
    return lambda text: next((s for a in arrays for s in a.status if text in s.message), None)


def collect(graph):
    """Subscribe to every image of the node."""
    return {name: graph.collect(Image, f'/segmentation/{name}')
            for name in ('mask', 'confidence', 'edges', 'debug_image')}


def test_every_topic_under_the_pictures_own_header(graph, segmentation):
    """Content and header of all six: what is where is known to the pixel."""
    segmentation('points:=true')
    images = collect(graph)
    clouds = graph.collect(PointCloud2, '/segmentation/points')
    labels = graph.collect(LabelInfo, '/segmentation/label_info', LATCHED)
    camera = Camera(graph, with_depth=True)
    depth_m = np.full((96, 128), 2.0, np.float32)
    depth_m[:, :64] = np.nan
    camera.show_until(
        lambda: clouds and labels and all(images.values()), depth_m=depth_m)
    mask = images['mask'][-1]
    assert mask.encoding == 'mono8'
    assert (ids_from_msg(mask) == TRUTH).all()
    confidence = np.frombuffer(images['confidence'][-1].data, np.float32).reshape(96, 128)
    scores = np.exp(10.0 * np.array([220, 10, 10]) / 255)
    assert confidence[0, 0] == pytest.approx(scores[0] / scores.sum(), abs=1e-4)
    assert confidence[47].max() < 0.8
    edges = ids_from_msg(images['edges'][-1])
    assert (edges[47] == 255).all()
    assert not np.delete(edges, 47, axis=0).any()
    drawn = rgb_from_msg(images['debug_image'][-1]).astype(int)
    assert (np.abs(drawn - picture()).max(axis=2) > 20).mean() > 0.5
    points = np.frombuffer(clouds[-1].data, np.uint8).reshape(-1, clouds[-1].point_step)
    xyz = points[:, :12].copy().view(np.float32)
    assert len(xyz) == 96 * 64
    classes = points[:, 12:14].copy().view(np.uint16)[:, 0]
    assert (xyz[:, 2] == 2.0).all()
    assert (xyz[:, 0] > 0.0).all()
    assert ((xyz[:, 1] > 0.0) == (classes == 1)).all()
    for msg in (clouds[-1], *(found[-1] for found in images.values())):
        assert msg.header.frame_id == FRAME_ID
        assert msg.header.stamp.nanosec % 100_000_000 == 7
        assert START_S <= msg.header.stamp.sec <= camera.stamp_ns // 1_000_000_000
    assert {c.class_id: c.class_name for c in labels[0].class_map} == {
        0: 'red', 1: 'green', 2: 'blue'}


def test_without_depth_the_mask_goes_out_and_the_reason_is_told(graph, segmentation, says):
    """Points are asked for, and no camera gives depth."""
    segmentation('points:=true')
    masks = graph.collect(Image, '/segmentation/mask')
    clouds = graph.collect(PointCloud2, '/segmentation/points')
    camera = Camera(graph)
    camera.show_until(lambda: len(masks) >= 3 and says(
        "no depth for a frame: nothing arrives on '/depth'"))
    assert (ids_from_msg(masks[-1]) == TRUTH).all()
    assert clouds == []


def test_ids_beyond_a_byte_take_mono16_and_unsure_pixels_are_void(graph, segmentation):
    """The border between two colours is where the model is not sure."""
    segmentation('confidence_threshold:=0.9', classes='{299: red, 300: green, 301: blue}')
    masks = graph.collect(Image, '/segmentation/mask')
    labels = graph.collect(LabelInfo, '/segmentation/label_info', LATCHED)
    Camera(graph).show_until(lambda: masks and labels)
    assert masks[0].encoding == 'mono16'
    ids = ids_from_msg(masks[0])
    assert set(np.unique(ids)) == {299, 300, 65535}
    assert (ids[[0, 47, 48, 95], 5] == [299, 65535, 65535, 300]).all()
    assert labels[0].threshold == pytest.approx(0.9)


def test_ids_without_probabilities_are_explained(graph, segmentation, says):
    """Masks go out; who asks for confidence learns that there is none."""
    segmentation(output='ids')
    images = collect(graph)
    camera = Camera(graph)
    camera.show_until(lambda: images['mask'] and says('no confidence: the model gives class ids'))
    assert (ids_from_msg(images['mask'][0]) == TRUTH).all()
    assert images['confidence'] == []


def test_bad_images_are_counted_and_explained_and_the_node_lives(graph, segmentation, says):
    """Wrong encoding, no pixels, a short buffer: a sentence each, then work goes on."""
    node = segmentation()
    masks = graph.collect(Image, '/segmentation/mask')
    camera = Camera(graph)
    for change, sentence in (
            (('encoding', '32FC1'), "encoding '32FC1', that of a depth image"),
            (('height', 0), 'image is 128x0 pixels'),
            (('height', 480), 'image buffer holds 36864 bytes; 128x480')):
        camera.show_until(lambda s=sentence: says(s), change=[change])
    assert masks == []
    camera.show_until(lambda: masks)
    assert (ids_from_msg(masks[0]) == TRUTH).all()
    assert node.running


@pytest.mark.parametrize(('model', 'parameters', 'sentence'), [
    ({'classes': '{0: red, 1: green}'}, (), 'with the 2 classes of the manifest it must be'),
    ({}, ('input_size:=[32, 32]',), 'the network takes images of shape (3, 48, 64) only'),
    ({'output': 'ids'}, ('confidence_threshold:=0.5',), 'gives classes without probabilities'),
    ({'name': 'coco_ssdlite_mobilenet_v2'}, (), 'a model for segmentation is needed'),
])
def test_what_does_not_fit_is_said_at_configure(segmentation, graph, says, model, parameters,
                                                sentence):
    """Before the first frame."""
    segmentation(*parameters, **model)
    graph.wait_for(lambda: says(sentence), f'{sentence!r} in the diagnostics')
    assert says('cannot configure').level == b'\x02'


def test_the_default_model_is_to_be_fetched(start_node, graph, says, monkeypatch, tmp_path):
    """Its weights do not ship; the sentence is the command."""
    monkeypatch.setenv('PERCEPTION_NODES_MODELS', str(tmp_path))
    start_node('segmentation_node')
    graph.wait_for(
        lambda: says('get them with: perception fetch-model lraspp_mobilenet_v3_large'),
        'the command in the diagnostics')


def test_masks_tell_the_obstacle_map_what_things_are(
        graph, start_node, colour_segmenter, tmp_path):
    """Both in one process: a green box on red floor becomes class 1 in the map."""
    (tmp_path / 'params.yaml').write_text(
        'perception_container: {ros__parameters: {nodes: [segmentation, obstacle_map]}}\n'
        f'segmentation: {{ros__parameters: {{manifest: {colour_segmenter()}, model: colours}}}}\n'
        'obstacle_map: {ros__parameters: {use_mask: true, class_rules: [green cost=60]}}\n')
    start_node('ros.container', '--params-file', f'{tmp_path}/params.yaml',
               '-r', 'mask:=/segmentation/mask', '-r', 'label_info:=/segmentation/label_info')
    maps = graph.collect(OccupancyGrid, '/obstacle_map/map', LATCHED)
    classes = graph.collect(OccupancyGrid, '/obstacle_map/class_map', LATCHED)
    place = pose(0.1, 0.0, 0.6, pitch=math.radians(15.0))
    static = graph.publisher(TFMessage, '/tf_static', LATCHED)
    static.publish(transforms_to_msg([('base_link', FRAME_ID, place)], 0))
    moving = graph.publisher(TFMessage, '/tf', QoSProfile(depth=100))
    camera = Camera(graph, with_depth=True)
    depth_m, what = render(Scene((Solid(2.02, 0.0, 0.3, 0.3, 0.4),)), place, CAMERA)
    rgb = np.array([(10, 220, 10), (220, 10, 10), (220, 10, 10)], np.uint8)[what]

    def mapped():
        moving.publish(transforms_to_msg(
            [('odom', 'base_link', np.eye(4))], camera.stamp_ns + 100_000_000))
        return maps and classes and at(maps[-1], 1.88, 0.02) == 60 and at(
            classes[-1], 1.88, 0.02) == 1

    camera.show_until(mapped, rgb=rgb, depth_m=depth_m)
    assert at(classes[-1], 1.3, 0.5) == 0


def at(grid, x, y):
    """Return the value of the cell at a place."""
    cells = np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)
    corner = grid.info.origin.position
    return cells[math.floor((y - corner.y) / grid.info.resolution),
                 math.floor((x - corner.x) / grid.info.resolution)]
