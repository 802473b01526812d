"""A node for programs that are not nodes."""

import signal
import time
from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
from perception_nodes.ros.session import message_class, qos_for_all, Session  # noqa: E402
from rclpy.qos import (  # noqa: E402
    DurabilityPolicy,
    qos_profile_sensor_data,
    QoSProfile,
    ReliabilityPolicy,
)
from std_msgs.msg import String  # noqa: E402

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.mark.graph
class TestSession:
    def test_it_can_be_left_in_the_middle_of_work(self):
        for _ in range(20):
            with Session('test_busy') as session:
                publisher = session.node.create_publisher(String, '/busy', 10)
                session.node.create_subscription(String, '/busy', lambda message: None, 10)
                for _ in range(20):
                    publisher.publish(String())

    def test_subscriptions_can_end_while_messages_come(self):
        """The executor never meets one that is half destroyed."""
        with Session('test_unsubscribe') as session:
            publisher = session.node.create_publisher(String, '/often', 10)
            for _ in range(60):
                some = [session.node.create_subscription(String, '/often', lambda message: None, 1)
                        for _ in range(20)]
                for subscription in some:
                    publisher.publish(String())
                    session.unsubscribe(subscription)
            assert session.wait_for(lambda: not list(session.node.subscriptions), 60.0)

    def test_timers_can_end_while_they_run_out(self):
        """The executor never calls one that was cancelled meanwhile."""
        with Session('test_stop') as session:
            for _ in range(200):
                timer = session.node.create_timer(1e-4, lambda: None)
                time.sleep(2e-3)
                session.stop(timer)
            assert session.wait_for(lambda: not list(session.node.timers), 60.0)

    def test_an_error_in_a_callback_ends_the_program(self):
        def fail(message):
            raise ValueError('no words')

        # a shell may have started this process with interrupts ignored
        usual = signal.signal(signal.SIGINT, signal.default_int_handler)
        start_s = time.monotonic()
        with pytest.raises(ValueError, match='no words'), Session('test_error') as session:
            session.node.create_subscription(String, '/failing', fail, LATCHED)
            session.node.create_publisher(String, '/failing', LATCHED).publish(String())
            time.sleep(60)
        signal.signal(signal.SIGINT, usual)
        assert time.monotonic() - start_s < 30.0

    def test_the_arguments_of_the_program_are_not_those_of_ros(self, monkeypatch):
        monkeypatch.setattr('sys.argv', ['play', '--ros-args', '--nonsense', '/a:=/b'])
        with Session('test_arguments') as session:
            publisher = session.node.create_publisher(String, '/a', 1)
            assert publisher.topic_name == '/a'

    def test_topic_names(self):
        session = Session('test_names')
        assert session.topic('camera/image') == session.topic('/camera/image') == '/camera/image'
        for name in ('', 'bad name', '/1st', '/a//b'):
            with pytest.raises(ValueError, match=f"'{name}' is no topic name"):
                session.topic(name)


def test_message_classes_by_name():
    assert message_class('std_msgs/msg/String') is String
    for name in ('no_msgs/msg/Thing', 'std_msgs/msg/Thing'):
        with pytest.raises(ImportError, match=f'message type {name} is not installed here'):
            message_class(name)


@pytest.mark.parametrize(('offers', 'reliable', 'latched'), [
    ([LATCHED], True, True),
    ([LATCHED, QoSProfile(depth=5)], True, False),
    ([LATCHED, qos_profile_sensor_data], False, False),
])
def test_a_subscription_that_all_publishers_serve(offers, reliable, latched):
    qos = qos_for_all([SimpleNamespace(qos_profile=offer) for offer in offers], depth=7)
    assert qos.depth == 7
    assert (qos.reliability == ReliabilityPolicy.RELIABLE) is reliable
    assert (qos.durability == DurabilityPolicy.TRANSIENT_LOCAL) is latched
