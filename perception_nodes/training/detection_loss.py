"""
What a single-shot detector is taught: which cells answer for which box, and how wrong they are.

Cells are assigned by how well they already score and overlap (task-aligned assignment: Feng et
al., TOOD, 2021); a cell's target score is that alignment, so that scores rank boxes by how well
they fit. Sides are taught as distributions (Li et al., Generalized Focal Loss, 2020).
"""

from dataclasses import dataclass

from perception_nodes.backends.networks.scene import BINS, BoxGrid, STRIDES
import torch
from torch.nn import functional
from torchvision.ops import complete_box_iou_loss

_CELLS_PER_BOX = 10
_SCORE_POWER, _OVERLAP_POWER = 0.5, 6.0
_SCORE_WEIGHT, _BOX_WEIGHT, _SIDE_WEIGHT = 2.0, 2.5, 0.5


@dataclass(frozen=True, eq=False)
class BoxTargets:
    """True boxes of N pictures, filled up to the M of the fullest."""

    boxes_xyxy: torch.Tensor  # (N, M, 4) float32, pixels of the network's input
    columns: torch.Tensor  # (N, M) int64: the score column of each box's class
    wanted: torch.Tensor  # (N, M) bool: boxes that are to be found
    ignored: torch.Tensor  # (N, M) bool: boxes that may be found; in neither: filling

    def to(self, device: torch.device) -> 'BoxTargets':
        """Return the same on another device."""
        return BoxTargets(self.boxes_xyxy.to(device), self.columns.to(device),
                          self.wanted.to(device), self.ignored.to(device))


@dataclass(frozen=True, eq=False)
class Assignment:
    """Which cells are to answer."""

    scores: torch.Tensor  # (N, A, classes) target of each score
    owners: torch.Tensor  # (N, A) int64: index of the cell's box; 0 where it has none
    positive: torch.Tensor  # (N, A) bool


def detection_loss(grid: BoxGrid, targets: BoxTargets) -> dict[str, torch.Tensor]:
    """Return the terms ``scores``, ``boxes`` and ``sides`` of a batch."""
    grid = grid._replace(logits=grid.logits.float(), side_logits=grid.side_logits.float())
    boxes = grid.boxes()
    assigned = assign(grid, boxes.detach(), targets)
    total = assigned.scores.sum().clamp(min=1.0)
    excused = _excused(grid, targets) & (assigned.scores == 0.0)
    # most cells are background and soon known to be: what is known must not drown the rest
    surprise = (grid.logits.sigmoid() - assigned.scores).abs().square()
    entropy = functional.binary_cross_entropy_with_logits(
        grid.logits, assigned.scores, reduction='none')
    by_score = (entropy * surprise * ~excused).sum()
    picture, cell = assigned.positive.nonzero(as_tuple=True)
    owner = assigned.owners[picture, cell]
    weights = assigned.scores[picture, cell].sum(-1)
    true_boxes = targets.boxes_xyxy[picture, owner]
    by_box = (complete_box_iou_loss(boxes[picture, cell], true_boxes) * weights).sum()
    by_side = (_side_loss(grid, picture, cell, true_boxes) * weights).sum()
    return {'scores': _SCORE_WEIGHT * by_score / total, 'boxes': _BOX_WEIGHT * by_box / total,
            'sides': _SIDE_WEIGHT * by_side / total}


@torch.no_grad()
def assign(grid: BoxGrid, boxes: torch.Tensor, targets: BoxTargets) -> Assignment:
    """
    Choose the cells that answer for each wanted box.

    :param boxes: (N, A, 4) what the cells say now.
    """
    overlap = _pairwise_iou(targets.boxes_xyxy, boxes)  # (N, M, A)
    column = targets.columns[:, None].expand(-1, grid.logits.shape[1], -1)
    score = grid.logits.sigmoid().gather(2, column).transpose(1, 2)  # (N, M, A)
    near = _holds(targets.boxes_xyxy, grid.centers, STRIDES[0]) & targets.wanted[..., None]
    fit = score.pow(_SCORE_POWER) * overlap.pow(_OVERLAP_POWER)
    # a box that nothing overlaps yet still gets cells: a little of how near they are
    fit = (fit + 1e-9 * (1.0 + overlap)) * near
    best = fit.topk(_CELLS_PER_BOX, dim=-1)
    chosen = torch.zeros_like(near).scatter_(2, best.indices, best.values > 0.0)
    owners = torch.where(chosen, overlap, -1.0).argmax(1)  # (N, A)
    chosen &= functional.one_hot(owners, near.shape[1]).transpose(1, 2).bool()
    fit, overlap = fit * chosen, overlap * chosen
    scale = overlap.amax(-1, keepdim=True) / fit.amax(-1, keepdim=True).clamp(min=1e-12)
    worth = (fit * scale).amax(1)  # (N, A)
    scores = torch.zeros_like(grid.logits).scatter_(
        2, targets.columns.gather(1, owners)[..., None], worth[..., None])
    return Assignment(scores, owners, chosen.any(1))


def _excused(grid: BoxGrid, targets: BoxTargets) -> torch.Tensor:
    """Return (N, A, classes): what may be said inside an ignored box without being wrong."""
    inside = _holds(targets.boxes_xyxy, grid.centers, 0.0) & targets.ignored[..., None]
    classes = functional.one_hot(targets.columns, grid.logits.shape[-1]).float()
    return torch.einsum('nma,nmc->nac', inside.float(), classes) > 0.0


def _side_loss(grid: BoxGrid, picture: torch.Tensor, cell: torch.Tensor,
               true_boxes: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of each cell's four sides, between the two nearest bins."""
    center, stride = grid.centers[cell], grid.strides[cell, None]
    sides = torch.cat([center - true_boxes[:, :2], true_boxes[:, 2:] - center], -1) / stride
    sides = sides.clamp(0.0, BINS - 1.01)
    low = sides.floor().long()
    above = sides - low
    logits = grid.side_logits[picture, cell].flatten(0, 1)
    entropy = (
        functional.cross_entropy(logits, low.flatten(), reduction='none') * (1 - above.flatten())
        + functional.cross_entropy(
            logits, low.flatten() + 1, reduction='none') * above.flatten())
    return entropy.unflatten(0, (-1, 4)).mean(-1)


def _holds(boxes: torch.Tensor, centers: torch.Tensor, least: float) -> torch.Tensor:
    """Return (N, M, A): whether cells lie in boxes, each taken as at least so wide and high."""
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2.0
    half = ((boxes[..., 2:] - boxes[..., :2]) / 2.0).clamp(min=least / 2.0)
    away = (centers - middle[..., None, :]).abs()
    return (away <= half[..., None, :]).all(-1)


def _pairwise_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return (N, M, A) overlaps of (N, M, 4) with (N, A, 4) boxes."""
    low = torch.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    shared = (high - low).clamp(min=0.0).prod(-1)
    area_a = (a[..., 2:] - a[..., :2]).clamp(min=0.0).prod(-1)
    area_b = (b[..., 2:] - b[..., :2]).clamp(min=0.0).prod(-1)
    return shared / (area_a[:, :, None] + area_b[:, None] - shared).clamp(min=1e-9)
