"""A node that works on the messages of one topic, and on no images."""

from collections.abc import Callable, Iterator
from typing import Any

from perception_nodes.core.health import NodeHealth, STALE_AFTER_S, Verdict
from perception_nodes.ros.lifecycle_node import C, ManagedNode, P, Report
from rclpy.qos import qos_profile_sensor_data


class MessageNode(ManagedNode[P, C]):
    """
    Base of the nodes whose input is the result of another node.

    A concrete node calls :meth:`hear` in its :meth:`load`. Everything runs on the executor; one
    bad message is counted and said, and never ends the node.
    """

    health: NodeHealth | None = None  # while the node is active

    def hear(self, msg_type: Any, topic: str, work: Callable[[Any], None]) -> None:
        """Have ``work`` called with each message of ``topic`` while the node is active."""
        self._heard = (msg_type, self.resolve_topic_name(topic))
        self._work = work

    def attempt(self, work: Callable[[], None]) -> None:
        """Do something of which a failure is counted, and said in the diagnostics."""
        try:
            work()
        except Exception as error:  # one bad message must not end the node
            self.fail(f'dropped a message: {str(error) or type(error).__name__}')

    def fail(self, sentence: str) -> None:
        """Count a message that came to nothing, and say why."""
        if self.health is not None and self.context.ok():
            self.health.failed(sentence)
            self.get_logger().error(sentence, throttle_duration_sec=5.0)

    def begin(self) -> None:
        """Take messages from now on."""
        self._subscription = self.create_subscription(
            *self._heard, self._receive, qos_profile_sensor_data)
        self.health = NodeHealth()
        self.get_logger().info(f'active, listening to {self._heard[1]}')

    def halt(self) -> None:
        """Take no more messages; what ran on the executor is done."""
        if self.health is not None:
            self.health = None
            self.destroy_subscription(self._subscription)

    def _receive(self, msg: Any) -> None:
        if self.health is not None:
            self.health.received()
            self.health.completed()
            self.attempt(lambda: self._work(msg))

    def reports(self) -> Iterator[Report]:
        """Yield how the messages fare."""
        if self.health is not None:
            concern = self._concern(self.health)
            yield ('', Verdict('warn', concern) if concern else Verdict('ok', 'active'),
                   self.health.values())

    def _concern(self, health: NodeHealth) -> str:
        if failure := health.recent_failure():
            return failure
        return '' if health.idle_s() < STALE_AFTER_S else self._why_silent(*self._heard)

    def _why_silent(self, msg_type: Any, topic: str) -> str:
        publishers = self.get_publishers_info_by_topic(topic)
        if not publishers:
            return (f"nothing arrives on '{topic}': no node publishes it; start the one that "
                    'does, or remap the topic')
        wanted = f'{msg_type.__module__.partition(".")[0]}/msg/{msg_type.__name__}'
        carried = ', '.join(sorted({p.topic_type for p in publishers}))
        return (f"nothing arrives on '{topic}', though {len(publishers)} node(s) publish "
                f'{carried} there and {wanted} is wanted: is one of them active, and does it '
                'get its own input?')
