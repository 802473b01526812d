"""The description node over a real graph: boxes in one frame, sentences as seen from another."""

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from perception_nodes.conversions.encode import (
    detections_3d_to_msg,
    header_to_msg,
    label_info_to_msg,
)
from perception_nodes.conversions.encode_robot import transforms_to_msg
from perception_nodes.core.types import Detections3D
from perception_nodes.ros.lifecycle_node import LATCHED
import pytest
from rclpy.qos import qos_profile_sensor_data
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection3DArray, LabelInfo

pytestmark = pytest.mark.graph

PATIENCE_S = 60.0
# the robot stands one metre up y of map and looks down along it
MAP_FROM_ROBOT = np.array(
    [[0, 1, 0, 0], [-1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64)
TABLE, CHAIR = 1, 2


def room(chair_xy):
    """Return a table and a chair in map."""
    return Detections3D(
        np.array([[0.0, -2.0, 0.4], [*chair_xy, 0.5]]), np.tile(np.eye(3), (2, 1, 1)),
        np.array([[1.0, 1.0, 0.8], [0.5, 0.5, 1.0]]), np.zeros((2, 6, 6)),
        np.ones(2, np.float32), np.array([TABLE, CHAIR]), np.arange(2), ('depth', 'depth'))


@pytest.fixture
def rig(graph, start_node):
    """Start the node with names and a transform, and return a way to show it boxes."""
    class Rig:
        def __init__(self):
            self.stamp_ns = 0
            self.node = start_node('description_node')
            self.told = graph.collect(String, '/description/description', LATCHED)
            self.arrays = graph.collect(DiagnosticArray, '/diagnostics')
            self.boxes = graph.publisher(
                Detection3DArray, '/detections_3d', qos_profile_sensor_data)

        def publish_names(self):
            graph.publisher(LabelInfo, '/label_info', LATCHED).publish(label_info_to_msg(
                {TABLE: 'table', CHAIR: 'chair'}, 0.5, header_to_msg(0, '')))

        def publish_transform(self):
            graph.publisher(TFMessage, '/tf_static', LATCHED).publish(
                transforms_to_msg([('map', 'base_link', MAP_FROM_ROBOT)], 0))

        def show_until(self, things, condition):
            """Publish boxes until the node has reacted."""
            def shown():
                self.stamp_ns += 10**7
                self.boxes.publish(
                    detections_3d_to_msg(things, header_to_msg(self.stamp_ns, 'map')))
                return condition()
            return graph.wait_for(shown, 'a reaction to boxes', PATIENCE_S)

        def message(self):
            return next((s.message for a in reversed(self.arrays) for s in a.status), '')

        def processed(self):
            return max((int(v.value) for a in self.arrays for s in a.status
                        for v in s.values if v.key == 'processed'), default=0)
    return Rig()


def test_what_is_missing_is_said(graph, rig):
    """Boxes, then names, then the transform: each is asked for by name."""
    graph.wait_for(lambda: 'no node publishes it' in rig.message() or rig.message() == 'active',
                   'diagnostics', PATIENCE_S)
    rig.show_until(room((1.95, -2.0)), lambda: "no class names have come on '/label_info'"
                   in rig.message())
    rig.publish_names()
    rig.show_until(room((1.95, -2.0)), lambda: 'no transform at all has arrived' in rig.message())
    assert rig.told == []
    rig.publish_transform()
    rig.show_until(room((1.95, -2.0)), lambda: rig.told)
    # the robot looks down along y: x of map is to its left
    assert rig.told[0].data.split('\n') == [
        'The chair is left of the table (1.2 m).', 'The table is 2.5 m away.']
    assert rig.node.running


def test_only_what_changes_is_told(rig):
    """The same scene is described once; empty when nothing is seen any more."""
    rig.publish_names()
    rig.publish_transform()
    rig.show_until(room((1.95, -2.0)), lambda: rig.told)
    before = rig.processed()
    rig.show_until(room((1.95, -2.0)), lambda: rig.processed() >= before + 2)
    assert len(rig.told) == 1
    rig.show_until(room((-1.95, -2.0)), lambda: len(rig.told) == 2)
    assert 'The chair is right of the table (1.2 m).' in rig.told[1].data
    rig.show_until(Detections3D.empty(), lambda: len(rig.told) == 3)
    assert rig.told[2].data == ''
