"""Boxes to learn from, and a classifier that learns from them."""

import numpy as np
import pytest

pytest.importorskip('torch')
pytest.importorskip('onnx')
from perception_nodes.training.region_classifier import (  # noqa: E402
    BoxFeatures,
    FEATURES,
    labelled_boxes,
    RegionClassifier,
)

pytestmark = pytest.mark.slow


def test_boxes_are_labelled_by_overlap():
    """True ones and those alike get the class, far ones the background, the rest nothing."""
    true = np.array([[0, 0, 100, 100]], np.float32)
    proposals = np.array([[0, 0, 100, 80], [0, 0, 100, 40], [200, 200, 300, 300]], np.float32)
    boxes, classes = labelled_boxes(proposals, true, [4], 9, np.random.default_rng(0))
    assert boxes.tolist() == [true[0].tolist(), proposals[0].tolist(), proposals[2].tolist()]
    assert classes.tolist() == [4, 4, 9]
    assert labelled_boxes(proposals, true[:0], [], 9, np.random.default_rng(0))[1].tolist() == (
        [9, 9, 9])


def test_separable_features_are_told_apart():
    """Three groups of features, the last of them the background."""
    rng = np.random.default_rng(1)
    middles = rng.normal(size=(3, FEATURES)).astype(np.float32)
    targets = np.repeat(np.arange(3), 30)
    x = middles[targets] + 0.3 * rng.normal(size=(90, FEATURES)).astype(np.float32)
    classifier = RegionClassifier(2)
    assert classifier.fit(x, targets) < 0.5
    scores = classifier.scores(x)
    assert scores.shape == (90, 2)
    assert (scores[:30, 0] > 0.5).all() and (scores[30:60, 1] > 0.5).all()
    assert (scores[60:].sum(axis=1) < 0.5).all()


@pytest.mark.parametrize('shared', [False, True])
def test_a_box_has_the_features_of_what_is_in_it(shared):
    """The same thing elsewhere has features more alike than another thing."""
    rgb = np.full((480, 640, 3), 128, np.uint8)
    rng = np.random.default_rng(2)
    spots, stripes = rng.integers(0, 255, (96, 96, 3)), np.zeros((96, 96, 3))
    stripes[::8] = stripes[1::8] = stripes[2::8] = 255
    for thing, corners in ((spots, [(0, 0), (256, 256)]), (stripes, [(32, 448)])):
        for top, left in corners:
            rgb[top:top + 96, left:left + 96] = thing
    boxes = np.array([[0, 0, 96, 96], [256, 256, 352, 352], [448, 32, 544, 128]], np.float32)
    found = BoxFeatures(shared=shared)(rgb, boxes)
    assert found.shape == (3, FEATURES)
    alike = np.corrcoef(found)
    assert alike[0, 1] > alike[0, 2] + 0.1
    assert BoxFeatures(shared=shared)(rgb, boxes[:0]).shape == (0, FEATURES)
