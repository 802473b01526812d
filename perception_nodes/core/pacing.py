"""Simulated time beside real time."""

import time

_CATCH_UP_S = 0.2


class Pacer:
    """
    Keeps simulated time from running ahead of real time, and measures how they relate.

    A step that takes long, because a picture was drawn, is caught up with; what a simulation that
    is too slow loses beyond a fifth of a second is lost.
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
        self._due_s = max(self._due_s, now_s - _CATCH_UP_S)

    def real_time_factor(self) -> float:
        """Return simulated over real seconds since the last call."""
        now_s = time.monotonic()
        ratio = self._simulated_s / max(now_s - self._since_s, 1e-9)
        self._since_s, self._simulated_s = now_s, 0.0
        return ratio
