"""
Furniture, people and plants: fixed things of composed primitives, drawn anew for every scene.

Each stands on the floor, centred on the origin, its front towards x.
"""

from dataclasses import dataclass
import math

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
from perception_nodes.sim.scene import Rgb, Surface


@dataclass(frozen=True)
class Support:
    """A level surface that small things can stand on, in the frame of its furniture."""

    z_m: float
    half_x_m: float
    half_y_m: float
    x_m: float = 0.0
    headroom_m: float = 1.0


@dataclass(frozen=True)
class Piece:
    """A piece of furniture."""

    parts: Parts
    supports: tuple[Support, ...] = ()


def table(paint: Paint, half_x_m: float | None = None, half_y_m: float | None = None,
          height_m: float | None = None) -> Piece:
    """Draw a table: four legs, two side panels, a trestle, or a pedestal under a disc."""
    half_x = half_x_m or paint.uniform(0.3, 0.5)
    half_y = half_y_m or paint.uniform(0.4, 0.95)
    height = height_m or paint.uniform(0.45, 0.95)
    top = paint.wood(paint.uniform(0.8, 2.5)) if paint.rng.random() < 0.8 else (
        paint.textured(str(paint.rng.choice(['marble', 'tiles', 'checker', 'weave'])), None, 2.0))
    legs = top if paint.rng.random() < 0.4 else paint.wood()
    legs = Surface(legs.rgb, legs.texture, 0.0, legs.specular, legs.shininess)
    half_top = paint.uniform(0.01, 0.03)
    style = str(paint.rng.choice(['legs', 'legs', 'round_legs', 'panels', 'pedestal']))
    under = (height - 2 * half_top) / 2.0
    parts: list = []
    if style == 'pedestal' and half_x_m is None:
        radius = paint.uniform(0.35, 0.55)
        parts = [cylinder(radius, half_top, (0, 0, height - half_top), top),
                 cylinder(0.04, under, (0, 0, under), legs),
                 cylinder(radius * 0.6, 0.015, (0, 0, 0.015), legs)]
        half_x = half_y = radius * 0.7
    else:
        parts = [box((half_x, half_y, half_top), (0, 0, height - half_top), top)]
        thick = paint.uniform(0.018, 0.04)
        inset_x, inset_y = half_x - thick - 0.01, half_y - thick - 0.01
        if style == 'panels':
            parts += [box((inset_x, 0.012, under), (0, s * inset_y, under), legs)
                      for s in (-1, 1)]
        else:
            for x in (-inset_x, inset_x):
                for y in (-inset_y, inset_y):
                    parts.append(
                        cylinder(thick, under, (x, y, under), legs) if style == 'round_legs'
                        else box((thick, thick, under), (x, y, under), legs))
        if paint.rng.random() < 0.4:  # an apron under the top
            parts += [box((0.01, inset_y, 0.04), (s * inset_x, 0, 2 * under - 0.04), legs)
                      for s in (-1, 1)]
    return Piece(tuple(parts), (Support(height, half_x, half_y),))


def chair(paint: Paint) -> Piece:
    """Draw a chair with four legs, an office chair on a star, or a stool."""
    style = str(paint.rng.choice(['chair', 'chair', 'chair', 'office', 'stool']))
    half, seat = paint.uniform(0.19, 0.24), paint.uniform(0.42, 0.5)
    cloth = paint.any_of(('weave', 'wood', '', 'stripes'))
    frame = paint.wood() if paint.rng.random() < 0.6 else paint.plain(STEEL)
    if style == 'stool':
        seat = paint.uniform(0.45, 0.75)
        return Piece((cylinder(half * 0.9, 0.02, (0, 0, seat), cloth), *_legs(half * 0.65, seat,
                                                                              frame)))
    thick = paint.uniform(0.015, 0.04)
    tall = paint.uniform(0.2, 0.32)
    lean = paint.uniform(0.0, 0.2)
    parts = [box((half, half, thick), (0, 0, seat), cloth)]
    back_at = (-half - tall * math.sin(lean), 0.0, seat + 0.06 + tall)
    if style == 'chair' and paint.rng.random() < 0.4:  # slats between two posts
        parts += [box((0.015, 0.018, tall), (back_at[0], s * (half - 0.02), back_at[2]), frame,
                      pitch=-lean) for s in (-1, 1)]
        parts += [box((0.01, half, 0.035),
                      (back_at[0] - dz * math.sin(lean), 0, back_at[2] + dz), cloth, pitch=-lean)
                  for dz in (-0.5 * tall, 0.1 * tall, 0.7 * tall)]
    else:
        parts.append(box((thick, half * 0.95, tall), back_at, cloth, pitch=-lean))
        parts.append(box((0.012, 0.05, 0.07), (-half, 0, seat + 0.05), frame))
    if style == 'chair':
        parts += _legs(half - 0.03, seat, frame)
    else:
        parts += [cylinder(0.025, seat / 2 - 0.03, (0, 0, seat / 2 + 0.03), frame)]
        for k in range(5):
            a = 2.0 * math.pi * k / 5.0
            end = (0.28 * math.cos(a), 0.28 * math.sin(a), 0.05)
            parts += [rod(0.018, (0, 0, 0.1), end, frame), ball(0.03, (end[0], end[1], 0.03),
                                                                frame)]
    return Piece(on_ground(tuple(parts)))


def _legs(reach: float, seat: float, surface: Surface) -> list:
    return [cylinder(0.016, seat / 2, (x, y, seat / 2), surface)
            for x in (-reach, reach) for y in (-reach, reach)]


def shelf(paint: Paint) -> Piece:
    """Draw a set of shelves, open behind or with a back, or a cupboard with doors."""
    half_x, half_y = paint.uniform(0.13, 0.25), paint.uniform(0.3, 0.7)
    height, board = paint.uniform(0.7, 2.0), 0.011
    wood = paint.wood()
    sides = [box((half_x, board, height / 2), (0, s * (half_y - board), height / 2), wood)
             for s in (-1, 1)]
    if paint.rng.random() < 0.25:  # a cupboard
        front = paint.any_of(('wood', ''))
        knob = paint.plain(STEEL, 0.6)
        return Piece((
            box((half_x, half_y, height / 2), (0, 0, height / 2), wood),
            *(box((0.008, half_y / 2 - 0.01, height / 2 - 0.03),
                  (half_x + 0.006, s * half_y / 2, height / 2), front) for s in (-1, 1)),
            *(cylinder(0.012, 0.02, (half_x + 0.03, s * 0.05, height / 2), knob,
                       pitch=math.pi / 2) for s in (-1, 1))),
            (Support(height, half_x, half_y, headroom_m=0.5),))
    count = max(2, round(height / paint.uniform(0.28, 0.42)))
    gap = (height - 2 * board) / count
    boards = [box((half_x, half_y - 2 * board, board), (0, 0, board + k * gap), wood)
              for k in range(count + 1)]
    back = [box((0.005, half_y, height / 2), (-half_x, 0, height / 2), wood)]
    supports = tuple(
        Support(2 * board + k * gap, half_x - 0.02, half_y - 0.05,
                headroom_m=gap - 0.03 if k < count else 0.4) for k in range(count + 1))
    return Piece((*sides, *boards, *(back if paint.rng.random() < 0.6 else ())), supports)


def sofa(paint: Paint) -> Piece:
    """Draw an armchair or a sofa of two or three seats."""
    seats = int(paint.rng.integers(1, 4))
    half_y = seats * paint.uniform(0.26, 0.33)
    half_x, seat = paint.uniform(0.36, 0.45), paint.uniform(0.36, 0.46)
    cloth = paint.any_of(('weave', 'weave', '', 'carpet', 'stripes', 'dots'))
    arm, back = paint.uniform(0.06, 0.12), paint.uniform(0.07, 0.12)
    base_half = (seat - 0.14) / 2
    full = half_y + 2 * arm
    cushion = paint.any_of(('weave', '')) if paint.rng.random() < 0.3 else cloth
    parts = [
        box((half_x, full, base_half), (0, 0, base_half + 0.05), cloth),
        box((back, full, 0.2), (-half_x + back, 0, seat + 0.17), cloth, pitch=-0.1),
        *(box((half_x, arm, 0.14), (0, s * (full - arm), seat + 0.05), cloth) for s in (-1, 1)),
        *(box((half_x - back, half_y / seats - 0.006, 0.06),
              (back, (2 * k + 1 - seats) * half_y / seats, seat - 0.04), cushion)
          for k in range(seats)),
        *(box((0.03, 0.03, 0.025), (x * (half_x - 0.05), y * (full - 0.05), 0.025),
              paint.plain((0.1, 0.08, 0.06))) for x in (-1, 1) for y in (-1, 1))]
    for _ in range(int(paint.rng.integers(0, 3))):  # loose pillows
        parts.append(box((0.05, 0.18, 0.18),
                         (-half_x + 2 * back + 0.06, paint.uniform(-1, 1) * (half_y - 0.18),
                          seat + 0.18), paint.any_of(('checker', 'stripes', 'dots', '')),
                         pitch=-0.3))
    return Piece(on_ground(tuple(parts)))


def bin_(paint: Paint) -> Piece:
    """Draw a waste bin: round and open, or a box with a lid."""
    height, radius = paint.uniform(0.25, 0.6), paint.uniform(0.11, 0.19)
    surface = paint.any_of(('', '', 'weave', 'stripes'))
    if paint.rng.random() < 0.5:
        return Piece((cylinder(radius * 0.85, 0.01, (0, 0, 0.01), surface),
                      *ring(radius, 0.012, height / 2, height / 2, surface, flare=0.08,
                            count=16)))
    lid = paint.plain()
    half = (radius, radius * paint.uniform(0.7, 1.2), height / 2)
    return Piece((box(half, (0, 0, height / 2), surface),
                  box((half[0] * 1.06, half[1] * 1.06, 0.02), (0, 0, height + 0.02), lid),
                  box((half[0] * 0.5, half[1] * 0.5, 0.006), (0, 0, height + 0.046), lid)))


def plant(paint: Paint) -> Piece:
    """Draw a plant in its pot: a bush, a tree of flat leaves, or long blades."""
    radius, high = paint.uniform(0.1, 0.2), paint.uniform(0.1, 0.2)
    pot = paint.any_of(('', 'stripes', 'marble'))
    soil = paint.plain((0.2, 0.14, 0.09), 0.0)
    parts = [*ring(radius, 0.02, high, high, pot, flare=0.12),
             cylinder(radius * 0.85, high * 0.85, (0, 0, high * 0.88), soil)]
    green = (paint.uniform(0.15, 0.5), paint.uniform(0.4, 0.8), paint.uniform(0.1, 0.35))
    leaf, stem = paint.textured('leaf', green), paint.plain((0.35, 0.25, 0.15), 0.0)
    style = str(paint.rng.choice(['bush', 'leaves', 'blades']))
    tall = paint.uniform(0.25, 0.9)
    if style == 'bush':
        parts.append(rod(0.02, (0, 0, high), (0, 0, 2 * high + tall * 0.5), stem))
        parts += [ellipsoid((paint.uniform(0.09, 0.16), paint.uniform(0.09, 0.16), 0.1),
                            (paint.uniform(-0.1, 0.1), paint.uniform(-0.1, 0.1),
                             2 * high + tall * paint.uniform(0.3, 0.9)), leaf) for _ in range(6)]
    else:
        blades = style == 'blades'
        for k in range(int(paint.rng.integers(7, 14))):
            a, lean = 2.4 * k + paint.uniform(-0.4, 0.4), paint.uniform(0.15, 0.9)
            long = paint.uniform(0.5, 1.0) * tall if blades else paint.uniform(0.1, 0.2)
            root = 2 * high * 0.9 if blades else 2 * high + tall * paint.uniform(0.2, 0.9)
            centre = (long * math.sin(lean) * math.cos(a), long * math.sin(lean) * math.sin(a),
                      root + long * math.cos(lean))
            radii = (0.02, 0.008, long) if blades else (0.07, 0.006, long)
            parts.append(ellipsoid(radii, centre, leaf, yaw=a, pitch=lean))
        if not blades:
            parts.append(rod(0.015, (0, 0, high), (0, 0, 2 * high + tall * 0.9), stem))
    return Piece(on_ground(tuple(parts)))


_SKINS: tuple[Rgb, ...] = ((0.95, 0.78, 0.66), (0.85, 0.64, 0.5), (0.65, 0.45, 0.32),
                           (0.4, 0.26, 0.18), (0.28, 0.18, 0.13))
_HAIR: tuple[Rgb, ...] = ((0.08, 0.06, 0.05), (0.3, 0.2, 0.1), (0.75, 0.6, 0.35),
                          (0.6, 0.6, 0.6), (0.5, 0.2, 0.1))


def person(paint: Paint, stride_rad: float | None = None) -> Piece:
    """
    Draw a person on their feet.

    :param stride_rad: Angle of each leg to the vertical; None draws one.
    """
    tall = paint.uniform(1.5, 1.95)
    s = tall / 1.75
    wide = s * paint.uniform(0.9, 1.25)
    step = paint.uniform(-0.35, 0.35) if stride_rad is None else stride_rad
    skin = paint.plain(_SKINS[int(paint.rng.integers(len(_SKINS)))], 0.05)
    hair = paint.plain(_HAIR[int(paint.rng.integers(len(_HAIR)))], 0.1)
    shirt = paint.any_of(('', '', 'stripes', 'checker', 'weave', 'dots'))
    trousers, shoes = paint.any_of(('', '', 'weave')), paint.plain()
    hip, neck, shoulder = 0.9 * s, 1.45 * s, 0.19 * wide
    parts = []
    for side in (-1, 1):
        reach = side * step
        foot = (hip * 0.9 * math.sin(reach), side * 0.1 * wide, 0.09 * s)
        knee = (foot[0] * 0.55 + 0.02, side * 0.1 * wide, 0.48 * s)
        top = (0.0, side * 0.09 * wide, hip)
        parts += [rod(0.055 * wide, foot, knee, trousers), rod(0.075 * wide, knee, top, trousers),
                  ellipsoid((0.13 * s, 0.048 * s, 0.045 * s), (foot[0] + 0.05, foot[1], 0.045 * s),
                            shoes)]
        swing = -reach + paint.uniform(-0.2, 0.2)
        if paint.rng.random() < 0.2:
            swing = paint.uniform(0.5, 2.2)  # a raised arm
        elbow = (0.28 * s * math.sin(swing), side * (shoulder + 0.05 * wide),
                 neck - 0.06 * s - 0.28 * s * math.cos(swing))
        bend = swing + paint.uniform(0.1, 1.0)
        hand = (elbow[0] + 0.26 * s * math.sin(bend), elbow[1], elbow[2] - 0.26 * s *
                math.cos(bend))
        parts += [rod(0.05 * wide, (0, side * shoulder, neck - 0.06 * s), elbow, shirt),
                  rod(0.04 * wide, elbow, hand, shirt if paint.rng.random() < 0.5 else skin),
                  ball(0.05 * s, hand, skin)]
    parts += [
        ellipsoid((0.12 * wide, shoulder, 0.32 * s), (0, 0, (hip + neck) / 2 + 0.02), shirt),
        ellipsoid((0.12 * wide, 0.17 * wide, 0.12 * s), (0, 0, hip), trousers),
        rod(0.05 * s, (0, 0, neck - 0.02), (0, 0, neck + 0.08 * s), skin),
        ellipsoid((0.1 * s, 0.08 * s, 0.125 * s), (0.01, 0, neck + 0.19 * s), skin),
        ellipsoid((0.1 * s, 0.087 * s, 0.12 * s), (-0.02 * s, 0, neck + 0.215 * s), hair)]
    return Piece(on_ground(tuple(parts)))
