"""Objects on a plane: boxes of known size give their own pixels and their own extent."""

import numpy as np
from perception_nodes.core.geometry import up_in_camera
from perception_nodes.core.grasping import GraspContext, GraspParams, GraspPlanner
from perception_nodes.core.instances import instance_image
from perception_nodes.core.types import CameraIntrinsics, Detections, RgbdFrame
import pytest

CAMERA = CameraIntrinsics.from_fov(320, 240, 60.0)
# 0.6 m above the origin of the table, looking down: image x is the table's x, image y its -y
LEVEL_FROM_CAMERA = np.array(
    [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0.6], [0, 0, 0, 1]], np.float64)
CONTEXT = GraspContext(up=up_in_camera(LEVEL_FROM_CAMERA))
LEFT, RIGHT = np.s_[100:140, 80:140], np.s_[60:180, 200:260]


def scene():
    """Return the frame of a low block on the left and a high one on the right."""
    depth_m = np.full((240, 320), 0.6, np.float32)
    depth_m[LEFT], depth_m[RIGHT] = 0.56, 0.5
    return RgbdFrame(np.zeros((240, 320, 3), np.uint8), 1, 'camera', depth_m, CAMERA)


def found_in(frame, **more):
    context = GraspContext(up=CONTEXT.up, **more)
    return GraspPlanner(GraspParams()).propose(frame, context, with_objects=True)


def test_each_block_has_its_pixels():
    """The larger comes first; nearly all pixels are right, and none is of the table."""
    found = found_in(scene())
    assert found.objects.object_ids.tolist() == [1, 2]
    ids = instance_image(found.objects.masks, found.objects.scores)
    for number, part in ((1, RIGHT), (2, LEFT)):
        truth = np.zeros(ids.shape, bool)
        truth[part] = True
        assert not (ids[~truth] == number).any()
        assert (ids[truth] == number).mean() > 0.9


def test_each_block_has_its_box():
    """Boxes reach from the table to the top and are as wide as the blocks."""
    boxes = found_in(scene()).objects_3d.transformed(LEVEL_FROM_CAMERA)
    assert len(boxes) == 2
    for size, centre, (rows, columns), height in zip(
            boxes.sizes_m, boxes.centers_m, (RIGHT, LEFT), (0.1, 0.04), strict=True):
        scale = (0.6 - height) / CAMERA.fx
        across = sorted(scale * (s.stop - s.start) for s in (rows, columns))
        assert sorted(size[:2]) == pytest.approx(across, abs=0.012)
        assert size[2] == pytest.approx(height, abs=0.01)
        assert centre[2] == pytest.approx(height / 2, abs=0.01)
        assert centre[0] == pytest.approx(
            ((columns.start + columns.stop - 1) / 2 - CAMERA.cx) * scale, abs=0.01)


def test_a_detection_that_fits_names_its_object():
    """The other one stays unknown; a box that only touches an object does not name it."""
    boxes = np.array([[80, 100, 140, 140], [240, 60, 300, 180]], np.float32)
    named = Detections(boxes, np.ones(2, np.float32), np.array([8, 9]))
    found = found_in(scene(), detections=named)
    assert found.objects.class_ids.tolist() == [-1, 8]
    assert found.objects_3d.class_ids.tolist() == [-1, 8]


def test_nothing_is_made_unless_asked_for():
    found = GraspPlanner(GraspParams()).propose(scene(), CONTEXT)
    assert found.objects is None
    assert found.objects_3d is None
