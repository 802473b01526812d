"""Train a YOLO with ultralytics' own trainer, and name it in a manifest."""

from argparse import ArgumentParser, Namespace
import logging
from pathlib import Path
import time

from perception_nodes.backends.registry import load_model
from perception_nodes.cli.arguments import count, result_folder
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.manifest import find_model, ModelInput
from perception_nodes.evaluation.box_formats import read_yolo
from perception_nodes.evaluation.metrics import coco_average_precision
from perception_nodes.training.export import check_name, publish, Trained
from perception_nodes.training.yolo import train_yolo

log = logging.getLogger(__name__)

_LEAST_SCORE = 0.01  # of what counts for average precision
_STRIDE = 32  # pixels


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the training takes."""
    parser.add_argument('dataset', type=Path, metavar='DATA.yaml',
                        help="YOLO's description of a data set, with train and val")
    parser.add_argument('--out', type=result_folder, required=True, metavar='FOLDER',
                        help='where the checkpoint and manifest.yaml go')
    parser.add_argument('--model', default='yolo11n.yaml', metavar='NAME.yaml',
                        help="ultralytics' description of a network (default: %(default)s)")
    parser.add_argument('--name', help="the model's name in the manifest (default: made from the "
                        "data set's)")
    parser.add_argument('--epochs', type=count, default=100, help='default: %(default)s')
    parser.add_argument('--batch-size', type=count, default=16, help='default: %(default)s')
    parser.add_argument('--size', type=count, default=640, metavar='PIXELS',
                        help='width and height of the input (default: %(default)s)')
    parser.add_argument('--patience', type=count, default=100,
                        help='epochs without a better validation after which it stops')
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument('--device', default='cpu', help="'cpu' or number of a GPU")


def run(arguments: Namespace) -> int:
    """Check, train, name."""
    out, size = arguments.out.resolve(), arguments.size
    if size % _STRIDE:
        raise ValueError(f'--size is {size}; it must be a multiple of {_STRIDE}')
    train, val = (read_yolo(arguments.dataset, split) for split in ('train', 'val'))
    name = arguments.name or f'{arguments.dataset.resolve().parent.name}_yolo'
    check_name(out, name, train.class_names)
    log.info('ultralytics, its networks and what they learn are AGPL-3.0: whoever passes them on, '
             'or a program with them, has to do so under that licence')
    file = out / f'{name}.pt'
    start_s = time.process_time()
    train_yolo(train, val, arguments.model, out, file, {
        'epochs': arguments.epochs, 'batch': arguments.batch_size, 'imgsz': size,
        'patience': arguments.patience, 'seed': arguments.seed, 'device': arguments.device})
    hours_cpu = (time.process_time() - start_s) / 3600.0
    said = Trained(
        name=name, task='detection', backend='ultralytics',
        architecture=Path(arguments.model).stem, head=None, domain='real',
        licence='AGPL-3.0-only', source=f'{len(train.images)} pictures of {arguments.dataset}',
        class_names=train.class_names,
        input=ModelInput(size, size, resize='letterbox', std=(255.0, 255.0, 255.0)),
        seed=arguments.seed, quality=[], hours_cpu=hours_cpu)
    publish(said, file)
    entry = find_model(name, 'detection', str(out / 'manifest.yaml'))
    detector = ObjectDetector(
        load_model(entry, 'cpu'), DetectionParams(model=name, score_threshold=_LEAST_SCORE))
    found = [detector.detect([image.rgb()])[0] for image in val.images]
    scores = coco_average_precision([image.labels for image in val.images], found)
    log.info('through the backend of the nodes: AP50 %.3f, AP %.3f', scores['AP50'], scores['AP'])
    return 0
