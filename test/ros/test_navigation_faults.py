"""The navigation node with inputs that the test makes: what it says, and that it stops."""

import math
import signal

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TransformStamped, TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry, Path
from perception_nodes.ros.lifecycle_node import LATCHED
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import LaserScan
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

pytestmark = [pytest.mark.graph, pytest.mark.timeout(900)]

START_S = 120.0  # what decides may have to be compiled first


class FakeRobot:
    """Sensors of a robot that stands in an empty hall, and what the node makes of them."""

    def __init__(self, graph):
        self.graph, node = graph, graph.node
        self.senses = {'scan', 'odom'}
        self.ranges = [math.inf] * 180
        self._scans = node.create_publisher(LaserScan, '/scan', qos_profile_sensor_data)
        self._odometry = node.create_publisher(Odometry, '/odom', qos_profile_sensor_data)
        self._static = node.create_publisher(TFMessage, '/tf_static', LATCHED)
        mount = TransformStamped()
        mount.header.frame_id, mount.child_frame_id = 'base_link', 'laser'
        mount.transform.rotation.w = 1.0
        self._static.publish(TFMessage(transforms=[mount]))
        self.commands = graph.collect(TwistStamped, '/cmd_vel')
        self.statuses = graph.collect(DiagnosticStatus, '/navigation/status', LATCHED)
        self.diagnostics = graph.collect(DiagnosticArray, '/diagnostics')
        self._goals = node.create_publisher(PoseStamped, '/goal_pose', 10)
        self._plans = node.create_publisher(Path, '/plan', 10)
        node.create_timer(0.05, self._sense)
        graph.wait_for(lambda: self._goals.get_subscription_count() and self.statuses
                       and self._plans.get_subscription_count(), 'the node', START_S)

    def _sense(self):
        now = self.graph.node.get_clock().now().to_msg()
        if 'scan' in self.senses:
            scan = LaserScan(
                angle_min=-math.pi, angle_max=math.pi, angle_increment=math.radians(2.0),
                range_min=0.1, range_max=10.0, ranges=self.ranges)
            scan.header.stamp, scan.header.frame_id = now, 'laser'
            self._scans.publish(scan)
        if 'odom' in self.senses:
            odometry = Odometry(child_frame_id='base_link')
            odometry.header.stamp, odometry.header.frame_id = now, 'odom'
            odometry.pose.pose.orientation.w = 1.0
            self._odometry.publish(odometry)

    def goal(self, frame='odom'):
        msg = PoseStamped()
        msg.header.frame_id = frame
        msg.pose.position.x = 5.0
        self._goals.publish(msg)

    def plan(self):
        msg = Path()
        msg.header.frame_id = 'odom'
        for i in range(10):
            msg.poses.append(PoseStamped())
            msg.poses[-1].pose.position.y = 0.5 * i
        self._plans.publish(msg)

    def await_state(self, state, reason=''):
        self.graph.wait_for(
            lambda: self.statuses[-1].message == state
            and reason in self.statuses[-1].values[1].value,
            f'{state} ({reason}), not {self.statuses[-1]}')

    def await_command(self, *, moving):
        """Wait for a command that was sent from now on."""
        self.commands.clear()
        self.graph.wait_for(
            lambda: self.commands and any_motion(self.commands[-1]) is moving, 'a command')


def any_motion(msg):
    return abs(msg.twist.linear.x) + abs(msg.twist.angular.z) > 0.0


@pytest.fixture
def robot(graph, start_node):
    node = start_node('navigation_node')
    robot = FakeRobot(graph)
    robot.process = node
    return robot


def test_what_goes_wrong_is_said_and_stops_the_robot(graph, robot):
    """Each input is lost or broken in turn; the goal is kept, and driven to again."""
    robot.goal()
    robot.await_command(moving=True)
    robot.senses = {'odom'}
    robot.await_state('stale', 'the newest scan is')
    robot.await_command(moving=False)
    robot.senses = {'scan'}
    robot.await_state('stale', 'the newest odometry is')
    robot.senses = {'scan', 'odom'}
    robot.await_state('moving')
    robot.await_command(moving=True)
    robot.ranges = [math.nan] * 180
    robot.await_state('stale', 'none of its 180 beams has a reading')
    robot.ranges = [1.0] * 10_000  # 2 degrees from one to the next
    robot.await_state('stale', 'the laser scan has 10000 ranges')
    graph.wait_for(lambda: any(
        s.name == '/navigation' and 'the laser scan has 10000 ranges' in s.message
        for array in robot.diagnostics for s in array.status), 'the sentence in /diagnostics')
    robot.ranges = [math.inf] * 180
    robot.await_state('moving')
    robot.goal('nowhere')
    robot.await_state('no_transform', "nobody publishes frame 'nowhere'")
    robot.goal()
    robot.await_state('moving')


def test_cancel_plan_and_the_last_command(graph, robot):
    """A cancelled drive ends with a stop and silence; so does a node that goes away."""
    robot.goal()
    robot.await_command(moving=True)
    answer = graph.call(Trigger, '/navigation/cancel', Trigger.Request())
    assert (answer.success, answer.message) == (True, 'cancelled')
    robot.await_state('cancelled')
    assert not graph.call(Trigger, '/navigation/cancel', Trigger.Request()).success
    robot.plan()  # to the left
    robot.await_state('moving')
    robot.await_command(moving=True)
    graph.wait_for(lambda: robot.commands[-1].twist.angular.z > 0.0, 'a turn to the left')
    change = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
    assert graph.call(ChangeState, '/navigation/change_state', change).success
    graph.wait_for(lambda: not any_motion(robot.commands[-1]), 'a stop')
    change = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVATE))
    assert graph.call(ChangeState, '/navigation/change_state', change).success
    robot.await_state('idle')
    robot.goal()
    robot.await_command(moving=True)
    assert robot.process.stop(signal.SIGINT) == 0
    graph.wait_for(lambda: not any_motion(robot.commands[-1]), 'the last stop')
