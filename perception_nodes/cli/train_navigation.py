"""Train a navigation policy by reinforcement, from one or several seeds."""

from argparse import ArgumentParser, Namespace
import logging
from pathlib import Path

from perception_nodes.backends.networks.navigation import NavigationNetwork
from perception_nodes.cli.arguments import whole_number
from perception_nodes.cli.parameters import add_flags, from_flags
from perception_nodes.core.navigation import NavigationParams
from perception_nodes.training.navigation import (
    fit_policy,
    NavigationTraining,
    new_network,
)
from perception_nodes.training.navigation_export import export_policy

log = logging.getLogger(__name__)

NAME = 'navigation_policy'
_SECTORS = 120


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the training takes."""
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FOLDER',
        help='where checkpoints, curves and the policy go, a folder seed_N for each seed; an '
        'interrupted training there goes on')
    parser.add_argument(
        '--seeds', type=whole_number, nargs='+', default=[0], metavar='N',
        help='train once from each (default 0)')
    add_flags(parser, NavigationTraining, leave_out=('seed',))


def run(arguments: Namespace) -> int:
    """Train from each seed, and export what came of it."""
    robot = NavigationParams(sectors=_SECTORS)
    trained: dict[int, NavigationNetwork] = {}
    for seed in arguments.seeds:
        params = from_flags(NavigationTraining, Namespace(**vars(arguments) | {'seed': seed}))
        folder = arguments.out / f'seed_{seed}'
        trained[seed] = new_network(robot, params)
        fit_policy(trained[seed], robot, params, folder)
        export_policy(trained[seed], robot.period_ms, folder / f'{NAME}.onnx')
    return 0
