"""Waiting for the other side of a topic: to be there, and to answer."""

import argparse
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
import logging
import threading
import time

from perception_nodes.evaluation.bag import header_stamp_ns
from perception_nodes.ros.session import message_class, qos_for_all, Session
from rclpy.duration import Duration
from rclpy.publisher import Publisher

log = logging.getLogger(__name__)

_MATCH_TIMEOUT_S = 2.0
_PARTING_S = 0.5  # a receiver may take longer to confirm, but has the data by then
_SETTLE_S = 0.3  # the other side of a match may learn of it a little later


class Replies:
    """
    Remembers the stamps of the messages on a topic, whatever their type.

    :raises ValueError: If messages of the topic do not begin with a header.
    :raises ImportError: If its message type is not installed.
    """

    def __init__(self, session: Session, topic: str) -> None:
        publishers = session.node.get_publishers_info_by_topic(topic)
        if not publishers:
            raise ValueError(f'nobody publishes {topic}: is the node running, is the name right?')
        type_name = publishers[0].topic_type
        message = message_class(type_name)
        if next(iter(message.get_fields_and_field_types().items())) != (
                'header', 'std_msgs/Header'):
            raise ValueError(
                f'{topic} carries {type_name}, which has no header to compare stamps with')
        self._stamps_ns: deque[int] = deque(maxlen=1000)
        self._changed = threading.Condition()
        subscription = session.node.create_subscription(
            message, topic, self._remember, qos_for_all(publishers, depth=50), raw=True)
        session.wait_for(subscription.get_publisher_count, _MATCH_TIMEOUT_S)

    def wait_for(self, stamp_ns: int, timeout_s: float) -> bool:
        """Return whether a message with this stamp came within ``timeout_s`` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: stamp_ns in self._stamps_ns, timeout_s):
                return False
            self._stamps_ns.remove(stamp_ns)  # a loop shows the same stamps again
            return True

    def _remember(self, cdr: bytes) -> None:
        with self._changed:
            self._stamps_ns.append(header_stamp_ns(cdr))
            self._changed.notify()


def part(publishers: Iterable[Publisher]) -> None:
    """Give reliable subscriptions a moment to get what was published last."""
    end_s = time.monotonic() + _PARTING_S
    for publisher in publishers:
        rest_s = max(0.0, end_s - time.monotonic())
        publisher.wait_for_all_acked(Duration(seconds=rest_s))


def meet(
    session: Session, listeners: Callable[[], int], topic: str, arguments: argparse.Namespace
) -> Replies | None:
    """
    Wait for those who shall take part, and say who is missing.

    :param listeners: Counts those who listen to what will be published.
    :param topic: What will be published.
    :param arguments: ``wait_for``, ``wait`` (seconds) and ``pace_by`` of the command line.
    :return: The answers to pace by, if asked for.
    :raises ValueError: If nobody publishes the answers.
    """
    pace_by = session.topic(arguments.pace_by) if arguments.pace_by else None
    awaited = [session.topic(name) for name in arguments.wait_for] + ([pace_by] if pace_by else [])
    for name in awaited:
        if not session.wait_for(partial(session.node.count_publishers, name), arguments.wait):
            log.warning('nobody publishes %s after %g s', name, arguments.wait)
    replies = Replies(session, pace_by) if pace_by else None
    if session.wait_for(listeners, arguments.wait):
        time.sleep(_SETTLE_S)
    else:
        log.warning('nobody listens to %s after %g s; publishing all the same: is the node '
                    'running, and does it listen to this name?', topic, arguments.wait)
    return replies
