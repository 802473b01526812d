"""A bag back onto the graph: the recorded bytes, at the recorded times."""

import argparse
from array import array
from collections.abc import Callable
from contextlib import nullcontext, suppress
import logging
import threading
import time
from types import TracebackType

import numpy as np
from perception_nodes.cli.lockstep import meet, part, Replies
from perception_nodes.cli.progress import progress
from perception_nodes.conversions.encode import header_to_msg
from perception_nodes.evaluation.bag import Bag, header_stamp_ns, RawMessage, Topic
from perception_nodes.ros.session import message_class, Session
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import QosDurability, QosReliability
from rosgraph_msgs.msg import Clock

log = logging.getLogger(__name__)

_CLOCK_PERIOD_S = 0.005
_DEPTH, _LATCHED_DEPTH = 10, 1000
_PICTURES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')


class Timeline:
    """
    Where in a recording we are, in nanoseconds of its own time.

    :param rate: How many times faster than recorded; None: as fast as the messages are sent.
    """

    def __init__(self, stamp_ns: int, rate: float | None) -> None:
        self._rate = rate
        self.begin(stamp_ns)

    def begin(self, stamp_ns: int) -> None:
        """Let the recording start at ``stamp_ns`` now."""
        self._begin_ns = self._last_ns = stamp_ns
        self._begin_s = time.monotonic()

    def wait_for(self, stamp_ns: int) -> float:
        """Wait until ``stamp_ns``; return by how many seconds that was too late."""
        self._last_ns = max(self._last_ns, stamp_ns)
        if self._rate is None:
            return 0.0
        due_s = self._begin_s + (stamp_ns - self._begin_ns) * 1e-9 / self._rate
        early_s = due_s - time.monotonic()
        if early_s > 0.0:
            time.sleep(early_s)
        return max(0.0, time.monotonic() - due_s)

    def now_ns(self) -> int:
        """Return the time of the recording."""
        if self._rate is None:
            return self._last_ns
        return self._begin_ns + int((time.monotonic() - self._begin_s) * self._rate * 1e9)


class ClockPublisher:
    """Publishes a timeline on /clock, about 200 times a second, while it is open."""

    def __init__(self, session: Session, timeline: Timeline) -> None:
        self._timeline = timeline
        self._publisher = session.node.create_publisher(
            Clock, '/clock', QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._tick, name='clock', daemon=True)

    def __enter__(self) -> 'ClockPublisher':
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._closing.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._closing.wait(_CLOCK_PERIOD_S):
            stamp = header_to_msg(self._timeline.now_ns(), '').stamp
            self._publisher.publish(Clock(clock=stamp))


class Pace:
    """
    Holds a bag back until each picture has been answered.

    :param pictures: The topic whose messages are answered.
    """

    def __init__(self, replies: Replies, pictures: str, timeout_s: float) -> None:
        self.unanswered = 0
        self._replies = replies
        self._pictures = pictures
        self._timeout_s = timeout_s
        self._open_ns: int | None = None

    def hold(self, message: RawMessage) -> None:
        """Wait, before a picture is published, for the answer to the one before."""
        if message.topic == self._pictures:
            self.finish()
            self._open_ns = header_stamp_ns(message.cdr)

    def finish(self) -> None:
        """Wait for the last answer."""
        if self._open_ns is None:
            return
        if not self._replies.wait_for(self._open_ns, self._timeout_s):
            self.unanswered += 1
            log.warning('no answer in time to the picture of %.3f s', self._open_ns * 1e-9)
        self._open_ns = None


def play(bag: Bag, arguments: argparse.Namespace) -> int:
    """Run ``perception play`` on a bag; the summary goes to standard output."""
    start_ns = bag.start_ns + int(arguments.start * 1e9)
    if start_ns >= bag.end_ns:
        raise ValueError(
            f'start is {arguments.start:g} s, but bag {bag.path} lasts '
            f'{(bag.end_ns - bag.start_ns) * 1e-9:.1f} s')
    chosen = _chosen(bag, arguments.topics)
    for sentence in bag.damage:
        log.warning('%s', sentence)
    told = len(bag.damage)
    with Session('perception_play') as session:
        publishers = _publishers(session, chosen, dict(arguments.remap or ()))
        pace_input = _pace_input(publishers, bag, arguments) if arguments.pace_by else ''
        replies = meet(
            session, lambda: sum(p.get_subscription_count() for p in publishers.values()),
            f'the topics of {bag.path}', arguments)
        pace = Pace(replies, pace_input, arguments.pace_timeout) if replies else None
        timeline = Timeline(start_ns, arguments.rate or (None if pace else 1.0))
        player = _Player(bag, publishers, timeline, pace)
        clock = ClockPublisher(session, timeline) if arguments.clock else nullcontext()
        total = None if arguments.loop else sum(chosen[name].count for name in publishers)
        with suppress(KeyboardInterrupt), progress(total, 'message') as bar, clock:
            player.play(start_ns, bar.update)
            while arguments.loop:
                player.play(start_ns, bar.update)
            part(publishers.values())
        for sentence in bag.damage[told:]:
            log.warning('%s', sentence)
        print(player.summary())
    return 0


class _Player:
    """Publishes the messages of a bag and keeps count."""

    def __init__(self, bag: Bag, publishers: dict[str, Publisher], timeline: Timeline,
                 pace: Pace | None) -> None:
        self._bag = bag
        self._publishers = publishers
        self._timeline = timeline
        self._pace = pace
        self._latched = [name for name, publisher in publishers.items()
                         if publisher.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL]
        self._late_ms = array('d')
        self._begin_s: float | None = None  # of the first time through
        self._took_s = 0.0

    def play(self, start_ns: int, published: Callable[[], object]) -> None:
        """
        Publish once from ``start_ns`` to the end.

        Latched messages from before the start come first: they hold at the start, too.
        """
        if self._begin_s is None:
            self._begin_s = time.monotonic()
        for message in self._bag.raw(self._latched) if self._latched else ():
            if message.stamp_ns < start_ns:
                self._publishers[message.topic].publish(message.cdr)
        self._timeline.begin(start_ns)
        for message in self._bag.raw(list(self._publishers), start_ns):
            if self._pace:
                self._pace.hold(message)
            self._late_ms.append(self._timeline.wait_for(message.stamp_ns) * 1e3)
            self._publishers[message.topic].publish(message.cdr)
            published()
            self._took_s = time.monotonic() - self._begin_s
        if self._pace:
            self._pace.finish()

    def summary(self) -> str:
        text = f'{len(self._late_ms)} message(s) published in {self._took_s:.1f} s'
        if self._pace:
            return f'{text}, {self._pace.unanswered} picture(s) without an answer'
        if self._late_ms:
            p50, p99 = np.percentile(self._late_ms, [50, 99])
            text += f', late by p50 {p50:.1f}, p99 {p99:.1f}, max {max(self._late_ms):.1f} ms'
        return text


def _chosen(bag: Bag, names: list[str] | None) -> dict[str, Topic]:
    if not bag.count:
        raise ValueError(f'bag {bag.path} holds no message')
    if names is None:
        return bag.topics
    full = [f'/{name.lstrip("/")}' for name in names]
    for name in full:
        if name not in bag.topics:
            raise ValueError(
                f'bag {bag.path} has no topic {name}; it has {", ".join(bag.topics)}')
    return {name: bag.topics[name] for name in full}


def _publishers(
    session: Session, topics: dict[str, Topic], renamed: dict[str, str]
) -> dict[str, Publisher]:
    """Return a publisher for each topic whose type is installed; the others are said."""
    for name in renamed:
        if name not in topics:
            raise ValueError(f'{name} cannot be renamed: it is none of {", ".join(topics)}')
    publishers = {}
    for name, topic in topics.items():
        try:
            message = message_class(topic.type_name)
        except ImportError as error:
            log.warning('left out %s with %d message(s): %s', name, topic.count, error)
            continue
        publishers[name] = session.node.create_publisher(
            message, session.topic(renamed.get(name, name)), _offer(topic))
    if not publishers:
        raise ValueError('no topic of the bag can be published: no message type is installed')
    return publishers


def _offer(topic: Topic) -> QoSProfile:
    """Offer what was offered when the topic was recorded; reliable where the bag is silent."""
    latched = all(q.durability == QosDurability.TRANSIENT_LOCAL for q in topic.offered_qos)
    if not topic.offered_qos:
        latched = topic.name.endswith('tf_static')  # latched by convention
    best_effort = any(q.reliability == QosReliability.BEST_EFFORT for q in topic.offered_qos)
    return QoSProfile(
        depth=_LATCHED_DEPTH if latched else _DEPTH,
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)


def _pace_input(publishers: dict[str, Publisher], bag: Bag, arguments: argparse.Namespace) -> str:
    pictures = [name for name in publishers if bag.topics[name].type_name in _PICTURES]
    if arguments.pace_input:
        if arguments.pace_input not in pictures:
            raise ValueError(f'--pace-input is {arguments.pace_input}; it must be one of '
                             f'{", ".join(pictures) or "the image topics, and there is none"}')
        return str(arguments.pace_input)
    colour = [name for name in pictures if '/color/' in name] or pictures
    if len(colour) != 1:
        raise ValueError('--pace-by needs --pace-input TOPIC to know which messages are answered;'
                         f' image topics are {", ".join(pictures) or "absent"}')
    return colour[0]

