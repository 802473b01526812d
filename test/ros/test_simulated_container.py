"""Simulator and detection in one process: frames are handed over, nothing is sent for nobody."""

from diagnostic_msgs.msg import DiagnosticArray
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

pytest.importorskip('mujoco', reason='mujoco is not installed: the simulator needs it')
pytestmark = pytest.mark.graph

IMAGE = '/camera/color/image_raw'


def test_frames_are_handed_over_without_messages(graph, start_node, tmp_path):
    """Detections carry simulated stamps, and no subscription of images exists."""
    (tmp_path / 'params.yaml').write_text(
        'perception_container: {ros__parameters: {nodes: [simulation, detection]}}\n'
        'simulation: {ros__parameters: {renderer: rays, camera_width: 80}}\n')
    start_node('ros.container', '--params-file', f'{tmp_path}/params.yaml',
               '-p', 'use_sim_time:=true', '-r', f'image:={IMAGE}')
    found = graph.collect(Detection2DArray, '/detection/detections')
    arrays = graph.collect(DiagnosticArray, '/diagnostics')
    graph.wait_for(lambda: len(found) >= 5, 'five results')
    assert graph.node.get_subscriptions_info_by_topic(IMAGE) == []
    stamps_ns = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in found]
    assert stamps_ns == sorted(set(stamps_ns))
    assert stamps_ns[-1] < 3600 * 10**9  # simulated time, not that of today
    assert found[0].header.frame_id == 'camera_color_optical_frame'
    graph.wait_for(lambda: any(
        s.name == '/simulation' and any(v.key == 'real_time_factor' for v in s.values)
        for a in arrays for s in a.status), 'the real-time factor')
    # whoever asks from outside is served beside them
    images = graph.collect(Image, IMAGE, qos_profile_sensor_data)
    graph.wait_for(lambda: images, 'an image')
