"""Make a labelled data set from the simulator, in several processes, resumable."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
import logging
import multiprocessing
import os
from pathlib import Path
import shlex
import signal

import cv2
from perception_nodes.cli.arguments import (
    count,
    image_size,
    not_negative,
    result_folder,
    whole_number,
)
from perception_nodes.cli.progress import progress
from perception_nodes.sim.dataset import (
    begin,
    DatasetPlan,
    DEFAULT_WORLDS,
    finish,
    make_frames,
    SceneTask,
)

log = logging.getLogger(__name__)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument('root', type=result_folder, metavar='FOLDER',
                        help='where it is written; an unfinished data set is continued')
    for split, frames in (('train', 2400), ('val', 300), ('test', 300)):
        parser.add_argument(f'--{split}', type=whole_number, default=frames, metavar='FRAMES',
                            help=f'frames for {split} (default: %(default)s)')
    parser.add_argument(
        '--worlds', nargs='+', default=list(DEFAULT_WORLDS), metavar='WORLD',
        help='kinds of world, by turns; one named twice comes twice as often '
        f'(default: {" ".join(DEFAULT_WORLDS)})')
    parser.add_argument('--seed', type=whole_number, default=0, metavar='N',
                        help='another seed, other scenes (default: %(default)s)')
    parser.add_argument('--size', type=image_size, default=(320, 240), metavar='WxH',
                        help='size of the pictures (default: 320x240)')
    parser.add_argument('--frames-per-scene', type=count, default=6, metavar='N',
                        help='pictures of each scene (default: %(default)s)')
    parser.add_argument('--ideal', action='store_true', help='without noise of the sensors')
    parser.add_argument('--shadows', type=not_negative, default=0.5, metavar='SHARE',
                        help='share of the scenes with shadows (default: %(default)s)')
    parser.add_argument(
        '--robot-views', type=not_negative, default=0.0, metavar='SHARE',
        help="share of the pictures in rooms taken from where a robot's camera may be, whatever "
        'it shows (default: %(default)s)')
    parser.add_argument('--renderer', choices=('rays', 'egl'), default='rays',
                        help='what draws; rays are exact and need no OpenGL '
                        '(default: %(default)s)')
    parser.add_argument('--processes', type=count, default=os.cpu_count() or 1, metavar='N',
                        help='how many at once (default: %(default)s)')


def run(arguments: Namespace) -> int:
    """Make what is missing, then join it."""
    width, height = arguments.size
    plan = DatasetPlan(
        {'train': arguments.train, 'val': arguments.val, 'test': arguments.test},
        tuple(arguments.worlds), arguments.seed, width, height, arguments.frames_per_scene,
        not arguments.ideal, arguments.shadows, arguments.renderer,
        robot_views=arguments.robot_views)
    command = _command(arguments)
    tasks = begin(arguments.root, plan, command)
    total = sum(plan.frames.values())
    missing = sum(task.count for task in tasks)
    if not tasks and not (arguments.root / 'records').is_dir():
        log.info('%s is complete: %d frames', arguments.root, total)
        return 0
    if missing < total:
        log.info('%d of %d frames are there already', total - missing, total)
    log.info('%d frames are drawn by %d process(es)', missing, arguments.processes)
    try:
        with progress(total, 'frame') as bar:
            bar.update(total - missing)
            for made in _made(arguments.root, plan, tasks, arguments.processes):
                bar.update(made)
    except KeyboardInterrupt:
        log.info('interrupted; the same command goes on from here')
        return 0
    finish(arguments.root, plan, command)
    log.info('%d frames are in %s', total, arguments.root)
    return 0


def _made(root: Path, plan: DatasetPlan, tasks: Sequence[SceneTask],
          processes: int) -> Iterator[int]:
    """Make every scene; yield the number of frames of each that is done."""
    if processes == 1:
        for task in tasks:
            make_frames(root, plan, task)
            yield task.count
        return
    with _pool(min(processes, max(1, len(tasks)))) as pool:
        with _undisturbed():
            running = {pool.submit(make_frames, root, plan, task): task for task in tasks}
        try:
            for done in as_completed(running):
                done.result()
                yield running[done].count
        except BrokenProcessPool as error:
            raise OSError('a worker was ended from outside, perhaps for lack of memory; the same '
                          'command goes on, --processes 1 needs least') from error


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Offer workers that finish their scene, and no other, when this process is interrupted."""
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context('spawn'), initializer=_set_up_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """
    Hold signals back, here until the end and for good in the processes started meanwhile.

    A worker whose start is cut short, or that gets the terminal's Ctrl-C, would write a traceback.
    """
    held: list[int] = []
    ends = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, _: held.append(n)) for number in ends}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])


def _set_up_worker() -> None:
    cv2.setNumThreads(1)


def _command(arguments: Namespace) -> str:
    """Return the command that makes the same data set, wherever it is put."""
    words = ['perception', 'dataset', 'FOLDER']
    for split in ('train', 'val', 'test'):
        words += [f'--{split}', str(getattr(arguments, split))]
    words += ['--worlds', *arguments.worlds, '--seed', str(arguments.seed),
              '--size', 'x'.join(map(str, arguments.size)),
              '--frames-per-scene', str(arguments.frames_per_scene),
              '--shadows', str(arguments.shadows), '--renderer', arguments.renderer]
    words += ['--ideal'] if arguments.ideal else []
    words += ['--robot-views', str(arguments.robot_views)] if arguments.robot_views else []
    return shlex.join(words)
