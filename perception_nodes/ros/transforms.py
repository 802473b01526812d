"""The node's ear for /tf and /tf_static."""

from collections.abc import Callable
from typing import Any

from perception_nodes.conversions.decode import transform_from_msg
from perception_nodes.core.transforms import TransformBuffer
from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

_DYNAMIC = QoSProfile(depth=100)
_STATIC = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TransformListener:
    """
    Fills a :class:`TransformBuffer` from the graph.

    Ask :attr:`buffer` from a worker thread: a wait there ends as soon as the transform arrives,
    while the executor goes on receiving. A wait inside a callback would keep it from arriving.

    :param buffer: One to fill; several nodes of a process can read the same.
    """

    def __init__(self, node: Node, buffer: TransformBuffer | None = None) -> None:
        self.buffer = buffer or TransformBuffer()
        self._node = node
        self._subscriptions = [
            node.create_subscription(TFMessage, '/tf', self._receiver(False), _DYNAMIC),
            node.create_subscription(TFMessage, '/tf_static', self._receiver(True), _STATIC)]
        # one nanosecond back is enough; the clock itself changes when use_sim_time is set
        self._jumps = node.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1),
                          on_clock_change=True),
            post_callback=self._on_jump)

    def close(self) -> None:
        """Stop listening."""
        self._jumps.unregister()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _receiver(self, static: bool) -> Callable[[Any], None]:
        def receive(msg: TFMessage) -> None:
            good = []
            for transform in msg.transforms:
                try:
                    good.append(transform_from_msg(transform))
                except ValueError as error:
                    self.buffer.refuse(transform.child_frame_id.lstrip('/'), str(error))
                    self._node.get_logger().warning(
                        f'ignored {error}', throttle_duration_sec=5.0)
            self.buffer.add(good, static=static)
        return receive

    def _on_jump(self, jump: TimeJump) -> None:
        self.buffer.reset()
