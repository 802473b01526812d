"""Train what judges and finds grasps, on depth images in which physics has tried some."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
import logging
import math

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.networks.grasp import GraspScorerNetwork
from perception_nodes.core.grasp_patches import GEOMETRY, mixed, scorer_inputs
from perception_nodes.core.grasping import GraspParams, GraspPlan, GraspPlanner, relaxed
from perception_nodes.core.height_map import NoSupportError
from perception_nodes.training.grasp_labels import LabelledView
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

log = logging.getLogger(__name__)

# a candidate nearer than all three to a labelled grasp is that grasp
_SAME_PLACE_M, _SAME_OPENING_M, _SAME_AXES = 0.003, 0.006, 0.995
_NOISE = 0.02  # of patches, in their units
_LIFT_WEIGHT = 0.5  # of the cross entropy, beside the choice

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[int]]


@dataclass(frozen=True, eq=False)
class ScorerExamples:
    """Candidates as the scorer sees them, and what physics said."""

    patches: npt.NDArray[np.float16]  # (N, CHANNELS, SIDE, SIDE)
    features: npt.NDArray[np.float32]  # (N, FEATURES)
    success: npt.NDArray[np.bool_]  # (N,)
    views: npt.NDArray[np.int64]  # (N,) which view each is of

    def __len__(self) -> int:
        return len(self.success)


def scorer_examples(views: Sequence[LabelledView], what: str) -> ScorerExamples:
    """
    Plan on each view, and give the candidates that were tried their labels.

    So labels serve every geometry that still finds those grasps.

    :param what: Name of the set, for the log.
    :raises ValueError: If no grasp is found again.
    """
    parts, tried = [], sum(len(view.success) for view in views)
    for n, (view, plan) in enumerate(planned(views, what)):
        usable = plan.usable
        grasps, found = same_grasps(
            view.camera_from_grasp, view.opening_m, plan.poses(usable), plan.openings_m(usable))
        patches, features = scorer_inputs(plan, usable[found])
        parts.append((patches.astype(np.float16), features, view.success[grasps],
                      np.full(len(grasps), n)))
    if not any(len(part[2]) for part in parts):
        raise ValueError(f'the geometry finds none of the {tried} labelled grasps of {what} again')
    examples = ScorerExamples(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    log.info('%s: %d of %d labelled grasps are found again, %.1f %% of them lift', what,
             len(examples), tried, 100.0 * examples.success.mean())
    return examples


def planned(
    views: Sequence[LabelledView], what: str
) -> Iterator[tuple[LabelledView, GraspPlan]]:
    """Plan on each view from above; views without a support plane are passed over."""
    planner = GraspPlanner(relaxed(GraspParams()))
    for view in tqdm(views, what, unit='view', disable=None, leave=False):
        try:
            yield view, planner.plans(view.frame, view.context)[0]
        except NoSupportError:
            continue


def same_grasps(
    poses: npt.NDArray[np.float64], openings_m: npt.NDArray[np.float32],
    candidates: npt.NDArray[np.float64], candidate_openings_m: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """
    Return which grasps are among candidates, and which candidate each of those is.

    :param poses: (N, 4, 4) in the same frame as the (M, 4, 4) candidates.
    """
    if len(candidates) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    apart_m = np.linalg.norm(poses[:, None, :3, 3] - candidates[None, :, :3, 3], axis=2)
    turned = np.minimum(
        np.abs(np.einsum('ni,mi->nm', poses[:, :3, 1], candidates[:, :3, 1])),
        np.einsum('ni,mi->nm', poses[:, :3, 2], candidates[:, :3, 2]))
    wider_m = np.abs(openings_m[:, None] - candidate_openings_m[None])
    same = (apart_m < _SAME_PLACE_M) & (turned > _SAME_AXES) & (wider_m < _SAME_OPENING_M)
    best = np.where(same, apart_m, np.inf).argmin(axis=1)
    found = np.flatnonzero(same.any(axis=1))
    return found, best[found]


class GraspScorerTask:
    """
    Judging candidates: what each does, and which of a view is best.

    The first is a cross entropy. The second is minus the logarithm of the chance that a choice
    among the view's candidates, by the softmax of their logits, lifts: it looks at the top.

    :param train: Examples to learn from, each seen mirrored and turned at random.
    :param val: Examples that choose the checkpoint, by the same chance as the scorer
        is used.
    """

    score = 'choice'

    def __init__(self, train: ScorerExamples, val: ScorerExamples, seed: int) -> None:
        torch.manual_seed(seed)
        self.network = GraspScorerNetwork()
        self._train, self._val = train, val
        self._rows = [np.flatnonzero(train.views == view) for view in np.unique(train.views)]

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return all parameters as new: nothing is pretrained."""
        return list(self.network.parameters()), []

    def steps(self, batch_size: int) -> int:
        """Return how many batches of whole views there are, of about that many candidates."""
        return max(1, len(self._train) // batch_size)

    def batches(self, epoch: int, batch_size: int, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield candidates of whole views, mirrored at random and with new noise."""
        train = self._train
        order = rng.permutation(len(self._rows))
        for some in np.array_split(order, self.steps(batch_size)):
            views = [self._rows[int(n)] for n in some]
            rows = np.concatenate(views)
            patches = train.patches[rows].astype(np.float32)
            for axis in (2, 3):
                flipped = rng.random(len(rows)) < 0.5
                patches[flipped] = np.flip(patches[flipped], axis)
            patches += rng.normal(0.0, _NOISE, patches.shape).astype(np.float32)
            yield (torch.from_numpy(patches), torch.from_numpy(train.features[rows]),
                   torch.from_numpy(train.success[rows]), [len(view) for view in views])

    def losses(self, batch: Batch, device: torch.device) -> Mapping[str, torch.Tensor]:
        """Return both terms."""
        patches, features, success = (part.to(device) for part in batch[:3])
        logits = self.network(patches, features).float()
        lift = functional.binary_cross_entropy_with_logits(logits, success.float())
        chances = [
            torch.log_softmax(some, 0)[right].logsumexp(0)
            for some, right in zip(logits.split(batch[3]), success.split(batch[3]), strict=True)
            if right.any() and not right.all()]
        choice = -torch.stack(chances).sum() / len(batch[3]) if chances else 0.0 * lift
        return {'lift': _LIFT_WEIGHT * lift, 'choice': choice}

    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        """
        Return how well candidates are ordered, as the scorer is used and by the geometry alone.

        ``choice`` is how often a choice lifts, by a sharp softmax among the candidates of views
        that have both kinds; ``top1`` takes the highest.
        """
        val = self._val
        logits = np.concatenate([
            network(torch.from_numpy(val.patches[rows].astype(np.float32)).to(device),
                    torch.from_numpy(val.features[rows]).to(device)).float().cpu().numpy()
            for rows in np.array_split(np.arange(len(val)), max(1, len(val) // 512))])
        geometry = val.features[:, GEOMETRY]
        found: dict[str, float] = {}
        for end, values in (('', mixed(logits, val.features)), ('_geometry', geometry)):
            choice, top1 = chosen_success(values, val)
            found |= {f'choice{end}': choice, f'top1{end}': top1,
                      f'AUC{end}': area_under_roc(values, val.success),
                      f'log_loss{end}': log_loss(values, val.success)}
        return found


def area_under_roc(
    scores: npt.NDArray[np.floating], success: npt.NDArray[np.bool_]
) -> float:
    """Return how often a success is scored higher than a failure; 0.5 where one kind lacks."""
    order = np.sort(scores)
    # ranks that equal scores share
    ranks = 0.5 * (np.searchsorted(order, scores, 'left')
                   + np.searchsorted(order, scores, 'right') - 1)
    good, bad = int(success.sum()), int((~success).sum())
    if not good or not bad:
        return 0.5
    return float((ranks[success].mean() - (good - 1) / 2.0) / bad)


def chosen_success(
    logits: npt.NDArray[np.floating], examples: ScorerExamples
) -> tuple[float, float]:
    """
    Return how often a choice lifts, by the softmax of twice the logits and by the highest.

    The mean is over views that have both kinds; NaN where there is none.
    """
    chances, highest = [], []
    for view in np.unique(examples.views):
        rows = np.flatnonzero(examples.views == view)
        lifts, values = examples.success[rows], logits[rows]
        if lifts.any() and not lifts.all():
            weights = np.exp(2.0 * (values - values.max()))
            chances.append(weights[lifts].sum() / weights.sum())
            highest.append(lifts[values.argmax()])
    return (float(np.mean(chances)), float(np.mean(highest))) if chances else (math.nan, math.nan)


def log_loss(logits: npt.NDArray[np.floating], success: npt.NDArray[np.bool_]) -> float:
    """Return the mean cross entropy."""
    return float(np.logaddexp(0.0, np.where(success, -logits, logits)).mean())
