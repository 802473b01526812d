"""
Measure driving to goals: BARN's worlds, rooms and rooms with people, at several perturbations.

Every policy gets the same worlds, and in each trial the same robot, delays and noise. Success and
collision are shares of episodes, their intervals are over worlds. ``..._step_ms`` is CPU time of
observation, policy and safety layer for one decision. Names: ``dwa_`` is the dynamic window
without a map, ``planner_`` the same down the potential of a rolling map, ``straight_`` a straight
line; all of them behind the safety layer.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
import logging
import os
from pathlib import Path
import time

import numpy as np
from perception_nodes.cli.arguments import count, whole_number
from perception_nodes.cli.progress import progress
from perception_nodes.core.dynamic_window import DynamicWindow
from perception_nodes.core.navigation import NavigationParams
from perception_nodes.core.protocols import NavigationPolicy
from perception_nodes.evaluation.metrics import scores_with_intervals
from perception_nodes.evaluation.navigation import barn_score, Course, Drive, LEVELS, load_barn
from perception_nodes.evaluation.navigation_baselines import PlannedWindow, StraightLine
from perception_nodes.evaluation.navigation_pictures import write_trajectories
from perception_nodes.evaluation.results import write_results
from perception_nodes.sim.navigation_batch import SensorParams
from perception_nodes.sim.navigation_worlds import make_navigation_world, NavigationWorld

log = logging.getLogger(__name__)

_DATA = Path(os.environ.get('PERCEPTION_NODES_DATA', '../shared/data'))
_LIDAR = SensorParams(beams=360, field_of_view_deg=270.0)  # as wide as the challenge's
_ROOM_LONGEST_S = 60.0

# prefix of the figures: what makes the policy
BASELINES: dict[str, Callable[[], NavigationPolicy]] = {
    'dwa_': DynamicWindow, 'planner_': PlannedWindow, 'straight_': StraightLine}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument(
        '--worlds', type=Path, default=_DATA / 'datasets/barn_100.npz', metavar='FILE.npz',
        help='BARN worlds (default %(default)s)')
    parser.add_argument(
        '--trials', type=count, default=2, metavar='N',
        help='episodes in each world (default %(default)s)')
    parser.add_argument(
        '--first', type=count, default=None, metavar='N',
        help='take N worlds spread over the file, and N rooms (default: all, and 50 rooms)')
    parser.add_argument(
        '--seed', type=whole_number, default=0, metavar='N',
        help='of rooms, delays and noise (default %(default)s)')
    parser.add_argument(
        '--out', type=Path, default=Path('out/bench/navigation.json'), metavar='FILE.json',
        help='result file to write; pictures go beside it (default %(default)s)')


def run(arguments: Namespace) -> int:
    """Drive, write the result file and the pictures, say the figures."""
    begun = time.monotonic()
    barn = load_barn(arguments.worlds)
    if arguments.first is not None:
        which = np.linspace(0, len(barn) - 1, min(arguments.first, len(barn))).round().astype(int)
        barn = [barn[i] for i in which.tolist()]
    rooms = arguments.first or 50
    seeds = range(arguments.seed, arguments.seed + rooms)
    values: dict[str, float] = {'trials': arguments.trials}
    courses = {
        'barn': (barn, 100.0),
        'room2d': ([make_navigation_world('room', 'test', s) for s in seeds], _ROOM_LONGEST_S),
        'people': ([make_navigation_world('people', 'test', s) for s in seeds],
                   _ROOM_LONGEST_S)}
    for kind, (worlds, longest_s) in courses.items():
        levels = LEVELS if kind == 'barn' else {'nominal': 1.0}
        for level, factor in levels.items():
            course = Course(worlds, NavigationParams(), replace(_LIDAR, level=factor), longest_s)
            name = kind if level == 'nominal' else f'{kind}_{level}'
            drives = _driven(course, name, arguments.trials, arguments.seed, values)
            values |= shares(drives, worlds, name, arguments.seed)
            if level == 'nominal':
                write_trajectories(arguments.out.parent / f'navigation_{kind}.png', worlds, drives)
    write_results(arguments.out, values, seed=arguments.seed,
                  n=len(barn) * arguments.trials, wall_s=time.monotonic() - begun)
    for figure, value in values.items():
        if not figure.endswith(('_ci_low', '_ci_high')):
            log.info('%-36s %.4g', figure, value)
    log.info('wrote %s', arguments.out)
    return 0


def _driven(
    course: Course, name: str, trials: int, seed: int, values: dict[str, float]
) -> dict[str, list[Drive]]:
    """Return the episodes of every baseline, and note what a decision costs."""
    out: dict[str, list[Drive]] = {prefix: [] for prefix in BASELINES}
    with progress(len(BASELINES) * trials * len(course.worlds), 'episode') as bar:
        for prefix, make in BASELINES.items():
            for trial in range(trials):
                for world in range(len(course.worlds)):
                    out[prefix].append(course.drive(make(), world, seed * 1000 + trial))
                    bar.update(1)
            if name == 'barn':
                step_ms = [drive.step_cpu_ms for drive in out[prefix]]
                values[f'{prefix}step_ms'] = float(np.median(step_ms))
    return out


def shares(
    drives: dict[str, list[Drive]], worlds: Sequence[NavigationWorld], name: str, seed: int
) -> dict[str, float]:
    """
    Return success and collision shares, and BARN's score, with their intervals over worlds.

    :param drives: By the prefix of the figures; all in the same worlds in the same order.
    """
    tables = {
        prefix: np.array([(d.reached, d.collided, _score(d, worlds[d.world])) for d in found])
        for prefix, found in drives.items()}

    def score(weights: np.ndarray) -> dict[str, float]:
        values: dict[str, float] = {}
        for prefix, table in tables.items():
            success, collision, points = (weights @ table / weights.sum()).tolist()
            values[f'{prefix}{name}_success'] = success
            values[f'{prefix}{name}_collision'] = collision
            if worlds[0].reference_m is not None:
                values[f'{prefix}{name}_score'] = points
        return values

    groups = np.array([drive.world for drive in next(iter(drives.values()))])
    return scores_with_intervals(score, groups, seed)


def _score(drive: Drive, world: NavigationWorld) -> float:
    return barn_score(drive, world) if world.reference_m is not None else 0.0
