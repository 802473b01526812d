"""What is kept of a model's boxes."""

import numpy as np
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.types import Detections
import pytest


class FixedModel:
    """Finds the same boxes in every frame."""

    class_names = {1: 'one', 2: 'two'}

    def __init__(self, rows, needs_suppression=True):
        self.needs_suppression = needs_suppression
        table = np.array(rows, np.float32).reshape(-1, 6)
        self.found = Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))

    def predict(self, frames):
        """Return the same boxes for each frame."""
        return [self.found for _ in frames]


FRAME = np.zeros((50, 100, 3), np.uint8)


def test_threshold_suppression_and_limit():
    """Weak boxes and duplicates go, the rest comes best first and at most as many as asked."""
    model = FixedModel([
        [0, 0, 10, 10, 0.6, 1], [0, 0, 10, 10, 0.9, 1], [20, 0, 30, 10, 0.4, 1],
        [40, 0, 50, 10, 0.7, 2], [60, 0, 70, 10, 0.65, 2]])
    detector = ObjectDetector(model, DetectionParams(score_threshold=0.5, max_detections=2))
    found, = detector.detect([FRAME])
    assert found.class_ids.tolist() == [1, 2]
    np.testing.assert_allclose(found.scores, [0.9, 0.7])


def test_boxes_are_clipped_to_their_own_frame():
    """Frames of one batch may differ in size."""
    detector = ObjectDetector(FixedModel([[-5, -5, 90, 60, 0.9, 1]]), DetectionParams())
    small, large = detector.detect([FRAME[:20, :30], FRAME])
    assert small.boxes_xyxy.tolist() == [[0, 0, 30, 20]]
    assert large.boxes_xyxy.tolist() == [[0, 0, 90, 50]]


def test_nothing_found_is_an_empty_result():
    """An empty result keeps its shapes."""
    found, = ObjectDetector(FixedModel([]), DetectionParams()).detect([FRAME])
    assert found.boxes_xyxy.shape == (0, 4)


def test_a_model_with_one_box_per_object_keeps_overlapping_boxes():
    """Two people behind each other are two boxes; the order and the limit still hold."""
    rows = [[0, 0, 10, 10, 0.6, 1], [0, 0, 10, 10, 0.9, 1], [0, 0, 10, 11, 0.7, 1]]
    found, = ObjectDetector(FixedModel(rows, False), DetectionParams()).detect([FRAME])
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.6])
    found, = ObjectDetector(
        FixedModel(rows, False), DetectionParams(max_detections=2)).detect([FRAME])
    np.testing.assert_allclose(found.scores, [0.9, 0.7])
    assert len(ObjectDetector(FixedModel(rows), DetectionParams()).detect([FRAME])[0]) == 1


def test_classes_have_thresholds_of_their_own_and_can_be_left_out():
    """A class threshold replaces the general one, in both directions."""
    rows = [[0, 0, 10, 10, 0.6, 1], [20, 0, 30, 10, 0.3, 2], [40, 0, 50, 10, 0.1, 2]]

    def found(**params):
        detector = ObjectDetector(FixedModel(rows), DetectionParams(**params))
        return [round(score, 6) for score in detector.detect([FRAME])[0].scores.tolist()]

    assert found() == [0.6]
    assert found(class_score_thresholds=['two=0.2']) == [0.6, 0.3]
    assert found(class_score_thresholds=('one=0.7', 'two = 0')) == [0.3, 0.1]
    assert found(classes=['two']) == []
    assert found(classes=['two'], score_threshold=0.3) == [0.3]
    assert found(classes=['one', 'two'], score_threshold=0.0) == [0.6, 0.3, 0.1]


@pytest.mark.parametrize(('params', 'sentence'), [
    ({'classes': ('tow',)}, "'classes' names class 'tow', which the model does not know; "
                            "did you mean 'two'?"),
    ({'classes': ('zebra',)}, 'there are one, two'),
    ({'class_score_thresholds': ('ONE=0.4',)}, "did you mean 'one'?"),
])
def test_unknown_classes_are_answered_with_known_ones(params, sentence):
    """At the start and while running; what was set before stays."""
    detector = ObjectDetector(FixedModel([[0, 0, 9, 9, 0.9, 1]]), DetectionParams())
    with pytest.raises(ValueError) as caught:
        detector.params = DetectionParams(**params)
    assert sentence in str(caught.value)
    assert len(detector.detect([FRAME])[0]) == 1
    with pytest.raises(ValueError):
        ObjectDetector(FixedModel([]), DetectionParams(**params))


@pytest.mark.parametrize(('params', 'sentence'), [
    ({'class_score_thresholds': ('one',)}, "contains 'one'; each entry must be a class"),
    ({'class_score_thresholds': ('one=high',)}, "contains 'one=high'"),
    ({'class_score_thresholds': ('one=1.5',)}, "contains 'one=1.5'"),
    ({'class_score_thresholds': ('=0.5',)}, "contains '=0.5'"),
    ({'input_size': (640,)}, "'input_size' is [640]; it must be empty or two numbers"),
    ({'input_size': (640, 0)}, "'input_size' is 0; it must be at least 1 px"),
    ({'camera_domain': 'photo'}, 'choose one of auto, real, simulation'),
])
def test_malformed_parameters_are_refused(params, sentence):
    """Without a model, as soon as they are set."""
    with pytest.raises(ValueError) as caught:
        DetectionParams(**params)
    assert sentence in str(caught.value)
