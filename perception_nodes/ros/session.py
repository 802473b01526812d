"""
A node for programs that are not nodes: command-line verbs, evaluators, tests.

    with Session('perception_play') as session:
        session.node.create_publisher(...)

Callbacks run in a thread of the session, so the program's own thread is free to wait, and an
interrupt never lands inside rclpy.
"""

from collections.abc import Callable, Iterable
import importlib
import signal
import threading
import time
from types import TracebackType
from typing import Any

from perception_nodes.ros import transport
import rclpy
from rclpy.context import Context
from rclpy.exceptions import InvalidTopicNameException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rclpy.validate_full_topic_name import validate_full_topic_name

_INTERRUPT_PERIOD_S = 0.5


class Session:
    """
    Opens the graph, spins one node in a thread, and leaves nothing behind.

    Signals stay with the program: an interrupt is an ordinary ``KeyboardInterrupt`` in its main
    thread. A callback that raises ends the program the same way, with the callback's error
    (where interrupts are ignored, when the session is left).
    """

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._failure: BaseException | None = None

    def __enter__(self) -> 'Session':
        transport.tune()
        self._context = Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(self._node_name, context=self._context, start_parameter_services=False)
        self._closing = False
        self._close_request = self.node.create_guard_condition(lambda: None)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name='session', daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        # shutting an executor down while it prepares to wait leaves it waiting for ever
        self._closing = True
        self._close_request.trigger()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()
        if self._failure is not None:
            raise self._failure from None

    def wait_for(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Return whether ``condition`` returned something true within ``timeout_s`` seconds."""
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() >= end_s:
                return False
            time.sleep(0.02)
        return True

    def unsubscribe(self, subscription: Subscription) -> None:
        """
        End a subscription of the node; its callback may still run once or twice.

        This happens in the session's thread: destroyed from another one, it may be missing when
        the executor begins to wait for it, which ends the session with InvalidHandle.
        """
        self._executor.create_task(self.node.destroy_subscription, subscription)

    def stop(self, timer: Timer) -> None:
        """
        End a timer of the node; its callback may still run once or twice.

        This happens in the session's thread: cancelled from another one just before it is
        called, it ends the session with RCLError.
        """
        self._executor.create_task(self.node.destroy_timer, timer)

    def topic(self, name: str) -> str:
        """
        Return the full name of a topic; one without a leading slash is taken from the root.

        :raises ValueError: If ROS does not allow the name.
        """
        full = f'/{name.lstrip("/")}'
        try:
            validate_full_topic_name(full)
        except InvalidTopicNameException as error:
            raise ValueError(
                f"'{name}' is no topic name: use letters, digits, underscores and "
                'slashes, and no digit at the start of a part') from error
        return full

    def _spin(self) -> None:
        try:
            while not self._closing:
                self._executor.spin_once()
        except BaseException as error:  # kept for the main thread, which is woken here
            self._failure = error
            # an interrupt that comes just before the main thread falls asleep does not wake it
            while not self._closing:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                time.sleep(_INTERRUPT_PERIOD_S)


def message_class(type_name: str) -> Any:
    """
    Return the Python class of ``package/msg/Name``.

    :raises ImportError: If the package is not installed or has no such message.
    """
    package, _, name = type_name.replace('/msg/', '/').partition('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ImportError(
            f'message type {type_name} is not installed here: install the package '
            f"'{package}' that defines it") from error


def qos_for_all(publishers: Iterable[TopicEndpointInfo], depth: int) -> QoSProfile:
    """
    Return the strictest subscription that every one of ``publishers`` serves.

    Reliable and latched where all of them are; one best-effort publisher makes it best effort.
    """
    profiles = [publisher.qos_profile for publisher in publishers]
    reliable = all(p.reliability == ReliabilityPolicy.RELIABLE for p in profiles)
    latched = all(p.durability == DurabilityPolicy.TRANSIENT_LOCAL for p in profiles)
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)
