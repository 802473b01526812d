"""The transform buffer: look-ups with known answers, and the sentence for each that fails."""

import gc
import math
import threading
import time
import weakref

import numpy as np
from perception_nodes.core.transforms import Patience, TransformBuffer, TransformError
from perception_nodes.core.types import StampedTransform
import pytest

S = 1_000_000_000
STILL = (0.0, 0.0, 0.0, 1.0)


def yaw(degrees):
    """Return the quaternion of a turn about z."""
    half = math.radians(degrees) / 2
    return (0.0, 0.0, math.sin(half), math.cos(half))


def transform(parent, child, stamp_ns=0, xyz=(0.0, 0.0, 0.0), turn=STILL):
    return StampedTransform(parent, child, stamp_ns, xyz, turn)


@pytest.fixture
def robot():
    """Return map -> odom -> base_link -> camera_link -> camera; odom -> base_link moves."""
    buffer = TransformBuffer()
    buffer.add([
        transform('base_link', 'camera_link', 0, (0.3, 0.0, 1.0)),
        # the optical frame: x right, y down, z ahead
        transform('camera_link', 'camera', 0, turn=(-0.5, 0.5, -0.5, 0.5)),
    ], static=True)
    buffer.add([
        transform('map', 'odom', 10 * S, (5.0, 0.0, 0.0)),
        transform('map', 'odom', 12 * S, (5.0, 0.0, 0.0)),
        transform('odom', 'base_link', 10 * S, (0.0, 0.0, 0.0), yaw(0)),
        transform('odom', 'base_link', 12 * S, (2.0, 0.0, 0.0), yaw(90)),
    ])
    return buffer


def test_a_chain_is_followed_and_interpolated(robot):
    """Half-way the robot stands at x = 1, turned by 45 degrees; 2 m ahead of its camera is ..."""
    map_from_camera = robot.lookup('map', 'camera', 11 * S)
    ahead = map_from_camera @ [0.0, 0.0, 2.0, 1.0]
    reach = 2.3 / math.sqrt(2)
    assert ahead == pytest.approx([5.0 + 1.0 + reach, reach, 1.0, 1.0], abs=1e-12)


def test_both_directions_are_inverse(robot):
    there, back = robot.lookup('map', 'camera', 11 * S), robot.lookup('camera', 'map', 11 * S)
    np.testing.assert_allclose(there @ back, np.eye(4), atol=1e-12)


def test_siblings_meet_below_the_root(robot):
    """What only needs static links does not need the moving ones to be fresh."""
    robot.add([transform('base_link', 'laser', 0, (0.0, 0.0, 0.5))], static=True)
    laser_from_link = robot.lookup('laser', 'camera_link', 99 * S)
    assert laser_from_link[:3, 3] == pytest.approx([0.3, 0.0, 0.5])
    assert robot.lookup('laser', 'laser', 99 * S) == pytest.approx(np.eye(4))


def test_rotation_takes_the_short_way_at_constant_speed():
    """From 170 to -170 degrees is 20 degrees through 180; q and -q are the same rotation."""
    buffer = TransformBuffer()
    flipped = tuple(-c for c in yaw(-170))
    for end in (yaw(-170), flipped):
        buffer.add([transform('a', 'b', 1 * S, turn=yaw(170))])
        buffer.add([transform('a', 'b', 2 * S, turn=end)])
        for fraction, degrees in ((0.25, 175.0), (0.5, 180.0), (0.75, 185.0)):
            found = buffer.lookup('a', 'b', int((1 + fraction) * S))
            radians = math.radians(degrees)
            assert found[:2, 0] == pytest.approx([math.cos(radians), math.sin(radians)], abs=1e-9)


def test_interpolation_agrees_with_scipy():
    """An independent implementation gives the same rotations."""
    spatial = pytest.importorskip('scipy.spatial.transform', reason='scipy is not installed')
    rotations = spatial.Rotation.random(40, random_state=np.random.RandomState(3))
    slerp = spatial.Slerp(np.arange(40), rotations)
    buffer = TransformBuffer()
    stamps = np.arange(40) * (S // 10)
    buffer.add(transform('a', 'b', int(t), turn=tuple(q)) for t, q in
               zip(stamps, rotations.as_quat(), strict=True))
    for moment in np.random.RandomState(4).uniform(0.0, 39.0, 50):
        found = buffer.lookup('a', 'b', round(moment * S / 10))
        np.testing.assert_allclose(found[:3, :3], slerp(moment).as_matrix(), atol=1e-7)


def test_late_and_repeated_samples_find_their_place():
    buffer = TransformBuffer()
    for stamp_s, x in ((1.0, 1.0), (1.4, 9.0), (1.2, 5.0), (1.4, 7.0)):
        buffer.add([transform('a', 'b', round(stamp_s * S), (x, 0.0, 0.0))])
    assert buffer.lookup('a', 'b', round(1.1 * S))[0, 3] == pytest.approx(3.0)
    assert buffer.lookup('a', 'b', round(1.3 * S))[0, 3] == pytest.approx(6.0)


@pytest.mark.parametrize(('target', 'source', 'stamp_s', 'sentence', 'may_come'), [
    ('odom', 'camera', 12.5,
     "no transform from 'camera' to 'odom' at 12.500 s: the newest of 'odom' is 12.000 s", True),
    ('odom', 'camera', 9.999,
     "no transform from 'camera' to 'odom' at 9.999 s: the oldest of 'odom' is 10.000 s", False),
    ('odom', 'camara', 11.0, "nobody publishes frame 'camara'; known are base_link, cam", True),
    ('rack', 'camera', 11.0, "in two trees, under 'map' and 'wall'", True),
])
def test_what_is_not_there_is_said(robot, target, source, stamp_s, sentence, may_come):
    """Nothing is extrapolated, and an unconnected frame is never the identity."""
    robot.add([transform('wall', 'rack')], static=True)
    with pytest.raises(TransformError) as caught:
        robot.lookup(target, source, round(stamp_s * S))
    assert sentence in str(caught.value)
    assert caught.value.may_come == may_come


def test_an_empty_buffer_asks_whether_anybody_publishes():
    with pytest.raises(TransformError, match='no transform at all has arrived'):
        TransformBuffer().lookup('odom', 'camera', 0)


def test_a_loop_is_an_error_and_does_not_hang():
    buffer = TransformBuffer()
    buffer.add([transform('a', 'b'), transform('b', 'c'), transform('c', 'a')], static=True)
    with pytest.raises(TransformError, match='form a loop'):
        buffer.lookup('a', 'x', 0)


def test_a_child_can_change_its_parent(robot):
    """A box that was on the robot is now on the table: the old place is gone."""
    robot.add([transform('base_link', 'box', 11 * S, (1.0, 0.0, 0.0))])
    robot.add([transform('map', 'box', 12 * S, (7.0, 0.0, 0.0))])
    assert robot.lookup('map', 'box', 12 * S)[0, 3] == pytest.approx(7.0)


def test_two_parents_by_turns_are_named():
    """Localisation that publishes map -> base_link beside the odometry's odom -> base_link."""
    buffer = TransformBuffer()
    for i in range(3):
        buffer.add([transform('odom', 'base_link', (10 + i) * S // 10),
                    transform('map', 'base_link', (10 + i) * S // 10)])
    with pytest.raises(TransformError, match="'base_link' has two parents by turns, 'odom' and "
                                             "'map': two nodes publish it"):
        buffer.lookup('odom', 'base_link', S)
    for i in range(13):  # the other one was stopped
        buffer.add([transform('map', 'base_link', (20 + i) * S // 10)])
    with pytest.raises(TransformError, match="the newest of 'map' is"):
        buffer.lookup('map', 'base_link', 9 * S)


def test_a_box_that_is_put_back_has_one_parent():
    """It was handed over twice, and is where it was put."""
    buffer = TransformBuffer()
    for parent in ('table', 'hand', 'table'):
        buffer.add([transform(parent, 'box')], static=True)
    with pytest.raises(TransformError, match="nobody publishes frame 'map'"):
        buffer.lookup('map', 'box', 0)


def test_a_transform_that_was_ignored_is_named_until_a_good_one_comes(robot):
    robot.refuse('base_link', 'its quaternion has length 3')
    with pytest.raises(TransformError, match=r"'odom' is 12\.000 s.*\(ignored: its quaternion"):
        robot.lookup('odom', 'camera', 13 * S)
    robot.add([transform('odom', 'base_link', 14 * S)])
    with pytest.raises(TransformError, match='publisher late\\?$'):
        robot.lookup('odom', 'camera', 15 * S)


def test_history_is_bounded():
    buffer = TransformBuffer()
    for i in range(3000):
        buffer.add([transform('a', 'b', i * S // 100, (i * 0.01, 0.0, 0.0))])
    assert buffer.lookup('a', 'b', 20 * S)[0, 3] == pytest.approx(20.0)
    with pytest.raises(TransformError, match='older than the 10 s that are kept'):
        buffer.lookup('a', 'b', 19 * S)


def test_time_that_jumps_back_forgets_what_moved(robot):
    """A bag that starts again must not be answered from its end; static links stay."""
    robot.add([transform('odom', 'base_link', 1 * S), transform('map', 'odom', 1 * S)])
    assert robot.lookup('map', 'base_link', 1 * S) == pytest.approx(np.eye(4))
    with pytest.raises(TransformError, match='the newest of'):
        robot.lookup('map', 'camera', 11 * S)
    robot.reset()
    with pytest.raises(TransformError, match="nobody publishes frame 'map'"):
        robot.lookup('map', 'camera', 1 * S)
    assert robot.lookup('base_link', 'camera', 1 * S)[0, 3] == pytest.approx(0.3)


def test_a_look_up_waits_for_what_may_come(robot):
    """The waiting thread is woken by the transform, long before its time is over."""
    later = threading.Timer(
        0.05, lambda: robot.add([transform('odom', 'base_link', 13 * S, (3.0, 0.0, 0.0))]))
    later.start()
    started = time.monotonic()
    found = robot.lookup('odom', 'base_link', 13 * S, timeout_s=100.0)
    assert found[0, 3] == pytest.approx(3.0)
    assert time.monotonic() - started < 50.0


def test_a_look_up_waits_no_longer_than_told(robot):
    started = time.monotonic()
    with pytest.raises(TransformError, match='at 14.000 s'):
        robot.lookup('odom', 'base_link', 14 * S, timeout_s=0.1)
    assert 0.09 < time.monotonic() - started < 30.0


@pytest.mark.parametrize('stamp_s', [0.0, 99.0], ids=['never', 'perhaps'])
def test_a_failed_look_up_keeps_nothing_of_its_caller(robot, stamp_s):
    class Frame:
        pass

    def ask():
        frame = Frame()
        caller.append(weakref.ref(frame))
        robot.lookup('map', 'camera', round(stamp_s * S), timeout_s=0.01)

    caller = []
    gc.disable()  # which would only come by after many megabytes
    try:
        with pytest.raises(TransformError):
            ask()
        assert caller[0]() is None
    finally:
        gc.enable()


def test_a_look_up_does_not_wait_for_the_past(robot):
    started = time.monotonic()
    with pytest.raises(TransformError, match='the oldest'):
        robot.lookup('odom', 'base_link', 1 * S, timeout_s=100.0)
    assert time.monotonic() - started < 50.0


def test_a_long_chain_is_fast(robot):
    """0.2 ms is the budget; this takes about a tenth of it."""
    robot.lookup('map', 'camera', 11 * S)
    costs_s = []
    for _ in range(5):  # a collection of garbage may fall into one of them
        started = time.thread_time()
        for i in range(200):
            robot.lookup('map', 'camera', 10 * S + i * 10_000_000)
        costs_s.append((time.thread_time() - started) / 200)
    assert min(costs_s) < 0.2e-3


@pytest.mark.parametrize(('change', 'sentence'), [
    ({'child': 'a'}, 'two different names'),
    ({'child': ''}, 'two different names'),
    ({'translation_m': (math.nan, 0.0, 0.0)}, 'all must be finite'),
    ({'quaternion_xyzw': (0.0, 0.0, 0.0, 0.0)}, 'quaternion of length 1'),
    ({'quaternion_xyzw': (0.0, 0.0, 0.0, math.inf)}, 'quaternion of length 1'),
])
def test_what_is_no_transform_is_refused(change, sentence):
    fields = {'parent': 'a', 'child': 'b', 'stamp_ns': 0, 'translation_m': (0.0, 0.0, 0.0),
              'quaternion_xyzw': STILL}
    with pytest.raises(ValueError, match=sentence):
        StampedTransform(**{**fields, **change})


def test_names_and_quaternions_are_put_right():
    """Old drivers write a slash before the name; float32 quaternions are not quite of length 1."""
    sloppy = transform('/map', '/odom', turn=(0.0, 0.0, 0.0, 1.001))
    assert (sloppy.parent, sloppy.child) == ('map', 'odom')
    assert sloppy.quaternion_xyzw == (0.0, 0.0, 0.0, 1.0)


def test_who_waited_in_vain_is_waited_for_every_tenth_time():
    patience = Patience(0.1, inputs=2)
    waits = []
    for _ in range(21):
        waits.append(patience.timeout_s('rear'))
        assert patience.timeout_s('front') == 0.1
        patience.note('rear', came=False)
        patience.note('front', came=True)
    assert [i for i, wait in enumerate(waits) if wait] == [0, 10, 20]
    patience.note('rear', came=True)
    assert patience.timeout_s('rear') == 0.1


def test_a_single_input_is_always_waited_for():
    patience = Patience(0.1, inputs=1)
    for _ in range(5):
        assert patience.timeout_s('') == 0.1
        patience.note('', came=False)
