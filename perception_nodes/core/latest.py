"""A mailbox between fast producers and one slow consumer: of each the newest item wins."""

import threading
from typing import Generic, TypeVar

T = TypeVar('T')


class LatestSlots(Generic[T]):
    """
    Holds at most one item per producer, so that a slow consumer never works on old ones.

    Taking empties all slots at once: every producer gets the same share of the consumer, and
    an item waits for one round of work at most.
    """

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._items: dict[str, T] = {}
        self._closed = False

    def put(self, producer: str, item: T) -> bool:
        """Offer an item; return whether it displaced one that nobody had taken yet."""
        with self._ready:
            displaced = producer in self._items
            self._items[producer] = item
            self._ready.notify()
        return displaced

    def take(self, timeout_s: float | None = None) -> dict[str, T]:
        """
        Wait for items and return them by producer; return nothing once closed.

        :param timeout_s: After which nothing is returned, too; None waits for ever.
        """
        with self._ready:
            self._ready.wait_for(lambda: self._items or self._closed, timeout_s)
            items, self._items = self._items, {}
            return {} if self._closed else items

    def clear(self) -> list[str]:
        """Forget the waiting items, and return whose they were."""
        with self._ready:
            items, self._items = self._items, {}
            return list(items)

    def close(self) -> None:
        """Wake the consumer for the last time."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
