"""Small fields of numbers to masks, where the border's place is known."""

import numpy as np
from perception_nodes.backends.masks import masks_from_fields
from perception_nodes.backends.preprocess import Resize
import pytest

RAMP = np.tile(np.arange(4, dtype=np.float32), (3, 1))  # 0 1 2 3 from left to right


def mask(region, level, step=None, field=RAMP, image_shape=(30, 40)):
    """Return the only mask, at the image's size."""
    step = step or Resize((0.1, 0.1), (0.0, 0.0))
    masks = masks_from_fields([field], [step], np.array([region]), image_shape, level)
    whole = np.zeros(image_shape, bool)
    whole[masks.place(0)] = masks.parts[0]
    return whole


@pytest.mark.parametrize('level', [0.45, 1.0, 1.55, 2.3])
def test_a_ramp_crosses_the_level_where_it_should(level):
    """The field's pixel k has its middle at 10 (k + 0.5) of the image."""
    found = mask([0, 0, 40, 30], level)
    middles = np.arange(40) + 0.5
    assert (found == found[0]).all()
    clear = np.abs(middles - 10 * (level + 0.5)) > 0.5
    assert (found[0] == (middles > 10 * (level + 0.5)))[clear].all()


def test_an_offset_moves_it():
    """A field that covers only a part of the image, 5 pixels from its left border."""
    found = mask([5, 3, 25, 18], 1.5, Resize((0.2, 0.2), (-1.0, -0.6)))
    assert found[3:18, 15:25].all()
    assert found.sum() == 15 * 10


@pytest.mark.parametrize(('region', 'pixels'), [
    ([-10, -10, 20, 20], 400), ([30, 20, 60, 60], 100), ([-20, 0, -5, 10], 0),
    ([50, 0, 60, 10], 0), ([10, 5, 10, 9], 0), ([10, 9, 30, 5], 0)])
def test_regions_end_where_the_image_does(region, pixels):
    """Outside, empty and turned ones give no pixels at all."""
    assert mask(region, -1.0).sum() == pixels


def test_no_objects_are_no_masks():
    """But they know the image's size."""
    masks = masks_from_fields([], [], np.empty((0, 4), np.int64), (30, 40), 0.5)
    assert len(masks) == 0
    assert masks.image_shape == (30, 40)
