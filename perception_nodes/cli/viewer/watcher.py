"""
The viewer's side of the graph: finds topics, subscribes while somebody looks, draws.

Callbacks and the timer run in the session's thread and only store; a thread of its own draws.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
import logging
import os
from pathlib import Path
import threading
import time
from types import TracebackType
from typing import Any

from perception_nodes.cli.viewer.graph import (
    BOXES_TYPE,
    is_plain,
    LABELS_TYPE,
    mask_kind,
    Snapshot,
    Subscription,
)
from perception_nodes.cli.viewer.matching import Arrivals, LONGEST_WAIT_S, SILENT_AFTER_S
from perception_nodes.cli.viewer.picture import Kind, Painter
from perception_nodes.cli.viewer.scene import Drawn, ImageFeed, ResultFeed, Scene
from perception_nodes.conversions.decode import class_names_from_msg
from perception_nodes.ros.session import Session
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.parameter import Parameter

log = logging.getLogger(__name__)

Deliver = Callable[[Drawn], None]

_TICK_S = 0.5


class Watcher:
    """
    Follows the image topics that somebody looks at, and delivers pictures of them.

    :param topics: Names of the topics to show; result topics among them choose what is
        drawn. Empty: every image topic, and every result that belongs to one.
    :param rate_hz: Most pictures per second and topic.
    :param save_to: Folder for every picture shown; with it, topics are looked at without a
        browser too.
    :raises ValueError: If ROS does not allow the name of a topic.
    """

    def __init__(self, session: Session, topics: Sequence[str], rate_hz: float,
                 save_to: Path | None = None) -> None:
        self._session = session
        self._node = session.node
        self._chosen = tuple(map(session.topic, topics))
        self._interval_s = 1.0 / rate_hz
        self._deliver: Deliver = lambda drawn: None
        self._save_to = save_to
        self._looked_at: frozenset[str] | None = None
        self._seen: dict[str, str] = {}  # image topics and their types, also of nodes now gone
        self._subscriptions: dict[str, Subscription] = {}
        self._labels: dict[str, str] = {}  # the label topic of an image or result topic
        self._class_names: dict[str, dict[int, str]] = {}  # by label topic
        self._scene = Scene()
        self._arrived = threading.Event()
        self._closing = threading.Event()
        self._cards: list[dict[str, Any]] = []
        self._fates: list[dict[str, str]] = []
        self.saved = 0
        self.saving_failure = ''

    def __enter__(self) -> 'Watcher':
        self._drawing = threading.Thread(target=self._draw_until_closed, name='draw')
        self._drawing.start()
        # by the steady clock: a paused simulation must not freeze the page
        self._timer = self._node.create_timer(
            _TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._session.stop(self._timer)
        self._closing.set()
        self._arrived.set()
        self._drawing.join()

    def look_at(self, topics: frozenset[str] | None) -> None:
        """Say which topics somebody looks at, None if nobody is there; others cost nothing."""
        self._looked_at = topics

    def deliver_to(self, show: Deliver) -> None:
        """Have every picture handed to ``show``, from the drawing thread."""
        self._deliver = show

    def state(self) -> dict[str, Any]:
        """Return what the page shows beside the pictures."""
        return {
            'cards': self._cards, 'results': self._fates, 'saving_failure': self.saving_failure,
            'graph': _graph_name()}

    def complaints(self) -> list[str]:
        """Return a sentence for every topic that shows nothing."""
        if not self._cards:
            return [f'no image topic on this graph ({_graph_name()})']
        return [f'{card["topic"]}: {card["sentence"]}' for card in self._cards
                if card['sentence']]

    def _tick(self) -> None:
        """Bring subscriptions and cards up to date with the graph and the browsers."""
        if self._looked_at is None and self._save_to is None:
            self._scene, self._cards = Scene(), []
            self._keep_subscriptions({}, None)
            return
        now_s = time.monotonic()
        graph = Snapshot(self._node)
        self._use_simulated_time(bool(graph.publishers('/clock')))
        self._seen.update(graph.images)
        topics = [t for t in self._chosen if graph.types.get(t) != BOXES_TYPE] or sorted(
            self._seen, key=lambda topic: (graph.is_costly(topic), topic))
        wanted = self._looked_at or frozenset()
        self._look(graph, [topic for topic in topics if topic in self._seen and (
            topic in wanted or self._save_to and self._is_opened(graph, topic))], now_s)
        self._cards = [self._card(graph, topic, now_s) for topic in topics]
        self._fates = [
            {'topic': topic, 'sentence': self._fate(topic, feed, now_s)}
            for topic, feed in self._scene.results.items()]

    def _is_opened(self, graph: Snapshot, topic: str) -> bool:
        """Return whether a topic is shown, and saved, without being asked for by name."""
        return bool(self._chosen) or not graph.is_costly(topic)

    def _look(self, graph: Snapshot, topics: list[str], now_s: float) -> None:
        """Subscribe to image topics and the results that belong to them."""
        results = graph.results if any(map(is_plain, topics)) else {}
        chosen = {topic: kind for topic, kind in results.items() if topic in self._chosen}
        results = chosen or results
        self._labels = {topic: label for topic in (*topics, *results)
                        if (label := graph.label_topic(topic))}
        self._scene = Scene(
            {topic: self._image_feed(topic, now_s) for topic in topics},
            {topic: self._result_feed(topic, kind, now_s) for topic, kind in results.items()})
        self._name_classes()
        self._keep_subscriptions({
            **{topic: graph.types[topic] for topic in results},
            **{topic: self._seen[topic] for topic in topics},
            **dict.fromkeys(self._labels.values(), LABELS_TYPE)}, graph)

    def _image_feed(self, topic: str, now_s: float) -> ImageFeed:
        return self._scene.images.get(topic) or ImageFeed(
            Painter(topic, mask_kind(topic)), is_plain(topic), Arrivals(now_s))

    def _result_feed(self, topic: str, kind: Kind, now_s: float) -> ResultFeed:
        return self._scene.results.get(topic) or ResultFeed(kind, Arrivals(now_s))

    def _name_classes(self) -> None:
        for topic, label in self._labels.items():
            names = self._class_names.get(label, {})
            if topic in self._scene.results:
                self._scene.results[topic].class_names = names
            if topic in self._scene.images:
                self._scene.images[topic].painter.class_names = names

    def _keep_subscriptions(self, wanted: dict[str, str], graph: Snapshot | None) -> None:
        """Subscribe to the wanted topics (name: type) and to nothing else."""
        for topic in self._subscriptions.keys() - wanted.keys():
            self._subscriptions.pop(topic).close()
        if graph is None:
            return
        for topic, type_name in wanted.items():
            if topic not in self._subscriptions:
                store = self._receive_labels if type_name == LABELS_TYPE else self._receive
                self._subscriptions[topic] = Subscription(
                    self._node, topic, type_name, partial(store, topic))
            self._subscriptions[topic].follow(graph.publishers(topic))

    def _use_simulated_time(self, simulated: bool) -> None:
        """Measure ages by /clock where there is one."""
        if simulated != self._node.get_parameter('use_sim_time').value:
            self._node.set_parameters([Parameter('use_sim_time', value=simulated)])

    def _receive(self, topic: str, msg: Any) -> None:
        self._scene.receive(topic, msg, self._node.get_clock().now().nanoseconds)
        self._arrived.set()

    def _receive_labels(self, topic: str, msg: Any) -> None:
        self._class_names[topic] = class_names_from_msg(msg)
        self._name_classes()

    def _draw_until_closed(self) -> None:
        while not self._closing.is_set():
            # an image that waited in vain for its results becomes due without an arrival
            self._arrived.wait(0.05 if self._scene.images else _TICK_S)
            self._arrived.clear()
            for drawn in self._scene.draw(self._interval_s):
                self._deliver(drawn)
                if self._save_to is not None and not self.saving_failure:
                    folder = self._save_to / drawn.topic.strip('/')
                    self._save(folder / f'{drawn.stamp_ns}.jpg', drawn.jpeg)

    def _save(self, path: Path, jpeg: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg)
            self.saved += 1
        except OSError as error:
            self.saving_failure = f'cannot save {path}: {error.strerror}; no more is saved'
            log.error(self.saving_failure)
            with suppress(OSError):
                path.unlink()  # half a picture

    def _card(self, graph: Snapshot, topic: str, now_s: float) -> dict[str, Any]:
        card: dict[str, Any] = {
            'topic': topic, 'open': self._is_opened(graph, topic),
            'sentence': graph.why_missing(topic)}
        feed = self._scene.images.get(topic)
        if feed is None:
            return card
        silent_s = feed.arrivals.silent_s(now_s)
        if not card['sentence'] and silent_s > SILENT_AFTER_S:
            card['sentence'] = self._subscriptions[topic].why_silent(silent_s)
        card['sentence'] = card['sentence'] or feed.failure
        card |= {
            'rate_hz': feed.arrivals.rate_hz(now_s), 'received': feed.arrivals.count,
            'skipped': feed.queue.skipped, **feed.arrivals.ages_ms()}
        if feed.picture is not None:
            height, width = feed.picture.rgb.shape[:2]
            card |= {'size': f'{width} × {height}', 'encoding': feed.picture.encoding}
        return card

    def _fate(self, topic: str, result: ResultFeed, now_s: float) -> str:
        """Return what becomes of a result topic's messages, in one sentence."""
        silent_s = result.arrivals.silent_s(now_s)
        if silent_s > SILENT_AFTER_S:
            return f'nothing has arrived for {silent_s:.0f} s: is its node active, has it images?'
        if not result.arrivals.count:
            return 'nothing has arrived yet'
        lags = {
            image: lag_s for image, feed in self._scene.images.items() if feed.annotated
            for name, lag_s in feed.queue.answering(now_s).items() if name == topic}
        if not lags:
            return ('belongs to no image shown: stamp and frame_id must equal those of an image')
        where = ', '.join(lags)
        lag_ms = max(lags.values()) * 1000.0
        if lag_ms > LONGEST_WAIT_S * 1000.0:
            return f'answers {where} {lag_ms:.0f} ms late, too late to be drawn'
        rate_hz = result.arrivals.rate_hz(now_s)
        return f'drawn on {where}: {rate_hz:.1f} Hz, {lag_ms:.0f} ms after the image'


def _graph_name() -> str:
    return f'ROS_DOMAIN_ID {os.environ.get("ROS_DOMAIN_ID", "0")}'
