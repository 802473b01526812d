"""Objects on known paths are counted as often as they cross."""

import numpy as np
from perception_nodes.core.counting import CountingParams, ObjectCounter
from perception_nodes.core.types import Detections
import pytest

PERSON, CAR = 1, 3
STEP_NS = 100_000_000
# goes right, so that its right-hand side, where 'in' leads, is below it
LINE = CountingParams(line=(100.0, 200.0, 300.0, 200.0), hysteresis_px=5.0)
ZONE = CountingParams(zone=(100.0, 100.0, 300.0, 100.0, 300.0, 300.0, 100.0, 300.0))


def walk(counter, *paths, class_ids=None, start_ns=0):
    """Lead objects 1, 2, ... along places of their feet, one image per step; None is unseen."""
    class_ids = class_ids or [PERSON] * len(paths)
    for n, places in enumerate(zip(*paths, strict=True)):
        seen = [(i, places[i]) for i in range(len(places)) if places[i] is not None]
        boxes = np.array([(x - 20, y - 80, x + 20, y) for _, (x, y) in seen], np.float32)
        counter.step(Detections(
            boxes.reshape(-1, 4), np.ones(len(seen), np.float32),
            np.array([class_ids[i] for i, _ in seen], np.int64),
            np.array([i + 1 for i, _ in seen], np.int64)), start_ns + n * STEP_NS)
    return counter.counts


def straight(start, end, steps=11):
    """Return places from one point to another."""
    return [tuple(p) for p in np.linspace(start, end, steps).tolist()]


def column(x, *heights):
    return [(x, y) for y in heights]


def test_both_directions_by_class():
    """Two persons down, a car up, and one that stays on its side."""
    counts = walk(
        ObjectCounter(LINE), straight((150, 150), (150, 250)), straight((180, 160), (200, 240)),
        straight((250, 260), (250, 120)), straight((110, 150), (290, 190)),
        class_ids=[PERSON, PERSON, CAR, PERSON])
    assert counts == {PERSON: {'in': 2, 'out': 0}, CAR: {'in': 0, 'out': 1}}


def test_back_and_forth_is_one_object_in_each_direction():
    counter = ObjectCounter(LINE)
    path = straight((200, 150), (200, 250))
    assert walk(counter, path * 1) == {PERSON: {'in': 1, 'out': 0}}
    assert walk(counter, path[::-1], start_ns=11 * STEP_NS) == {PERSON: {'in': 1, 'out': 1}}
    assert walk(counter, path, start_ns=22 * STEP_NS) == {PERSON: {'in': 1, 'out': 1}}


def test_trembling_on_the_line_counts_once_or_not_at_all():
    """Within the hysteresis nothing counts; going on behind it does, once."""
    tremble = [190, 203, 197, 204, 196, 202, 198, 204]
    assert walk(ObjectCounter(LINE), column(200, *tremble, 190)) == {}
    assert walk(ObjectCounter(LINE), column(200, *tremble, 210, 203, 197, 207)) == {
        PERSON: {'in': 1, 'out': 0}}


def test_the_line_ends_where_it_ends():
    """Past its end is no crossing, also for who comes back on the other side of the end."""
    assert walk(ObjectCounter(LINE), straight((320, 150), (320, 250))) == {}
    around = straight((320, 150), (320, 250)) + straight((320, 250), (200, 250))
    assert walk(ObjectCounter(LINE), around) == {}
    assert walk(ObjectCounter(LINE), straight((340, 150), (240, 260))) == {
        PERSON: {'in': 1, 'out': 0}}


def test_a_number_that_leaps_to_another_object_crosses_nothing():
    """The box of 80 px lands 170 px farther behind the line; walking on counts again."""
    counter = ObjectCounter(LINE)
    assert walk(counter, column(200, 100, 110, 280, 290)) == {}
    assert walk(counter, straight((200, 280), (200, 150)), start_ns=STEP_NS * 4) == {
        PERSON: {'in': 0, 'out': 1}}


def test_unseen_for_a_moment_is_the_same_object():
    """Hidden on the line it still crosses; hidden for long it begins anew."""
    path = [(200, 180), (200, 190), None, None, None, (200, 220)]
    assert walk(ObjectCounter(LINE), path) == {PERSON: {'in': 1, 'out': 0}}
    long = [(200, 180), (200, 190), *[None] * 60, (200, 220)]
    assert walk(ObjectCounter(LINE), long) == {}


def test_a_zone_knows_who_came_went_and_is_there():
    counter = ObjectCounter(ZONE)
    through = straight((50, 200), (350, 200), 21)
    stays = straight((350, 250), (200, 250), 21)
    outside = straight((50, 50), (350, 50), 21)
    born_inside = [(250, 150)] * 21
    counts = walk(counter, through, stays, outside, born_inside,
                  class_ids=[PERSON, PERSON, PERSON, CAR])
    assert counts == {PERSON: {'in': 2, 'out': 1, 'inside': 1},
                      CAR: {'in': 1, 'out': 0, 'inside': 1}}
    gone = walk(counter, [None] * 60, start_ns=21 * STEP_NS)
    assert gone == {PERSON: {'in': 2, 'out': 1, 'inside': 0},
                    CAR: {'in': 1, 'out': 0, 'inside': 0}}


def test_trembling_on_the_border_of_a_zone_counts_once():
    x = [80, 96, 103, 98, 104, 97, 103, 110, 98, 103, 97, 106]
    assert walk(ObjectCounter(ZONE), [(v, 200) for v in x]) == {
        PERSON: {'in': 1, 'out': 0, 'inside': 1}}


def test_a_number_that_leaps_into_a_zone_did_not_enter_it():
    counts = walk(ObjectCounter(ZONE), [(20, 20), (30, 20), (250, 250), (255, 250)])
    assert counts == {PERSON: {'in': 0, 'out': 0, 'inside': 1}}


def test_the_middle_counts_for_cameras_that_look_down():
    """Of a box 80 px high, the centre is 40 px above the foot."""
    params = CountingParams(line=LINE.line, anchor='center')
    assert walk(ObjectCounter(params), column(200, 180, 210, 230)) == {}
    assert walk(ObjectCounter(params), column(200, 220, 235, 250)) == {
        PERSON: {'in': 1, 'out': 0}}


def test_after_a_jump_of_time_objects_begin_anew():
    counter = ObjectCounter(LINE)
    walk(counter, column(200, 180, 190), start_ns=100 * STEP_NS)
    assert walk(counter, column(200, 210, 220), start_ns=0) == {}


@pytest.mark.parametrize(('values', 'sentence'), [
    ({'line': (1.0, 2.0, 3.0)}, "'line' is .* four numbers"),
    ({'line': (1.0, 2.0, 1.0, 2.0)}, 'two different points'),
    ({'zone': (0.0, 0.0, 9.0, 0.0, 9.0, float('inf'))}, "'zone' is .*inf.* finite"),
    ({'zone': (1.0, 2.0, 3.0, 4.0)}, "'zone' is .* three points"),
    ({'zone': (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)}, 'pairs'),
    ({'zone': (0.0, 0.0, 9.0, 9.0, 9.0, 0.0, 0.0, 9.0)}, "'zone' is .* crosses itself; give its"),
    ({'zone': (0.0, 0.0, 5.0, 0.0, 9.0, 0.0)}, "'zone' is .* encloses nothing"),
    ({}, "either 'line' or 'zone'"),
    ({'line': LINE.line, 'zone': ZONE.zone}, "either 'line' or 'zone'")])
def test_a_border_that_is_none_is_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        ObjectCounter(CountingParams(**values))


@pytest.mark.parametrize('zone', [
    (0.0, 0.0, 9.0, 0.0, 9.0, 9.0, 0.0, 9.0, 0.0, 0.0),  # closed by its first point once more
    (0.0, 9.0, 9.0, 9.0, 9.0, 0.0, 5.0, 5.0, 0.0, 0.0)])  # the other way around, with a notch
def test_a_zone_may_be_closed_or_hollow(zone):
    ObjectCounter(CountingParams(zone=zone))
