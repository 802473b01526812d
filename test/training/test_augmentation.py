"""Pictures and their labels go through the same step."""

import numpy as np
from perception_nodes.evaluation.metrics import BoxLabels
from perception_nodes.training.augmentation import (
    cut_out,
    GREY,
    mix,
    random_view,
    recolour,
    Strength,
    STRENGTHS,
    VOID,
    warp_boxes,
    warp_mask,
    warp_picture,
)
import pytest

AS_IT_IS = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def labels(*boxes):
    n = len(boxes)
    return BoxLabels(np.array(boxes, np.float32).reshape(n, 4), np.arange(n), np.zeros(n, bool))


def picture_of(box, size=(80, 60)):
    """Return a black picture with a white rectangle where the box is."""
    rgb = np.zeros((size[1], size[0], 3), np.uint8)
    left, top, right, bottom = box
    rgb[top:bottom, left:right] = 255
    return rgb


def test_no_strength_changes_nothing():
    rng = np.random.default_rng(0)
    rgb = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    matrix = random_view((80, 60), AS_IT_IS, (80, 60), STRENGTHS['none'], rng)
    np.testing.assert_array_equal(matrix, AS_IT_IS)
    np.testing.assert_array_equal(warp_picture(rgb, matrix, (80, 60)), rgb)
    np.testing.assert_array_equal(warp_mask(rgb[..., 0], matrix, (80, 60)), rgb[..., 0])
    np.testing.assert_array_equal(recolour(rgb, STRENGTHS['none'], rng), rgb)
    np.testing.assert_array_equal(cut_out(rgb, STRENGTHS['none'], rng), rgb)
    boxes = labels((10, 20, 30, 45))
    np.testing.assert_array_equal(
        warp_boxes(boxes, matrix, (80, 60)).boxes_xyxy, boxes.boxes_xyxy)


def test_without_change_a_letterbox_stays_where_the_manifest_puts_it():
    placed = np.array([[0.5, 0.0, 0.0], [0.0, 0.5, 15.0]])
    matrix = random_view(
        (80, 60), placed, (40, 60), STRENGTHS['none'], np.random.default_rng(0))
    np.testing.assert_allclose(matrix, placed)


def test_a_flip_mirrors_whole_pixels():
    matrix = random_view((80, 60), AS_IT_IS, (80, 60), Strength(flip=1.0),
                         np.random.default_rng(0))
    rgb = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)
    np.testing.assert_array_equal(warp_picture(rgb, matrix, (80, 60)), rgb[:, ::-1])
    assert warp_boxes(labels((10, 20, 30, 45)), matrix, (80, 60)).boxes_xyxy.tolist() == [
        [50, 20, 70, 45]]


@pytest.mark.parametrize('seed', range(20))
def test_boxes_and_masks_follow_the_pixels(seed):
    """The white rectangle is where its box says, whatever was drawn."""
    rng = np.random.default_rng(seed)
    box = (24, 18, 52, 40)
    matrix = random_view((80, 60), AS_IT_IS, (96, 64), STRENGTHS['strong'], rng)
    moved = warp_boxes(labels(box), matrix, (96, 64))
    rgb = warp_picture(picture_of(box), matrix, (96, 64))
    mask = warp_mask((picture_of(box)[..., 0] > 0).astype(np.uint8), matrix, (96, 64))
    inside = np.argwhere((rgb[..., 0] > 127) & (mask != VOID) & (rgb[..., 0] != GREY))
    assert len(moved) == 1 and len(inside)
    (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
    np.testing.assert_allclose(moved.boxes_xyxy[0], (left, top, right, bottom), atol=1.01)
    by_mask = np.argwhere(mask == 1)
    np.testing.assert_allclose(by_mask.min(0), inside.min(0), atol=1)
    np.testing.assert_allclose(by_mask.max(0), inside.max(0), atol=1)


def test_outside_is_grey_and_void():
    half = np.array([[0.5, 0.0, 20.0], [0.0, 0.5, 0.0]])
    rgb, mask = picture_of((0, 0, 80, 60)), np.zeros((60, 80), np.uint8)
    assert (warp_picture(rgb, half, (80, 60))[:, :19] == GREY).all()
    assert (warp_mask(mask, half, (80, 60))[31:] == VOID).all()
    assert (warp_mask(mask, half, (80, 60))[:30, 20:60] == 0).all()


def test_what_is_cut_off_is_ignored_and_what_is_gone_is_gone():
    to_the_left = np.array([[1.0, 0.0, -20.0], [0.0, 1.0, 0.0]])
    boxes = labels((0, 0, 10, 10), (10, 0, 30, 10), (11, 0, 22, 10), (40, 0, 41, 10))
    moved = warp_boxes(boxes, to_the_left, (60, 60))
    assert moved.class_ids.tolist() == [1, 2, 3]
    assert moved.boxes_xyxy.tolist() == [[0, 0, 10, 10], [0, 0, 2, 10], [20, 0, 21, 10]]
    # half of it is left; a fifth; it is a pixel wide
    assert moved.ignored.tolist() == [False, True, True]


def test_no_boxes_stay_no_boxes():
    assert len(warp_boxes(labels(), AS_IT_IS, (60, 60))) == 0


def test_other_light_keeps_grey_grey_and_the_order_of_brightness():
    ramp = np.arange(0, 256, 5, np.uint8)[None, :, None].repeat(3, 2)
    for seed in range(10):
        changed = recolour(ramp, STRENGTHS['strong'], np.random.default_rng(seed))
        assert np.ptp(changed.astype(int), axis=2).max() <= 1
        assert (np.diff(changed[0, :, 0].astype(int)) >= 0).all()


def test_red_stays_red_and_can_get_pale():
    red = np.full((4, 4, 3), (255, 0, 0), np.uint8)
    found = [recolour(red, Strength(saturation=0.5), np.random.default_rng(s))[0, 0].tolist()
             for s in range(20)]
    assert all(r == 255 and g == b for r, g, b in found)
    assert min(g for _, g, _ in found) == 0 < max(g for _, g, _ in found)


def test_cutouts_leave_the_original_alone():
    rgb = picture_of((0, 0, 80, 60))
    covered = [cut_out(rgb, Strength(cutouts=2), np.random.default_rng(s)) for s in range(40)]
    assert (rgb == 255).all()
    shares = [np.mean(result[..., 0] == GREY) for result in covered]
    assert min(shares) == 0.0 < max(shares) < 2.0 / 9.0


def test_mixed_pictures_have_the_boxes_of_both():
    rgb, both = mix((picture_of((0, 0, 80, 60)), labels((1, 2, 3, 4))),
                    (picture_of((0, 0, 0, 0)), labels((5, 6, 7, 8), (0, 0, 9, 9))))
    assert (rgb == 128).all()
    assert both.boxes_xyxy.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 9, 9]]
    assert both.class_ids.tolist() == [0, 0, 1]


def test_the_same_seed_gives_the_same_view():
    one, two = (random_view((80, 60), AS_IT_IS, (96, 64), STRENGTHS['strong'],
                            np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
