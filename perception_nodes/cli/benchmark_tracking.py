"""Measure what following one object costs per VGA image, in sight and lost."""

from argparse import ArgumentParser, Namespace
import logging
import time

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.cli.arguments import count, result_file
from perception_nodes.core.correlation_tracking import CorrelationTracker, TrackParams
from perception_nodes.evaluation.results import percentiles, write_results

log = logging.getLogger(__name__)

_SIDES_PX = (40, 100, 200)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument('--frames', type=count, default=200, metavar='N',
                        help='images per size of the object (default %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of the picture')
    parser.add_argument('--out', type=result_file, default='out/bench/tracking.json',
                        metavar='FILE.json', help='result file to write')


def run(arguments: Namespace) -> int:
    """Follow squares of several sizes over a picture, take them away, write the result file."""
    start_s = time.monotonic()
    cv2.setNumThreads(1)  # as nodes do
    values: dict[str, float] = {}
    background = _noise(480, 640, arguments.seed)
    for side in _SIDES_PX:
        sprite = _noise(side, side, arguments.seed + 1)
        pictures = [_placed(sprite, background, n) for n in range(arguments.frames + 1)]
        begin = _place(side, 0)
        tracker = CorrelationTracker(
            pictures[0], (*begin, begin[0] + side, begin[1] + side), TrackParams())
        followed = [_cpu_ms(tracker, picture) for picture in pictures[1:]]
        if tracker.is_lost:
            raise ValueError(f'the square of {side} pixels was lost: this measures nothing')
        lost = [_cpu_ms(tracker, background) for _ in range(arguments.frames)]
        values |= {**percentiles(f'followed_{side}px_cpu_ms', followed),
                   **percentiles(f'lost_{side}px_cpu_ms', lost[1:])}
    write_results(arguments.out, values, seed=arguments.seed, n=arguments.frames,
                  wall_s=time.monotonic() - start_s)
    for name, value in values.items():
        print(f'{name:30} {value:.3g}')
    log.info('wrote %s', arguments.out)
    return 0


def _cpu_ms(tracker: CorrelationTracker, rgb: npt.NDArray[np.uint8]) -> float:
    begin_s = time.thread_time()
    tracker.step(rgb)
    return (time.thread_time() - begin_s) * 1e3


def _noise(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    """Return smooth noise with details of a few pixels."""
    small = np.random.default_rng(seed).integers(
        0, 256, (max(height // 6, 2), max(width // 6, 2), 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _place(side: int, n: int) -> tuple[int, int]:
    """Return where the square's upper left corner is in the n-th image."""
    room = min(640, 480) - side
    return round(room * (0.5 + 0.3 * np.sin(n / 20))), round(room * (0.5 + 0.3 * np.cos(n / 20)))


def _placed(
    sprite: npt.NDArray[np.uint8], background: npt.NDArray[np.uint8], n: int
) -> npt.NDArray[np.uint8]:
    left, top = _place(len(sprite), n)
    picture = background.copy()
    picture[top:top + len(sprite), left:left + len(sprite)] = sprite
    return picture
