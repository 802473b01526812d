"""Laser scans in the obstacle map: what a beam marks and clears, and at which height."""

import math

import numpy as np
from perception_nodes.core.mapping import MappingParams, ObstacleMapper
from perception_nodes.core.types import CameraIntrinsics, LaserRanges
from perception_nodes.evaluation.depth_scenes import pose, render, Scene, Solid
import pytest

VGA = CameraIntrinsics(640, 480, 525.0, 525.0, 319.5, 239.5)
STEP = math.radians(0.5)
BEAMS = 720
UPSIDE_DOWN = np.diag([1.0, -1.0, -1.0, 1.0])


def laser_at(height_m, x=0.0, yaw=0.0, tilt=0.0):
    """Return map_from_laser, tilted down ahead."""
    c, s, up, down = math.cos(yaw), math.sin(yaw), math.cos(tilt), math.sin(tilt)
    out = np.eye(4)
    out[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ [
        [up, 0, down], [0, 1, 0], [-down, 0, up]]
    out[:3, 3] = x, 0.0, height_m
    return out


def scan_of(distance_m=np.inf, within_deg=180.0):
    """Return a scan that measures one distance around x, and +inf elsewhere."""
    angles = -math.pi + STEP * np.arange(BEAMS)
    ranges = np.where(np.abs(angles) <= math.radians(within_deg), distance_m, np.inf)
    return LaserRanges(
        ranges.astype(np.float32), -math.pi, STEP, 0.05, 4.0, 0, 'laser')


class Swept:
    """A mapper and the scans it was shown, 1/10 s apart."""

    def __init__(self, **params):
        self.mapper = ObstacleMapper(MappingParams(**params))
        self.time_s = 0.0

    def move(self):
        self.time_s += 0.1
        self.mapper.move(np.eye(4), int(self.time_s * 1e9))

    def show(self, scan, laser=None, times=1):
        for _ in range(times):
            self.move()
            self.mapper.integrate_scan(
                scan, laser_at(0.24) if laser is None else laser, np.eye(4))
        return self

    def look(self, *solids, camera, times=1):
        depth, _ = render(Scene(solids), camera, VGA)
        for _ in range(times):
            self.move()
            self.mapper.integrate(self.mapper.view(depth, VGA, camera, np.eye(4)))
        return self

    def at(self, x, y):
        grid = self.mapper.occupancy()
        column, row = (np.floor((np.array(v) + 5.0) / 0.05).astype(int) for v in (x, y))
        return grid.cells[row, column]


def test_beams_mark_where_they_end_and_free_the_way_there():
    seen = Swept().show(scan_of(2.02, within_deg=10.0))
    across = np.radians(np.arange(-9.0, 9.5, 1.0))
    assert (seen.at(2.02 * np.cos(across), 2.02 * np.sin(across)) == 100).all()
    assert (seen.at(np.arange(0.1, 1.9, 0.05), 0.0) == 0).all()
    assert (seen.at(np.arange(2.15, 4.0, 0.05), 0.0) == -1).all()
    # beyond range is free up to the largest range, and no farther
    assert (seen.at(np.arange(0.1, 3.9, 0.05), 0.0 - np.arange(0.1, 3.9, 0.05))[:50] == 0).all()
    assert seen.at(-3.9, 0.0) == 0
    assert seen.at(-4.2, 0.0) == -1


@pytest.mark.parametrize('nothing', [np.nan, -np.inf, 0.0, 0.04, 9.0])
def test_beams_without_a_reading_say_nothing(nothing):
    seen = Swept().show(scan_of(2.02, within_deg=10.0), times=3)
    seen.show(scan_of(nothing), times=5)
    assert seen.at(2.02, 0.0) == 100
    assert seen.at(3.0, 0.0) == -1


@pytest.mark.parametrize('distance_m', [3.5, np.inf], ids=['wall behind', 'nothing behind'])
def test_what_has_gone_is_cleared_in_two_scans(distance_m):
    seen = Swept().show(scan_of(2.02, within_deg=10.0), times=20)
    seen.show(scan_of(distance_m), times=2)
    across = np.radians(np.arange(-9.0, 9.5, 1.0))
    assert (seen.at(2.02 * np.cos(across), 2.02 * np.sin(across)) == 0).all()


@pytest.mark.parametrize(('laser', 'where'), [
    (laser_at(0.24, x=1.0, yaw=math.pi / 2), (1.0, 2.02)),
    (laser_at(0.24) @ UPSIDE_DOWN, (2.02, 0.0)),
    (laser_at(0.24, tilt=math.radians(4.0)), (2.02 * math.cos(math.radians(4.0)), 0.0)),
], ids=['turned', 'upside down', 'tilted'])
def test_a_laser_may_be_mounted_in_any_way(laser, where):
    seen = Swept().show(scan_of(2.02, within_deg=2.0), laser, times=3)
    assert seen.at(*where) == 100
    seen.show(scan_of(), laser, times=2)
    assert seen.at(*where) == 0


def test_a_tilted_laser_that_meets_the_floor_sees_no_obstacle():
    seen = Swept().show(
        scan_of(0.24 / math.sin(math.radians(8.0)), within_deg=1.0),
        laser_at(0.24, tilt=math.radians(8.0)))
    assert not (seen.mapper.occupancy().cells == 100).any()
    assert (seen.at(np.arange(0.2, 1.5, 0.05), 0.0) == 0).all()


def test_a_camera_ray_over_what_the_laser_saw_leaves_it():
    """A 30 cm box just ahead, below the image: the camera sees the floor behind it only."""
    seen = Swept().show(scan_of(0.62, within_deg=10.0), times=3)
    over = pose(0.0, 0.0, 1.0, pitch=math.radians(10.0))
    seen.look(camera=over, times=10)
    assert seen.at(0.62, 0.0) == 100
    seen.look(camera=pose(0.0, 0.0, 0.35, pitch=math.radians(10.0)), times=2)  # through it
    assert seen.at(0.62, 0.0) == 0


def test_a_beam_under_a_table_leaves_its_top():
    top = Solid(2.5, 0.0, 0.6, 1.0, 0.75, 0.71)
    seen = Swept().look(top, camera=pose(0.0, 0.0, 0.6, pitch=math.radians(5.0)), times=5)
    edge = seen.at(2.22, np.arange(-0.4, 0.4, 0.05))
    assert (edge == 100).all()
    seen.show(scan_of(), times=10)
    assert (seen.at(2.22, np.arange(-0.4, 0.4, 0.05)) == 100).all()


def test_a_high_beam_does_not_free_what_it_may_pass_over():
    seen = Swept().show(scan_of(), laser_at(1.2), times=3)
    assert (seen.mapper.occupancy().cells == -1).all()


def test_a_pole_between_two_beams_stays():
    """At 3.9 m beams of 4 degrees are 27 cm apart: what one met from near is not met now."""
    angles = -math.pi + STEP * np.arange(BEAMS)
    near = np.where(np.abs(angles - math.radians(2.0)) < 1e-3, 3.9, np.inf).astype(np.float32)
    seen = Swept().show(LaserRanges(near, -math.pi, STEP, 0.05, 4.0, 0, 'laser'))
    place = 3.9 * math.cos(math.radians(2.0)), 3.9 * math.sin(math.radians(2.0))
    assert seen.at(*place) == 100
    coarse = LaserRanges(
        np.full(90, 4.2, np.float32), -math.pi, math.radians(4.0), 0.05, 5.0, 0, 'laser')
    seen.show(coarse, times=10)
    assert seen.at(*place) == 100


def test_a_laser_on_its_side_is_refused():
    laser = laser_at(0.24, tilt=math.radians(75.0))
    with pytest.raises(ValueError, match='tilted by more than 60 degrees'):
        Swept().show(scan_of(), laser)


@pytest.mark.parametrize(('surface', 'is_marked'), [('water', False), ('ground', True)])
def test_a_beam_of_a_boat_that_lists_meets_water(surface, is_marked):
    """A boat tilts over level water; a robot that tilts with its laser is on a ramp."""
    mapper = ObstacleMapper(MappingParams(surface=surface, use_mask=surface == 'water'))
    boat = laser_at(0.0, tilt=math.radians(10.0))
    mapper.move(boat, 0)
    mapper.integrate_scan(
        scan_of(0.24 / math.sin(math.radians(10.0)), within_deg=3.0),
        boat @ laser_at(0.24), boat)
    assert (mapper.occupancy().cells == 100).any() == is_marked
