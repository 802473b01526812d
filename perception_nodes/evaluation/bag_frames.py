"""The frames of one camera of a bag, paired as a node pairs them, one after the other."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.conversions import decode
from perception_nodes.core.node_params import NodeParams
from perception_nodes.core.registration import not_registered, register_depth
from perception_nodes.core.transforms import TransformBuffer, TransformError
from perception_nodes.core.types import CameraIntrinsics, RgbdFrame, StampedTransform
from perception_nodes.evaluation.bag import Bag, RawMessage

IMAGE, COMPRESSED = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
INFO, TRANSFORMS = 'sensor_msgs/msg/CameraInfo', 'tf2_msgs/msg/TFMessage'
JUMP_BACK_NS = 500_000_000  # a stamp so far before the last one is a jump of time
_PENDING = 10  # colour images that wait for their depth
_AHEAD_NS = 1_000_000_000  # how much later a transform may have been recorded than its frame


@dataclass(frozen=True)
class CameraTopics:
    """Where one camera's messages are in a bag; empty where they are not."""

    image: str = ''
    depth: str = ''
    camera_info: str = ''

    @property
    def first(self) -> str:
        """Return the topic that frames begin with."""
        return self.image or self.depth


@dataclass(frozen=True, eq=False)
class BagFrame:
    """One observation, and when it was complete."""

    rgbd: RgbdFrame
    received_ns: int  # stamp of the recorder at its last part, nanoseconds
    has_colour: bool
    problem: str = ''  # why it lacks depth or intrinsics that the bag has
    decode_ms: float = 0.0


def find_camera(
    bag: Bag, camera: str = '/camera', image: str = '', depth: str = '', camera_info: str = ''
) -> CameraTopics:
    """
    Find the topics of a camera.

    :param camera: Its name; the topics below it are those of RealSense cameras.
    :param image: Another topic of colour images; so with ``depth`` and ``camera_info``.
    :raises ValueError: If a topic that was named is missing or of another type, or the bag has
        neither colour nor depth.
    """
    topics = CameraTopics(
        _present(bag, image or f'{camera}/color/image_raw', '/compressed', bool(image)),
        _present(bag, depth or f'{camera}/aligned_depth_to_color/image_raw', '/compressedDepth',
                 bool(depth)),
        _present(bag, camera_info or f'{camera}/color/camera_info', '', bool(camera_info)))
    if not topics.first:
        pictures = [t.name for t in bag.topics.values() if t.type_name in (IMAGE, COMPRESSED)]
        raise ValueError(
            f'bag {bag.path} has no images on {camera}/color/image_raw or '
            f'{camera}/aligned_depth_to_color/image_raw: '
            + (f'it has images on {", ".join(pictures)}; name one with --image or --depth'
               if pictures else f'it has no image topic at all, only {_listed(bag)}'))
    for name in (topics.image, topics.depth):
        if name and bag.topics[name].type_name not in (IMAGE, COMPRESSED):
            raise ValueError(
                f'topic {name} of bag {bag.path} carries {bag.topics[name].type_name}, and '
                f'images are {IMAGE} or {COMPRESSED}: name another with --image or --depth')
    if topics.camera_info and bag.topics[topics.camera_info].type_name != INFO:
        raise ValueError(
            f'topic {topics.camera_info} of bag {bag.path} carries '
            f'{bag.topics[topics.camera_info].type_name}, not {INFO}')
    return topics


def shared_frame_ids(bag: Bag, frame_id_of: dict[str, str]) -> list[str]:
    """
    Return a sentence for each frame that several cameras say they look from.

    :param frame_id_of: Frame by the topic of camera_info.
    """
    sentences = []
    for frame_id in dict.fromkeys(frame_id_of.values()):
        topics = [topic for topic, frame in frame_id_of.items() if frame == frame_id]
        cameras = {topic.rpartition('/')[0] for topic in topics}
        if len(cameras) > 1:
            sentences.append(
                f"{' and '.join(topics)} of bag {bag.path} have the same frame_id '{frame_id}': "
                'transforms cannot tell these cameras apart, so positions in other frames are '
                'those of one of them')
    return sentences


class BagTransforms:
    """
    The transforms of a bag, as a node would know them at a frame: up to a second after it.

    :param transforms: When each was recorded, and what it says; in the order of recording.
    :param static: Those that hold for ever.
    """

    def __init__(
        self, transforms: list[tuple[int, StampedTransform]], static: list[StampedTransform]
    ) -> None:
        self.buffer = TransformBuffer()
        self._transforms, self._next = transforms, 0
        self.buffer.add(static, static=True)

    def advance(self, received_ns: int) -> None:
        """Learn what was recorded until a second after this moment."""
        start = self._next
        while (self._next < len(self._transforms)
               and self._transforms[self._next][0] <= received_ns + _AHEAD_NS):
            self._next += 1
        self.buffer.add(transform for _, transform in self._transforms[start:self._next])


class FrameReader:
    """
    Makes frames of a bag's messages.

    A colour image gets the depth image nearest in time, within ``sync_tolerance_ms``, and the
    newest camera_info; the bag's first one where none came before. What cannot be decoded is
    counted in :attr:`lost` with the sentence why.

    :param intrinsics: When each camera_info was recorded, and what it says.
    :param depth_intrinsics: Those of a depth camera whose images are not aligned to colour.
    """

    def __init__(
        self, bag: Bag, topics: CameraTopics, inputs: NodeParams,
        intrinsics: list[tuple[int, CameraIntrinsics]], transforms: BagTransforms,
        depth_intrinsics: CameraIntrinsics | None = None,
    ) -> None:
        self.lost: list[str] = []
        self._bag, self._topics, self._inputs = bag, topics, inputs
        self._intrinsics, self._depth_intrinsics = intrinsics, depth_intrinsics
        self._transforms = transforms

    def __iter__(self) -> Iterator[BagFrame]:
        waiting: deque[tuple[RawMessage, Any]] = deque()
        depths: deque[tuple[RawMessage, Any]] = deque(maxlen=_PENDING)
        names = [name for name in (self._topics.image, self._topics.depth) if name]
        last_ns = 0
        for raw in self._bag.raw(names):
            try:
                message = self._bag.decoded(raw)
            except ValueError as error:
                self.lost.append(f'{raw.topic}: {error}')
                continue
            if raw.topic == self._topics.first:
                before_ns, last_ns = last_ns - JUMP_BACK_NS, _stamp_ns(message)
                if last_ns < before_ns:  # the depth of another time is in the way
                    while waiting:
                        yield from self._made(waiting.popleft(), depths)
                    depths = deque(
                        (d for d in depths if _stamp_ns(d[1]) < before_ns), _PENDING)
                waiting.append((raw, message))
            if raw.topic == self._topics.depth:
                depths.append((raw, message))
            yield from self._ready(waiting, depths)
        while waiting:
            yield from self._made(waiting.popleft(), depths)

    def _ready(
        self, waiting: deque[tuple[RawMessage, Any]], depths: deque[tuple[RawMessage, Any]]
    ) -> Iterator[BagFrame]:
        """Yield the frames whose depth is known, or given up."""
        while waiting:
            stamp_ns = _stamp_ns(waiting[0][1])
            known = not self._topics.image or not self._topics.depth or any(
                _stamp_ns(depth) >= stamp_ns for _, depth in depths)
            if not known and len(waiting) <= _PENDING:
                return
            yield from self._made(waiting.popleft(), depths)

    def _made(
        self, first: tuple[RawMessage, Any], depths: deque[tuple[RawMessage, Any]]
    ) -> Iterator[BagFrame]:
        raw, msg = first
        received_ns, stamp_ns = raw.stamp_ns, _stamp_ns(msg)
        depth = None
        if not self._topics.image:
            depth = first
        elif depths:
            nearest = min(depths, key=lambda item: abs(_stamp_ns(item[1]) - stamp_ns))
            apart_ms = abs(_stamp_ns(nearest[1]) - stamp_ns) * 1e-6
            depth = nearest if apart_ms <= self._inputs.sync_tolerance_ms else None
        if depth is not None:
            received_ns = max(received_ns, depth[0].stamp_ns)
        self._transforms.advance(received_ns)
        try:
            yield self._frame(raw, msg, depth, received_ns)
        except Exception as error:  # an OpenCV error is as much the message's fault
            self.lost.append(f'{raw.topic} at {stamp_ns} ns: {error}')

    def _frame(
        self, raw: RawMessage, msg: Any, depth: tuple[RawMessage, Any] | None, received_ns: int
    ) -> BagFrame:
        stamp_ns, problem, start_ns = _stamp_ns(msg), '', time.monotonic_ns()
        depth_m = None
        if self._topics.image:
            read = decode.rgb_from_compressed_msg if raw.type_name == COMPRESSED \
                else decode.rgb_from_msg
            rgb = read(msg)
        else:
            assert depth is not None
            depth_m = self._depth_m(*depth)
            rgb = np.broadcast_to(np.uint8(0), (*depth_m.shape, 3))
        rgb.flags.writeable = False
        frame = RgbdFrame(rgb, stamp_ns, msg.header.frame_id)
        try:
            frame = replace(frame, intrinsics=self._intrinsics_at(received_ns, rgb.shape))
            if depth is not None:
                depth_m = self._depth_m(*depth) if depth_m is None else depth_m
                depth_m = self._aligned(depth_m, depth[1].header.frame_id, frame)
                depth_m.flags.writeable = False
                frame = replace(frame, depth_m=depth_m)
        except ValueError as error:
            problem = str(error)
        return BagFrame(frame, received_ns, bool(self._topics.image), problem,
                        (time.monotonic_ns() - start_ns) * 1e-6)

    def _depth_m(self, raw: RawMessage, msg: Any) -> npt.NDArray[np.float32]:
        zero: decode.ZeroDepth = (
            'unknown' if self._inputs.zero_depth_means == 'unknown' else 'beyond_range')
        if raw.type_name == COMPRESSED:
            return decode.depth_m_from_compressed_msg(msg, zero)
        return decode.depth_m_from_msg(msg, zero)

    def _intrinsics_at(
        self, received_ns: int, shape: tuple[int, ...]
    ) -> CameraIntrinsics | None:
        if not self._intrinsics:
            return None
        newest = bisect_right(self._intrinsics, received_ns, key=lambda item: item[0])
        intrinsics = self._intrinsics[max(newest - 1, 0)][1]
        if (intrinsics.width, intrinsics.height) != (shape[1], shape[0]):
            raise ValueError(
                f'{self._topics.camera_info} is for {intrinsics.width}x{intrinsics.height} '
                f'pixels, {self._topics.first} has {shape[1]}x{shape[0]}')
        return intrinsics

    def _aligned(
        self, depth_m: npt.NDArray[np.float32], depth_frame: str, frame: RgbdFrame
    ) -> npt.NDArray[np.float32]:
        """Return depth in the pixels of a frame, registering it where the driver did not."""
        if depth_m.shape == frame.rgb.shape[:2] and depth_frame == frame.frame_id:
            return depth_m
        reason = 'no camera_info of both cameras in the bag'
        if self._depth_intrinsics is not None and frame.intrinsics is not None:
            try:
                color_from_depth = self._transforms.buffer.lookup(
                    frame.frame_id, depth_frame, frame.stamp_ns)
                return register_depth(
                    depth_m, self._depth_intrinsics, frame.intrinsics, color_from_depth)
            except TransformError as error:
                reason = str(error)
        raise ValueError(not_registered(
            depth_m, depth_frame, frame.rgb.shape, frame.frame_id, reason))


def _present(bag: Bag, topic: str, compressed: str, asked_for: bool) -> str:
    """Return the topic as the bag has it, or nothing."""
    for name in dict.fromkeys((topic, topic + compressed)):
        if name in bag.topics and bag.topics[name].count:
            return name
    if asked_for:
        raise ValueError(
            f'bag {bag.path} has no message on {topic}; it has {_listed(bag)}')
    return ''


def _listed(bag: Bag) -> str:
    return ', '.join(f'{t.name} ({t.count})' for t in bag.topics.values()) or 'no topics'


def _stamp_ns(msg: Any) -> int:
    return decode.stamp_ns_from_msg(msg.header.stamp)
