"""Who is who from image to image, in scenes whose answer is known."""

import numpy as np
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.tracking import ObjectTracker, TrackingParams
from perception_nodes.core.types import Detections
import pytest

PERIOD_NS = 100_000_000
START_NS = 1_700_000_000_000_000_000


def found(*boxes):
    """Return detections of (x, y, width, height, score, class id), cut short from the right."""
    rows = [(*box, *(40, 80, 0.9, 1)[len(box) - 2:]) for box in boxes]
    table = np.array(rows, np.float64).reshape(-1, 6)
    corners = np.hstack([table[:, :2] - table[:, 2:4] / 2, table[:, :2] + table[:, 2:4] / 2])
    return Detections(
        corners.astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


class Film:
    """A tracker that is shown one image after the other."""

    def __init__(self, period_ns=PERIOD_NS, **params):
        self.tracker = ObjectTracker(TrackingParams(track=True, **params))
        self.stamp_ns, self.period_ns = START_NS, period_ns

    def show(self, *boxes, confident=None):
        """Return the ids of what is seen in the next image."""
        self.stamp_ns += self.period_ns
        if confident is not None:
            confident = np.array(confident, bool)
        return self.tracker.step(found(*boxes), self.stamp_ns, confident).object_ids.tolist()


@pytest.mark.parametrize('period_ms', [33, 100, 200])
def test_objects_that_cross_keep_their_ids(period_ms):
    """Two walk through each other; while they overlap a detector sees the nearer one alone."""
    film = Film(period_ms * 1_000_000)
    times_s = np.arange(0.0, 6.0, period_ms * 1e-3)
    seen = []
    for t in times_s:
        a, b = (100 + 60 * t, 200), (460 - 60 * t, 200, 36, 70)
        seen.append(film.show(a) if abs(a[0] - b[0]) < 16 else film.show(a, b))
    assert seen[0] == [1, 2]
    assert {tuple(ids) for ids in seen} == {(1, 2), (1,)}


def test_an_object_behind_something_keeps_its_id_while_it_is_remembered():
    """Nine images without it are within a second, twelve are not."""
    film = Film(track_memory_s=1.0)
    for k in range(10):
        assert film.show((100 + 5 * k, 200)) == [1]
    for _ in range(9):
        assert film.show() == []
    assert film.show((195, 200)) == [1]  # where it has walked to meanwhile
    for _ in range(12):
        film.show()
    assert film.show((200, 200)) == [2]


def test_images_without_objects_age_tracks_out_by_their_stamps():
    """One empty image a long time later is as good as many, and so is none at all."""
    film = Film(track_memory_s=0.5)
    assert [film.show((100, 200)), film.show((100, 200))] == [[1], [1]]
    film.stamp_ns += 400_000_000
    assert film.show() == []
    assert film.show((100, 200)) == [2]
    film.show((100, 200))
    film.stamp_ns += 500_000_000
    assert film.show((100, 200)) == [3]


def test_what_was_seen_only_once_is_not_remembered():
    """A flicker that comes back is something else."""
    film = Film()
    assert film.show((100, 200)) == [1]
    assert film.show() == []
    assert film.show((100, 200)) == [2]


@pytest.mark.parametrize('how', ['reset', 'stamps'])
def test_a_jump_of_time_begins_anew_and_ids_go_on(how):
    """No id is given twice, told of the jump or not."""
    film = Film()
    for _ in range(3):
        assert film.show((100, 200), (300, 200)) == [1, 2]
    if how == 'reset':
        film.tracker.reset()
    else:
        film.stamp_ns = START_NS - 3_000_000_000
    assert film.show((100, 200), (300, 200)) == [3, 4]


def test_an_image_that_comes_late_is_no_jump():
    """Stamps that are a little out of order, or equal, neither reset nor break anything."""
    film = Film()
    film.show((100, 200))
    film.show((100, 200))
    film.stamp_ns -= 2 * PERIOD_NS
    assert film.show((100, 200)) == [1]
    film.stamp_ns -= PERIOD_NS
    assert film.show((100, 200)) == [1]


def test_classes_are_told_apart():
    """Where a cup stood stands a bottle: it has another id, and the cup's is kept for it."""
    film = Film()
    for _ in range(2):
        assert film.show((100, 200, 40, 80, 0.9, 1)) == [1]
    assert film.show((100, 200, 40, 80, 0.9, 2)) == [2]
    assert film.show((100, 200, 40, 80, 0.9, 2), (100, 200, 40, 80, 0.9, 1)) == [2, 1]


def test_weak_boxes_continue_tracks_and_begin_none():
    """They come back only where somebody was in the image before."""
    film = Film()
    assert film.show((100, 200), (300, 200, 40, 80, 0.2), confident=[True, False]) == [1]
    film.show((100, 200))
    film.show((100, 200, 40, 80, 0.2), confident=[False])
    step = film.tracker.step(
        found((104, 200, 40, 80, 0.2), (300, 200, 40, 80, 0.2)), film.stamp_ns + PERIOD_NS,
        np.zeros(2, bool))
    assert step.object_ids.tolist() == [1]
    assert step.boxes_xyxy[0].tolist() == [84.0, 160.0, 124.0, 240.0]
    film.stamp_ns += PERIOD_NS
    assert film.show() == []
    assert film.show((104, 200, 40, 80, 0.2), confident=[False]) == []  # lost: too weak to return
    assert film.show((104, 200)) == [1]


def test_order_masks_and_what_else_is_known_stay():
    """The tracker only adds ids, whatever the order in which boxes come."""
    rng = np.random.default_rng(5)
    places = rng.permutation(20)
    film = Film()
    first = film.show(*((60.0 * i, 100.0) for i in range(20)))
    assert first == list(range(1, 21))
    moved = found(*((60.0 * i + 4.0, 100.0) for i in places))
    step = film.tracker.step(moved, film.stamp_ns + PERIOD_NS)
    assert step.object_ids.tolist() == (places + 1).tolist()
    assert (step.boxes_xyxy == moved.boxes_xyxy).all()
    assert (step.scores == moved.scores).all()


def test_the_same_images_give_the_same_ids():
    """Objects that come, go, jitter and change class, twice."""
    def story():
        rng = np.random.default_rng(3)
        film = Film()
        return [film.show(*(
            (x, y, 40, 80, 0.9, int(c)) for x, y, c in zip(
                rng.uniform(0, 200, 8), rng.uniform(0, 200, 8), rng.integers(0, 3, 8),
                strict=True))) for _ in range(50)]
    assert story() == story()


@pytest.mark.parametrize('turn_px_per_s', [150.0, 300.0])
def test_a_turning_robot_keeps_the_ids_of_what_it_passes(turn_px_per_s):
    """Everything moves at once, faster than the boxes are wide from one image to the next."""
    film = Film()
    for k in range(12):
        shift = turn_px_per_s * (k * 0.1) ** 2 / 2.0  # speeds up
        assert film.show((200 - shift, 150), (330 - shift, 160), (470 - shift, 150)) == [1, 2, 3]


def test_boxes_without_size_and_outside_the_image_do_no_harm():
    film = Film()
    for _ in range(3):
        ids = film.show((0, 0, 0, 0), (100, 200), (-50, -50, 10, 10))
    assert ids[1:] == [2, 3]
    assert len(set(ids)) == 3


class Fixed:
    """A model that finds the same boxes in every frame."""

    class_names = {1: 'person', 2: 'cup'}
    needs_suppression = False

    def predict(self, frames):
        return [found(*((100 + 60 * i, 60, 20, 20, s, c) for i, (s, c) in enumerate(
            [(0.9, 1), (0.45, 1), (0.35, 1), (0.9, 2), (0.45, 2)]))) for _ in frames]


@pytest.mark.parametrize(('weak_score', 'scores'), [(1.0, [0.9]), (0.4, [0.9, 0.45])])
def test_weak_boxes_are_found_only_for_trackers_and_only_of_wanted_classes(weak_score, scores):
    params = DetectionParams(score_threshold=0.5, classes=('person',))
    detector = ObjectDetector(Fixed(), params, weak_score)
    boxes, = detector.detect([np.zeros((120, 500, 3), np.uint8)])
    assert boxes.scores.tolist() == pytest.approx(scores)
    assert set(boxes.class_ids.tolist()) == {1}
    assert detector.is_confident(boxes).tolist() == [score >= 0.5 for score in scores]


def test_a_threshold_below_the_weak_score_is_kept():
    params = DetectionParams(class_score_thresholds=('cup=0.1',), classes=('cup',))
    boxes, = ObjectDetector(Fixed(), params, 0.6).detect([np.zeros((120, 500, 3), np.uint8)])
    assert boxes.scores.tolist() == pytest.approx([0.9, 0.45])
