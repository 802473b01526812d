"""Train a segmenter on pictures with masks, and export it as a model that nodes load by name."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
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
from perception_nodes.core.manifest import find_model
from perception_nodes.evaluation.mask_datasets import read_masks, SegmentationDataset
from perception_nodes.evaluation.segmentation_metrics import confusion_matrix, mean_iou
from perception_nodes.training.export import (
    check_name,
    check_scores,
    domain_of,
    export_onnx,
    export_safetensors,
    onnx_difference,
    publish,
    Trained,
)
from perception_nodes.training.loop import fit, LoopParams
from perception_nodes.training.pictures import PictureParams
from perception_nodes.training.segmentation import (
    ARCHITECTURES,
    new_segmenter,
    SCENE,
    SegmentationTask,
    Segmenter,
)

_COMPARED = 4  # pictures whose raw outputs are compared


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the training takes."""
    parser.add_argument(
        'dataset', type=Path, help='folder with images/ and masks/, or such folders by split, or '
        "CamVid's train/, trainannot/, val/, valannot/")
    parser.add_argument(
        '--network', choices=ARCHITECTURES, default=SCENE, help='which network (default: scene, '
        'small and fast)')
    parser.add_argument(
        '--start-from', default='', metavar='MODEL',
        help='a classifier of the manifest whose weights the trunk of an FCN begins with')
    parser.add_argument(
        '--train-split', default='train', metavar='SPLIT',
        help='which part of a data set that has several to learn from (default: %(default)s)')
    # the average of the weights must not outlast a training on few pictures
    add_training_flags(
        parser, {'epochs': 60, 'batch_size': 4, 'average': 0.98}, PictureParams,
        {'resize': 'stretch'})


def run(arguments: Namespace) -> int:
    """Check, train, export, check again."""
    loop = from_flags(LoopParams, arguments)
    pictures = from_flags(PictureParams, arguments)
    source, out = arguments.dataset, arguments.out

    def fitted(
        train: SegmentationDataset, val: SegmentationDataset, folder: Path
    ) -> tuple[Segmenter, dict[str, float]]:
        check_pictures([image.rgb_and_mask for image in (*train.images, *val.images)])
        segmenter = new_segmenter(
            arguments.network, len(train.class_names), loop.seed,
            from_scratch=pictures.from_scratch, start_from=arguments.start_from)
        task = SegmentationTask(
            segmenter, train, val, pictures.model_input(segmenter.mean, segmenter.std),
            pictures.strength, pictures.frozen_epochs)
        said = {**asdict(pictures), 'network': arguments.network,
                'start_from': arguments.start_from, 'classes': list(train.class_names.values()),
                'pictures': [len(train.images), len(val.images)]}
        return segmenter, fit(task, loop, folder, said)

    def read(split: str) -> SegmentationDataset:
        return read_masks(source, arguments.train_split if split == 'train' else split)

    if arguments.folds:
        cross_validate(
            counted_from_zero(read('train')), arguments.folds, loop.seed,
            lambda *parts: fitted(*parts)[1], ('mIoU', 'pixel_accuracy'), out)
        return 0
    has_val = any((source / name).is_dir() for name in ('val', 'valannot'))
    train, val = divided(
        ('val',) if has_val else (), read, arguments.val_share, loop.seed)
    name = arguments.name or f'{source.resolve().name}_{arguments.network}'
    check_name(out, name, train.class_names)
    segmenter, best = fitted(train, val, out)
    _export(name, arguments, segmenter, best, train, val, loop, pictures)
    return 0


def _export(
    name: str, arguments: Namespace, segmenter: Segmenter, best: Mapping[str, float],
    train: SegmentationDataset, val: SegmentationDataset, loop: LoopParams,
    pictures: PictureParams,
) -> None:
    """Write the network and its manifest entry, and check both against what was trained."""
    out = arguments.out
    spec = pictures.model_input(segmenter.mean, segmenter.std)
    network = segmenter.network.cpu()
    source = f'{len(train.images)} pictures of {arguments.dataset.resolve().name}'
    notes = [f'Best epoch of {loop.epochs}: {best["epoch"]:g}. The validation pictures chose it, '
             'so other pictures may score lower.']
    if arguments.network == SCENE:
        file = out / f'{name}.onnx'
        export_onnx(network, (spec.width, spec.height), 'logits', file)
        example = np.stack(
            [network_input(image.rgb(), spec)[0] for image in val.images[:_COMPARED]])
        notes.append(
            f'The file differs from the network by at most '
            f'{onnx_difference(network, file, example):.2g} in `logits` on {len(example)} '
            'validation pictures (weights in 16 bits).')
        if not pictures.from_scratch:
            source += '; trunk of coco_ssdlite_mobilenet_v2'
    else:
        file = out / f'{name}.safetensors'
        export_safetensors(network, file)
        if arguments.start_from:
            source += f'; trunk of {arguments.start_from}'
    is_scene = arguments.network == SCENE
    publish(Trained(
        name=name, task='segmentation', backend='onnxruntime' if is_scene else 'own',
        architecture=type(network).__name__ if is_scene else arguments.network, head=None,
        domain=domain_of(arguments.dataset), licence='Apache-2.0', source=source,
        class_names=train.class_names, input=spec, seed=loop.seed,
        quality=[{'dataset': f'validation, {len(val.images)} pictures', 'metric': metric,
                  'value': round(best[metric], 3), 'command': 'perception train segmentation'}
                 for metric in ('mIoU', 'pixel_accuracy')],
        hours_cpu=best['cpu_s'] / 3600.0, notes=notes), file)
    model = load_model(find_model(name, 'segmentation', str(out / 'manifest.yaml')), 'cpu')
    ids = list(val.class_names)
    counts = np.sum([confusion_matrix(mask, model.predict([rgb])[0].ids, ids) for rgb, mask in (
        image.rgb_and_mask() for image in val.images)], axis=0)
    check_scores(best, {'mIoU': mean_iou(counts)}, ('mIoU',))
