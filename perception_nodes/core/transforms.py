"""
Where frames are relative to each other, at a given time.

The arithmetic is our own because PyPI's TemporalTransformManager (pytransform3d 3.17) needs
1.7 ms for a look-up over four links (this buffer: 0.02 ms), copies a link's whole history for
each new sample, and takes the shortest way through a graph where a child changed its parent.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
import math
import threading
import time

import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import StampedTransform

HISTORY_S = 10.0
JUMP_S = 1.0
_RETRY_AFTER = 10  # frames

# translation x, y, z and unit quaternion x, y, z, w: the child's pose in its parent
Pose = tuple[tuple[float, float, float], tuple[float, float, float, float]]

_IDENTITY: Pose = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))


class TransformError(LookupError):
    """A transform that is not there, in one sentence; ``may_come`` says if waiting can help."""

    def __init__(self, sentence: str, *, may_come: bool) -> None:
        super().__init__(sentence)
        self.may_come = may_come


class TransformBuffer:
    """
    Keeps the transforms of the last ten seconds and answers for any moment between two of them.

    Static transforms hold for ever. Nothing is extrapolated and nothing is assumed: a frame that
    is not connected is an error, never the identity. Every method may be called from any thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._links: dict[str, _Link] = {}  # by child frame
        self._refused: dict[str, str] = {}  # by child frame: why its last transform is no good

    def add(self, transforms: Iterable[StampedTransform], *, static: bool = False) -> None:
        """
        Take over what one message says.

        A stamp more than a second older than the newest of its own link means that time has
        jumped back (a bag that starts again): all that is not static is forgotten first.
        """
        with self._changed:
            for transform in transforms:
                self._add(transform, static)
            self._changed.notify_all()

    def refuse(self, child: str, why: str) -> None:
        """Hear that a transform of ``child`` came that is none, for the errors of look-ups."""
        with self._changed:
            self._refused[child] = why

    def reset(self) -> None:
        """Forget everything that is not static, because time has jumped."""
        with self._changed:
            self._reset()

    def lookup(
        self, target: str, source: str, stamp_ns: int, timeout_s: float = 0.0
    ) -> npt.NDArray[np.float64]:
        """
        Return the transform that takes points of ``source`` into ``target``.

        :param stamp_ns: The moment asked for, nanoseconds.
        :param timeout_s: How long to wait for a transform that may still come, seconds of the
            steady clock.
        :return: (4, 4) float64 ``target_from_source``.
        :raises TransformError: With the frames, the time asked for and what there is.
        """
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                # nothing may hold the error: with its traceback it would keep the caller's frames
                try:
                    return _matrix(self._lookup(target, source, stamp_ns))
                except TransformError as error:
                    left_s = end_s - time.monotonic()
                    if not error.may_come or left_s <= 0.0:
                        raise
                self._changed.wait(left_s)

    def lookup_newest(
        self, target: str, source: str
    ) -> tuple[npt.NDArray[np.float64], int | None]:
        """
        Return the transform at the newest moment at which all of it is known.

        :return: (4, 4) float64 ``target_from_source``, and that moment, nanoseconds; None where
            all of it is static.
        :raises TransformError: If the frames are not connected.
        """
        with self._changed:
            between = set(self._ancestors(source)) ^ set(self._ancestors(target))
            newest = [self._links[frame].newest_ns for frame in between if frame in self._links]
            moving = [stamp_ns for stamp_ns in newest if stamp_ns is not None]
            stamp_ns = min(moving, default=None)
            return _matrix(self._lookup(target, source, stamp_ns)), stamp_ns

    def _add(self, transform: StampedTransform, static: bool) -> None:
        link = self._links.get(transform.child)
        if link is not None and link.jumps_back(transform.stamp_ns) and not static:
            self._reset()
            link = None
        if link is None or link.parent != transform.parent or link.static != static:
            link = self._links[transform.child] = _Link(transform.parent, static, link)
        self._refused.pop(transform.child, None)
        link.add(transform.stamp_ns, (transform.translation_m, transform.quaternion_xyzw))

    def _reset(self) -> None:
        self._links = {child: link for child, link in self._links.items() if link.static}

    def _lookup(self, target: str, source: str, stamp_ns: int | None) -> Pose:
        """Return a pose at a moment; None: all of it is static, or not connected."""
        from_source, from_target = self._ancestors(source), self._ancestors(target)
        common = next((frame for frame in from_source if frame in from_target), None)
        asked = f"no transform from '{source}' to '{target}'"
        if stamp_ns is not None:
            asked += f' at {_seconds(stamp_ns)}'
        if common is None:
            why = self._blame(from_source + from_target, self._why_apart(source, target))
            raise TransformError(f'{asked}: {why}', may_come=True)
        up, down = _IDENTITY, _IDENTITY
        try:
            for frame in from_source[:from_source.index(common)]:
                up = _compose(self._links[frame].at(stamp_ns or 0), up)
            for frame in from_target[:from_target.index(common)]:
                down = _compose(self._links[frame].at(stamp_ns or 0), down)
        except TransformError as error:
            why = self._blame(from_source + from_target, str(error))
            raise TransformError(f'{asked}: {why}', may_come=error.may_come) from None
        return _compose(_inverse(down), up)

    def _ancestors(self, frame: str) -> list[str]:
        """Return the frame, its parent and so on up to the root."""
        frames = [frame]
        while (link := self._links.get(frames[-1])) is not None:
            if link.parent in frames:
                raise TransformError(
                    f"the frames {' -> '.join([*frames, link.parent])} form a loop: two nodes "
                    'publish transforms that contradict each other', may_come=True)
            frames.append(link.parent)
        return frames

    def _blame(self, frames: Iterable[str], why: str) -> str:
        """Return why a look-up fails: what is wrong with a link of its chain, if anything is."""
        for frame in frames:
            link = self._links.get(frame)
            if link is not None and link.rival:
                return (f"'{frame}' has two parents by turns, '{link.rival}' and "
                        f"'{link.parent}': two nodes publish it, stop one of them")
            if frame in self._refused:
                return f'{why} (ignored: {self._refused[frame]})'
        return why

    def _why_apart(self, source: str, target: str) -> str:
        known = {f for child, link in self._links.items() for f in (child, link.parent)}
        if not known:
            return ('no transform at all has arrived; does anybody publish /tf and /tf_static, '
                    'and is the time right (use_sim_time)?')
        for frame in (source, target):
            if frame not in known:
                return (f"nobody publishes frame '{frame}'; known are "
                        f"{', '.join(sorted(known))}")
        roots = [self._ancestors(frame)[-1] for frame in (source, target)]
        return ("they are in two trees, under '{}' and '{}'; a node that connects the two "
                'is missing'.format(*roots))


class Patience:
    """
    How long to wait for the transforms of each of several inputs.

    One whose transform does not come would hold up all others, frame after frame; so after a
    wait in vain it gets the next one only ten frames later, and until then what is there. A
    single input is always waited for.
    """

    def __init__(self, timeout_s: float, inputs: int) -> None:
        self._timeout_s = timeout_s
        self._retry_after = _RETRY_AFTER if inputs > 1 else 1
        self._in_vain: Counter[str] = Counter()  # frames in a row, by the input's name

    def timeout_s(self, name: str) -> float:
        """Return the longest wait for the next frame of an input."""
        return 0.0 if self._in_vain[name] % self._retry_after else self._timeout_s

    def note(self, name: str, *, came: bool) -> None:
        """Hear whether the transforms of a frame came."""
        self._in_vain[name] = 0 if came else self._in_vain[name] + 1


class _Link:
    """The history of one child frame in its parent."""

    def __init__(self, parent: str, static: bool, before: '_Link | None' = None) -> None:
        self.parent = parent
        self.static = static
        self._stamps: list[int] = []  # ascending, nanoseconds
        self._poses: list[Pose] = []
        self._former = before.parent if before is not None else ''
        # handed back to whom it came from; while that goes on, two nodes quarrel about it
        handed_back = before is not None and before._former == parent and not static
        self.rival = before.parent if before is not None and handed_back else ''

    @property
    def newest_ns(self) -> int | None:
        """Return the newest stamp; None where it does not matter."""
        return None if self.static else self._stamps[-1]

    def jumps_back(self, stamp_ns: int) -> bool:
        if self.static:
            return False
        return stamp_ns < self._stamps[-1] - int(JUMP_S * 1e9)

    def add(self, stamp_ns: int, pose: Pose) -> None:
        if self.static:
            self._stamps, self._poses = [stamp_ns], [pose]
            return
        i = bisect_left(self._stamps, stamp_ns)
        if i < len(self._stamps) and self._stamps[i] == stamp_ns:
            self._poses[i] = pose
            return
        self._stamps.insert(i, stamp_ns)
        self._poses.insert(i, pose)
        if self._stamps[-1] - self._stamps[0] > int(JUMP_S * 1e9):
            self.rival = ''
        old = bisect_left(self._stamps, self._stamps[-1] - int(HISTORY_S * 1e9))
        if old > 0:
            del self._stamps[:old], self._poses[:old]

    def at(self, stamp_ns: int) -> Pose:
        if self.static:
            return self._poses[0]
        if stamp_ns > self._stamps[-1]:
            raise TransformError(
                f"the newest of '{self.parent}' is {_seconds(self._stamps[-1])}; is its "
                'publisher late?', may_come=True)
        if stamp_ns < self._stamps[0]:
            raise TransformError(
                f"the oldest of '{self.parent}' is {_seconds(self._stamps[0])}; is the image "
                f'older than the {HISTORY_S:g} s that are kept, or was time set back?',
                may_come=False)
        i = bisect_right(self._stamps, stamp_ns) - 1
        if self._stamps[i] == stamp_ns:
            return self._poses[i]
        before, after = self._stamps[i], self._stamps[i + 1]
        return _interpolate(
            self._poses[i], self._poses[i + 1], (stamp_ns - before) / (after - before))


def _seconds(stamp_ns: int) -> str:
    # integers: a float cannot hold nanoseconds since 1970
    return f'{stamp_ns // 1_000_000_000}.{stamp_ns % 1_000_000_000 // 1_000_000:03d} s'


def _rotate(
    q: tuple[float, float, float, float], v: tuple[float, float, float]
) -> tuple[float, float, float]:
    x, y, z, w = q
    # v + 2 q x (q x v + w v)
    cx = y * v[2] - z * v[1] + w * v[0]
    cy = z * v[0] - x * v[2] + w * v[1]
    cz = x * v[1] - y * v[0] + w * v[2]
    return (v[0] + 2.0 * (y * cz - z * cy),
            v[1] + 2.0 * (z * cx - x * cz),
            v[2] + 2.0 * (x * cy - y * cx))


def _compose(c_from_b: Pose, b_from_a: Pose) -> Pose:
    (t, (x, y, z, w)), (u, (i, j, k, r)) = c_from_b, b_from_a
    moved = _rotate(c_from_b[1], u)
    return ((t[0] + moved[0], t[1] + moved[1], t[2] + moved[2]),
            (w * i + x * r + y * k - z * j,
             w * j - x * k + y * r + z * i,
             w * k + x * j - y * i + z * r,
             w * r - x * i - y * j - z * k))


def _inverse(b_from_a: Pose) -> Pose:
    t, (x, y, z, w) = b_from_a
    conjugate = (-x, -y, -z, w)
    moved = _rotate(conjugate, t)
    return (-moved[0], -moved[1], -moved[2]), conjugate


def _interpolate(before: Pose, after: Pose, fraction: float) -> Pose:
    """Return the pose between: straight in translation, along the great circle in rotation."""
    (a, p), (b, q) = before, after
    rest = 1.0 - fraction
    place = (rest * a[0] + fraction * b[0], rest * a[1] + fraction * b[1],
             rest * a[2] + fraction * b[2])
    cosine = sum(m * n for m, n in zip(p, q, strict=True))
    sign = 1.0 if cosine >= 0.0 else -1.0  # q and -q are one rotation: take the short way
    angle = math.acos(min(1.0, abs(cosine)))
    if angle < 1e-6:  # the sines vanish
        weights = rest, sign * fraction
    else:
        sine = math.sin(angle)
        weights = (math.sin(rest * angle) / sine,
                   sign * math.sin(fraction * angle) / sine)
    x, y, z, w = (weights[0] * m + weights[1] * n for m, n in zip(p, q, strict=True))
    return place, (x, y, z, w)


def _matrix(pose: Pose) -> npt.NDArray[np.float64]:
    (tx, ty, tz), q = pose
    columns = [_rotate(q, axis) for axis in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))]
    (a, d, g), (b, e, h), (c, f, i) = columns
    return np.array([[a, b, c, tx], [d, e, f, ty], [g, h, i, tz], [0.0, 0.0, 0.0, 1.0]])
