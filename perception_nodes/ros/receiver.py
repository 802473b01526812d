"""
A thread that waits for the images of a process, and for nothing else.

rclpy's executor asks every service, timer and event of all its nodes whether to wait for it,
twice per message. With four nodes in a process that costs more than receiving a VGA image, so
images, which come often, are waited for apart from everything else, which comes seldom.
"""

from collections.abc import Callable
from contextlib import ExitStack
import threading
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import EventHandler, SubscriptionEventCallbacks
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription

_CHECK_NS = 1_000_000_000  # how often a silent receiver looks whether ROS has shut down


class Receiver:
    """
    Subscribes on behalf of a node; callbacks run one after the other in a thread of its own.

    The thread lives as long as there are subscriptions and ROS has not shut down; the process
    waits for it.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._subscriptions: tuple[Any, ...] = ()
        self._thread: threading.Thread | None = None

    def subscribe(
        self, msg_type: Any, topic: str, callback: Callable[[Any], None], qos: QoSProfile,
        event_callbacks: SubscriptionEventCallbacks,
    ) -> Subscription:
        """
        Subscribe as ``Node.create_subscription`` does.

        Events of the subscription are received here as well: an executor that waits for them
        wakes up for every message.
        """
        subscription = self._node.create_subscription(
            msg_type, topic, callback, qos, callback_group=_NotForExecutors(),
            event_callbacks=event_callbacks)
        self._subscriptions += (subscription,)
        if self._thread is None:
            self._changed = GuardCondition(None, None, context=self._node.context)
            # no daemon: where an interrupt comes while it starts, nobody else waits for its end,
            # and Python would end it inside of ROS, which aborts the process
            self._thread = threading.Thread(
                target=self._receive, name=f'{self._node.get_name()}-receiver')
            self._thread.start()
        self._changed.trigger()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Unsubscribe; no callback runs any more after the last subscription is gone."""
        self._subscriptions = tuple(s for s in self._subscriptions if s is not subscription)
        self._changed.trigger()
        if not self._subscriptions and self._thread is not None:
            self._thread.join()
            self._thread = None
            self._changed.destroy()
        self._node.destroy_subscription(subscription)

    def _receive(self) -> None:
        context = self._node.context
        while context.ok() and (subscriptions := self._subscriptions):
            events = [event for s in subscriptions for event in s.event_handlers]
            with ExitStack() as held:  # so that nobody destroys what is waited for
                for handle in (context.handle, self._changed.handle,
                               *(s.handle for s in subscriptions), *events):
                    held.enter_context(handle)
                try:
                    self._wait_on(subscriptions, events)
                except rclpy_implementation.RCLError:
                    if context.ok():  # else ROS has shut down in between
                        raise

    def _wait_on(
        self, subscriptions: tuple[Any, ...], events: list[EventHandler]
    ) -> None:
        """Serve these subscriptions until there are others."""
        context = self._node.context
        wait_set = rclpy_implementation.WaitSet(
            len(subscriptions), 1, 0, 0, 0, len(events), context.handle)
        while context.ok() and subscriptions is self._subscriptions:
            wait_set.clear_entities()
            wait_set.add_guard_condition(self._changed.handle)
            for subscription in subscriptions:
                wait_set.add_subscription(subscription.handle)
            for event in events:
                event.add_to_wait_set(wait_set)
            wait_set.wait(_CHECK_NS)
            ready = wait_set.get_ready_entities('subscription')
            for event in events:
                if event.is_ready(wait_set):
                    self._call(event.callback, event.take_data())
            for subscription in subscriptions:
                if subscription.handle.pointer in ready:
                    taken = subscription.handle.take_message(subscription.msg_type, False)
                    if taken is not None:
                        self._call(subscription.callback, taken[0])

    def _call(self, callback: Callable[[Any], None], argument: Any) -> None:
        try:
            callback(argument)
        except Exception as error:  # one message must not end the reception of all others
            self._node.get_logger().error(
                f'a callback failed: {error or type(error).__name__}', throttle_duration_sec=5.0)


class _NotForExecutors(CallbackGroup):
    """Keeps executors from what is in it."""

    def can_execute(self, entity: Any) -> bool:
        """Refuse."""
        return False

    def beginning_execution(self, entity: Any) -> bool:
        """Refuse."""
        return False

    def ending_execution(self, entity: Any) -> None:
        """Never get here."""
