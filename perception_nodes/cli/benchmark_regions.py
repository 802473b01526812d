"""
Measure the steps from sliding windows to today's detectors on the same labelled photos.

Every way learns from one half of the photos, with the same pretrained trunk, and is scored on the
other half, both ways round; the shipped detector, which has learned from 118,000 photos, stands
beside them.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import logging
from pathlib import Path
import tempfile
import time

import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.cli.arguments import renamed_classes, result_file
from perception_nodes.cli.train_pictures import counted_from_zero
from perception_nodes.core.boxes import non_maximum_suppression
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.manifest import find_model
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.box_formats import read_boxes
from perception_nodes.evaluation.datasets import DetectionDataset, LabelledImage
from perception_nodes.evaluation.detection_task import DetectionTask as ShippedTask
from perception_nodes.evaluation.metrics import groups_of, match_detections, scores_with_intervals
from perception_nodes.evaluation.region_proposals import Boxes, grown_regions, sliding_windows
from perception_nodes.evaluation.results import write_results
from perception_nodes.training.detection import DetectionTask, MEAN, STD
from perception_nodes.training.loop import fit, LoopParams
from perception_nodes.training.pictures import BoxPictureParams
from perception_nodes.training.region_classifier import (
    BoxFeatures,
    labelled_boxes,
    RegionClassifier,
)
from perception_nodes.training.splits import folds
import torch
from tqdm import tqdm

log = logging.getLogger(__name__)

SHIPPED = 'coco_ssdlite_mobilenet_v2'
_LEAST_SCORE, _MAX_IOU, _MOST = 0.02, 0.3, 100
_ONE_STAGE = LoopParams(epochs=60, batch_size=4, average=0.98, validate_every=60)

Propose = Callable[[np.ndarray], Boxes]


@dataclass(frozen=True)
class Way:
    """Where to look, and whether features are computed once for the image or once per box."""

    name: str
    propose: Propose
    shared: bool


def _windows(rgb: np.ndarray) -> Boxes:
    return sliding_windows(rgb.shape[1], rgb.shape[0])


WAYS = (
    Way('windows', _windows, shared=False),
    Way('overfeat', _windows, shared=True),
    Way('rcnn', grown_regions, shared=False),
    Way('fast_rcnn', grown_regions, shared=True),
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument('dataset', type=Path, help='labelled photos, as for perception train')
    parser.add_argument(
        '--map', type=renamed_classes, default={}, metavar='THEIRS=OURS,...', dest='renamed',
        help='class names for which the shipped detector has others')
    parser.add_argument('--seed', type=int, default=0, help='of the halves (default %(default)s)')
    parser.add_argument('--out', type=result_file, default='out/bench/regions.json',
                        metavar='FILE.json', help='result file to write (default %(default)s)')


def run(arguments: Namespace) -> int:
    """Measure every way, write the result file and print the table."""
    start_s = time.monotonic()
    torch.set_num_threads(1)
    dataset = counted_from_zero(read_boxes(arguments.dataset, 'train'))
    halves = folds(dataset.images, 2, arguments.seed)
    values: dict[str, float] = {}
    for way in WAYS:
        boxes, scored = _by_regions(way, dataset, halves, arguments.seed)
        values |= {f'{way.name}_{name}': value for name, value in scored.items()}
        values[f'{way.name}_boxes'] = boxes
    values |= {f'one_stage_{name}': value for name, value in _by_training(
        dataset, halves, arguments.seed).items()}
    values |= {f'shipped_{name}': value for name, value in _shipped(
        arguments.dataset, arguments.renamed, arguments.seed).items()}
    write_results(arguments.out, values, seed=arguments.seed, n=len(dataset.images),
                  wall_s=time.monotonic() - start_s)
    for name, value in values.items():
        print(f'{name:40} {value:.4g}')
    log.info('wrote %s', arguments.out)
    return 0


def _by_regions(
    way: Way, dataset: DetectionDataset, halves: Sequence[tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> tuple[float, dict[str, float]]:
    """Return how many boxes are looked at in a photo, and the scores."""
    features = BoxFeatures(shared=way.shared)
    background = len(dataset.class_names)
    answers: dict[int, Detections] = {}
    looked_at, cpu_s = 0, 0.0
    for learned, asked in halves:
        rng = np.random.default_rng(seed)
        classifier = RegionClassifier(background)
        parts = [_examples(way, features, dataset.images[i], background, rng)
                 for i in tqdm(learned, f'{way.name}: learning', disable=None, leave=False)]
        x, y = (np.concatenate(part) for part in zip(*parts, strict=True))
        classifier.fit(x, y)
        for i in tqdm(asked, f'{way.name}: looking', disable=None, leave=False):
            rgb = dataset.images[i].rgb()
            begin_s = time.process_time()
            boxes = way.propose(rgb)
            answers[int(i)] = _kept(boxes, classifier.scores(features(rgb, boxes)))
            cpu_s += time.process_time() - begin_s
            looked_at += len(boxes)
    n = len(dataset.images)
    return looked_at / n, {
        **_scores(dataset.images, [answers[i] for i in range(n)], seed), 'cpu_ms': cpu_s / n * 1e3}


def _examples(
    way: Way, features: BoxFeatures, image: LabelledImage, background: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    rgb, labels = image.rgb(), image.labels[~image.labels.ignored]
    boxes, classes = labelled_boxes(
        way.propose(rgb), labels.boxes_xyxy, labels.class_ids.tolist(), background, rng)
    return features(rgb, boxes), classes


def _kept(boxes: Boxes, scores: np.ndarray) -> Detections:
    rows, class_ids = np.nonzero(scores >= _LEAST_SCORE)
    found = Detections(boxes[rows], scores[rows, class_ids], class_ids.astype(np.int64))
    return found[non_maximum_suppression(
        found.boxes_xyxy, found.scores, found.class_ids, _MAX_IOU, _MOST)]


def _scores(
    images: Sequence[LabelledImage], answers: Sequence[Detections], seed: int
) -> dict[str, float]:
    matches = match_detections([image.labels for image in images], answers)
    return scores_with_intervals(
        lambda weights: {'mAP50': matches.mean_average_precision(weights)},
        groups_of([image.scene for image in images]), seed)


def _by_training(
    dataset: DetectionDataset, halves: Sequence[tuple[np.ndarray, np.ndarray]], seed: int
) -> dict[str, float]:
    """Train the small single-shot detector on the same halves, without choosing an epoch."""
    pictures = BoxPictureParams(augment='strong', views=16, frozen_epochs=10)
    answers: dict[int, Detections] = {}
    cpu_s = 0.0
    for learned, asked in halves:
        train, val = (replace(dataset, images=[dataset.images[i] for i in rows])
                      for rows in (learned, asked))
        task = DetectionTask(
            train, val, pictures.model_input(MEAN, STD), pictures.strength, pictures.frozen_epochs,
            seed, views=pictures.views)
        with tempfile.TemporaryDirectory() as folder:
            fit(task, _ONE_STAGE, Path(folder), {})
        begin_s = time.process_time()
        for i in asked:
            answers[int(i)] = task.detect(dataset.images[i])
        cpu_s += time.process_time() - begin_s
    n = len(dataset.images)
    return {**_scores(dataset.images, [answers[i] for i in range(n)], seed),
            'cpu_ms': cpu_s / n * 1e3}


def _shipped(source: Path, renamed: dict[str, str], seed: int) -> dict[str, float]:
    """Score the detector that ships on all photos; none of them was learned from."""
    model = load_model(find_model(SHIPPED, 'detection'), 'cpu')
    dataset = read_boxes(source, 'train').with_classes_of(model.class_names, renamed)
    detector = ObjectDetector(
        model, DetectionParams(model=SHIPPED, score_threshold=_LEAST_SCORE, nms_iou=0.6))
    task = ShippedTask(detector, dataset, seed)
    begin_s = time.process_time()
    answers = [task.predict(image.rgb()) for image in dataset.images]
    cpu_ms = (time.process_time() - begin_s) / len(answers) * 1e3
    return {**_scores(dataset.images, answers, seed), 'cpu_ms': cpu_ms}
