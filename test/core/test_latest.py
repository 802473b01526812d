"""The newest item wins, and closing wakes the consumer."""

import threading

from perception_nodes.core.latest import LatestSlot


def test_newest_item_displaces_the_waiting_one():
    """The displaced item is handed back for counting, and taking empties the slot."""
    slot = LatestSlot()
    assert slot.put('old') is None
    assert slot.put('new') == 'old'
    assert slot.take() == 'new'
    assert slot.put('next') is None
    assert slot.clear() == 'next'
    assert slot.clear() is None


def test_take_waits_for_an_item():
    """A consumer that came first gets what comes later."""
    slot, taken = LatestSlot(), []
    consumer = threading.Thread(target=lambda: taken.append(slot.take()))
    consumer.start()
    slot.put('item')
    consumer.join(timeout=5.0)
    assert taken == ['item']


def test_close_ends_a_waiting_consumer():
    """After closing there is nothing to take, even if something was waiting."""
    slot, taken = LatestSlot(), []
    consumer = threading.Thread(target=lambda: taken.append(slot.take()))
    consumer.start()
    slot.close()
    consumer.join(timeout=5.0)
    assert taken == [None]
    slot.put('late')
    assert slot.take() is None
