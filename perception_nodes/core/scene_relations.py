"""
How things in space stand to each other, as sentences: on, in, left of, right of, and so on.

Everything is told as somebody at the robot would who looks at the thing it is compared with:
left and right across that line of sight, in front and behind along it. Each thing is described
by what carries or holds it and, among the things that stand on the same, by the nearest larger
one, so that n things give at most 2 n sentences and none is said twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.params import param, Params
from perception_nodes.core.types import Detections3D

_CLEAR = 1.5  # how much longer one component is than the other in a clear direction
_UNIT_CORNERS = np.array(
    [(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


@dataclass(frozen=True, kw_only=True)
class DescriptionParams(Params):
    """Parameters of describing what stands where."""

    robot_frame: str = param(
        'base_link', 'Frame in which things are described, its x axis ahead and z up.')
    containers: tuple[str, ...] = param(
        ('backpack', 'basket', 'bin', 'bowl', 'box', 'cup', 'handbag', 'mug', 'shelf', 'sink',
         'suitcase', 'vase'), 'Names of the classes that things can be in; the box of a table '
        'reaches around what lies under it, too.', dynamic=True)
    contact_tolerance_m: float = param(
        0.05, 'How far the foot of a thing may be from the top of what it stands on.', unit='m',
        ge=0.0, le=0.5, dynamic=True)
    near_m: float = param(
        0.5, 'Things no farther apart are near each other where no direction is clear.',
        unit='m', ge=0.0, dynamic=True)


@dataclass(frozen=True)
class Relation:
    """
    How one thing stands to another, by their rows.

    ``kind`` is ``on`` or ``in``; ``left of``, ``right of``, ``in front of``, ``behind`` or
    ``near``, with the gap between the two; or ``away``, with the one to the robot.
    """

    subject: int
    kind: str
    reference: int | None = None
    distance_m: float | None = None


def describe(
    things: Detections3D, class_names: Mapping[int, str], params: DescriptionParams
) -> str:
    """
    Describe things in sentences, in the order of their names.

    :param things: Boxes in a frame whose origin is the robot, x ahead and z up.
    :param class_names: Class id to name; things of other classes are called objects.
    :return: One line per sentence; empty where there is nothing.
    """
    kinds = [class_names.get(i, 'object') for i in things.class_ids.tolist()]
    names = _names(things, kinds)
    relations = find_relations(things, kinds, params)
    return '\n'.join(
        _sentence(r, names) for r in sorted(relations, key=lambda r: _order(names[r.subject])))


def find_relations(
    things: Detections3D, kinds: Sequence[str], params: DescriptionParams
) -> list[Relation]:
    """
    Return what there is to say, thing by thing.

    :param things: Boxes in a frame whose origin is the robot, x ahead and z up.
    :param kinds: The name of each thing's class.
    """
    solids = [_Solid.of(center, rotation, size) for center, rotation, size in zip(
        things.centers_m, things.rotations, things.sizes_m, strict=True)]
    relations, carriers = [], []
    for i in range(len(solids)):
        carried = _carried(i, solids, kinds, params)
        carriers.append(None if carried is None else carried.reference)
        relations += [carried] if carried else []
    for i, solid in enumerate(solids):
        larger = [j for j, other in enumerate(solids) if carriers[j] == carriers[i]
                  and (other.volume_m3, -j) > (solid.volume_m3, -i)]
        if larger:
            nearest = min(larger, key=lambda j: solid.gap_m(solids[j]))
            relations.append(_beside(i, nearest, solids, params))
        elif carriers[i] is None:
            relations.append(Relation(i, 'away', distance_m=solid.outside_m(np.zeros(2))))
    return relations


@dataclass(frozen=True, eq=False)
class _Solid:
    """A box as it stands: its outline on the ground, and how high it reaches."""

    center: npt.NDArray[np.float64]  # (3,)
    outline: npt.NDArray[np.float32]  # (K, 2) convex
    low_m: float
    high_m: float
    volume_m3: float

    @classmethod
    def of(
        cls, center: npt.NDArray[np.float64], rotation: npt.NDArray[np.float64],
        size: npt.NDArray[np.float64],
    ) -> '_Solid':
        """Make it of a box that may lean, too."""
        corners = center + (_UNIT_CORNERS * size) @ rotation.T
        outline = cv2.convexHull(corners[:, :2].astype(np.float32)).reshape(-1, 2)
        return cls(center, np.asarray(outline, np.float32), float(corners[:, 2].min()),
                   float(corners[:, 2].max()), float(size.prod()))

    def is_over(self, other: '_Solid') -> bool:
        """Return whether its middle is over or under the other's outline."""
        return other.outside_m(self.center[:2]) == 0.0

    def apart_m(self, other: '_Solid') -> float:
        """Return the distance of the outlines; 0 where they overlap."""
        if cv2.intersectConvexConvex(self.outline, other.outline)[0] > 0.0:
            return 0.0
        return min(*(other.outside_m(p) for p in self.outline),
                   *(self.outside_m(p) for p in other.outline))

    def gap_m(self, other: '_Solid') -> float:
        """Return the distance of the two; 0 where they touch."""
        above = max(0.0, self.low_m - other.high_m, other.low_m - self.high_m)
        return math.hypot(self.apart_m(other), above)

    def outside_m(self, point: npt.NDArray[np.floating]) -> float:
        """Return how far a point of the ground is outside of the outline; 0 inside."""
        x, y = point.tolist()
        return max(0.0, -float(cv2.pointPolygonTest(self.outline, (x, y), True)))


def _carried(
    i: int, solids: Sequence[_Solid], kinds: Sequence[str], params: DescriptionParams
) -> Relation | None:
    """Return what thing ``i`` is in, or else on: the smallest, or the one it fits best."""
    solid, tolerance_m = solids[i], params.contact_tolerance_m
    below = [j for j, other in enumerate(solids) if j != i and solid.is_over(other)]
    holders = [j for j in below if kinds[j] in params.containers
               and solids[j].volume_m3 > solid.volume_m3
               and solids[j].low_m - tolerance_m <= solid.low_m
               and solid.center[2] < solids[j].high_m]
    if holders:
        return Relation(i, 'in', min(holders, key=lambda j: solids[j].volume_m3))

    def step_m(j: int) -> float:
        return abs(solid.low_m - solids[j].high_m)

    supports = [j for j in below if step_m(j) <= tolerance_m
                and solid.center[2] > solids[j].center[2]]
    return Relation(i, 'on', min(supports, key=step_m)) if supports else None


def _beside(
    i: int, j: int, solids: Sequence[_Solid], params: DescriptionParams
) -> Relation:
    """Return where thing ``i`` is beside ``j``, for somebody at the origin who looks at ``j``."""
    solid, other = solids[i], solids[j]
    gap_m, offset = solid.gap_m(other), (solid.center - other.center)[:2]
    distance_m = math.hypot(*other.center[:2])
    sight = other.center[:2] / distance_m if distance_m > 0.0 else np.array([1.0, 0.0])
    behind, left = float(sight @ offset), float(sight[0] * offset[1] - sight[1] * offset[0])
    shorter, longer = sorted((abs(behind), abs(left)))
    unclear = gap_m <= params.near_m and longer < _CLEAR * shorter
    if unclear or solid.apart_m(other) == 0.0:
        kind = 'near'
    elif abs(left) > abs(behind):
        kind = 'left of' if left > 0.0 else 'right of'
    else:
        kind = 'behind' if behind > 0.0 else 'in front of'
    return Relation(i, kind, j, gap_m)


def _names(things: Detections3D, kinds: Sequence[str]) -> list[str]:
    """Name each thing: ``the cup``, or by its number, or from left to right where it has none."""
    if things.object_ids is not None:
        numbers = things.object_ids.tolist()
    else:
        bearings = np.arctan2(things.centers_m[:, 1], things.centers_m[:, 0]).tolist()
        numbers = [1 + sum(kinds[j] == kinds[i] and (-bearings[j], j) < (-bearings[i], i)
                           for j in range(len(kinds))) for i in range(len(kinds))]
    return [f'the {kind}' if kinds.count(kind) == 1 else f'{kind} {number}'
            for kind, number in zip(kinds, numbers, strict=True)]


def _order(name: str) -> tuple[str, int]:
    kind, _, number = name.removeprefix('the ').rpartition(' ')
    return (kind, int(number)) if number.isdecimal() else (name.removeprefix('the '), 0)


def _sentence(relation: Relation, names: Sequence[str]) -> str:
    subject = names[relation.subject]
    begin = f'{subject[0].upper()}{subject[1:]} is'
    if relation.reference is None:
        return f'{begin} {relation.distance_m:.1f} m away.'
    metres = '' if relation.distance_m is None else f' ({relation.distance_m:.1f} m)'
    return f'{begin} {relation.kind} {names[relation.reference]}{metres}.'
