"""What the ROS graph offers to a viewer, and why a topic stays silent."""

from collections.abc import Callable, Mapping
import difflib
from functools import cached_property, lru_cache
from typing import Any

from perception_nodes.cli.viewer.picture import Kind
from perception_nodes.ros.session import message_class, qos_for_all
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.topic_endpoint_info import TopicEndpointInfo

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
BOXES_TYPE = 'vision_msgs/msg/Detection2DArray'
LABELS_TYPE = 'vision_msgs/msg/LabelInfo'

_MASK_KINDS: Mapping[str, Kind] = {'mask': 'mask', 'instances': 'instances'}
# nodes compute these only while somebody subscribes: a viewer must not start it unasked
_COSTLY = ('debug_image', 'confidence', 'edges')


def mask_kind(topic: str) -> Kind | None:
    """Return what the ids of a mask topic stand for; None for any other topic."""
    return _MASK_KINDS.get(_last_part(topic))


def is_plain(topic: str) -> bool:
    """Return whether results may be drawn on the topic's images: they show a camera's view."""
    return _last_part(topic) not in (*_MASK_KINDS, *_COSTLY)


class Snapshot:
    """The topics of one moment."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.types = {
            topic: next((kind for kind in kinds if kind in IMAGE_TYPES), kinds[0])
            for topic, kinds in node.get_topic_names_and_types()}
        self.publishers = lru_cache(None)(self._publishers)

    @cached_property
    def images(self) -> dict[str, str]:
        """Return the image topics and their types, in alphabetical order."""
        return {t: kind for t, kind in sorted(self.types.items()) if kind in IMAGE_TYPES}

    @cached_property
    def results(self) -> dict[str, Kind]:
        """Return the topics whose messages can be drawn on images."""
        boxes: dict[str, Kind] = {
            topic: 'boxes' for topic, type_name in self.types.items() if type_name == BOXES_TYPE}
        masks = {
            topic: kind for topic in self.images
            if (kind := mask_kind(topic)) and self.label_topic(topic)}
        return boxes | masks

    def label_topic(self, topic: str) -> str | None:
        """Return the label topic of the node that publishes ``topic``."""
        nodes = self._publishing_nodes(topic)
        labels = [
            label for label, type_name in self.types.items()
            if type_name == LABELS_TYPE and nodes & self._publishing_nodes(label)]
        # a node may have several, such as ~/label_info and ~/ground_truth/label_info
        return max(labels, key=lambda label: _shared_parts(topic, label), default=None)

    def is_costly(self, topic: str) -> bool:
        """Return whether subscribing makes a node compute, or send an image a second time."""
        # image_raw/compressed stands beside image_raw
        base, _, _ = topic.rpartition('/')
        return _last_part(topic) in _COSTLY or base in self.images

    def why_missing(self, topic: str) -> str:
        """Return why there can be no subscription to an image topic; empty if there can."""
        if topic not in self.types or not self.publishers(topic):
            return f'No node publishes this topic{self._hint(topic)}'
        if self.types[topic] not in IMAGE_TYPES:
            return (f'This topic carries {self.types[topic]}; '
                    f'pictures come as {" or ".join(IMAGE_TYPES)}.')
        return ''

    def _hint(self, topic: str) -> str:
        listeners = {s.node_name for s in self._node.get_subscriptions_info_by_topic(topic)}
        listeners.discard(self._node.get_name())
        if listeners:
            return f', though {", ".join(sorted(listeners))} listens to it: is it remapped right?'
        published = [name for name in self.images if name != topic and self.publishers(name)]
        close = difflib.get_close_matches(topic, published, n=1)
        return f"; did you mean '{close[0]}'?" if close else ': is the camera node running?'

    def _publishers(self, topic: str) -> list[TopicEndpointInfo]:
        return list(self._node.get_publishers_info_by_topic(topic))

    def _publishing_nodes(self, topic: str) -> set[tuple[str, str]]:
        return {(p.node_namespace, p.node_name) for p in self.publishers(topic)}


class Subscription:
    """A subscription that follows what the publishers of its topic offer."""

    def __init__(
        self, node: Node, topic: str, type_name: str, receive: Callable[[Any], None]
    ) -> None:
        self._node = node
        self._topic = topic
        self._type_name = type_name
        self._receive = receive
        self._qos: QoSProfile | None = None
        self._subscription: Any = None

    def follow(self, publishers: list[TopicEndpointInfo]) -> None:
        """Subscribe, or subscribe anew, as ``publishers`` need it."""
        self._publishers = [p for p in publishers if p.topic_type == self._type_name]
        if not self._publishers:
            return  # what will be offered is not known yet
        qos = qos_for_all(self._publishers, depth=5)
        if qos == self._qos:
            return
        self.close()
        self._qos = qos
        self._subscription = self._node.create_subscription(
            message_class(self._type_name), self._topic, self._receive, qos)

    def close(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = None

    def why_silent(self, silent_s: float) -> str:
        """Return the sentence for a topic that is published but brings nothing."""
        names = sorted({p.node_name for p in self._publishers})
        return (f'{", ".join(names)} publishes this topic, but for {silent_s:.0f} s nothing has '
                'arrived: is the camera streaming, the bag not paused, the node active? Large '
                'images also need a large shared-memory segment (config/fastdds.xml).')


def _last_part(topic: str) -> str:
    return topic.rpartition('/')[2]


def _shared_parts(topic: str, other: str) -> int:
    """Return how many leading parts two names have in common."""
    same = [ours == theirs for ours, theirs in zip(
        topic.split('/'), other.split('/'), strict=False)]
    return (same + [False]).index(False)
