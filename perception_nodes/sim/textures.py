"""
Procedural textures: small pictures computed from their name, the same on every machine.

A share of each kind is held out: scenes of the split ``test`` draw from it and no others do.
"""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.sim.scene import Split

Picture = npt.NDArray[np.uint8]  # (SIZE, SIZE, 3) RGB
Grey = npt.NDArray[np.float64]  # (SIZE, SIZE) in [0, 1]

SIZE = 128
VARIANTS = 10  # of each kind
HELD_OUT = (8, 9)  # which of them only tests see
_HUES = 12


def names(kind: str, split: Split) -> list[str]:
    """
    Return the names of a kind's textures in a split.

    :param kind: A key of KINDS.
    """
    kept = HELD_OUT if split == 'test' else [i for i in range(VARIANTS) if i not in HELD_OUT]
    return [f'{kind}_{i}' for i in kept]


@lru_cache(maxsize=256)
def picture(name: str) -> Picture:
    """
    Compute a texture, read-only.

    :param name: One of :func:`names`.
    """
    kind, _, number = name.rpartition('_')
    rng = np.random.default_rng([sorted(KINDS).index(kind), int(number)])
    drawn = np.clip(KINDS[kind](rng), 0.0, 1.0)
    if drawn.ndim == 2:
        drawn = np.repeat(drawn[..., None], 3, axis=2)
    out = np.asarray(np.round(drawn * 255.0), np.uint8)
    out.flags.writeable = False
    return out


def _noise(rng: np.random.Generator, cells_x: int, cells_y: int) -> Grey:
    """Return smooth noise that repeats without a seam."""
    coarse = rng.uniform(0.0, 1.0, (cells_y, cells_x))
    tiled = np.tile(coarse, (3, 3))
    fine = cv2.resize(tiled, (3 * SIZE, 3 * SIZE), interpolation=cv2.INTER_CUBIC)
    return np.clip(fine[SIZE:2 * SIZE, SIZE:2 * SIZE], 0.0, 1.0)


def _coordinates() -> tuple[Grey, Grey]:
    steps = (np.arange(SIZE) + 0.5) / SIZE
    x, y = np.meshgrid(steps, steps)
    return x, y


def _plaster(rng: np.random.Generator) -> Grey:
    depth = rng.uniform(0.03, 0.18)
    return 1.0 - depth * (0.6 * _noise(rng, 8, 8) + 0.4 * _noise(rng, 60, 60))


def _wood(rng: np.random.Generator) -> Grey:
    stretch = int(rng.integers(2, 4))
    bend = _noise(rng, stretch, 6)
    _, y = _coordinates()
    rings = 0.5 + 0.5 * np.sin(2.0 * np.pi * (rng.integers(4, 12) * y + 2.0 * bend))
    grain = _noise(rng, 6, 64)
    return 1.0 - rng.uniform(0.15, 0.45) * (0.6 * rings + 0.4 * grain)


def _planks(rng: np.random.Generator) -> Grey:
    rows = int(rng.choice([4, 6, 8]))
    out = _wood(rng)
    tones = rng.uniform(0.75, 1.0, (rows, 2))
    height = SIZE // rows
    for row in range(rows):
        cut = int(rng.integers(0, SIZE))
        band = out[row * height:(row + 1) * height]
        band[:, :cut] *= tones[row, 0]
        band[:, cut:] *= tones[row, 1]
        band[:, cut:cut + 1] *= 0.6
        band[0] *= 0.6
    return out


def _tiles(rng: np.random.Generator) -> Grey:
    count = int(rng.choice([2, 4]))
    tone = cv2.resize(
        rng.uniform(0.8, 1.0, (count, count)), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
    out = np.asarray(tone * _plaster(rng), np.float64)
    edge = SIZE // count
    joint = rng.uniform(0.4, 0.8)
    for i in range(count):
        out[i * edge:i * edge + 2] = joint
        out[:, i * edge:i * edge + 2] = joint
    return out


def _checker(rng: np.random.Generator) -> Grey:
    count = int(rng.choice([2, 4, 8]))
    x, y = _coordinates()
    odd = (np.floor(x * count) + np.floor(y * count)) % 2
    return 1.0 - rng.uniform(0.2, 0.7) * odd


def _bricks(rng: np.random.Generator) -> Grey:
    rows, columns = 8, 4
    x, y = _coordinates()
    row = np.floor(y * rows)
    along = x * columns + 0.5 * (row % 2)
    joint = ((y * rows) % 1.0 < 0.12) | (along % 1.0 < 0.06)
    tones = rng.uniform(0.6, 0.95, (rows, columns))
    stone = tones[row.astype(int), np.floor(along).astype(int) % columns]
    return np.where(joint, 1.0, stone * (0.85 + 0.15 * _noise(rng, 40, 40)))


def _stripes(rng: np.random.Generator) -> Grey:
    count = int(rng.integers(2, 12))
    x, y = _coordinates()
    along = x if rng.random() < 0.5 else y
    soft = np.clip(2.5 * np.sin(2.0 * np.pi * count * along) + 0.5, 0.0, 1.0)
    return 1.0 - rng.uniform(0.1, 0.7) * soft


def _weave(rng: np.random.Generator) -> Grey:
    count = int(rng.choice([16, 24, 32]))
    x, y = _coordinates()
    threads = np.sin(2 * np.pi * count * x) * np.sin(2 * np.pi * count * y)
    return 0.85 - rng.uniform(0.08, 0.2) * threads - 0.15 * _noise(rng, 8, 8)


def _dots(rng: np.random.Generator) -> Grey:
    count = int(rng.integers(3, 9))
    x, y = _coordinates()
    inside = np.hypot((x * count) % 1.0 - 0.5, (y * count) % 1.0 - 0.5) < rng.uniform(0.15, 0.35)
    return np.asarray(1.0 - rng.uniform(0.3, 0.8) * inside, np.float64)


def _marble(rng: np.random.Generator) -> Grey:
    x, y = _coordinates()
    bend = 2.0 * _noise(rng, 4, 4) + _noise(rng, 12, 12)
    veins = np.abs(np.sin(np.pi * (int(rng.integers(1, 4)) * (x + y) + bend)))
    return 1.0 - rng.uniform(0.2, 0.6) * (1.0 - veins) ** 3 - 0.08 * _noise(rng, 40, 40)


def _carpet(rng: np.random.Generator) -> Grey:
    rough = rng.uniform(0.0, 1.0, (SIZE, SIZE))
    return 1.0 - rng.uniform(0.15, 0.4) * (0.6 * rough + 0.4 * _noise(rng, 10, 10))


def _leaf(rng: np.random.Generator) -> Grey:
    x, _ = _coordinates()
    ribs = np.abs(np.sin(np.pi * 8.0 * (x + 0.3 * _noise(rng, 3, 3))))
    return 0.6 + 0.25 * ribs + 0.15 * _noise(rng, 20, 20)


def _peel(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw fruit skin: blotches from one hue to the next."""
    blend = _noise(rng, 3, 5)[..., None]
    speckle = (rng.random((SIZE, SIZE)) < 0.02)[..., None]
    near, far = np.array([1.0, 1.0, 1.0]), rng.uniform(0.5, 1.0, 3)
    return (near * blend + far * (1.0 - blend)) * (1.0 - 0.3 * speckle)


def _label(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw packaging: bands, a block of colour, something like writing."""
    palette = [_vivid(rng) for _ in range(3)]
    out = np.empty((SIZE, SIZE, 3))
    out[:] = palette[0] if rng.random() < 0.7 else (0.95, 0.95, 0.92)
    top, height = int(rng.integers(0, SIZE // 2)), int(rng.integers(SIZE // 8, SIZE // 2))
    out[top:top + height] = palette[1]
    for _ in range(int(rng.integers(1, 4))):
        centre = (int(rng.integers(0, SIZE)), int(rng.integers(0, SIZE)))
        axes = (int(rng.integers(6, SIZE // 3)), int(rng.integers(6, SIZE // 3)))
        cv2.ellipse(out, centre, axes, int(rng.integers(0, 180)), 0, 360,
                    palette[int(rng.integers(0, 3))].tolist(), cv2.FILLED)
    _write(out, rng, int(rng.integers(2, 7)))
    return out


def _cover(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw the cover of a book: plain, framed, with a title."""
    out = np.empty((SIZE, SIZE, 3))
    out[:] = _vivid(rng) * rng.uniform(0.5, 1.0)
    margin = int(rng.integers(4, 16))
    cv2.rectangle(out, (margin, margin), (SIZE - margin, SIZE - margin), _vivid(rng).tolist(),
                  int(rng.integers(1, 5)))
    if rng.random() < 0.5:
        start = int(rng.integers(SIZE // 3, SIZE // 2))
        out[start:start + SIZE // 4, margin:-margin] = _vivid(rng)
    _write(out, rng, int(rng.integers(1, 4)))
    return out


def _vivid(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    hue = rng.integers(0, _HUES) / _HUES
    saturation, value = rng.uniform(0.3, 1.0, 2)
    wheel = np.abs((hue * 6.0 + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0
    return value * (1.0 - saturation * (1.0 - np.clip(wheel, 0.0, 1.0)))


def _write(out: npt.NDArray[np.float64], rng: np.random.Generator, lines: int) -> None:
    """Draw rows of short strokes, which is what writing looks like from afar."""
    for _ in range(lines):
        ink = rng.choice([0.05, 0.95])
        y, x = int(rng.integers(8, SIZE - 12)), int(rng.integers(4, SIZE // 3))
        height = int(rng.integers(2, 12))
        while x < SIZE - 12 and rng.random() < 0.9:
            width = int(rng.integers(2, 12))
            out[y:y + height, x:x + width] = ink
            x += width + int(rng.integers(2, 6))


KINDS: dict[str, Callable[[np.random.Generator], npt.NDArray[np.float64]]] = {
    'plaster': _plaster, 'wood': _wood, 'planks': _planks, 'tiles': _tiles, 'checker': _checker,
    'bricks': _bricks, 'stripes': _stripes, 'weave': _weave, 'dots': _dots, 'marble': _marble,
    'carpet': _carpet, 'leaf': _leaf, 'peel': _peel, 'label': _label, 'cover': _cover,
}
