"""Reception in a thread of its own, over a real graph."""

import subprocess
import sys
import threading
import time

from perception_nodes.ros.receiver import Receiver
import pytest
import rclpy
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

pytestmark = pytest.mark.graph
RELIABLE = QoSProfile(depth=50)
BEST_EFFORT = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)


class TidyReceiver(Receiver):
    """A receiver of strings that is left empty at the end."""

    def __init__(self, node):
        super().__init__(node)
        self.left = []

    def listen(self, topic, callback, **events):
        self.left.append(self.subscribe(
            String, topic, callback, RELIABLE, SubscriptionEventCallbacks(**events)))
        return self.left[-1]

    def leave(self, subscription):
        self.left.remove(subscription)
        self.unsubscribe(subscription)


@pytest.fixture
def receiver(graph):
    """Return a receiver on the test's node, which an executor spins as well."""
    receiver = TidyReceiver(graph.node)
    yield receiver
    for subscription in tuple(receiver.left):
        receiver.leave(subscription)


def receivers(node='test_driver'):
    return [t for t in threading.enumerate() if t.name == f'{node}-receiver']


def test_messages_of_two_topics_come_in_order_in_one_thread(graph, receiver):
    got, threads = {'one': [], 'two': []}, set()
    for topic, texts in got.items():
        def keep(msg, texts=texts):
            texts.append(msg.data)
            threads.add(threading.current_thread().name)
        receiver.listen(topic, keep)
    publishers = [graph.publisher(String, topic, RELIABLE) for topic in got]
    expected = [str(i) for i in range(20)]
    for text in expected:
        for publisher in publishers:
            publisher.publish(String(data=text))
    graph.wait_for(lambda: sum(map(len, got.values())) == 40, 'forty messages')
    assert got == {'one': expected, 'two': expected}
    assert threads == {'test_driver-receiver'}


def test_a_callback_that_throws_ends_nothing(graph, receiver):
    got = []

    def fail_once(msg):
        got.append(msg.data)
        if len(got) == 1:
            raise ValueError('no')

    receiver.listen('topic', fail_once)
    publisher = graph.publisher(String, 'topic', RELIABLE)
    publisher.publish(String(data='a'))
    publisher.publish(String(data='b'))
    graph.wait_for(lambda: got == ['a', 'b'], 'both messages')


def test_the_last_to_leave_ends_the_thread_and_it_starts_again(graph, receiver):
    got = []
    first = receiver.listen('one', got.append)
    second = receiver.listen('two', got.append)
    publisher = graph.publisher(String, 'two', RELIABLE)
    receiver.leave(first)
    publisher.publish(String(data='still here'))
    graph.wait_for(lambda: got, 'a message on the topic that is left')
    receiver.leave(second)
    assert not receivers()
    graph.wait_for(lambda: publisher.get_subscription_count() == 0, 'the topic to be left')
    receiver.listen('two', got.append)
    graph.wait_for(publisher.get_subscription_count, 'a new subscription')
    publisher.publish(String(data='again'))
    graph.wait_for(lambda: got[-1].data == 'again', 'a message after the second start')


def test_an_incompatible_offer_is_told(graph, receiver):
    told = []
    receiver.listen('topic', print, incompatible_qos=told.append)
    graph.publisher(String, 'topic', BEST_EFFORT, matched=False)
    graph.wait_for(lambda: told, 'the event')
    assert told[0].total_count == 1


def test_shutdown_ends_the_thread():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('ends', context=context)
    TidyReceiver(node).listen('topic', print)
    thread, = receivers('ends')
    context.shutdown()
    thread.join(timeout=60.0)
    assert not thread.is_alive()
    node.destroy_node()


_INTERRUPTED = """
import atexit
import threading
from perception_nodes.ros.process import run
from perception_nodes.ros.receiver import Receiver
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.subscription import SubscriptionEventCallbacks
from std_msgs.msg import String

def say(when):
    print(when, [thread.name for thread in threading.enumerate()])

class Interrupted(Node):
    def start(self):
        begin = threading.Thread.start

        def interrupted(thread):
            begin(thread)
            raise KeyboardInterrupt

        threading.Thread.start = interrupted
        Receiver(self).subscribe(String, 'topic', print, qos_profile_sensor_data,
                                 SubscriptionEventCallbacks())

    def halt(self):
        pass

atexit.register(say, 'exit')  # which comes when other threads have ended, but for daemons
run(lambda: [Interrupted('interrupted')], ['interrupted'])
say('left')
"""


def test_an_interrupt_while_the_thread_begins_still_lets_the_process_end():
    """Nobody else waits for the thread then; Python ended it inside of ROS, and so by abort()."""
    done = subprocess.run(
        [sys.executable, '-c', _INTERRUPTED], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "left ['MainThread', 'interrupted-receiver']", "exit ['MainThread']"]


def test_messages_do_not_wake_the_executor(graph, receiver, monkeypatch):
    got, waits = [], []

    class Counted(rclpy_implementation.WaitSet):
        def wait(self, timeout_ns):
            if not threading.current_thread().name.endswith('-receiver'):
                waits.append(threading.current_thread().name)
            super().wait(timeout_ns)

    monkeypatch.setattr(rclpy_implementation, 'WaitSet', Counted)
    receiver.listen('topic', got.append, incompatible_qos=print)
    publisher = graph.publisher(String, 'topic', RELIABLE)
    publisher.publish(String(data='both have met'))
    graph.wait_for(lambda: got, 'the first message')

    def is_quiet():  # matching wakes it
        before = len(waits)
        time.sleep(0.5)
        return len(waits) == before

    graph.wait_for(is_quiet, 'the executor to sleep')
    before = len(waits)
    for i in range(30):
        publisher.publish(String(data=str(i)))
        time.sleep(0.01)
    graph.wait_for(lambda: len(got) == 31, 'thirty messages more')
    assert len(waits) - before <= 3, waits
