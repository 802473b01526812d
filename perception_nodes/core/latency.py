"""Rolling statistics of durations, in milliseconds."""

from collections import deque

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
        p50, p95, p99 = np.percentile(list(self._samples_ms), [50, 95, 99])
        return {'p50_ms': float(p50), 'p95_ms': float(p95), 'p99_ms': float(p99)}
