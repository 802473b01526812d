"""Overlap and suppression of boxes with known answers."""

import numpy as np
from perception_nodes.core.boxes import iou_matrix, non_maximum_suppression
import pytest


def boxes(*rows):
    """Build an (N, 4) float32 array."""
    return np.array(rows, np.float32).reshape(-1, 4)


def test_iou_of_known_boxes():
    """Equal boxes overlap fully, half-shifted ones by a third, others and empty ones not."""
    a = boxes([0, 0, 10, 10], [0, 0, 0, 0])
    b = boxes([0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 0, 0])
    np.testing.assert_allclose(iou_matrix(a, b), [[1, 1 / 3, 0, 0], [0, 0, 0, 0]], atol=1e-6)


def test_the_better_of_two_overlapping_boxes_stays():
    """Only boxes of one class compete, and the order is by score."""
    xyxy = boxes([0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10], [50, 0, 60, 10])
    scores = np.array([0.6, 0.8, 0.5, 0.9], np.float32)
    class_ids = np.array([1, 1, 2, 1])
    kept = non_maximum_suppression(xyxy, scores, class_ids, 0.5, 10)
    assert kept.tolist() == [3, 1, 2]


@pytest.mark.parametrize(('max_iou', 'expected'), [(0.32, [0]), (0.34, [0, 1])])
def test_the_limit_is_the_overlap_itself(max_iou, expected):
    """A third of overlap passes a limit just above it and fails one just below."""
    xyxy = boxes([0, 0, 10, 10], [5, 0, 15, 10])
    kept = non_maximum_suppression(
        xyxy, np.array([0.9, 0.8], np.float32), np.array([1, 1]), max_iou, 10)
    assert kept.tolist() == expected


def test_no_more_than_asked_for_and_nothing_from_nothing():
    """The best ones fill the limit; an empty input gives an empty output."""
    xyxy = boxes([0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5])
    scores = np.array([0.1, 0.3, 0.2], np.float32)
    assert non_maximum_suppression(xyxy, scores, np.zeros(3, int), 0.5, 2).tolist() == [1, 2]
    none = non_maximum_suppression(boxes(), scores[:0], np.zeros(0, int), 0.5, 2)
    assert none.shape == (0,)


def test_agrees_with_the_definition_on_random_boxes():
    """The compiled search keeps what a direct reading of the definition keeps."""
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 100, (200, 2))
    xyxy = np.hstack([corner, corner + rng.uniform(5, 40, (200, 2))]).astype(np.float32)
    scores = rng.permutation(200).astype(np.float32)
    class_ids = rng.integers(0, 3, 200)
    overlap = iou_matrix(xyxy, xyxy)
    expected: list[int] = []
    for i in np.argsort(-scores):
        if not any(class_ids[i] == class_ids[j] and overlap[i, j] > 0.4 for j in expected):
            expected.append(int(i))
    kept = non_maximum_suppression(xyxy, scores, class_ids, 0.4, 1000)
    assert kept.tolist() == expected
    assert 10 < len(kept) < 190
