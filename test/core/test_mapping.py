"""Obstacle maps of scenes whose answer is known, and the compiled loops against plain numpy."""

import math

import numpy as np
from perception_nodes.core.geometry import Plane
from perception_nodes.core.ground import find_ground
from perception_nodes.core.mapping import MappingParams, ObstacleMapper
from perception_nodes.core.types import CameraIntrinsics
from perception_nodes.evaluation.depth_scenes import noisy, pose, render, Scene, Solid
from perception_nodes.evaluation.mapping_reference import ReferenceMapper
import pytest

VGA = CameraIntrinsics(640, 480, 525.0, 525.0, 319.5, 239.5)
BENT = CameraIntrinsics(640, 480, 525.0, 525.0, 319.5, 239.5, (-0.25, 0.08, 0.001, -0.001, 0.0))
CAMERA = pose(0.0, 0.0, 0.6, pitch=math.radians(12.0))
ROBOT = np.eye(4)
BOX = Solid(2.02, 0.0, 0.3, 0.3, 0.4)
WALL = Solid(4.0, 0.0, 0.1, 12.0, 2.5)


def robot_at(x=0.0, y=0.0):
    map_from_base = np.eye(4)
    map_from_base[:2, 3] = x, y
    return map_from_base


class Mapped:
    """A mapper and the frames it was shown, 1/15 s apart."""

    def __init__(self, camera=CAMERA, robot=ROBOT, intrinsics=VGA, **params):
        self.mapper = ObstacleMapper(MappingParams(**params))
        self.camera, self.robot, self.intrinsics = camera, robot, intrinsics
        self.time_s = 0.0

    def show(self, *solids, depth=None, frames=1, elapsed_s=1 / 15):
        for _ in range(frames):
            if depth is None:
                image, _ = render(Scene(solids), self.camera, self.intrinsics)
            else:
                image = depth
            view = self.mapper.view(image, self.intrinsics, self.camera, self.robot)
            self.time_s += elapsed_s
            self.mapper.move(self.robot, int(self.time_s * 1e9))
            self.mapper.integrate(view)
        return self

    def drive(self, x, camera):
        """Go to another place, in a second."""
        self.camera, self.robot = camera, robot_at(x)
        self.time_s += 1.0
        self.mapper.move(self.robot, int(self.time_s * 1e9))

    def at(self, x, y):
        """Return the value of the cell at a place, or of many."""
        occupancy = self.mapper.occupancy()
        column, row = (np.floor((np.array(v) - corner) / occupancy.resolution_m).astype(int)
                       for v, corner in zip((x, y), occupancy.origin_xy_m, strict=True))
        return occupancy.cells[row, column]


def test_a_box_is_where_it_is():
    """Its face is occupied, the floor before it free, the shadow behind it unknown."""
    seen = Mapped().show(BOX)
    assert (seen.at(1.87, np.arange(-0.12, 0.13, 0.05)) == 100).all()
    assert (seen.at(np.arange(1.5, 1.78, 0.05), 0.0) == 0).all()
    assert (seen.at(np.arange(2.25, 2.6, 0.05), 0.0) == -1).all()
    assert (seen.at(np.arange(1.5, 4.0, 0.05), 0.8) == 0).all()
    assert seen.at(-1.0, 0.0) == -1
    occupied = seen.mapper.occupancy().cells == 100
    rows, columns = np.nonzero(occupied)
    assert ((columns * 0.05 - 5.0 > 1.79) & (columns * 0.05 - 5.0 < 2.16)).all()
    assert (np.abs(rows * 0.05 - 4.975) < 0.19).all()


def test_the_map_lies_as_ros_has_it():
    """Rows run along y, columns along x, from the corner that the origin names."""
    seen = Mapped(robot=robot_at(0.52, -0.26)).show(Solid(2.025, 0.825, 0.02, 0.02, 0.5))
    occupancy = seen.mapper.occupancy()
    assert occupancy.frame_id == 'odom'
    assert occupancy.origin_xy_m == pytest.approx((-4.5, -5.3))
    rows, columns = np.nonzero(occupancy.cells == 100)
    assert set(rows) == {round((0.8 + 5.3) / 0.05)}
    assert set(columns) == {round((2.0 + 4.5) / 0.05)}


@pytest.mark.parametrize('intrinsics', [VGA, BENT])
def test_a_lens_bends_nothing_in_the_map(intrinsics):
    seen = Mapped(intrinsics=intrinsics).show(Solid(2.0, 0.9, 0.06, 0.06, 1.0), WALL)
    assert (seen.at([1.98, 1.98], [0.88, 0.9]) == 100).any()
    assert (seen.at(3.96, np.arange(-1.8, 1.8, 0.05)) == 100).all()
    assert (seen.at(np.arange(2.0, 3.8, 0.05), -0.9) == 0).all()


@pytest.mark.parametrize('background', [(), (WALL,)], ids=['nothing behind', 'wall behind'])
def test_a_removed_obstacle_is_gone_in_three_frames(background):
    seen = Mapped().show(BOX, *background, frames=30)
    assert (seen.at(1.87, np.arange(-0.12, 0.13, 0.05)) == 100).all()
    seen.show(*background, frames=3)
    place = np.meshgrid(np.arange(1.8, 2.2, 0.05), np.arange(-0.2, 0.2, 0.05))
    assert (seen.at(*place) == 0).all()


def test_rays_beyond_range_clear():
    """A pole in an empty field, whose floor is black to the camera: only +inf is behind it."""
    depth, what = render(Scene((Solid(3.0, 0.0, 0.1, 0.0, 1.2),)), CAMERA, VGA)
    field = np.where(what == 0, depth, np.float32(np.inf))
    seen = Mapped().show(depth=field, frames=10)
    assert seen.at(2.97, 0.0) == 100
    seen.show(depth=np.full_like(depth, np.inf), frames=3)
    assert seen.at(2.97, 0.0) == 0


def test_pixels_without_a_reading_clear_nothing():
    seen = Mapped().show(BOX, frames=5)
    depth, _ = render(Scene(()), CAMERA, VGA)
    hidden = depth.copy()
    hidden[:, 200:440] = np.nan
    seen.show(depth=hidden, frames=10)
    assert (seen.at(1.87, np.arange(-0.12, 0.13, 0.05)) == 100).all()
    seen.show(depth=depth, frames=2)
    assert (seen.at(1.87, np.arange(-0.12, 0.13, 0.05)) == 0).all()


def test_rays_over_a_low_obstacle_leave_it():
    """The robot drives up to a curb until it is below the image: every ray passes over it."""
    curb = Solid(1.5, 0.0, 0.1, 3.0, 0.08)
    seen = Mapped().show(curb, WALL)
    seen.drive(0.9, pose(0.9, 0.0, 0.6, pitch=math.radians(12.0)))
    seen.show(curb, WALL, frames=20)
    assert (seen.at(1.47, np.arange(-0.3, 0.3, 0.05)) == 100).all()


def test_rays_under_a_table_leave_its_top():
    """From far the top is seen; near by only the floor under it is, through the same cells."""
    top = Solid(2.5, 0.0, 0.6, 1.0, 0.75, 0.71)
    seen = Mapped(pose(0.0, 0.0, 0.6, pitch=math.radians(5.0))).show(top, frames=5)
    assert (seen.at(2.22, np.arange(-0.4, 0.4, 0.05)) == 100).all()
    seen.drive(1.5, pose(1.5, 0.0, 0.4, pitch=math.radians(35.0)))
    seen.show(top, frames=20)
    assert (seen.at(2.22, np.arange(-0.4, 0.4, 0.05)) == 100).all()
    seen.drive(0.0, pose(0.0, 0.0, 0.6, pitch=math.radians(5.0)))
    seen.show(frames=3)
    assert (seen.at(2.22, np.arange(-0.4, 0.4, 0.05)) == 0).all()


def test_what_is_over_the_robot_is_no_obstacle():
    seen = Mapped(pose(0.0, 0.0, 1.0)).show(Solid(3.0, 0.0, 0.5, 1.0, 2.4, 1.9), frames=3)
    assert not (seen.mapper.occupancy().cells == 100).any()


def test_the_map_rolls_with_the_robot_and_forgets_what_leaves_it():
    """Cells keep their place in odom over many metres; those that left come back unknown."""
    seen = Mapped().show(BOX)
    seen.mapper.move(robot_at(3.0, -2.0), int(2e9))
    assert (seen.at(1.87, np.arange(-0.12, 0.13, 0.05)) == 100).all()
    assert seen.mapper.occupancy().origin_xy_m == pytest.approx((-2.0, -7.0))
    seen.mapper.move(robot_at(8.0, -2.0), int(4e9))
    seen.mapper.move(robot_at(0.0, 0.0), int(8e9))
    assert (seen.mapper.occupancy().cells != 100).all()


def test_the_scan_has_what_the_camera_no_longer_sees():
    """A box that is now behind the robot, which drove around it; nobody saw what is aside."""
    seen = Mapped().show(BOX, frames=2)
    seen.drive(3.0, pose(3.0, 0.0, 0.6, pitch=math.radians(12.0)))
    image, _ = render(Scene((WALL,)), seen.camera, VGA)
    view = seen.mapper.view(image, VGA, seen.camera, seen.robot)
    seen.mapper.integrate(view)
    scan = seen.mapper.sweep([view], seen.robot, 0)
    count = len(scan.ranges_m)
    assert scan.ranges_m[0] == pytest.approx(3.0 - 2.15, abs=0.06)  # its top was seen
    assert scan.ranges_m[count // 2] == pytest.approx(0.95, abs=0.06)
    assert np.isnan(scan.ranges_m[[count // 4, 3 * count // 4]]).all()


@pytest.mark.parametrize('step_m', [0.05, -0.05, 0.35, -1.25])
def test_rolling_equals_a_map_that_is_copied(step_m):
    """The modulo addressing against arrays that are moved, over a long drive."""
    params = MappingParams(size_m=4.0)
    rolling, copied = ObstacleMapper(params), ReferenceMapper(params)
    scene = Scene(tuple(Solid(0.7 * i * math.copysign(1, step_m), (-1) ** i * 0.8, 0.2, 0.2, 0.5)
                        for i in range(1, 14)))
    for frame in range(8):
        x = frame * step_m
        yaw = 0.0 if step_m > 0 else math.pi
        camera = pose(x, 0.1 * frame, 0.6, yaw, math.radians(15.0))
        depth, _ = render(scene, camera, VGA)
        robot = robot_at(x, 0.1 * frame)
        view = rolling.view(depth, VGA, camera, robot)
        for mapper in (rolling, copied):
            mapper.move(robot, int(frame * 0.5e9))
            mapper.integrate(view)
        one, other = rolling.occupancy(), copied.occupancy()
        assert one.origin_xy_m == pytest.approx(other.origin_xy_m)
        assert (one.cells != other.cells).mean() < 1e-3
        assert (one.cells == 100).sum() > 10


@pytest.mark.parametrize('seed', range(6))
def test_the_compiled_loops_do_what_the_plain_ones_do(seed):
    """Noisy scenes that change, a robot that moves: the same map but for rounding."""
    rng = np.random.default_rng(seed)
    params = MappingParams()
    fast, plain = ObstacleMapper(params), ReferenceMapper(params)
    solids = [Solid(*rng.uniform((0.8, -2.0), (4.5, 2.0)), *rng.uniform(0.05, 0.6, 2),
                    rng.uniform(0.05, 1.5), yaw=rng.uniform(0, 3)) for _ in range(8)]
    for frame in range(6):
        camera = pose(0.1 * frame, 0.0, 0.7, 0.05 * frame, math.radians(15.0), 0.02)
        depth, _ = render(Scene((*solids[frame:], WALL)), camera, VGA)
        view = fast.view(noisy(depth, rng), VGA, camera, robot_at(0.1 * frame))
        for mapper in (fast, plain):
            mapper.move(robot_at(0.1 * frame), int(frame * 1e8))
            mapper.integrate(view)
        one, other = fast.occupancy().cells, plain.occupancy().cells
        # single precision decides otherwise where a reading lies on the border of two cells
        assert (one != other).sum() <= 0.004 * (other != -1).sum()
        assert (other == 100).sum() > 100


def test_what_is_out_of_sight_is_forgotten_in_time():
    seen = Mapped(memory_s=2.0).show(BOX, frames=3)
    hidden = np.full((480, 640), np.nan, np.float32)
    hidden[0, 0] = 1.0
    seen.show(depth=hidden, frames=1, elapsed_s=0.5)
    assert seen.at(1.87, 0.0) == 100
    seen.show(depth=hidden, frames=10, elapsed_s=0.5)
    assert (seen.mapper.occupancy().cells == -1).all()


def test_a_robot_that_is_carried_away_starts_a_new_map():
    seen = Mapped().show(BOX)
    assert not seen.mapper.move(robot_at(0.5), int(0.15e9))
    assert seen.mapper.move(robot_at(3.0), int(0.25e9))
    assert (seen.mapper.occupancy().cells == -1).all()


def test_a_map_may_lie_anywhere_on_earth_or_off_it():
    """Only as many cells are touched as the map has, not those on the way to it."""
    seen = Mapped().show(BOX)
    assert seen.mapper.move(robot_at(1e9, -1e9), int(10e9))
    assert (seen.mapper.occupancy().cells == -1).all()
    assert seen.mapper.occupancy().origin_xy_m == pytest.approx((1e9 - 5.0, -1e9 - 5.0), abs=0.05)


def test_after_a_reset_nothing_is_known_and_time_may_run_again():
    seen = Mapped().show(BOX, frames=5)
    seen.mapper.reset()
    seen.time_s = 0.0
    assert not seen.mapper.move(robot_at(0.0), 0)
    assert (seen.mapper.occupancy().cells == -1).all()
    assert seen.show(BOX).at(1.87, 0.0) == 100


@pytest.mark.parametrize(('depth', 'sentence'), [
    (np.full((480, 640), np.nan, np.float32), 'holds no reading'),
    (np.full((480, 640), -np.inf, np.float32), 'holds no reading'),
    (np.full((480, 640), 1800.0, np.float32), 'median of the depth image is 1800 m'),
    (np.full((480, 640), 0.0018, np.float32), 'median of the depth image is 0.0018 m'),
    (np.ones((240, 320), np.float32), '320x240 pixels, its camera_info says 640x480'),
])
def test_depth_that_cannot_be_is_refused(depth, sentence):
    with pytest.raises(ValueError, match=sentence):
        ObstacleMapper(MappingParams()).view(depth, VGA, CAMERA, ROBOT)


def test_an_empty_field_is_a_picture():
    """Everything beyond range is a reading: it clears, and is not refused."""
    seen = Mapped(pose(0.0, 0.0, 0.2)).show(depth=np.full((480, 640), np.inf, np.float32))
    assert seen.at(2.0, 0.0) == 0


LEVEL = Plane(np.array([0.0, 0.0, 1.0]), 0.0)


@pytest.mark.parametrize('pitch_error_deg', [-4.0, -3.0, 0.0, 3.0, 4.0])
@pytest.mark.parametrize('roll_error_deg', [-2.0, 2.0])
def test_the_floor_corrects_the_transforms(pitch_error_deg, roll_error_deg):
    """Tilt and height come from the floor, with furniture on it and noise."""
    scene = Scene((BOX, WALL, Solid(2.2, 0.9, 0.8, 0.5, 0.12), Solid(1.6, -0.7, 0.5, 0.0, 0.7)))
    depth, _ = render(scene, pose(0, 0, 0.6, 0.3, math.radians(12.0)), VGA)
    depth = noisy(depth, np.random.default_rng(3))
    believed = pose(0, 0, 0.63, 0.3, math.radians(12.0 + pitch_error_deg),
                    math.radians(roll_error_deg))
    view = ObstacleMapper(MappingParams()).view(depth, VGA, believed, ROBOT)
    assert view.ground.camera_height_m == pytest.approx(0.6, abs=0.01)
    assert view.ground.tilt_deg == pytest.approx(
        math.hypot(pitch_error_deg, roll_error_deg), abs=0.25)
    truth = pose(0, 0, 0.6, 0.3, math.radians(12.0))
    assert view.up @ (truth[:3, :3].T @ [0, 0, 1]) > math.cos(math.radians(0.25))


@pytest.mark.parametrize(('scene', 'camera'), [
    (Scene((Solid(1.0, 0.0, 0.1, 12.0, 2.5),)), pose(0.0, 0.0, 0.9)),
    (Scene((Solid(3.0, 0.0, 5.9, 9.0, 0.75),)), pose(0.0, 0.0, 1.2, pitch=math.radians(30.0))),
], ids=['a wall', 'a table'])
def test_what_is_no_floor_is_not_taken_for_it(scene, camera):
    depth, _ = render(scene, camera, VGA)
    ground = find_ground(
        depth, np.ascontiguousarray(Mapped().mapper.view(depth, VGA, camera, ROBOT).rays),
        camera, LEVEL, 5.0, 0.1)
    assert ground.readings == 0
    assert ground.camera_height_m == pytest.approx(camera[2, 3])


def test_a_platform_stands_on_the_floor():
    """A large low step is nearer to the expected height than it is high, and no floor."""
    step = Solid(2.5, 0.0, 1.2, 2.0, 0.09)
    seen = Mapped(ground_offset_m=0.15).show(step)
    assert seen.at(1.92, 0.0) == 100
    assert seen.at(1.7, 0.0) == 0


def test_a_ramp_under_the_robot_is_floor():
    """On a slope the robot's own axes tell what is level."""
    tilted = np.eye(4)
    slope = math.radians(8.0)
    tilted[:3, :3] = pose(0, 0, 0, pitch=-slope)[:3, :3] @ np.linalg.inv(pose(0, 0, 0)[:3, :3])
    depth, _ = render(Scene((BOX,)), CAMERA, VGA)
    seen = Mapped(camera=tilted @ CAMERA, robot=tilted).show(depth=depth)
    assert (seen.at(np.arange(1.0, 1.7, 0.05), 0.0) == 0).all()
    assert (seen.at(1.87, np.arange(-0.1, 0.1, 0.05)) == 100).all()


@pytest.mark.parametrize('distance_m', [1.0, 2.0])
def test_five_centimetres_are_seen(distance_m):
    """A 5 cm cube, noise on, at several places relative to the grid."""
    rng = np.random.default_rng(5)
    for offset in np.linspace(0.0, 0.05, 5):
        cube = Solid(distance_m + offset, 0.3 + offset / 2, 0.05, 0.05, 0.05)
        depth, _ = render(Scene((cube, WALL)), CAMERA, VGA)
        seen = Mapped().show(depth=noisy(depth, rng))
        near = seen.mapper.occupancy().cells[
            int((5.3 + offset / 2) / 0.05) - 1:, int((5 + distance_m + offset) / 0.05) - 1:]
        assert (near[:3, :3] == 100).any()


def mask_of(seen, solids, classes):
    """Return the class of each pixel; the floor has class 0."""
    _, what = render(Scene(solids), seen.camera, seen.intrinsics)
    return np.array([*classes, 255, 0], np.uint8)[what]  # -2 is the sky, -1 the floor


TWO_BOXES = (BOX, Solid(2.02, 0.9, 0.3, 0.3, 0.4))


def labelled(classes, rules, solids=TWO_BOXES, frames=3, **params):
    """Show a scene with the mask that knows its classes."""
    seen = Mapped(use_mask=True, class_rules=rules, **params)
    seen.mapper.set_class_names({0: 'floor', 7: 'person', 8: 'box'})
    for _ in range(frames):
        seen.show(*solids)
        depth, _ = render(Scene(solids), seen.camera, seen.intrinsics)
        view = seen.mapper.view(depth, seen.intrinsics, seen.camera, seen.robot)
        seen.mapper.label(view, mask_of(seen, solids, classes))
    return seen


def test_cells_get_the_class_of_what_is_in_them():
    seen = labelled((7, 8), ())
    classes = seen.mapper.class_map()
    assert set(classes.cells[(seen.mapper.occupancy().cells == 100)]) <= {7, 8, -1}
    where = {i: np.argwhere(classes.cells == i) * 0.05 - 5.0 for i in (0, 7, 8)}
    assert len(where[0]) > 1000
    assert len(where[7]) > 5
    assert (np.abs(where[7][:, 0]) < 0.25).all()
    assert len(where[8]) > 5
    assert (np.abs(where[8][:, 0] - 0.9) < 0.25).all()


def test_a_class_has_its_own_cost_margin_and_memory():
    rules = ('person cost=90 margin_m=0.3 memory_s=1', 'box cost=40')
    seen = labelled((7, 8), rules)
    assert seen.at(1.88, 0.0) == 90
    assert seen.at(1.65, 0.0) == 90
    assert seen.at(1.88, 0.9) == 40
    assert seen.at(1.65, 0.9) == 0
    blind = np.full((480, 640), np.nan, np.float32)
    blind[0, 0] = 1.0
    seen.show(depth=blind, elapsed_s=3.0)
    assert seen.at(1.88, 0.0) == -1
    assert seen.at(1.88, 0.9) == 40


def test_a_class_without_weight_is_no_obstacle():
    seen = labelled((7, 8), ('box weight=0',))
    assert seen.at(1.88, 0.0) == 100
    assert seen.at(1.88, 0.9) != 100


def test_rules_may_change_while_running():
    seen = labelled((7, 8), ('person cost=90',))
    assert seen.at(1.88, 0.0) == 90
    seen.mapper.params = MappingParams(use_mask=True, class_rules=('person cost=50',))
    seen.mapper.set_class_names(seen.mapper.class_names)
    assert seen.at(1.88, 0.0) == 50


def test_a_mask_of_another_size_is_refused():
    seen = Mapped(use_mask=True).show(BOX)
    view = seen.mapper.view(
        render(Scene((BOX,)), CAMERA, VGA)[0], VGA, CAMERA, ROBOT)
    with pytest.raises(ValueError, match='320x240 pixels'):
        seen.mapper.label(view, np.zeros((240, 320), np.uint8))


@pytest.mark.parametrize(('rules', 'sentence'), [
    (('person memroy_s=2',), "no setting 'memroy_s'; did you mean 'memory_s'"),
    (('person cost=200',), 'cost is 200.0; it must be from 0 to 100'),
    (('person cost=much',), "'much' of cost is no number"),
])
def test_rules_that_cannot_be_are_explained(rules, sentence):
    with pytest.raises(ValueError, match=sentence):
        MappingParams(use_mask=True, class_rules=rules)


def test_rules_need_masks_and_classes_that_exist():
    with pytest.raises(ValueError, match='without a mask there are no classes'):
        MappingParams(class_rules=('person cost=1',))
    mapper = ObstacleMapper(MappingParams(use_mask=True, class_rules=('persn cost=1',)))
    with pytest.raises(ValueError, match="no class 'persn'; did you mean 'person'"):
        mapper.set_class_names({7: 'person'})


def test_inflation_falls_with_the_distance():
    seen = Mapped(inflation_radius_m=0.5).show(Solid(2.025, 0.025, 0.02, 0.02, 1.0), frames=2)
    costs = [int(seen.at(2.025 - d, 0.025)) for d in (0.0, 0.05, 0.2, 0.4, 0.6)]
    assert costs[0] == 100
    assert 100 > costs[1] > costs[2] > costs[3] > 0
    assert costs[4] == 0
