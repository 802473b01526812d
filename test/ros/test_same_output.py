"""The same bag through the same parameters gives the same output, field by field."""

import hashlib
import os
import subprocess
import sys

from perception_nodes.evaluation.bag import header_stamp_ns
import pytest
from rclpy.serialization import deserialize_message
from vision_msgs.msg import Detection2DArray, Detection3DArray

pytestmark = [pytest.mark.graph, pytest.mark.data]

TAKEN = ['/camera/color/image_raw', '/camera/aligned_depth_to_color/image_raw',
         '/camera/color/camera_info', '/tf']
RESULTS = {'/detection/detections': Detection2DArray, '/detection/detections_3d': Detection3DArray}


def play(graph, start_node, bag, *arguments):
    """Play a bag through a fresh node in lock-step; return its results by stamp and topic."""
    node = start_node(
        'detection_node', *arguments, '-p', 'use_sim_time:=true', '-p', 'camera_domain:=real',
        '-p', 'boxes_3d:=depth', '-p', 'target_frame:=odom',
        '-r', f'image:={TAKEN[0]}', '-r', f'depth:={TAKEN[1]}', '-r', f'camera_info:={TAKEN[2]}')
    results = []
    subscriptions = [
        graph.node.create_subscription(
            kind, topic,
            # not the bytes themselves: the padding between fields is whatever lay there before
            lambda cdr, topic=topic, kind=kind: results.append(
                (header_stamp_ns(cdr), topic, repr(deserialize_message(cdr, kind)))),
            50, raw=True)
        for topic, kind in RESULTS.items()]
    graph.wait_for(
        lambda: all(s.get_publisher_count() for s in subscriptions)
        and all(graph.node.count_subscribers(topic) for topic in TAKEN), 'the node')
    subprocess.run(
        [sys.executable, '-m', 'perception_nodes.cli', 'play', str(bag), '--clock',
         '--pace-by', '/detection/detections_3d', '--pace-timeout', '60'],
        env=os.environ, check=True, capture_output=True, timeout=400)
    assert node.stop() == 0
    assert 'dropped' not in node.output, node.output
    for subscription in subscriptions:
        graph.node.destroy_subscription(subscription)
    return sorted(results)


def digest(results):
    """Return the sha256 over stamp, topic and every field."""
    total = hashlib.sha256()
    for stamp_ns, topic, content in results:
        total.update(f'{topic} {stamp_ns} {content}'.encode())
    return total.hexdigest()


def test_a_bag_gives_the_same_results_each_time(graph, start_node, data_dir):
    """Pictures are answered in the image and in space; another threshold changes them."""
    bag = data_dir / 'bags' / 'dining_room'
    first = play(graph, start_node, bag)
    assert [topic for _, topic, _ in first] == sorted(RESULTS) * 5
    assert digest(play(graph, start_node, bag)) == digest(first)
    assert digest(play(graph, start_node, bag, '-p', 'score_threshold:=0.2')) != digest(first)
