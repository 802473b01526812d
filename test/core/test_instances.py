"""Masks and key points of what is kept of a model's boxes."""

import numpy as np
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.instances import detector_for, instance_image
from perception_nodes.core.types import Detections, Masks
import pytest

FRAME = np.zeros((6, 8, 3), np.uint8)


def masks(*parts, image_shape=(6, 8)):
    """Return masks that fill rectangles, each given as row, column, height and width."""
    return Masks(
        tuple(np.ones(size, bool) for _, _, *size in parts),
        np.array([corner[:2] for corner in parts], np.int64).reshape(-1, 2), image_shape)


def three():
    """Return three objects whose masks and key points tell which is which."""
    boxes = np.array([[1, 1, 5, 4], [3, 2, 9, 5], [0, 0, 2, 2]], np.float32)
    keypoints = np.ones((3, 2, 3), np.float32)
    keypoints[..., :2] *= np.arange(3)[:, None, None]
    return Detections(
        boxes, np.array([0.6, 0.9, 0.3], np.float32), np.array([1, 1, 2]), np.array([7, 8, 9]),
        masks((1, 1, 3, 4), (2, 3, 3, 5), (0, 0, 2, 2)), keypoints)


class InstancesModel:
    """Finds the same three objects, and remembers of which it was asked for masks."""

    class_names = {1: 'one', 2: 'two'}
    needs_suppression = True
    has_masks = True
    keypoints = 2

    def predict(self, frames):
        """Return boxes alone."""
        found = three()
        return [Detections(found.boxes_xyxy, found.scores, found.class_ids) for _ in frames]

    def predict_instances(self, frames, select):
        """Return what ``select`` chooses of the boxes, with masks."""
        self.asked = [select(boxes).tolist() for boxes in self.predict(frames)]
        return [three()[rows] for rows in self.asked]


def test_of_overlapping_masks_the_better_score_owns_the_pixel():
    """Pixel by pixel, with the index in the detections + 1."""
    found = three()
    assert instance_image(found.masks, found.scores).tolist() == [
        [3, 3, 0, 0, 0, 0, 0, 0],
        [3, 1, 1, 1, 1, 0, 0, 0],
        [0, 1, 1, 2, 2, 2, 2, 2],
        [0, 1, 1, 2, 2, 2, 2, 2],
        [0, 0, 0, 2, 2, 2, 2, 2],
        [0, 0, 0, 0, 0, 0, 0, 0]]
    same = instance_image(found.masks, np.full(3, 0.5, np.float32))
    assert same.dtype == np.uint16
    assert same[2].tolist() == [0, 1, 1, 1, 1, 2, 2, 2]  # of equal ones the first
    assert not instance_image(masks(), np.empty(0, np.float32)).any()


@pytest.mark.parametrize('keep', [
    np.array([2, 0]), np.array([True, False, True]), slice(1, None), slice(None, None, -1),
    np.empty(0, np.int64)])
def test_filtering_keeps_masks_and_keypoints_with_their_boxes(keep):
    """With whatever numpy takes as an index."""
    kept, rows = three()[keep], np.arange(3)[keep].tolist()
    assert len(kept) == len(kept.masks) == len(rows)
    assert kept.object_ids.tolist() == [7 + row for row in rows]
    assert [part.shape for part in kept.masks.parts] == [
        [(3, 4), (3, 5), (2, 2)][row] for row in rows]
    assert kept.masks.corners.tolist() == [[[1, 1], [2, 3], [0, 0]][row] for row in rows]
    assert kept.keypoints[:, 0, 0].tolist() == rows
    assert kept.masks.image_shape == (6, 8)


def test_masks_are_made_of_what_thresholds_leave():
    """Best first, clipped to the frame; the model is asked once per frame."""
    model = InstancesModel()
    detector = detector_for('instances', model, DetectionParams(score_threshold=0.5))
    found, again = detector.detect([FRAME, FRAME])
    assert model.asked == [[1, 0], [1, 0]]
    assert found.boxes_xyxy.tolist() == [[3, 2, 8, 5], [1, 1, 5, 4]]
    assert found.keypoints[:, 0, 0].tolist() == [1, 0]
    assert instance_image(found.masks, found.scores)[2].tolist() == [0, 2, 2, 1, 1, 1, 1, 1]
    assert len(again) == 2
    detector.params = DetectionParams(classes=('two',), score_threshold=0.2)
    assert detector.detect([FRAME])[0].object_ids.tolist() == [9]


def test_an_instance_model_is_a_detection_model_as_well():
    """Without masks, where nobody asks for them."""
    model = InstancesModel()
    found, = ObjectDetector(model, DetectionParams()).detect([FRAME])
    assert found.masks is None
    assert found.boxes_xyxy.tolist() == [[3, 2, 8, 5], [1, 1, 5, 4]]
    assert type(detector_for('detection', model, DetectionParams())) is ObjectDetector


@pytest.mark.parametrize(('build', 'sentence'), [
    (lambda: masks((4, 0, 3, 1)), 'reach out of an image of'),
    (lambda: masks((-1, 0, 3, 1)), 'reach out of an image of'),
    (lambda: Masks((), np.zeros((1, 2), np.int64), (6, 8)), '0 masks have corners of shape'),
    (lambda: Detections(*(np.zeros(s, np.float32) for s in ((1, 4), 1)), np.zeros(1, np.int64),
                        masks=masks()), '1 boxes have 0 masks'),
    (lambda: Detections(*(np.zeros(s, np.float32) for s in ((1, 4), 1)), np.zeros(1, np.int64),
                        keypoints=np.zeros((1, 17, 2), np.float32)),
     r'key points of shape \(1, 17, 2\); expected \(1, K, 3\)'),
])
def test_what_does_not_fit_together_is_refused(build, sentence):
    """On construction."""
    with pytest.raises(ValueError, match=sentence):
        build()
