"""
Where to look for objects without a network: windows of every size, or regions that grow together.

Boxes are (N, 4) float32 left, top, right, bottom in pixels.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]

_SHAPES = (0.5, 1.0, 2.0)  # widths over heights of windows
_SIDES = (0.25, 0.5, 0.9)  # roots of window areas over that of the image
_STRIDE = 0.3  # of a window's side, from one window to the next
_FINEST = 60.0  # scale of the first segments; Selective Search begins with 50 to 200
_SMALLEST_SHARE = 0.002  # of the image, that a first segment has
_SMALLEST_SIDE_PX = 16.0


def sliding_windows(width: int, height: int) -> Boxes:
    """Return windows of three shapes and three sizes at steps of 30 % of their sides."""
    boxes = [box for share in _SIDES for shape in _SHAPES
             for box in _windows(width, height, share, shape)]
    return np.array(boxes, np.float32).reshape(-1, 4)


def _windows(
    width: int, height: int, share: float, shape: float
) -> Iterator[tuple[float, float, float, float]]:
    side = share * np.sqrt(width * height)
    w, h = min(width, side * np.sqrt(shape)), min(height, side / np.sqrt(shape))
    columns = 1 + round((width - w) / (_STRIDE * w))
    rows = 1 + round((height - h) / (_STRIDE * h))
    for top in np.linspace(0.0, height - h, rows):
        for left in np.linspace(0.0, width - w, columns):
            yield left, top, left + w, top + h


def grown_regions(rgb: npt.NDArray[np.uint8]) -> Boxes:
    """
    Return the boxes of segments and of everything that grows from merging the most alike.

    The idea of Selective Search (Uijlings et al., 2013): segments of Felzenszwalb and
    Huttenlocher are merged, the most alike in colour and the smallest first, until one is left;
    every region on the way may be an object.

    :param rgb: (H, W, 3).
    """
    from skimage.color import rgb2lab
    from skimage.segmentation import felzenszwalb

    segments = felzenszwalb(
        rgb, scale=_FINEST, sigma=0.8, min_size=int(_SMALLEST_SHARE * rgb[..., 0].size))
    boxes = _merged(segments, rgb2lab(rgb))
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.unique(boxes[sides.min(axis=1) >= _SMALLEST_SIDE_PX], axis=0)


def _merged(segments: npt.NDArray[np.int64], lab: npt.NDArray[np.float64]) -> Boxes:
    """Return the box of every first segment and of every merged one."""
    n, (height, width) = int(segments.max()) + 1, segments.shape
    size = np.bincount(segments.ravel(), minlength=n).astype(float)
    colour = np.stack([np.bincount(segments.ravel(), lab[..., k].ravel(), n).astype(float)
                       for k in range(3)], 1)
    rows, columns = np.mgrid[:height, :width]
    box = np.empty((n, 4))
    for k, (values, reduce, start) in enumerate((
            (columns, np.minimum, width), (rows, np.minimum, height),
            (columns + 1, np.maximum, 0), (rows + 1, np.maximum, 0))):
        box[:, k] = start
        reduce.at(box[:, k], segments.ravel(), values.ravel())
    neighbours = _neighbours(segments, n)
    found = [*box]
    alive = set(range(n))
    while len(alive) > 1:
        pair = min(((i, j) for i in alive for j in neighbours[i] if i < j), default=None,
                   key=lambda pair: _difference(pair, size, colour, height * width))
        if pair is None:
            break
        i, j = pair
        size[i] += size[j]
        colour[i] += colour[j]
        box[i] = (*np.minimum(box[i, :2], box[j, :2]), *np.maximum(box[i, 2:], box[j, 2:]))
        for k in neighbours.pop(j):
            neighbours[k].discard(j)
            if k != i:
                neighbours[k].add(i)
                neighbours[i].add(k)
        alive.discard(j)
        found.append(box[i].copy())
    return np.array(found, np.float32)


def _difference(
    pair: tuple[int, int], size: npt.NDArray[np.float64], colour: npt.NDArray[np.float64],
    area: float,
) -> float:
    """Return how unlike two regions are: in mean colour, and large ones stay apart."""
    i, j = pair
    apart = np.linalg.norm(colour[i] / size[i] - colour[j] / size[j]) / 50.0
    return float(apart + 2.0 * (size[i] + size[j]) / area)


def _neighbours(segments: npt.NDArray[np.int64], n: int) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {i: set() for i in range(n)}
    for a, b in ((segments[:, 1:], segments[:, :-1]), (segments[1:], segments[:-1])):
        touching = a != b
        for i, j in np.unique(np.stack([a[touching], b[touching]], 1), axis=0).tolist():
            found[i].add(j)
            found[j].add(i)
    return found
