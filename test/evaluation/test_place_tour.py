"""The tour that places are recognised on, and how matches are scored."""

import numpy as np
from perception_nodes.core.place_recognition import brightness_embedding
from perception_nodes.evaluation.place_tour import recognise, tours, Visit
import pytest


def visit(room, x_m, yaw_rad=0.0):
    return Visit(room, x_m, 0.0, yaw_rad, np.zeros((2, 2, 3), np.uint8))


def unit(i):
    return np.eye(4, dtype=np.float32)[i]


def test_matches_are_scored_by_where_they_are():
    """Two right, one at the wrong place, one of a room that was never stored."""
    stored = [(visit(0, float(x)), unit(x)) for x in range(3)]
    asked = [(visit(0, 0.1), unit(0)), (visit(0, 1.0), unit(1)),
             (visit(0, 2.0), 0.6 * unit(0) + 0.5 * unit(2)),
             (visit(1, 0.0), 0.5 * unit(1) + 0.5 * unit(3))]
    found = recognise(stored, asked)
    assert found.curve.labels == 3
    assert found.found == pytest.approx(2 / 3)
    assert found.recall_at_full_precision == pytest.approx(2 / 3)
    assert found.curve.precision[-1] == pytest.approx(2 / 4)
    assert found.curve.average_precision() == pytest.approx(2 / 3)


def test_a_place_seen_the_other_way_round_is_another():
    """Of the same spot, too."""
    assert visit(0, 0.0).is_at(visit(0, 0.5, 0.3))
    assert not visit(0, 0.0).is_at(visit(0, 0.0, np.pi))
    assert not visit(0, 0.0).is_at(visit(0, 1.0))
    assert not visit(0, 0.0).is_at(visit(1, 0.0))


@pytest.mark.slow
def test_both_tours_see_the_same_places_in_other_light():
    """The same number of views, near each other, and not the same pixels."""
    pytest.importorskip('mujoco')
    first, second = tours([5000])
    assert len(first) == len(second) > 5
    assert all(a.is_at(b) for a, b in zip(first, second, strict=True))
    brightness = [np.mean([v.rgb.mean() for v in tour]) for tour in (first, second)]
    assert abs(brightness[0] - brightness[1]) > 3.0
    found = recognise(*([(v, brightness_embedding(v.rgb)) for v in tour]
                        for tour in (first, second)))
    assert found.found > 0.3
