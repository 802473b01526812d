"""Average precision on sets whose answer can be worked out by hand, and against a library."""

import math
import sys

import numpy as np
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.metrics import (
    bootstrap_intervals,
    BoxLabels,
    coco_average_precision,
    match_detections,
)
import pytest

UNIT = [0, 0, 10, 10]
APART = [50, 50, 60, 60]


def labels(*boxes, classes=None, ignored=None):
    n = len(boxes)
    return BoxLabels(
        np.array(boxes, np.float32).reshape(n, 4),
        np.array(classes or [1] * n, np.int64), np.array(ignored or [False] * n, np.bool_))


def found(*boxes, scores=None, classes=None):
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(n, 4),
        np.array(scores or np.linspace(0.9, 0.1, n), np.float32),
        np.array(classes or [1] * n, np.int64))


def mean_ap(truth, boxes):
    return match_detections(truth, boxes).mean_average_precision()


def test_perfect_detections_score_one():
    truth = [labels(UNIT, APART, classes=[1, 2]), labels(APART)]
    boxes = [found(UNIT, APART, classes=[1, 2]), found(APART)]
    assert mean_ap(truth, boxes) == 1.0
    assert coco_average_precision(truth, boxes) == pytest.approx(
        {'AP': 1.0, 'AP50': 1.0, 'AP75': 1.0})


def test_a_missed_box_costs_its_share_of_recall():
    assert mean_ap([labels(UNIT, APART)], [found(UNIT)]) == pytest.approx(0.5)


def test_a_duplicate_is_a_false_alarm():
    # duplicate between two hits: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1
    boxes = [found(UNIT, UNIT, APART)]
    assert mean_ap([labels(UNIT, APART)], boxes) == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 3)


def test_a_false_alarm_after_the_last_hit_costs_nothing():
    assert mean_ap([labels(UNIT)], [found(UNIT, APART)]) == 1.0


def test_the_best_score_wins_the_box_over_the_better_overlap():
    curve = match_detections(
        [labels(UNIT)], [found([0, 0, 10, 9], UNIT, scores=[0.9, 0.8])]).curve(1)
    assert curve.precision.tolist() == [1.0, 0.5]
    assert curve.recall.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(('box', 'hits'), [
    ([0, 0, 10, 5], True),  # overlap is one half exactly
    ([0, 0, 10, 4.99], False),
    ([0, 0, 20, 10], True),
    ([0, 0, 20.1, 10], False),
])
def test_an_overlap_of_one_half_is_a_hit(box, hits):
    assert mean_ap([labels(UNIT)], [found(box)]) == float(hits)


def test_another_class_is_no_hit():
    assert mean_ap([labels(UNIT)], [found(UNIT, classes=[2])]) == 0.0


def test_another_image_is_no_hit():
    assert mean_ap([labels(UNIT), labels()], [found(), found(UNIT)]) == 0.0


def test_scores_are_ranked_over_all_images():
    # the false alarm of the second image outranks the hit of the first
    truth, boxes = [labels(UNIT), labels()], [found(UNIT, scores=[0.3]), found(UNIT, scores=[0.8])]
    assert mean_ap(truth, boxes) == pytest.approx(0.5)


def test_classes_weigh_the_same_however_many_boxes_they_have():
    truth = [labels(UNIT, APART, [80, 0, 90, 10], classes=[1, 1, 2])]
    assert mean_ap(truth, [found([80, 0, 90, 10], classes=[2])]) == pytest.approx(0.5)


def test_classes_without_ground_truth_stay_out_of_the_mean():
    assert mean_ap([labels(UNIT)], [found(UNIT, APART, classes=[1, 7])]) == 1.0


def test_an_ignored_box_costs_and_earns_nothing():
    truth = [labels(UNIT, [20, 20, 60, 60], ignored=[False, True])]
    # two boxes inside the crowd, though either covers little of it
    boxes = [found([20, 20, 30, 30], [40, 40, 50, 50], UNIT)]
    assert mean_ap(truth, boxes) == 1.0
    assert mean_ap(truth, [found(UNIT)]) == 1.0
    assert coco_average_precision(truth, boxes)['AP50'] == pytest.approx(1.0)


def test_half_a_box_inside_an_ignored_one_is_ignored():
    truth = [labels(UNIT, APART, ignored=[True, False])]
    assert mean_ap(truth, [found([5, 0, 15, 10], APART)]) == 1.0
    assert mean_ap(truth, [found([5.1, 0, 15.1, 10], APART)]) == pytest.approx(0.5)


def test_nothing_to_find_and_nothing_found_is_nan():
    for truth in ([labels()], [labels(UNIT, ignored=[True])]):
        matches = match_detections(truth, [found()])
        assert math.isnan(matches.mean_average_precision())
        assert math.isnan(matches.curve(1).average_precision())
        assert all(map(math.isnan, coco_average_precision(truth, [found()]).values()))


def test_detections_where_nothing_is_to_be_found_score_zero():
    matches = match_detections([labels()], [found(UNIT)])
    assert matches.mean_average_precision() == 0.0
    assert matches.curve(1).average_precision() == 0.0
    assert coco_average_precision([labels()], [found(UNIT)])['AP'] == 0.0


def test_nothing_found_where_something_is_scores_zero():
    assert mean_ap([labels(UNIT)], [found()]) == 0.0
    assert coco_average_precision([labels(UNIT)], [found()])['AP'] == 0.0


def test_as_many_results_as_images_are_needed():
    with pytest.raises(ValueError, match='shorter'):
        match_detections([labels(), labels()], [found()])


def test_coco_takes_the_mean_over_ten_overlaps():
    # overlap 0.72 passes 0.50, 0.55, 0.60, 0.65 and 0.70
    scores = coco_average_precision([labels([0, 0, 100, 100])], [found([0, 0, 100, 72])])
    assert scores == pytest.approx({'AP': 0.5, 'AP50': 1.0, 'AP75': 0.0})


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'faster_coco_eval', None)
    with pytest.raises(ImportError, match='pip install faster-coco-eval'):
        coco_average_precision([labels(UNIT)], [found(UNIT)])


def test_our_curve_read_at_101_points_is_the_librarys_ap50():
    truth, boxes = random_set(np.random.default_rng(3), images=40)
    matches = match_detections(truth, boxes)
    ours = np.mean([sampled(matches.curve(i)) for i in range(1, 5)])
    assert 0.2 < ours < 0.8
    assert ours == pytest.approx(coco_average_precision(truth, boxes)['AP50'], abs=1e-9)


def sampled(curve):
    """Read the falling precision at 101 recalls, as COCO does."""
    envelope = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0.0)
    points = np.linspace(0.0, 1.0, 101)
    return np.mean(envelope[np.searchsorted(curve.recall, points, side='left')])


def random_set(random, images):
    """Draw boxes on a lattice, where no two true boxes compete, and detections about them."""
    truth, boxes = [], []
    corners = np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(-1, 2) * 100.0
    for _ in range(images):
        n = random.integers(0, 12)
        left_top = random.permutation(corners)[:n]
        true = np.hstack([left_top, left_top + random.uniform(30, 70, (n, 2))]).astype(np.float32)
        classes = random.integers(1, 5, n)
        truth.append(BoxLabels(true, classes, random.random(n) < 0.15))
        copies = np.repeat(np.arange(n), random.integers(0, 3, n))
        moved = true[copies] + random.normal(0.0, 8.0, (len(copies), 4)).astype(np.float32)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1.0)
        confused = np.where(random.random(len(copies)) < 0.1, 4, classes[copies])
        boxes.append(Detections(
            moved, random.random(len(copies)).astype(np.float32), confused.astype(np.int64)))
    return truth, boxes


def test_bootstrap_of_equal_images_has_no_width():
    matches = match_detections([labels(UNIT, APART)] * 5, [found(UNIT)] * 5)
    intervals = bootstrap_intervals(
        lambda weights: {'mAP50': matches.mean_average_precision(weights)}, 5, seed=0,
        resamples=50)
    assert intervals == {'mAP50': pytest.approx((0.5, 0.5))}


def test_bootstrap_interval_is_that_of_a_mean():
    # each image is right or wrong: the score is a mean of coin tosses
    right = np.arange(100) < 70
    intervals = bootstrap_intervals(
        lambda weights: {'share': weights @ right / 100}, 100, seed=1, resamples=4000)
    half_width = 1.96 * math.sqrt(0.7 * 0.3 / 100)
    assert intervals['share'] == pytest.approx((0.7 - half_width, 0.7 + half_width), abs=0.015)


def test_an_image_drawn_twice_is_scored_as_two_images():
    truth, boxes = random_set(np.random.default_rng(5), images=6)
    weights = np.array([0, 2, 1, 0, 3, 1])
    picked = np.repeat(np.arange(6), weights)
    expected = mean_ap([truth[i] for i in picked], [boxes[i] for i in picked])
    assert match_detections(truth, boxes).mean_average_precision(weights) == pytest.approx(
        expected)


def test_bootstrap_leaves_out_draws_without_a_score():
    intervals = bootstrap_intervals(
        lambda weights: {'none': math.nan, 'some': 1.0 if weights[0] else math.nan}, 3, seed=0,
        resamples=50)
    assert all(map(math.isnan, intervals['none']))
    assert intervals['some'] == (1.0, 1.0)
