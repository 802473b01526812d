"""
Camera topics to frames: each message is received once and decoded once per process.

A :class:`CameraHub` holds one subscription per topic and one :class:`CameraSource` per set of
topics, however many nodes of the process listen. Callbacks run in one thread and only store and
pair messages; decoding happens in the thread of the first node that asks for the frame.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
import threading
import time
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from perception_nodes.conversions import decode
from perception_nodes.core.registration import not_registered, register_depth
from perception_nodes.core.transforms import TransformBuffer, TransformError
from perception_nodes.core.types import CameraIntrinsics, LaserRanges, RgbdFrame
from perception_nodes.ros.receiver import Receiver
from perception_nodes.ros.session import qos_for_all
from perception_nodes.ros.transforms import TransformListener
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    qos_policy_name_from_kind,
    QoSProfile,
    ReliabilityPolicy,
)
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan

T = TypeVar('T')
Pixels = npt.NDArray[np.uint8]  # (H, W, 3) RGB
Depth = npt.NDArray[np.float32]  # (H, W) metres

# a stamp this far before the last one is a jump of time, not a late message
JUMP_BACK_NS = 500_000_000
# a topic that brought nothing for this long is called silent
FRESH_NS = 2_000_000_000
# frames kept while their other half is on its way
PENDING = 10
# messages that wait to be received
DEPTH = 5


@dataclass(frozen=True)
class CameraTopics:
    """Where one camera's messages come from, as resolved names, and how they are read."""

    image: str  # empty: depth only
    depth: str = ''  # empty: colour only
    camera_info: str = ''
    depth_camera_info: str = ''  # needed where depth is not aligned to colour
    image_transport: str = 'raw'  # or compressed
    depth_image_transport: str = 'raw'  # or compressedDepth
    depth_is_optional: bool = False  # whether frames come without it as well
    reliability: str = 'best_effort'  # or reliable
    tolerance_ms: float = 20.0
    transform_timeout_ms: float = 100.0
    zero_depth_means: decode.ZeroDepth = 'unknown'


@dataclass(frozen=True)
class ScanTopic:
    """Where a laser scan comes from, as a resolved name, and how it is asked for."""

    topic: str
    reliability: str = 'best_effort'  # or reliable


class Listener(Protocol):
    """What a source tells a node about one camera, or about a range finder."""

    def received(self) -> None:
        """Hear that a colour image, or a scan, arrived."""

    def dropped(self, reason: str) -> None:
        """Hear that it could not be made part of a frame."""

    def deliver(self, observation: 'Observation | Arrived[LaserRanges]') -> None:
        """Take a complete set of messages, or a scan."""

    def time_jumped(self) -> None:
        """Hear that stamps went back: what was seen before is of another time."""


class Arrived(Generic[T]):
    """One message, and what is decoded from it when somebody first asks."""

    def __init__(self, msg: Any, read: Callable[[Any], T]) -> None:
        self.received_ns = time.monotonic_ns()
        self.stamp_ns = decode.stamp_ns_from_msg(msg.header.stamp)
        self.frame_id: str = msg.header.frame_id
        self._msg = msg
        self._read = read
        self._lock = threading.Lock()
        self._value: T | None = None
        self._problem = ''  # not the error, whose traceback leads back here

    @classmethod
    def decoded(cls, value: T, stamp_ns: int, frame_id: str) -> 'Arrived[T]':
        """Wrap what was made in this process and never was a message."""
        arrived: Arrived[T] = cls.__new__(cls)
        arrived.received_ns = time.monotonic_ns()
        arrived.stamp_ns, arrived.frame_id = stamp_ns, frame_id
        arrived._lock = threading.Lock()
        arrived._value, arrived._problem = value, ''
        return arrived

    def value(self) -> T:
        """
        Return the decoded message, the same object for everybody.

        :raises ValueError: If it cannot be decoded, to everybody who asks.
        """
        with self._lock:
            if self._value is None and not self._problem:
                msg, self._msg = self._msg, None
                try:
                    self._value = self._read(msg)
                except Exception as error:  # an OpenCV error is as much the message's fault
                    self._problem = str(error) or type(error).__name__
                    raise ValueError(self._problem) from error
            if self._problem:
                raise ValueError(self._problem)
            return self._value  # type: ignore[return-value]


class Observation:
    """The messages of one moment, turned into a frame when somebody first asks."""

    def __init__(
        self, image: Arrived[Pixels] | None, depth: Arrived[Depth] | None,
        camera_info: Arrived[CameraIntrinsics] | None,
        align: Callable[[Arrived[Depth], RgbdFrame], Depth], *, depth_is_optional: bool = False,
        depth_problem: str = '',
    ) -> None:
        self._image, self._depth, self._camera_info = image, depth, camera_info
        self._align = align
        self._depth_is_optional = depth_is_optional
        self.depth_problem = depth_problem  # why the frame lacks the depth that was asked for
        self._lock = threading.Lock()
        self._frame: RgbdFrame | None = None

    @property
    def received_ns(self) -> int:
        """Steady-clock time at which the set was complete, nanoseconds."""
        parts = (self._image, self._depth)
        return max(part.received_ns for part in parts if part is not None)

    @property
    def stamp_ns(self) -> int:
        """ROS time of the frame, nanoseconds."""
        first = self._image or self._depth
        assert first is not None
        return first.stamp_ns

    def frame(self) -> RgbdFrame:
        """
        Return the decoded frame, the same object for everybody.

        :raises ValueError: If a message cannot be decoded or does not fit the others.
        """
        with self._lock:
            if self._frame is None:
                self._frame = self._decoded()
            return self._frame

    def _decoded(self) -> RgbdFrame:
        if self._image is not None:
            rgb = self._image.value()
            frame = RgbdFrame(rgb, self._image.stamp_ns, self._image.frame_id)
        else:
            assert self._depth is not None
            frame = RgbdFrame(
                _black(self._depth.value().shape), self._depth.stamp_ns, self._depth.frame_id)
        try:
            return self._completed(frame)
        except Exception as error:
            if not self._depth_is_optional:
                raise
            self.depth_problem = str(error)
            return frame

    def _completed(self, frame: RgbdFrame) -> RgbdFrame:
        if self._camera_info is not None:
            intrinsics = self._camera_info.value()
            height, width = frame.rgb.shape[:2]
            if (intrinsics.width, intrinsics.height) != (width, height):
                raise ValueError(
                    f'camera_info is for {intrinsics.width}x{intrinsics.height} pixels, the image '
                    f'has {width}x{height}: remap camera_info to the one of this image')
            frame = replace(frame, intrinsics=intrinsics)
        if self._depth is None:
            return frame
        return replace(frame, depth_m=self._align(self._depth, frame))


class Feed(Generic[T]):
    """One subscription, whatever the number of listeners, and why it may be silent."""

    def __init__(
        self, node: Node, receiver: Receiver, msg_type: Any, topic: str,
        read: Callable[[Any], T], reliability: str, *, is_local: bool,
    ) -> None:
        self.topic = topic
        self.listeners: list[Callable[[Arrived[T]], None]] = []
        self._node = node
        self._receiver = receiver
        self._msg_type = msg_type
        self._read = read
        self._refused_policy = ''
        self._subscription: Subscription | None = None
        if is_local:
            return
        # ROS applies the rules of remapping to it once more
        self.topic = node.resolve_topic_name(topic)
        if self.topic != topic:
            node.get_logger().warning(
                f"'{topic}' is remapped once more: listening to '{self.topic}'; remap the input "
                'to that in one step, and do not swap the names of two topics')
        self._asked = self._qos = QoSProfile(
            depth=DEPTH, reliability=ReliabilityPolicy[reliability.upper()])
        self._subscribe()

    def close(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._receiver.unsubscribe(self._subscription)

    def ask_for_what_is_kept(self) -> None:
        """
        Ask for what was said before, while all publishers keep it for those who come later.

        Some cameras send their camera_info once, latched. This is called now and then, because
        what publishers offer is known some time after they come.
        """
        if self._subscription is None:
            return
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        offered = qos_for_all(publishers, DEPTH)
        is_kept = bool(publishers) and offered.durability == DurabilityPolicy.TRANSIENT_LOCAL
        asked = offered if is_kept else self._qos
        if asked.durability != self._asked.durability:
            self._asked = asked
            self._subscribe()

    def why_silent(self) -> str:
        """Return the sentence that explains why nothing arrives."""
        nothing = f"nothing arrives on '{self.topic}'"
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        if not publishers:
            return (f'{nothing}: no node publishes it; start the camera, or remap the topic '
                    "('ros2 topic list' and 'perception view' show what there is)")
        ours = f'{self._msg_type.__module__}.{self._msg_type.__name__}'.split('.')
        wanted = f'{ours[0]}/msg/{ours[-1]}'
        wrong = {p.topic_type for p in publishers} - {wanted}
        if wrong:
            return (f'{nothing}: it carries {", ".join(sorted(wrong))}, not {wanted}; '
                    'remap it, or set image_transport to what the camera publishes')
        if self._refused_policy:
            return (f'{nothing}: its publisher offers an incompatible {self._refused_policy}; '
                    "set the parameter 'input_reliability' to what it offers")
        return (f'{nothing}, though {len(publishers)} node(s) publish it: is the camera '
                'streaming, and does its process use config/fastdds.xml for large images?')

    def _on_message(self, msg: Any) -> None:
        self.hand_on(Arrived(msg, self._read))

    def hand_on(self, arrived: Arrived[T]) -> None:
        """Give a message to everybody who listens."""
        for listener in tuple(self.listeners):
            listener(arrived)

    def _subscribe(self) -> None:
        self._refused_policy = ''  # first: the next word about it may come at once
        before, self._subscription = self._subscription, self._receiver.subscribe(
            self._msg_type, self.topic, self._on_message, self._asked,
            SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible))
        if before is not None:
            self._receiver.unsubscribe(before)

    def _on_incompatible(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        name = qos_policy_name_from_kind(event.last_policy_kind)
        self._refused_policy = f'QoS ({name.lower()})'


class CameraSource:
    """Pairs the messages of one camera and hands them to every listener."""

    def __init__(self, hub: 'CameraHub', topics: CameraTopics) -> None:
        self.topics = topics
        self.listeners: list[Listener] = []
        self._hub = hub
        self._camera_info: Arrived[CameraIntrinsics] | None = None
        self._depth_camera_info: Arrived[CameraIntrinsics] | None = None
        self._held: Arrived[Any] | None = None  # until there is a camera_info
        self._waiting: deque[Arrived[Pixels]] = deque()
        self._depths: deque[Arrived[Depth]] = deque(maxlen=PENDING)
        self._last_stamp_ns: int | None = None
        self._feeds: dict[str, tuple[Feed[Any], Any]] = {}  # by what they bring
        # depth and camera_info first: they are there when the first image comes
        if topics.camera_info:
            self._attach(
                'camera_info',
                hub.camera_info_feed(topics.camera_info, topics.image or topics.depth, topics),
                self._on_camera_info)
        if topics.depth_camera_info:
            self._attach(
                'depth_camera_info',
                hub.camera_info_feed(topics.depth_camera_info, topics.depth, topics),
                self._on_depth_camera_info)
        if topics.depth:
            self._attach('depth', hub.depth_feed(topics),
                         self._on_depth if topics.image else self._on_first)
        if topics.image:
            self._attach('image', hub.image_feed(topics), self._on_first)

    def _attach(
        self, what: str, feed: Feed[Any], callback: Callable[[Arrived[Any]], None]
    ) -> None:
        feed.listeners.append(callback)
        self._feeds[what] = (feed, callback)

    def close(self) -> None:
        """Stop listening to the topics."""
        for feed, callback in self._feeds.values():
            feed.listeners.remove(callback)
            self._hub.release(feed)

    def why_silent(self, dropped: str = '') -> str:
        """
        Return the sentence that explains why no frame is complete.

        :param dropped: Reason of the latest drop, empty when no image arrives at all.
        """
        if dropped == 'no_depth' and self._depth_is_fresh():
            return (f"no depth image lies within {self.topics.tolerance_ms} ms of a colour image: "
                    "check the camera's synchronisation, or raise 'sync_tolerance_ms'")
        first = 'image' if self.topics.image else 'depth'
        missing = {'no_depth': 'depth', 'no_camera_info': 'camera_info'}.get(dropped, first)
        return self._feeds[missing][0].why_silent()

    def _depth_is_fresh(self) -> bool:
        age_ns = time.monotonic_ns() - self._depths[-1].received_ns if self._depths else FRESH_NS
        return age_ns < FRESH_NS

    def _on_camera_info(self, arrived: Arrived[CameraIntrinsics]) -> None:
        self._camera_info = arrived
        held, self._held = self._held, None
        if held is not None:
            self._proceed(held)

    def _on_depth_camera_info(self, arrived: Arrived[CameraIntrinsics]) -> None:
        self._depth_camera_info = arrived

    def _on_depth(self, arrived: Arrived[Depth]) -> None:
        self._depths.append(arrived)
        self._pair()

    def _on_first(self, arrived: Arrived[Any]) -> None:
        """Take the image that a frame begins with: colour, or depth where that is all."""
        self._notice_jump(arrived.stamp_ns)
        for listener in tuple(self.listeners):
            listener.received()
        may_lack_it = not self.topics.camera_info or self.topics.depth_is_optional
        if may_lack_it or self._camera_info is not None:
            self._proceed(arrived)
            return
        if self._held is not None:
            self._drop('no_camera_info')
        self._held = arrived  # the first camera_info is often just behind

    def _proceed(self, arrived: Arrived[Any]) -> None:
        if not self.topics.image:
            self._emit(None, arrived)
        elif not self.topics.depth:
            self._emit(arrived, None)
        else:
            if len(self._waiting) == PENDING:
                self._give_up(self._waiting.popleft())
            self._waiting.append(arrived)
            if self.topics.depth_is_optional and not self._depth_is_fresh():
                while self._waiting:
                    self._give_up(self._waiting.popleft())
            self._pair()

    def _pair(self) -> None:
        """Emit each waiting image with the depth nearest in time, once that is known."""
        if not self._depths:
            return
        stamps_ns = [depth.stamp_ns for depth in self._depths]
        period_ns = stamps_ns[-1] - stamps_ns[-2] if len(stamps_ns) > 1 else 0
        while self._waiting:
            image = self._waiting[0]
            nearest = min(self._depths, key=lambda d: abs(d.stamp_ns - image.stamp_ns))
            apart_ns = abs(nearest.stamp_ns - image.stamp_ns)
            if stamps_ns[-1] + period_ns - image.stamp_ns < apart_ns:
                return  # a nearer one is on its way
            self._waiting.popleft()
            if apart_ns <= self.topics.tolerance_ms * 1e6:
                self._emit(image, nearest)
            else:
                self._give_up(image)

    def _give_up(self, image: Arrived[Pixels]) -> None:
        """Make do without depth, where that is allowed."""
        if self.topics.depth_is_optional:
            self._emit(image, None)
        else:
            self._drop('no_depth')

    def _notice_jump(self, stamp_ns: int) -> None:
        last_ns, self._last_stamp_ns = self._last_stamp_ns, stamp_ns
        if last_ns is not None and stamp_ns < last_ns - JUMP_BACK_NS:
            self._waiting.clear()
            self._held = None
            self._depths = deque(
                (d for d in self._depths if d.stamp_ns < last_ns - JUMP_BACK_NS), PENDING)
            for listener in tuple(self.listeners):
                listener.time_jumped()

    def _aligned(self, depth: Arrived[Depth], frame: RgbdFrame) -> Depth:
        """Return depth in the pixels of a frame, registering it where the driver did not."""
        depth_m = depth.value()
        if depth_m.shape == frame.rgb.shape[:2] and depth.frame_id == frame.frame_id:
            return depth_m
        reason = ''
        if self._depth_camera_info is None:
            reason = f"no camera_info of the depth camera on '{self.topics.depth_camera_info}'"
        elif frame.intrinsics is None:
            reason = 'no camera_info of the colour camera'
        else:
            try:
                color_from_depth = self._hub.listen_to_transforms().lookup(
                    frame.frame_id, depth.frame_id, frame.stamp_ns,
                    self.topics.transform_timeout_ms * 1e-3)
                return register_depth(
                    depth_m, self._depth_camera_info.value(), frame.intrinsics, color_from_depth)
            except TransformError as error:
                reason = str(error)
        raise ValueError(not_registered(
            depth_m, depth.frame_id, frame.rgb.shape, frame.frame_id, reason))

    def _emit(self, image: Arrived[Pixels] | None, depth: Arrived[Depth] | None) -> None:
        problem = ''
        if self.topics.depth_is_optional:
            missing = 'no_depth' if depth is None else 'no_camera_info'
            if depth is None or self._camera_info is None:
                problem = self.why_silent(missing)
        observation = Observation(
            image, depth, self._camera_info, self._aligned,
            depth_is_optional=self.topics.depth_is_optional, depth_problem=problem)
        for listener in tuple(self.listeners):
            listener.deliver(observation)

    def _drop(self, reason: str) -> None:
        for listener in tuple(self.listeners):
            listener.dropped(reason)


class ScanSource:
    """Hands the scans of one range finder to every listener."""

    def __init__(self, hub: 'CameraHub', topics: ScanTopic) -> None:
        self.topics = topics
        self.listeners: list[Listener] = []
        self._hub = hub
        self._last_stamp_ns = 0
        self._feed = hub.scan_feed(topics)
        self._feed.listeners.append(self._on_scan)

    def close(self) -> None:
        """Stop listening to the topic."""
        self._feed.listeners.remove(self._on_scan)
        self._hub.release(self._feed)

    def why_silent(self, dropped: str = '') -> str:
        """Return the sentence that explains why no scan arrives."""
        return self._feed.why_silent()

    def _on_scan(self, arrived: Arrived[LaserRanges]) -> None:
        last_ns, self._last_stamp_ns = self._last_stamp_ns, arrived.stamp_ns
        for listener in tuple(self.listeners):
            if arrived.stamp_ns < last_ns - JUMP_BACK_NS:
                listener.time_jumped()
            listener.received()
            listener.deliver(arrived)


class CameraHub:
    """All camera inputs of one process, and its scans, on one node that owns the subscriptions."""

    def __init__(self, node: Node, receiver: Receiver | None = None) -> None:
        self._node = node
        self._receiver = receiver or Receiver(node)
        self._feeds: dict[tuple[Any, ...], Feed[Any]] = {}
        self._sources: dict[CameraTopics | ScanTopic, CameraSource | ScanSource] = {}
        self._local: set[str] = set()
        self._lock = threading.Lock()
        self._transforms: TransformListener | None = None
        node.create_timer(
            1.0, self._ask_for_what_is_kept, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def listen_to_transforms(self) -> TransformBuffer:
        """Return the process's one transform buffer; the first to ask starts it listening."""
        with self._lock:
            if self._transforms is None:
                self._transforms = TransformListener(self._node)
            return self._transforms.buffer

    def provide(self, topic: str) -> None:
        """Announce, before anybody listens, that a topic's content is made in this process."""
        self._local.add(topic)

    def is_wanted(self, topic: str) -> bool:
        """Return whether a node of this process listens to a topic."""
        return any(feed.topic == topic for feed in tuple(self._feeds.values()))

    def hand_over(self, topic: str, arrived: Arrived[Any]) -> None:
        """Give what was made in this process to its listeners, without a message in between."""
        for feed in tuple(self._feeds.values()):
            if feed.topic == topic:
                feed.hand_on(arrived)

    def listen(
        self, topics: CameraTopics | ScanTopic, listener: Listener
    ) -> CameraSource | ScanSource:
        """Start to hand a camera's frames, or a range finder's scans, to ``listener``."""
        if topics not in self._sources:
            self._sources[topics] = (
                ScanSource(self, topics) if isinstance(topics, ScanTopic)
                else CameraSource(self, topics))
        source = self._sources[topics]
        source.listeners.append(listener)
        return source

    def leave(self, source: CameraSource | ScanSource, listener: Listener) -> None:
        """Stop handing frames to ``listener``; the last one to leave ends the subscriptions."""
        source.listeners.remove(listener)
        if not source.listeners:
            del self._sources[source.topics]
            source.close()

    def scan_feed(self, topics: ScanTopic) -> Feed[LaserRanges]:
        """Return the feed of laser scans."""
        return self._feed(LaserScan, topics.topic, decode.laser_ranges_from_msg, topics)

    def image_feed(self, topics: CameraTopics) -> Feed[Pixels]:
        """Return the feed of colour images."""
        if topics.image_transport == 'raw':
            return self._feed(Image, topics.image, _read_only(decode.rgb_from_msg), topics)
        return self._feed(
            CompressedImage, f'{topics.image}/compressed',
            _read_only(decode.rgb_from_compressed_msg), topics)

    def depth_feed(self, topics: CameraTopics) -> Feed[Depth]:
        """Return the feed of depth images."""
        zero = topics.zero_depth_means
        if topics.depth_image_transport == 'raw':
            return self._feed(
                Image, topics.depth,
                _read_only(lambda msg: decode.depth_m_from_msg(msg, zero)), topics, zero)
        return self._feed(
            CompressedImage, f'{topics.depth}/compressedDepth',
            _read_only(lambda msg: decode.depth_m_from_compressed_msg(msg, zero)), topics, zero)

    def camera_info_feed(
        self, topic: str, image_topic: str, topics: CameraTopics
    ) -> Feed[CameraIntrinsics]:
        """Return the feed of the intrinsics that belong to an image topic."""
        rectified = decode.is_rectified(image_topic)
        return self._feed(
            CameraInfo, topic,
            lambda msg: decode.intrinsics_from_msg(msg, rectified), topics, rectified)

    def _ask_for_what_is_kept(self) -> None:
        for (msg_type, *_), feed in tuple(self._feeds.items()):
            if msg_type is CameraInfo:
                feed.ask_for_what_is_kept()

    def _feed(
        self, msg_type: Any, topic: str, read: Callable[[Any], T],
        topics: CameraTopics | ScanTopic, *reading: Any,
    ) -> Feed[T]:
        key = (msg_type, topic, topics.reliability, *reading)
        if key not in self._feeds:
            self._feeds[key] = Feed(
                self._node, self._receiver, msg_type, topic, read, topics.reliability,
                is_local=topic in self._local)
        return self._feeds[key]

    def release(self, feed: Feed[Any]) -> None:
        """End a feed that nobody listens to."""
        if not feed.listeners:
            self._feeds = {k: f for k, f in self._feeds.items() if f is not feed}
            feed.close()


def _black(shape: tuple[int, ...]) -> Pixels:
    """Return a black picture of (H, W) pixels that takes no memory."""
    return np.broadcast_to(np.uint8(0), (*shape, 3))


def _read_only(
    read: Callable[[Any], npt.NDArray[Any]]
) -> Callable[[Any], npt.NDArray[Any]]:
    """Make what ``read`` returns safe to hand to several nodes."""
    def reading(msg: Any) -> npt.NDArray[Any]:
        pixels = read(msg)
        pixels.flags.writeable = False
        return pixels
    return reading
