"""
Measure place recognition: simulated rooms of the test split, toured twice in different light.

Every second room is stored on the first tour; views of the others have no match.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
import logging
from pathlib import Path
import time

import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.cli.arguments import count, result_file
from perception_nodes.core.manifest import find_model
from perception_nodes.core.place_recognition import (
    brightness_embedding,
    Embedding,
    layout_embedding,
)
from perception_nodes.evaluation.place_tour import recognise, Recognition, tours, Visit
from perception_nodes.evaluation.results import percentiles, write_results
from perception_nodes.sim.classes import SEGMENTED_NAMES

log = logging.getLogger(__name__)

SEGMENTER = 'sim_scene_segmenter'


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument('--rooms', type=count, default=12, metavar='N',
                        help='rooms, half of them stored (default %(default)s)')
    parser.add_argument('--seed', type=int, default=5000, help='of the first room')
    parser.add_argument('--out', type=result_file, default='out/bench/places.json',
                        metavar='FILE.json', help='result file to write; the curve lies beside it')


def run(arguments: Namespace) -> int:
    """Tour the rooms, match the views, write the result file and the curve."""
    start_s = time.monotonic()
    seeds = range(arguments.seed, arguments.seed + arguments.rooms)
    first, second = tours(seeds)
    stored = [visit for visit in first if visit.room % 2 == 0]
    values: dict[str, float] = {'places': len(stored), 'queries': len(second)}
    curves = {}
    layout = _Layout()
    embeddings: dict[str, Callable[[Visit], Embedding]] = {
        'layout': layout, 'brightness': _brightness,
        'both': lambda visit: np.concatenate([layout(visit), _brightness(visit)])}
    for name, embed in embeddings.items():
        cpu_ms: list[float] = []
        found = curves[name] = recognise(
            _described(stored, embed, cpu_ms), _described(second, embed, cpu_ms))
        values |= {
            f'{name}_average_precision': found.curve.average_precision(),
            f'{name}_recall_at_full_precision': found.recall_at_full_precision,
            f'{name}_found': found.found, **percentiles(f'{name}_cpu_ms', cpu_ms)}
    write_results(arguments.out, values, seed=arguments.seed, n=len(second),
                  wall_s=time.monotonic() - start_s)
    _draw(curves, arguments.out.with_suffix('.png'))
    for name, value in values.items():
        print(f'{name:40} {value:.4g}')
    log.info('wrote %s and the curve beside it', arguments.out)
    return 0


def _described(
    visits: Sequence[Visit], embed: Callable[[Visit], Embedding], cpu_ms: list[float]
) -> list[tuple[Visit, Embedding]]:
    """Return each view with its embedding; add what each took to ``cpu_ms``."""
    described = []
    for visit in visits:
        begin_s = time.process_time()
        described.append((visit, embed(visit)))
        cpu_ms.append((time.process_time() - begin_s) * 1e3)
    return described


class _Layout:
    def __init__(self) -> None:
        self._segmenter = load_model(find_model(SEGMENTER, 'segmentation'), 'cpu')

    def __call__(self, visit: Visit) -> Embedding:
        ids = self._segmenter.predict([visit.rgb])[0].ids
        return layout_embedding(np.asarray(ids, np.uint8), len(SEGMENTED_NAMES))


def _brightness(visit: Visit) -> Embedding:
    return brightness_embedding(visit.rgb)


def _draw(curves: dict[str, Recognition], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout='constrained')
    axes = figure.subplots()
    for name, found in curves.items():
        axes.plot(found.curve.recall, found.curve.precision,
                  label=f'{name}, average precision {found.curve.average_precision():.2f}')
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02),
             title='Places seen again in other light')
    axes.legend()
    FigureCanvasAgg(figure).print_png(str(path))
