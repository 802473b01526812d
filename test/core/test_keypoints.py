"""Where in space key points are, of a depth image that is known."""

from dataclasses import replace

import numpy as np
from perception_nodes.core.detection import DetectionParams
from perception_nodes.core.detection_3d import Detection3DParams
from perception_nodes.core.geometry import project
from perception_nodes.core.instances import detector_for
from perception_nodes.core.keypoints import (
    COCO_KEYPOINTS,
    keypoint_names,
    locate_keypoints,
    skeleton,
)
from perception_nodes.core.overlay import draw_detections
from perception_nodes.core.types import CameraIntrinsics, Detections, RgbdFrame
import pytest

BENT = CameraIntrinsics(160, 120, 150.0, 150.0, 80.0, 60.0, (-0.2, 0.05, 0.001, -0.001, 0.0))
PARAMS = Detection3DParams()


def frame(depth_m, intrinsics=BENT):
    return RgbdFrame(np.zeros((*depth_m.shape, 3), np.uint8), 0, 'camera', depth_m, intrinsics)


def at(*places):
    """Return the key points of one object, all seen well."""
    return np.array([[[x, y, 0.9] for x, y in places]], np.float32)


def test_points_on_a_wall_come_back_to_where_they_are():
    """Projected by a lens that bends, in the boxes' pixels, and located again."""
    truth = np.array([[0.3, -0.2, 2.0], [-0.5, 0.4, 2.0], [0.0, 0.0, 2.0]])
    pixels = project(truth, BENT) + 0.5
    found = locate_keypoints(
        at(*pixels), frame(np.full((120, 160), 2.0, np.float32)), PARAMS)
    assert found.shape == (1, 3, 3)
    np.testing.assert_allclose(found[0], truth, atol=1e-4)


def test_depth_is_the_median_of_what_can_be_read_around():
    """Single wrong readings and holes do no harm; nothing in range is nothing known."""
    depth_m = np.full((120, 160), 1.5, np.float32)
    depth_m[60:62, 80:82] = np.nan
    depth_m[59, 80:83] = (9.0, 0.0, 4.0)
    depth_m[:20] = 20.0
    keypoints = at((80.5, 60.5), (50.0, 5.0), (-30.0, 60.0), (900.0, 60.0), (np.nan, np.nan),
                   (0.2, 119.9))
    found = locate_keypoints(keypoints, frame(depth_m), PARAMS)[0]
    assert found[0] == pytest.approx([0.0, 0.0, 1.5])
    assert np.isnan(found[1:5]).all()
    assert found[5, 2] == 1.5
    nobody = locate_keypoints(np.empty((0, 17, 3), np.float32), frame(depth_m), PARAMS)
    assert nobody.shape == (0, 17, 3)


def test_what_is_missing_is_named():
    """Depth, or the lens."""
    whole = frame(np.ones((120, 160), np.float32))
    with pytest.raises(ValueError, match="need a depth image, and the frame of 'camera' has none"):
        locate_keypoints(at((1, 1)), replace(whole, depth_m=None), PARAMS)
    with pytest.raises(ValueError, match='need a camera_info'):
        locate_keypoints(at((1, 1)), replace(whole, intrinsics=None), PARAMS)


def test_names_and_bones_are_cocos_where_there_are_seventeen():
    """And every bone joins two different points."""
    assert keypoint_names(17) == COCO_KEYPOINTS
    assert keypoint_names(2) == ('keypoint_0', 'keypoint_1')
    assert skeleton(5) == ()
    names = {frozenset((COCO_KEYPOINTS[a], COCO_KEYPOINTS[b])) for a, b in skeleton(17)}
    assert len(names) == 19
    assert frozenset(('left_elbow', 'left_wrist')) in names
    assert {k for pair in skeleton(17) for k in pair} == set(range(17))


def test_weak_points_are_not_seen_and_not_drawn():
    """The threshold may change while running."""
    person = np.zeros((1, 17, 3), np.float32)
    person[0, :, 0], person[0, :, 1] = np.linspace(20, 140, 17), 60
    person[0, :, 2] = np.linspace(0.0, 1.0, 17)

    class PersonModel:
        class_names, needs_suppression, has_masks, keypoints = {1: 'person'}, False, False, 17

        def predict_instances(self, frames, select):
            return [Detections(
                np.array([[10, 10, 150, 110]], np.float32), np.ones(1, np.float32),
                np.ones(1, np.int64), keypoints=person) for _ in frames]

    dark = np.zeros((120, 160, 3), np.uint8)
    detector = detector_for('instances', PersonModel(), DetectionParams())
    assert (detector.gives_masks, detector.gives_keypoints) == (False, True)
    found, = detector.detect([dark])
    assert np.isfinite(found.keypoints[0, :, 0]).tolist() == [False] * 8 + [True] * 9
    np.testing.assert_array_equal(found.keypoints[..., 2], person[..., 2])
    assert np.isfinite(person).all()
    picture = draw_detections(dark, found, detector.model.class_names)
    assert picture[60, int(person[0, 12, 0])].any()
    assert not picture[60, int(person[0, 2, 0])].any()
    detector.params = DetectionParams(keypoint_score_threshold=0.99)
    assert np.isfinite(detector.detect([dark])[0].keypoints[0, :, 0]).sum() == 1
