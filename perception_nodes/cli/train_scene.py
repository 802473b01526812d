"""Train the simulator's detector and segmenter on a rendered data set, and export both."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import numpy as np
from perception_nodes.backends.preprocess import network_input
from perception_nodes.backends.registry import load_model
from perception_nodes.cli.arguments import result_folder
from perception_nodes.cli.parameters import add_flags, from_flags
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.manifest import find_model, ModelInput
from perception_nodes.evaluation.datasets import read_rgb
from perception_nodes.evaluation.metrics import coco_average_precision
from perception_nodes.evaluation.segmentation_metrics import confusion_matrix, mean_iou
from perception_nodes.training.export import (
    check_scores,
    export_onnx,
    onnx_difference,
    publish,
    Trained,
)
from perception_nodes.training.loop import BEST, fit, LoopParams
from perception_nodes.training.scene import (
    BOX_CLASSES,
    MASK_CLASSES,
    MASK_STRIDE,
    prepare,
    SceneFrames,
    SceneTask,
    separated,
)
from tqdm import tqdm

DETECTOR, SEGMENTER = 'sim_scene_detector', 'sim_scene_segmenter'
_COMPARED = 8  # pictures whose raw outputs are compared


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the training takes."""
    parser.add_argument('dataset', type=Path, help='folder that `perception dataset` has written')
    parser.add_argument(
        '--out', type=result_folder, required=True, metavar='FOLDER',
        help='where checkpoints, curves, networks and manifest.yaml go; an interrupted training '
        'there goes on')
    parser.add_argument(
        '--start-from', type=Path, metavar='FOLDER',
        help='an earlier `perception train scene` whose best weights to begin with, to go on with '
        'other frames')
    add_flags(parser, LoopParams, {
        'epochs': 7, 'batch_size': 16, 'learning_rate': 1.5e-3, 'backbone_rate': 0.4,
        'warm_up_epochs': 0.3})


def run(arguments: Namespace) -> int:
    """Prepare, train, export and check."""
    params = from_flags(LoopParams, arguments)
    out: Path = arguments.out
    val = prepare(arguments.dataset, 'val', out / 'features')
    train = prepare(arguments.dataset, 'train', out / 'features')
    earlier: Path | None = arguments.start_from
    task = SceneTask(train, val, params.seed, earlier and earlier / BEST)
    best = fit(task, params, out, {'start_from': str(earlier)} if earlier else None)
    spec = _input(val)
    example = np.stack([network_input(read_rgb(file), spec)[0] for file in val.files[:_COMPARED]])
    detector, segmenter = separated(task.network.cpu())
    begun = f'weights of {earlier}' if earlier else 'trunk of coco_ssdlite_mobilenet_v2'
    parts = (
        (DETECTOR, 'detection', 'dense', BOX_CLASSES, detector, 'boxes', ('AP50', 'AP')),
        (SEGMENTER, 'segmentation', None, MASK_CLASSES, segmenter, 'logits', ('mIoU',)))
    for name, kind, head, classes, network, output, metrics in parts:
        file = out / f'{name}.onnx'
        export_onnx(network, (spec.width, spec.height), output, file)
        difference = onnx_difference(network, file, example)
        quality = [{'dataset': f'validation, {len(val)} frames', 'metric': metric,
                    'value': round(best[metric], 3), 'command': 'perception train scene'}
                   for metric in metrics]
        publish(Trained(
            name=name, task=kind, backend='onnxruntime', architecture=type(network).__name__,
            head=head, domain='simulation', licence='Apache-2.0',
            source=f'{len(train)} rendered frames; {begun}',
            class_names=classes, input=spec, seed=params.seed, quality=quality,
            hours_cpu=best['cpu_s'] / 3600.0,
            notes=[f'The file differs from the network by at most {difference:.2g} in '
                   f'`{output}` on {_COMPARED} validation frames (weights in 16 bits).',
                   f'Best of {params.epochs} epochs: epoch {best["epoch"]:g}.']), file)
    _check_files(out, val, best)
    return 0


def _input(frames: SceneFrames) -> ModelInput:
    height, width = (n * MASK_STRIDE for n in frames.masks.shape[1:])
    return ModelInput(width, height, mean=(127.5,) * 3, std=(127.5,) * 3)


def _check_files(out: Path, val: SceneFrames, best: dict[str, float]) -> None:
    """
    Score the written files the way nodes use them.

    :raises ValueError: If they are worse than what was trained.
    """
    manifest = str(out / 'manifest.yaml')
    detector = ObjectDetector(
        load_model(find_model(DETECTOR, 'detection', manifest), 'cpu'),
        DetectionParams(model=DETECTOR, score_threshold=0.02))
    segmenter = load_model(find_model(SEGMENTER, 'segmentation', manifest), 'cpu')
    found, masks = [], []
    for file in tqdm(val.files, 'exported', unit='frame', disable=None, leave=False):
        rgb = read_rgb(file)
        found += detector.detect([rgb])
        masks.append(segmenter.predict([rgb])[0].ids[::MASK_STRIDE, ::MASK_STRIDE])
    exported = {
        **coco_average_precision(val.labels, found),
        'mIoU': mean_iou(confusion_matrix(val.masks, np.stack(masks), list(MASK_CLASSES)))}
    check_scores(best, exported, ('AP50', 'AP', 'mIoU'))
