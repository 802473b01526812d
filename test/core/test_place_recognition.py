"""Places: what is stored is found again, light does not matter, and nothing is made up."""

import numpy as np
from perception_nodes.core.place_recognition import (
    brightness_embedding,
    layout_embedding,
    PlaceMemory,
)
import pytest


def pictures(count):
    """Return (count, 48, 64, 3) noise of large spots, each its own."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(40, 120, (count, 12, 16, 3))
    return np.repeat(np.repeat(coarse, 4, axis=1), 4, axis=2).astype(np.uint8)


def test_the_stored_place_is_found_in_other_light():
    """Brighter by a factor and an offset, each picture matches itself and nothing else."""
    views = pictures(8)
    memory = PlaceMemory()
    for view in views:
        memory.add(brightness_embedding(view))
    for i, view in enumerate(views):
        match = memory.match(brightness_embedding((view * 1.6 + 20).astype(np.uint8)))
        assert match.index == i
        assert match.similarity > 0.98
    others = views[0].astype(np.float64) @ np.ones(3), views[1].astype(np.float64) @ np.ones(3)
    assert not np.allclose(*others)


def test_the_layout_of_classes_is_what_it_says():
    """A mask whose left half is class 1 differs from one whose right half is, not from itself."""
    left = np.zeros((48, 64), np.uint8)
    left[:, :32] = 1
    right = left[:, ::-1]
    a, b = layout_embedding(left, 3), layout_embedding(right, 3)
    assert a.shape == (48 * 3,)
    assert a @ a == pytest.approx(1.0, abs=1e-5)
    assert a @ b == pytest.approx(0.0, abs=1e-5)
    void = np.full((48, 64), 255, np.uint8)
    assert layout_embedding(void, 3) @ a == 0.0


def test_an_empty_memory_knows_no_place():
    """And embeddings of another kind are refused."""
    memory = PlaceMemory()
    assert memory.match(np.ones(4, np.float32)) is None
    assert memory.add(np.ones(4, np.float32)) == 0
    with pytest.raises(ValueError, match=r'\(5,\).*\(4,\)'):
        memory.add(np.ones(5, np.float32))
    assert memory.match(np.ones(4, np.float32)).similarity == pytest.approx(1.0)
    assert len(memory) == 1
