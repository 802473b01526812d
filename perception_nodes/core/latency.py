"""Rolling statistics of durations, in milliseconds, and a clock that leaves out waiting."""

from collections import deque
import threading
import time

import numpy as np


class LatencyWindow:
    """Keeps the last ``size`` samples and reports their median and tail."""

    def __init__(self, size: int = 300) -> None:
        self._samples_ms: deque[float] = deque(maxlen=size)

    def add(self, sample_ms: float) -> None:
        """Record one duration in milliseconds."""
        self._samples_ms.append(sample_ms)

    def summary(self) -> dict[str, float]:
        """Return ``p50_ms``, ``p95_ms`` and ``p99_ms`` of the window; empty without samples."""
        if not self._samples_ms:
            return {}
        ordered_ms = np.sort(np.array(self._samples_ms))
        # as np.percentile does, at a tenth of the cost for so few samples
        positions = np.array([0.50, 0.95, 0.99]) * (len(ordered_ms) - 1)
        p50, p95, p99 = np.interp(positions, np.arange(len(ordered_ms)), ordered_ms).tolist()
        return {'p50_ms': p50, 'p95_ms': p95, 'p99_ms': p99}


class _Waited(threading.local):
    ns = 0  # of the calling thread


_waited = _Waited()


def waited_for_others(duration_ns: int) -> None:
    """Note that the calling thread had to wait for what other threads were using."""
    _waited.ns += duration_ns


def working_ns() -> int:
    """Return the steady clock less what the calling thread has waited for others, nanoseconds."""
    return time.monotonic_ns() - _waited.ns
