"""From messages to facts: what a doctor keeps of the messages it sees, live or in a bag."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
import math
from typing import Any

import numpy as np
from perception_nodes.cli.diagnosis.snapshot import (
    CameraFacts,
    ClockFacts,
    DepthFacts,
    ImageFacts,
    Traffic,
    TransformFacts,
)
from perception_nodes.conversions.decode import (
    depth_m_from_compressed_msg,
    depth_m_from_msg,
    intrinsics_from_msg,
    is_rectified,
    rgb_from_compressed_msg,
    rgb_from_msg,
)
from perception_nodes.core.transforms import TransformBuffer, TransformError
from perception_nodes.core.types import StampedTransform

_TARGETS = ('odom', 'map', 'base_link')  # asked for where no parameter names a frame
_SAMPLE_S = 0.2  # between two images whose transforms are asked for
_GIVE_UP_S = 2.0  # a transform that has not come by then will not


class Arrivals:
    """When messages of one topic came, how large they were, and how old by their stamps."""

    def __init__(self) -> None:
        self._times_ns: list[int] = []
        self._lags_ns: list[int] = []
        self._largest = 0

    def add(self, time_ns: int, size: int, lag_ns: int | None) -> None:
        """
        Note a message.

        :param time_ns: When it came, by a clock that does not jump.
        :param lag_ns: How far its stamp lay behind ROS time then; None without a header.
        """
        self._times_ns.append(time_ns)
        self._largest = max(self._largest, size)
        if lag_ns is not None:
            self._lags_ns.append(lag_ns)

    def traffic(self, until_ns: int | None = None) -> Traffic:
        """
        Sum up.

        :param until_ns: When listening ended; a silence before it is a gap too.
        """
        times_s = np.sort(np.array(self._times_ns, np.int64)) * 1e-9
        if not len(times_s):
            return Traffic(0, 0.0)
        gaps_s = np.diff(times_s)
        longest = float(gaps_s.max(initial=0.0))
        if until_ns is not None:
            longest = max(longest, until_ns * 1e-9 - float(times_s[-1]))
        return Traffic(
            len(times_s), float(times_s[-1] - times_s[0]),
            float(np.median(gaps_s)) if len(gaps_s) else math.nan, longest, self._largest,
            float(np.median(self._lags_ns)) * 1e-9 if self._lags_ns else math.nan)


def image_facts(msg: Any, *, is_compressed: bool, is_depth: bool) -> ImageFacts:
    """Look at one message of an image topic."""
    frame_id = str(msg.header.frame_id)
    encoding = str(msg.format).partition(';')[0].strip() if is_compressed else str(msg.encoding)
    try:
        if is_depth or encoding in ('16UC1', '32FC1'):
            depth_m = (depth_m_from_compressed_msg if is_compressed else depth_m_from_msg)(msg)
            read = np.isfinite(depth_m) & (depth_m > 0.0)
            scale = 1000.0 if encoding == '16UC1' else 1.0
            median = float(np.median(depth_m[read])) * scale if read.any() else math.nan
            depth = DepthFacts(median, float(read.mean()) if read.size else 0.0)
            height, width = depth_m.shape
            return ImageFacts(encoding, width, height, frame_id, depth)
        height, width = (rgb_from_compressed_msg if is_compressed else rgb_from_msg)(msg).shape[:2]
        return ImageFacts(encoding, width, height, frame_id)
    except Exception as error:  # an OpenCV error is as much the message's fault
        return ImageFacts(encoding, int(getattr(msg, 'width', 0)), int(getattr(msg, 'height', 0)),
                          frame_id, problem=str(error))


def camera_facts(msg: Any, topic: str) -> CameraFacts:
    """Look at one camera_info."""
    frame_id = str(msg.header.frame_id)
    try:
        camera = intrinsics_from_msg(msg, is_rectified(topic))
    except ValueError as error:
        return CameraFacts(int(msg.width), int(msg.height), frame_id, str(error))
    return CameraFacts(camera.width, camera.height, frame_id)


class ClockWatch:
    """What comes on /clock."""

    def __init__(self) -> None:
        self._ticks: list[tuple[int, int]] = []  # when it came, what it said

    def add(self, time_ns: int, said_ns: int) -> None:
        """Note a tick."""
        self._ticks.append((time_ns, said_ns))

    def facts(self) -> ClockFacts:
        """Sum up."""
        if not self._ticks:
            return ClockFacts()
        (first, said_first), (last, said_last) = self._ticks[0], self._ticks[-1]
        return ClockFacts(
            len(self._ticks), (said_last - said_first) * 1e-9, (last - first) * 1e-9)


@dataclass
class _Question:
    """Where one frame is in another, asked at the stamps of images."""

    topic: str
    asked: int = 0
    waits_s: list[float] = field(default_factory=list)
    problem: str = ''


class TransformWatch:
    """
    Asks for transforms at the stamps of images, as nodes do, and notes how long they took.

    :param wanted: Target frames, and how long nodes wait for them; empty: the usual ones.
    """

    def __init__(self, wanted: Mapping[str, float]) -> None:
        self.frames: dict[str, str] = {}  # child to parent
        self._wanted = dict(wanted)
        self._buffer = TransformBuffer()
        self._questions: dict[tuple[str, str], _Question] = {}  # by source and target
        self._open: list[tuple[str, str, int, float]] = []  # source, target, stamp, asked when
        self._images: defaultdict[str, float] = defaultdict(lambda: -math.inf)
        self._early: list[tuple[str, str, int, float]] = []  # images from before any transform

    def want(self, wanted: Mapping[str, float]) -> None:
        """Ask for these frames, as at the beginning, from now on; forget earlier answers."""
        self._wanted = dict(wanted)
        self._questions.clear()
        self._open.clear()
        self._early.clear()

    def add(self, transforms: Iterable[StampedTransform], *, static: bool) -> None:
        """Take transforms over."""
        transforms = list(transforms)
        self.frames |= {t.child: t.parent for t in transforms}
        self._buffer.add(transforms, static=static)

    def refuse(self, child: str, why: str) -> None:
        """Hear that a transform of ``child`` is none."""
        self._buffer.refuse(child, why)

    def image(self, topic: str, frame: str, stamp_ns: int, now_s: float) -> None:
        """Ask for the transforms of an image that came now, unless one was asked for lately."""
        if now_s - self._images[frame] >= _SAMPLE_S:
            self._images[frame] = now_s
            self._early.append((topic, frame, stamp_ns, now_s))

    def look(self, now_s: float) -> None:
        """See which transforms have come; call this often."""
        if self.frames or self._wanted:
            for topic, frame, stamp_ns, asked_s in self._early:
                for target in self._targets(frame):
                    question = self._questions.setdefault((frame, target), _Question(topic))
                    question.asked += 1
                    self._open.append((frame, target, stamp_ns, asked_s))
            self._early.clear()
        still_open = []
        for source, target, stamp_ns, asked_s in self._open:
            question = self._questions[source, target]
            try:
                self._buffer.lookup(target, source, stamp_ns)
                question.waits_s.append(now_s - asked_s)
            except TransformError as error:
                if error.may_come and now_s - asked_s < _GIVE_UP_S:
                    still_open.append((source, target, stamp_ns, asked_s))
                else:
                    question.problem = str(error)
        self._open = still_open

    def facts(self, now_s: float) -> tuple[TransformFacts, ...]:
        """Sum up; what was asked for just now and is still on its way does not count."""
        self.look(now_s)
        for source, target, stamp_ns, asked_s in self._open:
            question = self._questions[source, target]
            try:
                self._buffer.lookup(target, source, stamp_ns)
            except TransformError as error:
                if now_s - asked_s < 0.5 * _GIVE_UP_S and question.waits_s:
                    question.asked -= 1
                else:
                    question.problem = str(error)
        return tuple(
            TransformFacts(
                question.topic, source, target, question.asked, len(question.waits_s),
                float(np.median(question.waits_s)) if question.waits_s else 0.0,
                self._wanted.get(target, 0.1), question.problem)
            for (source, target), question in self._questions.items() if question.asked)

    def _targets(self, frame: str) -> list[str]:
        if self._wanted:
            return [target for target in self._wanted if target != frame]
        if frame not in self.frames:
            return []
        known = set(self.frames) | set(self.frames.values())
        return [target for target in _TARGETS if target in known and target != frame][:1]
