"""The rectangle metric on rectangles whose overlap anyone can compute."""

import math

import numpy as np
from perception_nodes.evaluation.grasp_rectangles import (
    accuracy,
    GraspRectangle,
    is_correct,
    overlap,
    read_cornell,
    turned_rad,
)
import pytest

TRUE = GraspRectangle(100.0, 80.0, 0.3, 60.0, 20.0)


def moved(along_px=0.0, turn_rad=0.0):
    return GraspRectangle(
        TRUE.column + along_px * math.cos(TRUE.angle_rad),
        TRUE.row + along_px * math.sin(TRUE.angle_rad), TRUE.angle_rad + turn_rad, 60.0, 20.0)


def test_corners_and_back():
    again = GraspRectangle.from_corners(TRUE.corners())
    assert again.corners() == pytest.approx(TRUE.corners())
    assert (again.opening_px, again.plate_px) == pytest.approx((60.0, 20.0))


@pytest.mark.parametrize(('along_px', 'iou'), [(0.0, 1.0), (20.0, 0.5), (60.0, 0.0)])
def test_overlap_of_a_rectangle_and_itself_moved(along_px, iou):
    assert overlap(TRUE, moved(along_px)) == pytest.approx(iou, abs=1e-3)


@pytest.mark.parametrize(('turn_deg', 'difference_deg'), [
    (0, 0), (29, 29), (180, 0), (-170, 10), (90, 90)])
def test_half_a_turn_is_the_same_grasp(turn_deg, difference_deg):
    found = turned_rad(TRUE, moved(turn_rad=math.radians(turn_deg)))
    assert math.degrees(found) == pytest.approx(difference_deg, abs=1e-6)


@pytest.mark.parametrize(('found', 'right'), [
    (moved(), True), (moved(35.0), True), (moved(37.0), False),
    (moved(turn_rad=math.radians(29)), True), (moved(turn_rad=math.radians(31)), False),
    (moved(turn_rad=math.pi), True)])
def test_thirty_degrees_and_a_quarter(found, right):
    """Moved by 35 px of 60 the overlap is 25/95 = 0.263, by 37 px it is 23/97 = 0.237."""
    assert is_correct(found, [TRUE]) is right
    assert is_correct(found, []) is False


def test_one_of_several_true_rectangles_is_enough():
    far = GraspRectangle(300.0, 300.0, 0.0, 60.0, 20.0)
    assert is_correct(moved(), [far, TRUE])
    assert accuracy([moved(), far, None], [[TRUE], [TRUE], [TRUE]]) == pytest.approx(1 / 3)


def test_cornell_files(tmp_path):
    """Four lines are a rectangle; one with a corner that is not a number is left out."""
    file = tmp_path / 'pcd0100cpos.txt'
    lines = [f'{x:.3f} {y:.3f} ' for x, y in TRUE.corners()]
    file.write_text('\n'.join([*lines, 'NaN NaN ', *lines[1:], '']))
    (found,) = read_cornell(file)
    assert found.corners() == pytest.approx(TRUE.corners(), abs=1e-2)
    assert is_correct(found, [TRUE])


@pytest.mark.parametrize('text', ['1 2\n3 4\n', '1 2 3\n' * 4, 'a b\n' * 4])
def test_other_files_are_refused_by_name(tmp_path, text):
    file = tmp_path / 'pcd0100cpos.txt'
    file.write_text(text)
    with pytest.raises(ValueError, match='pcd0100cpos'):
        read_cornell(file)


def test_no_corners_no_rectangle():
    with pytest.raises(ValueError, match='four corners'):
        GraspRectangle.from_corners(np.zeros((3, 2)))
