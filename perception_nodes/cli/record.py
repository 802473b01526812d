"""
``perception record``: write topics to a bag.

What needs the graph is imported once the arguments are right.
"""

import argparse
from pathlib import Path
import shutil

from perception_nodes.cli.arguments import positive
from perception_nodes.core.anonymisation import AnonymisationParams
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
    parser.add_argument(
        '--anonymise', type=_names, metavar='CLASS[,CLASS]',
        help='hide objects of these classes, such as person, in images before they are written')
    parser.add_argument(
        '--model', metavar='NAME', help='detection model that finds them (default: '
        f'{AnonymisationParams().model})')
    parser.add_argument(
        '--manifest', metavar='PATH', help='your own manifest.yaml that names the model')
    parser.add_argument(
        '--method', choices=('blur', 'fill'),
        help='leave 4 x 4 mean colours of each of them, or nothing (default: blur)')


def run(arguments: argparse.Namespace) -> int:
    """Record until told to stop; the counts go to standard output."""
    how = {name: value for name in ('model', 'manifest', 'method')
           if (value := getattr(arguments, name)) is not None}
    if how and not arguments.anonymise:
        raise ValueError(f'--{next(iter(how))} tells how to anonymise; name what with --anonymise')
    concealer = None
    if arguments.anonymise:  # before an old bag is given up for one that cannot be made
        from perception_nodes.cli.concealment import Concealer
        concealer = Concealer(AnonymisationParams(classes=arguments.anonymise, **how))
    if arguments.out.exists():
        _make_way(arguments.out, arguments.overwrite)
    from perception_nodes.cli.recorder import record
    return record(arguments, concealer)


def _names(text: str) -> tuple[str, ...]:
    """Return class names from a list with commas."""
    names = tuple(name.strip() for name in text.split(','))
    if not all(names):
        raise argparse.ArgumentTypeError(f"'{text}' is no list of classes; write person,car")
    return names


def _make_way(out: Path, overwrite: bool) -> None:
    if not overwrite:
        raise FileExistsError(f'{out} exists already; name another folder or give --overwrite')
    if not out.is_dir() or (any(out.iterdir()) and not is_bag(out)):
        raise FileExistsError(f'{out} is there and is no bag: it is not overwritten')
    shutil.rmtree(out)
