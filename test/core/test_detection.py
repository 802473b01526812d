"""What is kept of a model's boxes."""

import numpy as np
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.types import Detections


class FixedModel:
    """Finds the same boxes in every frame."""

    class_names = {1: 'one', 2: 'two'}

    def __init__(self, rows):
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
