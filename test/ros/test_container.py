"""Several nodes in one process, and several cameras on one node, over a real graph."""

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from perception_nodes.conversions.encode import header_to_msg, image_to_msg
from perception_nodes.ros.container import split_name
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

pytestmark = pytest.mark.graph

PIXELS = np.full((48, 64, 3), 127, np.uint8)


def values_of(arrays, name):
    """Return the newest diagnostic values of a node (or one of its cameras)."""
    for array in reversed(arrays):
        for status in array.status:
            if status.name == name:
                return {v.key: v.value for v in status.values}
    return {}


def test_two_nodes_share_one_subscription(graph, start_node, tmp_path):
    """Both answer to each image, with their own parameters, from one subscription."""
    (tmp_path / 'params.yaml').write_text(
        'perception_container: {ros__parameters: {nodes: [detection, rear=detection]}}\n'
        'rear: {ros__parameters: {score_threshold: 0.9}}\n')
    process = start_node('ros.container', '--params-file', f'{tmp_path}/params.yaml')
    first = graph.collect(Detection2DArray, '/detection/detections')
    second = graph.collect(Detection2DArray, '/rear/detections')
    publisher = graph.publisher(Image, '/image', qos_profile_sensor_data)
    assert publisher.get_subscription_count() == 1
    sent = 0

    def both_answered():
        nonlocal sent
        sent += 1
        publisher.publish(image_to_msg(PIXELS, 'rgb8', header_to_msg(sent, 'camera')))
        return {m.header.stamp.nanosec for m in first} & {m.header.stamp.nanosec for m in second}

    graph.wait_for(both_answered, 'an image that both nodes saw')
    owners = graph.node.get_subscriptions_info_by_topic('/image')
    assert [owner.node_name for owner in owners] == ['perception_container']
    assert process.running


def test_a_launch_files_name_is_the_containers(graph, start_node):
    """The nodes inside keep theirs."""
    start_node('ros.container', '-r', '__node:=eyes')
    graph.wait_for(
        lambda: {'eyes', 'detection'} <= set(graph.node.get_node_names()), 'both names')
    assert split_name(['x', '--ros-args', '-r', '__node:=a', '-p', 'b:=1'], 'c') == (
        ['x', '--ros-args', '-p', 'b:=1'], 'a')


def test_unknown_node_types_are_explained(start_node, graph):
    """The process cannot guess what was meant; it says what there is."""
    process = start_node('ros.container', '-p', 'nodes:=[detecting]')
    graph.wait_for(lambda: not process.running, 'the end of the process')
    assert "there is no node type 'detecting'; did you mean 'detection'?" in process.output
    assert process.expect_exit(1)


def test_four_cameras_on_one_model_get_fair_shares(graph, start_node):
    """Each camera's frames are processed or accounted for, none starves, none gets old."""
    names = ['front', 'rear', 'left', 'right']
    start_node('detection_node', '-p', f'cameras:=[{", ".join(names)}]')
    results = {n: graph.collect(Detection2DArray, f'/detection/{n}/detections') for n in names}
    diagnostics = graph.collect(DiagnosticArray, '/diagnostics')
    publishers = [graph.publisher(Image, f'/{n}/image', qos_profile_sensor_data) for n in names]
    stamp = 0

    def enough():
        nonlocal stamp
        stamp += 1
        for name, publisher in zip(names, publishers, strict=True):
            publisher.publish(image_to_msg(PIXELS, 'rgb8', header_to_msg(stamp, name)))
        return min(len(r) for r in results.values()) >= 15

    def all_answer():
        enough()
        return all(results.values())

    graph.wait_for(all_answer, 'a result of each camera')  # before, who is met later has fewer
    for found in results.values():
        found.clear()
    graph.wait_for(enough, 'fifteen results of each camera')
    counts = [len(r) for r in results.values()]
    assert max(counts) <= 1.3 * min(counts)
    assert all(m.header.frame_id == n for n, r in results.items() for m in r)

    def all_accounted_for():
        for name in names:
            v = values_of(diagnostics, f'/detection: {name}')
            if not v or int(v['received']) != int(v['processed']) + int(
                    v.get('dropped_superseded', 0)):
                return False
            assert v['failed'] == '0'
        return True

    def is_young(name):
        # at most the round in work and its own, and each serves four images
        v = values_of(diagnostics, f'/detection: {name}')
        return float(v['age_p95_ms']) < 2.5 * float(v['compute_p95_ms'])

    for _ in range(5):  # the machine may have held up some of so few
        graph.wait_for(all_accounted_for, 'every image to be accounted for')
        if all(map(is_young, names)):
            break
        for found in results.values():
            found.clear()
        graph.wait_for(enough, 'fifteen results of each camera')
    assert all(map(is_young, names))
