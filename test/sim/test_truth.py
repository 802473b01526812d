"""Ground truth is exact."""

import mujoco
import numpy as np
from perception_nodes.core.geometry import inverse
from perception_nodes.sim.model import build
from perception_nodes.sim.poses import looking_at, Pose
from perception_nodes.sim.rendering import RayRenderer, View
from perception_nodes.sim.truth import bounding_box, inside_fraction, look
from perception_nodes.sim.worlds import make_scene
import pytest


def truth_of(scene, view):
    model = build(scene)
    data = mujoco.MjData(model.mj)
    mujoco.mj_forward(model.mj, data)
    found = RayRenderer(model).cast(data, view)
    return look(scene, found, view, [t.pose.matrix for t in scene.things], 5)


def projected(box, view):
    """Return left, top, right, bottom of a 3D box, in the pixel edges that 2D boxes use."""
    signs = np.array(np.meshgrid((-1, 1), (-1, 1), (-1, 1))).reshape(3, -1).T / 2.0
    points = np.column_stack([signs * box.size_m, np.ones(8)])
    x, y, z, _ = inverse(view.map_from_camera) @ box.map_from_box @ points.T
    assert (z > 0).all()
    lens = view.intrinsics
    u, v = lens.fx * x / z + lens.cx + 0.5, lens.fy * y / z + lens.cy + 0.5
    return np.array([u.min(), v.min(), u.max(), v.max()])


def test_projected_box_is_the_2d_box(scene, thing, lens):
    """For a box-shaped object nothing is in front of."""
    cuboid = thing('box', (0.2, 0.1, 0.3), Pose.at(1.5, 0.1, 0.9, 0.4))
    view = View(looking_at((0, 0, 1.2), (1.5, 0, 0.8)), lens)
    truth = truth_of(scene(cuboid), view)
    [found] = truth.objects
    assert np.abs(projected(found.box_3d, view) - found.box_xyxy).max() <= 1.0
    assert (found.visible_fraction, found.inside_fraction) == (1.0, 1.0)
    assert found.area_px == np.count_nonzero(truth.instance_mask == found.instance_id)
    assert not found.ignore


def test_boxes_of_rooms(lens):
    """The box of what is visible lies inside the projection of the 3D box, whatever the shape."""
    checked = 0
    for seed in range(5):
        room = make_scene('room', seed)
        eye = (room.robot.x_m, room.robot.y_m, 1.3)
        view = View(looking_at(eye, (0.0, 0.0, 0.5)), lens)
        for found in truth_of(room, view).objects:
            if found.inside_fraction < 1.0:
                continue
            outer = projected(found.box_3d, view)
            assert (found.box_xyxy[:2] >= outer[:2] - 1.0).all()
            assert (found.box_xyxy[2:] <= outer[2:] + 1.0).all()
            checked += 1
    assert checked > 20


def test_depth_lies_on_the_surfaces(scene, thing, lens):
    """Every deprojected pixel of a turned box is within 2 mm of one of its sides."""
    half = np.array([0.2, 0.1, 0.3])
    pose = Pose.at(1.5, 0.1, 0.9, 0.4, 0.3)
    view = View(looking_at((0, 0, 1.2), (1.5, 0, 0.8)), lens)
    truth = truth_of(scene(thing('box', half, pose)), view)
    v, u = np.nonzero(truth.instance_mask == 2)
    z = truth.depth_m[v, u].astype(float)
    x, y = (u - lens.cx) / lens.fx * z, (v - lens.cy) / lens.fy * z
    points = np.stack([x, y, z, np.ones(len(z))])
    own = (inverse(pose.matrix) @ view.map_from_camera @ points)[:3].T
    outside = np.abs(own) - half
    assert len(z) > 500
    assert np.abs(outside.max(axis=1)).max() < 0.002


def test_box_of_a_lying_thing_is_upright(thing):
    """The size is measured along gravity; a bottle on its side is as high as it is thick."""
    bottle = thing('cylinder', (0.03, 0.1, 0), (0, 0, 0))
    lying = Pose.at(1, 2, 0.03, yaw_rad=0.5, pitch_rad=np.pi / 2).matrix
    box = bounding_box(bottle.shapes, lying)
    assert np.allclose(np.sort(box.size_m), (0.06, 0.06, 0.2), atol=1e-6)
    assert box.size_m[2] == pytest.approx(0.06)
    assert np.allclose(box.map_from_box[:3, 3], (1, 2, 0.03))
    assert np.allclose(box.map_from_box[:3, 2], (0, 0, 1))


def test_half_out_of_view(scene, thing, lens):
    """A thing across the border of the image counts half."""
    edge = np.tan(np.radians(35.0)) * 2.0
    box = bounding_box(thing('box', (0.01, 0.1, 0.1), (0, 0, 0)).shapes,
                       Pose.at(2.0, edge, 1.0).matrix)
    view = View(looking_at((0, 0, 1), (1, 0, 1)), lens)
    assert inside_fraction(box, view) == pytest.approx(0.5, abs=0.1)


def test_masks_name_classes_and_void(scene, thing, lens):
    """Sky is void, the floor is class 0 without instance, objects carry both."""
    view = View(looking_at((0, 0, 1.0), (1, 0, 1.0)), lens)
    truth = truth_of(scene(thing('sphere', (0.2, 0, 0), (1.5, 0, 1.0), label='ball')), view)
    assert truth.class_mask[0, 0] == 255
    assert truth.class_mask[119, 0] == 0
    assert truth.class_mask[60, 80] == 13
    assert truth.instance_mask[119, 0] == 0
    assert truth.instance_mask[60, 80] == truth.objects[0].instance_id
    assert np.isinf(truth.depth_m[0, 0])
