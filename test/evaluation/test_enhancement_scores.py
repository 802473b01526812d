"""What is said of pictures that were made better, and of the boxes found in them."""

import numpy as np
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.corruptions import corrupt
from perception_nodes.evaluation.enhancement import (
    mean_squared_error,
    non_local_means,
    psnr_db,
    scores_and_gains,
    ssim,
    unsharp_masked,
)
from perception_nodes.evaluation.metrics import BoxLabels
import pytest


@pytest.fixture
def picture():
    """Return (48, 64, 3) of squares."""
    coarse = np.random.default_rng(0).integers(60, 200, (6, 8, 3), np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)


def psnr(rgb, good):
    return psnr_db(mean_squared_error(rgb, good))


def test_quality_of_pictures(picture):
    """By hand: an error of 10 everywhere; equal pictures differ by rounding only."""
    assert psnr(picture + np.uint8(10), picture) == pytest.approx(10 * np.log10(255**2 / 100))
    assert psnr(picture, picture) == pytest.approx(10 * np.log10(255**2 * 12))
    assert ssim(picture, picture) == pytest.approx(1.0)
    assert ssim(corrupt(picture, 'blur', 3, 0), picture) < 0.8


def test_classical_filters_do_what_they_are_for(picture):
    """Edges become steeper again, and grain on flat parts less."""
    blurred = corrupt(picture, 'blur', 2, 0)
    sharpened = unsharp_masked(blurred)
    assert psnr(sharpened, picture) > psnr(blurred, picture) + 0.3
    flat = np.full((48, 64, 3), 128, np.uint8)
    noisy = corrupt(flat, 'noise', 1, 0)
    assert psnr(non_local_means(noisy), flat) > psnr(noisy, flat) + 3.0


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def found(*rows):
    return Detections(boxes(*rows), np.full(len(rows), 0.9, np.float32),
                      np.zeros(len(rows), np.int64))


def test_gains_are_paired_over_pictures():
    """Half the pictures are hopeless: scores are uncertain, that nothing is gained is not."""
    box = (0, 0, 10, 10)
    truth = BoxLabels(boxes(box), np.zeros(1, np.int64), np.zeros(1, np.bool_))
    plain = [found(box), found()] * 10
    values = scores_and_gains(
        [truth] * 20, {'none': plain, 'same': list(plain), 'all': [found(box)] * 20}, 'none',
        np.arange(20), seed=0)
    assert values['none_mAP50'] == pytest.approx(0.5)
    assert values['none_mAP50_ci_low'] < 0.4 < 0.6 < values['none_mAP50_ci_high']
    assert (values['same_gain'], values['same_gain_ci_low'], values['same_gain_ci_high']) == (
        0.0, 0.0, 0.0)
    assert values['all_mAP50_ci_low'] == values['all_mAP50_ci_high'] == pytest.approx(1.0)
    assert values['all_gain'] == pytest.approx(0.5)
    assert 0.2 < values['all_gain_ci_low'] < 0.5 < values['all_gain_ci_high'] < 0.8
    assert 'none_gain' not in values
