"""Train a navigation policy by reinforcement, from one or several seeds, and export the best."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
import logging
from pathlib import Path
from shutil import copyfile

from perception_nodes.backends.networks.navigation import NavigationNetwork
from perception_nodes.cli.arguments import result_folder, whole_number
from perception_nodes.cli.parameters import add_flags, from_flags
from perception_nodes.core.navigation import NavigationParams
from perception_nodes.training.export import publish, Trained
from perception_nodes.training.loop import told
from perception_nodes.training.navigation import (
    fit_policy,
    NavigationTraining,
    new_network,
    Validation,
)
from perception_nodes.training.navigation_export import export_policy

log = logging.getLogger(__name__)

NAME = 'navigation_policy'
_CHOICE_SEED = 1000  # of robots, delays and noise in the validation that chooses a seed
_METRICS = ('cellular_success', 'cellular_collision', 'indoor_success', 'indoor_collision')


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the training takes."""
    parser.add_argument(
        '--out', type=result_folder, required=True, metavar='FOLDER',
        help='where the policy and manifest.yaml go, and a folder seed_N with checkpoints and '
        'curves for each seed; an interrupted training there goes on')
    parser.add_argument(
        '--seeds', type=whole_number, nargs='+', default=[0], metavar='N',
        help='train once from each, and export the policy that validates best (default 0)')
    add_flags(parser, NavigationTraining, leave_out=('seed',))


def run(arguments: Namespace) -> int:
    """Train from each seed, and export what came of it and the best of all."""
    robot, out = NavigationParams(), arguments.out
    settings = [from_flags(NavigationTraining, Namespace(**vars(arguments) | {'seed': seed}))
                for seed in arguments.seeds]
    validation = Validation(robot, 2 * arguments.validation_worlds, _CHOICE_SEED)
    candidates: list[tuple[float, Trained, Path]] = []
    for params in settings:
        file = out / f'seed_{params.seed}' / f'{NAME}.onnx'
        network = new_network(robot, params)
        best = fit_policy(network, robot, params, file.parent)
        difference = export_policy(network, robot.decision_ms, file)
        scores = validation.scores(network)
        log.info('seed %d: %s', params.seed, told(scores))
        trained = _trained(network, robot, params, best, difference, scores)
        publish(trained, file)
        candidates.append((scores['score'], trained, file))
    _, trained, file = max(candidates, key=lambda candidate: candidate[0])
    copyfile(file, out / file.name)
    publish(trained, out / file.name)
    return 0


def _trained(
    network: NavigationNetwork, robot: NavigationParams, params: NavigationTraining,
    best: Mapping[str, float], difference: float, scores: Mapping[str, float],
) -> Trained:
    """Return what the manifest says of a policy."""
    dataset = f'validation, {2 * params.validation_worlds} cellular worlds, half as many rooms'
    return Trained(
        name=NAME, task='navigation', backend='onnxruntime',
        architecture=type(network).__name__, head=None, domain='simulation',
        licence='Apache-2.0', source=f'{params.steps} decisions in simulated worlds',
        class_names={}, input=None, seed=params.seed,
        quality=[{'dataset': dataset, 'metric': metric, 'value': round(scores[metric], 3),
                  'command': 'perception train navigation'} for metric in _METRICS],
        hours_cpu=best['cpu_s'] / 3600.0,
        notes=[
            f'Sees {network.sectors} sectors up to {network.reach_m:g} m, the goal, its velocity, '
            f'footprint and limits, every {robot.decision_ms:g} ms; remembers {network.memory} '
            'numbers and no map.',
            f'Best of {params.validations} validations: number {best["epoch"]:g}.',
            f'The file differs from the network by at most {difference:.2g} of an action.'])
