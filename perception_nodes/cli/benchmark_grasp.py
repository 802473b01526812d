"""
Measure grasping: clutter removal in the simulator with noisy depth from one view, by physics.

Objects are of the held-out families. Every proposer gets the same scenes; success is lifted of
attempted, cleared is lifted of all objects.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from functools import partial
import logging
import time

import numpy as np
from perception_nodes.backends.grasp_planner import make_planner
from perception_nodes.cli.arguments import count, result_file
from perception_nodes.core.grasping import GraspParams, GraspPlanner, warm_up
from perception_nodes.core.protocols import GraspProposer
from perception_nodes.evaluation.grasp_clutter import clear, make_simulator, Round
from perception_nodes.evaluation.metrics import scores_with_intervals
from perception_nodes.evaluation.results import percentiles, write_results
from perception_nodes.sim.families import HELD_OUT_FAMILIES
from tqdm import tqdm

log = logging.getLogger(__name__)

KINDS = {'packed': False, 'pile': True}
# what begins the names of the figures, and what is measured; the first is the default planner
PROPOSERS: dict[str, Callable[[GraspParams], GraspProposer]] = {
    '': partial(make_planner, model='grasp_scorer', fallback_model='grasp_cascade'),
    'geometry_': GraspPlanner,
    'cascade_': partial(make_planner, model='grasp_cascade'),
    'generative_': partial(make_planner, model='grasp_generative'),
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument(
        '--rounds', type=count, default=100, metavar='N',
        help='scenes of each kind (default %(default)s)')
    parser.add_argument(
        '--seed', type=int, default=80_000, help='of the first scene (default %(default)s)')
    parser.add_argument(
        '--out', type=result_file, default='out/bench/grasp.json', metavar='FILE.json',
        help='result file to write (default %(default)s)')


def run(arguments: Namespace) -> int:
    """Clear the scenes, write the result file and print the figures."""
    start_s = time.monotonic()
    params = GraspParams()
    warm_up(params)
    seeds = range(arguments.seed, arguments.seed + arguments.rounds)
    values: dict[str, float] = {'rounds': arguments.rounds}
    cpu_ms: list[float] = []
    for kind in KINDS:
        rounds = {prefix: played(make(params), kind, seeds, prefix.rstrip('_') or 'default')
                  for prefix, make in PROPOSERS.items()}
        values |= shares(rounds, kind, arguments.seed)
        cpu_ms += [ms for r in rounds[''] for ms in r.plan_cpu_ms]
    values |= {'plan_cpu_ms': float(np.median(cpu_ms)), **percentiles('plan_cpu_ms', cpu_ms)}
    write_results(arguments.out, values, seed=arguments.seed, n=arguments.rounds,
                  wall_s=time.monotonic() - start_s)
    for name, value in values.items():
        print(f'{name:40} {value:.4g}')
    log.info('wrote %s', arguments.out)
    return 0


def played(proposer: GraspProposer, kind: str, seeds: range, name: str) -> list[Round]:
    """Let a proposer clear the scenes of some seeds."""
    sim = make_simulator()
    try:
        return [clear(sim, proposer, seed, pile=KINDS[kind], split='test',
                      families=HELD_OUT_FAMILIES)
                for seed in tqdm(seeds, f'{name}, {kind}', unit='round', disable=None)]
    finally:
        sim.close()


def shares(rounds: dict[str, list[Round]], kind: str, seed: int) -> dict[str, float]:
    """
    Return success and cleared shares, and the default's gain over the geometry, with intervals.

    Rounds are drawn anew for all proposers together, so that the gain is of paired rounds.

    :param rounds: By what begins the names of a proposer's figures; all of the same scenes.
    """
    tables = {prefix: np.array([(r.lifted, len(r.attempts), r.objects) for r in played_rounds])
              for prefix, played_rounds in rounds.items()}

    def score(weights: np.ndarray) -> dict[str, float]:
        values: dict[str, float] = {}
        for prefix, table in tables.items():
            lifted, attempted, objects = (weights @ table).tolist()
            values[f'{prefix}{kind}_success'] = lifted / attempted if attempted else float('nan')
            values[f'{prefix}{kind}_cleared'] = lifted / objects if objects else float('nan')
        for name in (f'{kind}_success', f'{kind}_cleared'):
            if name in values and f'geometry_{name}' in values:
                values[f'{name}_gain'] = values[name] - values[f'geometry_{name}']
        return values

    return scores_with_intervals(score, np.arange(len(next(iter(tables.values())))), seed)
