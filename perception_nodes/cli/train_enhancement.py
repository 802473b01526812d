"""Train the auto-encoder that takes blur and noise out of pictures, to be measured."""

from argparse import ArgumentParser, Namespace
import logging
from pathlib import Path

from perception_nodes.cli.arguments import result_folder
from perception_nodes.cli.parameters import add_flags, from_flags
from perception_nodes.cli.train_pictures import check_pictures
from perception_nodes.evaluation.datasets import pictures_in, read_rgb, split_folder
from perception_nodes.training.enhancement import CROP_PX, EnhancementTask
from perception_nodes.training.export import export_safetensors
from perception_nodes.training.loop import fit, LoopParams

log = logging.getLogger(__name__)

FILE = 'enhancement.safetensors'


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the training takes."""
    parser.add_argument('dataset', type=Path, help='folder with sharp pictures in train/images/ '
                        'and val/images/, as `perception dataset` writes it')
    parser.add_argument(
        '--out', type=result_folder, required=True, metavar='FOLDER',
        help=f'where checkpoints, curves and {FILE} go; an interrupted training there goes on')
    add_flags(parser, LoopParams, {'epochs': 10, 'batch_size': 8, 'validate_every': 2})


def run(arguments: Namespace) -> int:
    """Check, train, write the weights."""
    params = from_flags(LoopParams, arguments)
    train, val = (_pictures(arguments.dataset, split) for split in ('train', 'val'))
    task = EnhancementTask(train, val, params.seed)
    fit(task, params, arguments.out, {'pictures': [len(train), len(val)]})
    file = arguments.out / FILE
    export_safetensors(task.network, file)
    log.info('wrote %s', file)
    return 0


def _pictures(root: Path, split: str) -> list[Path]:
    """
    Return the pictures of a split.

    :raises FileNotFoundError: If there is no such folder.
    :raises ValueError: If there are none, or one is damaged or too small, naming the file.
    """
    folder = split_folder(root, split) / 'images'
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {folder} with pictures')
    files = pictures_in(folder)
    if not files:
        raise ValueError(f'{folder} holds no pictures; add some')
    check_pictures([lambda file=file: _check_size(file) for file in files])  # type: ignore[misc]
    return files


def _check_size(file: Path) -> None:
    height, width = read_rgb(file).shape[:2]
    if min(height, width) < CROP_PX:
        raise ValueError(f'{file} has {width}x{height} pixels; crops of {CROP_PX}x{CROP_PX} are '
                         'learned from: leave it out, or give a larger one')
