"""A bag as a doctor sees it."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from perception_nodes.cli.diagnosis.checks import is_camera_topic, is_depth_topic
from perception_nodes.cli.diagnosis.machine import frames_wanted, machine_facts
from perception_nodes.cli.diagnosis.snapshot import (
    CAMERA_INFO,
    CameraFacts,
    COMPRESSED,
    Endpoint,
    IMAGE,
    ImageFacts,
    NeedFacts,
    Profile,
    SENSOR_TYPES,
    Snapshot,
    Topic,
)
from perception_nodes.cli.diagnosis.watch import (
    Arrivals,
    camera_facts,
    image_facts,
    TransformWatch,
)
from perception_nodes.conversions.decode import transform_from_msg
from perception_nodes.evaluation.bag import Bag, header_stamp_ns, RawMessage
from rosbags.interfaces import Qos, QosDurability, QosReliability

_TRANSFORMS = 'tf2_msgs/msg/TFMessage'
_RECORDER = 'the recorder'


def bag_snapshot(
    path: Path, needs: Sequence[NeedFacts], expected_hz: Mapping[str, float]
) -> Snapshot:
    """
    Read a bag once from end to end.

    :raises FileNotFoundError: If there is nothing at ``path``.
    :raises ValueError: If it holds no bag, or one of which nothing can be read.
    """
    with Bag(path) as bag:
        reading = _Reading(bag, frames_wanted(needs))
        for message in bag.raw():
            reading.take(message)
        return Snapshot(
            is_bag=True, topics=reading.topics(), images=reading.images, cameras=reading.cameras,
            frames=reading.transforms.frames,
            transforms=reading.transforms.facts(bag.end_ns * 1e-9), needs=tuple(needs),
            machine=machine_facts(), expected_hz=expected_hz,
            damage=(*bag.damage, *reading.problems.values()))


class _Reading:
    """The facts of one pass through a bag; the recorder's time is the clock."""

    def __init__(self, bag: Bag, frames: Mapping[str, float]) -> None:
        self.images: dict[str, ImageFacts] = {}
        self.cameras: dict[str, CameraFacts] = {}
        self.transforms = TransformWatch(frames)
        self.problems: dict[str, str] = {}  # by topic
        self._bag = bag
        self._arrivals: defaultdict[str, Arrivals] = defaultdict(Arrivals)
        self._seen: Counter[str] = Counter()

    def take(self, message: RawMessage) -> None:
        """Look at the next message."""
        name, kind, now_s = message.topic, message.type_name, message.stamp_ns * 1e-9
        self._seen[name] += 1
        stamp_ns = header_stamp_ns(message.cdr) if kind in SENSOR_TYPES else None
        self._arrivals[name].add(
            message.stamp_ns, len(message.cdr),
            None if stamp_ns is None else message.stamp_ns - stamp_ns)
        try:
            self._look_into(message, stamp_ns, now_s)
        except ValueError as error:
            self.problems.setdefault(name, f'messages of {name} cannot be read: {error}')
        self.transforms.look(now_s)

    def _look_into(self, message: RawMessage, stamp_ns: int | None, now_s: float) -> None:
        name, kind = message.topic, message.type_name
        if kind == _TRANSFORMS:
            found = [transform_from_msg(t) for t in self._bag.decoded(message).transforms]
            self.transforms.add(found, static=name.endswith('tf_static'))
        elif kind == CAMERA_INFO and name not in self.cameras:
            self.cameras[name] = camera_facts(self._bag.decoded(message), name)
        elif kind in (IMAGE, COMPRESSED) and is_camera_topic(name):
            # the first, and one from the middle: cameras often begin in the dark
            if self._seen[name] in (1, self._bag.topics[name].count // 2 + 1):
                self.images[name] = image_facts(
                    self._bag.decoded(message), is_compressed=kind == COMPRESSED,
                    is_depth=is_depth_topic(name))
            if stamp_ns is not None:
                self.transforms.image(name, self.images[name].frame_id, stamp_ns, now_s)

    def topics(self) -> dict[str, Topic]:
        """Return every topic, with the recorder in the place of publishers it did not name."""
        found = {}
        for name, topic in self._bag.topics.items():
            profiles = [_profile(qos) for qos in topic.offered_qos] or [Profile()]
            if name.endswith('tf_static') and not topic.offered_qos:
                profiles = [Profile(durability='transient_local')]  # by convention
            found[name] = Topic(
                name, tuple(Endpoint(_RECORDER, topic.type_name, p) for p in profiles),
                traffic=self._arrivals[name].traffic())
        return found


def _profile(qos: Qos) -> Profile:
    return Profile(
        'best_effort' if qos.reliability == QosReliability.BEST_EFFORT else 'reliable',
        'transient_local' if qos.durability == QosDurability.TRANSIENT_LOCAL else 'volatile')
