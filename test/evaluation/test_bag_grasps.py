"""Grasps as rectangles in the image, against labels."""

from types import SimpleNamespace

import numpy as np
from perception_nodes.core.types import CameraIntrinsics, GraspCandidates, RgbdFrame
from perception_nodes.evaluation.bag_grasps import GraspPart, read_grasp_labels, rectangle_of
from perception_nodes.evaluation.bag_scores import Place
import pytest

LENS = CameraIntrinsics(320, 240, 200.0, 200.0, 159.5, 119.5)


def grasp(x_m=0.0, turn_rad=0.0, opening_m=0.1):
    """Return one grasp from above, 1 m away, that closes along the image's x axis, or turned."""
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    pose = np.eye(4)
    pose[:3, 1], pose[:3, 0] = (c, s, 0.0), (s, -c, 0.0)  # closing, across; approach along z
    pose[:3, 3] = x_m, 0.0, 1.0
    return GraspCandidates(
        pose[None], np.array([opening_m], np.float32), np.ones(1, np.float32), np.array([-1]))


def test_a_grasp_becomes_its_rectangle():
    """At 1 m and 200 pixels, an opening of 10 cm is 20 pixels and a finger of 2 cm is 4."""
    found = rectangle_of(grasp(turn_rad=0.5), 0, 0.02, LENS)
    assert (found.column, found.row) == pytest.approx((159.5, 119.5))
    assert (found.opening_px, found.plate_px) == pytest.approx((20.0, 4.0))
    assert (found.angle_rad - 0.5) % np.pi == pytest.approx(0.0, abs=1e-6)


def write_label(folder, stamp_ns, found):
    (folder / f'{stamp_ns}cpos.txt').write_text(
        ''.join(f'{x} {y}\n' for x, y in found.corners()))


def test_the_share_of_right_grasps(tmp_path):
    """Of three labelled frames one grasp is right, one is turned by half a right angle, one is
    missing; a frame without labels does not count."""
    label = rectangle_of(grasp(), 0, 0.02, LENS)
    for n in range(3):
        write_label(tmp_path, n * 10**9, label)
    part = GraspPart('grasp', read_grasp_labels(tmp_path), 0.02, 10**6)
    answers = [grasp(), grasp(turn_rad=np.pi / 4), None, grasp()]
    frame = RgbdFrame(np.zeros((240, 320, 3), np.uint8), 0, 'camera', None, LENS)
    for n, found in enumerate(answers):
        part.add(Place(n * 10**9, n * 10**9, 0, frame),
                 SimpleNamespace(answers=SimpleNamespace(grasps=found)))
    values = part.finish(0).values
    assert values['grasp_rectangle_accuracy'] == pytest.approx(1 / 3)
    assert values['grasp_labelled_frames'] == 3


def test_labels_that_are_none_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match='STAMP_NScpos.txt'):
        read_grasp_labels(tmp_path)
    (tmp_path / 'pcd0100cpos.txt').write_text('1 2\n')
    with pytest.raises(ValueError, match='pcd0100cpos.txt is not named by a stamp'):
        read_grasp_labels(tmp_path)


def test_labels_of_another_bag_are_said(tmp_path):
    write_label(tmp_path, 5, rectangle_of(grasp(), 0, 0.02, LENS))
    part = GraspPart('grasp', read_grasp_labels(tmp_path), 0.02, 1)
    assert 'not one of 1 labelled frames' in part.finish(0).sentences[0]
