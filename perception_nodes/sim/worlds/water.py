"""A lake with waves: buoys, barrels, crates, logs and bushes about a small boat."""

from collections.abc import Callable
import math

import numpy as np
from perception_nodes.sim import furniture
from perception_nodes.sim.classes import class_id
from perception_nodes.sim.parts import ball, box, cylinder, on_ground, Paint, Parts, rod
from perception_nodes.sim.placing import Ground, half_size, Spot
from perception_nodes.sim.poses import Pose
from perception_nodes.sim.scene import Light, LONG_ROBOT, RobotStart, Scene, Shape, Split, Thing
from perception_nodes.sim.worlds.lighting import tinted

_HALF_M = 12.0  # of the lake


def make_water(seed: int, split: Split) -> Scene:
    """Draw a lake; the boat floats in its middle and rolls with the waves."""
    rng = np.random.default_rng(seed)
    paint = Paint(rng, split)
    blue = (paint.uniform(0.1, 0.35), paint.uniform(0.3, 0.5), paint.uniform(0.4, 0.65))
    water = paint.textured(str(rng.choice(['marble', 'weave', 'plaster'])), blue,
                           paint.uniform(0.15, 0.6))
    things = [Thing('water', 'water', class_id('floor'),
                    (Shape('plane', (0.0, 0.0, 0.0), water),), Pose())]
    _add_shore(things, paint)
    ground = Ground()
    ground.take(Spot(0.0, 0.0, 0.0, 1.0, 1.0))
    for i in range(int(rng.integers(8, 20))):
        kind = str(rng.choice(sorted(_FLOATING)))
        label, make, sunk = _FLOATING[kind]
        parts = make(paint)
        away, around = 1.5 + 9.0 * math.sqrt(paint.uniform(0, 1)), paint.uniform(-1.6, 1.6)
        spot = Spot(away * math.cos(around), away * math.sin(around),
                    paint.uniform(-math.pi, math.pi), *half_size(parts))
        if not ground.is_free(spot, 0.4):
            continue
        ground.take(spot)
        fixed = kind in ('post', 'bush')
        depth = 0.0 if fixed else sunk * _height(parts)
        things.append(Thing(
            f'{kind}_{i}', kind, class_id(label), parts,
            Pose.at(spot.x_m, spot.y_m, -depth, spot.yaw_rad),
            motion='fixed' if fixed else 'floats'))
    bright = paint.uniform(0.8, 1.25)
    sun = np.array([paint.uniform(-1, 1), paint.uniform(-1, 1), -paint.uniform(0.6, 1.5)])
    x, y, z = (sun / np.linalg.norm(sun)).tolist()
    sky = paint.uniform(0.6, 1.0)
    return Scene(
        'water', seed, split, tuple(things),
        (Light((-15 * x, -15 * y, -15 * z), (x, y, z), tinted(rng, 0.7 * bright),
               directional=True),),
        ambient=tinted(rng, 0.4 * bright), headlight=(0.02, 0.02, 0.02),
        sky=((0.4 * sky, 0.6 * sky, 0.95 * sky), (0.85 * sky, 0.9 * sky, 0.95 * sky)),
        bounds_xy_m=(-_HALF_M, -_HALF_M, _HALF_M, _HALF_M),
        robot=RobotStart(0.0, 0.0, paint.uniform(-0.5, 0.5), LONG_ROBOT),
        goal_xy_m=(10.0, paint.uniform(-5.0, 5.0)), wave_height_m=paint.uniform(0.02, 0.12))


def _add_shore(things: list[Thing], paint: Paint) -> None:
    """Put a quay or a bank along one or two sides."""
    for side in range(4):
        if paint.rng.random() < 0.4:
            high = paint.uniform(0.4, 2.5)
            wall = paint.any_of(('bricks', 'carpet', 'plaster', 'planks'), 0.5)
            things.append(Thing(
                f'shore_{side}', 'shore', class_id('wall'),
                (box((1.0, _HALF_M + 1.0, high / 2), (_HALF_M, 0, high / 2), wall),),
                Pose.at(0, 0, 0, side * math.pi / 2)))


def _buoy(paint: Paint) -> Parts:
    radius, skin = paint.uniform(0.15, 0.4), paint.any_of(('', '', 'stripes'))
    return on_ground((ball(radius, (0, 0, 0), skin),
                      rod(0.03, (0, 0, radius * 0.9), (0, 0, radius * 1.8), paint.plain())))


def _barrel(paint: Paint) -> Parts:
    radius, half, skin = paint.uniform(0.2, 0.3), paint.uniform(0.3, 0.45), paint.plain()
    rim = paint.plain()
    return on_ground((cylinder(radius, half, (0, 0, 0), skin, pitch=math.pi / 2),
                      *(cylinder(radius * 1.03, 0.02, (s * half * 0.6, 0, 0), rim,
                                 pitch=math.pi / 2) for s in (-1, 1))))


def _crate(paint: Paint) -> Parts:
    half = tuple(paint.uniform(0.15, 0.5) for _ in range(3))
    return (box((half[0], half[1], half[2]), (0, 0, half[2]),
                paint.any_of(('planks', 'wood', 'label', ''))),)


def _log(paint: Paint) -> Parts:
    radius, bark = paint.uniform(0.08, 0.2), paint.textured('wood', (0.45, 0.33, 0.22))
    return on_ground((cylinder(radius, paint.uniform(0.6, 1.4), (0, 0, 0), bark,
                               pitch=math.pi / 2),))


def _post(paint: Paint) -> Parts:
    half = paint.uniform(0.4, 1.0)
    surface = paint.any_of(('stripes', 'wood', ''))
    return (cylinder(paint.uniform(0.06, 0.15), half, (0, 0, half), surface),)


def _bush(paint: Paint) -> Parts:
    return furniture.plant(paint).parts


def _height(parts: Parts) -> float:
    return max(part.pose.xyz_m[2] for part in parts) + 0.1


# what it is, how it is made, which share of it is under water
_FLOATING: dict[str, tuple[str, Callable[[Paint], Parts], float]] = {
    'buoy': ('ball', _buoy, 0.25), 'barrel': ('can', _barrel, 0.4),
    'crate': ('box', _crate, 0.4), 'log': ('tube', _log, 0.5), 'post': ('tube', _post, 0.0),
    'bush': ('plant', _bush, 0.0)}
