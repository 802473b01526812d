"""Figures of a data set whose answer can be worked out by hand."""

from pathlib import Path

import numpy as np
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.datasets import LabelledImage
from perception_nodes.evaluation.detection_scores import (
    all_counted,
    coco_scores,
    confusion,
    only_families,
)
from perception_nodes.evaluation.metrics import BoxLabels, groups_of, scores_with_intervals
import pytest

A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)
BOX, CAN = 8, 9


def image(boxes, classes, ignored=None, families=(), scene=None):
    n = len(boxes)
    labels = BoxLabels(
        np.array(boxes, np.float32).reshape(n, 4), np.array(classes, np.int64),
        np.array(ignored or [False] * n, np.bool_))
    return LabelledImage(Path('a.png'), 60, 10, labels, families or ('',) * n, scene)


def found(boxes, classes, scores):
    return Detections(np.array(boxes, np.float32).reshape(len(boxes), 4),
                      np.array(scores, np.float32), np.array(classes, np.int64))


def test_half_of_the_boxes_found_is_half_of_the_score():
    images = [image([A, B], [BOX, CAN], scene=1), image([A, B], [BOX, CAN], scene=1)]
    answers = [found([A], [BOX], [0.9])] * 2
    names = {BOX: 'box', CAN: 'can', 10: 'bottle'}
    values = coco_scores(images, answers, seed=0, class_names=names)
    assert values['AP50'] == pytest.approx(0.5)
    # a single scene cannot vary
    assert (values['AP_ci_low'], values['AP_ci_high']) == pytest.approx((0.5, 0.5))
    assert values['AP_box'] == values['AP50_box'] == values['AP_box_ci_low'] == 1.0
    assert values['AP50_can'] == 0.0
    assert np.isnan(values['AP_bottle'])


def test_an_ignored_box_counts_when_asked_to():
    images = [image([A, B], [BOX, BOX], ignored=[False, True])]
    answers = [found([A], [BOX], [0.9])]
    assert coco_scores(images, answers, 0)['AP50'] == pytest.approx(1.0)
    # precision 1 up to a recall of one half, read at 51 of 101 recalls
    assert coco_scores(all_counted(images), answers, 0)['AP50'] == pytest.approx(51 / 101)


def test_families_are_scored_apart():
    images = [image([A, B, C], [BOX, BOX, CAN], families=('carton', 'milk_carton', 'tin'))]
    answers = [found([A], [BOX], [0.9])]
    seen = only_families(images, {'carton', 'tin'}, {BOX})
    held_out = only_families(images, {'milk_carton'}, {BOX})
    assert coco_scores(seen, answers, 0)['AP50'] == pytest.approx(1.0)
    assert coco_scores(held_out, answers, 0)['AP50'] == 0.0


def test_pictures_of_a_scene_are_drawn_together():
    groups = groups_of([7, 7, None, None, 8])
    assert groups.tolist() == [0, 0, 1, 2, 3]
    drawn = []
    scores_with_intervals(lambda w: drawn.append(w) or {'n': 1.0}, groups, seed=0, resamples=20)
    assert all(weights[0] == weights[1] for weights in drawn)
    assert any(weights[2] != weights[3] for weights in drawn)


def test_confusion_tells_mistaken_missed_and_invented():
    images = [image([A, B, C], [BOX, CAN, CAN], ignored=[False, False, True])]
    answers = [found([A, B, (0, 30, 9, 39), C, C], [CAN, CAN, BOX, CAN, BOX],
                     [0.9, 0.8, 0.7, 0.6, 0.6])]
    labels = [one.labels for one in images]
    counts = confusion(labels, answers, [BOX, CAN], 0.5)
    assert counts.tolist() == [[0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert confusion(labels, answers, [BOX, CAN], 0.85).tolist() == [
        [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    nothing = [image([], [])]
    assert confusion([nothing[0].labels], answers, [BOX, CAN], 0.85)[2].tolist() == [0, 1, 0]
