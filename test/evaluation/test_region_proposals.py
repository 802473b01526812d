"""Windows cover the picture, grown regions hold the object."""

import numpy as np
from perception_nodes.core.boxes import iou_matrix
from perception_nodes.evaluation.region_proposals import grown_regions, sliding_windows
import pytest


def test_windows_stay_inside_and_reach_every_corner():
    """Of every shape, for wide and for narrow pictures."""
    for width, height in ((640, 480), (200, 500)):
        boxes = sliding_windows(width, height)
        assert boxes.min() >= 0.0
        assert boxes[:, 2].max() == pytest.approx(width)
        assert boxes[:, 3].max() == pytest.approx(height)
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        centre = np.array([[width / 2 - 80, height / 2 - 80, width / 2 + 80, height / 2 + 80]])
        assert iou_matrix(boxes, centre.astype(np.float32)).max() > 0.5


def test_a_thing_of_two_colours_is_among_the_regions():
    """The parts are segments, the whole comes from merging them before the background."""
    pytest.importorskip('skimage')
    rgb = np.full((120, 160, 3), 230, np.uint8)
    rgb[40:90, 50:80] = (180, 30, 30)
    rgb[40:90, 80:110] = (140, 20, 60)
    boxes = grown_regions(rgb)
    for true in ([50, 40, 110, 90], [50, 40, 80, 90], [80, 40, 110, 90]):
        assert iou_matrix(boxes, np.array([true], np.float32)).max() > 0.9
