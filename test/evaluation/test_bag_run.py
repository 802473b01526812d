"""Nodes over the frames of a bag, in lock-step and in real time, by a clock of the test's own."""

import numpy as np
from perception_nodes.core.types import CameraIntrinsics, Detections, RgbdFrame
from perception_nodes.evaluation.bag_frames import BagFrame
from perception_nodes.evaluation.bag_run import BagRun

PERIOD_NS = 100_000_000
MS = 1_000_000
LENS = CameraIntrinsics.from_fov(8, 6, 60.0)


class Clock:
    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        return self.now_ns


class Node:
    """A node that takes its time, and says of which frame its answer is."""

    class_names = {}

    def __init__(self, clock, kind, took_ms, needs=('image',), wants=(), fails_at=()):
        self.clock, self.kind, self.name = clock, kind, kind
        self.took_ms, self.fails_at = took_ms, fails_at
        self.needs, self.wants = frozenset(needs), frozenset(wants)
        self.seen, self.resets = [], 0

    def answer(self, frame, answers):
        number = frame.stamp_ns // PERIOD_NS
        self.seen.append(number)
        self.clock.now_ns += self.took_ms * MS
        if number in self.fails_at:
            raise ValueError(f'frame {number} is bad')
        if self.kind == 'detection':
            answers.detections = Detections(
                np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.array([number]))
        else:
            answers.mask = np.full((6, 8), number, np.uint8)
        answers.results[f'/{self.name}/result'] = number

    def reset(self):
        self.resets += 1


def frames(numbers, has_depth=True):
    for n in numbers:
        yield BagFrame(RgbdFrame(
            np.zeros((6, 8, 3), np.uint8), n * PERIOD_NS, 'camera',
            np.ones((6, 8), np.float32) if has_depth else None, LENS), n * PERIOD_NS, True)


def found_in(moments):
    """Return of which frame the boxes at each moment are; None where there are none."""
    return [None if m.answers.detections is None else int(m.answers.detections.class_ids[0])
            for m in moments]


def test_lockstep_works_on_every_frame():
    clock = Clock()
    node = Node(clock, 'detection', 350)
    run = BagRun([node], clock)
    assert found_in(run.lockstep(frames(range(4)))) == [0, 1, 2, 3]
    log = run.logs['detection']
    assert (log.received, log.processed, log.dropped.total()) == (4, 4, 0)
    assert log.compute_ms == [350.0] * 4
    assert [(stamp, topic) for stamp, topic, _ in run.digests] == [
        (n * PERIOD_NS, '/detection/result') for n in range(4)]


def test_in_real_time_a_fast_node_shows_the_frame_before():
    """30 ms of work: at each arrival the answer to the frame before is there."""
    clock = Clock()
    run = BagRun([Node(clock, 'detection', 30)], clock)
    assert found_in(run.realtime(frames(range(4)))) == [None, 0, 1, 2]
    assert run.logs['detection'].age_ms == [30.0] * 4


def test_in_real_time_a_slow_node_leaves_frames_out():
    """
    250 ms of work, frames every 100 ms.

    Frame 0 is done at 250; then frame 2, the newest, until 500; then frame 4 until 750, and the
    last. At the arrivals of frames 3 and 4 frame 0 is known, at that of 5 frame 2 as well.
    """
    clock = Clock()
    node = Node(clock, 'detection', 250)
    run = BagRun([node], clock)
    assert found_in(run.realtime(frames(range(6)))) == [None, None, None, 0, 0, 2]
    assert node.seen == [0, 2, 4, 5]
    log = run.logs['detection']
    assert (log.received, log.processed, log.dropped) == (6, 4, {'superseded': 2})
    assert log.age_ms == [250.0, 300.0, 350.0, 500.0]


def test_in_real_time_nodes_do_not_wait_for_each_other():
    clock = Clock()
    slow, fast = Node(clock, 'detection', 350), Node(clock, 'segmentation', 10)
    run = BagRun([slow, fast], clock)
    moments = list(run.realtime(frames(range(5))))
    assert fast.seen == [0, 1, 2, 3, 4]
    assert [None if m.answers.mask is None else int(m.answers.mask[0, 0]) for m in moments] == [
        None, 0, 1, 2, 3]
    assert found_in(moments) == [None, None, None, None, 0]


def test_in_real_time_a_node_waits_for_what_it_works_on():
    """The second node gets a frame when the first is done with it: 30 + 40 ms of age."""
    clock = Clock()
    first = Node(clock, 'detection', 30)
    second = Node(clock, 'segmentation', 40, ('image', 'detections'))
    run = BagRun([first, second], clock)
    list(run.realtime(frames(range(3))))
    assert second.seen == [0, 1, 2]
    assert run.logs['segmentation'].age_ms == [70.0] * 3


def test_frames_that_lack_something_are_counted_by_what():
    clock = Clock()
    node = Node(clock, 'detection', 1, ('image', 'depth'))
    run = BagRun([node], clock)
    assert found_in(run.lockstep(frames(range(3), has_depth=False))) == [None] * 3
    assert run.logs['detection'].dropped == {'no_depth': 3}
    assert node.seen == []


def test_a_bad_frame_is_counted_and_said():
    clock = Clock()
    run = BagRun([Node(clock, 'detection', 1, fails_at=(1,))], clock)
    assert found_in(run.lockstep(frames(range(3)))) == [0, None, 2]
    log = run.logs['detection']
    assert (log.processed, log.failed) == (2, 1)
    assert log.problems == {'frame 1 is bad': 1}


def test_nodes_forget_when_time_jumps_back():
    clock = Clock()
    node = Node(clock, 'detection', 1)
    list(BagRun([node], clock).lockstep(frames([10, 11, 12, 0, 1])))
    assert node.resets == 1
