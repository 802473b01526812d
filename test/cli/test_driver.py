"""Goals one after the other, by what a navigation node says."""

from types import SimpleNamespace

from perception_nodes.core.navigation import NavigationState
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from nav_msgs.msg import Odometry  # noqa: E402
from perception_nodes.cli.driver import Driver  # noqa: E402

MOVING, REACHED, BLOCKED = (NavigationState[name].value for name in (
    'MOVING', 'REACHED', 'BLOCKED'))


class Graph:
    """Keeps what is published, and delivers what a robot would say."""

    def __init__(self):
        self.heard, self.sent = {}, []
        self.node = self

    def create_publisher(self, *arguments):
        return SimpleNamespace(
            publish=self.sent.append, get_subscription_count=lambda: 2)

    def create_subscription(self, kind, topic, callback, qos):
        self.heard[topic] = callback

    def drive(self, second):
        msg = Odometry()
        msg.header.stamp.sec = second
        self.heard['/odom'](msg)

    def say(self, *states):
        for state in states:
            self.heard['/navigation/status'](DiagnosticStatus(message=state))

    def goals(self):
        return [(goal.pose.position.x, goal.pose.position.y) for goal in self.sent]


@pytest.fixture
def graph():
    return Graph()


def test_each_goal_follows_the_one_before(graph):
    """What was said before a goal is driven to is of the one before."""
    driver = Driver(graph, [(1.0, 2.0), (3.0, 4.0)], {})
    graph.say(REACHED)
    assert not driver.is_ready()
    driver.start()
    graph.drive(5)
    assert driver.is_ready()
    assert graph.goals() == [(1.0, 2.0)]
    graph.say(REACHED, MOVING, REACHED)
    assert graph.goals() == [(1.0, 2.0), (3.0, 4.0)]
    graph.drive(7)
    graph.say(REACHED, MOVING, BLOCKED)
    assert driver.has_arrived()
    assert (driver.reached, driver.simulated_s) == (1, 2.0)


def test_a_robot_that_settles_at_the_last_goal_reaches_it_once(graph):
    driver = Driver(graph, [(1.0, 2.0)], {})
    driver.start()
    graph.drive(5)
    graph.say(MOVING, REACHED, MOVING, REACHED)
    assert driver.has_arrived()
    assert (driver.reached, len(graph.sent)) == (1, 1)


def test_a_goal_that_takes_too_long_is_given_up(graph):
    driver = Driver(graph, [(1.0, 2.0), (3.0, 4.0)], {})
    driver.start()
    for second in (5, 6, 70):
        graph.drive(second)
    assert graph.goals() == [(1.0, 2.0), (3.0, 4.0)]
    assert driver.reached == 0
