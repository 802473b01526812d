"""
Measure the policies that trainings from several seeds have left, one by one and together.

Each drives through BARN's worlds, rooms and rooms with people at the nominal perturbation, behind
the safety layer. Names without a prefix are of all seeds together; their intervals are over
worlds, so they say how other worlds would have turned out, and the seeds' own figures how much
chance is in the training.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
import logging
from pathlib import Path
import re
import time

from perception_nodes.backends.registry import load_model
from perception_nodes.cli.arguments import count, result_file, whole_number
from perception_nodes.cli.benchmark_navigation import (
    BARN_FILE,
    LIDAR,
    POLICY,
    ROBOT,
    ROOM_LONGEST_S,
    rooms_of,
)
from perception_nodes.cli.progress import progress
from perception_nodes.core.manifest import find_model
from perception_nodes.evaluation.navigation import (
    BARN_LONGEST_S,
    Course,
    Drive,
    load_barn,
    shares,
)
from perception_nodes.evaluation.results import Value, write_results

log = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument(
        'folder', type=Path, help='what `perception train navigation --seeds` has written')
    parser.add_argument(
        '--worlds', type=Path, default=BARN_FILE, metavar='FILE.npz',
        help='BARN worlds (default %(default)s)')
    parser.add_argument(
        '--trials', type=count, default=2, metavar='N',
        help='episodes of each policy in each world (default %(default)s)')
    parser.add_argument(
        '--rooms', type=count, default=50, metavar='N',
        help='rooms, and rooms with people (default %(default)s)')
    parser.add_argument(
        '--seed', type=whole_number, default=0, metavar='N',
        help='of rooms, delays and noise (default %(default)s)')
    parser.add_argument(
        '--out', type=result_file, default='out/bench/navigation_seeds.json', metavar='FILE.json',
        help='result file to write, and a table beside it (default %(default)s)')


def run(arguments: Namespace) -> int:
    """Drive, and write the result file and the table."""
    begun = time.monotonic()
    folders = sorted(
        arguments.folder.glob('seed_*/manifest.yaml'),
        key=lambda path: int(re.sub(r'\D', '', path.parent.name)))
    if not folders:
        raise ValueError(
            f'{arguments.folder} has no seed_N/manifest.yaml; train policies there with: '
            f'perception train navigation --out {arguments.folder} --seeds 0 1 2')
    kinds = {'barn': (load_barn(arguments.worlds), BARN_LONGEST_S)} | {
        kind: (rooms_of(world, range(arguments.seed, arguments.seed + arguments.rooms)),
               ROOM_LONGEST_S) for kind, world in (('room2d', 'room'), ('people', 'people'))}
    values: dict[str, Value] = {'trials': arguments.trials}
    with progress(arguments.trials * len(folders) * sum(len(w) for w, _ in kinds.values()),
                  'episode') as bar:
        for kind, (worlds, longest_s) in kinds.items():
            course = Course(worlds, ROBOT, LIDAR, longest_s)
            together: list[Drive] = []
            for manifest in folders:
                policy = load_model(find_model(POLICY, 'navigation', str(manifest)), 'cpu')
                policy.check(ROBOT)
                drives = course.drive_all(policy, arguments.trials, arguments.seed,
                                          on_drive=lambda: bar.update(1))
                values |= shares(drives, worlds, f'{manifest.parent.name}_{kind}', arguments.seed)
                together += drives
            values |= shares(together, worlds, kind, arguments.seed)
    names = [manifest.parent.name for manifest in folders]
    write_results(arguments.out, values, seed=arguments.seed,
                  n=len(names) * arguments.trials * len(kinds['barn'][0]),
                  wall_s=time.monotonic() - begun)
    table = _table(names, values)
    arguments.out.with_suffix('.md').write_text(table)
    log.info('%s\nwrote %s', table, arguments.out)
    return 0


def _table(names: list[str], values: Mapping[str, Value]) -> str:
    """Return the figures as Markdown, a row for each seed and one for all."""
    columns = [f'{kind}_{what}' for kind in ('barn', 'room2d', 'people')
               for what in ('success', 'collision')]
    rows = [f'| seed | {" | ".join(column.replace("_", " ") for column in columns)} |',
            '|---' * (len(columns) + 1) + '|']
    for name in [*names, '']:
        cells = []
        for column in columns:
            key = f'{name}_{column}' if name else column
            share, low, high = (
                100.0 * float(values[key + end]) for end in ('', '_ci_low', '_ci_high'))
            cells.append(f'{share:.1f} ({low:.1f} to {high:.1f})')
        rows.append(f'| {name.removeprefix("seed_") or "all"} | {" | ".join(cells)} |')
    return '\n'.join(rows) + '\n'
