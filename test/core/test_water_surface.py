"""Horizon, water plane and what stands on it, against worlds whose answer is known."""

import math

import cv2
import numpy as np
from perception_nodes.core.geometry import pixel_rays
from perception_nodes.core.mapping import MappingParams, ObstacleMapper
from perception_nodes.core.types import CameraIntrinsics
from perception_nodes.core.water_surface import (
    OTHER,
    sort_classes,
    VOID,
    WATER,
    water_depth,
    WaterPlane,
)
from perception_nodes.evaluation.depth_scenes import pose, render, Scene, Solid
import pytest

LENS = CameraIntrinsics(320, 240, 240.0, 240.0, 159.5, 119.5)
BENT = CameraIntrinsics(320, 240, 240.0, 240.0, 159.5, 119.5, (-0.2, 0.05, 0.001, -0.001, 0.0))
NAMES = {0: 'water', 8: 'buoy'}
TILTS = [(0.0, 10.0), (14.0, 4.0), (-20.0, 25.0), (8.0, -6.0), (90.0, 5.0)]


def camera_at(roll_deg=0.0, pitch_deg=10.0, height_m=0.6, yaw=0.0):
    return pose(0.0, 0.0, height_m, yaw, math.radians(pitch_deg), math.radians(roll_deg))


def plane_of(map_from_camera):
    return WaterPlane(map_from_camera[2, :3].copy(), float(map_from_camera[2, 3]))


def seen(solids, map_from_camera, lens=LENS):
    """Return the mask and the true depth of things on a lake."""
    depth, what = render(Scene(tuple(solids)), map_from_camera, lens, range_m=1e6)
    ids = np.where(what == -1, 0, np.where(what >= 0, 8, 254)).astype(np.uint8)  # 254: the sky
    return ids, depth


@pytest.mark.parametrize(('roll_deg', 'pitch_deg'), TILTS)
def test_the_horizon_is_within_a_pixel_of_where_the_water_ends(roll_deg, pitch_deg):
    """Every pixel a pixel below the line looks at water, every one above it does not."""
    map_from_camera = camera_at(roll_deg, pitch_deg)
    line = plane_of(map_from_camera).horizon(LENS)
    assert np.hypot(line[0], line[1]) == pytest.approx(1.0)
    down = -(pixel_rays(LENS) @ map_from_camera[2, :2] + map_from_camera[2, 2])
    columns, rows = np.meshgrid(np.arange(320), np.arange(240))
    signed = line[0] * columns + line[1] * rows + line[2]
    assert (down[signed < -1.0] > 0.0).all()
    assert (down[signed > 1.0] < 0.0).all()
    assert (np.abs(signed) < 1.0).any()


@pytest.mark.parametrize('lens', [LENS, BENT], ids=['straight', 'bent'])
@pytest.mark.parametrize(('roll_deg', 'pitch_deg'), TILTS)
def test_water_is_as_far_as_it_is(lens, roll_deg, pitch_deg):
    map_from_camera = camera_at(roll_deg, pitch_deg)
    ids, truth = seen((), map_from_camera, lens)
    depth = water_depth(
        sort_classes(ids, frozenset({0})), plane_of(map_from_camera), lens)
    near = (ids == 0) & (truth < 20.0)
    assert near.sum() > 1000
    np.testing.assert_allclose(depth[near], truth[near], rtol=1e-3)
    sky = depth[ids == 254]
    assert not (sky < 50.0).any()
    assert (sky == np.inf).mean() > 0.85  # unknown where no horizon is in view below it


@pytest.mark.parametrize('lens', [LENS, BENT], ids=['straight', 'bent'])
@pytest.mark.parametrize(('roll_deg', 'pitch_deg'), TILTS[:4])
@pytest.mark.parametrize('distance_m', [2.5, 3.5, 5.0])
def test_a_thing_is_as_far_as_where_it_meets_the_water(lens, roll_deg, pitch_deg, distance_m):
    """A post, all of it, also where it rises above the horizon, to one row of the image."""
    map_from_camera = camera_at(roll_deg, pitch_deg)
    ids, truth = seen([Solid(distance_m, 0.0, 0.3, 0.0, 1.0)], map_from_camera, lens)
    plane = plane_of(map_from_camera)
    depth = water_depth(sort_classes(ids, frozenset({0})), plane, lens)
    post = ids == 8
    assert post.sum() > 100
    assert np.isnan(depth[post]).mean() < 0.05
    inside = cv2.erode(post.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    off = np.abs(depth[inside] - truth[inside])
    assert np.nanpercentile(off, 95) < 0.15 + plane.range_error_m(distance_m, lens)
    assert np.nanmedian(off) < 0.05 + plane.range_error_m(distance_m, lens)


def test_depth_counts_more_than_contact_but_not_on_water():
    map_from_camera = camera_at()
    ids, truth = seen([Solid(4.0, 0.0, 0.3, 0.3, 0.8)], map_from_camera)
    measured = np.where(ids == 0, np.float32(9.0), truth - np.float32(0.3))
    kinds = sort_classes(ids, frozenset({0}))
    depth = water_depth(kinds, plane_of(map_from_camera), LENS, measured)
    thing = ids == 8
    assert np.nanmedian(depth[thing] - truth[thing]) == pytest.approx(-0.3, abs=1e-4)
    near = (ids == 0) & (truth < 20.0)
    np.testing.assert_allclose(depth[near], truth[near], rtol=1e-3)
    measured[thing] = np.nan
    depth = water_depth(kinds, plane_of(map_from_camera), LENS, measured)
    assert abs(np.nanmedian(depth[thing] - truth[thing])) < 0.1


def test_what_has_no_foot_in_view_has_no_distance():
    """What rises from the horizon, a bow at the lower border, a thing on pixels of no class."""
    kinds = np.full((240, 320), WATER, np.uint8)
    plane = plane_of(camera_at(0.0, 0.0))
    kinds[:118] = VOID
    kinds[:118, 100:120] = OTHER  # the horizon is at row 119.5
    kinds[200:, 150:170] = OTHER
    kinds[130:160, 200:220] = OTHER
    kinds[160:165, 200:220] = VOID
    kinds[130:160, 250:270] = OTHER
    depth = water_depth(kinds, plane, LENS)
    assert (depth[:118, 100:120] == np.inf).all()
    assert np.isnan(depth[200:, 150:170]).all()
    assert np.isnan(depth[130:165, 200:220]).all()
    # row 160 is 40.5 rows below the horizon
    assert depth[130:160, 250:270] == pytest.approx(0.6 * 240.0 / 40.0, rel=0.02)


def test_a_camera_that_cannot_see_the_horizon_is_refused():
    kinds = np.full((240, 320), WATER, np.uint8)
    with pytest.raises(ValueError, match='straight up or down'):
        water_depth(kinds, plane_of(camera_at(0.0, 85.0)), LENS)
    with pytest.raises(ValueError, match='it must be above'):
        WaterPlane(np.array([0.0, -1.0, 0.0]), -0.2)
    with pytest.raises(ValueError, match='320x240 pixels, its camera_info says'):
        water_depth(kinds, plane_of(camera_at()), CameraIntrinsics.from_fov(64, 48, 60.0))


def show(mapper, solids, map_from_camera, frame, **more):
    ids, _ = seen(solids, map_from_camera)
    mapper.move(np.eye(4), int((1 + frame / 15) * 1e9))
    view = mapper.view_water(ids, LENS, map_from_camera, np.eye(4), **more)
    mapper.integrate(view)
    mapper.label(view, ids)


def cells_at(mapper, x, y):
    grid = mapper.occupancy().cells
    return grid[np.floor((np.array(y) + 5) / 0.05).astype(int),
                np.floor((np.array(x) + 5) / 0.05).astype(int)]


def water_mapper(**params):
    mapper = ObstacleMapper(MappingParams(surface='water', use_mask=True, **params))
    mapper.set_class_names(NAMES)
    return mapper


def test_a_rolling_boat_maps_a_buoy_and_no_waves():
    """The buoy is there, the water free, and both have their class; when it has gone, it has."""
    mapper = water_mapper()
    buoy = Solid(3.02, 0.5, 0.3, 0.3, 1.5)  # most of it before the sky

    def rolling(frame):
        return camera_at(12.0 * math.sin(frame), 10.0 + 5.0 * math.cos(frame))

    for frame in range(10):
        show(mapper, [buoy], rolling(frame), frame)
    occupied = np.argwhere(mapper.occupancy().cells == 100) * 0.05 - 4.975
    assert len(occupied) > 3
    assert (np.abs(occupied[:, 1] - 3.02) < 0.15 + 0.1).all()
    assert (np.abs(occupied[:, 0] - 0.5) < 0.15 + 0.1).all()
    assert (cells_at(mapper, np.arange(1.2, 2.6, 0.05), 0.5) == 0).all()
    classes = mapper.class_map().cells
    assert set(classes[mapper.occupancy().cells == 100]) <= {8, -1}
    assert (classes == 0).sum() > 500
    for frame in range(10, 18):  # until its top, too, has been in view
        show(mapper, [], rolling(frame), frame)
    assert not (mapper.occupancy().cells == 100).any()


def test_an_imu_levels_what_the_transforms_do_not_know():
    """odom is planar, as that of many boats: the roll is the IMU's to tell."""
    buoy = Solid(3.02, 0.5, 0.3, 0.3, 0.5)
    true, believed = camera_at(15.0, 14.0), camera_at(0.0, 10.0)
    ids, _ = seen([buoy], true)
    for up, is_right in ((true[2, :3].copy(), True), (None, False)):
        mapper = water_mapper()
        mapper.move(np.eye(4), 0)
        mapper.integrate(mapper.view_water(ids, LENS, believed, np.eye(4), up=up))
        occupied = np.argwhere(mapper.occupancy().cells == 100) * 0.05 - 4.975
        near = np.hypot(occupied[:, 1] - 2.87, occupied[:, 0] - 0.5) < 0.35
        assert (len(near) > 0 and near.all()) == is_right


def test_nobody_guesses_which_class_is_water():
    mapper = ObstacleMapper(MappingParams(surface='water', use_mask=True))
    with pytest.raises(ValueError, match=r'which class is water \(water\) is not known'):
        show(mapper, [], camera_at(), 0)
    with pytest.raises(ValueError, match="no class 'water'"):
        mapper.set_class_names({0: 'floor'})
    numbered = ObstacleMapper(
        MappingParams(surface='water', use_mask=True, water_classes=('0',)))
    show(numbered, [], camera_at(), 0)
    assert (numbered.occupancy().cells == 0).any()


@pytest.mark.parametrize(('params', 'sentence'), [
    ({'surface': 'water'}, "'use_mask' is false"),
    ({'use_imu': True}, "are for 'surface: water'"),
    ({'use_depth': False}, "are for 'surface: water'"),
])
def test_parameters_that_do_not_go_together_are_refused(params, sentence):
    with pytest.raises(ValueError, match=sentence):
        MappingParams(**params)
