"""Train a network that judges or finds grasps, on views in which physics tried some."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.grasp_planner import make_planner
from perception_nodes.backends.registry import load_model
from perception_nodes.cli.arguments import result_folder, whole_number
from perception_nodes.cli.parameters import add_flags, from_flags
from perception_nodes.core.grasping import GraspParams
from perception_nodes.core.manifest import find_model
from perception_nodes.training.export import publish, Trained
from perception_nodes.training.grasp import GraspScorerTask, scorer_examples
from perception_nodes.training.grasp_export import export_batched
from perception_nodes.training.grasp_labels import LabelledView, read_views, write_scenes
from perception_nodes.training.grasp_search import (
    AutoEncoderTask,
    CascadeTask,
    map_examples,
    MapTask,
    rectangle_examples,
)
from perception_nodes.training.loop import fit, LoopParams, Task

NETWORKS = ('scorer', 'cascade', 'generative')
_COMPARED = 16  # examples whose raw outputs are compared


@dataclass(frozen=True, eq=False)
class _Result:
    """A network that was trained, and what its file needs."""

    task: Task
    best: Mapping[str, float]
    shown: Mapping[str, npt.NDArray[np.float32]]  # examples of its inputs
    outputs: Sequence[str]
    free: Sequence[int]  # axes of the inputs, beside the first, of any size
    metrics: Sequence[str]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the training takes."""
    parser.add_argument(
        'dataset', type=Path, help='folder with train/grasps/ and val/grasps/: depth images, and '
        'what came of grasps that were tried in what they show')
    for split, flag in (('train', '--scenes'), ('val', '--val-scenes')):
        parser.add_argument(
            flag, type=whole_number, default=0, metavar='N',
            help=f'let the simulator try grasps in N scenes for {split} first; those that the '
            'folder has are kept (default: take what is there)')
    parser.add_argument(
        '--judged-by', default='', metavar='MANIFEST.yaml',
        help='of a scorer trained before, whose favourites are tried in new scenes, too: where '
        'it is wrong there is most to learn')
    parser.add_argument(
        '--network', choices=NETWORKS, default=NETWORKS[0],
        help='scorer judges candidates of the geometry; cascade and generative find grasps '
        'without it (default: %(default)s)')
    parser.add_argument(
        '--pretrain-epochs', type=whole_number, default=0, metavar='N',
        help='epochs in which the cascade learns as an auto-encoder first (default: %(default)s)')
    parser.add_argument(
        '--out', type=result_folder, required=True, metavar='FOLDER',
        help='where checkpoints, curves, the network and manifest.yaml go; an interrupted '
        'training there goes on')
    add_flags(parser, LoopParams, {
        'epochs': 12, 'batch_size': 64, 'learning_rate': 3e-3, 'weight_decay': 0.02,
        'average': 0.99})


def run(arguments: Namespace) -> int:
    """Let physics try what is missing, train, export and check."""
    loop = from_flags(LoopParams, arguments)
    if arguments.pretrain_epochs and arguments.network != 'cascade':
        raise ValueError(
            f'--pretrain-epochs is {arguments.pretrain_epochs}, but only the cascade begins as an '
            'auto-encoder; leave it out')
    judge = make_planner(
        GraspParams(), 'grasp_scorer' if arguments.judged_by else '', arguments.judged_by).scorer
    write_scenes(arguments.dataset, 'train', arguments.scenes, judge)
    write_scenes(arguments.dataset, 'val', arguments.val_scenes, judge)
    train, val = (read_views(arguments.dataset / split / 'grasps') for split in ('train', 'val'))
    trainings = {'scorer': _scorer, 'cascade': _cascade, 'generative': _generative}
    result = trainings[arguments.network](train, val, loop, arguments)
    file = arguments.out / f'grasp_{arguments.network}.onnx'
    difference = export_batched(
        result.task.network, result.shown, result.outputs, file, result.free)
    grasps, scenes = (sum(len(view.success) for view in train), {view.scene for view in train})
    publish(Trained(
        name=file.stem, task='grasping', backend='onnxruntime',
        architecture=type(result.task.network).__name__, head=None, domain='simulation',
        licence='Apache-2.0', class_names={}, input=None,
        source=f'{grasps} grasps that physics tried in {len(scenes)} simulated scenes',
        seed=loop.seed, hours_cpu=result.best['cpu_s'] / 3600.0,
        quality=[{'dataset': f'validation, {len(val)} views', 'metric': metric,
                  'value': round(result.best[metric], 3), 'command': 'perception train grasp'}
                 for metric in result.metrics],
        notes=[f'The file differs from the network by at most {difference:.2g}.',
               f'Best of {loop.epochs} epochs: epoch {result.best["epoch"]:g}.']), file)
    load_model(find_model(file.stem, 'grasping', str(arguments.out / 'manifest.yaml')), 'cpu')
    return 0


def _scorer(train: Sequence[LabelledView], val: Sequence[LabelledView], loop: LoopParams,
            arguments: Namespace) -> _Result:
    learned, held_out = scorer_examples(train, 'train'), scorer_examples(val, 'val')
    task = GraspScorerTask(learned, held_out, loop.seed)
    best = fit(task, loop, arguments.out, {
        'network': 'scorer', 'examples': [len(learned), len(held_out)]})
    return _Result(
        task, best, {'patches': held_out.patches[:_COMPARED].astype(np.float32),
                     'features': held_out.features[:_COMPARED]},
        ('logits',), (),
        ('choice', 'choice_geometry', 'top1', 'top1_geometry', 'AUC', 'AUC_geometry'))


def _cascade(train: Sequence[LabelledView], val: Sequence[LabelledView], loop: LoopParams,
             arguments: Namespace) -> _Result:
    learned, held_out = (rectangle_examples(views, what, loop.seed)
                         for views, what in ((train, 'train'), (val, 'val')))
    task = CascadeTask(learned, held_out, loop.seed)
    said = {'network': 'cascade', 'pretrain_epochs': arguments.pretrain_epochs,
            'examples': [len(learned), len(held_out)]}
    cpu_s = 0.0
    if arguments.pretrain_epochs:
        first = fit(AutoEncoderTask(task), replace(loop, epochs=arguments.pretrain_epochs),
                    arguments.out / 'auto_encoder', said)
        cpu_s = first['cpu_s']
    best = fit(task, loop, arguments.out, said)
    return _Result(
        task, {**best, 'cpu_s': best['cpu_s'] + cpu_s},
        {'coarse': held_out.coarse[:_COMPARED].astype(np.float32),
         'fine': held_out.fine[:_COMPARED].astype(np.float32)},
        ('small', 'large'), (), ('AUC', 'AUC_small', 'AUC_tried'))


def _generative(train: Sequence[LabelledView], val: Sequence[LabelledView], loop: LoopParams,
                arguments: Namespace) -> _Result:
    learned, held_out = map_examples(train, 'train'), map_examples(val, 'val')
    task = MapTask(learned, held_out, loop.seed)
    best = fit(task, loop, arguments.out, {
        'network': 'generative', 'maps': [len(learned), len(held_out)]})
    return _Result(
        task, best, {'maps': task.shown(_COMPARED)}, ('grasps',), (2, 3),
        ('best_lifts', 'AUC'))
