"""Objects on a table under a camera: standing packed side by side, or dropped in a pile."""

from collections.abc import Sequence
import math

import numpy as np
from perception_nodes.sim import furniture
from perception_nodes.sim.classes import class_id
from perception_nodes.sim.families import draw_family, FAMILIES, Family
from perception_nodes.sim.parts import box, Paint
from perception_nodes.sim.placing import Ground, half_size, Spot
from perception_nodes.sim.poses import looking_at, Pose
from perception_nodes.sim.scene import bounds, Light, Scene, Shape, Split, Thing, Workspace
from perception_nodes.sim.worlds.lighting import tinted

HALF_WORKSPACE_M = 0.15  # as in the clutter removal benchmark of VGN
_DROP_M = 0.08  # between objects on their way into the pile
_SETTLE_S = 1.2


def make_packed(seed: int, split: Split) -> Scene:
    """Draw objects that stand side by side; see :func:`make_tabletop`."""
    return make_tabletop(seed, split, pile=False)


def make_pile(seed: int, split: Split) -> Scene:
    """Draw objects that are dropped on each other; see :func:`make_tabletop`."""
    return make_tabletop(seed, split, pile=True)


def make_tabletop(seed: int, split: Split, pile: bool, count: int | None = None,
                  families: Sequence[str] = ()) -> Scene:
    """
    Draw a table with graspable objects on a workspace of 0.3 m x 0.3 m.

    :param count: Number of objects; None draws four to seven. A packed scene has fewer where
        there is no room.
    :param families: Names of the families to draw from; empty takes those of the split.
    """
    rng = np.random.default_rng([seed, int(pile)])
    paint = Paint(rng, split)
    things = _surroundings(paint)
    top_m = float(max(bounds(thing.shapes)[1][2] for thing in things if thing.name == 'table'))
    wanted = int(rng.integers(4, 8)) if count is None else count
    ground = Ground()
    for i in range(wanted):
        family = _drawn(paint, split, families)
        parts = family.build(paint)
        pose = _dropped(paint, top_m, i) if pile else _standing(paint, ground, top_m,
                                                                half_size(parts))
        if pose is not None:
            things.append(Thing(f'{family.name}_{i}', family.name, family.class_id, parts, pose,
                                motion='free', density_kgpm3=family.density_kgpm3))
    centre = (0.0, 0.0, top_m)
    bright = paint.uniform(0.75, 1.3)
    return Scene(
        'tabletop_pile' if pile else 'tabletop_packed', seed, split, tuple(things),
        _lights(paint, top_m, bright), ambient=tinted(rng, paint.uniform(0.28, 0.45) * bright),
        headlight=tinted(rng, paint.uniform(0.05, 0.25) * bright),
        sky=((0.6, 0.7, 0.85), (0.85, 0.88, 0.92)), bounds_xy_m=(-2.0, -2.0, 2.0, 2.0),
        workspace=Workspace(
            centre, (HALF_WORKSPACE_M, HALF_WORKSPACE_M),
            tuple(tuple(row) for row in _camera(paint, centre).tolist())),
        has_gripper=True, settle_s=_SETTLE_S if pile else 0.4, is_herded=pile)


def _drawn(paint: Paint, split: Split, families: Sequence[str]) -> Family:
    if families:
        return FAMILIES[families[int(paint.rng.integers(len(families)))]]
    return draw_family(paint, split, graspable_only=True)


def _surroundings(paint: Paint) -> list[Thing]:
    """Return floor, table and at times walls behind it."""
    floor = paint.any_of(('planks', 'tiles', 'carpet', 'checker', 'marble'), 0.8)
    things = [Thing('floor', 'floor', class_id('floor'),
                    (Shape('plane', (0.0, 0.0, 0.0), floor),), Pose())]
    piece = furniture.table(paint, paint.uniform(0.35, 0.55), paint.uniform(0.35, 0.7),
                            paint.uniform(0.65, 0.8))
    things.append(Thing('table', 'table', class_id('table'), piece.parts, Pose()))
    for name, x, y, yaw in (('wall_x', 1.2, 0.0, 0.0), ('wall_y', 0.0, 1.2, math.pi / 2)):
        if paint.rng.random() < 0.5:
            wall = paint.any_of(('plaster', 'bricks', 'stripes', ''), 1.0)
            things.append(Thing(name, 'wall', class_id('wall'),
                                (box((0.05, 1.25, 1.25), (0, 0, 1.25), wall),),
                                Pose.at(x, y, 0.0, yaw)))
    return things


def _dropped(paint: Paint, top_m: float, rank: int) -> Pose:
    """Return a pose above the table, turned anyhow, above those dropped earlier."""
    quat = paint.rng.normal(size=4)
    w, x, y, z = (quat / np.linalg.norm(quat)).tolist()
    return Pose((paint.uniform(-0.05, 0.05), paint.uniform(-0.05, 0.05),
                 top_m + 0.12 + _DROP_M * rank), (w, x, y, z))


def _standing(paint: Paint, ground: Ground, top_m: float,
              half_m: tuple[float, float]) -> Pose | None:
    """Return a free place near the middle; None where there is none."""
    for _ in range(30):
        reach = HALF_WORKSPACE_M - 0.03
        spot = Spot(paint.uniform(-reach, reach), paint.uniform(-reach, reach),
                    paint.uniform(-math.pi, math.pi), *half_m)
        if ground.is_free(spot, 0.004):
            ground.take(spot)
            return Pose.at(spot.x_m, spot.y_m, top_m + 0.0005, spot.yaw_rad)
    return None


def _camera(paint: Paint, centre: tuple[float, float, float]) -> np.ndarray:
    """Return a view from 0.5 to 0.7 m, from above down to 45 degrees."""
    away, tilt = paint.uniform(0.5, 0.7), paint.uniform(0.0, math.pi / 4)
    around = paint.uniform(-math.pi, math.pi)
    eye = (centre[0] + away * math.sin(tilt) * math.cos(around),
           centre[1] + away * math.sin(tilt) * math.sin(around),
           centre[2] + away * math.cos(tilt))
    return looking_at(eye, (centre[0], centre[1], centre[2] + 0.03))


def _lights(paint: Paint, top_m: float, bright: float) -> tuple[Light, ...]:
    count = int(paint.rng.integers(1, 4))
    return tuple(Light(
        (paint.uniform(-1.2, 1.2), paint.uniform(-1.2, 1.2), top_m + paint.uniform(0.9, 1.7)),
        (0.0, 0.0, -1.0), tinted(paint.rng, bright * paint.uniform(0.35, 0.75) /
                                 math.sqrt(count))) for _ in range(count))
