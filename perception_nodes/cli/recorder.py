"""Topics of the graph into a bag, as they were serialised."""

import argparse
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
import logging
from pathlib import Path
import threading
import time
from types import TracebackType
from typing import Any

from perception_nodes.cli.concealment import Concealer
from perception_nodes.evaluation.bag_writer import BagWriter, Storage
from perception_nodes.ros.session import message_class, qos_for_all, Session
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

log = logging.getLogger(__name__)

_DEPTH = 50
_WAITING_BYTES = 256 << 20  # what a slow disk may owe before messages are dropped
_LOOK_S = 0.2
_SAVE_S = 1.0


class Recorder:
    """
    Subscribes to topics as they appear and writes what arrives.

    One thread receives, another writes, so a slow disk does not slow the graph; what waits
    between them is bounded, and what does not fit is dropped and counted.

    :param topics: Full names; None for every topic that is not hidden.
    :param concealer: What images go through before they are written; those that it refuses are
        left out and counted.
    :raises OSError: If the bag cannot be begun.
    """

    def __init__(self, session: Session, out: Path, topics: Collection[str] | None = None,
                 storage: Storage = 'mcap', concealer: Concealer | None = None) -> None:
        self.dropped: Counter[str] = Counter()
        self.withheld: Counter[str] = Counter()  # could not be anonymised
        self.types: dict[str, str] = {}  # of the topics that are recorded
        self.failure: OSError | None = None
        self._session, self._node = session, session.node
        self._topics = topics
        self._concealer = concealer
        self._subscriptions: dict[str, Subscription] = {}
        self._unknown: set[str] = set()
        self._waiting_bytes = 0
        self._closed = False
        self._lock = threading.Lock()
        self._saved_s = time.monotonic()
        self._thread = ThreadPoolExecutor(1, 'bag writer')
        # sqlite3 wants to be opened where it is written
        self._writer = self._thread.submit(BagWriter, out, storage).result()

    def __enter__(self) -> 'Recorder':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        for subscription in self._subscriptions.values():
            self._session.unsubscribe(subscription)
        with self._lock:  # a callback may still be under way
            self._closed = True
        self._thread.submit(self._guarded, self._writer.close)
        self._thread.shutdown()

    @property
    def counts(self) -> dict[str, int]:
        """Return how many messages of each topic have been written."""
        return self._writer.counts

    def attend(self) -> None:
        """Look for new topics and save what was written; call this a few times a second."""
        for name, _ in self._node.get_topic_names_and_types():
            if self._is_wanted(name):
                publishers = [p for p in self._node.get_publishers_info_by_topic(name)
                              if p.node_name != self._node.get_name()]
                if publishers:
                    self._follow(name, publishers)
        if time.monotonic() - self._saved_s > _SAVE_S:
            self._saved_s = time.monotonic()
            self._thread.submit(self._guarded, self._writer.checkpoint)

    def _is_wanted(self, name: str) -> bool:
        if name in self._unknown:
            return False
        if self._topics is not None:
            return name in self._topics
        return not any(part.startswith('_') for part in name.split('/'))

    def _follow(self, name: str, publishers: list[TopicEndpointInfo]) -> None:
        """Subscribe, or subscribe anew where a later publisher offers less."""
        qos = qos_for_all(publishers, _DEPTH)
        known = self._subscriptions.get(name)
        if known is not None and not _asks_too_much(known.qos_profile, qos):
            return
        type_name = self.types.get(name, publishers[0].topic_type)
        try:
            message = message_class(type_name)
            if self._concealer is not None:
                self._concealer.check(type_name, message)
            # before the bag knows the topic: an interrupt may come between the two
            self.types[name] = type_name
            if known is None:
                offered = [_recorded_qos(publisher) for publisher in publishers]
                self._thread.submit(self._writer.add_topic, name, type_name, offered).result()
        except (ImportError, ValueError) as error:
            self._unknown.add(name)
            log.warning('not recording %s: %s', name, error)
            return
        except OSError as error:
            self.failure = error
            return
        if known is not None:
            self._session.unsubscribe(known)
        self._subscriptions[name] = self._node.create_subscription(
            message, name, partial(self._receive, name), qos, raw=True)
        log.info('recording %s [%s]', name, type_name)

    def _receive(self, topic: str, cdr: bytes, info: dict[str, Any]) -> None:
        with self._lock:
            if self._closed:
                return
            if self._waiting_bytes + len(cdr) <= _WAITING_BYTES:
                self._waiting_bytes += len(cdr)
                self._thread.submit(self._write, topic, info['received_timestamp'], cdr)
                return
        self.dropped[topic] += 1
        if self.dropped[topic] == 1:
            slow = 'disk is' if self._concealer is None else 'disk or the model is'
            log.warning('the %s too slow: dropping messages of %s', slow, topic)

    def _write(self, topic: str, stamp_ns: int, cdr: bytes) -> None:
        kept = self._concealed(topic, cdr)
        if kept is not None:
            self._guarded(self._writer.write, topic, stamp_ns, kept)
        with self._lock:
            self._waiting_bytes -= len(cdr)

    def _concealed(self, topic: str, cdr: bytes) -> bytes | None:
        """Return what may be written of a message; None for nothing."""
        if self._concealer is None:
            return cdr
        try:
            return self._concealer.conceal(self.types[topic], cdr)
        except Exception as error:  # whatever it was, nobody has looked for people in it
            self.withheld[topic] += 1
            if self.withheld[topic] == 1:
                log.warning('leaving out messages of %s that cannot be anonymised: %s', topic,
                            error or type(error).__name__)
            return None

    def _guarded(self, action: Any, *arguments: Any) -> None:
        """Run an action of the writer, unless the disk has refused one before."""
        if self.failure is None:
            try:
                action(*arguments)
            except OSError as error:
                self.failure = error


def record(arguments: argparse.Namespace, concealer: Concealer | None) -> int:
    """Run ``perception record``; the counts go to standard output."""
    with Session('perception_record') as session:
        wanted = [session.topic(name) for name in arguments.topics] if arguments.topics else None
        with Recorder(
                session, arguments.out, wanted, arguments.storage, concealer) as recorder:
            end_s = time.monotonic() + (arguments.duration or float('inf'))
            with suppress(KeyboardInterrupt):
                while recorder.failure is None and time.monotonic() < end_s:
                    recorder.attend()
                    time.sleep(max(0.0, min(_LOOK_S, end_s - time.monotonic())))
    _report(recorder, wanted)
    if recorder.failure is not None:
        raise recorder.failure
    return 0


def _report(recorder: Recorder, wanted: list[str] | None) -> None:
    width = max(map(len, recorder.counts), default=0)
    for name, count in sorted(recorder.counts.items()):
        dropped, withheld = recorder.dropped[name], recorder.withheld[name]
        note = f', {dropped} dropped' if dropped else ''
        note += f', {withheld} left out that could not be anonymised' if withheld else ''
        print(f'{name:{width}}  {count} [{recorder.types[name]}]{note}')
    for name in wanted or ():
        if name not in recorder.counts:
            log.warning('nobody published %s: is the node running, is the name right?', name)
    if not any(recorder.counts.values()):
        log.warning('nothing was received')


def _asks_too_much(asked: QoSProfile, offered: QoSProfile) -> bool:
    return (asked.reliability == ReliabilityPolicy.RELIABLE != offered.reliability
            or asked.durability == DurabilityPolicy.TRANSIENT_LOCAL != offered.durability)


def _recorded_qos(publisher: TopicEndpointInfo) -> Qos:
    """Return what a publisher offers, as bags write it."""
    qos = publisher.qos_profile
    return Qos(
        QosHistory(int(qos.history)), qos.depth, QosReliability(int(qos.reliability)),
        QosDurability(int(qos.durability)), _time(qos.deadline), _time(qos.lifespan),
        QosLiveliness(int(qos.liveliness)), _time(qos.liveliness_lease_duration),
        qos.avoid_ros_namespace_conventions)


def _time(duration: Any) -> QosTime:
    return QosTime(*divmod(duration.nanoseconds, 1_000_000_000))
