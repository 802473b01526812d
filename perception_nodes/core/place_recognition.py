"""
Has the robot been here before: an embedding of what it sees, compared with those of stored places.

Two embeddings are offered. The layout of classes (where floor, walls, tables are in the picture)
does not care for light; the picture itself, small and with its contrast evened out (SeqSLAM,
Milford and Wyeth, 2012), needs no network.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Embedding = npt.NDArray[np.float32]

_LAYOUT_ROWS, _LAYOUT_COLUMNS = 6, 8
_SMALL_SIZE = (32, 24)  # pixels
_PATCH = 8  # side of the neighbourhood whose contrast is evened out
_LEAST_CONTRAST = 4.0  # grey levels; what is flatter stays flat


@dataclass(frozen=True)
class PlaceMatch:
    """The stored place that looks most alike."""

    index: int  # in the order of storing
    similarity: float  # cosine, at most 1


class PlaceMemory:
    """Embeddings of places, of one kind and length."""

    def __init__(self) -> None:
        self._stored: list[Embedding] = []

    def __len__(self) -> int:
        return len(self._stored)

    def add(self, embedding: Embedding) -> int:
        """
        Store a place; return its index.

        :param embedding: (D,), of any length but zero.
        :raises ValueError: If D differs from that of the places before.
        """
        if self._stored and embedding.shape != self._stored[0].shape:
            raise ValueError(f'the embedding has shape {embedding.shape}, those stored have '
                             f'{self._stored[0].shape}: use one kind for all places')
        self._stored.append(_unit(embedding))
        return len(self._stored) - 1

    def match(self, embedding: Embedding) -> PlaceMatch | None:
        """Return the place that looks most alike, or None while nothing is stored."""
        if not self._stored:
            return None
        alike = np.stack(self._stored) @ _unit(embedding)
        best = int(alike.argmax())
        return PlaceMatch(best, float(alike[best]))


def layout_embedding(ids: npt.NDArray[np.uint8], classes: int) -> Embedding:
    """
    Return how much of each class each part of a mask shows.

    :param ids: (H, W) class ids; those of ``classes`` and above count as none.
    :return: (48 * classes,): roots of shares, so that small things count, too; unit length
        unless nothing is shown.
    """
    shares = [cv2.resize((ids == i).astype(np.float32), (_LAYOUT_COLUMNS, _LAYOUT_ROWS),
                         interpolation=cv2.INTER_AREA) for i in range(classes)]
    return _unit(np.sqrt(np.stack(shares)).ravel())


def brightness_embedding(rgb: npt.NDArray[np.uint8]) -> Embedding:
    """
    Return a small grey picture whose contrast is the same everywhere.

    :param rgb: (H, W, 3).
    :return: (768,), unit length unless the picture is flat.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, _SMALL_SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    mean = cv2.blur(small, (_PATCH, _PATCH))
    spread = np.sqrt(np.maximum(cv2.blur(small * small, (_PATCH, _PATCH)) - mean * mean, 0.0))
    return _unit(((small - mean) / np.maximum(spread, _LEAST_CONTRAST)).ravel())


def _unit(embedding: npt.NDArray[Any]) -> Embedding:
    length = float(np.linalg.norm(embedding))
    return np.asarray(embedding / length if length > 0.0 else embedding, np.float32)
