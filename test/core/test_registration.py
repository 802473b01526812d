"""Depth rendered into another camera, against scenes whose depth is known there."""

import math

import cv2
import numpy as np
from perception_nodes.core.geometry import deproject, pixel_rays
from perception_nodes.core.registration import not_registered, register_depth
from perception_nodes.core.types import CameraIntrinsics
import pytest

VGA = CameraIntrinsics(640, 480, 525.0, 525.0, 319.5, 239.5)
SMALL = CameraIntrinsics(320, 240, 262.0, 262.0, 160.0, 119.0)
WIDE = CameraIntrinsics(848, 480, 425.0, 425.0, 423.0, 241.0)
BENT = CameraIntrinsics(640, 480, 600.0, 600.0, 320.0, 240.0, (-0.3, 0.1, 0.001, -0.001, 0.0))


def pose(x=0.0, y=0.0, z=0.0, turn=(0.0, 0.0, 0.0)):
    color_from_depth = np.eye(4)
    color_from_depth[:3, :3] = cv2.Rodrigues(np.array(turn))[0]
    color_from_depth[:3, 3] = x, y, z
    return color_from_depth


def plane_depth(camera, normal, offset_m):
    """Return the depth image of the plane ``normal @ p == offset_m``."""
    rays = pixel_rays(camera)
    along = rays[..., 0] * normal[0] + rays[..., 1] * normal[1] + normal[2]
    return (offset_m / along).astype(np.float32)


def test_the_same_camera_sees_the_same():
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.5, 5.0, (480, 640)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.2] = np.nan
    depth[rng.random(depth.shape) < 0.1] = np.inf
    np.testing.assert_array_equal(register_depth(depth, VGA, VGA, np.eye(4)), depth)


@pytest.mark.parametrize(('depth_camera', 'color_camera'), [
    (VGA, VGA), (SMALL, VGA), (VGA, SMALL), (WIDE, VGA), (WIDE, BENT), (BENT, VGA)])
@pytest.mark.parametrize('color_from_depth', [
    pose(x=-0.05), pose(x=0.015, y=0.01, z=0.004, turn=(0.02, -0.03, 0.04)),
    pose(turn=(0.0, 0.0, math.pi / 4)), pose(turn=(0.0, 0.0, math.pi / 2))])
def test_a_plane_is_where_it_must_be_and_has_no_holes(
        depth_camera, color_camera, color_from_depth):
    """An inclined plane, from every camera to every other: right to 3 mm, and closed inside."""
    normal, offset = np.array([0.1, 0.25, 1.0]), 1.6
    depth = plane_depth(depth_camera, normal, offset)
    turned = color_from_depth[:3, :3] @ normal
    truth = plane_depth(color_camera, turned, offset + turned @ color_from_depth[:3, 3])
    found = register_depth(depth, depth_camera, color_camera, color_from_depth)
    assert np.nanmax(np.abs(found - truth)) < (3e-3 if depth_camera != SMALL else 6e-3)
    assert abs(np.nanmean(found - truth)) < 1e-3
    # seen by both cameras: no hole in there
    centre = (slice(200, 280), slice(280, 360)) if color_camera.width == 640 else (
        slice(100, 140), slice(140, 180))
    assert np.isfinite(found[centre]).all()


def test_the_nearest_surface_wins():
    """A card 0.5 m away, seen from 5 cm further right, moves left by fx * 0.05 / 0.5 pixels."""
    depth = np.full((480, 640), 2.0, np.float32)
    depth[200:280, 300:340] = 0.5
    found = register_depth(depth, VGA, VGA, pose(x=-0.05))
    shift = 525.0 * 0.05 / 0.5
    rows, columns = np.nonzero(found == 0.5)
    assert (rows.min(), rows.max()) == (200, 279)
    assert (columns.min(), columns.max()) == pytest.approx(
        (300 - shift, 339 - shift), abs=0.51)
    # what the card hid from the depth camera, the colour camera sees as nothing at all
    shadow = slice(math.ceil(340 - shift) + 1, math.floor(340 - 525.0 * 0.05 / 2.0) - 1)
    assert np.isnan(found[210:270, shadow]).all()
    assert (found[210:270, 340:600] == 2.0).all()


def test_readings_beyond_range_stay_beyond_range():
    """Mapping clears along them; a translation does not move what is infinitely far."""
    depth = np.full((480, 640), np.inf, np.float32)
    depth[:, 320:] = 1.0
    depth[0:50] = np.nan
    depth[50:60] = -np.inf
    found = register_depth(depth, VGA, VGA, pose(x=0.02))
    assert np.isnan(found[:60]).all()
    assert (found[60:, :320] == np.inf).all()
    assert (found[60:, 332:] == 1.0).all()


def test_points_stay_where_they_are():
    """Points of the rendered image lie on the rendered sphere, within the size of a pixel."""
    rays = np.concatenate([pixel_rays(WIDE), np.ones((480, 848, 1), np.float32)], axis=2)
    centre, radius = np.array([0.1, 0.0, 2.0]), 0.5
    b, c = rays @ centre, centre @ centre - radius**2
    root = b**2 - (rays**2).sum(axis=2) * c
    with np.errstate(invalid='ignore'):
        depth = ((b - np.sqrt(root)) / (rays**2).sum(axis=2)).astype(np.float32)
    color_from_depth = pose(x=-0.06, turn=(0.0, 0.05, 0.0))
    points = deproject(register_depth(depth, WIDE, VGA, color_from_depth), VGA)
    seen = points[np.isfinite(points[..., 2])]
    moved = color_from_depth[:3, :3] @ centre + color_from_depth[:3, 3]
    error = np.abs(np.linalg.norm(seen - moved, axis=1) - radius)
    assert len(seen) > 20_000
    assert np.percentile(error, 99) < 0.01
    assert error.mean() < 0.001


def test_an_image_of_another_size_than_its_camera_is_refused():
    with pytest.raises(ValueError, match='848x480 pixels, its camera_info says 640x480'):
        register_depth(np.ones((480, 848), np.float32), VGA, VGA, np.eye(4))


def test_the_refusal_names_the_option_of_the_driver():
    sentence = not_registered(
        np.ones((480, 848), np.float32), 'camera_depth_optical_frame', (720, 1280, 3),
        'camera_color_optical_frame', "nobody publishes frame 'camera_depth_optical_frame'")
    assert "depth is 848x480 pixels in 'camera_depth_optical_frame'" in sentence
    assert "colour is 1280x720 in 'camera_color_optical_frame'" in sentence
    assert 'align_depth.enable:=true' in sentence
