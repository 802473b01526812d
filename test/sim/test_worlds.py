"""What scenes consist of, before any physics."""

import numpy as np
from perception_nodes.sim.classes import class_id
from perception_nodes.sim.families import FAMILIES, HELD_OUT_FAMILIES
from perception_nodes.sim.parts import Paint
from perception_nodes.sim.scene import bounds, occupancy, Scene
from perception_nodes.sim.textures import KINDS, names, picture
from perception_nodes.sim.worlds import make_scene, WORLDS
from perception_nodes.sim.worlds.corridor import corridor_scene, grown_cells, is_passable
from perception_nodes.sim.worlds.tabletop import make_tabletop
import pytest


def surfaces(scene):
    return {s.surface.texture for t in scene.things for s in t.shapes if s.surface.texture}


@pytest.mark.parametrize('world', list(WORLDS))
def test_a_seed_is_a_scene(world):
    """Twice the same seed is the same scene; another seed is another."""
    assert make_scene(world, 3) == make_scene(world, 3)
    assert make_scene(world, 3) != make_scene(world, 4)
    assert len({thing.name for thing in make_scene(world, 3).things}) == len(
        make_scene(world, 3).things)


def test_at_least_sixteen_families_and_four_held_out():
    assert len(FAMILIES) >= 16
    assert len(HELD_OUT_FAMILIES) == 4
    seen = {f.class_id for f in FAMILIES.values() if not f.held_out}
    assert {FAMILIES[name].class_id for name in HELD_OUT_FAMILIES} <= seen


@pytest.mark.parametrize('world', ['room', 'tabletop_packed', 'tabletop_pile'])
def test_splits_keep_families_and_textures_apart(world):
    """Training and validation never meet what tests hold out; tests do."""
    held_out = set(HELD_OUT_FAMILIES)
    test_textures = {name for kind in KINDS for name in names(kind, 'test')}
    for split in ('train', 'val'):
        scenes = [make_scene(world, seed, split) for seed in range(6)]
        assert not held_out & {t.family for s in scenes for t in s.things}
        assert not test_textures & set().union(*map(surfaces, scenes))
    scenes = [make_scene(world, seed, 'test') for seed in range(6)]
    assert held_out & {t.family for s in scenes for t in s.things}
    assert set().union(*map(surfaces, scenes)) <= test_textures


@pytest.mark.parametrize('name', list(FAMILIES))
def test_every_family_stands_on_the_ground(name):
    """Its lowest point is z = 0, it is centred, of a size one can hold, and in one piece."""
    paint = Paint(np.random.default_rng(1), 'test')
    for _ in range(5):
        low, high = bounds(FAMILIES[name].build(paint))
        assert low[2] == pytest.approx(0.0, abs=1e-9)
        assert np.allclose(low[:2], -high[:2])
        assert 0.01 < (high - low).max() < 0.35


def test_furniture_does_not_stand_in_furniture():
    """In a room no two pieces share ground; chairs may reach under tables but do not touch."""
    for seed in range(5):
        scene = make_scene('room', seed)
        solid = [t for t in scene.things if t.class_id in map(class_id, ('sofa', 'shelf', 'bin'))]
        for i, one in enumerate(solid):
            for other in solid[i + 1:]:
                grids = [occupancy(_only(scene, t), 0.02, 2.0, 0.02).cells > 0
                         for t in (one, other)]
                assert not (grids[0] & grids[1]).sum() > 4


def test_the_robot_starts_and_ends_free():
    """Neither start nor goal touches anything, and both lie within the walls."""
    for world in ('room', 'corridor', 'water'):
        for seed in range(5):
            scene = make_scene(world, seed)
            grid = occupancy(scene, 0.02, 0.6)
            for x, y in ((scene.robot.x_m, scene.robot.y_m), scene.goal_xy_m):
                column = int((x - grid.origin_xy_m[0]) / grid.resolution_m)
                row = int((y - grid.origin_xy_m[1]) / grid.resolution_m)
                around = grid.cells[row - 3:row + 4, column - 3:column + 4]
                assert not around.any(), (world, seed)


def test_occupancy_of_a_box(scene, thing):
    """A box of 1.0 m x 0.5 m fills that area; what is under or above the robot does not."""
    block = thing('box', (0.5, 0.25, 0.3), (1.0, 1.0, 0.3))
    plate = thing('box', (1.0, 1.0, 0.01), (-2.0, 0.0, 1.5))
    sill = thing('box', (1.0, 1.0, 0.005), (-2.0, 0.0, 0.005))
    grid = occupancy(scene(block, plate, sill), 0.02, 0.6, 0.05)
    rows, columns = np.nonzero(grid.cells == 100)
    x, y = columns * 0.05 - 5.0 + 0.025, rows * 0.05 - 5.0 + 0.025
    assert len(rows) * 0.05 ** 2 == pytest.approx(0.5, abs=0.17)
    assert (np.abs(x - 1.0) <= 0.5 + 0.05).all()
    assert (np.abs(y - 1.0) <= 0.25 + 0.05).all()
    inner = grid.cells[round(5.8 / 0.05):round(6.2 / 0.05), round(5.6 / 0.05):round(6.4 / 0.05)]
    assert (inner == 100).all()


def test_corridors_of_given_cells():
    """Post (r, c) stands where the BARN data set says."""
    cells = np.zeros((30, 30), bool)
    cells[2, 5] = True
    scene = corridor_scene(cells)
    [post] = scene.things[-1].shapes
    assert post.pose.xyz_m[:2] == pytest.approx((-4.425 + 0.3, 5.175 + 0.75))
    assert post.size_m[0] == 0.075
    assert scene.robot.x_m, scene.robot.y_m == (-2.25, 3.0)


def test_a_wall_across_is_not_passable():
    cells = np.zeros((30, 30), bool)
    assert is_passable(cells)
    cells[:, 12] = True
    assert not is_passable(cells)
    assert grown_cells(np.random.default_rng(0), 0.3, 2).mean() > 0.1


def test_tabletop_of_given_families():
    """A benchmark asks for five objects of held-out families."""
    scene = make_tabletop(5, 'test', pile=True, count=5, families=HELD_OUT_FAMILIES)
    free = [t for t in scene.things if t.motion == 'free']
    assert len(free) == 5
    assert {t.family for t in free} <= set(HELD_OUT_FAMILIES)


@pytest.mark.parametrize('arguments', [('room', -1, 'train'), ('room', 0, 'exam')])
def test_wrong_arguments(arguments):
    with pytest.raises(ValueError, match='seed is -1|choose one of train, val, test'):
        make_scene(*arguments)


@pytest.mark.parametrize('kind', list(KINDS))
def test_textures_are_the_same_everywhere(kind):
    """A picture is a function of its name; held-out ones are others."""
    shown = picture(f'{kind}_0')
    assert (shown.shape, shown.dtype) == ((128, 128, 3), np.uint8)
    picture.cache_clear()
    assert np.array_equal(shown, picture(f'{kind}_0'))
    assert not set(names(kind, 'train')) & set(names(kind, 'test'))
    assert not np.array_equal(shown, picture(f'{kind}_8'))


def _only(scene, thing):
    return Scene('part', 0, 'train', (thing,), (), (0, 0, 0), (0, 0, 0),
                 ((0, 0, 0), (0, 0, 0)), scene.bounds_xy_m)
