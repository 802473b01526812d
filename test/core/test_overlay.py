"""Pictures with a known answer: where colour must be, and where it must not."""

import itertools

import cv2
import numpy as np
from perception_nodes.core.overlay import (
    blend_mask,
    colour_of,
    colourise_depth,
    colourise_mask,
    draw_detections,
    draw_mask,
    draw_occupancy,
)
from perception_nodes.core.types import Detections
import pytest

GREY = 128
NAMES = {0: 'person', 3: 'chair'}


def grey(width, height):
    picture = np.full((height, width, 3), GREY, np.uint8)
    picture.flags.writeable = False
    return picture


def boxes(*rows, scores=None, class_ids=None):
    n = len(rows)
    return Detections(
        np.array(rows, np.float32).reshape(n, 4),
        np.array(scores or [0.9] * n, np.float32),
        np.array(class_ids or [0] * n, np.int64))


def changed_area(before, after):
    rows, columns = np.nonzero((before != after).any(axis=2))
    return columns.min(), rows.min(), columns.max(), rows.max()


def test_box_edges_lie_on_the_given_pixels_in_the_colour_of_the_class():
    rgb = grey(320, 240)
    drawn = draw_detections(rgb, boxes((100, 80, 200, 160), class_ids=[3]), NAMES)
    assert drawn.shape == (240, 320, 3) and drawn.dtype == np.uint8
    for x, y in ((100, 120), (200, 120), (150, 160), (200, 160), (100, 160), (199, 80)):
        assert tuple(drawn[y, x]) == colour_of(3), (x, y)
    assert tuple(drawn[120, 150]) == (GREY,) * 3  # the object itself stays visible
    assert (rgb == GREY).all()


@pytest.mark.parametrize(('width', 'height', 'line_px'), [(320, 240, 1), (1920, 1080, 4)])
def test_lines_and_letters_grow_with_the_image(width, height, line_px):
    box = (0.25 * width, 0.5 * height, 0.5 * width, 0.9 * height)
    drawn = draw_detections(grey(width, height), boxes(box), NAMES)
    row = drawn[int(0.75 * height), : int(0.4 * width)]
    assert (row == colour_of(0)).all(axis=1).sum() == line_px
    above = drawn[: int(0.5 * height) - line_px, int(0.3 * width)]
    plate_px = int((above != GREY).any(axis=1).sum())
    assert plate_px >= 15  # capitals of at least 9 pixels
    assert plate_px < 0.1 * height


@pytest.mark.parametrize('box', [
    (2, 2, 30, 30), (-50, -40, 20, 20), (300, 220, 400, 300), (280, 0, 319, 239),
    (-1e9, -1e9, 1e9, 1e9)])
def test_label_stays_inside_the_image(box):
    drawn = draw_detections(grey(320, 240), boxes(box), NAMES)
    ink = colour_of(0)
    # the plate is the one place with a run of at least 20 pixels of ten rows or more
    plate = cv2.erode((drawn == ink).all(axis=2).astype(np.uint8), np.ones((2, 20)))
    assert plate.any()
    reference = draw_detections(grey(320, 240), boxes((100, 100, 200, 200)), NAMES)
    assert (drawn == ink).all(axis=2).sum() > 0
    assert label_pixels(drawn) == label_pixels(reference)


def label_pixels(picture):
    """Count the pixels of white text: equal counts mean that no letter was cut off."""
    count = int((picture > 200).all(axis=2).sum())
    assert count > 0
    return count


def test_too_long_a_name_is_cut_and_the_score_kept():
    names = {0: 'a very long name ' * 20}
    drawn = draw_detections(grey(320, 240), boxes((10, 100, 60, 160)), names)
    left, _, right, _ = changed_area(grey(320, 240), drawn)
    assert left >= 0 and right <= 319
    short = draw_detections(grey(320, 240), boxes((10, 100, 60, 160)), {0: 'a'})
    assert label_pixels(drawn) > label_pixels(short)


@pytest.mark.parametrize(
    'name', ['Stühle', '椅子', '🙂', '', 'two\nlines\x00', '\ud800', 'Ω' * 500])
def test_any_class_name_is_drawn(name):
    drawn = draw_detections(grey(160, 120), boxes((40, 60, 100, 110)), {0: name})
    assert tuple(drawn[110, 70]) == colour_of(0)


def test_unknown_class_is_shown_as_its_number():
    numbered = draw_detections(grey(320, 240), boxes((40, 60, 100, 110), class_ids=[7]), {})
    named = draw_detections(
        grey(320, 240), boxes((40, 60, 100, 110), class_ids=[7]), {7: 'id 7'})
    assert (numbered == named).all()


def test_object_number_stands_beside_the_name():
    one = boxes((40, 60, 100, 110))
    numbered = Detections(one.boxes_xyxy, one.scores, one.class_ids, np.array([12]))
    expected = draw_detections(grey(320, 240), one, {0: 'person #12'})
    assert (draw_detections(grey(320, 240), numbered, NAMES) == expected).all()


def test_boxes_that_cannot_be_drawn_leave_the_picture_alone():
    rgb = grey(320, 240)
    hopeless = boxes(
        (np.nan, 0, 10, 10), (0, 0, np.inf, 10), (400, 10, 500, 20), (10, -30, 20, -5))
    assert (draw_detections(rgb, hopeless, NAMES) == rgb).all()
    nothing = draw_detections(rgb, Detections.empty(), NAMES)
    assert (nothing == rgb).all() and not np.shares_memory(nothing, rgb)


def test_best_box_lies_on_top():
    same = ((50, 50, 150, 150), (50, 50, 150, 150))
    drawn = draw_detections(
        grey(320, 240), boxes(*same, scores=[0.9, 0.3], class_ids=[0, 3]), NAMES)
    assert tuple(drawn[150, 100]) == colour_of(0)


def test_tiny_pictures_are_drawn():
    assert draw_detections(grey(1, 1), boxes((0, 0, 1, 1)), NAMES).shape == (1, 1, 3)


def test_colours_of_the_first_classes_differ_for_every_eye():
    # Machado et al. 2009, severity 1
    eyes = {
        'normal': np.eye(3),
        'protan': [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
        'deutan': [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                   [-0.011820, 0.042940, 0.968881]],
        'tritan': [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]]}
    srgb = np.array([colour_of(i) for i in range(24)]) / 255.0
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    for eye, matrix in eyes.items():
        seen = np.clip(linear @ np.transpose(matrix), 0.0, 1.0).astype(np.float32)
        lab = cv2.cvtColor(seen[None], cv2.COLOR_LRGB2LAB)[0]
        nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))
        assert nearest > 10.0, eye
    assert colour_of(24) == colour_of(0)


def test_mask_is_painted_in_class_colours_and_void_stays_clear():
    ids = np.array([[0, 3], [255, 21]], np.uint8)
    painted = colourise_mask(ids)
    assert tuple(painted[0, 0]) == colour_of(0)
    assert tuple(painted[0, 1]) == colour_of(3)
    assert tuple(painted[1, 0]) == (0, 0, 0)
    wide = colourise_mask(np.array([[0, 65535]], np.uint16), transparent=0)
    assert tuple(wide[0, 0]) == (0, 0, 0) and tuple(wide[0, 1]) == colour_of(65535)


def test_blended_mask_lets_the_picture_through():
    rgb = grey(4, 2)
    ids = np.array([[3, 255]], np.uint8)  # half the height, half the width of the picture
    mixed = blend_mask(rgb, ids, opacity=0.5)
    expected = (GREY + np.array(colour_of(3))) / 2
    assert np.abs(mixed[:, :2] - expected).max() <= 1
    assert (mixed[:, 2:] == GREY).all()
    assert (rgb == GREY).all()


def test_a_drawn_mask_names_each_class_where_it_is_widest():
    ids = np.full((120, 320), 3, np.uint8)
    ids[:, 200:] = 0
    ids[60:70, 20:30] = 7  # too small for a name
    ids[100:, 300:] = 255
    drawn = draw_mask(grey(320, 120), ids, NAMES)
    tinted = blend_mask(grey(320, 120), ids)
    assert (drawn[100:, 300:] == GREY).all()
    written = (drawn != tinted).any(axis=2)
    for class_id, half in ((3, np.s_[:, :200]), (0, np.s_[:, 200:])):
        assert (drawn[half] == colour_of(class_id)).all(axis=2).sum() > 200  # its plate
        assert 300 < written[half].sum() < 3000
    assert not (drawn == colour_of(7)).all(axis=2).any()


def test_the_background_of_a_drawn_mask_is_the_picture():
    ids = np.zeros((60, 80), np.uint16)
    ids[:, 40:] = 65535
    names = {0: 'background', 1: 'thing'}
    assert (draw_mask(grey(80, 60), ids, names) == GREY).all()


def test_a_map_is_drawn_with_y_up():
    """The first row of cells lies lowest; free is white, occupied black, unknown grey."""
    drawn = draw_occupancy(np.array([[0, 100], [-1, 50]], np.int8))
    assert drawn[1, 0].tolist() == [255] * 3 and drawn[1, 1].tolist() == [0] * 3
    assert drawn[0, 0].tolist() == [170] * 3 and drawn[0, 1, 0] == pytest.approx(127, abs=1)


def test_depth_runs_from_yellow_to_violet_and_no_reading_is_grey():
    depth_m = np.array([[0.0, 1.0, 3.0, 5.0, 9.0, np.inf, -np.inf, np.nan]], np.float32)
    painted = colourise_depth(depth_m, 1.0, 5.0)[0]
    near, far = painted[1], painted[3]
    assert near[0] > 200 and near[1] > 200 and near[2] < 80  # yellow
    assert far[1] < 20 and far[2] > far[1]  # violet
    assert (painted[0] == near).all() and (painted[6] == near).all()
    assert (painted[4] == far).all() and (painted[5] == far).all()
    assert near.astype(int).sum() > painted[2].astype(int).sum() > far.astype(int).sum()
    assert tuple(painted[7]) == (96, 96, 96)


def test_depth_scale_needs_a_range():
    with pytest.raises(ValueError, match='far must exceed near'):
        colourise_depth(np.ones((2, 2), np.float32), 2.0, 2.0)
