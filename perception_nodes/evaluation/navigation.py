"""
Driving to goals, judged: episodes in worlds from above, BARN's worlds and its score.

BARN: Perille et al., "Benchmarking Metric Ground Navigation", 2020, and the BARN challenge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import math
from pathlib import Path
import time
import zipfile

import numpy as np
import numpy.typing as npt
from perception_nodes.core.navigation import NavigationParams, Navigator, ObservationBuilder
from perception_nodes.core.protocols import NavigationPolicy
from perception_nodes.core.types import VelocityCommand
from perception_nodes.evaluation.metrics import scores_with_intervals
from perception_nodes.sim import navigation_kernels as kernels
from perception_nodes.sim.navigation_batch import RobotBatch, SensorParams
from perception_nodes.sim.navigation_worlds import (
    BARN_GOAL_M,
    BARN_START,
    LATTICE,
    lattice_world,
    NavigationWorld,
)

BARN_LONGEST_S = 100.0
_BARN_SPEED_MPS = 2.0  # of the optimal time
_PATH_CORNER_M = (-4.575, 5.075)  # of the reference paths' cells
_CELL_M = 0.15

# names of what goes wrong how much, for the table of perturbations
LEVELS = {'none': 0.0, 'nominal': 1.0, 'hard': 2.0}


@dataclass(frozen=True, eq=False)
class Drive:
    """How one episode went."""

    world: int
    reached: bool
    collided: bool
    time_s: float
    poses: npt.NDArray[np.float64]  # (T, 3) true x, y, yaw of every period
    changed: int  # periods in which the safety layer changed the command
    step_cpu_ms: float  # of observation, policy and safety layer, the mean of one decision


def load_barn(path: Path) -> list[NavigationWorld]:
    """
    Read BARN worlds.

    :param path: A .npz with ``world_id`` (N,), ``occupied`` (N, 30, 30), ``reference_path``
        (cells of all worlds) and ``reference_path_length`` (N,).
    :raises ValueError: If the file is none.
    :raises OSError: If it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            ids, occupied = file['world_id'], file['occupied']
            cells, lengths = file['reference_path'], file['reference_path_length']
    except (KeyError, zipfile.BadZipFile, ValueError) as error:
        # what is neither numpy's nor a pickle, numpy advises to load in an unsafe way
        why = str(error) if isinstance(error, KeyError) else 'it cannot be read as one'
        raise ValueError(
            f'{path} is no file of BARN worlds ({why}); it must be a .npz with world_id, '
            'occupied, reference_path and reference_path_length') from error
    if occupied.shape[1:] != (LATTICE, LATTICE) or not (
            len(ids) == len(occupied) == len(lengths) and lengths.sum() == len(cells)):
        raise ValueError(
            f'{path} has {len(ids)} ids, lattices of shape {occupied.shape} and {len(lengths)} '
            f'paths; expected one ({LATTICE}, {LATTICE}) lattice and path for each world')
    paths = np.split(cells, np.cumsum(lengths)[:-1])
    return [lattice_world(grid.astype(bool), f'barn {number}', _way_m(path_cells))
            for number, grid, path_cells in zip(ids.tolist(), occupied, paths, strict=True)]


def _way_m(cells: npt.NDArray[np.int8]) -> float:
    """Return the length of start, cells, goal."""
    points = np.concatenate([
        [BARN_START[:2]], _PATH_CORNER_M + _CELL_M * cells.astype(np.float64), [BARN_GOAL_M]])
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def barn_score(drive: Drive, world: NavigationWorld) -> float:
    """Return the challenge's score: 0 without success, at most 0.25."""
    if not drive.reached:
        return 0.0
    assert world.reference_m is not None
    optimal_s = world.reference_m / _BARN_SPEED_MPS
    return optimal_s / min(8.0 * optimal_s, max(4.0 * optimal_s, drive.time_s))


class Course:
    """
    Worlds to drive through, one episode at a time.

    :param worlds: In which order the episodes count them.
    :param robot: Footprint, limits, safety.
    :param sensor: Range finder, and what is imperfect.
    :param longest_s: Time after which an episode has failed.
    """

    def __init__(self, worlds: Sequence[NavigationWorld], robot: NavigationParams,
                 sensor: SensorParams, longest_s: float = BARN_LONGEST_S) -> None:
        self.worlds, self.robot = worlds, robot
        self._batch = RobotBatch(worlds, robot, sensor, 1, longest_s)

    def drive(
        self, policy: NavigationPolicy, world: int, seed: int, *, guarded: bool = True
    ) -> Drive:
        """
        Let a policy drive once.

        :param seed: Of what goes wrong; the same for every policy gives the same robot.
        :param guarded: Whether the safety layer acts.
        """
        batch, row = self._batch, np.array([0])
        batch.place(0, world, np.random.default_rng([seed, world]))
        navigator = Navigator(policy, self.robot, guarded=guarded)
        builder = ObservationBuilder(self.robot)
        poses, changed, cpu_s = [batch.robots.pose[0].copy()], 0, 0.0
        while batch.outcomes[0] == kernels.RUNNING:
            before_s = time.process_time()
            builder.add(batch.scan(0), batch.base_from_laser)
            distance, bearing = batch.goals[0].tolist()
            x, y, yaw = batch.robots.odometry[0].tolist()
            observation = builder.observe(
                (distance * math.cos(bearing), distance * math.sin(bearing)),
                VelocityCommand(*batch.robots.twist[0].tolist()), (x, y, yaw))
            step = navigator.step(observation, float(batch.robots.time_s[0]))
            changed += bool(step.reason)
            cpu_s += time.process_time() - before_s
            batch.advance(
                row, np.array([[step.command.linear_mps, step.command.angular_rps]]))
            poses.append(batch.robots.pose[0].copy())
        outcome = int(batch.outcomes[0])
        return Drive(world, outcome == kernels.REACHED, outcome == kernels.COLLIDED,
                     float(batch.robots.time_s[0]), np.array(poses), changed,
                     cpu_s * 1e3 / (len(poses) - 1))

    def drive_all(
        self, policy: NavigationPolicy, trials: int, seed: int, *, guarded: bool = True,
        on_drive: Callable[[], object] = lambda: None,
    ) -> list[Drive]:
        """
        Let a policy drive through all worlds, several times.

        :param seed: Every policy gets the same robots, delays and noise from the same seed.
        :param on_drive: Called after each episode.
        """
        drives = []
        for trial in range(trials):
            for world in range(len(self.worlds)):
                drives.append(
                    self.drive(policy, world, seed * 1000 + trial, guarded=guarded))
                on_drive()
        return drives


def shares(
    drives: Sequence[Drive], worlds: Sequence[NavigationWorld], name: str, seed: int
) -> dict[str, float]:
    """
    Return success and collision shares, and BARN's score, with their intervals over worlds.

    :param drives: As often in each world.
    :param name: In front of ``_success``, ``_collision`` and ``_score``.
    """
    is_barn = worlds[0].reference_m is not None
    table = np.array([(d.reached, d.collided, barn_score(d, worlds[d.world]) if is_barn else 0.0)
                      for d in drives])

    def score(weights: npt.NDArray[np.int64]) -> dict[str, float]:
        success, collision, points = (weights @ table / weights.sum()).tolist()
        values = {f'{name}_success': success, f'{name}_collision': collision}
        return values | ({f'{name}_score': points} if is_barn else {})

    return scores_with_intervals(score, np.array([drive.world for drive in drives]), seed)
