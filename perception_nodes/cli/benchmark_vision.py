"""
Score the detector and the segmenter of simulated scenes on pictures drawn for the purpose.

``detection_...`` and ``segmentation_...`` are of the split test, whose object families and
textures no training has seen, and ``validation_...`` of fresh scenes with those that it has.
True boxes of which less than half is inside the picture and visible, or less than 100 pixels, are
ignored: nobody has to find them, and boxes on them count neither way; ``..._all_counted`` ignores
none. Intervals are 95 % over scenes. Speed is CPU time of all threads from a raw frame of 640x480
to its mask, with every library held to one thread.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
import hashlib
import importlib.util
import json
import logging
import math
from pathlib import Path
import re
import time
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.backends.registry import load_model
from perception_nodes.cli import dataset as dataset_verb
from perception_nodes.cli.arguments import count, result_file, whole_number
from perception_nodes.cli.progress import progress
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.manifest import find_model, ModelEntry
from perception_nodes.core.protocols import SegmenterModel
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.datasets import DetectionDataset, LabelledImage, read_coco
from perception_nodes.evaluation.detection_scores import (
    all_counted,
    coco_scores,
    only_families,
)
from perception_nodes.evaluation.mask_datasets import read_masks, SegmentationDataset
from perception_nodes.evaluation.metrics import groups_of, scores_with_intervals
from perception_nodes.evaluation.results import percentiles, Value, write_results
from perception_nodes.evaluation.segmentation_scores import MaskTally, pixels_found, tally
from perception_nodes.sim.classes import CLASS_NAMES, SEGMENTED_NAMES
from perception_nodes.sim.dataset import DatasetPlan, VERSION
from perception_nodes.sim.families import FAMILIES, HELD_OUT_FAMILIES
from perception_nodes.sim.robot import mounts
from perception_nodes.sim.scene import ROUND_ROBOT

log = logging.getLogger(__name__)

GOALS = {'detection_AP50': 0.70, 'detection_AP': 0.42, 'segmentation_mIoU': 0.70,
         'segmenter_hz_1_thread': 10.0}
# what the JSON calls each split
_VARIANTS = {'test': '', 'val': 'validation_'}
_CLASSES = '|'.join({*CLASS_NAMES.values(), *SEGMENTED_NAMES.values()})
_BY_CLASS = re.compile(f'(detection_AP|detection_AP50|segmentation_IoU)_({_CLASSES})$')
_SPEED_FRAMES = 60
_WARM_UP = 3
_VGA = (640, 480)
_HEIGHT_M = 0.2  # how far above or below the robot's camera a view may be like its own

Mask = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument('--detector', default='sim_scene_detector', metavar='NAME',
                        help='detection model in the manifest (default: %(default)s)')
    parser.add_argument('--segmenter', default='sim_scene_segmenter', metavar='NAME',
                        help='segmentation model in the manifest (default: %(default)s)')
    parser.add_argument('--manifest', default='', metavar='FILE',
                        help='your own manifest.yaml, searched before the shipped one')
    parser.add_argument('--frames', type=count, default=600, metavar='N',
                        help='pictures of test scenes; half as many for validation '
                        '(default: %(default)s)')
    parser.add_argument('--seed', type=whole_number, default=2026, metavar='N',
                        help='another seed, other scenes; not one that was trained with '
                        '(default: %(default)s)')
    parser.add_argument('--processes', type=count, default=1, metavar='N',
                        help='how many draw at once (default: %(default)s)')
    parser.add_argument('--scenes', type=Path, default=Path('out/eval/scenes'), metavar='FOLDER',
                        help='where pictures are kept for the next time (default: %(default)s)')
    parser.add_argument('--out', type=result_file, default='out/eval/vision.json', metavar='FILE',
                        help='where the figures go (default: %(default)s)')


def run(arguments: Namespace) -> int:
    """Draw what is missing, evaluate, print a table, write the figures."""
    begun_s = time.monotonic()
    cv2.setNumThreads(1)
    models = _load(arguments)
    plan = DatasetPlan({'val': max(1, arguments.frames // 2), 'test': arguments.frames},
                       seed=arguments.seed)
    root = _draw(plan, arguments.scenes, arguments.processes)
    if root is None:
        return 0
    values: dict[str, Value] = {
        'detector': models.detector_entry.name, 'segmenter': models.segmenter_entry.name,
        'width': plan.width, 'height': plan.height, **_scenes(root)}
    for split, variant in _VARIANTS.items():
        scores = (_detection(models, root, split, plan.seed)
                  | _segmentation(models, root, split, plan.seed))
        values |= {f'{variant}{name}': value for name, value in scores.items()}
    values |= _speed(models.segmenter, root, plan.seed)
    write_results(arguments.out, values, seed=plan.seed, n=plan.frames['test'],
                  wall_s=time.monotonic() - begun_s)
    _print(values)
    log.info('wrote %s', arguments.out)
    return 0


@dataclass(frozen=True)
class _Models:
    """What is evaluated."""

    detector_entry: ModelEntry
    detector: ObjectDetector
    segmenter_entry: ModelEntry
    segmenter: SegmenterModel


def _load(arguments: Namespace) -> _Models:
    found = find_model(arguments.detector, 'detection', arguments.manifest)
    masks = find_model(arguments.segmenter, 'segmentation', arguments.manifest)
    # average precision wants every box, also those that nobody would act on
    params = DetectionParams(model=found.name, score_threshold=0.01)
    return _Models(found, ObjectDetector(load_model(found, 'cpu'), params),
                   masks, load_model(masks, 'cpu'))


def _draw(plan: DatasetPlan, folder: Path, processes: int) -> Path | None:
    """Return the folder of the plan's pictures, made where missing; None when interrupted."""
    key = json.dumps([VERSION, asdict(plan)], sort_keys=True).encode()
    root = folder / hashlib.sha256(key).hexdigest()[:12]
    parser = ArgumentParser()
    dataset_verb.add_arguments(parser)
    words = [str(root), '--train', '0', '--val', str(plan.frames['val']),
             '--test', str(plan.frames['test']), '--seed', str(plan.seed),
             '--processes', str(processes)]
    dataset_verb.run(parser.parse_args(words))
    return root if json.loads((root / 'dataset.json').read_text())['complete'] else None


def _scenes(root: Path) -> dict[str, Value]:
    """Return how many scenes there are of each split, and their seeds."""
    splits = json.loads((root / 'dataset.json').read_text())['splits']
    values: dict[str, Value] = {}
    for split, variant in _VARIANTS.items():
        first, last = splits[split]['seeds']
        values |= {f'{variant}images': splits[split]['frames'],
                   f'{variant}scenes': last - first + 1,
                   f'{variant}scene_seed_first': first, f'{variant}scene_seed_last': last}
    return values


def _detection(models: _Models, root: Path, split: str, seed: int) -> dict[str, float]:
    """Return the figures of the boxes."""
    data = read_coco(root / split).with_classes_of(models.detector_entry.class_names)
    found, times_ms = _boxes(models.detector, data)
    ignored = sum(int(image.labels.ignored.sum()) for image in data.images)
    values: dict[str, float] = {
        'boxes': sum(len(image.labels) for image in data.images) - ignored,
        'boxes_ignored': ignored}
    values |= _named('detection_{}', coco_scores(data.images, found, seed, data.class_names))
    values |= _named(
        'detection_{}_all_counted', coco_scores(all_counted(data.images), found, seed))
    if split == 'test':
        values |= _families(data.images, found, seed)
    return values | percentiles('detector_320x240_cpu_ms', times_ms)


def _boxes(
    detector: ObjectDetector, data: DetectionDataset
) -> tuple[list[Detections], list[float]]:
    found, times_ms = [], []
    with progress(len(data.images), 'image') as bar:
        for image in data.images:
            rgb = image.rgb()
            start_ns = time.process_time_ns()
            found += detector.detect([rgb])
            times_ms.append((time.process_time_ns() - start_ns) * 1e-6)
            bar.update()
    return found, times_ms


def _families(
    images: Sequence[LabelledImage], found: Sequence[Detections], seed: int
) -> dict[str, float]:
    """Return the scores of held-out families and, of the same classes, of those seen before."""
    class_ids = {FAMILIES[name].class_id for name in HELD_OUT_FAMILIES}
    families = {family.name for family in FAMILIES.values() if family.class_id in class_ids}
    sides = {'held_out_families': set(HELD_OUT_FAMILIES),
             'seen_families': families - set(HELD_OUT_FAMILIES)}
    values: dict[str, float] = {}
    for side, names in sides.items():
        scores = coco_scores(only_families(images, names, class_ids), found, seed)
        values |= _named(f'detection_{{}}_{side}', scores)
    return values


def _segmentation(models: _Models, root: Path, split: str, seed: int) -> dict[str, float]:
    """Return the figures of the masks."""
    names = models.segmenter_entry.class_names
    data = read_masks(root, split).with_classes_of(names)
    masks = _masks(models.segmenter, data)
    result = tally(
        (image.mask() for image in data.images), masks, data.class_names,
        groups_of([image.scene for image in data.images]))
    values = {name if name.startswith('boundary') else f'segmentation_{name}': value
              for name, value in result.scores(seed).items()}
    values |= _in_rooms(root / split, data, result, seed)
    if split == 'test' and 'object' in names.values():
        object_id = next(i for i, name in names.items() if name == 'object')
        values |= _pixels_by_family(root / split, data, masks, object_id, seed)
    return values


def _in_rooms(
    folder: Path, data: SegmentationDataset, result: MaskTally, seed: int
) -> dict[str, float]:
    """Return mIoU in rooms alone, and there from about the height of the robot's camera."""
    frames = {frame['file']: frame for frame in map(
        json.loads, (folder / 'frames.jsonl').read_text().splitlines())}
    heights_m = np.array([
        frames[image.path.name]['map_from_camera'][2][3] for image in data.images])
    is_room = np.array([frames[image.path.name]['world'] == 'room' for image in data.images])
    robot_m = mounts(ROUND_ROBOT, 0.0).base_from_camera[2, 3]
    values: dict[str, float] = {}
    for name, chosen in (('rooms', is_room), (
            'robot_height', is_room & (np.abs(heights_m - robot_m) < _HEIGHT_M))):
        if chosen.any():
            scores = result.of(chosen).scores(seed)
            values |= {f'segmentation_mIoU_{name}{end}': scores[f'mIoU{end}']
                       for end in ('', '_ci_low', '_ci_high')}
    return values


def _masks(model: SegmenterModel, data: SegmentationDataset) -> list[Mask]:
    masks = []
    with progress(len(data.images), 'image') as bar:
        for image in data.images:
            masks.append(model.predict([image.rgb()])[0].ids)
            bar.update()
    return masks


def _pixels_by_family(
    folder: Path, data: SegmentationDataset, masks: Sequence[Mask], object_id: int, seed: int
) -> dict[str, float]:
    """Return the share of the pixels of small objects that are found, by whether seen before."""
    content = json.loads((folder / 'instances.json').read_text())
    files = {image['id']: image['file_name'] for image in content['images']}
    numbers: dict[tuple[str, bool], list[int]] = {}
    for row in content['annotations']:
        if row['family'] in FAMILIES:
            key = files[row['image_id']], row['family'] in HELD_OUT_FAMILIES
            numbers.setdefault(key, []).append(row['instance_id'])
    counts = {side: np.array([
        pixels_found(mask, image.instances(), numbers.get((image.path.name, held_out), ()),
                     object_id) for image, mask in zip(data.images, masks, strict=True)])
              for held_out, side in ((True, 'held_out_families'), (False, 'seen_families'))}

    def score(weights: npt.NDArray[np.int64]) -> dict[str, float]:
        found = {side: weights @ pixels for side, pixels in counts.items()}
        return {f'segmentation_object_recall_{side}':
                float(right / total) if total else math.nan
                for side, (right, total) in found.items()}

    return scores_with_intervals(
        score, groups_of([image.scene for image in data.images]), seed)


def _speed(model: SegmenterModel, root: Path, seed: int) -> dict[str, float]:
    """Return how many frames of 640x480 become masks in a second, beside LR-ASPP's number."""
    images = read_masks(root, 'test').images[:_SPEED_FRAMES]
    frames = [np.asarray(cv2.resize(image.rgb(), _VGA), np.uint8) for image in images]
    values = _hz('segmenter', model.predict, frames, seed)
    if importlib.util.find_spec('torchvision') is None:
        log.info('torchvision is not installed: the speed of LR-ASPP stays empty')
        return values | {'lraspp_hz_1_thread': math.nan}
    from perception_nodes.backends.torchvision_segmentation import untrained_segmenter

    lraspp = find_model('lraspp_mobilenet_v3_large', 'segmentation').with_input_size(_VGA)
    return values | _hz('lraspp', untrained_segmenter(lraspp).predict, frames, seed)


def _hz(
    name: str, predict: Callable[[Sequence[npt.NDArray[np.uint8]]], Any],
    frames: Sequence[npt.NDArray[np.uint8]], seed: int,
) -> dict[str, float]:
    """Return the frames per second of CPU time, of which half of the frames take less."""
    for frame in frames[:_WARM_UP]:
        predict([frame])
    times_ms = []
    for frame in frames:
        start_ns = time.process_time_ns()
        predict([frame])
        times_ms.append((time.process_time_ns() - start_ns) * 1e-6)
    hz = scores_with_intervals(
        lambda weights: {f'{name}_hz_1_thread': 1e3 / float(np.median(
            np.repeat(times_ms, weights)))}, np.arange(len(times_ms)), seed)
    return hz | percentiles(f'{name}_640x480_cpu_ms', times_ms)


def _named(pattern: str, scores: Mapping[str, float]) -> dict[str, float]:
    """Return the scores by longer names that keep ``_ci_low`` and ``_ci_high`` last."""
    values = {}
    for name, value in scores.items():
        score, ci, end = name.partition('_ci_')
        values[pattern.format(score) + ci + end] = value
    return values


def _print(values: Mapping[str, Any]) -> None:
    """Print test beside validation: figures, then AP50 and IoU of each class."""
    known = [name for name in values
             if f'{name}_ci_low' in values and not name.startswith('validation_')]
    figures = [name for name in known if not _BY_CLASS.match(name)]
    classes = [name for name in known if _BY_CLASS.match(name) and '_AP_' not in name]
    width = max(map(len, known))
    for title, names in (('figures', figures), ('by class', classes)):
        print(f'{title:{width}}    test  (95 % interval)   validation')
        for name in names:
            if math.isnan(values[name]):
                print(f'{name:{width}}       –  none in these frames')
                continue
            low, high = values[f'{name}_ci_low'], values[f'{name}_ci_high']
            other = values.get(f'validation_{name}', math.nan)
            goal = ''
            if name in GOALS:
                met = 'met' if values[name] >= GOALS[name] else 'MISSED'
                goal = f'  at least {GOALS[name]:g}: {met}'
            beside = ' ' * 10 if math.isnan(other) else f'{other:10.3f}'
            print(f'{name:{width}} {values[name]:7.3f}  ({low:.3f} to {high:.3f}) {beside}{goal}')
