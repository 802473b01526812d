"""The images that somebody looks at and the results drawn on them. Nothing here needs ROS."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
import time
from typing import Any

import cv2
from perception_nodes.cli.viewer.matching import Arrival, Arrivals, ImageQueue, Results
from perception_nodes.cli.viewer.picture import Kind, Layer, Painter, Picture
from perception_nodes.conversions.decode import stamp_ns_from_msg

_JPEG_QUALITY = 85


@dataclass(eq=False)
class ImageFeed:
    """An image topic that somebody looks at."""

    painter: Painter
    annotated: bool  # whether results are drawn on it
    arrivals: Arrivals
    queue: ImageQueue = field(default_factory=ImageQueue)
    due_s: float = 0.0  # when the next picture may be drawn, steady clock
    picture: Picture | None = None  # the last one drawn
    failure: str = ''  # why the last image could not be drawn, or not fully


@dataclass(eq=False)
class ResultFeed:
    """A topic with boxes or masks, drawn on the images they belong to."""

    kind: Kind
    arrivals: Arrivals
    class_names: Mapping[int, str] = field(default_factory=dict)
    results: Results = field(default_factory=Results)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture on its way to browsers and disk."""

    topic: str
    stamp_ns: int
    picture: Picture
    jpeg: bytes


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that is looked at now; replaced as a whole when that changes."""

    images: Mapping[str, ImageFeed] = field(default_factory=dict)
    results: Mapping[str, ResultFeed] = field(default_factory=dict)

    def receive(self, topic: str, msg: Any, ros_now_ns: int) -> None:
        """
        Store a message; a mask may be both an image and a result.

        :param ros_now_ns: ROS time now, in nanoseconds, for the message's age.
        """
        now_s = time.monotonic()
        stamp_ns = stamp_ns_from_msg(msg.header.stamp)
        key = (stamp_ns, msg.header.frame_id)
        age_ms = (ros_now_ns - stamp_ns) * 1e-6 if stamp_ns else None
        if image := self.images.get(topic):
            image.arrivals.add(now_s, age_ms)
            image.queue.add(Arrival(msg, key, now_s))
        if result := self.results.get(topic):
            result.arrivals.add(now_s, age_ms)
            result.results.add(key, msg)
            for feed in self.images.values():
                feed.queue.answered(topic, key, now_s)

    def draw(self, interval_s: float) -> Iterator[Drawn]:
        """
        Draw what is due.

        :param interval_s: Shortest time between two pictures of one topic.
        """
        for topic, feed in self.images.items():
            now_s = time.monotonic()
            if now_s < feed.due_s:
                continue
            results = {
                name: result.results for name, result in self.results.items()
                if feed.annotated and name != topic}
            image = feed.queue.take(results, now_s)
            if image is None:
                continue
            # half a period of credit, or arrivals out of step with ours would halve the rate
            feed.due_s = max(feed.due_s + interval_s, now_s + 0.5 * interval_s)
            try:
                picture = feed.painter.paint(image.msg, self._layers(results, image))
                jpeg = _jpeg(picture)
            except Exception as error:  # one bad image must not end the viewer
                feed.failure = str(error) or type(error).__name__
                continue
            feed.picture, feed.failure = picture, picture.failure
            yield Drawn(topic, image.key[0], picture, jpeg)

    def _layers(self, results: Mapping[str, Results], image: Arrival) -> list[Layer]:
        return [
            Layer(topic, self.results[topic].kind, msg, self.results[topic].class_names)
            for topic, found in results.items() if (msg := found.get(image.key)) is not None]


def _jpeg(picture: Picture) -> bytes:
    bgr = cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return jpeg.tobytes()
