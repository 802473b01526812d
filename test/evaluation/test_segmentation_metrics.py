"""Masks whose scores can be worked out by hand."""

import math

import numpy as np
from perception_nodes.evaluation.segmentation_metrics import (
    boundary_f,
    class_iou,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)
from perception_nodes.evaluation.segmentation_scores import pixels_found, tally
import pytest

VOID = 255


def mask(*rows):
    return np.array(rows, np.uint8)


def test_void_counts_nowhere_and_other_classes_against():
    counts = confusion_matrix(mask([0, 0, 1, VOID]), mask([0, 1, 9, 1]), [0, 1])
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1]]
    # class 0: 1 of 2; class 1: none of 2
    assert class_iou(counts).tolist() == [0.5, 0.0]
    assert mean_iou(counts) == 0.25
    assert pixel_accuracy(counts) == pytest.approx(1 / 3)


def test_classes_on_neither_side_are_left_out_of_the_mean():
    counts = confusion_matrix(mask([0, 0]), mask([0, 0]), [0, 1, 2])
    assert mean_iou(counts) == 1.0
    assert math.isnan(class_iou(counts)[1])
    # one that is only found is not left out
    counts = confusion_matrix(mask([0, 0]), mask([0, 2]), [0, 1, 2])
    assert mean_iou(counts) == pytest.approx((0.5 + 0.0) / 2)


def test_nothing_but_void_has_no_score():
    counts = confusion_matrix(mask([VOID]), mask([1]), [0, 1])
    assert math.isnan(mean_iou(counts))
    assert math.isnan(pixel_accuracy(counts))


def test_ids_of_sixteen_bits_are_counted():
    found = np.array([[300, 0]], np.uint16)
    assert confusion_matrix(mask([1, 0]), found, [0, 1]).tolist() == [[1, 0, 0], [0, 0, 1]]


def test_another_size_is_refused():
    with pytest.raises(ValueError, match=r'mask is \(1, 1\), but the true one is \(1, 2\)'):
        confusion_matrix(mask([0, 0]), mask([0]), [0])


def square(left, size=120, side=40):
    picture = np.zeros((size, size), np.uint8)
    picture[40:40 + side, left:left + side] = 1
    return picture


@pytest.mark.parametrize(('shift', 'low', 'high'), [
    (0, 1.0, 1.0),
    (1, 1.0, 1.0),  # the tolerance: 0.0075 of a diagonal of 170 pixels
    (4, 0.4, 0.6),  # the horizontal halves of the contour still lie on each other
    (60, 0.0, 0.1),
])
def test_contours_may_be_off_by_the_tolerance(shift, low, high):
    assert low <= boundary_f(square(20), square(20 + shift), [1]) <= high


def test_contours_of_one_side_only_score_nothing():
    flat = np.zeros((120, 120), np.uint8)
    assert boundary_f(square(20), flat, [0, 1]) == 0.0
    assert math.isnan(boundary_f(flat, flat, [0, 1]))
    # the border of a picture is no contour
    assert math.isnan(boundary_f(flat, flat, [0]))


def test_contours_of_void_are_not_asked_for():
    void = np.where(square(20) == 1, VOID, 0).astype(np.uint8)
    assert math.isnan(boundary_f(void, square(20), [0, 1]))


def test_a_set_is_scored_as_one_sum_over_scenes():
    truths = [mask([0, 0, 1, 1])] * 3
    found = [mask([0, 0, 1, 1]), mask([0, 0, 1, 1]), mask([1, 1, 0, 0])]
    result = tally(truths, found, {0: 'floor', 1: 'wall'}, np.array([0, 0, 1]))
    values = result.scores(seed=0)
    assert values['mIoU'] == pytest.approx(4 / 8)
    assert values['pixel_accuracy'] == pytest.approx(2 / 3)
    assert (values['mIoU_ci_low'], values['mIoU_ci_high']) == (0.0, 1.0)
    assert (values['IoU_floor'], values['IoU_wall']) == (0.5, 0.5)


def test_pixels_of_some_objects():
    instances = np.array([[1, 1, 2, 0]], np.uint16)
    assert pixels_found(mask([8, 0, 8, 8]), instances, [1], 8) == (1, 2)
    assert pixels_found(mask([8, 0, 8, 8]), instances, [], 8) == (0, 0)
