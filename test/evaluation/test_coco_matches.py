"""The quick average precision of COCO is the library's, also for draws of a bootstrap."""

import math

import numpy as np
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.coco_matches import match_as_coco
from perception_nodes.evaluation.metrics import BoxLabels, coco_average_precision
import pytest


def random_images(seed, count=25):
    """Draw crowded images whose boxes compete, some of them ignored."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(count):
        n = random.integers(0, 9)
        corners = random.uniform(0, 60, (n, 2))
        boxes = np.hstack([corners, corners + random.uniform(10, 40, (n, 2))]).astype(np.float32)
        classes = random.integers(1, 4, n)
        truth.append(BoxLabels(boxes, classes, random.random(n) < 0.25))
        copies = np.repeat(np.arange(n), random.integers(0, 4, n))
        moved = boxes[copies] + random.normal(0.0, 2.0, (len(copies), 4)).astype(np.float32)
        found.append(Detections(
            moved, random.random(len(copies)).astype(np.float32), classes[copies]))
    return truth, found


@pytest.mark.parametrize('seed', range(3))
def test_it_counts_as_the_library_does(seed):
    truth, found = random_images(seed)
    matches = match_as_coco(truth, found)
    expected = coco_average_precision(truth, found)
    assert 0.1 < expected['AP'] < 0.9
    assert matches.scores() == pytest.approx(expected, abs=1e-9)
    weights = np.random.default_rng(seed).multinomial(len(truth), np.full(len(truth), 0.04))
    drawn = np.repeat(np.arange(len(truth)), weights)
    assert matches.scores(weights) == pytest.approx(
        coco_average_precision([truth[i] for i in drawn], [found[i] for i in drawn]), abs=1e-9)


def test_at_most_100_boxes_of_a_class_count():
    truth = [BoxLabels(np.array([[0, 0, 9, 9]], np.float32), np.array([1]), np.array([False]))]
    boxes = np.full((101, 4), (50, 50, 60, 60), np.float32)
    boxes[100] = (0, 0, 9, 9)
    found = [Detections(boxes, np.linspace(1.0, 0.5, 101, dtype=np.float32), np.ones(101, int))]
    assert match_as_coco(truth, found).scores()['AP50'] == 0.0


def test_without_anything_there_is_no_score():
    none = BoxLabels(np.empty((0, 4), np.float32), np.empty(0, int), np.empty(0, bool))
    assert math.isnan(match_as_coco([none], [Detections.empty()]).scores()['AP'])
    assert math.isnan(match_as_coco([], []).scores()['AP'])
