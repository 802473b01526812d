"""Train a classifier on digits or on folders of pictures, and export it for the node."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
import logging
from pathlib import Path

import numpy as np
from perception_nodes.backends.networks import NETWORKS
from perception_nodes.backends.registry import load_model
from perception_nodes.backends.torch_runtime import load_state_dict
from perception_nodes.backends.torchvision_classification import architectures
from perception_nodes.cli.arguments import result_folder
from perception_nodes.cli.parameters import add_flags, from_flags
from perception_nodes.cli.train_pictures import check_pictures
from perception_nodes.core.manifest import find_model, ModelInput
from perception_nodes.evaluation.datasets import read_image_folder, split_folder
from perception_nodes.training.augmentation import STRENGTHS
from perception_nodes.training.classification import (
    ClassificationTask,
    digits,
    DIGITS_INPUT,
    Example,
    held_out,
    start_from,
)
from perception_nodes.training.export import (
    check_name,
    check_scores,
    export_safetensors,
    publish,
    Trained,
)
from perception_nodes.training.loop import fit, LoopParams
import torch
from torch import nn
from torchvision.models import get_model

log = logging.getLogger(__name__)

_DIGITS = 'digits'
_PHOTO_INPUT = ModelInput(
    224, 224, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))

Examples = Sequence[Example]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the training takes."""
    parser.add_argument(
        'dataset', help=f"'{_DIGITS}' (1797 handwritten digits that come with scikit-learn), or a "
        'folder with a folder of pictures per class, or such folders below train/ and val/')
    parser.add_argument(
        '--out', type=result_folder, required=True, metavar='FOLDER',
        help='where checkpoints, curves, weights and manifest.yaml go; an interrupted training '
        'there goes on')
    parser.add_argument(
        '--architecture', default='lenet5', metavar='NAME',
        help=f'{", ".join(NETWORKS["classification"])}, or a classifier of torchvision '
        '(default %(default)s)')
    parser.add_argument(
        '--start-from', default='', metavar='MODEL',
        help='a classifier of the manifest whose weights to begin with, for transfer learning; '
        'it sets the architecture')
    parser.add_argument(
        '--frozen-epochs', type=int, default=3, metavar='N',
        help='with --start-from: epochs in which only the last layer learns (default %(default)s)')
    parser.add_argument(
        '--augment', choices=STRENGTHS, default='none',
        help='how much pictures are changed; all but none mirror them, which digits and letters '
        'do not stand (default %(default)s)')
    parser.add_argument(
        '--val-share', type=float, default=0.2, metavar='SHARE',
        help='of each class, to validate on where there is no val/ (default %(default)s)')
    parser.add_argument(
        '--name', default='', help="the model's name in the manifest (default: of data set and "
        'architecture)')
    # small sets have few steps per epoch: a long average would lag behind
    add_flags(parser, LoopParams, {'epochs': 20, 'average': 0.98})


def run(arguments: Namespace) -> int:
    """Check, train, export, check again."""
    params = from_flags(LoopParams, arguments)
    train, val, class_names = _examples(arguments.dataset, arguments.val_share, params.seed)
    torch.manual_seed(params.seed)
    network, architecture = _network(
        arguments.architecture, arguments.start_from, len(class_names))
    name = arguments.name or f'{Path(arguments.dataset).resolve().name}_{architecture}'
    check_name(arguments.out, name, class_names)
    check_pictures([example.rgb for example in (*train, *val)])
    spec = DIGITS_INPUT if architecture == 'lenet5' else _PHOTO_INPUT
    task = ClassificationTask(
        network, train, val, len(class_names), spec, STRENGTHS[arguments.augment],
        arguments.frozen_epochs if arguments.start_from else None)
    said = {flag: str(getattr(arguments, flag)) for flag in (
        'dataset', 'architecture', 'start_from', 'frozen_epochs', 'augment', 'val_share')}
    best = fit(task, params, arguments.out, said)
    file = arguments.out / f'{name}.safetensors'
    export_safetensors(network, file)
    is_own = architecture in NETWORKS['classification']
    begun = f', weights of {arguments.start_from}' if arguments.start_from else ''
    publish(Trained(
        name=name, task='classification', backend='own' if is_own else 'torchvision',
        architecture=architecture, head=None, domain='real', licence='Apache-2.0',
        source=_source(arguments.dataset) + begun, class_names=class_names, input=spec,
        seed=params.seed, quality=[
            {'dataset': f'validation, {len(val)} pictures', 'metric': 'accuracy',
             'value': round(best['accuracy'], 4), 'command': 'perception train classification'}],
        hours_cpu=best['cpu_s'] / 3600.0,
        notes=[f'Trained on {len(train)} pictures; best of {params.epochs} epochs: '
               f'epoch {best["epoch"]:g}.']), file)
    check_scores(best, _scores(name, arguments.out / 'manifest.yaml', val), ('accuracy',))
    return 0


def _source(dataset: str) -> str:
    if dataset == _DIGITS:
        return 'UCI optical recognition of handwritten digits (CC BY 4.0)'
    return f'pictures of {Path(dataset).resolve().name}'


def _examples(
    dataset: str, share: float, seed: int
) -> tuple[Examples, Examples, Mapping[int, str]]:
    """Return pictures to learn from, pictures to validate on, and the names of the classes."""
    if dataset == _DIGITS:
        found: Examples = digits()
        class_names: Mapping[int, str] = {i: str(i) for i in range(10)}
    else:
        root = Path(dataset)
        whole = read_image_folder(split_folder(root, 'train'))
        found, class_names = whole.images, whole.class_names
        if (root / 'val').is_dir():
            val = read_image_folder(root / 'val').with_classes_of(class_names)
            return found, val.images, class_names
    train_rows, val_rows = held_out([example.class_id for example in found], share, seed)
    return [found[i] for i in train_rows], [found[i] for i in val_rows], class_names


def _network(architecture: str, model: str, class_count: int) -> tuple[nn.Module, str]:
    """Build a network with random weights, or with those of a model but for the last layer."""
    state = None
    if model:
        entry = find_model(model, 'classification')
        architecture, state = entry.architecture, load_state_dict(entry.verified_path())
    own = NETWORKS['classification']
    if architecture in own:
        network = own[architecture](class_count)
    elif architecture in architectures():
        network = get_model(architecture, weights=None, num_classes=class_count)
    else:
        raise ValueError(
            f"there is no architecture '{architecture}'; choose one of {', '.join(own)}, or of "
            f'torchvision: {", ".join(architectures())}')
    if state is not None:
        start_from(network, state, architecture)
    return network, architecture


def _scores(name: str, manifest: Path, val: Examples) -> dict[str, float]:
    """Score the written file the way the node uses it."""
    model = load_model(find_model(name, 'classification', str(manifest)), 'cpu')
    right = [model.predict([e.rgb()])[0].class_ids[0] == e.class_id for e in val]
    return {'accuracy': float(np.mean(right))}
