"""What a node knows about itself: counts, durations, and the sentence that explains them."""

from collections import Counter
from dataclasses import dataclass
import threading
import time
from typing import Literal

from perception_nodes.core.latency import LatencyWindow

Level = Literal['ok', 'warn', 'error']

STALE_AFTER_S = 5.0


@dataclass(frozen=True)
class Verdict:
    """How a node is, in one word and one sentence."""

    level: Level
    message: str


class NodeHealth:
    """
    Counts what happens to the frames of one node. Every method may be called from any thread.

    ``age`` is the time from the receipt of a frame to the publication of its result, ``compute``
    the part of it spent on the frame; both by the steady clock, in milliseconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._age = LatencyWindow()
        self._compute = LatencyWindow()
        self._received = 0
        self._processed = 0
        self._failed = 0
        self._dropped: Counter[str] = Counter()
        self._last_drop = ''
        self._received_at = -float('inf')
        self._last_failure = ''
        self._failed_at = -float('inf')
        self._idle_since = time.monotonic()
        self._rate_from = (time.monotonic(), 0)
        self._rate_hz = 0.0

    def received(self) -> None:
        """Count an image that arrived."""
        with self._lock:
            self._received += 1
            self._received_at = time.monotonic()

    def completed(self) -> None:
        """Note that a frame has all it needs."""
        with self._lock:
            self._idle_since = time.monotonic()

    def dropped(self, reason: str) -> None:
        """Count a frame that was not worked on, by the reason why."""
        with self._lock:
            self._dropped[reason] += 1
            self._last_drop = reason

    def failed(self, sentence: str) -> None:
        """Count a frame whose processing failed, and keep why."""
        with self._lock:
            self._failed += 1
            self._last_failure = sentence
            self._failed_at = time.monotonic()

    def processed(self, age_ms: float, compute_ms: float) -> None:
        """Count a frame whose result was published."""
        with self._lock:
            self._processed += 1
            self._age.add(age_ms)
            self._compute.add(compute_ms)

    def idle_s(self) -> float:
        """Return the seconds since a frame was last complete, or since this was made."""
        with self._lock:
            return time.monotonic() - self._idle_since

    def last_drop(self) -> str:
        """Return the reason of the latest drop; empty when nothing comes that could be dropped."""
        with self._lock:
            silent = time.monotonic() - self._received_at >= STALE_AFTER_S
            return '' if silent else self._last_drop

    def recent_failure(self) -> str:
        """Return why a frame failed in the last few seconds; empty when none did."""
        with self._lock:
            fresh = time.monotonic() - self._failed_at < STALE_AFTER_S
            return self._last_failure if fresh else ''

    def values(self) -> dict[str, str]:
        """
        Return every figure by its name, as text for a diagnostics message.

        ``rate_hz`` covers the time since the last call.
        """
        with self._lock:
            now, (since, before) = time.monotonic(), self._rate_from
            if now > since:
                self._rate_hz = (self._processed - before) / (now - since)
                self._rate_from = (now, self._processed)
            return {
                'received': str(self._received),
                'processed': str(self._processed),
                'failed': str(self._failed),
                **{f'dropped_{reason}': str(n) for reason, n in self._dropped.items()},
                'rate_hz': f'{self._rate_hz:.1f}',
                **{f'age_{k}': f'{v:.2f}' for k, v in self._age.summary().items()},
                **{f'compute_{k}': f'{v:.2f}' for k, v in self._compute.summary().items()},
                'last_failure': self._last_failure,
            }
