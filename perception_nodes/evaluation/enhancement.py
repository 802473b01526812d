"""Whether pictures that are made better before detection are detected better."""

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.metrics import (
    BoxLabels,
    match_detections,
    scores_with_intervals,
)

Pixels = npt.NDArray[np.uint8]

RESAMPLES = 200
_ROUNDING = 1.0 / 12.0  # mean squared error that whole numbers bring by themselves
_UNSHARP_SIGMA_PX, _UNSHARP_AMOUNT = 2.0, 1.0
_FILTER_STRENGTH, _PATCH_PX, _SEARCH_PX = 10.0, 5, 11


def unsharp_masked(rgb: Pixels) -> Pixels:
    """Return (H, W, 3) uint8 with what a Gaussian blur would take away, added once more."""
    blurred = cv2.GaussianBlur(rgb, (0, 0), _UNSHARP_SIGMA_PX)
    return np.asarray(
        cv2.addWeighted(rgb, 1.0 + _UNSHARP_AMOUNT, blurred, -_UNSHARP_AMOUNT, 0.0), np.uint8)


def non_local_means(rgb: Pixels) -> Pixels:
    """Return (H, W, 3) uint8 with patches averaged over those alike (Buades et al., 2005)."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    smooth = cv2.fastNlMeansDenoisingColored(
        bgr, None, _FILTER_STRENGTH, _FILTER_STRENGTH, _PATCH_PX, _SEARCH_PX)
    return np.asarray(cv2.cvtColor(smooth, cv2.COLOR_BGR2RGB), np.uint8)


# the filter, and the corruptions that it is made for
CLASSICAL: Mapping[str, tuple[Callable[[Pixels], Pixels], tuple[str, ...]]] = {
    'unsharp': (unsharp_masked, ('motion', 'blur')),
    'non_local_means': (non_local_means, ('noise',))}


def mean_squared_error(rgb: Pixels, good: Pixels) -> float:
    """Return the mean squared difference of two pictures of one size."""
    return float(np.mean((rgb.astype(np.float32) - good) ** 2))


def psnr_db(squared_error: float) -> float:
    """Return the peak signal-to-noise ratio of an error, at most what rounding leaves: 59 dB."""
    return float(10.0 * np.log10(255.0 ** 2 / max(squared_error, _ROUNDING)))


def ssim(rgb: Pixels, good: Pixels) -> float:
    """Return the mean structural similarity of the brightness (Wang et al., 2004), up to 1."""
    from skimage.metrics import structural_similarity

    return float(structural_similarity(*(
        cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (rgb, good))))


def scores_and_gains(
    labels: Sequence[BoxLabels], answers: Mapping[str, Sequence[Detections]], without: str,
    groups: npt.NDArray[np.int64], seed: int,
) -> dict[str, float]:
    """
    Return ``<way>_mAP50`` and ``<way>_gain`` over one of the ways, with 95 % intervals.

    A draw of the bootstrap takes the same pictures for all ways: what makes pictures easy or hard
    is not in the gains.

    :param labels: True boxes, one item per picture.
    :param answers: Detections in the same pictures, by way.
    :param without: The way that the others are compared with.
    :param groups: (pictures,) number of the scene of each.
    """
    matches = {way: match_detections(labels, found) for way, found in answers.items()}

    def score(weights: npt.NDArray[np.int64]) -> dict[str, float]:
        scores = {way: found.mean_average_precision(weights) for way, found in matches.items()}
        gains = {f'{way}_gain': value - scores[without] for way, value in scores.items()
                 if way != without}
        return {f'{way}_mAP50': value for way, value in scores.items()} | gains

    return scores_with_intervals(score, groups, seed, RESAMPLES)
