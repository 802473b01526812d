"""Frames, intrinsics and detections refuse what does not fit together."""

import math

import numpy as np
from perception_nodes.core.types import CameraIntrinsics, Detections, RgbdFrame
import pytest

RGB = np.zeros((4, 6, 3), np.uint8)


def test_field_of_view_gives_the_focal_length():
    """At 90 degrees the focal length is half the width, and the centre is the middle pixel."""
    k = CameraIntrinsics.from_fov(640, 480, 90.0)
    assert (k.fx, k.fy) == pytest.approx((320.0, 320.0))
    assert (k.cx, k.cy) == (319.5, 239.5)
    assert k.matrix[0].tolist() == pytest.approx([320.0, 0.0, 319.5])


@pytest.mark.parametrize('values', [
    (0, 480, 1.0, 1.0), (640, 480, 0.0, 1.0), (640, 480, 1.0, math.nan), (640, -1, 1.0, 1.0)])
def test_impossible_intrinsics_are_refused(values):
    """Sizes and focal lengths must be positive numbers."""
    with pytest.raises(ValueError, match='must be positive'):
        CameraIntrinsics(*values, 3.0, 2.0)


@pytest.mark.parametrize(('principal', 'distortion'), [
    ((math.nan, 2.0), ()), ((3.0, -math.inf), ()), ((3.0, 2.0), (0.1, math.nan, 0.0, 0.0, 0.0))])
def test_a_calibration_that_failed_is_refused(principal, distortion):
    """Rays through such a lens lead nowhere: a map of them stayed empty without a word."""
    with pytest.raises(ValueError, match='all must be finite: calibrate the camera again'):
        CameraIntrinsics(640, 480, 500.0, 500.0, *principal, distortion)


def test_field_of_view_must_be_an_opening():
    """A camera sees less than a half plane."""
    with pytest.raises(ValueError, match='180.0 degrees'):
        CameraIntrinsics.from_fov(640, 480, 180.0)


def test_depth_must_match_the_colour_image():
    """Depth of another size is refused, not stretched."""
    with pytest.raises(ValueError, match='registered to the colour image'):
        RgbdFrame(RGB, 0, 'camera', depth_m=np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match='float64'):
        RgbdFrame(RGB, 0, 'camera', depth_m=np.zeros((4, 6)))


def test_colour_must_be_rgb_bytes():
    """A grey image is no colour image."""
    with pytest.raises(ValueError, match='expected \\(H, W, 3\\) uint8'):
        RgbdFrame(RGB[..., 0], 0, 'camera')


def test_indexing_detections_filters_them():
    """A mask and an order apply to all three arrays."""
    boxes = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = Detections(boxes, np.array([0.1, 0.9, 0.5], np.float32), np.array([7, 8, 9]))
    assert found[found.scores > 0.4].class_ids.tolist() == [8, 9]
    assert found[[2, 0]].boxes_xyxy[0].tolist() == [8, 9, 10, 11]
    assert len(Detections.empty()) == 0


def test_detections_of_unequal_length_are_refused():
    """Each box has one score and one class."""
    with pytest.raises(ValueError, match='shapes'):
        Detections(np.zeros((2, 4), np.float32), np.zeros(1, np.float32), np.zeros(2, np.int64))
