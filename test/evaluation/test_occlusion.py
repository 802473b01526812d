"""Heat maps of answers that are known to hang on one place."""

import numpy as np
from perception_nodes.evaluation.occlusion import draw_heat, occlusion_map
import pytest

# row and column of the one pixel that counts
ROW, COLUMN = 40, 70


def brightness(rgb):
    """Score the picture by that pixel alone."""
    return float(rgb[ROW, COLUMN, 0] == 255)


def test_the_place_that_counts_is_the_hottest():
    rgb = np.full((60, 97, 3), 255, np.uint8)
    drop = occlusion_map(rgb, brightness)
    assert (drop.shape, drop.dtype) == ((60, 97), np.float32)
    assert drop[ROW, COLUMN] == drop.max() == 1.0
    assert drop[0, 0] == drop[59, 96] == 0.0
    # patches of 10 pixels that miss it do not matter
    assert not drop[:ROW - 9].any()
    assert not drop[:, :COLUMN - 9].any()


def test_every_pixel_is_covered_and_the_picture_kept():
    rgb = np.zeros((13, 17, 3), np.uint8)
    seen = np.zeros((13, 17), bool)

    def watch(picture):
        seen[(picture == 128).all(axis=2)] = True
        return 0.0

    assert np.isfinite(occlusion_map(rgb, watch)).all()
    assert seen.all()
    assert not rgb.any()


def test_colours_tell_hot_from_cold_but_not_nothing_from_little():
    rgb = np.zeros((4, 4, 3), np.uint8)
    drop = np.zeros((4, 4), np.float32)
    cold = draw_heat(rgb, drop)
    assert (cold == cold[0, 0]).all()
    drop[0, 0] = 0.5
    hot = draw_heat(rgb, drop)
    assert hot[0, 0].sum() > 1.5 * cold[0, 0].sum()
    np.testing.assert_array_equal(hot[3, 3], cold[3, 3])
    drop[0, 0] = 0.001
    assert draw_heat(rgb, drop)[0, 0].astype(int) == pytest.approx(cold[0, 0].astype(int), abs=8)
