"""What a node survives: models that throw, time that jumps, images that come compressed."""

import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from perception_nodes.conversions.encode import header_to_msg, image_to_msg, intrinsics_to_msg
from perception_nodes.core.types import CameraIntrinsics
import pytest
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision_msgs.msg import Detection2DArray

pytestmark = pytest.mark.graph

DARK, BRIGHT = (np.full((48, 64, 3), v, np.uint8) for v in (10, 250))

def say(publisher, pixels, stamp_ns, frame_id='camera'):
    """Publish one picture."""
    publisher.publish(image_to_msg(pixels, 'rgb8', header_to_msg(stamp_ns, frame_id)))


def until(graph, act, happened, what):
    """Repeat an act, best-effort topics may lose it, until it has its effect."""
    def acted():
        act()
        time.sleep(0.05)
        return happened()

    return graph.wait_for(acted, what)


def newest(arrays):
    """Return the newest status of the detection node."""
    statuses = [s for a in arrays for s in a.status if s.name == '/detection']
    return statuses[-1] if statuses else None


def test_a_model_that_throws_costs_one_frame(graph, start_node, touchy):
    """The failure is counted and said; the next good frame is answered."""
    start_node('detection_node', *touchy)
    found = graph.collect(Detection2DArray, '/detection/detections')
    arrays = graph.collect(DiagnosticArray, '/diagnostics')
    publisher = graph.publisher(Image, '/image', qos_profile_sensor_data)
    until(graph, lambda: say(publisher, BRIGHT, 1), lambda: any(
        'dropped a frame' in s.message for a in arrays for s in a.status), 'the failure')
    assert found == []
    until(graph, lambda: say(publisher, DARK, 2), lambda: found, 'the answer')
    box = found[0].detections[0].bbox
    assert (box.center.position.x, box.center.position.y) == (24.0, 24.0)
    assert (box.size_x, box.size_y) == (16.0, 24.0)
    values = {v.key: v.value for v in newest(arrays).values}
    assert int(values['failed']) >= 1
    assert 'Gather' in values['last_failure']


def test_time_that_jumps_back_starts_anew(graph, start_node, touchy):
    """A bag that starts again is followed, with and without /clock."""
    node = start_node('detection_node', *touchy, '-p', 'use_sim_time:=true')
    found = graph.collect(Detection2DArray, '/detection/detections')
    publisher = graph.publisher(Image, '/image', qos_profile_sensor_data)
    clock = graph.publisher(Clock, '/clock')

    def play(second):
        clock.publish(Clock(clock=header_to_msg(second * 10**9, '').stamp))
        say(publisher, DARK, second * 10**9)

    until(graph, lambda: play(100), lambda: found, 'an answer at 100 s')
    until(graph, lambda: play(5), lambda: found[-1].header.stamp.sec == 5, 'an answer at 5 s')
    graph.wait_for(lambda: 'time jumped back' in node.output, 'the word about it')
    until(graph, lambda: play(6), lambda: found[-1].header.stamp.sec == 6, 'an answer at 6 s')


def test_compressed_images_are_taken_from_their_own_topic(graph, start_node, touchy):
    """The transport's name is added to the remapped topic; a cut picture is explained."""
    node = start_node(
        'detection_node', *touchy, '-p', 'image_transport:=compressed',
        '-r', 'image:=/eye/image_raw')
    found = graph.collect(Detection2DArray, '/detection/detections')
    publisher = graph.publisher(
        CompressedImage, '/eye/image_raw/compressed', qos_profile_sensor_data)
    msg = CompressedImage(format='jpeg', header=header_to_msg(7, 'eye'))
    picture = cv2.imencode('.jpg', DARK)[1].tobytes()
    msg.data = picture[:40]
    until(graph, lambda: publisher.publish(msg),
          lambda: 'it must be a whole JPEG or PNG' in node.output, 'the complaint')
    msg.data = picture
    until(graph, lambda: publisher.publish(msg), lambda: found, 'the answer')
    assert found[0].header.frame_id == 'eye'
    assert found[0].header.stamp.nanosec == 7


def test_a_name_that_is_remapped_twice_is_said(graph, start_node, touchy):
    """What is listened to is what is named, also where nothing arrives."""
    node = start_node('detection_node', *touchy, '-r', 'image:=/eye', '-r', '/eye:=/other_eye')
    graph.wait_for(lambda: "'/eye' is remapped once more: listening to '/other_eye'"
                   in node.output, 'the warning')
    arrays = graph.collect(DiagnosticArray, '/diagnostics')
    graph.wait_for(lambda: any("nothing arrives on '/other_eye'" in s.message
                               for a in arrays for s in a.status), 'the name')
    graph.wait_for(lambda: graph.node.count_subscribers('/other_eye'), 'the subscription')


def test_incompatible_qos_is_named(graph, start_node, touchy):
    """Reliable is asked for, best effort is offered: topic and policy are said."""
    start_node('detection_node', *touchy, '-p', 'input_reliability:=reliable')
    arrays = graph.collect(DiagnosticArray, '/diagnostics')
    graph.publisher(Image, '/image', qos_profile_sensor_data, matched=False)
    status = graph.wait_for(lambda: next(
        (s for a in arrays for s in a.status if 'incompatible' in s.message), None), 'the reason')
    assert "nothing arrives on '/image': its publisher offers an incompatible" in status.message
    assert 'reliability' in status.message
    assert "'input_reliability'" in status.message


def test_a_camera_info_that_was_sent_once_is_asked_for(graph, start_node, touchy):
    """It is latched, and from before the node; the next driver latches nothing."""
    def say_size(publisher, width, height):
        publisher.publish(intrinsics_to_msg(
            CameraIntrinsics.from_fov(width, height, 60.0), header_to_msg(0, 'camera')))

    kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    latched = graph.publisher(CameraInfo, '/camera_info', kept, matched=False)
    say_size(latched, 64, 48)
    start_node('detection_node', *touchy, '-p', 'boxes_3d:=depth')
    found = graph.collect(Detection2DArray, '/detection/detections')
    depth, image = (graph.publisher(Image, topic, qos_profile_sensor_data)
                    for topic in ('/depth', '/image'))

    def look(pixels):
        stamp_ns = time.monotonic_ns()
        depth.publish(image_to_msg(
            np.ones(pixels.shape[:2], np.float32), '32FC1', header_to_msg(stamp_ns, 'camera')))
        say(image, pixels, stamp_ns)

    until(graph, lambda: look(DARK), lambda: found, 'an answer')
    graph.node.destroy_publisher(latched)
    fresh = graph.publisher(CameraInfo, '/camera_info', qos_profile_sensor_data, matched=False)
    found.clear()
    until(graph, lambda: (say_size(fresh, 32, 24), look(DARK[:24, :32])), lambda: found,
          'an answer to the other driver')
