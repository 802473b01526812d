"""Which image is shown next, and with which results. Nothing here needs ROS."""

from collections import deque, OrderedDict
from dataclasses import dataclass
import threading
from typing import Any

from perception_nodes.core.latency import LatencyWindow

SILENT_AFTER_S = 3.0
LONGEST_WAIT_S = 2.0  # images are not kept longer for their results

_RATE_WINDOW_S = 10.0
_KEPT_RESULTS = 60
_REMEMBERED_IMAGES = 300
_LARGEST_QUEUE_BYTES = 128 << 20

Key = tuple[int, str]  # stamp in nanoseconds, frame_id: what a result copies from its image


@dataclass(frozen=True, eq=False)
class Arrival:
    """One image message and when it came."""

    msg: Any
    key: Key
    received_s: float  # steady clock


class Results:
    """The last messages of one result topic, found by the image they belong to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: OrderedDict[Key, Any] = OrderedDict()

    def add(self, key: Key, msg: Any) -> None:
        """Keep a result."""
        with self._lock:
            self._by_key[key] = msg
            if len(self._by_key) > _KEPT_RESULTS:
                self._by_key.popitem(last=False)

    def get(self, key: Key) -> Any | None:
        """Return the result that belongs to the image, or None."""
        with self._lock:
            return self._by_key.get(key)


class ImageQueue:
    """
    Images of one topic that may still be shown.

    Without results the newest image is the next. Where result topics answer to these images,
    the next is the newest with an answer of each; so the slowest one sets the pace, and no box
    is ever drawn on an image that it was not found in.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Arrival] = deque()
        self._waiting_bytes = 0
        self._received_s: OrderedDict[Key, float] = OrderedDict()
        self._lag_s: dict[str, tuple[float, float]] = {}  # result topic: lag, when it was seen
        self.shown = 0
        self.skipped = 0

    def add(self, image: Arrival) -> None:
        """Offer an image."""
        with self._lock:
            self._received_s[image.key] = image.received_s
            if len(self._received_s) > _REMEMBERED_IMAGES:
                self._received_s.popitem(last=False)
            self._waiting.append(image)
            self._waiting_bytes += len(image.msg.data)
            while len(self._waiting) > 1 and self._is_overfull(image.received_s):
                self._forget_oldest()
                self.skipped += 1

    def answered(self, topic: str, key: Key, now_s: float) -> None:
        """Note that a result came on ``topic``; it may or may not belong to one of the images."""
        with self._lock:
            if key in self._received_s:
                lag_s = now_s - self._received_s[key]
                before_s, _ = self._lag_s.get(topic, (0.0, 0.0))
                self._lag_s[topic] = (max(lag_s, 0.9 * before_s), now_s)

    def answering(self, now_s: float) -> dict[str, float]:
        """Return the topics whose results currently belong to these images, and their lag."""
        with self._lock:
            return {topic: lag_s for topic, (lag_s, seen_s) in self._lag_s.items()
                    if now_s - seen_s < SILENT_AFTER_S}

    def take(self, results: dict[str, Results], now_s: float) -> Arrival | None:
        """
        Return the image to show now, or None if it is better to wait.

        :param results: Result topics whose messages may be drawn.
        """
        lags = {topic: lag_s for topic, lag_s in self.answering(now_s).items()
                if topic in results and lag_s < LONGEST_WAIT_S}
        with self._lock:
            chosen = self._choose([results[topic] for topic in lags],
                                  1.5 * max(lags.values(), default=0.0) + 0.1, now_s)
            if chosen is None:
                return None
            while self._waiting[0] is not chosen:
                self._forget_oldest()
                self.skipped += 1
            self._forget_oldest()
            self.shown += 1
            return chosen

    def _choose(
        self, awaited: list[Results], patience_s: float, now_s: float
    ) -> Arrival | None:
        def answers(image: Arrival) -> int:
            return sum(results.get(image.key) is not None for results in awaited)

        newest_first = list(reversed(self._waiting))
        complete = (image for image in newest_first if answers(image) == len(awaited))
        overdue = [image for image in newest_first if now_s - image.received_s > patience_s]
        return next(complete, None) or max(overdue, key=answers, default=None)

    def _is_overfull(self, now_s: float) -> bool:
        oldest_s = now_s - self._waiting[0].received_s
        return oldest_s > LONGEST_WAIT_S or self._waiting_bytes > _LARGEST_QUEUE_BYTES

    def _forget_oldest(self) -> None:
        self._waiting_bytes -= len(self._waiting.popleft().msg.data)


class Arrivals:
    """Rate and age of the messages of one topic."""

    def __init__(self, now_s: float) -> None:
        self._lock = threading.Lock()
        self._since_s = now_s
        self._times_s: deque[float] = deque()
        self._ages = LatencyWindow()
        self.count = 0

    def add(self, now_s: float, age_ms: float | None) -> None:
        """
        Count a message.

        :param now_s: Steady clock.
        :param age_ms: ROS time between its stamp and now; None where it has no stamp.
        """
        with self._lock:
            self.count += 1
            self._times_s.append(now_s)
            while now_s - self._times_s[0] > _RATE_WINDOW_S:
                self._times_s.popleft()
            if age_ms is not None:
                self._ages.add(age_ms)

    def silent_s(self, now_s: float) -> float:
        """Return the seconds since the last message, or since listening began."""
        with self._lock:
            return now_s - (self._times_s[-1] if self._times_s else self._since_s)

    def rate_hz(self, now_s: float) -> float:
        """Return the rate over the last seconds; 0 once nothing arrives any more."""
        if self.silent_s(now_s) > SILENT_AFTER_S:
            return 0.0
        with self._lock:
            if len(self._times_s) < 2:
                return 0.0
            span_s = self._times_s[-1] - self._times_s[0]
            return (len(self._times_s) - 1) / span_s if span_s > 0.0 else 0.0

    def ages_ms(self) -> dict[str, float]:
        """Return p50_ms, p95_ms and p99_ms of the ages; empty where no message had a stamp."""
        with self._lock:
            return self._ages.summary()
