"""A robot's messages: what is read of odometry, goals and plans, and what is told of a drive."""

import math

import pytest

pytest.importorskip('diagnostic_msgs', reason='the ROS message packages are not installed')
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped  # noqa: E402
from nav_msgs.msg import Odometry, Path  # noqa: E402
import numpy as np  # noqa: E402
from perception_nodes.conversions.decode_robot import (  # noqa: E402
    goal_from_msg,
    odometry_from_msg,
    plan_from_msg,
)
from perception_nodes.conversions.encode import header_to_msg  # noqa: E402
from perception_nodes.conversions.encode_navigation import (  # noqa: E402
    command_to_msg,
    observation_to_msg,
    status_to_msg,
)
from perception_nodes.conversions.encode_robot import odometry_to_msg  # noqa: E402
from perception_nodes.core.navigation import (  # noqa: E402
    NavigationParams,
    NavigationState,
    NavigationStep,
    ObservationBuilder,
)
from perception_nodes.core.types import LaserRanges, VelocityCommand  # noqa: E402


def test_odometry_comes_back_as_it_was_sent():
    pose = np.eye(4)
    pose[:3, 3] = 1.0, -2.0, 0.5
    pose[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    msg = odometry_to_msg(pose, VelocityCommand(0.4, -0.2), header_to_msg(5, 'odom'))
    reading = odometry_from_msg(msg)
    link = reading.odom_from_base
    assert (link.parent, link.child, link.stamp_ns) == ('odom', 'base_link', 5)
    assert link.translation_m == (1.0, -2.0, 0.5)
    assert link.quaternion_xyzw == pytest.approx((0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)))
    assert reading.velocity == VelocityCommand(0.4, -0.2)
    msg.child_frame_id = ''
    assert odometry_from_msg(msg).odom_from_base.child == 'base_link'


def test_odometry_without_a_pose_or_a_speed_is_refused():
    with pytest.raises(ValueError, match='the odometry has no pose: .* quaternion'):
        odometry_from_msg(Odometry(
            header=header_to_msg(0, 'odom'), pose=_with_orientation(0.0)))
    msg = Odometry(header=header_to_msg(0, 'odom'), pose=_with_orientation(1.0))
    msg.twist.twist.linear.x = math.nan
    with pytest.raises(ValueError, match='velocity nan m/s'):
        odometry_from_msg(msg)
    msg.header.frame_id = ''
    with pytest.raises(ValueError, match='it needs two different names'):
        odometry_from_msg(msg)


def _with_orientation(w):
    pose = Odometry().pose
    pose.pose.orientation.w = w
    return pose


def test_goals_and_plans_are_points_in_their_frame():
    goal = PoseStamped(header=header_to_msg(0, '/map'))
    goal.pose.position.x, goal.pose.position.y = 1.0, 2.0
    route = goal_from_msg(goal)
    assert route.frame_id == 'map'
    assert route.points_m.tolist() == [[1.0, 2.0, 0.0]]
    assert not route.is_plan
    plan = plan_from_msg(Path(header=header_to_msg(0, 'map'), poses=[goal, goal]))
    assert plan.is_plan
    assert plan.points_m.shape == (2, 3)
    with pytest.raises(ValueError, match='the plan has no poses'):
        plan_from_msg(Path(header=header_to_msg(0, 'map')))
    goal.pose.position.x = math.inf
    with pytest.raises(ValueError, match='not finite'):
        goal_from_msg(goal)


def test_commands_are_of_the_type_that_is_asked_for():
    header = header_to_msg(7, 'base_link')
    stamped = command_to_msg(VelocityCommand(0.5, -1.0), header, stamped=True)
    plain = command_to_msg(VelocityCommand(0.5, -1.0), header, stamped=False)
    assert isinstance(stamped, TwistStamped)
    assert isinstance(plain, Twist)
    assert stamped.twist == plain
    assert stamped.header == header
    assert (plain.linear.x, plain.angular.z) == (0.5, -1.0)


@pytest.mark.parametrize(('state', 'level'), [
    (NavigationState.MOVING, DiagnosticStatus.OK),
    (NavigationState.BLOCKED, DiagnosticStatus.WARN),
    (NavigationState.STALE, DiagnosticStatus.STALE),
    (NavigationState.NO_TRANSFORM, DiagnosticStatus.ERROR)])
def test_a_status_names_the_state_and_why(state, level):
    msg = status_to_msg('/navigation', NavigationStep(VelocityCommand(), state, 'because'), 1.25)
    assert (msg.level, msg.message, msg.name) == (level, state.value, '/navigation')
    assert {v.key: v.value for v in msg.values} == {
        'distance_to_goal_m': '1.250', 'reason': 'because'}


def test_what_a_policy_sees_can_be_looked_at():
    """One post ahead, the rest unseen: one point, its sectors' lines, and the goal."""
    builder = ObservationBuilder(NavigationParams())
    ranges = np.full(360, np.nan, np.float32)
    ranges[180] = 2.0
    builder.add(LaserRanges(ranges, -math.pi, math.radians(1.0), 0.1, 10.0, 0, 'laser'), np.eye(4))
    markers = observation_to_msg(
        builder.observe((3.0, 1.0), VelocityCommand()), header_to_msg(0, 'base_link')).markers
    by_name = {marker.ns: marker for marker in markers}
    assert [(p.x, p.y) for p in by_name['obstacles'].points] == [
        pytest.approx((2.0, 0.0), abs=1e-6)]
    assert len(by_name['seen'].points) == 2
    assert len(by_name['footprint'].points) == 5
    goal = by_name['goal'].pose.position
    assert (goal.x, goal.y) == pytest.approx((3.0, 1.0))
