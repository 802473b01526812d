"""The track node over a real graph: shown once, followed, lost, and let go."""

import cv2
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from perception_nodes.conversions.decode import detections_from_msg, rgb_from_msg
from perception_nodes.conversions.encode import header_to_msg, image_to_msg
from perception_nodes.ros.lifecycle_node import LATCHED
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, RegionOfInterest
from vision_msgs.msg import Detection2DArray, LabelInfo

pytestmark = pytest.mark.graph

PATIENCE_S = 60.0
SMOOTH = cv2.resize(np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8), (160, 120))
PATCH = cv2.resize(np.random.default_rng(1).integers(0, 256, (10, 10, 3), np.uint8), (30, 30))


def picture(left, stamp_ns):
    """Return an image with a square of 30 pixels, or without it."""
    rgb = SMOOTH.copy()
    if left is not None:
        rgb[50:80, left:left + 30] = PATCH
    return image_to_msg(rgb, 'rgb8', header_to_msg(stamp_ns, 'camera'))


def test_an_object_is_followed_lost_and_let_go(graph, start_node):
    """Its box moves with it; an array without detections says lost; an empty region lets go."""
    node = start_node('track_node')
    tracks = graph.collect(Detection2DArray, '/track/track')
    drawn = graph.collect(Image, '/track/debug_image')
    labels = graph.collect(LabelInfo, '/track/label_info', LATCHED)
    arrays = graph.collect(DiagnosticArray, '/diagnostics')
    images = graph.publisher(Image, '/image', qos_profile_sensor_data)
    regions = graph.publisher(RegionOfInterest, '/track/region')
    stamp_ns = 0

    def until(left, condition, what):
        """Publish an image again and again: one may be lost on the way."""
        def answered():
            nonlocal stamp_ns
            stamp_ns += 10**7
            images.publish(picture(left, stamp_ns))
            return tracks and condition(detections_from_msg(tracks[-1]))
        graph.wait_for(answered, what, PATIENCE_S)

    def is_near(left):
        def near(found):
            return len(found) == 1 and np.abs(
                found.boxes_xyxy[0] - (left, 50, left + 30, 80)).max() < 4
        return near

    until(60, lambda found: not len(found), 'an empty answer before anything is shown')
    regions.publish(RegionOfInterest(x_offset=60, y_offset=50, width=30, height=30))
    until(60, is_near(60), 'the object where it was shown')
    for left in range(64, 90, 4):
        until(left, is_near(left), f'the object at {left}')
    assert tracks[-1].header.frame_id == 'camera'
    assert detections_from_msg(tracks[-1]).scores[0] > 0.4
    assert labels[0].class_map[0].class_name == 'target'
    until(None, lambda found: not len(found), 'the word that it is lost')
    until(30, is_near(30), 'the object where it came back')
    graph.wait_for(lambda: drawn, 'a debug image', PATIENCE_S)
    assert rgb_from_msg(drawn[-1]).shape == (120, 160, 3)
    regions.publish(RegionOfInterest(x_offset=60, y_offset=50, width=3, height=30))
    until(30, lambda found: any('8 pixels wide and high' in s.message
                                for a in arrays for s in a.status), 'a refusal')
    regions.publish(RegionOfInterest(x_offset=30, y_offset=50, width=30, height=30))
    until(30, is_near(30), 'the object that was shown again')
    regions.publish(RegionOfInterest())
    until(30, lambda found: not len(found), 'nothing to follow any more')
    assert node.running
