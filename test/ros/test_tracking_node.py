"""Ids over a real graph: kept from image to image, in the image and in space, until time jumps."""

import numpy as np
from perception_nodes import detection_node
from perception_nodes.conversions.encode import header_to_msg, image_to_msg, intrinsics_to_msg
from perception_nodes.core.types import CameraIntrinsics, Detections
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

pytestmark = pytest.mark.graph

CAMERA = CameraIntrinsics.from_fov(128, 96, 60.0)
FRAME = 'camera_color_optical_frame'


class BrightModel:
    """Finds what is bright; how bright it is, is the score."""

    class_names = {1: 'thing'}
    needs_suppression = False

    def predict(self, frames):
        return [self._find(frame[..., 0]) for frame in frames]

    @staticmethod
    def _find(grey):
        rows, columns = np.nonzero(grey)
        if not len(rows):
            return Detections.empty()
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Detections(
            np.array([box], np.float32), np.array([grey.max() / 255.0], np.float32), np.array([1]))


@pytest.fixture
def rig(graph, monkeypatch, write_manifest):
    """Run the node in this process, before a camera that is shown one thing."""
    manifest = write_manifest('bright', 'detection', backend='none', classes={1: 'thing'},
                              input={'width': 128, 'height': 96})
    monkeypatch.setattr(detection_node, 'share_model', lambda *_, **__: BrightModel())
    values = {'manifest': str(manifest), 'model': 'bright', 'track': True,
              'boxes_3d': 'depth', 'input_reliability': 'reliable'}
    node = detection_node.DetectionNode(context=graph.context, parameter_overrides=[
        Parameter(name, value=value) for name, value in values.items()])
    node.start()
    graph._executor.add_node(node)

    class Rig:
        def __init__(self):
            self.flat = graph.collect(Detection2DArray, '/detection/detections')
            self.in_space = graph.collect(Detection3DArray, '/detection/detections_3d')
            self.markers = graph.collect(MarkerArray, '/detection/markers')
            self.debug = graph.collect(Image, '/detection/debug_image')
            self.inputs = [graph.publisher(kind, topic) for kind, topic in (
                (CameraInfo, '/camera_info'), (Image, '/depth'), (Image, '/image'))]
            graph.wait_for(lambda: node.markers[''].get_subscription_count()
                           and node.detections[''].get_subscription_count()
                           and node.detections_3d[''].get_subscription_count(), 'subscribers')

        def show(self, time_s, x, brightness=255):
            """Show the thing at column x, or nothing; return the ids in the image and in space."""
            picture = np.zeros((96, 128, 3), np.uint8)
            depth = np.full((96, 128), 3.0, np.float32)
            if x is not None:
                picture[30:70, x:x + 24] = brightness
                depth[30:70, x:x + 24] = 2.0
            header = header_to_msg(round(time_s * 1e9), FRAME)
            n = len(self.in_space)
            for publisher, msg in zip(self.inputs, (
                    intrinsics_to_msg(CAMERA, header), image_to_msg(depth, '32FC1', header),
                    image_to_msg(picture, 'rgb8', header)), strict=True):
                publisher.publish(msg)
            graph.wait_for(lambda: len(self.in_space) > n and len(self.flat) > n,
                           'boxes in the image and in space', 60.0)
            return ([d.id for d in self.flat[n].detections],
                    [d.id for d in self.in_space[n].detections])

    yield Rig()
    node.halt()
    graph._executor.remove_node(node)
    node.destroy_node()


def test_ids_are_kept_through_gaps_and_weak_boxes_and_begin_anew_when_time_jumps(rig, graph):
    assert rig.show(100.0, 20) == (['1'], ['1'])
    assert rig.show(100.1, 24) == (['1'], ['1'])
    assert rig.show(100.2, 28, brightness=100) == (['1'], ['1'])  # below score_threshold
    assert rig.show(100.3, None) == ([], [])
    assert rig.show(100.4, 36) == (['1'], ['1'])
    graph.wait_for(lambda: len(rig.markers) >= 5, 'markers', 60.0)
    cube, words = (next(m for m in rig.markers[-1].markers if m.type == kind)
                   for kind in (Marker.CUBE, Marker.TEXT_VIEW_FACING))
    assert (cube.id, words.id) == (1, 1)
    assert words.text.startswith('thing #1 ')
    assert rig.show(50.0, 36) == (['2'], ['2'])
    assert rig.show(50.1, 36, brightness=100) == (['2'], ['2'])
    assert rig.show(80.0, 36, brightness=100) == ([], [])
