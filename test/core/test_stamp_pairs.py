"""Halves of a pair find each other, whichever comes first, and none waits for ever."""

from perception_nodes.core.stamp_pairs import StampPairs
import pytest


@pytest.fixture
def forgotten():
    """Return a list that grows with every first half given up."""
    return []


@pytest.fixture
def pairs(forgotten):
    """Return pairs of which three may wait."""
    return StampPairs(3, lambda: forgotten.append(1))


def test_either_half_may_come_first(pairs, forgotten):
    """The pair is told once, when it is complete."""
    assert pairs.add_first(10, 'image 10') is None
    assert pairs.add_second(10, 'boxes 10') == 'image 10'
    assert pairs.take_second(10) == 'boxes 10'
    assert pairs.add_second(20, 'boxes 20') is None
    assert pairs.add_first(20, 'image 20') == 'image 20'
    assert pairs.take_second(20) == 'boxes 20'
    assert pairs.add_second(20, 'boxes 20') is None
    assert not forgotten


def test_what_is_older_than_a_pair_is_given_up(pairs, forgotten):
    """A detector leaves frames out, and answers in order."""
    for stamp in (1, 2, 3):
        pairs.add_first(stamp, stamp)
    assert pairs.add_second(2, 'two') == 2
    assert len(forgotten) == 1
    assert pairs.add_second(1, 'one') is None
    assert pairs.add_second(3, 'three') == 3
    assert len(forgotten) == 1


def test_no_more_than_the_limit_wait(pairs, forgotten):
    """Without an answer the oldest frames go; so do answers without a frame."""
    for stamp in range(5):
        pairs.add_first(stamp, stamp)
    assert len(forgotten) == 2
    assert pairs.add_second(1, 'one') is None
    assert pairs.add_second(2, 'two') == 2
    for stamp in range(10, 14):
        pairs.add_second(stamp, stamp)
    with pytest.raises(ValueError, match='stamp 10 ns is gone: 3 newer ones came'):
        pairs.take_second(10)
    assert pairs.take_second(11) == 11


def test_after_a_jump_of_time_nothing_matches(pairs, forgotten):
    """The same stamps come again in a looped bag."""
    pairs.add_first(1, 'old image')
    pairs.add_second(2, 'old boxes')
    pairs.clear()
    assert pairs.add_second(1, 'new boxes') is None
    assert pairs.add_first(2, 'new image') is None
    assert not forgotten
