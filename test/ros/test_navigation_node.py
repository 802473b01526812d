"""The navigation node over a real graph: a simulated robot on its way, and what goes wrong."""

from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped, Vector3Stamped
from nav_msgs.msg import Odometry
from perception_nodes.ros.lifecycle_node import LATCHED
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import LaserScan

pytest.importorskip('mujoco', reason='mujoco is not installed: the simulator needs it')
pytestmark = [pytest.mark.graph, pytest.mark.timeout(900)]

HARD_MPS = 0.1
START_S, ARRIVE_S = 120.0, 120.0
FIRST, SECOND = (-1.2, -0.8), (1.0, 0.2)  # in the room below, in map
PARAMS = """
perception_container: {ros__parameters: {nodes: [simulation, navigation]}}
simulation: {ros__parameters: {
  renderer: rays, split: test, seed: 5, camera_width: 80, camera_height: 60}}
navigation: {ros__parameters: {
  footprint_front_m: 0.21, footprint_rear_m: 0.21, footprint_half_width_m: 0.21,
  footprint_corner_m: 0.21,
  max_linear_mps: 0.8, max_linear_mps2: 1.5}}
"""


def goal(x, y, frame='map'):
    msg = PoseStamped()
    msg.header.frame_id = frame
    msg.pose.position.x, msg.pose.position.y = x, y
    msg.pose.orientation.w = 1.0
    return msg


def states(statuses):
    return [status.message for status in statuses]


def test_two_goals_by_the_lidar(graph, start_node, tmp_path):
    """One after the other, and nothing is touched; then cmd_vel is left to others."""
    (tmp_path / 'params.yaml').write_text(PARAMS)
    start_node('ros.container', '--params-file', f'{tmp_path}/params.yaml',
               '-p', 'use_sim_time:=true')
    statuses = graph.collect(DiagnosticStatus, '/navigation/status', LATCHED)
    contacts = graph.collect(Vector3Stamped, '/simulation/ground_truth/contact')
    truth = graph.collect(Odometry, '/simulation/ground_truth/odom')
    commands = graph.collect(TwistStamped, '/cmd_vel')
    goals = graph.publisher(PoseStamped, '/goal_pose')
    graph.wait_for(lambda: states(statuses) == ['idle'] and truth, 'an idle robot', START_S)
    assert not commands
    for x, y in (FIRST, SECOND):
        statuses.clear()
        goals.publish(goal(x, y))
        graph.wait_for(lambda: 'reached' in states(statuses), 'the goal', ARRIVE_S)
        at = truth[-1].pose.pose.position
        assert (at.x - x) ** 2 + (at.y - y) ** 2 < 0.5 ** 2
    assert 'moving' in states(statuses)
    assert all(contact.vector.x < HARD_MPS for contact in contacts)
    assert commands[-1].header.frame_id == 'base_link'
    assert commands[-1].twist.linear.x == 0.0


def test_a_goal_by_depth_alone(graph, start_node, tmp_path):
    """The obstacle map's scan in the place of the lidar's, and a way through what it has shown."""
    (tmp_path / 'params.yaml').write_text(
        PARAMS.replace('[simulation, navigation]', '[simulation, obstacle_map, navigation]')
        .replace('max_linear_mps:', 'policy: guided, max_linear_mps:')
        + 'obstacle_map: {ros__parameters: {max_height_m: 0.72}}\n')
    start_node('ros.container', '--params-file', f'{tmp_path}/params.yaml',
               '-p', 'use_sim_time:=true', '-r', 'navigation:scan:=/obstacle_map/scan',
               '-r', 'depth:=/camera/aligned_depth_to_color/image_raw',
               '-r', 'camera_info:=/camera/color/camera_info')
    statuses = graph.collect(DiagnosticStatus, '/navigation/status', LATCHED)
    contacts = graph.collect(Vector3Stamped, '/simulation/ground_truth/contact')
    truth = graph.collect(Odometry, '/simulation/ground_truth/odom')
    scans = graph.collect(LaserScan, '/obstacle_map/scan', qos_profile_sensor_data)
    goals = graph.publisher(PoseStamped, '/goal_pose')
    graph.wait_for(lambda: scans and truth and statuses, 'a scan of the map', START_S)
    assert not graph.node.get_subscriptions_info_by_topic('/scan')
    goals.publish(goal(*FIRST))
    graph.wait_for(lambda: 'reached' in states(statuses), 'the goal', ARRIVE_S)
    at = truth[-1].pose.pose.position
    assert (at.x - FIRST[0]) ** 2 + (at.y - FIRST[1]) ** 2 < 0.5 ** 2
    assert all(contact.vector.x < HARD_MPS for contact in contacts)
