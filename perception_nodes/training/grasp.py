"""Train what judges and finds grasps, on depth images in which physics has tried some."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
import logging

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.networks.grasp import GraspScorerNetwork
from perception_nodes.core.grasp_patches import GEOMETRY, scorer_inputs
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
    Judging candidates: cross entropy on what physics said.

    :param train: Examples to learn from, each seen mirrored and turned at random.
    :param val: Examples that choose the checkpoint.
    """

    score = 'AUC'

    def __init__(self, train: ScorerExamples, val: ScorerExamples, seed: int) -> None:
        torch.manual_seed(seed)
        self.network = GraspScorerNetwork()
        self._train, self._val = train, val

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return all parameters as new: nothing is pretrained."""
        return list(self.network.parameters()), []

    def steps(self, batch_size: int) -> int:
        """Return how many whole batches there are; a smaller set makes one."""
        return max(1, len(self._train) // batch_size)

    def batches(
        self, epoch: int, batch_size: int, rng: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield patches, mirrored at random and with new noise, features and labels."""
        train = self._train
        order = rng.permutation(len(train))
        for k in range(self.steps(batch_size)):
            rows = order[k * batch_size:(k + 1) * batch_size]
            patches = train.patches[rows].astype(np.float32)
            for axis in (2, 3):
                flipped = rng.random(len(rows)) < 0.5
                patches[flipped] = np.flip(patches[flipped], axis)
            patches += rng.normal(0.0, _NOISE, patches.shape).astype(np.float32)
            features = train.features[rows]
            yield (torch.from_numpy(patches), torch.from_numpy(features),
                   torch.from_numpy(train.success[rows].astype(np.float32)))

    def losses(
        self, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], device: torch.device
    ) -> Mapping[str, torch.Tensor]:
        """Return the cross entropy."""
        patches, features, success = (part.to(device) for part in batch)
        return {'lift': functional.binary_cross_entropy_with_logits(
            self.network(patches, features).float(), success)}

    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        """Return how well the network orders candidates, and how well the geometry does."""
        val = self._val
        logits = np.concatenate([
            network(torch.from_numpy(val.patches[rows].astype(np.float32)).to(device),
                    torch.from_numpy(val.features[rows]).to(device)).float().cpu().numpy()
            for rows in np.array_split(np.arange(len(val)), max(1, len(val) // 512))])
        geometry = val.features[:, GEOMETRY]
        return {'AUC': area_under_roc(logits, val.success),
                'top1': top_success(logits, val), 'log_loss': log_loss(logits, val.success),
                'AUC_geometry': area_under_roc(geometry, val.success),
                'top1_geometry': top_success(geometry, val)}


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


def top_success(scores: npt.NDArray[np.floating], examples: ScorerExamples) -> float:
    """Return the share of views whose highest candidate lifts, of views that have both kinds."""
    right = []
    for view in np.unique(examples.views):
        rows = np.flatnonzero(examples.views == view)
        tried = examples.success[rows]
        if tried.any() and not tried.all():
            right.append(tried[scores[rows].argmax()])
    return float(np.mean(right)) if right else float('nan')


def log_loss(logits: npt.NDArray[np.floating], success: npt.NDArray[np.bool_]) -> float:
    """Return the mean cross entropy."""
    return float(np.logaddexp(0.0, np.where(success, -logits, logits)).mean())
