"""
``perception record``: write topics to a bag.

What needs the graph is imported once the arguments are right.
"""

import argparse
from pathlib import Path
import shutil

from perception_nodes.cli.arguments import positive
from perception_nodes.evaluation.bag import is_bag


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``perception record`` takes."""
    parser.add_argument('out', type=Path, help='folder to make')
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        '--topics', nargs='+', metavar='TOPIC', help='record these, whenever they appear')
    which.add_argument(
        '--all', action='store_true', help='record every topic that is not hidden (the default)')
    parser.add_argument(
        '--duration', type=positive, metavar='S', help='stop after S seconds (default: at Ctrl-C)')
    parser.add_argument(
        '--storage', choices=('mcap', 'sqlite3'), default='mcap', help='default: mcap')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace a bag that is there already')


def run(arguments: argparse.Namespace) -> int:
    """Record until told to stop; the counts go to standard output."""
    if arguments.out.exists():
        _make_way(arguments.out, arguments.overwrite)
    from perception_nodes.cli.recorder import record
    return record(arguments)


def _make_way(out: Path, overwrite: bool) -> None:
    if not overwrite:
        raise FileExistsError(f'{out} exists already; name another folder or give --overwrite')
    if not out.is_dir() or (any(out.iterdir()) and not is_bag(out)):
        raise FileExistsError(f'{out} is there and is no bag: it is not overwritten')
    shutil.rmtree(out)
