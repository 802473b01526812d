"""Cameras, transforms and planes against analytic answers."""

import math

import cv2
import numpy as np
from perception_nodes.core import geometry
from perception_nodes.core.types import CameraIntrinsics
import pytest

BARREL = (-0.3, 0.08, 0.001, -0.002, 0.01)
RATIONAL = (-0.3, 0.1, 0.001, -0.001, 0.02, 0.15, 0.02, 0.003)


def camera(distortion=()):
    return CameraIntrinsics(640, 480, 525.0, 520.0, 321.5, 238.2, distortion)


def test_a_plane_at_one_metre_deprojects_to_z_one():
    depth = np.ones((480, 640), np.float32)
    points = geometry.deproject(depth, camera())
    assert points.dtype == np.float32
    assert (points[..., 2] == 1.0).all()
    assert points[100, 200, :2] == pytest.approx([(200 - 321.5) / 525, (100 - 238.2) / 520])


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_what_is_no_distance_is_no_point(value):
    depth = np.ones((480, 640), np.float32)
    depth[5, 7] = value
    points = geometry.deproject(depth, camera())
    assert np.isnan(points[5, 7]).all()
    assert np.isfinite(points).all(axis=2).sum() == 640 * 480 - 1


@pytest.mark.parametrize('distortion', [(-0.3, 0.0, 0.0, 0.0), BARREL, RATIONAL])
def test_a_distorted_camera_sees_an_inclined_plane_as_a_plane(distortion):
    """Rendered through OpenCV's own distortion: every point comes back to within 0.1 mm."""
    k = camera(distortion)
    normal, offset = np.array([0.1, 0.3, -1.0]), -1.5
    rays = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 60), np.linspace(-0.4, 0.4, 50)), axis=2)
    rays = np.concatenate([rays, np.ones((50, 60, 1))], axis=2).reshape(-1, 3)
    truth = rays * (offset / (rays @ normal))[:, None]
    pixels, _ = cv2.projectPoints(truth, np.zeros(3), np.zeros(3), k.matrix, np.array(distortion))
    found = geometry.undistort(pixels.reshape(-1, 2), k)
    points = np.concatenate([found, np.ones((len(found), 1))], axis=1) * truth[:, 2:]
    np.testing.assert_allclose(points, truth, atol=1e-4)
    np.testing.assert_allclose(geometry.project(truth, k), pixels.reshape(-1, 2), atol=1e-6)


def test_depth_of_a_distorted_image_is_undistorted_before_it_becomes_points():
    """With k1 = -0.3 a corner pixel looks much further out than a pinhole's would."""
    straight = CameraIntrinsics(640, 480, 620.0, 620.0, 321.5, 238.2)
    bent = CameraIntrinsics(640, 480, 620.0, 620.0, 321.5, 238.2, (-0.3,))
    depth = np.full((480, 640), 2.0, np.float32)
    points = geometry.deproject(depth, bent)
    assert np.isfinite(points).all()
    pixels = geometry.project(points.reshape(-1, 3), bent).reshape(480, 640, 2)
    columns, rows = np.meshgrid(np.arange(640), np.arange(480))
    np.testing.assert_allclose(pixels[..., 0], columns, atol=1e-3)
    np.testing.assert_allclose(pixels[..., 1], rows, atol=1e-3)
    naive = geometry.deproject(depth, straight)
    assert np.abs(points[10, 10, 0]) > 1.1 * np.abs(naive[10, 10, 0])


def test_pixels_that_no_ray_reaches_are_no_points():
    """A fisheye forced into plumb_bob turns round at r = 1; outside there is nothing to see."""
    k = CameraIntrinsics(640, 480, 300.0, 300.0, 320.0, 240.0, (-1 / 3,))
    rays = geometry.pixel_rays(k)
    columns, rows = np.meshgrid(np.arange(640), np.arange(480))
    radius = np.hypot(columns - 320.0, rows - 240.0) / 300.0
    assert np.isnan(rays[radius > 2 / 3 + 0.01]).all()
    assert np.isfinite(rays[radius < 2 / 3 - 0.01]).all()


def test_rays_are_computed_once_per_camera_and_cannot_be_spoilt():
    rays = geometry.pixel_rays(camera(BARREL))
    assert geometry.pixel_rays(camera(BARREL)) is rays
    with pytest.raises(ValueError, match='read-only'):
        rays[0, 0] = 0.0


def test_a_tilted_sensor_is_refused_not_ignored():
    with pytest.raises(ValueError, match='14 distortion coefficients; up to 12'):
        geometry.project(np.ones((1, 3)), camera((0.0,) * 12 + (0.1, 0.0)))
    assert geometry.project(np.ones((1, 3)), camera((0.0,) * 14)).shape == (1, 2)


def test_points_behind_the_camera_have_no_pixel():
    behind = np.array([[0.0, 0.0, -1.0], [1.0, 1.0, 0.0]])
    assert np.isnan(geometry.project(behind, camera())).all()


def test_an_image_of_another_camera_is_refused():
    with pytest.raises(ValueError, match='320x240 pixels, its camera_info says 640x480'):
        geometry.deproject(np.ones((240, 320), np.float32), camera())


def random_transforms(count):
    rng = np.random.default_rng(7)
    for _ in range(count):
        b_from_a = np.eye(4)
        b_from_a[:3, :3] = cv2.Rodrigues(rng.normal(size=3) * 2.0)[0]
        b_from_a[:3, 3] = rng.normal(size=3)
        yield b_from_a


def test_inverse_undoes_a_transform():
    for b_from_a in random_transforms(20):
        np.testing.assert_allclose(geometry.inverse(b_from_a) @ b_from_a, np.eye(4), atol=1e-12)


def test_points_are_transformed_in_their_own_precision():
    b_from_a = next(random_transforms(1))
    points = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    moved = geometry.transform_points(b_from_a, points)
    assert moved.dtype == np.float32
    homogeneous = b_from_a @ np.append(points[2, 3], 1.0)
    np.testing.assert_allclose(moved[2, 3], homogeneous[:3], atol=1e-6)


def test_rotations_of_quaternions():
    half = math.sqrt(0.5)
    np.testing.assert_allclose(
        geometry.rotation_of((0.0, 0.0, half, half)), [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
        atol=1e-12)
    turn = geometry.rotation_of((0.1, -0.5, 0.3, 0.8))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert geometry.quaternion_xyzw(turn) == pytest.approx(
        np.array([0.1, -0.5, 0.3, 0.8]) / math.sqrt(0.99))
    with pytest.raises(ValueError, match='length must be 1'):
        geometry.rotation_of((0.0, 0.0, 0.0, 0.0))


def test_quaternions_of_rotations():
    for b_from_a in [*random_transforms(50), *map(np.diag, (
            [1.0, -1.0, -1.0, 1.0], [-1.0, 1.0, -1.0, 1.0], [-1.0, -1.0, 1.0, 1.0], np.ones(4)))]:
        x, y, z, w = geometry.quaternion_xyzw(b_from_a[:3, :3])
        assert math.hypot(x, y, z, w) == pytest.approx(1.0)
        assert w >= 0.0
        angle = 2.0 * math.atan2(math.hypot(x, y, z), w)
        axis = np.array([x, y, z]) / max(math.hypot(x, y, z), 1e-12)
        np.testing.assert_allclose(cv2.Rodrigues(axis * angle)[0], b_from_a[:3, :3], atol=1e-9)


def test_up_of_a_camera():
    """From a transform and from a pitch, the same camera has the same up."""
    level_from_link = np.eye(4)
    pitch = math.radians(30)
    level_from_link[:3, :3] = cv2.Rodrigues(np.array([0.0, pitch, 0.0]))[0]  # nose down
    link_from_optical = np.array(
        [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    up = geometry.up_in_camera(level_from_link @ link_from_optical)
    np.testing.assert_allclose(up, geometry.up_of_pitched_camera(30.0), atol=1e-12)
    assert up[2] == pytest.approx(-0.5)


def test_the_plane_of_most_points_is_found_among_clutter():
    rng = np.random.default_rng(1)
    normal, offset = np.array([0.0, -0.8, -0.6]), -0.9
    across = np.linalg.svd(normal[None])[2][1:]
    table = rng.uniform(-0.5, 0.5, (3000, 2)) @ across + normal * offset
    table += normal * rng.normal(0.0, 0.002, (3000, 1))
    clutter = rng.uniform(-1.0, 1.0, (2000, 3))
    points = np.concatenate([clutter, table])
    plane = geometry.fit_plane(points, 0.01)
    assert plane.normal == pytest.approx(normal, abs=3e-3)
    assert plane.offset_m == pytest.approx(offset, abs=1e-3)
    assert plane.heights_m(np.zeros((1, 3))) > 0.0
    again = geometry.fit_plane(points, 0.01)
    assert (again.normal == plane.normal).all()


@pytest.mark.parametrize(('points', 'sentence'), [
    (np.zeros((2, 3)), '2 points span no plane'),
    (np.outer(np.arange(50), [1.0, 0.0, 0.0]), '50 points on a line'),
])
def test_points_without_a_plane_are_refused(points, sentence):
    with pytest.raises(ValueError, match=sentence):
        geometry.fit_plane(points, 0.01)
