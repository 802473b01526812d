"""
Objects counted by class as they cross a line or a zone of the image, each once per direction.

A side counts as reached a few pixels behind the border, so that a box that trembles on it does
not cross it again and again. An object whose box leaps farther than objects move from image to
image has got the number of another one, and has crossed nothing on its way.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
import math

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.params import param, Params
from perception_nodes.core.types import Detections

_LONGEST_STEP = 2.0  # between two sightings, in longer sides of the box


@dataclass(frozen=True, kw_only=True)
class CountingParams(Params):
    """Parameters of counting; a line or a zone must be given."""

    line: tuple[float, ...] = param(
        (), "A line, as x1, y1, x2, y2: 'in' is from its left to its right, seen from its first "
        'point.', unit='px')
    zone: tuple[float, ...] = param(
        (), "A polygon, as x1, y1, x2, y2, x3, y3, ...: what enters it goes 'in'.", unit='px')
    anchor: str = param(
        'bottom', 'Which point of a box is where its object is: the middle of its lower edge, '
        'or its centre for cameras that look down.', choices=('bottom', 'center'))
    hysteresis_px: float = param(
        5.0, 'How far behind the border an object has reached the other side.', unit='px',
        ge=0.0)
    memory_s: float = param(
        5.0, 'How long an object that is not seen is taken to be where it was; as long as '
        'track_memory_s of the detection node at least.', unit='s', ge=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, numbers in (('line', self.line), ('zone', self.zone)):
            if not all(map(math.isfinite, numbers)):
                raise ValueError(
                    f"parameter '{name}' is {list(numbers)}; all of it must be finite numbers")
        if len(self.line) not in (0, 4) or (self.line and self.line[:2] == self.line[2:]):
            raise ValueError(
                f"parameter 'line' is {list(self.line)}; it must be four numbers x1, y1, x2, y2 "
                'of two different points')
        if self.zone and (len(self.zone) < 6 or len(self.zone) % 2):
            raise ValueError(
                f"parameter 'zone' is {list(self.zone)}; it must be pairs x, y of three points "
                'or more')
        if self.zone and not _goes_around(np.reshape(self.zone, (-1, 2))):
            raise ValueError(
                f"parameter 'zone' is {list(self.zone)}, which encloses nothing or crosses "
                'itself; give its points in the order in which one meets them on a way around it')


@dataclass(eq=False)
class _Track:
    """One object: where it was, and what it was counted for."""

    place: npt.NDArray[np.float64]  # (2,) pixels
    class_id: int
    seen_ns: int
    side: int = 0  # -1 before the line or outside, +1 behind it or inside, 0 not known yet
    settled: npt.NDArray[np.float64] | None = None  # (2,) last place that was clearly on a side
    counted: set[str] = field(default_factory=set)


class ObjectCounter:
    """
    Counts the objects of one camera by the numbers that a tracker gave them.

    :raises ValueError: If the parameters give no border, or two.
    """

    def __init__(self, params: CountingParams) -> None:
        if bool(params.line) == bool(params.zone):
            raise ValueError(
                "set either 'line' or 'zone', the border at which objects are counted, in pixels "
                'of the image')
        self._params = params
        self._line = np.array(params.line, np.float64).reshape(-1, 2)
        self._zone = np.array(params.zone, np.float32).reshape(-1, 2)
        self._memory_ns = round(params.memory_s * 1e9)
        self._tracks: dict[int, _Track] = {}
        self._crossed: dict[str, Counter[int]] = {'in': Counter(), 'out': Counter()}
        self._stamp_ns = 0

    @property
    def counts(self) -> dict[int, dict[str, int]]:
        """Return ``in``, ``out`` and, for a zone, ``inside`` (now) of each class that came."""
        kinds = dict(self._crossed)
        if len(self._zone):
            kinds['inside'] = Counter(t.class_id for t in self._tracks.values() if t.side > 0)
        came = {class_id for counter in kinds.values() for class_id in counter}
        return {i: {kind: kinds[kind][i] for kind in kinds} for i in sorted(came)}

    def step(self, found: Detections, stamp_ns: int) -> None:
        """
        Count what was found in one image. Call this for images without objects, too.

        :param found: Boxes with ``object_ids``.
        :param stamp_ns: ROS time of the image, nanoseconds.
        """
        assert found.object_ids is not None
        if stamp_ns < self._stamp_ns - self._memory_ns:
            self._tracks.clear()  # time jumped back
        self._stamp_ns = stamp_ns
        for object_id, class_id, box in zip(
                found.object_ids.tolist(), found.class_ids.tolist(),
                found.boxes_xyxy.astype(np.float64), strict=True):
            self._follow(object_id, class_id, box)
        self._tracks = {i: t for i, t in self._tracks.items()
                        if stamp_ns - t.seen_ns <= self._memory_ns}

    def _follow(self, object_id: int, class_id: int, box: npt.NDArray[np.float64]) -> None:
        low, high = box[:2], box[2:]
        place = 0.5 * (low + high)
        if self._params.anchor == 'bottom':
            place[1] = high[1]
        side = self._side(place)
        track = self._tracks.get(object_id)
        if track is None:
            track = self._tracks[object_id] = _Track(place, class_id, self._stamp_ns)
            if side > 0 and len(self._zone):
                self._count(track, 'in')  # it appears inside
        elif math.dist(place, track.place) > _LONGEST_STEP * (high - low).max():
            track.side, track.settled = 0, None
        elif side * track.side < 0 and self._passes(track, place):
            self._count(track, 'in' if side > 0 else 'out')
        track.place, track.class_id, track.seen_ns = place, class_id, self._stamp_ns
        if side:
            track.side, track.settled = side, place

    def _side(self, place: npt.NDArray[np.float64]) -> int:
        """Return +1 behind the border, -1 before it, 0 too near to tell."""
        if len(self._zone):
            beyond_px = cv2.pointPolygonTest(self._zone, (place[0], place[1]), True)
        else:
            (dx, dy), (px, py) = self._line[1] - self._line[0], place - self._line[0]
            beyond_px = (dx * py - dy * px) / math.hypot(dx, dy)
        return 0 if abs(beyond_px) <= self._params.hysteresis_px else int(np.sign(beyond_px))

    def _passes(self, track: _Track, place: npt.NDArray[np.float64]) -> bool:
        """Return whether a change of sides led over the border, not around the line's end."""
        if len(self._zone) or track.settled is None:
            return True
        start, along = self._line[0], self._line[1] - self._line[0]
        step = place - track.settled
        offset = track.settled - start
        share = (offset[0] * step[1] - offset[1] * step[0]) / (
            along[0] * step[1] - along[1] * step[0])
        return bool(0.0 <= share <= 1.0)

    def _count(self, track: _Track, direction: str) -> None:
        if direction not in track.counted:
            track.counted.add(direction)
            self._crossed[direction][track.class_id] += 1


def _goes_around(points: npt.NDArray[np.float64]) -> bool:
    """Return whether a polygon, points (N, 2), has an area and no two sides that cross."""
    def turn(a: int, b: int, c: int) -> float:  # positive where c is on one side of a to b
        (ax, ay), (bx, by), (cx, cy) = points[a], points[b], points[c]
        return float((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))

    sides = [(n, (n + 1) % len(points)) for n in range(len(points))]
    crossed = any(
        turn(a, b, c) * turn(a, b, d) < 0.0 and turn(c, d, a) * turn(c, d, b) < 0.0
        for (a, b), (c, d) in combinations(sides, 2))
    return not crossed and any(turn(0, n, n + 1) for n in range(1, len(points) - 1))
