"""The message packages have upstream's type hashes and travel over real DDS."""

import json
from pathlib import Path
import time

import pytest

UPSTREAM_HASHES = {
    'vision_msgs/msg/Detection2DArray': (
        'RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968'
    ),
    'vision_msgs/msg/Detection3DArray': (
        'RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018'
    ),
    'vision_msgs/msg/LabelInfo': (
        'RIHS01_3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783'
    ),
    'tf2_msgs/msg/TFMessage': (
        'RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087'
    ),
}


def share_folder(package: str) -> Path:
    """Return share/PACKAGE of the prefix that Python imports the package from."""
    module = pytest.importorskip(package, reason=f'{package} is not installed')
    for folder in Path(module.__file__).parents:
        if (folder / 'share' / package / 'msg').is_dir():
            return folder / 'share' / package
    raise FileNotFoundError(f'no share/{package}/msg above {module.__file__}')


@pytest.mark.parametrize('type_name', UPSTREAM_HASHES)
def test_type_hash_equals_upstream(type_name):
    package, _, name = type_name.split('/')
    description = json.loads((share_folder(package) / 'msg' / f'{name}.json').read_text())
    hashes = {entry['type_name']: entry['hash_string'] for entry in description['type_hashes']}
    assert hashes[type_name] == UPSTREAM_HASHES[type_name]


@pytest.mark.graph
def test_detections_survive_a_round_trip_over_dds():
    rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')
    vision_msgs = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is not installed')
    sent = vision_msgs.Detection2DArray(detections=[_detection(vision_msgs)])
    sent.header.frame_id = 'camera_color_optical_frame'
    sent.header.stamp.sec = 7

    received = []
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('round_trip', context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        publisher = node.create_publisher(vision_msgs.Detection2DArray, 'round_trip', 1)
        node.create_subscription(vision_msgs.Detection2DArray, 'round_trip', received.append, 1)
        deadline = time.monotonic() + 60.0
        while not received and time.monotonic() < deadline:
            publisher.publish(sent)
            executor.spin_once(timeout_sec=0.1)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert received[0] == sent


def _detection(vision_msgs):
    hypothesis = vision_msgs.ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = '17'
    hypothesis.hypothesis.score = 0.875
    detection = vision_msgs.Detection2D(results=[hypothesis], id='42')
    detection.bbox.center.position.x = 320.5
    detection.bbox.center.position.y = 240.25
    detection.bbox.size_x = 64.0
    detection.bbox.size_y = 48.0
    return detection
