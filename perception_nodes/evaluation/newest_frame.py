"""
A node's way with frames, on a virtual clock: the newest frame wins.

While a worker is busy, a frame that arrives replaces the one that waits. Nothing waits for real:
time is that of the recorder, and work takes as long as it was measured to take. Each worker has a
processor of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar('T')


@dataclass(frozen=True)
class Done(Generic[T]):
    """One piece of work and its moments, nanoseconds."""

    item: T
    arrived_ns: int
    finished_ns: int

    @property
    def age_ms(self) -> float:
        """Return the time from arrival to result."""
        return (self.finished_ns - self.arrived_ns) * 1e-6


class NewestFrameWorker(Generic[T]):
    """
    Works on one item at a time; of those that wait only the newest is kept.

    :param work: Does an item, and returns how many nanoseconds that took.
    :param done: Told about each result, in order.
    :param superseded: Told about each item that was replaced before its turn.
    """

    def __init__(
        self, work: Callable[[T], int], done: Callable[[Done[T]], None],
        superseded: Callable[[T], None],
    ) -> None:
        self._work, self._done, self._superseded = work, done, superseded
        self._busy_until_ns = 0
        self._waiting: tuple[T, int] | None = None

    def offer(self, item: T, arrived_ns: int) -> None:
        """Let an item arrive; moments never go back."""
        self.advance(arrived_ns)
        if self._busy_until_ns <= arrived_ns:
            self._begin(item, arrived_ns, arrived_ns)
            return
        if self._waiting is not None:
            self._superseded(self._waiting[0])
        self._waiting = item, arrived_ns

    def advance(self, now_ns: int) -> None:
        """Begin what waits, if its turn comes until now."""
        if self._waiting is not None and self._busy_until_ns <= now_ns:
            (item, arrived_ns), self._waiting = self._waiting, None
            self._begin(item, arrived_ns, self._busy_until_ns)

    def finish(self) -> None:
        """Do what still waits."""
        self.advance(self._busy_until_ns)

    def _begin(self, item: T, arrived_ns: int, start_ns: int) -> None:
        self._busy_until_ns = start_ns + self._work(item)
        self._done(Done(item, arrived_ns, self._busy_until_ns))
