"""Pictures made worse: how much, and the same every time."""

import numpy as np
from perception_nodes.evaluation.corruptions import (
    corrupt,
    CORRUPTIONS,
    motion_blurred,
    STRENGTHS,
)
import pytest


@pytest.fixture(scope='module')
def picture():
    """Return (48, 64, 3) with edges and texture."""
    coarse = np.random.default_rng(0).integers(40, 216, (6, 8, 3), np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_each_strength_is_worse_than_the_one_before(picture, name):
    errors = []
    for strength in STRENGTHS:
        worse = corrupt(picture, name, strength, seed=1)
        assert (worse.shape, worse.dtype) == (picture.shape, np.uint8)
        errors.append(float(np.abs(worse.astype(float) - picture).mean()))
        np.testing.assert_array_equal(worse, corrupt(picture, name, strength, seed=1))
    assert 1.0 < errors[0] < errors[1] < errors[2]


def test_noise_and_darkness_are_as_strong_as_said(picture):
    noisy = corrupt(np.full((100, 100, 3), 128, np.uint8), 'noise', 1, seed=0)
    assert noisy.std() == pytest.approx(10.0, abs=0.3)
    dark = corrupt(picture, 'dark', 2, seed=0)
    assert dark.mean() == pytest.approx(picture.mean() / 4.0, abs=0.5)
    other = corrupt(picture, 'noise', 1, seed=2)
    assert (other != corrupt(picture, 'noise', 1, seed=3)).any()


def test_motion_smears_along_its_way_only():
    """A bright point becomes a line of that length, as bright in all; flat pictures stay."""
    point = np.zeros((41, 61, 3), np.uint8)
    point[20, 30] = 250
    level = motion_blurred(point, 9.0, 0.0)[..., 0].astype(float)
    rows, columns = np.nonzero(level)
    assert set(rows) == {20}
    assert (columns.min(), columns.max()) == (30 - 5, 30 + 5)  # half pixels at both ends
    assert level.sum() == pytest.approx(250.0, abs=6.0)
    upright = motion_blurred(point, 9.0, np.pi / 2)[..., 0]
    assert set(np.nonzero(upright)[1]) == {30}
    flat = np.full((30, 40, 3), 77, np.uint8)
    np.testing.assert_array_equal(motion_blurred(flat, 12.3, 0.7), flat)
