"""
Measure whether making spoilt pictures better helps the shipped detectors.

Pictures of simulated test scenes, and photos, are blurred, moved and made noisy at three strengths
each. Every detector looks at them as they are, through the network that ``perception train
enhancement`` has trained, and through the classical filter that is made for it; at clean ones
through both filters.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from itertools import product
import logging
from pathlib import Path
import time

import cv2
import numpy as np
from perception_nodes.backends.enhancement import Enhancer, Pixels
from perception_nodes.backends.registry import load_model
from perception_nodes.cli.arguments import renamed_classes, result_file
from perception_nodes.cli.progress import progress
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.manifest import find_model
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.corruptions import corrupt, STRENGTHS
from perception_nodes.evaluation.datasets import read_coco, split_folder
from perception_nodes.evaluation.detection_task import DetectionTask
from perception_nodes.evaluation.enhancement import (
    CLASSICAL,
    mean_squared_error,
    psnr_db,
    scores_and_gains,
    ssim,
)
from perception_nodes.evaluation.metrics import groups_of
from perception_nodes.evaluation.results import percentiles, write_results

log = logging.getLogger(__name__)

SIMULATION, PHOTOS = 'sim_scene_detector', 'coco_ssdlite_mobilenet_v2'
_CLEAN, _NONE, _NETWORK = 'clean', 'none', 'network'
_CORRUPTIONS = ('motion', 'blur', 'noise')
_CONDITIONS = (_CLEAN, *(f'{name}_{strength}' for name, strength in product(
    _CORRUPTIONS, STRENGTHS)))
# average precision wants every box, also those that nobody would act on
_LEAST_SCORE = 0.01

Ways = Mapping[str, Callable[[Pixels], Pixels]]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument('dataset', type=Path, help='folder of `perception dataset` with a split '
                        'test, for the detector of simulated scenes')
    parser.add_argument(
        'weights', type=Path, help='what `perception train enhancement` has written')
    parser.add_argument('--photos', type=Path, metavar='FOLDER',
                        help='labelled photos, for the COCO detector')
    parser.add_argument(
        '--map', type=renamed_classes, default={}, metavar='THEIRS=OURS,...', dest='renamed',
        help="the photos' class names where the COCO detector has others")
    parser.add_argument('--seed', type=int, default=0, help='of how pictures are spoilt, and of '
                        'the intervals (default %(default)s)')
    parser.add_argument('--out', type=result_file, default='out/bench/enhancement.json',
                        metavar='FILE.json', help='result file to write (default %(default)s)')


def run(arguments: Namespace) -> int:
    """Spoil, make better, detect, compare; write the result file and print the tables."""
    start_s = time.monotonic()
    cv2.setNumThreads(1)
    ways: Ways = {_NONE: lambda rgb: rgb, _NETWORK: Enhancer.from_file(arguments.weights),
                  **{name: enhance for name, (enhance, _) in CLASSICAL.items()}}
    tasks = {'simulation': _task(SIMULATION, arguments.dataset, {}, arguments.seed)}
    if arguments.photos is not None:
        tasks['photos'] = _task(PHOTOS, arguments.photos, arguments.renamed, arguments.seed)
    values: dict[str, float] = {}
    for name, task in tasks.items():
        values[f'{name}_images'] = len(task.images)
        values |= {f'{name}_{key}': value for key, value in _measure(
            task, ways, arguments.seed).items()}
    write_results(arguments.out, values, seed=arguments.seed, n=len(tasks['simulation'].images),
                  wall_s=time.monotonic() - start_s)
    for name in tasks:
        for line in _table(name, list(ways), values):
            print(line)
    log.info('wrote %s', arguments.out)
    return 0


def _task(model: str, root: Path, renamed: Mapping[str, str], seed: int) -> DetectionTask:
    entry = find_model(model, 'detection')
    dataset = read_coco(split_folder(root, 'test')).with_classes_of(entry.class_names, renamed)
    params = DetectionParams(model=model, score_threshold=_LEAST_SCORE)
    return DetectionTask(ObjectDetector(load_model(entry, 'cpu'), params), dataset, seed)


def _measure(task: DetectionTask, ways: Ways, seed: int) -> dict[str, float]:
    """Return the figures of every condition and way."""
    values: dict[str, float] = {}
    cpu_ms: dict[str, list[float]] = {way: [] for way in ways if way != _NONE}
    labels = [image.labels for image in task.images]
    groups = groups_of([image.scene for image in task.images])
    with progress(len(_CONDITIONS) * len(task.images), 'image') as bar:
        for condition in _CONDITIONS:
            tried = {way: enhance for way, enhance in ways.items() if _suits(way, condition)}
            answers: dict[str, list[Detections]] = {way: [] for way in tried}
            quality: dict[str, list[tuple[float, float]]] = {way: [] for way in tried}
            for i, image in enumerate(task.images):
                good = image.rgb()
                bad = _spoilt(good, condition, seed + i)
                for way, enhance in tried.items():
                    begin_s = time.process_time()
                    better = enhance(bad)
                    if way in cpu_ms:
                        cpu_ms[way].append((time.process_time() - begin_s) * 1e3)
                    answers[way].append(task.predict(better))
                    quality[way].append((
                        psnr_db(mean_squared_error(better, good)), ssim(better, good)))
                bar.update()
            scores = scores_and_gains(labels, answers, _NONE, groups, seed)
            for way, rows in quality.items():
                scores[f'{way}_psnr_db'], scores[f'{way}_ssim'] = np.mean(rows, 0).tolist()
            values |= {f'{condition}_{name}': value for name, value in scores.items()}
    for way, samples in cpu_ms.items():
        values |= percentiles(f'{way}_cpu_ms', samples)
    return values


def _suits(way: str, condition: str) -> bool:
    """Return whether a way is tried: classical filters on what they are made for."""
    name = condition.partition('_')[0]
    return name == _CLEAN or way not in CLASSICAL or name in CLASSICAL[way][1]


def _spoilt(rgb: Pixels, condition: str, seed: int) -> Pixels:
    if condition == _CLEAN:
        return rgb
    name, _, strength = condition.rpartition('_')
    return corrupt(rgb, name, int(strength), seed)


def _table(name: str, ways: list[str], values: Mapping[str, float]) -> Iterator[str]:
    """Yield lines: what is detected without and with each way, and what pictures are like."""
    yield f'{name}: {values[f"{name}_images"]} pictures, 95 % intervals'
    yield (f'{"condition":10}{"way":16}{"mAP50":>7}{"gain":>9}{"from":>8}{"to":>8}'
           f'{"PSNR dB":>9}{"SSIM":>7}')
    for condition in _CONDITIONS:
        for way in (way for way in ways if _suits(way, condition)):
            row = {key: values.get(f'{name}_{condition}_{way}_{key}', 0.0) for key in (
                'mAP50', 'gain', 'gain_ci_low', 'gain_ci_high', 'psnr_db', 'ssim')}
            yield (f'{condition:10}{way:16}{row["mAP50"]:7.3f}{row["gain"]:+9.3f}'
                   f'{row["gain_ci_low"]:+8.3f}{row["gain_ci_high"]:+8.3f}'
                   f'{row["psnr_db"]:9.1f}{row["ssim"]:7.3f}')
    for way in ways[1:]:
        yield f'{way}: {values[f"{name}_{way}_cpu_ms_p50"]:.1f} ms of CPU time per picture'
