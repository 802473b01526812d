"""What is said of scenes whose relations are known."""

import math

import numpy as np
from perception_nodes.core.scene_relations import describe, DescriptionParams, find_relations
from perception_nodes.core.types import Detections3D
import pytest

CLASSES = {1: 'table', 2: 'cup', 3: 'box', 4: 'ball', 5: 'chair'}
IDS = {name: i for i, name in CLASSES.items()}
PARAMS = DescriptionParams()
TABLE = ('table', (3.0, 0.0, 0.375), (1.0, 1.0, 0.75))


def things(*rows, object_ids=None):
    """Return upright boxes of (class, centre, size) or (class, centre, size, yaw in degrees)."""
    n = len(rows)
    turns = [math.radians(row[3]) if len(row) > 3 else 0.0 for row in rows]
    rotations = np.array([[[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0],
                           [0.0, 0.0, 1.0]] for a in turns]).reshape(n, 3, 3)
    return Detections3D(
        np.array([row[1] for row in rows], np.float64).reshape(n, 3), rotations,
        np.array([row[2] for row in rows], np.float64).reshape(n, 3), np.zeros((n, 6, 6)),
        np.ones(n, np.float32), np.array([IDS.get(row[0], 99) for row in rows], np.int64),
        np.arange(n), ('depth',) * n,
        None if object_ids is None else np.array(object_ids, np.int64))


def told(*rows, **more):
    return describe(things(*rows, **more), CLASSES, PARAMS).split('\n')


def test_a_cup_is_on_the_table_and_a_ball_in_a_box():
    """Centimetres of error in what was measured do not matter, nor does the order."""
    cup = ('cup', (2.8, 0.3, 0.82), (0.08, 0.08, 0.1))
    box = ('box', (3.0, 3.0, 0.2), (0.4, 0.4, 0.4))
    ball = ('ball', (3.05, 2.95, 0.12), (0.2, 0.2, 0.2))
    expected = ['The ball is in the box.', 'The box is left of the table (2.3 m).',
                'The cup is on the table.', 'The table is 2.5 m away.']
    assert told(cup, TABLE, ball, box) == expected
    assert told(box, ball, TABLE, cup) == expected


def test_a_thing_over_a_table_is_not_on_it():
    floating = ('cup', (2.8, 0.3, 0.95), (0.08, 0.08, 0.1))
    assert told(TABLE, floating)[0] == 'The cup is near the table (0.1 m).'


def test_under_a_table_is_not_in_it():
    """Its box reaches to the floor, but nothing can be in a table."""
    assert told(TABLE, ('ball', (3.0, 0.0, 0.1), (0.2, 0.2, 0.2)))[0] == \
        'The ball is near the table (0.0 m).'


def test_a_thing_whose_middle_is_beside_the_table_is_not_on_it():
    assert told(TABLE, ('cup', (2.0, 0.0, 0.8), (0.08, 0.08, 0.1)))[0] == \
        'The cup is in front of the table (0.5 m).'


@pytest.mark.parametrize(('place', 'kind'), [
    ((3.0, 1.95), 'left of'), ((3.0, -1.95), 'right of'),
    ((4.95, 0.0), 'behind'), ((1.05, 0.0), 'in front of')])
def test_sides_are_those_the_robot_sees(place, kind):
    """The gap between a chair and a table, both half a metre thick there, is 1.2 m."""
    chair = ('chair', (*place, 0.45), (0.5, 0.5, 0.9))
    assert told(TABLE, chair)[0] == f'The chair is {kind} the table (1.2 m).'


@pytest.mark.parametrize('degrees', [0.0, 90.0, 180.0, -120.0])
def test_left_is_left_whichever_way_the_table_lies(degrees):
    """Turned about the robot, nothing but the bearing changes."""
    a = math.radians(degrees)
    turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])

    def turned(kind, center, size):
        return kind, (*(turn @ center[:2]), center[2]), size, degrees

    chair = ('chair', (3.0, 1.95, 0.45), (0.5, 0.5, 0.9))
    assert told(turned(*TABLE), turned(*chair))[0] == 'The chair is left of the table (1.2 m).'


def test_no_clear_direction_is_near():
    """On the diagonal: near when it is near, the longer component when it is not."""
    near = ('chair', (3.8, 0.8, 0.45), (0.4, 0.4, 0.9))
    far = ('chair', (5.7, 2.5, 0.45), (0.4, 0.4, 0.9))
    assert told(TABLE, near)[0] == 'The chair is near the table (0.1 m).'
    assert told(TABLE, far)[0] == 'The chair is behind the table (2.7 m).'


def test_what_stands_on_the_same_is_compared():
    """A cup beside a larger box on the table is left of that, not of the table."""
    box = ('box', (3.0, 0.0, 0.85), (0.2, 0.2, 0.2))
    cup = ('cup', (3.0, 0.3, 0.8), (0.08, 0.08, 0.1))
    assert told(TABLE, box, cup) == [
        'The box is on the table.', 'The cup is on the table.',
        'The cup is left of the box (0.2 m).', 'The table is 2.5 m away.']


def test_gaps_of_turned_boxes_are_between_their_outlines():
    """Corner first, a square of 0.4 m comes 0.283 m nearer than its centre."""
    chair = ('chair', (3.0, 1.5, 0.45), (0.4, 0.4, 0.9), 45.0)
    [relation] = [r for r in find_relations(things(TABLE, chair), ['table', 'chair'], PARAMS)
                  if r.subject == 1]
    assert (relation.kind, relation.reference) == ('left of', 0)
    assert relation.distance_m == pytest.approx(1.0 - 0.2 * math.sqrt(2.0), abs=1e-4)


def test_crossing_boxes_have_no_gap():
    """No corner of either lies inside the other."""
    plank = ('box', (3.0, 0.0, 0.375), (0.2, 3.0, 0.3))
    assert told(TABLE, plank)[0] == 'The box is near the table (0.0 m).'


def test_several_of_a_kind_are_numbered():
    """From left to right, or by the number under which they are followed."""
    left, right = (('chair', (3.0, y, 0.45), (0.5, 0.5, 0.9)) for y in (2.0, -2.0))
    assert told(right, TABLE, left) == [
        'Chair 1 is left of the table (1.2 m).', 'Chair 2 is right of the table (1.2 m).',
        'The table is 2.5 m away.']
    assert told(right, TABLE, left, object_ids=[12, 3, 4]) == [
        'Chair 4 is left of the table (1.2 m).', 'Chair 12 is right of the table (1.2 m).',
        'The table is 2.5 m away.']


def test_nothing_and_unknown_things():
    assert describe(Detections3D.empty(), CLASSES, PARAMS) == ''
    assert told(('gadget', (1.0, 0.0, 0.5), (0.2, 0.2, 0.2))) == ['The object is 0.9 m away.']
