"""A doctor's look at real graphs: what is wrong is found, and a healthy one is left in peace."""

import json
import threading

import numpy as np
from perception_nodes.cli import doctor
from perception_nodes.cli.diagnosis.checks import examine
from perception_nodes.cli.diagnosis.graph import graph_snapshot
from perception_nodes.conversions.encode import header_to_msg, image_to_msg, intrinsics_to_msg
from perception_nodes.core.types import CameraIntrinsics
from perception_nodes.ros.session import Session
import pytest
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

pytestmark = pytest.mark.graph

OPTICAL = 'camera_color_optical_frame'
COLOUR, DEPTH = '/camera/color/image_raw', '/camera/depth/image_raw'


@pytest.fixture
def node(graph):
    """Return a maker of nodes beside the test's own."""
    made = []

    def make(name, use_sim_time=False, **parameters):
        values = {'use_sim_time': use_sim_time, **parameters}
        made.append(rclpy.create_node(
            name, context=graph.context, automatically_declare_parameters_from_overrides=True,
            parameter_overrides=[Parameter(key, value=value) for key, value in values.items()]))
        graph._executor.add_node(made[-1])
        return made[-1]

    yield make
    for one in made:
        graph._executor.remove_node(one)
        one.destroy_node()


@pytest.fixture
def camera(node, graph):
    """Return a maker of cameras that send ten times a second by themselves."""
    stop = threading.Event()
    threads = []

    def make(depth, size):
        driver = node('driver')
        kinds = {COLOUR: Image, DEPTH: Image, '/camera/color/camera_info': CameraInfo,
                 '/camera/depth/camera_info': CameraInfo, '/tf': TFMessage}
        publishers = {topic: driver.create_publisher(kind, topic, qos_profile_sensor_data)
                      for topic, kind in kinds.items()}
        rgb = np.zeros((48, 64, 3), np.uint8)

        def send():
            while not stop.wait(0.1):
                now = header_to_msg(driver.get_clock().now().nanoseconds, OPTICAL)
                publishers['/tf'].publish(TFMessage())
                publishers[COLOUR].publish(image_to_msg(rgb, 'rgb8', now))
                publishers[DEPTH].publish(image_to_msg(depth, '32FC1', now))
                for topic in ('/camera/color/camera_info', '/camera/depth/camera_info'):
                    publishers[topic].publish(intrinsics_to_msg(
                        CameraIntrinsics.from_fov(*size, 60.0), now))
        threads.append(threading.Thread(target=send, daemon=True))
        threads[-1].start()

    yield make
    stop.set()
    for thread in threads:
        thread.join()


def ignore(msg):
    """Take a message and do nothing."""


def look(seconds=2.0):
    with Session('perception_doctor') as session:
        return graph_snapshot(session, seconds, [], {})


def test_everything_that_is_wrong_is_found_at_once(node, camera):
    camera(np.full((48, 64), 1800.0, np.float32), (640, 480))
    consumer = node('consumer', use_sim_time=True, target_frame='odom')
    consumer.create_subscription(Image, COLOUR, ignore, 10)
    consumer.create_subscription(Image, '/camera/camera/color/image_raw', ignore, 10)
    wrong = {'qos', 'publishers', 'depth_units', 'camera_info', 'clock', 'transforms'}
    for _ in range(15):  # on a busy machine not everybody is met at the first look
        snapshot = look()
        found = {f.check: f for f in examine(snapshot) if f.level == 'error'}
        if wrong <= set(found) and snapshot.topics[COLOUR].traffic.count > 3:
            break
    assert wrong <= set(found)
    assert found['qos'].sentence.startswith(
        f'{COLOUR}: /consumer gets nothing from /driver, because of reliability')
    assert f'did you mean {COLOUR}' in found['publishers'].fix
    assert 'the numbers look like millimetres' in found['depth_units'].sentence
    assert 'is for 640x480 pixels' in found['camera_info'].sentence
    assert '/consumer use simulated time, but /clock has no publisher' in found['clock'].sentence
    assert "to 'odom' could be had: no transform" in found['transforms'].sentence
    assert snapshot.topics[COLOUR].traffic.count > 3


def test_a_healthy_camera_is_left_in_peace(node, camera):
    camera(np.full((48, 64), 1.8, np.float32), (64, 48))
    consumer = node('consumer')
    consumer.create_subscription(Image, COLOUR, ignore, qos_profile_sensor_data)
    consumer.create_subscription(String, '/detection/words', ignore, 10)
    node('talker').create_publisher(String, '/detection/words', 10)
    for _ in range(15):  # on a busy machine not everybody is met at the first look
        snapshot = look()
        # what other programs do to the shared memory and the timing is not asked
        found = [f for f in examine(snapshot) if f.level != 'info'
                 and f.check not in ('transport', 'rates', 'stamps')]
        if not found:
            break
    assert found == []
    assert {n.name for n in snapshot.nodes} >= {'/driver', '/consumer', '/talker'}
    assert doctor.as_text([]).endswith('0 error(s), 0 warning(s)')
    assert json.loads(doctor.as_json([])) == {'errors': 0, 'warnings': 0, 'findings': []}
