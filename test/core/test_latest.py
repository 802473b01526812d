"""The newest item wins, everybody gets a share, and closing wakes the consumer."""

import threading

from perception_nodes.core.latest import LatestSlots


def test_newest_item_displaces_the_waiting_one():
    """Displacing is said, for counting, and taking empties the slot."""
    slots = LatestSlots()
    assert not slots.put('camera', 'old')
    assert slots.put('camera', 'new')
    assert slots.take() == {'camera': 'new'}
    assert not slots.put('camera', 'next')
    assert slots.clear() == ['camera']
    assert slots.clear() == []


def test_a_fast_producer_takes_nothing_from_a_slow_one():
    """One round serves each producer once, whatever they offered."""
    slots = LatestSlots()
    slots.put('slow', 1)
    for i in range(10):
        slots.put('fast', i)
    assert slots.take() == {'slow': 1, 'fast': 9}


def test_take_waits_for_an_item():
    """A consumer that came first gets what comes later."""
    slots, taken = LatestSlots(), []
    consumer = threading.Thread(target=lambda: taken.append(slots.take()))
    consumer.start()
    slots.put('camera', 'item')
    consumer.join(timeout=60.0)
    assert taken == [{'camera': 'item'}]


def test_close_ends_a_waiting_consumer():
    """After closing there is nothing to take, even if something was waiting."""
    slots, taken = LatestSlots(), []
    consumer = threading.Thread(target=lambda: taken.append(slots.take()))
    consumer.start()
    slots.close()
    consumer.join(timeout=60.0)
    assert taken == [{}]
    slots.put('camera', 'late')
    assert slots.take() == {}
