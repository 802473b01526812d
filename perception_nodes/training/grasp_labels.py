"""Grasps labelled by physics: what a scorer learns from."""

from collections.abc import Iterator
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
from perception_nodes.core.grasp_patches import scorer_inputs
from perception_nodes.core.grasping import GraspParams, GraspPlan, GraspPlanner, relaxed
from perception_nodes.core.height_map import NoSupportError
from perception_nodes.evaluation.grasp_clutter import look, make_simulator, remove_unreachable
from perception_nodes.sim.scene import Split
from perception_nodes.sim.simulator import Simulator
from perception_nodes.sim.worlds.tabletop import make_tabletop

log = logging.getLogger(__name__)

_PER_VIEW = 10  # candidates that physics tries of one view
_MOST_OBJECTS = 6
_SCENES_PER_FILE = 20
Labels = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_]]


def write_labels(folder: Path, scenes: range, split: Split) -> None:
    """
    Try grasps in scenes and write what came of them; files that are there are left alone.

    :param scenes: Seeds; each file ``grasps_SEED.npz`` holds those of 20.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sim = make_simulator()
    for first in range(scenes.start, scenes.stop, _SCENES_PER_FILE):
        file = folder / f'grasps_{first:07d}.npz'
        if file.exists():
            continue
        parts = [labels for seed in range(first, min(first + _SCENES_PER_FILE, scenes.stop))
                 for labels in scene_labels(sim, seed, split)]
        if not parts:
            continue
        patches, features, lifted = (np.concatenate(column) for column in zip(*parts, strict=True))
        unfinished = file.with_suffix('.part.npz')
        np.savez_compressed(
            unfinished, patches=patches.astype(np.float16), features=features, lifted=lifted)
        unfinished.replace(file)
        log.info('%s: %d grasps, %.0f %% lift', file.name, len(lifted), 100.0 * lifted.mean())
    sim.close()


def scene_labels(sim: Simulator, seed: int, split: Split) -> Iterator[Labels]:
    """
    Try grasps of one scene while it is being cleared.

    Every candidate of a view is tried from the same state; then one of those that lifted is
    done for good, so that later views show emptier tables.
    """
    rng = np.random.default_rng([seed, 2])
    count = int(rng.integers(1, _MOST_OBJECTS + 1))
    sim.load(make_tabletop(seed, split, bool(rng.random() < 0.7), count))
    planner = GraspPlanner(relaxed(GraspParams()))
    for _ in range(count):
        remove_unreachable(sim)
        if not sim.reachable():
            return
        view = look(sim, rng)
        try:
            plan = planner.plans(view.frame, view.context)[0]
        except NoSupportError:
            return
        which = _chosen(plan, rng)
        if len(which) == 0:
            return
        poses = view.map_from_camera @ plan.poses(which)
        openings = plan.openings_m(which)
        before = sim.snapshot()
        lifted = np.zeros(len(which), np.bool_)
        for n in range(len(which)):
            sim.restore(before)
            lifted[n] = sim.execute_grasp(poses[n], float(openings[n])).lifted
        yield (*scorer_inputs(plan, which), lifted)
        if not lifted.any():
            return
        sim.restore(before)
        done = int(np.flatnonzero(lifted)[0])
        sim.execute_grasp(poses[done], float(openings[done]))


def _chosen(plan: GraspPlan, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return some of the best candidates of the geometry, and some of all."""
    usable = plan.usable
    if len(usable) <= _PER_VIEW:
        return usable
    best = usable[np.argsort(-plan.scores[usable])[:max(_PER_VIEW, len(usable) // 10)]]
    half = _PER_VIEW // 2
    chosen = np.concatenate([
        rng.choice(best, half, replace=False), rng.choice(usable, half, replace=False)])
    return np.asarray(rng.permutation(np.unique(chosen)), np.int64)
