"""Coarse scores to masks, beside a plain computation of every score of every pixel."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from perception_nodes.backends.preprocess import Resize
from perception_nodes.backends.segmentation import MaskReader
import pytest

WHOLE = Resize((1.0, 1.0), (0.0, 0.0))


@pytest.fixture
def reader(make_entry):
    """Return a function that makes the reader of a network with so many classes."""
    def make(class_names):
        entry = make_entry(Path('absent'), 'onnxruntime')
        if isinstance(class_names, int):
            class_names = {i: str(i) for i in range(class_names)}
        return MaskReader(replace(entry, class_names=class_names))
    return make


def interpolated(logits, places_y, places_x):
    """Return (C, H, W) scores at places counted in cells from the first one's centre."""
    def between(values, places, axis):
        places = np.clip(places, 0, values.shape[axis] - 1)
        first = np.floor(places).astype(int)
        second = np.minimum(first + 1, values.shape[axis] - 1)
        shape = [1] * 3
        shape[axis] = -1
        share = (places - first).reshape(shape)
        return values.take(first, axis) * (1 - share) + values.take(second, axis) * share
    return between(between(logits.astype(np.float64), places_y, 1), places_x, 2)


def patches(rng, classes, height, width):
    """Return scores with regions, as networks give them, and ragged borders."""
    coarse = rng.normal(0.0, 6.0, (classes, height // 4 + 2, width // 4 + 2))
    smooth = interpolated(coarse, np.arange(height) / 4, np.arange(width) / 4)
    return (smooth + rng.normal(0.0, 0.5, smooth.shape)).astype(np.float32)


def check(mask, scores):
    """Compare with the scores of every pixel; only what is as good as a tie may differ."""
    best, second = np.sort(scores, axis=0)[:-3:-1]
    differs = mask.ids != scores.argmax(axis=0)
    assert (best - second)[differs].max(initial=0.0) < 1e-5
    assert differs.mean() < 1e-3
    exponentials = np.exp(scores - best)
    np.testing.assert_allclose(
        mask.confidence, exponentials.max(axis=0) / exponentials.sum(axis=0), atol=2e-5)


@pytest.mark.parametrize(('classes', 'coarse', 'size'), [
    (21, (60, 80), (640, 480)), (9, (33, 33), (260, 250)), (2, (7, 5), (64, 100)),
    (5, (1, 1), (9, 4)), (3, (40, 50), (20, 16)), (4, (12, 16), (16, 12)), (6, (3, 1), (50, 1)),
    (300, (5, 6), (30, 20)),
])
def test_masks_are_those_of_all_scores_interpolated(reader, classes, coarse, size):
    """Up, down, the same size, one cell, one column, and more classes than a byte holds."""
    logits = patches(np.random.default_rng(1), classes, *coarse)
    mask = reader(classes).from_logits(logits, WHOLE, size, size, confidence=True)
    places = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(size[::-1], coarse, strict=True)]
    check(mask, interpolated(logits, *places))
    assert mask.ids.shape == size[::-1]
    assert mask.ids.dtype == (np.uint8 if classes <= 256 else np.uint16)


@pytest.mark.parametrize('resize', [
    Resize((0.5, 0.4), (0.0, 0.0)), Resize((0.5, 0.5), (0.0, 8.0)), Resize((0.2, 0.2), (13, 0))])
def test_the_resize_of_the_image_is_undone(reader, resize):
    """Stretched, or with bars: each pixel takes the scores of its own place in the network."""
    logits = patches(np.random.default_rng(2), 7, 16, 20)
    mask = reader(7).from_logits(logits, resize, (80, 64), (160, 96), confidence=True)
    columns, rows = (
        ((np.arange(n) + 0.5) * scale + offset) / 4 - 0.5
        for n, scale, offset in zip((160, 96), resize.scale_xy, resize.offset_xy, strict=True))
    check(mask, interpolated(logits, rows, columns))


def test_a_border_between_two_classes_lies_where_the_scores_cross(reader):
    """Two cells of 10 pixels with scores 1 and 3 against 2: they cross half way."""
    logits = np.array([[[3.0, 1.0]], [[2.0, 2.0]]], np.float32)
    mask = reader(2).from_logits(logits, WHOLE, (20, 4), (20, 4), confidence=True)
    assert mask.ids.tolist() == [[0] * 10 + [1] * 10] * 4
    assert mask.confidence[0, 0] == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert mask.confidence[0, 9:11] == pytest.approx([1 / (1 + np.exp(-0.1))] * 2)


def test_huge_scores_neither_overflow_nor_divide_by_nothing(reader):
    """What float16 can hold, and far more."""
    for size in (6e4, 1e30):
        logits = np.array([[[size, -size]], [[-size, size]], [[0.0, 0.0]]], np.float32)
        mask = reader(3).from_logits(logits, WHOLE, (7, 1), (7, 1), confidence=True)
        assert mask.ids[0, [0, -1]].tolist() == [0, 1]
        assert np.isfinite(mask.confidence).all()
        assert mask.confidence[0, [0, -1]].tolist() == [1.0, 1.0]


def test_scores_of_gaps_in_the_ids_are_void(reader):
    """A network trained with numbers that nothing has, as COCO leaves some out."""
    logits = np.zeros((4, 1, 3), np.float32)
    logits[[0, 2, 3], 0, [0, 1, 2]] = 9.0
    mask = reader({0: 'floor', 1: 'wall', 3: 'door'}).from_logits(logits, WHOLE, (3, 1), (3, 1))
    assert mask.ids.tolist() == [[0, 255, 3]]
    assert mask.confidence is None


def test_integers_are_class_ids(reader):
    """A mask of the network's size comes back at the image's; unknown ids become void."""
    small = np.array([[0, 2], [7, 1]], np.int64)
    read = reader(3)
    for values in (small, small[None], small.astype(np.uint8)):
        mask = read.from_output(values, 'NCHW', WHOLE, (4, 4), (4, 4))
        assert mask.ids.tolist() == [[0, 0, 2, 2]] * 2 + [[255, 255, 1, 1]] * 2
        assert mask.ids.dtype == np.uint8
    boxed = read.from_output(small, 'NCHW', Resize((0.5, 0.5), (0.0, 1.0)), (2, 4), (4, 4))
    assert boxed.ids.tolist() == [[0, 0, 2, 2]] * 2 + [[255, 255, 1, 1]] * 2


def test_classes_come_first_or_last(reader):
    """The layout decides only where both would do."""
    logits = patches(np.random.default_rng(4), 3, 5, 6)
    read = reader(3)
    wanted = read.from_output(logits, 'NCHW', WHOLE, (12, 10), (12, 10)).ids
    last = logits.transpose(1, 2, 0)
    for layout in ('NCHW', 'NHWC'):
        assert (read.from_output(last, layout, WHOLE, (12, 10), (12, 10)).ids == wanted).all()
    square = logits[:, :3, :3]
    for layout, values in (('NCHW', square), ('NHWC', square.transpose(1, 2, 0))):
        found = read.from_output(values, layout, WHOLE, (9, 9), (9, 9)).ids
        assert (found == read.from_logits(square, WHOLE, (9, 9), (9, 9)).ids).all()


@pytest.mark.parametrize('values', [
    np.zeros((5, 8, 8), np.float32), np.zeros((8, 8), np.float32), np.zeros((3, 8, 8), np.int64)])
def test_another_number_of_classes_is_a_sentence(reader, values):
    """With what was found and what the manifest says."""
    with pytest.raises(ValueError, match=r'output has shape .*; with the 3 classes of the manif'):
        reader(3).from_output(values, 'NCHW', WHOLE, (8, 8), (8, 8))


def test_what_is_not_a_number_is_refused(reader):
    """Weights that broke on the way must not become a mask of class 0."""
    logits = np.zeros((3, 4, 4), np.float32)
    logits[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match='the network answered NaN'):
        reader(3).from_logits(logits, WHOLE, (8, 8), (8, 8))
    with pytest.raises(ValueError, match='class 70000; ids of masks end at 65535'):
        reader({0: 'a', 70000: 'b'})


def test_a_network_that_sees_the_middle_only_is_refused(make_entry):
    """Classes of pixels that it never saw would be guesses."""
    entry = make_entry(Path('absent'), 'onnxruntime', resize='center_crop')
    with pytest.raises(ValueError, match='center_crop, which cuts away .* stretch or letterbox'):
        MaskReader(entry)
