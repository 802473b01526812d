"""What the trainings on a user's pictures share: their flags, splits and cross-validation."""

from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
import logging
from pathlib import Path
import time
from typing import Any, TypeVar

import numpy as np
from perception_nodes.cli.arguments import result_folder
from perception_nodes.cli.parameters import add_flags
from perception_nodes.evaluation.datasets import DetectionDataset
from perception_nodes.evaluation.mask_datasets import SegmentationDataset
from perception_nodes.evaluation.results import Value, write_results
from perception_nodes.training.loop import LoopParams
from perception_nodes.training.pictures import PictureParams
from perception_nodes.training.splits import folds, held_out
from tqdm import tqdm

log = logging.getLogger(__name__)

D = TypeVar('D', DetectionDataset, SegmentationDataset)


def add_training_flags(
    parser: ArgumentParser, loop: Mapping[str, Any], kind: type[PictureParams],
    pictures: Mapping[str, Any],
) -> None:
    """
    Declare the flags; the two mappings hold the defaults of a training.

    :param loop: Of :class:`LoopParams`.
    :param kind: What the training can be told of pictures.
    :param pictures: Of ``kind``.
    """
    parser.add_argument(
        '--out', type=result_folder, required=True, metavar='FOLDER',
        help='where checkpoints, curves, the network and manifest.yaml go; an interrupted '
        'training there goes on')
    parser.add_argument('--name', help="the model's name in the manifest (default: made from the "
                        "data set's)")
    parser.add_argument(
        '--val-share', type=float, default=0.2,
        help='how much of a data set without a split val is held out (default: %(default)s)')
    parser.add_argument(
        '--folds', type=int, default=0, metavar='K',
        help='instead of one model, train K, each validated on another part of the pictures')
    add_flags(parser, kind, pictures)
    add_flags(parser, LoopParams, loop)


def divided(
    splits: Sequence[str], read: Callable[[str], D], share: float, seed: int
) -> tuple[D, D]:
    """
    Return what to learn from and what to validate on, with the same class ids, from 0.

    :param splits: Which splits there are.
    :param read: Reads one, or everything where there are none.
    :raises ValueError: If a split is empty, or the class names of the two differ.
    """
    train = counted_from_zero(read('train'))
    if 'val' in splits:
        return train, read('val').with_classes_of(train.class_names)
    learned, validated = held_out(train.images, share, seed)
    log.info('%d of %d pictures are held out for validation', len(validated), len(train.images))
    return _subset(train, learned), _subset(train, validated)


def cross_validate(
    dataset: D, count: int, seed: int, train: Callable[[D, D, Path], Mapping[str, float]],
    names: Sequence[str], out: Path,
) -> None:
    """
    Train once for each fold; print the scores, their mean and spread, and write ``folds.json``.

    :param train: Trains on the first data set and returns the scores on the second.
    :param names: The scores to report.
    """
    start_s = time.monotonic()
    parts = folds(dataset.images, count, seed)
    rows = [
        train(_subset(dataset, learned), _subset(dataset, validated), out / f'fold_{k}')
        for k, (learned, validated) in enumerate(parts, start=1)]
    values: dict[str, Value] = {'folds': count}
    for name in names:
        scores = [row[name] for row in rows]
        values |= {f'{name}_fold_{k}': score for k, score in enumerate(scores, start=1)}
        values |= {f'{name}_mean': float(np.mean(scores)),
                   f'{name}_std': float(np.std(scores, ddof=1))}
        print(f'{name}: {np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f} over {count} folds '
              f'({", ".join(f"{score:.3f}" for score in scores)})')
    write_results(out / 'folds.json', values, seed=seed, n=len(dataset.images),
                  wall_s=time.monotonic() - start_s)


def check_pictures(read: Sequence[Callable[[], object]]) -> None:
    """
    Read every picture once, so that a damaged one is found before hours are spent.

    :param read: Reads one.
    :raises ValueError: Naming the file.
    """
    for one in tqdm(read, 'checking', unit='picture', disable=None, leave=False):
        one()


def counted_from_zero(dataset: D) -> D:
    """Return the same with class ids 0, 1, 2, ... in the order of the data set's ids."""
    names = dataset.class_names
    return dataset.with_classes_of({k: names[i] for k, i in enumerate(sorted(names))})


def _subset(dataset: D, rows: Any) -> D:
    return replace(dataset, images=[dataset.images[int(i)] for i in rows])
