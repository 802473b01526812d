"""
Measure driving to goals: BARN's worlds, rooms and rooms with people, at several perturbations.

Every policy gets the same worlds, and in each trial the same robot, delays and noise. Success and
collision are shares of episodes, their intervals are over worlds. Names without a prefix are of
the learned map-less policy; ``memory_`` is the same guided through a rolling map (local-memory),
``nosafety_`` the same without the safety layer; ``innate_`` is pull of the goal and push of
obstacles, ``dwa_`` the dynamic window without a map, ``planner_`` the same down the potential of a
rolling map, ``straight_`` a straight line, behind the safety layer like the first. ``room`` are
furnished rooms of the simulator, with its physics, lidar and depth camera. ``policy_step_ms`` is
CPU time of observation, policy and safety layer for one decision.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
import logging
import os
from pathlib import Path
import time

import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.cli.arguments import count, result_file, whole_number
from perception_nodes.cli.progress import progress
from perception_nodes.core.dynamic_window import DynamicWindow
from perception_nodes.core.manifest import find_model
from perception_nodes.core.navigation import NavigationParams
from perception_nodes.core.protocols import NavigationPolicy
from perception_nodes.core.rolling_map import GuidedPolicy
from perception_nodes.evaluation.navigation import (
    BARN_LONGEST_S,
    Course,
    Drive,
    LEVELS,
    load_barn,
    shares,
)
from perception_nodes.evaluation.navigation_baselines import (
    InnateRule,
    PlannedWindow,
    StraightLine,
)
from perception_nodes.evaluation.navigation_pictures import write_trajectories
from perception_nodes.evaluation.navigation_rooms import room_rows, ROOMS
from perception_nodes.evaluation.results import Value, write_results
from perception_nodes.sim.navigation_batch import SensorParams
from perception_nodes.sim.navigation_worlds import make_navigation_world, NavigationWorld

log = logging.getLogger(__name__)

BARN_FILE = Path(
    os.environ.get('PERCEPTION_NODES_DATA', '../shared/data')) / 'datasets/barn_100.npz'
LIDAR = SensorParams(beams=360, field_of_view_deg=270.0)  # as wide as the challenge's
# the robot of BARN and of rooms seen from above; the layer keeps less room than by default,
# because some of BARN's gaps are but a hand wider than the robot
ROBOT = NavigationParams(margin_m=0.02)
ROOM_LONGEST_S = 60.0
_IN_ROOMS = ('', 'memory_', 'nosafety_', 'dwa_', 'planner_')  # of the simulator
POLICY = 'navigation_policy'


@dataclass(frozen=True)
class _Entrant:
    """Who drives, and how much of it."""

    make: Callable[[], NavigationPolicy]
    guarded: bool = True
    is_baseline: bool = True  # drives half the trials, and at the nominal perturbation only


# prefix of the figures: what drives, beside the learned policy
BASELINES: dict[str, _Entrant] = {
    'innate_': _Entrant(InnateRule), 'dwa_': _Entrant(DynamicWindow),
    'planner_': _Entrant(PlannedWindow), 'straight_': _Entrant(StraightLine)}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument(
        '--worlds', type=Path, default=BARN_FILE, metavar='FILE.npz',
        help='BARN worlds (default %(default)s)')
    parser.add_argument(
        '--trials', type=count, default=2, metavar='N',
        help='episodes of the learned policy in each world; the others drive half as many, and '
        'only at the nominal perturbation (default %(default)s)')
    parser.add_argument(
        '--first', type=count, default=None, metavar='N',
        help='take N worlds spread over the file, and N rooms (default: all, and 50 rooms)')
    parser.add_argument(
        '--model', default=POLICY, metavar='NAME',
        help='learned policy, by its name in the manifest (default %(default)s)')
    parser.add_argument(
        '--manifest', default='', metavar='FILE.yaml', help='manifest beside the shipped one')
    parser.add_argument(
        '--seed', type=whole_number, default=0, metavar='N',
        help='of rooms, delays and noise (default %(default)s)')
    parser.add_argument(
        '--out', type=result_file, default='out/bench/navigation.json', metavar='FILE.json',
        help='result file to write; pictures go beside it (default %(default)s)')


def run(arguments: Namespace) -> int:
    """Drive, write the result file and the pictures, say the figures."""
    begun = time.monotonic()
    entry = find_model(arguments.model, 'navigation', arguments.manifest)
    policy = load_model(entry, 'cpu')
    policy.check(ROBOT)
    entrants = {'': _Entrant(lambda: policy, is_baseline=False),
                'memory_': _Entrant(lambda: GuidedPolicy(policy)),
                'nosafety_': _Entrant(lambda: policy, guarded=False), **BASELINES}
    barn = load_barn(arguments.worlds)
    if arguments.first is not None:
        which = np.linspace(0, len(barn) - 1, min(arguments.first, len(barn))).round().astype(int)
        barn = [barn[i] for i in which.tolist()]
    rooms = range(arguments.seed, arguments.seed + (arguments.first or 50))
    values: dict[str, Value] = {
        'trials': arguments.trials, 'policy': entry.name,
        'policy_seed': entry.training.get('seed', 'unknown')}
    courses = {
        'barn': (barn, BARN_LONGEST_S),
        'room2d': (rooms_of('room', rooms), ROOM_LONGEST_S),
        'people': (rooms_of('people', rooms), ROOM_LONGEST_S)}
    for kind, (worlds, longest_s) in courses.items():
        levels = LEVELS if kind == 'barn' else {'nominal': 1.0}
        for level, factor in levels.items():
            course = Course(worlds, ROBOT, replace(LIDAR, level=factor), longest_s)
            name = kind if level == 'nominal' else f'{kind}_{level}'
            driving = {prefix: entrant for prefix, entrant in entrants.items()
                       if level == 'nominal' or not entrant.is_baseline}
            drives = _driven(course, driving, name, arguments)
            for prefix, found in drives.items():
                values |= shares(found, worlds, prefix + name, arguments.seed)
            if level == 'nominal':
                write_trajectories(arguments.out.parent / f'navigation_{kind}.png', worlds, drives)
            if name == 'barn':
                values |= {f'{prefix or "policy_"}step_ms': float(
                    np.median([drive.step_cpu_ms for drive in found]))
                    for prefix, found in drives.items()}
    log.info('driving in furnished rooms')
    values |= room_rows(
        {prefix: entrants[prefix].make() for prefix in _IN_ROOMS},
        arguments.trials, arguments.seed, rooms=arguments.first or ROOMS)
    write_results(arguments.out, values, seed=arguments.seed,
                  n=len(barn) * arguments.trials, wall_s=time.monotonic() - begun)
    for figure, value in values.items():
        if isinstance(value, float) and not figure.endswith(('_ci_low', '_ci_high')):
            log.info('%-36s %.4g', figure, value)
    log.info('wrote %s', arguments.out)
    return 0


def rooms_of(kind: str, seeds: Iterable[int]) -> list[NavigationWorld]:
    """Return worlds of the test split."""
    return [make_navigation_world(kind, 'test', seed) for seed in seeds]


def _driven(
    course: Course, entrants: dict[str, _Entrant], name: str, arguments: Namespace
) -> dict[str, list[Drive]]:
    """Return the episodes of every entrant."""
    trials = {prefix: max(1, arguments.trials // 2) if entrant.is_baseline else arguments.trials
              for prefix, entrant in entrants.items()}
    with progress(sum(trials.values()) * len(course.worlds), f'{name} episode') as bar:
        return {prefix: course.drive_all(
            entrant.make(), trials[prefix], arguments.seed, guarded=entrant.guarded,
            on_drive=lambda: bar.update(1)) for prefix, entrant in entrants.items()}
