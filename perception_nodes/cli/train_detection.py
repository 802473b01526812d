"""Train a detector on labelled pictures, and export it as a model that nodes load by name."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
import logging
from pathlib import Path

import numpy as np
from perception_nodes.backends.preprocess import network_input
from perception_nodes.backends.registry import load_model
from perception_nodes.cli.parameters import from_flags
from perception_nodes.cli.train_pictures import (
    add_training_flags,
    check_pictures,
    counted_from_zero,
    cross_validate,
    divided,
)
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.manifest import find_model
from perception_nodes.evaluation.box_formats import read_boxes, splits_of
from perception_nodes.evaluation.datasets import DetectionDataset
from perception_nodes.evaluation.metrics import coco_average_precision
from perception_nodes.training.detection import DetectionTask, LEAST_SCORE, MEAN, STD
from perception_nodes.training.export import (
    check_name,
    check_scores,
    domain_of,
    export_onnx,
    onnx_difference,
    publish,
    Trained,
)
from perception_nodes.training.loop import fit, is_begun, LoopParams, scores_now
from perception_nodes.training.pictures import BoxPictureParams, PictureParams
from tqdm import tqdm

log = logging.getLogger(__name__)

_METRICS = ('AP50', 'AP')
_COMPARED = 8  # pictures whose raw outputs are compared


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the training takes."""
    parser.add_argument(
        'dataset', type=Path, help='folder with instances.json and images/ (COCO), or with '
        'Annotations/ and JPEGImages/ (PASCAL VOC), or a data.yaml (YOLO)')
    # the average of the weights must not outlast a training on few pictures
    add_training_flags(
        parser, {'epochs': 60, 'batch_size': 8, 'average': 0.98}, BoxPictureParams, {})


def run(arguments: Namespace) -> int:
    """Check, train, export, check again."""
    loop = from_flags(LoopParams, arguments)
    pictures = from_flags(BoxPictureParams, arguments)
    source, out = arguments.dataset, arguments.out
    if not source.exists():
        raise FileNotFoundError(f'there is no data set {source}')

    def fitted(
        train: DetectionDataset, val: DetectionDataset, folder: Path
    ) -> tuple[DetectionTask, dict[str, float]]:
        _check_boxes(train, val)
        task = DetectionTask(
            train, val, pictures.model_input(MEAN, STD), pictures.strength,
            pictures.frozen_epochs, loop.seed, views=pictures.views,
            from_scratch=pictures.from_scratch)
        if not is_begun(folder):
            log.info('before training: %s', scores_now(task))
        said = {**asdict(pictures), 'classes': list(train.class_names.values()),
                'pictures': [len(train.images), len(val.images)]}
        return task, fit(task, loop, folder, said)

    def read(split: str) -> DetectionDataset:
        return read_boxes(source, split)

    if arguments.folds:
        cross_validate(
            counted_from_zero(read('train')), arguments.folds, loop.seed,
            lambda *parts: fitted(*parts)[1], _METRICS, out)
        return 0
    train, val = divided(splits_of(source), read, arguments.val_share, loop.seed)
    name = arguments.name or f'{source.resolve().stem}_detector'
    check_name(out, name, train.class_names)
    task, best = fitted(train, val, out)
    _export(name, arguments, task, best, train, val, loop, pictures)
    return 0


def _check_boxes(train: DetectionDataset, val: DetectionDataset) -> None:
    """
    Refuse pictures that cannot be read and splits that teach or tell nothing.

    :raises ValueError: Naming the file.
    """
    for dataset, purpose in ((train, 'learn from'), (val, 'validate on')):
        if all(image.labels.ignored.all() for image in dataset.images):
            raise ValueError(f'{dataset.file} has no boxes to {purpose}')
        check_pictures([image.rgb for image in dataset.images])


def _export(
    name: str, arguments: Namespace, task: DetectionTask, best: dict[str, float],
    train: DetectionDataset, val: DetectionDataset, loop: LoopParams, pictures: PictureParams,
) -> None:
    """Write the network and its manifest entry, and check both against what was trained."""
    out = arguments.out
    spec = pictures.model_input(MEAN, STD)
    file = out / f'{name}.onnx'
    network = task.network.cpu()
    export_onnx(network, (spec.width, spec.height), 'boxes', file)
    example = np.stack([network_input(image.rgb(), spec)[0] for image in val.images[:_COMPARED]])
    difference = onnx_difference(network, file, example)
    publish(Trained(
        name=name, task='detection', backend='onnxruntime', architecture=type(network).__name__,
        head='dense', domain=domain_of(arguments.dataset), licence='Apache-2.0',
        source=f'{len(train.images)} pictures of {arguments.dataset.resolve().name}' + (
            '' if pictures.from_scratch else '; trunk of coco_ssdlite_mobilenet_v2'),
        class_names=train.class_names, input=spec, seed=loop.seed,
        quality=[{'dataset': f'validation, {len(val.images)} pictures', 'metric': metric,
                  'value': round(best[metric], 3), 'command': 'perception train detection'}
                 for metric in _METRICS],
        hours_cpu=best['cpu_s'] / 3600.0,
        notes=[f'The file differs from the network by at most {difference:.2g} in `boxes` '
               f'(pixels; scores count as 0 to 1) on {len(example)} validation pictures: its '
               'weights have 16 bits.',
               f'Best epoch of {loop.epochs}: {best["epoch"]:g}. The validation pictures chose '
               'it, so other pictures may score lower.']), file)
    entry = find_model(name, 'detection', str(out / 'manifest.yaml'))
    detector = ObjectDetector(
        load_model(entry, 'cpu'), DetectionParams(model=name, score_threshold=LEAST_SCORE))
    found = [detector.detect([image.rgb()])[0] for image in tqdm(
        val.images, 'exported', unit='picture', disable=None, leave=False)]
    check_scores(best, coco_average_precision([image.labels for image in val.images], found),
                 _METRICS)
