"""ROC curves and confusion of classifiers, worked out by hand."""

import math

import numpy as np
from perception_nodes.evaluation.classification_metrics import (
    confusion_counts,
    mean_area,
    roc_curve,
)
import pytest


def curve(scores, truth):
    return roc_curve(np.array(scores, np.float32), np.array(truth, np.bool_))


@pytest.mark.parametrize(('scores', 'truth', 'area'), [
    ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 1.0),
    ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.0),
    ([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], 0.75),  # 3 of the 4 pairs are in order
    ([0.5, 0.5, 0.5, 0.5], [1, 0, 1, 0], 0.5),  # whatever the order of equals
])
def test_area_is_the_share_of_pairs_in_order(scores, truth, area):
    assert curve(scores, truth).area == pytest.approx(area)


def test_the_curve_begins_and_ends_in_the_corners():
    points = curve([0.9, 0.1, 0.5], [1, 0, 0])
    assert (points.false_positive_rate[0], points.true_positive_rate[0]) == (0.0, 0.0)
    assert (points.false_positive_rate[-1], points.true_positive_rate[-1]) == (1.0, 1.0)


def test_a_class_that_is_never_shown_has_no_area():
    assert math.isnan(curve([0.9, 0.1], [0, 0]).area)
    assert mean_area([curve([0.9, 0.1], [0, 0]), curve([0.9, 0.1], [1, 0])]) == 1.0
    assert math.isnan(mean_area([]))


def test_confusion_counts_strange_classes_apart():
    counts = confusion_counts([3, 3, 5], [3, 5, 99], [3, 5])
    assert counts.tolist() == [[1, 1, 0], [0, 0, 1]]
