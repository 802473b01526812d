"""The simulated robot over a real graph: what it publishes, and how it can be driven."""

import math

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import OccupancyGrid, Odometry
import numpy as np
from perception_nodes.conversions.decode import (
    class_names_from_msg,
    depth_m_from_msg,
    detections_from_msg,
    ids_from_msg,
    intrinsics_from_msg,
    rgb_from_msg,
)
from perception_nodes.ros.inference_node import LATCHED
from perception_nodes.ros.transforms import TransformListener
import pytest
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, LaserScan
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo

pytest.importorskip('mujoco', reason='mujoco is not installed: the simulator needs it')
pytestmark = pytest.mark.graph

SMALL = ('-p', 'renderer:=rays', '-p', 'camera_width:=80', '-p', 'camera_height:=60')


def seconds(stamp):
    """Return a stamp in seconds."""
    return stamp.sec + stamp.nanosec * 1e-9


def test_sensors_agree_with_each_other_and_with_the_truth(graph, start_node):
    """Colour, depth, intrinsics, masks and boxes of one moment fit together."""
    start_node('simulation_node', *SMALL, '-p', 'noise:=false', '-p', 'depth_encoding:=32FC1')
    sensor = qos_profile_sensor_data
    colours = graph.collect(Image, '/camera/color/image_raw', sensor)
    depths = graph.collect(Image, '/camera/aligned_depth_to_color/image_raw', sensor)
    infos = graph.collect(CameraInfo, '/camera/color/camera_info', sensor)
    scans = graph.collect(LaserScan, '/scan', sensor)
    boxes = graph.collect(Detection2DArray, '/simulation/ground_truth/detections')
    spaces = graph.collect(Detection3DArray, '/simulation/ground_truth/detections_3d')
    instances = graph.collect(Image, '/simulation/ground_truth/instances')
    labels = graph.collect(LabelInfo, '/simulation/ground_truth/label_info', LATCHED)
    maps = graph.collect(OccupancyGrid, '/simulation/ground_truth/map', LATCHED)
    transforms = TransformListener(graph.node).buffer

    def complete():
        stamps = [{seconds(m.header.stamp) for m in messages} for messages in (
            colours, depths, infos, boxes, instances, spaces)]
        return set.intersection(*stamps) and labels and maps and scans

    graph.wait_for(complete, 'a complete set of messages')
    stamp = max(set.intersection(*({seconds(m.header.stamp) for m in messages} for messages in (
        colours, depths, infos, boxes, instances, spaces))))
    colour, depth, info, box, instance = (
        next(m for m in messages if seconds(m.header.stamp) == stamp)
        for messages in (colours, depths, infos, boxes, instances))
    assert colour.header.frame_id == 'camera_color_optical_frame'
    assert rgb_from_msg(colour).shape == (60, 80, 3)
    assert rgb_from_msg(colour).std() > 10
    depth_m = depth_m_from_msg(depth)
    assert np.isfinite(depth_m).mean() > 0.5
    assert intrinsics_from_msg(info).width == 80
    ids = ids_from_msg(instance)
    found = detections_from_msg(box)
    for (left, top, right, bottom), object_id in zip(
            found.boxes_xyxy, found.object_ids, strict=True):
        rows, columns = np.nonzero(ids == object_id)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (
            left, top, right, bottom)
    space = next(m for m in spaces if seconds(m.header.stamp) == stamp)
    assert space.header.frame_id == 'map'
    assert [d.id for d in space.detections] == [d.id for d in box.detections]
    assert class_names_from_msg(labels[0])[7] == 'person'
    assert scans[0].header.frame_id == 'laser'
    assert len(scans[0].ranges) == 360
    assert set(np.unique(maps[0].data)) >= {0, 100}
    stamp_ns = round(stamp * 1e9)
    map_from_camera = transforms.lookup('map', colour.header.frame_id, stamp_ns, 60.0)
    assert map_from_camera[2, 3] == pytest.approx(0.56, abs=0.01)


def test_it_drives_while_told_to_and_stops_in_silence(graph, start_node):
    """cmd_vel moves the robot; without news it stands; a number that is none stops it."""
    node = start_node(
        'simulation_node', *SMALL, '-p', 'noise:=false', '-p', 'cmd_vel_timeout_ms:=300.0')
    odometry = graph.collect(Odometry, '/odom', qos_profile_sensor_data)
    publisher = graph.publisher(TwistStamped, '/cmd_vel')
    command = TwistStamped()
    command.twist.angular.z = 1.0

    def turns():
        publisher.publish(command)
        return odometry and odometry[-1].twist.twist.angular.z > 0.9

    def stands():
        return abs(odometry[-1].twist.twist.angular.z) < 0.01

    graph.wait_for(turns, 'the robot to turn')
    graph.wait_for(stands, 'the robot to stop in silence')
    graph.wait_for(turns, 'the robot to turn again')
    broken = TwistStamped()
    broken.twist.linear.x = math.nan

    def refuses():
        publisher.publish(broken)
        return stands() and 'which is not finite: the robot stops' in node.output

    graph.wait_for(refuses, 'the refusal')
    yaw = odometry[-1].pose.pose.orientation
    assert abs(yaw.z) > 0.01


def test_reset_starts_the_scene_of_the_seed_at_time_zero(graph, start_node):
    """Time jumps back, which whoever follows /clock is told by it."""
    start_node('simulation_node', *SMALL, '-p', 'real_time_factor:=0.0')
    clocks = graph.collect(Clock, '/clock')
    graph.wait_for(lambda: clocks and seconds(clocks[-1].clock) > 1.0, 'one second')
    answer = graph.call(Trigger, '/reset', Trigger.Request())
    assert answer.success
    assert answer.message == 'seed 0, time 0'
    graph.wait_for(lambda: any(
        seconds(after.clock) < seconds(before.clock)
        for before, after in zip(clocks, clocks[1:], strict=False)), 'time to jump back')


def test_pictures_can_come_late(graph, start_node):
    """The stamp stays that of the exposure; what is late is the arrival."""
    start_node('simulation_node', *SMALL, '-p', 'camera_latency_ms:=200.0')
    clocks = graph.collect(Clock, '/clock')
    behind = []

    def arrived(msg):
        if clocks:
            behind.append(seconds(clocks[-1].clock) - seconds(msg.header.stamp))

    graph.node.create_subscription(
        Image, '/camera/color/image_raw', arrived, qos_profile_sensor_data)
    # of the last five: where clock and pictures wait for this process, either may seem late
    graph.wait_for(lambda: len(behind) >= 5 and 0.15 < sorted(behind[-5:])[2] < 0.4,
                   'pictures 200 ms late')


def test_an_unknown_world_is_said(graph, start_node):
    """The node lives and says why nothing comes."""
    start_node('simulation_node', '-p', 'world:=moon')
    arrays = graph.collect(DiagnosticArray, '/diagnostics')
    status = graph.wait_for(lambda: next(
        (s for a in arrays for s in a.status if 'cannot simulate' in s.message), None), 'a word')
    assert "'moon'" in status.message
    assert 'tabletop' in status.message
    assert status.level == b'\x02'


def test_told_to_stop_while_the_scene_is_made_it_ends_well(graph, start_node):
    """The simulator finishes its scene into a graph that is already gone."""
    node = start_node('simulation_node')
    graph.wait_for(lambda: 'simulation' in graph.node.get_node_names(), 'the node')
    assert node.stop() == 0
    assert node.output == ''


def test_a_parameter_of_the_wrong_type_is_one_sentence(start_node):
    """There is no node without them."""
    node = start_node('simulation_node', '-p', 'camera_rate_hz:=often')
    assert node.expect_exit(1)
    node.stop()
    assert node.output == (
        "perception_nodes: cannot start: parameter 'camera_rate_hz' is 'often', of type str; it "
        'must be of type float\n')
