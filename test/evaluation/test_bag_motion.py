"""Drives whose goals and contacts are known."""

from perception_nodes.core.types import StampedTransform
from perception_nodes.evaluation.bag_motion import motion_findings
from perception_nodes.evaluation.bag_notes import BagNotes
import pytest

SECOND_NS = 1_000_000_000
WALL_NS = 1_700_000_000 * SECOND_NS  # the recorder's clock is not the robot's


def drive(goals, impacts=()):
    """Drive along x at 1 m/s for 10 s of simulated time, which the recorder took 20 s for."""
    notes = BagNotes()
    notes.truth.places_frame = 'map'
    notes.truth.places = [
        (WALL_NS + n * SECOND_NS // 5, n * SECOND_NS // 10, 0.1 * n, 0.0) for n in range(101)]
    notes.truth.impacts = [(WALL_NS + round(at_s * 2e9), 0.2) for at_s in impacts]
    notes.goals = [(WALL_NS + round(at_s * 2e9), frame, x, y) for at_s, frame, x, y in goals]
    return notes


def test_goals_are_reached_or_not():
    """The first goal is reached after 2.65 s, with a contact; the second is 1 m aside."""
    found = motion_findings(drive([(0.0, 'map', 3.0, 0.0), (4.0, 'map', 8.0, 1.0)], [1.0]))
    values = found.values
    assert values['distance_m'] == pytest.approx(10.0)
    assert (values['goals'], values['goals_reached'], values['collisions']) == (2, 1, 1)
    assert values['navigation_success'] == 0.0
    (_, first), (_, second) = found.sections[0].tables[1].rows
    assert first == pytest.approx([1, 0.0, 2.7, 1], abs=0.06)
    assert second[0] == 0
    assert second[1] == pytest.approx(1.0)


def test_a_goal_without_a_contact_is_a_success():
    values = motion_findings(drive([(0.0, 'map', 3.0, 0.0)])).values
    assert values['navigation_success'] == 1.0


def test_goals_in_another_frame_are_moved():
    notes = drive([(0.0, 'odom', 0.0, -5.0)])
    notes.static_transforms = [StampedTransform(
        'map', 'odom', 0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.5 ** 0.5, 0.5 ** 0.5))]
    assert motion_findings(notes).values['goals_reached'] == 1


def test_a_goal_in_an_unknown_frame_is_said():
    found = motion_findings(drive([(0.0, 'odom', 0.0, -5.0)]))
    assert 'goals' not in found.values
    assert "'odom'" in found.sentences[0]


def test_without_true_places_there_is_nothing_to_say():
    assert not motion_findings(BagNotes()).values
