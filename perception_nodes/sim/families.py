"""
The small objects: families of composed primitives, drawn anew for every scene.

Every object stands centred on the origin of its frame. Four families are held out: scenes of
the split ``test`` contain them, no others do.
"""

from collections.abc import Callable
from dataclasses import dataclass
import math

from perception_nodes.sim.classes import class_id
from perception_nodes.sim.parts import (
    ball,
    box,
    cylinder,
    ellipsoid,
    on_ground,
    Paint,
    Parts,
    ring,
    rod,
    STEEL,
)
from perception_nodes.sim.scene import Split


@dataclass(frozen=True)
class Family:
    """A kind of object."""

    name: str
    class_id: int
    build: Callable[[Paint], Parts]
    graspable: bool  # some grasp with an opening of 8 cm holds it, in most poses
    held_out: bool = False
    density_kgpm3: float = 400.0


def families(split: Split, graspable_only: bool = False) -> list[Family]:
    """
    Return what a split draws from: train and val the families seen in training, test all.

    :param graspable_only: Leave out what a gripper of 8 cm cannot hold.
    """
    return [family for family in FAMILIES.values()
            if (split == 'test' or not family.held_out)
            and (family.graspable or not graspable_only)]


def draw_family(paint: Paint, split: Split, graspable_only: bool = False) -> Family:
    """
    Draw one family: each class as likely as the others.

    In the split ``test`` two of five are held out.
    """
    choice = families(split, graspable_only)
    held_out = [family for family in choice if family.held_out]
    if held_out and paint.rng.random() < 0.4:
        choice = held_out
    labels = sorted({family.class_id for family in choice})
    label = labels[int(paint.rng.integers(len(labels)))]
    choice = [family for family in choice if family.class_id == label]
    return choice[int(paint.rng.integers(len(choice)))]


def _carton(paint: Paint) -> Parts:
    half = (paint.uniform(0.04, 0.1), paint.uniform(0.018, 0.034), paint.uniform(0.06, 0.14))
    return (box(half, (0, 0, half[2]), paint.label()),)


def _block(paint: Paint) -> Parts:
    half = tuple(paint.uniform(0.015, 0.033) for _ in range(3))
    surface = paint.any_of(('', 'wood', 'checker', 'dots', 'stripes', 'label'))
    return (box((half[0], half[1], half[2]), (0, 0, half[2]), surface),)


def _milk_carton(paint: Paint) -> Parts:
    side, high = paint.uniform(0.028, 0.034), paint.uniform(0.06, 0.09)
    roof, surface = side * 0.75, paint.label()
    slope = math.atan2(roof, side)
    half = math.hypot(side, roof) / 2.0
    slabs = tuple(
        box((half, side, 0.002), (s * side / 2.0, 0, 2 * high + roof / 2.0 - 0.002), surface,
            pitch=s * slope) for s in (-1, 1))
    ridge = box((0.002, side, 0.012), (0, 0, 2 * high + roof + 0.006), surface)
    return (box((side, side, high), (0, 0, high), surface), *slabs, ridge)


def _soda_can(paint: Paint) -> Parts:
    radius, high = paint.uniform(0.026, 0.034), paint.uniform(0.045, 0.08)
    lid = paint.plain(STEEL, 0.6)
    return (cylinder(radius, high, (0, 0, high), paint.label()),
            cylinder(radius * 0.9, 0.003, (0, 0, 2 * high + 0.003), lid))


def _tin(paint: Paint) -> Parts:
    radius, high = paint.uniform(0.028, 0.037), paint.uniform(0.015, 0.035)
    steel = paint.plain(STEEL, 0.6)
    return (cylinder(radius, 0.002, (0, 0, 0.002), steel),
            cylinder(radius * 0.97, high, (0, 0, high), paint.label()),
            cylinder(radius, 0.002, (0, 0, 2 * high - 0.001), steel))


def _round_bottle(paint: Paint) -> Parts:
    radius, high = paint.uniform(0.025, 0.036), paint.uniform(0.05, 0.09)
    neck = radius * paint.uniform(0.35, 0.5)
    glass, cap = paint.plain(specular=0.8), paint.plain()
    label = paint.label() if paint.rng.random() < 0.7 else glass
    top = 2 * high
    return (cylinder(radius, high, (0, 0, high), glass),
            cylinder(radius * 1.01, high * 0.45, (0, 0, high), label),
            ellipsoid((radius, radius, radius), (0, 0, top), glass),
            cylinder(neck, 0.02, (0, 0, top + radius + 0.012), glass),
            cylinder(neck * 1.2, 0.008, (0, 0, top + radius + 0.035), cap))


def _square_bottle(paint: Paint) -> Parts:
    half, high = paint.uniform(0.022, 0.033), paint.uniform(0.05, 0.08)
    depth, surface = half * paint.uniform(0.6, 1.0), paint.any_of(('', 'label'))
    return (box((half, depth, high), (0, 0, high), surface),
            box((half * 0.7, depth * 0.7, 0.008), (0, 0, 2 * high + 0.008), surface),
            cylinder(depth * 0.45, 0.014, (0, 0, 2 * high + 0.028), paint.plain()))


def _spray_bottle(paint: Paint) -> Parts:
    radius, high = paint.uniform(0.026, 0.033), paint.uniform(0.05, 0.08)
    body, head = paint.any_of(('', 'label')), paint.plain()
    top = 2 * high
    return (cylinder(radius, high, (0, 0, high), body),
            cylinder(radius * 0.45, 0.02, (0, 0, top + 0.02), head),
            box((0.028, 0.011, 0.013), (0.012, 0, top + 0.05), head),
            rod(0.005, (0.022, 0, top + 0.035), (0.03, 0, top + 0.012), head))


def _mug(paint: Paint) -> Parts:
    radius, high = paint.uniform(0.033, 0.042), paint.uniform(0.035, 0.055)
    surface = paint.any_of(('', '', 'stripes', 'dots', 'label'))
    out, thick = radius + 0.026, 0.0045
    handle = tuple(
        rod(thick, a, b, surface) for a, b in (
            ((radius - 0.002, 0, 1.5 * high), (out, 0, 1.4 * high)),
            ((out, 0, 1.4 * high), (out, 0, 0.7 * high)),
            ((out, 0, 0.7 * high), (radius - 0.002, 0, 0.5 * high))))
    return (cylinder(radius - 0.002, 0.003, (0, 0, 0.003), surface),
            *ring(radius, 0.005, high, high, surface), *handle)


def _tumbler(paint: Paint) -> Parts:
    radius, high = paint.uniform(0.028, 0.036), paint.uniform(0.04, 0.065)
    surface = paint.any_of(('', 'stripes', 'dots', 'checker'))
    return (cylinder(radius * 0.85, 0.003, (0, 0, 0.003), surface),
            *ring(radius, 0.004, high, high, surface, flare=0.06))


def _bowl(paint: Paint) -> Parts:
    radius, high = paint.uniform(0.05, 0.08), paint.uniform(0.02, 0.03)
    surface = paint.any_of(('', '', 'stripes', 'marble'))
    flare = 0.5
    return (cylinder(radius * 0.72, 0.004, (0, 0, 0.004), surface),
            *ring(radius * 0.9, 0.006, high, high, surface, flare=flare, count=16))


def _ball(paint: Paint) -> Parts:
    radius = paint.uniform(0.02, 0.036)
    return (ball(radius, (0, 0, radius), paint.any_of(('', 'checker', 'stripes', 'dots'))),)


def _plate(paint: Paint) -> Parts:
    radius, surface = paint.uniform(0.075, 0.12), paint.any_of(('', '', 'marble', 'dots'))
    return (cylinder(radius * 0.7, 0.004, (0, 0, 0.004), surface),
            *ring(radius * 0.9, 0.005, 0.022, 0.014, surface, flare=1.15, count=16))


def _book(paint: Paint) -> Parts:
    half = (paint.uniform(0.06, 0.11), paint.uniform(0.045, 0.075), paint.uniform(0.006, 0.022))
    return (box(half, (0, 0, half[2]), paint.textured('cover', (1.0, 1.0, 1.0))),)


def _hammer(paint: Paint) -> Parts:
    long, thick = paint.uniform(0.09, 0.13), paint.uniform(0.009, 0.013)
    head = paint.plain(STEEL, 0.6) if paint.rng.random() < 0.7 else paint.plain()
    reach = paint.uniform(0.035, 0.05)
    return (rod(thick, (-long, 0, thick), (long, 0, thick), paint.wood()),
            box((0.013, reach, 0.013), (long, 0, 0.013), head),
            cylinder(0.015, 0.008, (long, reach, 0.015), head, roll=math.pi / 2))


def _screwdriver(paint: Paint) -> Parts:
    grip, blade = paint.uniform(0.04, 0.06), paint.uniform(0.04, 0.07)
    radius = paint.uniform(0.012, 0.017)
    return (cylinder(radius, grip, (-grip, 0, radius), paint.any_of(('', 'stripes')),
                     pitch=math.pi / 2),
            ball(radius, (-2 * grip, 0, radius), paint.plain()),
            cylinder(0.005, blade, (blade, 0, radius), paint.plain(STEEL, 0.8),
                     pitch=math.pi / 2))


def _wrench(paint: Paint) -> Parts:
    long, half = paint.uniform(0.06, 0.09), paint.uniform(0.007, 0.011)
    steel = paint.plain(STEEL, 0.7) if paint.rng.random() < 0.6 else paint.plain()
    jaw, thick = 2.1 * half, 0.009
    jaws = tuple(
        box((0.016, half * 0.75, thick), (long + 0.022, s * jaw, thick), steel, yaw=s * 0.15)
        for s in (-1, 1))
    return (box((long, half, thick), (0, 0, thick), steel),
            box((0.011, jaw + half * 0.6, thick), (long, 0, thick), steel),
            *jaws, cylinder(1.9 * half, thick, (-long, 0, thick), steel))


def _jar(paint: Paint) -> Parts:
    radius, high = paint.uniform(0.026, 0.035), paint.uniform(0.03, 0.05)
    glass, lid = paint.plain(specular=0.8), paint.any_of(('', 'checker', 'dots'))
    return (cylinder(radius, high, (0, 0, high), glass),
            cylinder(radius * 1.01, high * 0.5, (0, 0, high * 0.9), paint.label()),
            cylinder(radius * 0.85, 0.01, (0, 0, 2 * high + 0.01), lid))


def _pot(paint: Paint) -> Parts:
    radius, surface = paint.uniform(0.028, 0.036), paint.any_of(('', 'marble', 'stripes'))
    return (ellipsoid((radius, radius, radius * 1.2), (0, 0, radius * 1.15), surface),
            cylinder(radius * 0.75, 0.004, (0, 0, 0.004), surface),
            cylinder(radius * 0.6, 0.012, (0, 0, radius * 2.3), surface),
            ball(0.009, (0, 0, radius * 2.3 + 0.019), paint.plain()))


def _apple(paint: Paint) -> Parts:
    radius = paint.uniform(0.03, 0.037)
    rgb = (paint.uniform(0.6, 0.95), paint.uniform(0.15, 0.85), paint.uniform(0.05, 0.25))
    return (ellipsoid((radius, radius, radius * 0.9), (0, 0, radius * 0.9),
                      paint.textured('peel', rgb)),
            rod(0.002, (0, 0, radius * 1.75), (0.004, 0, radius * 2.05),
                paint.plain((0.3, 0.2, 0.1))))


def _banana(paint: Paint) -> Parts:
    bend, radius = paint.uniform(0.07, 0.1), paint.uniform(0.013, 0.017)
    surface = paint.plain((paint.uniform(0.8, 0.95), paint.uniform(0.65, 0.85), 0.15), 0.1)
    angles = [-0.8, -0.4, 0.0, 0.4, 0.8]
    points = [(bend * math.sin(a), bend * math.cos(a), radius) for a in angles]
    tip = paint.plain((0.25, 0.18, 0.08), 0.0)
    return (*(rod(radius * (0.85 + 0.15 * (i in (1, 2))), points[i], points[i + 1], surface)
              for i in range(4)),
            ball(radius * 0.55, (points[-1][0] * 1.17, points[-1][1] * 0.88, radius), tip))


def _pear(paint: Paint) -> Parts:
    radius = paint.uniform(0.028, 0.034)
    rgb = (paint.uniform(0.55, 0.8), paint.uniform(0.65, 0.85), paint.uniform(0.15, 0.35))
    skin = paint.textured('peel', rgb)
    return (ball(radius, (0, 0, radius), skin),
            ellipsoid((radius * 0.62, radius * 0.62, radius * 1.05), (0, 0, radius * 1.75), skin),
            rod(0.002, (0, 0, radius * 2.7), (0.005, 0, radius * 3.1),
                paint.plain((0.3, 0.2, 0.1))))


def _tube(paint: Paint) -> Parts:
    radius, half = paint.uniform(0.014, 0.026), paint.uniform(0.06, 0.11)
    surface = paint.any_of(('', 'stripes', 'label'))
    caps = paint.plain()
    return (cylinder(radius, half, (0, 0, radius), surface, pitch=math.pi / 2),
            *(cylinder(radius * 1.1, 0.008, (s * half, 0, radius), caps, pitch=math.pi / 2)
              for s in (-1, 1)))


def _elbow(paint: Paint) -> Parts:
    radius, a, b = (paint.uniform(0.012, 0.02), paint.uniform(0.03, 0.05),
                    paint.uniform(0.03, 0.05))
    surface = paint.plain()
    return (cylinder(radius, a, (a, 0, radius), surface, pitch=math.pi / 2),
            cylinder(radius, b, (0, b, radius), surface, roll=math.pi / 2),
            ball(radius, (0, 0, radius), surface),
            cylinder(radius * 1.25, 0.006, (2 * a, 0, radius), surface, pitch=math.pi / 2),
            cylinder(radius * 1.25, 0.006, (0, 2 * b, radius), surface, roll=math.pi / 2))


def _family(name: str, label: str, build: Callable[[Paint], Parts], *, graspable: bool = True,
            held_out: bool = False, density_kgpm3: float = 400.0) -> Family:
    def standing(paint: Paint) -> Parts:
        return on_ground(build(paint))

    return Family(name, class_id(label), standing, graspable, held_out, density_kgpm3)


FAMILIES = {family.name: family for family in (
    _family('carton', 'box', _carton, density_kgpm3=250.0),
    _family('block', 'box', _block, density_kgpm3=600.0),
    _family('milk_carton', 'box', _milk_carton, held_out=True),
    _family('soda_can', 'can', _soda_can),
    _family('tin', 'can', _tin, density_kgpm3=700.0),
    _family('round_bottle', 'bottle', _round_bottle),
    _family('square_bottle', 'bottle', _square_bottle),
    _family('spray_bottle', 'bottle', _spray_bottle, held_out=True),
    _family('mug', 'mug', _mug, density_kgpm3=1500.0),
    _family('tumbler', 'mug', _tumbler, density_kgpm3=1500.0),
    _family('bowl', 'bowl', _bowl, density_kgpm3=1000.0),
    _family('ball', 'ball', _ball, density_kgpm3=300.0),
    _family('plate', 'plate', _plate, graspable=False, density_kgpm3=1500.0),
    _family('book', 'book', _book, graspable=False, density_kgpm3=600.0),
    _family('hammer', 'tool', _hammer, density_kgpm3=800.0),
    _family('screwdriver', 'tool', _screwdriver, density_kgpm3=800.0),
    _family('wrench', 'tool', _wrench, held_out=True, density_kgpm3=1500.0),
    _family('jar', 'jar', _jar, density_kgpm3=500.0),
    _family('pot', 'jar', _pot, density_kgpm3=500.0),
    _family('apple', 'fruit', _apple, density_kgpm3=600.0),
    _family('banana', 'fruit', _banana, density_kgpm3=700.0),
    _family('pear', 'fruit', _pear, held_out=True, density_kgpm3=600.0),
    _family('tube', 'tube', _tube, density_kgpm3=300.0),
    _family('elbow', 'tube', _elbow, density_kgpm3=500.0),
)}
HELD_OUT_FAMILIES = tuple(family.name for family in FAMILIES.values() if family.held_out)
