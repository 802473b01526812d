"""Rays meet what geometry says, and OpenGL sees the same."""

import mujoco
import numpy as np
from perception_nodes.sim import rendering
from perception_nodes.sim.model import build
from perception_nodes.sim.poses import looking_at, Pose
from perception_nodes.sim.rendering import chosen_renderer, EglRenderer, RayRenderer, View
from perception_nodes.sim.worlds import make_scene
import pytest


def rendered(scene):
    model = build(scene)
    data = mujoco.MjData(model.mj)
    mujoco.mj_forward(model.mj, data)
    return model, data


def test_wall_at_two_metres_is_two_metres_away_everywhere(scene, thing, lens):
    """Depth is measured along the optical axis, not along the ray."""
    wall = thing('box', (0.1, 5, 5), (2.1, 0, 1), label='wall')
    model, data = rendered(scene(wall))
    layers = RayRenderer(model).layers(data, View(looking_at((0, 0, 1), (1, 0, 1)), lens))
    on_wall = layers.things == 1
    assert on_wall.mean() > 0.5
    assert np.abs(layers.depth_m[on_wall] - 2.0).max() < 1e-5


@pytest.mark.parametrize(('kind', 'size', 'front'), [
    ('sphere', (0.3, 0, 0), 0.3), ('box', (0.2, 0.3, 0.4), 0.2),
    ('ellipsoid', (0.25, 0.3, 0.4), 0.25), ('cylinder', (0.3, 0.4, 0), 0.3),
    ('capsule', (0.2, 0.3, 0), 0.2)])
def test_front_of_every_primitive(scene, thing, lens, kind, size, front):
    """The ray through the middle stops at the surface that faces the camera."""
    model, data = rendered(scene(thing(kind, size, (2, 0, 1))))
    layers = RayRenderer(model).layers(data, View(looking_at((0, 0, 1), (2, 0, 1)), lens))
    middle = layers.depth_m[59:61, 79:81]
    assert np.allclose(middle, 2.0 - front, atol=2e-3)


def test_rays_agree_with_the_physics_engine(scene):
    """Every kind of primitive in a real room: our rays end where MuJoCo's do."""
    model, data = rendered(make_scene('room', 3))
    lens = rendering.CameraIntrinsics.from_fov(64, 48, 80.0)
    view = View(looking_at((0.3, -0.2, 1.4), (1.5, 1.0, 0.6)), lens)
    layers = RayRenderer(model).layers(data, view)
    v, u = np.mgrid[0:48, 0:64]
    rays = np.stack([(u - lens.cx) / lens.fx, (v - lens.cy) / lens.fy, np.ones(u.shape)], -1)
    rays = rays.reshape(-1, 3) @ view.map_from_camera[:3, :3].T
    lengths = np.linalg.norm(rays, axis=1)
    geoms, distances = np.empty(len(rays), np.int32), np.empty(len(rays))
    mujoco.mj_multiRay(
        model.mj, data, view.map_from_camera[:3, 3].copy(), (rays / lengths[:, None]).ravel(),
        None, 1, -1, geoms, distances, None, len(rays), 100.0)
    hit = geoms >= 0
    assert (hit == np.isfinite(layers.depth_m).ravel()).mean() > 0.999
    error = np.abs(layers.depth_m.ravel() - distances / lengths)[hit]
    assert np.quantile(error, 0.999) < 1e-4


def test_silhouette_counts_what_is_hidden(scene, thing, lens):
    """A box whose lower half is covered is half visible."""
    behind = thing('box', (0.2, 0.2, 0.2), (2.2, 0, 1), 'behind')
    cover = thing('box', (0.01, 0.4, 0.4), (1.01, 0, 0.6), 'cover')
    model, data = rendered(scene(behind, cover))
    view = View(looking_at((0, 0, 1), (1, 0, 1)), lens)
    found = RayRenderer(model).cast(data, view)
    visible = np.count_nonzero(found.layers.things == 1)
    assert visible / found.pixels[1] == pytest.approx(0.5, abs=0.02)
    half = 0.2 / 2.0 * lens.fx
    assert np.allclose(
        found.boxes_xyxy[1], (lens.cx - half, lens.cy - half, lens.cx + half, lens.cy + half),
        atol=1.0)


def test_shadow_falls_where_the_lamp_is_hidden(scene, thing, lens):
    """A plate under the lamp darkens the floor below it, and only with shadows on."""
    plate = thing('box', (0.4, 0.4, 0.01), (0, 0, 1.5))
    model, data = rendered(scene(plate, robot=None))
    view = View(looking_at((0, 0, 1.2), (0, 0, 0)), lens)
    dark = RayRenderer(model, shadows=True).rgb(data, view)[60, 80].astype(int)
    lit = RayRenderer(model).rgb(data, view)[60, 80].astype(int)
    assert lit.sum() > 1.5 * dark.sum()


def test_egl_sees_the_same():
    """Depth within 2 mm for 97 of 100 pixels, the same things for 99 of 100, like colours."""
    if not rendering.probe_egl().works:
        pytest.skip(f'no EGL here: {rendering.probe_egl().what}')
    model, data = rendered(make_scene('room', 1))
    lens = rendering.CameraIntrinsics.from_fov(320, 240, 69.0)
    view = View(looking_at((-0.5, 0.3, 1.2), (2.0, 1.0, 0.4)), lens)
    egl = EglRenderer(model)
    try:
        ours, theirs = RayRenderer(model).layers(data, view), egl.layers(data, view)
        colours = egl.rgb(data, view), RayRenderer(model).rgb(data, view)
    finally:
        egl.close()
    assert (ours.things == theirs.things).mean() > 0.99
    both = np.isfinite(ours.depth_m) & np.isfinite(theirs.depth_m)
    assert both.mean() > 0.5
    assert (np.abs(ours.depth_m[both] - theirs.depth_m[both]) < 0.002).mean() > 0.97
    for i in np.unique(ours.things):
        own = (ours.things == i) & (theirs.things == i)
        if own.sum() > 400:
            assert np.abs(colours[0][own].mean(axis=0) - colours[1][own].mean(axis=0)).max() < 15


def test_missing_opengl_is_said(monkeypatch):
    """Asked for EGL it says what to do; 'auto' takes the rays."""
    monkeypatch.setattr(rendering, 'probe_egl', lambda: rendering.Egl(False, 'no libEGL.so.1'))
    with pytest.raises(OSError, match=r'no libEGL.*libegl1.*rays'):
        chosen_renderer('egl')
    assert chosen_renderer('auto') == 'rays'
    with pytest.raises(ValueError, match='choose one of auto, egl, rays'):
        chosen_renderer('vulkan')


def test_pose_round_trip():
    """Euler angles to matrix to quaternion and back."""
    pose = Pose.at(1, 2, 3, 0.3, -0.4, 2.9)
    assert np.allclose(Pose.from_matrix(pose.matrix).matrix, pose.matrix)
