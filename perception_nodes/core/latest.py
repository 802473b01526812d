"""A one-item mailbox between a fast producer and a slow consumer: the newest item wins."""

import threading
from typing import Generic, TypeVar

T = TypeVar('T')


class LatestSlot(Generic[T]):
    """Holds at most one item, so a slow consumer never works on old ones."""

    def __init__(self) -> None:
        self._ready = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> T | None:
        """Offer ``item``; return the one it displaced, or None if that had been taken."""
        with self._ready:
            displaced, self._item = self._item, item
            self._ready.notify()
        return displaced

    def take(self) -> T | None:
        """Wait for an item and return it; return None once the slot is closed."""
        with self._ready:
            self._ready.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return None if self._closed else item

    def clear(self) -> T | None:
        """Forget the waiting item and return it."""
        with self._ready:
            item, self._item = self._item, None
            return item

    def close(self) -> None:
        """Wake the consumer for the last time."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()
