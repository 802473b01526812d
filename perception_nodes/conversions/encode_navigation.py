"""What a robot on its way to a goal does and sees, as ROS messages."""

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, Twist, TwistStamped
import numpy as np
from perception_nodes.conversions.encode_robot import twist_to_msg
from perception_nodes.core.navigation import NavigationObservation, NavigationState, NavigationStep
from perception_nodes.core.types import VelocityCommand
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

LEVELS = {
    NavigationState.BLOCKED: DiagnosticStatus.WARN,
    NavigationState.NO_TRANSFORM: DiagnosticStatus.ERROR,
    NavigationState.STALE: DiagnosticStatus.STALE}

_LINE_M, _GOAL_M = 0.02, 0.2


def command_to_msg(
    command: VelocityCommand, header: Header, *, stamped: bool
) -> Twist | TwistStamped:
    """Convert a command to ``geometry_msgs/TwistStamped``, or to ``Twist``."""
    twist = twist_to_msg(command)
    return TwistStamped(header=header, twist=twist) if stamped else twist


def status_to_msg(name: str, step: NavigationStep, distance_m: float) -> DiagnosticStatus:
    """
    Convert a decision to ``diagnostic_msgs/DiagnosticStatus`` whose message is the state.

    :param name: Of the node.
    :param distance_m: To the goal; NaN where there is none.
    """
    values = {'distance_to_goal_m': f'{distance_m:.3f}', 'reason': step.reason}
    return DiagnosticStatus(
        level=LEVELS.get(step.state, DiagnosticStatus.OK), name=name, message=step.state.value,
        values=[KeyValue(key=key, value=value) for key, value in values.items()])


def observation_to_msg(observation: NavigationObservation, header: Header) -> MarkerArray:
    """
    Convert what a policy sees to ``visualization_msgs/MarkerArray`` in base_link.

    Namespaces: ``seen`` lines to where sectors end, ``obstacles`` their points, ``footprint``
    and ``goal`` (where the robot aims).
    """
    sectors = observation.ranges_m[0].astype(np.float64)
    angles = (np.arange(len(sectors)) + 0.5) / len(sectors) * 2.0 * np.pi - np.pi
    rows = np.flatnonzero(np.isfinite(sectors))
    ends = sectors[rows, None] * np.stack([np.cos(angles[rows]), np.sin(angles[rows])], axis=1)
    body = observation.footprint.outline_m()
    seen = _marker(header, 'seen', Marker.LINE_LIST, _LINE_M / 2.0, (0.4, 0.6, 1.0, 0.4))
    seen.points = [point for x, y in ends.tolist() for point in (Point(), Point(x=x, y=y))]
    obstacles = _marker(header, 'obstacles', Marker.POINTS, 2.0 * _LINE_M, (1.0, 0.3, 0.2, 1.0))
    obstacles.points = [Point(x=x, y=y) for x, y in observation.points_m.tolist()]
    footprint = _marker(header, 'footprint', Marker.LINE_STRIP, _LINE_M, (1.0, 1.0, 1.0, 1.0))
    footprint.points = [Point(x=x, y=y) for x, y in body]
    goal = _marker(header, 'goal', Marker.SPHERE, _GOAL_M, (0.2, 1.0, 0.3, 0.9))
    goal.scale.y = goal.scale.z = _GOAL_M
    goal.pose.position.x, goal.pose.position.y = observation.goal_xy_m
    return MarkerArray(markers=[seen, obstacles, footprint, goal])


def _marker(
    header: Header, namespace: str, kind: int, width_m: float,
    rgba: tuple[float, float, float, float],
) -> Marker:
    marker = Marker(header=header, ns=namespace, type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale.x = marker.scale.y = width_m
    red, green, blue, opacity = rgba
    marker.color = ColorRGBA(r=red, g=green, b=blue, a=opacity)
    return marker
