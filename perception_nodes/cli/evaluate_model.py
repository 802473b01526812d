"""
Score a model's answers against known ones: boxes, masks or classes, as its manifest entry says.

A table is printed, figures go into a JSON file, and a page beside it shows curves, confusion and
the worst pictures. The headline of detectors is ``mAP50``, of segmenters ``mIoU``, of classifiers
``accuracy``; intervals are 95 % over scenes where the data set tells them, else over pictures.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import product
import logging
from pathlib import Path
import platform
import shlex
import time
from typing import Any

import cv2
import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.cli.arguments import count, renamed_classes, result_file
from perception_nodes.cli.evaluate_through_ros import detect_through_ros
from perception_nodes.cli.parameters import add_flags, from_flags
from perception_nodes.cli.progress import progress
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.manifest import find_model, ModelEntry
from perception_nodes.core.model_params import ModelParams
from perception_nodes.core.overlay import colour_of
from perception_nodes.evaluation.classification_task import ClassificationTask
from perception_nodes.evaluation.corruptions import corrupt, CORRUPTIONS, STRENGTHS
from perception_nodes.evaluation.datasets import read_coco, read_image_folder, split_folder
from perception_nodes.evaluation.detection_task import DetectionTask
from perception_nodes.evaluation.mask_datasets import read_masks
from perception_nodes.evaluation.model_page import Evaluation, ModelPage, Table, write_page
from perception_nodes.evaluation.occlusion import draw_heat, occlusion_map
from perception_nodes.evaluation.report import Legend, Moment, Panel, Tile
from perception_nodes.evaluation.results import commit, percentiles, Value, write_results
from perception_nodes.evaluation.segmentation_task import SegmentationTask

log = logging.getLogger(__name__)

Task = DetectionTask | SegmentationTask | ClassificationTask

# average precision wants every box, also those that nobody would act on
_DEFAULTS = {'score_threshold': 0.01}
_DETECTION_TASKS = ('detection', 'instances')


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument('model', help='name of a detection, segmentation or classification model '
                        'in the manifest')
    parser.add_argument(
        'dataset', type=Path, help='folder of images/ with instances.json (COCO) or masks/, a '
        'folder of pictures per class, or one that holds such folders by split')
    parser.add_argument(
        '--split', default='test', help='which part of a data set that has several '
        '(default: %(default)s)')
    parser.add_argument(
        '--out', type=result_file, metavar='FILE.json',
        help='result file to write; the page lies beside it (default: '
        'out/eval/MODEL_DATASET.json)')
    parser.add_argument(
        '--map', type=renamed_classes, default={}, metavar='THEIRS=OURS,...', dest='renamed',
        help="the data set's class names where the model has others; of masks also 'void'")
    parser.add_argument(
        '--corruptions', action='store_true',
        help='also score with blur, motion, noise, darkness and JPEG, three strengths of each')
    parser.add_argument(
        '--occlusion', type=count, metavar='N',
        help='also show in N pictures what the answer hangs on')
    parser.add_argument(
        '--through-ros', action='store_true',
        help='also send every image through a detection node of its own process')
    parser.add_argument(
        '--seed', type=int, default=0, help='of the confidence intervals (default 0)')
    add_flags(parser, DetectionParams, _DEFAULTS, leave_out=['model'])


def run(arguments: Namespace) -> int:
    """Evaluate, write the result file and the page, and print a table."""
    start_s = time.monotonic()
    cv2.setNumThreads(1)
    params = from_flags(DetectionParams, arguments)
    entry = find_model(params.model, manifest=params.manifest)
    out = arguments.out or Path('out/eval') / f'{entry.name}_{arguments.dataset.name}.json'
    _check_flags(entry, params, arguments)
    task = _task(entry, params, arguments)
    answers, times_ms, cpu_times_ms = _predictions(task)
    evaluation = task.evaluate(answers)
    values: dict[str, Value] = {
        'model': entry.name, 'task': entry.task, 'dataset': arguments.dataset.name,
        'images': len(task.images), 'classes': len(evaluation.tables[0].rows)}
    if isinstance(task, DetectionTask):
        values |= {
            'boxes': sum(len(image.labels) for image in task.images),
            'score_threshold': params.score_threshold, 'nms_iou': params.nms_iou,
            'max_detections': params.max_detections}
    values |= _variant('direct', len(answers), evaluation.values, times_ms)
    values |= percentiles('direct_cpu_ms', cpu_times_ms)
    _print_table(evaluation)
    _print_headline('direct', task, values)
    if arguments.through_ros and isinstance(task, DetectionTask):
        found, ros_times_ms = detect_through_ros(params, entry.class_names, task.images)
        kept = [task.of_classes(boxes) for boxes in found]
        values |= _variant('ros', len(kept), task.scores(kept), ros_times_ms)
        _print_headline('ros', task, values)
    corruptions = None
    if arguments.corruptions:
        worse = _corrupted(task, arguments.seed)
        values |= {f'direct_{name}': value for name, value in worse.items()}
        corruptions = _corruption_table(task.metric, evaluation.values[task.metric], worse)
        _print_rows(corruptions)
    occlusions = _occlusions(task, arguments.occlusion) if arguments.occlusion else []
    wall_s = time.monotonic() - start_s
    write_results(out, values, seed=arguments.seed, n=len(task.images), wall_s=wall_s)
    page = out.with_suffix('.html')
    write_page(page, _page(entry, arguments, task, evaluation, values, corruptions, occlusions))
    log.info('wrote %s and %s', out, page)
    return 0


def _check_flags(entry: ModelEntry, params: DetectionParams, arguments: Namespace) -> None:
    """
    Refuse what has no meaning for the model's task.

    :raises ValueError: Naming the flag.
    """
    if entry.task in _DETECTION_TASKS:
        return
    plain = DetectionParams.from_mapping(_DEFAULTS)
    shared = {f.name for f in fields(ModelParams)}
    changed = [f.name for f in fields(params) if f.name not in shared
               and getattr(params, f.name) != getattr(plain, f.name)]
    changed += ['through_ros'] if arguments.through_ros else []
    if changed:
        raise ValueError(
            f"--{changed[0].replace('_', '-')} is for detectors, but model '{entry.name}' does "
            f'{entry.task}; leave it out')


def _task(entry: ModelEntry, params: DetectionParams, arguments: Namespace) -> Task:
    """
    Read the data set and load the model.

    :raises ValueError: If they do not suit each other, or the task cannot be scored.
    """
    root, split, seed = arguments.dataset, arguments.split, arguments.seed

    def model() -> Any:
        return load_model(entry, params.device, half_precision=params.half_precision,
                          input_size=params.input_size)

    if entry.task in _DETECTION_TASKS:
        boxes = read_coco(split_folder(root, split)).with_classes_of(
            entry.class_names, arguments.renamed)
        return DetectionTask(ObjectDetector(model(), params), boxes, seed)
    if entry.task == 'segmentation':
        masks = read_masks(root, split).with_classes_of(entry.class_names, arguments.renamed)
        return SegmentationTask(model(), masks, seed)
    if entry.task == 'classification':
        pictures = read_image_folder(split_folder(root, split)).with_classes_of(
            entry.class_names, arguments.renamed)
        return ClassificationTask(model(), pictures, seed)
    raise ValueError(
        f"model '{entry.name}' does {entry.task}, which has other measures; "
        'detection, instances, segmentation and classification are scored here')


def _predictions(task: Any) -> tuple[list[Any], list[float], list[float]]:
    """Return the answer to each image, and the wall and CPU milliseconds it took."""
    answers, times_ms, cpu_times_ms = [], [], []
    with progress(len(task.images), 'image') as bar:
        for image in task.images:
            rgb = image.rgb()
            start_ns, cpu_start_ns = time.monotonic_ns(), time.process_time_ns()
            answers.append(task.predict(rgb))
            cpu_times_ms.append((time.process_time_ns() - cpu_start_ns) * 1e-6)
            times_ms.append((time.monotonic_ns() - start_ns) * 1e-6)
            bar.update()
    return answers, times_ms, cpu_times_ms


def _corrupted(task: Any, seed: int) -> dict[str, float]:
    """Return the headline figure and its interval for each corruption and strength."""
    values = {}
    with progress(len(CORRUPTIONS) * len(STRENGTHS) * len(task.images), 'image') as bar:
        for name, strength in product(CORRUPTIONS, STRENGTHS):
            answers = []
            for i, image in enumerate(task.images):
                answers.append(task.predict(corrupt(image.rgb(), name, strength, seed + i)))
                bar.update()
            for key, value in task.headline(answers).items():
                metric, ci, end = key.partition('_ci_')
                values[f'{metric}_{name}_{strength}{ci}{end}'] = value
    return values


def _corruption_table(metric: str, clean: float, worse: Mapping[str, float]) -> Table:
    return Table(
        'Worse pictures', f'{metric} with Gaussian blur, motion blur, noise of the sensor, '
        'little light and strong compression.', (metric, 'clean', 'mild', 'strong', 'severe'),
        [(name, [clean, *(worse[f'{metric}_{name}_{strength}'] for strength in STRENGTHS)])
         for name in CORRUPTIONS])


def _occlusions(task: Any, wanted: int) -> list[Moment]:
    """Return heat maps of pictures spread over the data set."""
    picked = np.unique(np.linspace(0, len(task.images) - 1, min(wanted, len(task.images))).astype(
        int)).tolist()
    moments = []
    with progress(len(picked), 'heat map') as bar:
        for i in picked:
            rgb = task.images[i].rgb()
            what, score = task.confidence(rgb)
            drop = occlusion_map(rgb, score)
            moments.append(Moment(task.images[i].path.name, [
                Panel('picture', '', rgb),
                Panel(what, f'drops by {drop.max():.2f} at most', draw_heat(rgb, drop))]))
            bar.update()
    return moments


def _variant(
    name: str, images: int, scores: Mapping[str, float], times_ms: Sequence[float]
) -> dict[str, Value]:
    values: dict[str, Value] = {f'{name}_images_processed': images}
    values |= {f'{name}_{key}': value for key, value in scores.items()}
    return values | percentiles(f'{name}_answer_ms', times_ms)


def _page(
    entry: ModelEntry, arguments: Namespace, task: Task, evaluation: Evaluation,
    values: Mapping[str, Any], corruptions: Table | None, occlusions: Sequence[Moment],
) -> ModelPage:
    """Put the results on the page."""
    scores = _main_scores(evaluation.values)
    tiles = [Tile(f'{evaluation.values[name]:.3f}', _spoken(name),
                  f'95 % interval {evaluation.values[f"{name}_ci_low"]:.3f} to '
                  f'{evaluation.values[f"{name}_ci_high"]:.3f}') for name in scores]
    tiles.append(Tile(f'{values["direct_cpu_ms_p50"]:.1f} ms', 'CPU time per picture',
                      f'one thread, p95 {values["direct_cpu_ms_p95"]:.1f} ms'))
    return ModelPage(
        f'{entry.name} on {arguments.dataset.name}',
        f'{task.metric} {evaluation.values[task.metric]:.3f} on {len(task.images)} pictures',
        f'{entry.architecture}, {entry.task}, trained for a {entry.domain} camera.', tiles,
        evaluation, [Legend(name, colour_of(i)) for i, name in entry.class_names.items()
                     if name in evaluation.confusion.rows],
        corruptions, occlusions, [('Evaluate again', _command(arguments))],
        [('commit', commit()), ('Python', platform.python_version()),
         ('machine', platform.machine()), ('weights', f'{entry.licence}, sha256 {entry.sha256}')])


def _command(arguments: Namespace) -> str:
    """Return the command line, without what has its default."""
    parser = ArgumentParser()
    add_arguments(parser)
    plain = vars(parser.parse_args([arguments.model, str(arguments.dataset)]))
    words = ['perception', 'evaluate-model', arguments.model, str(arguments.dataset)]
    for name, value in vars(arguments).items():
        flag = '--map' if name == 'renamed' else f'--{name.replace("_", "-")}'
        if value == plain[name]:
            continue
        if isinstance(value, bool):
            words.append(flag if value else f'--no-{flag[2:]}')
        elif isinstance(value, dict):
            words += [flag, ','.join(f'{theirs}={ours}' for theirs, ours in value.items())]
        else:
            words += [flag, *map(str, value if isinstance(value, (list, tuple)) else [value])]
    return shlex.join(words)


def _print_table(evaluation: Evaluation) -> None:
    for table in evaluation.tables:
        _print_rows(table)


def _print_rows(table: Table) -> None:
    width = max(len(name) for name in (table.header[0], *(name for name, _ in table.rows)))
    widths = [max(8, len(name)) for name in table.header[1:]]
    print(f'{table.header[0]:{width}}' + ''.join(
        f'  {name:>{w}}' for name, w in zip(table.header[1:], widths, strict=True)))
    for name, numbers in table.rows:
        print(f'{name:{width}}' + ''.join(
            f'  {table.shown(value):>{w}}' for value, w in zip(numbers, widths, strict=True)))


def _print_headline(variant: str, task: Task, values: Mapping[str, Any]) -> None:
    name = f'{variant}_{task.metric}'
    scores = {key.removeprefix(f'{variant}_'): value for key, value in values.items()
              if key.startswith(f'{variant}_')}
    others = [key for key in _main_scores(scores) if key != task.metric]
    print(f'{variant}: {task.metric} {values[name]:.3f} (95 % interval '
          f'{values[f"{name}_ci_low"]:.3f} to {values[f"{name}_ci_high"]:.3f})' + ''.join(
              f', {_spoken(key)} {scores[key]:.3f}' for key in others))


def _main_scores(values: Mapping[str, Any]) -> list[str]:
    """Return the names of the scores over all classes that have an interval."""
    return [name for name in values
            if f'{name}_ci_low' in values and not name.startswith('IoU_')]


def _spoken(name: str) -> str:
    return name.replace('coco_', 'COCO ').replace('_', ' ')
