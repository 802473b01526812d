"""Which pictures are learned from, and which ones tell whether that worked."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


class Picture(Protocol):
    """What is known of a picture here."""

    @property
    def scene(self) -> int | None:
        """The scene it shows; pictures of one scene are not independent."""
        ...


def held_out(pictures: Sequence[Picture], share: float, seed: int) -> tuple[Rows, Rows]:
    """
    Return rows to learn from and rows to validate on; a scene is never in both.

    :param share: Of the scenes, those to validate on.
    :raises ValueError: If one of the two would be empty.
    """
    scenes = _scenes(pictures)
    order = np.random.default_rng(seed).permutation(scenes.max() + 1)
    count = round(share * len(order))
    if not 0 < count < len(order):
        raise ValueError(
            f'{count} of {len(order)} pictures (or scenes) would be held out for validation; '
            'give another share, or more pictures')
    is_held_out = np.isin(scenes, order[:count])
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def folds(pictures: Sequence[Picture], count: int, seed: int) -> list[tuple[Rows, Rows]]:
    """
    Return rows to learn from and rows to validate on, so that each row is validated on once.

    :raises ValueError: If there are fewer scenes than folds.
    """
    scenes = _scenes(pictures)
    order = np.random.default_rng(seed).permutation(scenes.max() + 1)
    if not 2 <= count <= len(order):
        raise ValueError(f'{len(order)} pictures (or scenes) cannot be divided into {count} '
                         f'folds; there must be from 2 to {len(order)}')
    parts = [np.isin(scenes, part) for part in np.array_split(order, count)]
    return [(np.flatnonzero(~part), np.flatnonzero(part)) for part in parts]


def _scenes(pictures: Sequence[Picture]) -> Rows:
    """Return a number of each picture's scene, counted from 0."""
    keys = [f'picture {i}' if picture.scene is None else f'scene {picture.scene}'
            for i, picture in enumerate(pictures)]
    return np.asarray(np.unique(keys, return_inverse=True)[1], np.int64)
