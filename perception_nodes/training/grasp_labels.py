"""Grasps labelled by physics: what the learned parts of grasping learn from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import inverse
from perception_nodes.core.grasping import (
    GraspContext,
    GraspParams,
    GraspPlan,
    GraspPlanner,
    relaxed,
)
from perception_nodes.core.height_map import NoSupportError
from perception_nodes.core.protocols import GraspScorer
from perception_nodes.core.types import CameraIntrinsics, RgbdFrame
from perception_nodes.core.whole_file import whole_file
from perception_nodes.evaluation.grasp_clutter import (
    CAMERA,
    look,
    make_simulator,
    remove_unreachable,
    View,
)
from perception_nodes.sim.scene import Split
from perception_nodes.sim.simulator import Simulator
from perception_nodes.sim.worlds.tabletop import make_tabletop
from tqdm import tqdm

log = logging.getLogger(__name__)

# seeds of a split's first scene; those of the benchmark begin at 80,000
FIRST_SCENES: dict[Split, int] = {'train': 1220, 'val': 60_000, 'test': 70_000}
_PER_VIEW = 10  # candidates that physics tries of one view
_MOST_OBJECTS = 6  # in a scene, and so views of it
_DEPTH_STEP_M = 2.0 ** -12  # that depth is rounded to: the noise is 20 times as large


@dataclass(frozen=True, eq=False)
class LabelledView:
    """A depth image, and what came of the grasps that were tried in what it shows."""

    depth_m: npt.NDArray[np.float32]  # (H, W)
    intrinsics: CameraIntrinsics
    map_from_camera: npt.NDArray[np.float64]  # (4, 4)
    support_height_m: float  # of the table in the map's frame
    map_from_grasp: npt.NDArray[np.float64]  # (N, 4, 4)
    opening_m: npt.NDArray[np.float32]  # (N,)
    success: npt.NDArray[np.bool_]  # (N,) whether something was lifted
    family: npt.NDArray[np.str_]  # (N,) of what was lifted, else of what is nearest
    scene: int  # its seed; views of one scene are alike

    @property
    def frame(self) -> RgbdFrame:
        """Return the image as planners take it."""
        return RgbdFrame(
            np.zeros((*self.depth_m.shape, 3), np.uint8), 0, CAMERA, self.depth_m,
            self.intrinsics)

    @property
    def context(self) -> GraspContext:
        """Return what a planner is told beside the image."""
        return GraspContext.of_pose(self.map_from_camera, self.support_height_m)

    @property
    def camera_from_grasp(self) -> npt.NDArray[np.float64]:
        """Return the (N, 4, 4) grasps in the camera's frame."""
        return np.asarray(inverse(self.map_from_camera) @ self.map_from_grasp)


def write_scenes(
    root: Path, split: Split, scenes: int, judge: GraspScorer | None = None
) -> None:
    """
    Try grasps in the first scenes of a split; scenes that are there are left alone.

    :param root: Its folder ``SPLIT/grasps`` gets a file ``NNNNNN.npz`` for each view: ten times
        the scene's seed plus the view's number.
    :param judge: Whose favourites are tried, too.
    """
    first, folder = FIRST_SCENES[split], root / split / 'grasps'
    missing = [seed for seed in range(first, first + scenes)
               if not _file(folder, seed, 0).is_file()]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    log.info('%s: physics tries grasps in %d scene(s), some seconds in each', split, len(missing))
    sim = make_simulator()
    try:
        for seed in tqdm(missing, f'grasps for {split}', unit='scene', disable=None):
            views = list(scene_views(sim, seed, split, judge))
            for n, view in reversed(list(enumerate(views))):  # the first last: then all are there
                _write(_file(folder, seed, n), view)
    finally:
        sim.close()


def read_views(folder: Path) -> list[LabelledView]:
    """
    Read the views of a folder, in the order of their scenes.

    :raises FileNotFoundError: If there are none.
    :raises ValueError: If a file is not what :func:`write_scene` has written, naming it.
    """
    files = sorted(folder.glob('*.npz'))
    if not files:
        raise FileNotFoundError(
            f'there are no labelled grasps in {folder}; let physics try some: perception train '
            'grasp --scenes 400 --val-scenes 60')
    return [_read(file) for file in files]


def scene_views(
    sim: Simulator, seed: int, split: Split, judge: GraspScorer | None = None
) -> Iterator[LabelledView]:
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
            plans = planner.plans(view.frame, view.context)
        except NoSupportError:
            return
        poses, openings_m = _chosen(plans, view.map_from_camera, rng, judge)
        if len(poses) == 0:
            return
        labelled = _tried(sim, view, poses, openings_m, seed)
        yield labelled
        if not labelled.success.any():
            return
        done = int(np.flatnonzero(labelled.success)[0])
        sim.execute_grasp(poses[done], float(openings_m[done]))


def _tried(
    sim: Simulator, view: View, poses: npt.NDArray[np.float64],
    openings_m: npt.NDArray[np.float32], seed: int,
) -> LabelledView:
    """Let physics try each grasp; the scene is as before afterwards."""
    space = sim.scene.workspace
    if space is None or view.frame.depth_m is None or view.frame.intrinsics is None:
        raise ValueError(f"world '{sim.scene.world}' has no table camera; take a tabletop world")
    before, states = sim.snapshot(), sim.reachable()
    families = {thing.name: thing.family for thing in sim.scene.things}
    centres = np.array([state.box_3d.map_from_box[:3, 3] for state in states])
    success, family = np.zeros(len(poses), np.bool_), []
    for n, pose in enumerate(poses):
        outcome = sim.execute_grasp(pose, float(openings_m[n]))
        success[n] = outcome.lifted
        nearest = states[int(np.linalg.norm(centres - pose[:3, 3], axis=1).argmin())].name
        family.append(sim.scene.things[outcome.thing].family if outcome.lifted
                      else families[nearest])
        sim.restore(before)
    depth_m = np.round(view.frame.depth_m / _DEPTH_STEP_M) * np.float32(_DEPTH_STEP_M)
    return LabelledView(
        depth_m.astype(np.float32), view.frame.intrinsics, view.map_from_camera,
        float(space.centre_m[2]), poses, openings_m, success, np.array(family), seed)


def _chosen(
    plans: Sequence[GraspPlan], map_from_camera: npt.NDArray[np.float64],
    rng: np.random.Generator, judge: GraspScorer | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Return poses in the map and openings of some of the best candidates, and of some of all."""
    usable = [plan.usable for plan in plans]
    poses = map_from_camera @ np.concatenate(
        [plan.poses(which) for plan, which in zip(plans, usable, strict=True)])
    openings_m = np.concatenate(
        [plan.openings_m(which) for plan, which in zip(plans, usable, strict=True)])
    scores = np.concatenate(
        [plan.scores[which] for plan, which in zip(plans, usable, strict=True)])
    chosen = np.arange(len(scores))
    if len(scores) > _PER_VIEW:
        half = _PER_VIEW // 2
        best = np.argsort(-scores, kind='stable')[:max(_PER_VIEW, len(scores) // 10)]
        favourites = rng.choice(best, half, replace=False)
        if judge is not None:
            judged = np.concatenate(
                [judge.score(plan, which) for plan, which in zip(plans, usable, strict=True)])
            favourites = np.concatenate([
                np.argsort(-judged, kind='stable')[:half], favourites[:half // 2]])
        chosen = rng.permutation(np.unique(np.concatenate([
            favourites, rng.choice(chosen, half, replace=False)])))[:_PER_VIEW]
    return poses[chosen], openings_m[chosen]


def _file(folder: Path, seed: int, view: int) -> Path:
    return folder / f'{10 * seed + view:06d}.npz'


def _write(file: Path, view: LabelledView) -> None:
    """Write a file that is either there whole or not there."""
    camera = view.intrinsics
    with whole_file(file) as draft, draft.open('wb') as stream:
        np.savez_compressed(
            stream, depth_m=view.depth_m,
            intrinsics=np.array([camera.fx, camera.fy, camera.cx, camera.cy]),
            map_from_camera=view.map_from_camera, support_height_m=view.support_height_m,
            map_from_grasp=view.map_from_grasp, opening_m=view.opening_m, success=view.success,
            family=view.family, scene=view.scene)


def _read(file: Path) -> LabelledView:
    try:
        with np.load(file) as data:
            depth_m = data['depth_m']
            fx, fy, cx, cy = data['intrinsics'].tolist()
            height, width = depth_m.shape
            return LabelledView(
                depth_m, CameraIntrinsics(width, height, fx, fy, cx, cy),
                data['map_from_camera'], float(data['support_height_m']),
                data['map_from_grasp'], data['opening_m'], data['success'], data['family'],
                int(data['scene']))
    except Exception as error:  # a damaged zip raises whatever its reader meets
        raise ValueError(
            f'{file} holds no labelled grasps, or is damaged ({error}); delete it: perception '
            'train grasp --scenes makes the scene again') from error
