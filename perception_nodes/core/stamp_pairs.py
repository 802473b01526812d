"""Two streams that share their stamps: whichever half of a pair comes first waits."""

from collections.abc import Callable
import threading
from typing import Generic, TypeVar

A = TypeVar('A')
B = TypeVar('B')


class StampPairs(Generic[A, B]):
    """
    Pairs the items of two streams by equal stamps; each comes in the order of its stamps.

    Every method may be called from any thread.

    :param limit: How many items of each stream are kept waiting.
    :param forgotten: Called for each item of the first stream that goes without its other half.
    """

    def __init__(self, limit: int, forgotten: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self._forgotten = forgotten
        self._firsts: dict[int, A] = {}
        self._seconds: dict[int, B] = {}

    def add_first(self, stamp_ns: int, item: A) -> A | None:
        """Keep an item of the first stream; return it if its other half is there already."""
        with self._lock:
            self._firsts[stamp_ns] = item
            return self._matched(stamp_ns)

    def add_second(self, stamp_ns: int, item: B) -> A | None:
        """Keep an item of the second stream; return its other half if that is there already."""
        with self._lock:
            self._seconds[stamp_ns] = item
            return self._matched(stamp_ns)

    def take_second(self, stamp_ns: int) -> B:
        """
        Hand out the second half of a pair.

        :raises ValueError: If it was never there, ``limit`` newer ones came since, or time jumped.
        """
        with self._lock:
            if stamp_ns not in self._seconds:
                raise ValueError(
                    f'what belongs to stamp {stamp_ns} ns is gone: {self._limit} newer ones came '
                    'while it waited for its turn, or time jumped')
            return self._seconds.pop(stamp_ns)

    def clear(self) -> None:
        """Forget everything, because time jumped."""
        with self._lock:
            self._firsts.clear()
            self._seconds.clear()

    def _matched(self, stamp_ns: int) -> A | None:
        first = self._firsts.pop(stamp_ns, None) if stamp_ns in self._seconds else None
        # what is older than a pair will not get its other half any more
        too_old = [s for s in self._firsts if first is not None and s < stamp_ns]
        too_old += [s for s in self._firsts if s not in too_old][:-self._limit]
        for stamp in too_old:
            del self._firsts[stamp]
            self._forgotten()
        while len(self._seconds) > self._limit:
            del self._seconds[next(iter(self._seconds))]
        return first
