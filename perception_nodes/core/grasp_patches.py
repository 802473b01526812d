"""What a learned scorer sees of a candidate: the heights about it, in its own frame."""

from numba import njit
import numpy as np
import numpy.typing as npt
from perception_nodes.core import grasp_kernels as kernels
from perception_nodes.core.grasping import (
    distances_from_middle_m,
    geometric_scores,
    GraspPlan,
)

SIDE = 32  # pixels
PIXEL_M = 0.004
CHANNELS = 2  # highest reading; the top of unseen space
_CLIP_M = 0.06  # of heights, from the fingertips
# columns of a candidate that are given beside the patch, and what brings each to about one
_COLUMNS = (
    (kernels.TIP, 0.05), (kernels.OPENING, 0.04), (kernels.WIDTH, 0.04), (kernels.GRIP, 0.02),
    (kernels.SKEW, 0.2), (kernels.WEDGE, 0.2), (kernels.LEAN, 0.3), (kernels.BREADTH, 1.0),
    (kernels.ROOM, 0.01), (kernels.UNSEEN, 0.5), (kernels.HIDDEN, 1.0), (kernels.PALM_ROOM, 0.02))
MIDDLE, GEOMETRY = len(_COLUMNS), len(_COLUMNS) + 1  # the features that are no columns
FEATURES = len(_COLUMNS) + 2
_SUREST = 1e-6  # that the geometry may be, of 0 and 1
_TRUST = 0.25  # in a network's logit against the geometry's


def scorer_inputs(
    plan: GraspPlan, which: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """
    Return the patches and the features of some candidates.

    Columns of a patch run along the closing direction, heights are over the fingertips in units
    of 6 cm. The last feature is the logit of the geometry's own score.

    :return: (N, CHANNELS, SIDE, SIDE) and (N, FEATURES) float32.
    """
    rows = plan.rows[which]
    patches = np.empty((len(rows), CHANNELS, SIDE, SIDE), np.float32)
    _cut_out(plan.heights.top_m, plan.heights.upper_m, rows, PIXEL_M / plan.heights.cell_m,
             patches)
    columns, scales = zip(*_COLUMNS, strict=True)
    features = np.empty((len(rows), FEATURES), np.float32)
    features[:, :MIDDLE] = rows[:, list(columns)] / np.array(scales, np.float32)
    features[:, MIDDLE] = distances_from_middle_m(plan, which) / 0.05
    share = np.clip(geometric_scores(plan, which), _SUREST, 1.0 - _SUREST)
    features[:, GEOMETRY] = np.log(share / (1.0 - share))
    return patches, np.minimum(features, np.float32(5.0))


def mixed(
    logits: npt.NDArray[np.float32], features: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return the (N,) logits of a network, drawn towards those of the geometry."""
    return np.asarray(features[:, GEOMETRY] + _TRUST * (logits - features[:, GEOMETRY]))


@njit(cache=True, error_model='numpy')
def _cut_out(top, upper, rows, step, patches):  # type: ignore[no-untyped-def]
    """Sample both maps about each candidate."""
    for n in range(len(rows)):
        x, y, tip = rows[n, kernels.X], rows[n, kernels.Y], rows[n, kernels.TIP]
        cx, cy = np.cos(rows[n, kernels.ANGLE]), np.sin(rows[n, kernels.ANGLE])
        for r in range(SIDE):
            b = (r - 0.5 * (SIDE - 1)) * step
            for c in range(SIDE):
                s = (c - 0.5 * (SIDE - 1)) * step
                j = int(np.floor(x + cx * s - cy * b))
                i = int(np.floor(y + cy * s + cx * b))
                high, unseen = np.float32(-_CLIP_M), np.float32(-_CLIP_M)
                if 0 <= i < top.shape[0] and 0 <= j < top.shape[1]:
                    high, unseen = top[i, j] - tip, upper[i, j] - tip
                patches[n, 0, r, c] = min(max(high / _CLIP_M, -1.0), 1.0)
                patches[n, 1, r, c] = min(max(unseen / _CLIP_M, -1.0), 1.0)
