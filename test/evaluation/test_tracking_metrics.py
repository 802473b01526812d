"""HOTA, IDF1 and MOTA of sequences whose answers are known."""

import math

import numpy as np
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.metrics import BoxLabels
from perception_nodes.evaluation.tracking_metrics import match_tracks
import pytest

# of walk(seed), as TrackEval 1.3.0 scores it
TRACKEVAL = {
    0: {'HOTA': 0.317958621, 'DetA': 0.598805152, 'AssA': 0.170035277, 'IDF1': 0.408163265,
        'MOTA': 0.684901532, 'id_switches': 44},
    3: {'HOTA': 0.264515555, 'DetA': 0.582540624, 'AssA': 0.121146457, 'IDF1': 0.292463442,
        'MOTA': 0.640860215, 'id_switches': 64}}


def frame(corners, numbers, class_ids=None, ignored=None, size=10.0):
    """Return the true boxes of one frame, squares at some corners."""
    corners = np.array(corners, np.float32).reshape(-1, 2)
    n = len(corners)
    labels = BoxLabels(
        np.hstack([corners, corners + np.float32(size)]),
        np.zeros(n, np.int64) if class_ids is None else np.array(class_ids, np.int64),
        np.zeros(n, np.bool_) if ignored is None else np.array(ignored, np.bool_))
    return labels, np.array(numbers, np.int64)


def found(corners, numbers, class_ids=None, size=10.0):
    labels, ids = frame(corners, numbers, class_ids, size=size)
    return Detections(
        labels.boxes_xyxy, np.ones(len(ids), np.float32), labels.class_ids, ids)


def tracking_scores(truth, answers):
    return match_tracks(truth, answers).scores(np.ones(len(truth), np.int64))


def test_perfect_tracks_score_one():
    truth = [frame([(0, 0), (50, 0)], [1, 2]), frame([(5, 0), (55, 0)], [1, 2])]
    answers = [found([(0, 0), (50, 0)], [7, 9]), found([(5, 0), (55, 0)], [7, 9])]
    scores = tracking_scores(truth, answers)
    assert scores.pop('id_switches') == 0.0
    assert scores == pytest.approx(dict.fromkeys(('HOTA', 'DetA', 'AssA', 'IDF1', 'MOTA'), 1.0))


def test_a_track_that_changes_its_number_half_way():
    """
    One object over four frames, under one number in two of them and another in the others.

    Every box is found: DetA 1. Each match agrees in two of four frames: AssA 2 / 4. IDF1 counts
    the two frames of one number: 2 * 2 / (4 + 4). One switch of four boxes: MOTA 3 / 4.
    """
    truth = [frame([(0, 0)], [1])] * 4
    answers = [found([(0, 0)], [n]) for n in (5, 5, 6, 6)]
    assert tracking_scores(truth, answers) == pytest.approx({
        'HOTA': math.sqrt(0.5), 'DetA': 1.0, 'AssA': 0.5, 'IDF1': 0.5, 'MOTA': 0.75,
        'id_switches': 1.0})


def test_what_is_missed_and_invented():
    """Two frames, two objects: one never found, and one box where nothing is."""
    truth = [frame([(0, 0), (50, 0)], [1, 2])] * 2
    answers = [found([(0, 0)], [5]), found([(0, 0), (90, 90)], [5, 6])]
    assert tracking_scores(truth, answers) == pytest.approx({
        'HOTA': math.sqrt(2 / 5), 'DetA': 2 / 5, 'AssA': 1.0, 'IDF1': 2 * 2 / 7,
        'MOTA': 1.0 - 3 / 4, 'id_switches': 0.0})


def test_classes_are_not_mixed():
    truth = [frame([(0, 0)], [1], [3])]
    scores = tracking_scores(truth, [found([(0, 0)], [1], [4])])
    assert (scores['HOTA'], scores['IDF1']) == (0.0, 0.0)
    assert scores['MOTA'] == -1.0  # a miss and a false alarm


def test_ignored_boxes_count_neither_way():
    truth = [frame([(0, 0), (50, 0)], [1, 2], ignored=[False, True])]
    both, one = found([(0, 0), (50, 0)], [1, 2]), found([(0, 0)], [1])
    assert tracking_scores(truth, [both])['HOTA'] == pytest.approx(1.0)
    assert tracking_scores(truth, [one])['HOTA'] == pytest.approx(1.0)


def test_nothing_to_follow_is_no_score():
    empty = Detections.empty()
    assert all(map(math.isnan, tracking_scores([frame([], [])], [empty]).values()))
    assert tracking_scores([frame([(0, 0)], [1])], [empty])['HOTA'] == 0.0


def test_boxes_without_numbers_are_refused():
    boxes = found([(0, 0)], [1])
    without = Detections(boxes.boxes_xyxy, boxes.scores, boxes.class_ids)
    with pytest.raises(ValueError, match='numbers'):
        tracking_scores([frame([(0, 0)], [1])], [without])


def test_frames_that_count_more_often():
    """
    Two frames of a track that is kept, two of one that gets another number.

    Who goes with whom stays as over all four; without the last two frames there is no switch.
    """
    truth = [frame([(0, 0), (50, 0)], [1, 2])] * 4
    answers = [found([(0, 0), (50, 0)], [5, n]) for n in (7, 7, 8, 8)]
    matches = match_tracks(truth, answers)
    scores = matches.scores(np.array([2, 1, 0, 0]))
    # the first object agrees in 4 of 4 frames, the second in 2 of 4
    assert scores == pytest.approx({
        'HOTA': math.sqrt(0.75), 'DetA': 1.0, 'AssA': 0.75, 'IDF1': 1.0, 'MOTA': 1.0,
        'id_switches': 0.0})
    assert matches.scores(np.array([0, 0, 3, 0]))['id_switches'] == 3.0
    assert all(map(math.isnan, matches.scores(np.zeros(4, np.int64)).values()))


def walk(seed, frames=60, objects=8):
    """Return objects that move about, and a tracker that loses, mixes up and invents some."""
    rng = np.random.default_rng(seed)
    corner, speed = rng.uniform(0, 200, (objects, 2)), rng.normal(0, 4, (objects, 2))
    size = rng.uniform(30, 60, (objects, 2))
    numbers, new, truth, answers = list(range(objects)), 100, [], []
    for _ in range(frames):
        corner += speed
        there = rng.random(objects) < 0.95
        boxes = np.hstack([corner, corner + size])[there].astype(np.float32)
        truth.append((BoxLabels(boxes, np.zeros(len(boxes), np.int64),
                                np.zeros(len(boxes), np.bool_)), np.arange(objects)[there]))
        rows, ids = [], []
        for i in range(objects):
            if rng.random() < 0.03:
                numbers[i], new = new, new + 1
            if rng.random() < 0.05:
                j = int(rng.integers(objects))
                numbers[i], numbers[j] = numbers[j], numbers[i]
        for i in range(objects):
            if rng.random() < 0.85:
                rows.append(np.hstack([corner[i], corner[i] + size[i]]) + rng.normal(0, 4, 4))
                ids.append(numbers[i])
        if rng.random() < 0.3:
            place = rng.uniform(0, 200, 2)
            rows.append(np.hstack([place, place + 40]))
            ids.append(new)
            new += 1
        n = len(rows)
        answers.append(Detections(
            np.array(rows, np.float32).reshape(-1, 4), np.full(n, 0.9, np.float32),
            np.zeros(n, np.int64), np.array(ids, np.int64)))
    return truth, answers


@pytest.mark.parametrize('seed', TRACKEVAL)
def test_the_scores_are_those_of_trackeval(seed):
    assert tracking_scores(*walk(seed)) == pytest.approx(TRACKEVAL[seed], abs=1e-6)
