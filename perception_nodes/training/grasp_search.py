"""Train networks that find grasps by themselves: the cascade and the network of whole maps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
import math

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.backends.networks.grasp import GraspCascadeNetwork, GraspMapNetwork
from perception_nodes.core import grasp_kernels as kernels
from perception_nodes.core.geometry import inverse
from perception_nodes.core.grasp_search import (
    COARSE_SIDE,
    every_rectangle,
    MAP_PIXEL_M,
    map_pixels,
    OPENING_UNIT_M,
    RECTANGLE_SIDE,
    rectangles,
)
from perception_nodes.core.grasping import GraspPlan
from perception_nodes.training.grasp import area_under_roc, planned
from perception_nodes.training.grasp_labels import LabelledView
from perception_nodes.training.loop import shuffled, whole_batches
import torch
from torch import nn
from torch.nn import functional

_DOWNWARDS = -0.99  # z of an approach from above
_NEAR_M = 0.015
_SAME_TURN_COS = math.cos(math.radians(30.0))
_PER_VIEW = 12  # rectangles where the geometry finds nothing to hold
_OPENINGS_M = (0.03, 0.045, 0.06, 0.08)
_BLUR = 0.1  # noise that the auto-encoder has to see through
MAP_SIDE = 64  # pixels of the maps in a batch
_SPOT_PX = 1.6  # radius of a grasp's mark on a map
_WEAK = 0.1  # weight of places where only the geometry says that there is nothing


@dataclass(frozen=True, eq=False)
class RectangleExamples:
    """Rectangles at two resolutions, and whether they hold."""

    coarse: npt.NDArray[np.float16]  # (N, RECTANGLE_CHANNELS, COARSE_SIDE, COARSE_SIDE)
    fine: npt.NDArray[np.float16]  # (N, RECTANGLE_CHANNELS, RECTANGLE_SIDE, RECTANGLE_SIDE)
    success: npt.NDArray[np.bool_]  # (N,)
    tried: npt.NDArray[np.bool_]  # (N,) by physics; else ruled out by the geometry

    def __len__(self) -> int:
        return len(self.success)


def rectangle_examples(
    views: Sequence[LabelledView], what: str, seed: int
) -> RectangleExamples:
    """Return the grasps that were tried, and rectangles with nothing that could be held."""
    rng = np.random.default_rng(seed)
    parts = []
    for view, plan in planned(views, what):
        grasps, success = _rows(view, plan)
        others = _hopeless(plan, rng)
        rows = np.concatenate([grasps, others])
        parts.append((
            rectangles(plan.heights, rows, COARSE_SIDE).astype(np.float16),
            rectangles(plan.heights, rows, RECTANGLE_SIDE).astype(np.float16),
            np.concatenate([success, np.zeros(len(others), np.bool_)]),
            np.arange(len(rows)) < len(grasps)))
    return RectangleExamples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _rows(
    view: LabelledView, plan: GraspPlan
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the grasps of a view that came from above, as candidates on its map, and success."""
    poses = inverse(plan.heights.camera_from_map) @ view.camera_from_grasp
    level = poses[:, 2, 2] < _DOWNWARDS
    poses = poses[level]
    rows = np.zeros((len(poses), kernels.COLUMNS), np.float32)
    rows[:, [kernels.X, kernels.Y]] = (
        poses[:, :2, 3] - plan.heights.origin_m) / plan.heights.cell_m
    rows[:, kernels.ANGLE] = np.arctan2(poses[:, 1, 1], poses[:, 0, 1])
    rows[:, kernels.OPENING] = view.opening_m[level]
    return rows, view.success[level]


def _hopeless(plan: GraspPlan, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return rectangles on objects without a usable candidate near that is turned alike."""
    grid = every_rectangle(plan.labels, plan.heights.cell_m, 0.01, 12,
                           np.array(_OPENINGS_M, np.float32))
    grid = grid[rng.permutation(len(grid))[:4 * _PER_VIEW]]
    usable = plan.rows[plan.usable]
    apart = np.hypot(*(grid[:, None, axis] - usable[None, :, axis]
                       for axis in (kernels.X, kernels.Y))) * plan.heights.cell_m
    turned = np.abs(np.cos(grid[:, None, kernels.ANGLE] - usable[None, :, kernels.ANGLE]))
    near = ((apart < _NEAR_M) & (turned > _SAME_TURN_COS)).any(axis=1)
    return np.asarray(grid[~near][:_PER_VIEW])


class CascadeTask:
    """
    Judging rectangles by a small and a large network: cross entropy of both.

    :param train: Examples to learn from, each seen mirrored at random.
    :param val: Examples that choose the checkpoint.
    """

    score = 'AUC'

    def __init__(self, train: RectangleExamples, val: RectangleExamples, seed: int) -> None:
        torch.manual_seed(seed)
        self.network = GraspCascadeNetwork()
        self._train, self._val = train, val

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return all parameters as new; those of an auto-encoder may change as quickly."""
        return list(self.network.parameters()), []

    def steps(self, batch_size: int) -> int:
        """Return how many whole batches there are; a smaller set makes one."""
        return whole_batches(len(self._train), batch_size)

    def batches(
        self, epoch: int, batch_size: int, rng: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield rectangles at both resolutions and whether they hold."""
        train = self._train
        for rows in shuffled(len(train), batch_size, rng):
            coarse, fine = (part[rows].astype(np.float32) for part in (train.coarse, train.fine))
            for axis, slope in ((3, 2), (2, 3)):  # a mirrored surface leans the other way
                flipped = rng.random(len(rows)) < 0.5
                for pixels in (coarse, fine):
                    pixels[flipped] = np.flip(pixels[flipped], axis)
                    pixels[flipped, slope] *= -1.0
            yield (torch.from_numpy(coarse), torch.from_numpy(fine),
                   torch.from_numpy(train.success[rows].astype(np.float32)))

    def losses(
        self, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], device: torch.device
    ) -> Mapping[str, torch.Tensor]:
        """Return the cross entropy of each network."""
        coarse, fine, success = (part.to(device) for part in batch)
        small, large = self.network(coarse, fine)
        return {name: functional.binary_cross_entropy_with_logits(logits.float(), success)
                for name, logits in (('small', small), ('large', large))}

    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        """Return how well both order rectangles: all, and those that physics tried."""
        val = self._val
        small, large = (np.concatenate(parts) for parts in zip(*(
            [logits.float().cpu().numpy() for logits in network(
                *(torch.from_numpy(part[rows].astype(np.float32)).to(device)
                  for part in (val.coarse, val.fine)))]
            for rows in np.array_split(np.arange(len(val)), max(1, len(val) // 512))),
            strict=True))
        return {'AUC': area_under_roc(large, val.success),
                'AUC_small': area_under_roc(small, val.success),
                'AUC_tried': area_under_roc(large[val.tried], val.success[val.tried])}


class AutoEncoderTask(CascadeTask):
    """
    What both networks of the cascade may begin with: seeing rectangles through noise.

    A denoising auto-encoder whose decoder has the encoder's weights; the paper's, too, learns
    from rectangles without labels.
    """

    score = 'likeness'

    def __init__(self, task: CascadeTask) -> None:
        self.network, self._train, self._val = task.network, task._train, task._val

    def losses(
        self, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], device: torch.device
    ) -> Mapping[str, torch.Tensor]:
        """Return the mean squared error of each network's picture of its rectangles."""
        return {name: functional.mse_loss(
                    _seen(stage, pixels + _BLUR * torch.randn_like(pixels)), pixels)
                for name, stage, pixels in self._stages(self.network, batch, device)}

    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        """Return minus the error on rectangles without noise."""
        batch = tuple(torch.from_numpy(part.astype(np.float32)) for part in (
            self._val.coarse, self._val.fine))
        return {'likeness': -sum(
            functional.mse_loss(_seen(stage, pixels), pixels).item()
            for _, stage, pixels in self._stages(network, batch, device))}

    def _stages(
        self, network: nn.Module, batch: Sequence[torch.Tensor], device: torch.device
    ) -> Iterator[tuple[str, nn.Sequential, torch.Tensor]]:
        for name, pixels in zip(('small', 'large'), batch[:2], strict=True):
            stage = network.get_submodule(name)
            assert isinstance(stage, nn.Sequential)
            yield name, stage, pixels.to(device).flatten(1)


def _seen(stage: nn.Sequential, pixels: torch.Tensor) -> torch.Tensor:
    """Return what the two hidden layers of a network remember of its input."""
    first, second, _ = (layer for layer in stage if isinstance(layer, nn.Linear))
    hidden = torch.sigmoid(second(torch.sigmoid(first(pixels))))
    back = torch.sigmoid(functional.linear(hidden, second.weight.t()))
    return functional.linear(back, first.weight.t())


@dataclass(frozen=True, eq=False)
class MapExample:
    """A height map and the grasps that were tried on it."""

    pixels: npt.NDArray[np.float32]  # (MAP_CHANNELS, H, W)
    hopeless: npt.NDArray[np.float32]  # (H, W) 1 where the geometry finds nothing near
    grasps: npt.NDArray[np.float32]  # (N, 4) x, y in pixels, closing direction, opening in metres
    success: npt.NDArray[np.bool_]  # (N,)


def map_examples(views: Sequence[LabelledView], what: str) -> list[MapExample]:
    """Return the views as whole maps."""
    examples = []
    for view, plan in planned(views, what):
        rows, success = _rows(view, plan)
        scale = plan.heights.cell_m / MAP_PIXEL_M
        pixels = map_pixels(plan.heights)
        free = np.ones(plan.labels.shape, np.uint8)
        usable = plan.rows[plan.usable]
        lines, columns = plan.labels.shape
        free[np.clip(usable[:, kernels.Y].astype(int), 0, lines - 1),
             np.clip(usable[:, kernels.X].astype(int), 0, columns - 1)] = 0
        near = 2 * round(0.01 / plan.heights.cell_m) + 1
        hopeless = cv2.resize(cv2.erode(free, np.ones((near, near), np.uint8)),
                              (pixels.shape[2], pixels.shape[1]), interpolation=cv2.INTER_NEAREST)
        grasps = rows[:, [kernels.X, kernels.Y, kernels.ANGLE, kernels.OPENING]]
        grasps[:, :2] *= scale
        examples.append(MapExample(pixels, hopeless.astype(np.float32), grasps, success))
    return examples


class MapTask:
    """
    Quality, closing direction and opening for every pixel of a map.

    Pixels at a grasp that was tried learn what came of it; pixels far from every candidate of the
    geometry learn, with a tenth of the weight, that there is nothing; all others learn nothing.

    :param train: Maps to learn from, each turned and mirrored at random.
    :param val: Maps that choose the checkpoint.
    """

    score = 'best_lifts'

    def __init__(self, train: Sequence[MapExample], val: Sequence[MapExample], seed: int) -> None:
        torch.manual_seed(seed)
        self.network = GraspMapNetwork()
        self._train = train
        rng = np.random.default_rng(seed)
        self._val = [_turned(example, rng, still=True) for example in val]

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return all parameters as new: nothing is pretrained."""
        return list(self.network.parameters()), []

    def shown(self, count: int) -> npt.NDArray[np.float32]:
        """Return (N, MAP_CHANNELS, H, W) some maps to choose the checkpoint by."""
        return np.stack([example.pixels for example in self._val[:count]])

    def steps(self, batch_size: int) -> int:
        """Return how many whole batches there are; a smaller set makes one."""
        return whole_batches(len(self._train), batch_size)

    def batches(
        self, epoch: int, batch_size: int, rng: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield maps, and what is to be learned of their pixels."""
        for rows in shuffled(len(self._train), batch_size, rng):
            batch = [_turned(self._train[i], rng) for i in rows.tolist()]
            yield (torch.from_numpy(np.stack([example.pixels for example in batch])),
                   torch.from_numpy(np.stack([_targets(example) for example in batch])))

    def losses(
        self, batch: tuple[torch.Tensor, torch.Tensor], device: torch.device
    ) -> Mapping[str, torch.Tensor]:
        """Return the terms of quality, direction and opening."""
        maps, targets = (part.to(device) for part in batch)
        found = self.network(maps).float()
        quality, weight, cosine, sine, opening = targets.unbind(1)
        held = ((quality > 0.5) & (weight > 0.5)).float()
        many = held.sum().clamp(min=1.0)
        terms = functional.binary_cross_entropy_with_logits(
            found[:, 0], quality, reduction='none') * weight
        turn = (found[:, 1] - cosine) ** 2 + (found[:, 2] - sine) ** 2
        return {'quality': terms.sum() / weight.sum().clamp(min=1.0),
                'turn': (turn * held).sum() / many,
                'opening': ((found[:, 3] - opening) ** 2 * held).sum() / many}

    def validate(self, network: nn.Module, device: torch.device) -> Mapping[str, float]:
        """
        Return how the best pixels do, and how well the quality orders what was tried.

        ``best_lifts`` is the share of maps whose best pixel is within 1.5 cm and 30 degrees of a
        grasp that lifted.
        """
        lifts, qualities, success = [], [], []
        for example in self._val:
            found = network(torch.from_numpy(example.pixels[None]).to(device))[0]
            found = found.float().cpu().numpy()
            i, j = np.unravel_index(int(found[0].argmax()), found[0].shape)
            angle = 0.5 * math.atan2(float(found[2, i, j]), float(found[1, i, j]))
            x, y, turn, _ = example.grasps.T
            near = np.hypot(x - j - 0.5, y - i - 0.5) * MAP_PIXEL_M < _NEAR_M
            alike = near & (np.abs(np.cos(turn - angle)) > _SAME_TURN_COS)
            lifts.append(bool((alike & example.success).any()))
            columns, lines = (np.clip(place.astype(int), 0, MAP_SIDE - 1) for place in (x, y))
            qualities.append(found[0, lines, columns])
            success.append(example.success)
        return {'best_lifts': float(np.mean(lifts)),
                'AUC': area_under_roc(np.concatenate(qualities), np.concatenate(success))}


def _turned(example: MapExample, rng: np.random.Generator, still: bool = False) -> MapExample:
    """Return a square part of a map around its middle, turned, shifted and mirrored at random."""
    height, width = example.hopeless.shape
    angle, mirror = (0.0, 1.0) if still else (
        float(rng.uniform(-math.pi, math.pi)), float(rng.choice([-1.0, 1.0])))
    shift = np.zeros(2) if still else rng.uniform(-4.0, 4.0, 2)
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[mirror * c, -mirror * s], [s, c]])
    matrix = np.column_stack([
        turn, MAP_SIDE / 2 + shift - turn @ (width / 2, height / 2)])
    # the outer corner of pixel 0 is its 0 here, for OpenCV its middle is
    for_pixels = matrix.copy()
    for_pixels[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
    layers = np.stack([
        cv2.warpAffine(layer, for_pixels, (MAP_SIDE, MAP_SIDE), flags=cv2.INTER_LINEAR)
        for layer in (*example.pixels, example.hopeless)]).astype(np.float32)
    grasps = example.grasps.copy()
    grasps[:, :2] = example.grasps[:, :2] @ turn.T + matrix[:, 2]
    ends = np.column_stack([np.cos(grasps[:, 2]), np.sin(grasps[:, 2])]) @ turn.T
    grasps[:, 2] = np.arctan2(ends[:, 1], ends[:, 0])
    return MapExample(layers[:-1], layers[-1], grasps, example.success)


def _targets(example: MapExample) -> npt.NDArray[np.float32]:
    """Return (5, H, W): quality, its weight, cos 2 theta, sin 2 theta, opening."""
    targets = np.zeros((5, MAP_SIDE, MAP_SIDE), np.float32)
    targets[1] = _WEAK * (example.hopeless > 0.99)
    places = np.arange(MAP_SIDE) + 0.5
    for k in np.argsort(example.success, kind='stable'):  # what lifts is written last
        x, y, angle, opening_m = example.grasps[k]
        spot = np.hypot(places[None] - x, places[:, None] - y) < _SPOT_PX
        targets[:, spot] = np.array([
            example.success[k], 1.0, math.cos(2.0 * angle), math.sin(2.0 * angle),
            opening_m / OPENING_UNIT_M], np.float32)[:, None]
    return targets
