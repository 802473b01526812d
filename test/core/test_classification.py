"""What is kept of a classifier's answers, and what is cut out of an image for it."""

import numpy as np
from perception_nodes.core.classification import ClassificationParams, cut_out, ImageClassifier
from perception_nodes.core.types import ClassScores
import pytest


class Brightness:
    """A model that is as sure of class 1 as a picture is bright, and remembers the shapes."""

    class_names = {0: 'dark', 1: 'bright', 2: 'never'}

    def __init__(self):
        self.shapes = []

    def predict(self, frames):
        """Answer with every class, best first."""
        self.shapes += [frame.shape for frame in frames]
        answers = []
        for frame in frames:
            bright = frame.mean() / 255
            scores = np.array([1 - bright, bright, 0], np.float32)
            order = np.argsort(-scores, kind='stable')
            answers.append(ClassScores(order, scores[order]))
        return answers


def grey(level, shape=(20, 40)):
    return np.full((*shape, 3), level, np.uint8)


def test_the_best_classes_above_the_threshold_are_kept():
    """Never more than asked for, possibly none."""
    classifier = ImageClassifier(Brightness(), ClassificationParams(score_threshold=0.2))
    dark, middle = classifier.classify([grey(0), grey(102)])
    assert dark.class_ids.tolist() == [0]
    assert middle.class_ids.tolist() == [0, 1]
    assert middle.scores == pytest.approx([0.6, 0.4])
    classifier.params = ClassificationParams(score_threshold=0.2, max_classes=1)
    assert classifier.classify([grey(102)])[0].class_ids.tolist() == [0]
    classifier.params = ClassificationParams(score_threshold=0.9)
    assert classifier.classify([grey(102)])[0].class_ids.tolist() == []
    assert classifier.classify([]) == []


def test_each_box_gets_the_class_of_its_own_pixels():
    """Boxes outside the image get none, and do not shift the others."""
    image = grey(0)
    image[5:15, 25:35] = 255
    boxes = np.array([[25, 5, 35, 15], [50, 0, 60, 10], [0, 0, 10, 10], [5, 5, 5, 9],
                      [np.nan, 0, 9, 9], [0, 0, np.inf, 9]], np.float32)
    model = Brightness()
    found = ImageClassifier(model, ClassificationParams(crop_margin=0.0)).classify_boxes(
        image, boxes)
    assert [f.class_ids[:1].tolist() for f in found] == [[1], [], [0], [], [], []]
    assert model.shapes == [(10, 10, 3), (10, 10, 3)]


def test_a_cut_out_is_the_square_about_the_box_inside_the_image():
    """Proportions stay; the margin is a part of the longer side."""
    image = np.arange(100 * 120 * 3).reshape(100, 120, 3).astype(np.uint8)
    assert np.array_equal(
        cut_out(image, np.array([40, 30, 60, 70], np.float32)), image[30:70, 30:70])
    assert np.array_equal(
        cut_out(image, np.array([40, 30, 60, 70], np.float32), 0.5), image[20:80, 20:80])
    assert np.array_equal(
        cut_out(image, np.array([-10, 90, 30, 130], np.float32)), image[90:100, 0:30])
    assert cut_out(image, np.array([3.2, 4.7, 3.4, 4.8], np.float32)).shape[:2] == (1, 1)
