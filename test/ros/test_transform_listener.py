"""Transforms over a real graph: two publishers, one listener, a worker thread that waits."""

import threading
import time

import numpy as np
from perception_nodes.core.transforms import TransformError
import pytest

pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is not installed')
from builtin_interfaces.msg import Time  # noqa: E402
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3  # noqa: E402
from perception_nodes.ros.transforms import TransformListener  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from tf2_msgs.msg import TFMessage  # noqa: E402

pytestmark = pytest.mark.graph

S = 1_000_000_000
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def tf_message(parent, child, stamp_s, x, w=1.0):
    """Build a message with one transform, shifted along x."""
    return TFMessage(transforms=[TransformStamped(
        header=Header(frame_id=parent, stamp=Time(sec=stamp_s)), child_frame_id=child,
        transform=Transform(translation=Vector3(x=x), rotation=Quaternion(w=w)))])


@pytest.fixture
def listener(graph):
    """Listen, after the static transform was sent: latched messages must still arrive."""
    static = graph.publisher(TFMessage, '/tf_static', LATCHED, matched=False)
    static.publish(tf_message('base_link', 'camera', 0, 0.25))
    listener = TransformListener(graph.node)
    yield listener
    listener.close()


@pytest.fixture
def tf(graph, listener):
    """Publish moving transforms."""
    return graph.publisher(TFMessage, '/tf', 100)


def test_a_worker_waits_for_the_transform_while_the_node_spins(listener, tf):
    """The newest transform is older than the image: the answer comes when the next one does."""
    tf.publish(tf_message('odom', 'base_link', 10, 1.0))
    first = listener.buffer.lookup('odom', 'camera', 10 * S, timeout_s=60.0)
    assert first[0, 3] == pytest.approx(1.25)
    later = threading.Timer(0.2, lambda: tf.publish(tf_message('odom', 'base_link', 11, 3.0)))
    started = time.monotonic()
    later.start()
    half_way = listener.buffer.lookup('odom', 'camera', 10 * S + S // 2, timeout_s=60.0)
    assert half_way[0, 3] == pytest.approx(2.25)
    assert 0.15 < time.monotonic() - started < 50.0


def test_a_late_transform_is_an_error_in_bounded_time(listener, tf):
    tf.publish(tf_message('odom', 'base_link', 10, 1.0))
    listener.buffer.lookup('odom', 'camera', 10 * S, timeout_s=60.0)
    started = time.monotonic()
    with pytest.raises(TransformError, match=r"'camera' to 'odom' at 10\.500 s: the newest of"):
        listener.buffer.lookup('odom', 'camera', 10 * S + S // 2, timeout_s=0.1)
    assert time.monotonic() - started < 30.0


def test_bad_transforms_are_ignored_and_the_good_ones_kept(listener, tf):
    """A quaternion of zeros is what an uninitialised publisher sends."""
    both = tf_message('odom', 'gripper', 10, 1.0, w=0.0)
    both.transforms += tf_message('odom', 'base_link', 10, 1.0).transforms
    tf.publish(both)
    found = listener.buffer.lookup('odom', 'camera', 10 * S, timeout_s=60.0)
    assert np.isfinite(found).all()
    with pytest.raises(
            TransformError, match=r"nobody publishes frame 'gripper'.*\(ignored: the transform"):
        listener.buffer.lookup('odom', 'gripper', 10 * S)


def test_a_clock_that_jumps_back_forgets_what_moved(graph, listener, tf):
    """Under /clock, a simulation that is reset must not be answered from its old run."""
    clock = graph.publisher(Clock, '/clock', 10, matched=False)
    graph.node.set_parameters([Parameter('use_sim_time', value=True)])
    graph.wait_for(clock.get_subscription_count, 'the node to listen to /clock')

    def at(sec):
        clock.publish(Clock(clock=Time(sec=sec)))
        graph.wait_for(lambda: graph.node.get_clock().now().nanoseconds == sec * S,
                       f'the clock to say {sec} s')

    at(100)
    tf.publish(tf_message('odom', 'base_link', 100, 1.0))
    assert listener.buffer.lookup('odom', 'camera', 100 * S, timeout_s=60.0)[0, 3] == 1.25
    at(1)
    with pytest.raises(TransformError, match="nobody publishes frame 'odom'"):
        listener.buffer.lookup('odom', 'camera', 100 * S)
    assert listener.buffer.lookup('base_link', 'camera', 1 * S)[0, 3] == 0.25
