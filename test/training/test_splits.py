"""Held-out pictures are never learned from, and neither are others of their scene."""

from types import SimpleNamespace

import numpy as np
from perception_nodes.training.splits import folds, held_out
import pytest


def pictures(*scenes):
    return [SimpleNamespace(scene=scene) for scene in scenes]


def test_a_share_is_held_out():
    learned, validated = held_out(pictures(*[None] * 50), 0.5, seed=0)
    assert len(learned) == len(validated) == 25
    assert sorted([*learned, *validated]) == list(range(50))
    again = held_out(pictures(*[None] * 50), 0.5, seed=0)
    np.testing.assert_array_equal(again[1], validated)
    assert (held_out(pictures(*[None] * 50), 0.5, seed=1)[1] != validated).any()


def test_scenes_stay_whole():
    scenes = [k // 5 for k in range(50)]
    learned, validated = held_out(pictures(*scenes), 0.3, seed=0)
    assert len(validated) == 15
    assert not {scenes[i] for i in learned} & {scenes[i] for i in validated}


@pytest.mark.parametrize('share', [0.0, 0.01, 0.99, 1.0])
def test_an_empty_part_is_refused(share):
    with pytest.raises(ValueError, match='of 10 pictures .* would be held out'):
        held_out(pictures(*[None] * 10), share, seed=0)


def test_every_picture_is_validated_on_once():
    parts = folds(pictures(*[None] * 10, 3, 3, 3), 4, seed=0)
    assert len(parts) == 4
    assert sorted(np.concatenate([validated for _, validated in parts])) == list(range(13))
    for learned, validated in parts:
        assert sorted([*learned, *validated]) == list(range(13))
        assert len({10, 11, 12} & set(validated.tolist())) in (0, 3)


@pytest.mark.parametrize('count', [1, 11])
def test_too_many_folds_are_refused(count):
    with pytest.raises(ValueError, match=f'10 pictures .* into {count} folds; .* from 2 to 10'):
        folds(pictures(*[None] * 10), count, seed=0)
