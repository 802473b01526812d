"""Hashes of results hang on what they say, and on nothing else."""

import numpy as np
from perception_nodes.core.types import Detections, OccupancyMap
from perception_nodes.evaluation.result_hash import content_digest, lockstep_hash
import pytest


def grid(value=0, frame_id='odom'):
    return OccupancyMap(np.full((3, 4), value, np.int8), 0.05, (1.0, 2.0), frame_id)


def test_equal_results_are_equal_however_they_lie_in_memory():
    boxes = np.arange(24, dtype=np.float32).reshape(4, 6)
    found, view = (
        Detections(b, np.ones(4, np.float32), np.zeros(4, np.int64))
        for b in (np.ascontiguousarray(boxes[:, :4]), boxes[:, :4]))
    assert content_digest(found) == content_digest(view)


@pytest.mark.parametrize('other', [grid(1), grid(frame_id='map'), None, 0, 'grid'])
def test_different_results_differ(other):
    assert content_digest(other) != content_digest(grid())


def test_no_boxes_are_no_boxes_with_and_without_numbers():
    """A message without boxes cannot tell whether they would have had numbers."""
    numbered = Detections(*(np.empty(shape, kind) for shape, kind in (
        ((0, 4), np.float32), (0, np.float32), (0, np.int64), (0, np.int64))))
    assert content_digest(numbered) == content_digest(Detections.empty())


def test_the_order_of_results_does_not_matter_but_their_stamps_and_topics_do():
    results = [(2, '/b', b'x'), (1, '/a', b'y'), (2, '/a', b'z')]
    assert lockstep_hash(results) == lockstep_hash(results[::-1])
    assert lockstep_hash(results) != lockstep_hash([(3, '/b', b'x'), *results[1:]])
    assert lockstep_hash(results) != lockstep_hash([(2, '/c', b'x'), *results[1:]])
    assert len(lockstep_hash([])) == 64
