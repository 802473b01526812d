"""Simulated time beside real time."""

import time


class Pacer:
    """
    Keeps simulated time from running ahead of real time, and measures how they relate.

    A simulation that is too slow is not hurried afterwards: what is lost is lost.
    """

    def __init__(self, factor: float) -> None:
        """
        Start both times.

        :param factor: Simulated seconds for each real one; 0 for as fast as possible.
        """
        self._factor = factor
        self._due_s = self._since_s = time.monotonic()
        self._simulated_s = 0.0

    def wait(self, simulated_s: float) -> None:
        """Wait until the next ``simulated_s`` may begin."""
        self._simulated_s += simulated_s
        if not self._factor:
            return
        self._due_s += simulated_s / self._factor
        now_s = time.monotonic()
        if self._due_s > now_s:
            time.sleep(self._due_s - now_s)
        else:
            self._due_s = now_s

    def real_time_factor(self) -> float:
        """Return simulated over real seconds since the last call."""
        now_s = time.monotonic()
        ratio = self._simulated_s / max(now_s - self._since_s, 1e-9)
        self._since_s, self._simulated_s = now_s, 0.0
        return ratio
