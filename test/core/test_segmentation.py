"""What is made of masks: void where unsure, edges, points with classes."""

import numpy as np
from perception_nodes.core.segmentation import (
    class_edges,
    labelled_points,
    PaintedInstances,
    SegmentationParams,
    Segmenter,
)
from perception_nodes.core.types import CameraIntrinsics, Detections, Masks, SegmentationMask
import pytest

FRAME = np.zeros((2, 3, 3), np.uint8)


class Model:
    """Answers the same mask to everything, and notes whether it was asked for confidence."""

    class_names = {0: 'floor', 1: 'wall'}

    def __init__(self, dtype=np.uint8, gives_confidence=True):
        self.ids = np.array([[0, 1, 1], [0, 0, 1]], dtype)
        self.gives_confidence = gives_confidence
        self.asked = []

    def predict(self, frames, *, confidence=False):
        self.asked.append(confidence)
        sure = np.array([[0.9, 0.8, 0.4], [0.5, 0.49, 1.0]], np.float32)
        return [SegmentationMask(self.ids, sure if confidence and self.gives_confidence else None)
                for _ in frames]


def test_confidence_is_computed_only_when_it_is_wanted():
    """By the caller, or for the threshold."""
    model = Model()
    segmenter = Segmenter(model, SegmentationParams())
    mask, = segmenter.segment([FRAME])
    assert mask.confidence is None
    assert (mask.ids == model.ids).all()
    segmenter.segment([FRAME], confidence=True)
    segmenter.params = SegmentationParams(confidence_threshold=0.1)
    segmenter.segment([FRAME])
    assert model.asked == [False, True, True]


@pytest.mark.parametrize(('dtype', 'void'), [(np.uint8, 255), (np.uint16, 65535)])
def test_what_is_not_sure_enough_is_void(dtype, void):
    """The threshold itself is enough; the model's own array is left alone."""
    model = Model(dtype)
    first, second = Segmenter(model, SegmentationParams(confidence_threshold=0.5)).segment(
        [FRAME, FRAME])
    assert first.ids.tolist() == second.ids.tolist() == [[0, 1, void], [0, void, 1]]
    assert first.ids.dtype == dtype
    assert model.ids.max() == 1


def test_a_threshold_needs_probabilities():
    """A model that gives ids only cannot be told how sure to be."""
    segmenter = Segmenter(
        Model(gives_confidence=False), SegmentationParams(confidence_threshold=0.5))
    with pytest.raises(ValueError, match="'confidence_threshold' is 0.5, but the model .* to 0"):
        segmenter.segment([FRAME])


class Instances:
    """Finds two overlapping objects and an unlikely one, the better of them second."""

    class_names = {1: 'cup', 2: 'table'}
    needs_suppression = True
    has_masks = True
    keypoints = 0

    def predict_instances(self, frames, select):
        boxes = np.array([[0, 0, 3, 2], [1, 0, 2, 2], [0, 0, 1, 1]], np.float32)
        found = Detections(
            boxes, np.array([0.5, 0.75, 0.1], np.float32), np.array([2, 1, 1]), masks=Masks(
                (np.ones((1, 3), bool), np.ones((2, 1), bool), np.ones((1, 1), bool)),
                np.array([[0, 0], [0, 1], [0, 0]]), (2, 3)))
        return [found[select(found)] for _ in frames]


@pytest.mark.parametrize(('names', 'rest', 'dtype'), [
    ({0: 'background'}, 0, np.uint8), ({}, 255, np.uint8), ({300: 'background'}, 300, np.uint16),
    ({300: 'ghost'}, 65535, np.uint16)])
def test_instances_are_painted_best_last(names, rest, dtype):
    """The rest becomes the background class, or void where there is none."""
    model = PaintedInstances(Instances(), Instances.class_names | names)
    first, second = model.predict([FRAME, FRAME], confidence=True)
    assert first.ids.tolist() == second.ids.tolist() == [[2, 1, 2], [rest, 1, rest]]
    assert first.ids.dtype == dtype
    assert first.confidence.tolist() == [[0.5, 0.75, 0.5], [1.0, 0.75, 1.0]]
    assert model.predict([FRAME])[0].confidence is None


def test_edges_are_one_pixel_wide():
    """Upright, level and oblique borders; none along the image's own."""
    ids = np.zeros((5, 6), np.uint8)
    ids[2:, 3:] = 7
    assert (class_edges(ids) / 255).astype(int).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 1],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 0, 0, 0]]
    assert class_edges(np.full((1, 1), 9, np.uint16)).tolist() == [[0]]
    assert class_edges(ids).dtype == np.uint8


def test_points_of_a_plane_have_the_classes_of_their_pixels():
    """Depth 2 m everywhere but where there is none."""
    camera = CameraIntrinsics(3, 2, 10.0, 10.0, 1.0, 0.5)
    depth_m = np.full((2, 3), 2.0, np.float32)
    depth_m[0, 0], depth_m[0, 1], depth_m[1, 2] = np.nan, np.inf, 0.0
    ids = np.array([[0, 1, 2], [3, 4, 5]], np.uint8)
    points, labels = labelled_points(ids, depth_m, camera)
    np.testing.assert_allclose(
        points, [[0.2, -0.1, 2.0], [-0.2, 0.1, 2.0], [0.0, 0.1, 2.0]], atol=1e-6)
    assert labels.tolist() == [2, 3, 4]
    assert (points.dtype, labels.dtype) == (np.float32, np.uint16)


def test_points_need_the_camera_of_the_image():
    """A camera_info of another size is not stretched in silence."""
    camera = CameraIntrinsics(6, 4, 10.0, 10.0, 1.0, 0.5)
    with pytest.raises(ValueError, match='3x2 pixels, its camera_info says 6x4'):
        labelled_points(np.zeros((2, 3), np.uint8), np.ones((2, 3), np.float32), camera)


@pytest.mark.parametrize(('values', 'sentence'), [
    ({'confidence_threshold': 1.5}, 'at most 1.0'),
    ({'input_size': (320,)}, 'must be empty or two numbers, width and height'),
    ({'camera_domain': 'photo'}, 'choose one of auto, real, simulation'),
])
def test_wrong_parameters_are_refused(values, sentence):
    """Before a model is loaded."""
    with pytest.raises(ValueError, match=sentence):
        SegmentationParams(**values)
