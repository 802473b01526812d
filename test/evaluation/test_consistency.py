"""What results say about themselves, in sequences whose answers are known."""

import math

import numpy as np
from perception_nodes.core.types import CameraIntrinsics, Detections, Detections3D
from perception_nodes.evaluation.consistency import (
    BoxConsistency,
    edge_agreement,
    MaskConsistency,
    projected_boxes,
    reprojection_iou,
)
import pytest

PERIOD_NS = 100_000_000


def follow(frames, period_ns=PERIOD_NS, object_ids=None):
    """Show frames, each a list of (left, class id) of 20 pixel squares."""
    consistency = BoxConsistency()
    for n, squares in enumerate(frames):
        consistency.add(n * period_ns, Detections(
            np.array([(x, 0, x + 20, 20) for x, _ in squares], np.float32).reshape(-1, 4),
            np.ones(len(squares), np.float32), np.array([c for _, c in squares], np.int64),
            None if object_ids is None else np.array(object_ids[n], np.int64)))
    return consistency


def test_steady_boxes_do_not_flicker():
    values = follow([[(0, 1), (50, 1)], [(2, 1), (52, 1)], [(4, 1), (54, 1)]]).values()
    assert (values['box_flicker'], values['tracks'], values['track_fragments']) == (0.0, 2.0, 0.0)
    assert values['track_length_s_p50'] == pytest.approx(0.2)


def test_a_box_that_is_missing_between_flickers():
    """
    One of two objects is missing in the third frame of five, and its track begins anew.

    Seen on both sides of a frame are, about frames 1, 2 and 3: one, two and one.
    """
    frames = [[(0, 1), (50, 1)] for _ in range(5)]
    frames[2] = [(0, 1)]
    values = follow(frames).values()
    assert values['box_flicker'] == pytest.approx(1 / 4)
    assert (values['tracks'], values['track_fragments']) == (3.0, 1.0)


def test_another_class_is_another_object():
    values = follow([[(0, 1)], [(0, 2)], [(0, 1)]]).values()
    assert values['box_flicker'] == 1.0
    assert values['tracks'] == 3.0


def test_frames_far_apart_are_not_compared():
    values = follow([[(0, 1)], [], [(0, 1)]], period_ns=1_000_000_000).values()
    assert math.isnan(values['box_flicker'])
    assert values['track_fragments'] == 0.0


def test_the_numbers_of_a_tracker_are_taken():
    consistency = follow([[(0, 1)], [(60, 1)], [(0, 1)]], object_ids=[[4], [4], [5]])
    assert consistency.is_tracked
    values = consistency.values()
    assert values['tracks'] == 2.0
    assert values['track_fragments'] == 0.0  # number 5 begins elsewhere than 4 has ended


def test_pixels_that_change_and_change_back_flicker():
    consistency = MaskConsistency()
    for n, value in enumerate((0, 1, 0, 0)):
        ids = np.zeros((10, 10), np.uint8)
        ids[:, :5] = value
        consistency.add(n * PERIOD_NS, ids, None)
    assert consistency.values()['mask_flicker'] == pytest.approx((0.5 + 0.0) / 2)


def test_a_mask_along_the_edge_of_a_box():
    """A near square before a far wall: class edges lie on the jump, or ten pixels beside it."""
    depth_m = np.full((80, 80), 3.0, np.float32)
    depth_m[20:60, 20:60] = 1.0
    right, wrong = np.zeros((2, 80, 80), np.uint8)
    right[20:60, 20:60] = 1
    wrong[10:70, 10:70] = 1
    assert edge_agreement(right, depth_m) == (1.0, 1.0)
    assert edge_agreement(wrong, depth_m) == (0.0, 0.0)


def test_holes_beside_an_edge_are_what_is_behind():
    depth_m = np.full((80, 80), 3.0, np.float32)
    depth_m[20:60, 20:60] = 1.0
    depth_m[20:60, 17:20] = np.nan  # what the second eye of a stereo camera cannot see
    ids = np.zeros((80, 80), np.uint8)
    ids[20:60, 20:60] = 1
    assert edge_agreement(ids, depth_m) == (1.0, 1.0)


def test_a_leaning_plane_has_no_edges():
    """A floor that runs to the horizon jumps nowhere, however large the steps of depth are."""
    rows = np.arange(1.0, 81.0)
    depth_m = np.repeat((60.0 / rows).astype(np.float32)[:, None], 80, axis=1)
    ids = np.zeros((80, 80), np.uint8)
    ids[:, 40:] = 1
    on_depth, on_mask = edge_agreement(ids, depth_m)
    assert on_depth == 0.0
    assert math.isnan(on_mask)


def test_a_box_in_space_projects_onto_its_2d_box():
    """A cube of 1 m, its front 2 m away: 100 pixels wide at a focal length of 200 pixels."""
    lens = CameraIntrinsics(320, 240, 200.0, 200.0, 159.5, 119.5)
    cube = Detections3D(
        np.array([[0.0, 0.0, 2.5], [0.0, 0.0, 2.5]]), np.tile(np.eye(3), (2, 1, 1)),
        np.ones((2, 3)), np.zeros((2, 6, 6)), np.ones(2, np.float32), np.zeros(2, np.int64),
        np.array([0, 1]), ('depth',) * 2)
    found = Detections(
        np.array([[110, 70, 210, 170], [110, 70, 160, 170]], np.float32),
        np.ones(2, np.float32), np.zeros(2, np.int64))
    projected = projected_boxes(cube, lens)
    assert projected[0] == pytest.approx([110.0, 70.0, 210.0, 170.0])
    assert reprojection_iou(found, cube, projected) == pytest.approx([1.0, 0.5], abs=1e-6)


def test_a_box_about_the_camera_does_not_project():
    around = Detections3D(
        np.zeros((1, 3)), np.eye(3)[None], np.ones((1, 3)), np.zeros((1, 6, 6)),
        np.ones(1, np.float32), np.zeros(1, np.int64), np.array([0]), ('depth',))
    found = Detections(
        np.array([[0, 0, 9, 9]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
    projected = projected_boxes(around, CameraIntrinsics(320, 240, 200.0, 200.0, 159.5, 119.5))
    assert np.isnan(projected).all()
    assert reprojection_iou(found, around, projected).tolist() == [0.0]
