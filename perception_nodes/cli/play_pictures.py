"""
Pictures as a camera on the graph: image and camera_info in lock step.

:class:`PicturePublisher` and :func:`publish_all` also serve programs that send pictures through a
node and wait for each result.
"""

import argparse
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
import itertools
import logging
import time

from perception_nodes.cli.calibration import Calibration
from perception_nodes.cli.lockstep import meet, part, Replies
from perception_nodes.cli.pictures import Picture, PictureSource
from perception_nodes.cli.progress import progress
from perception_nodes.conversions.encode import header_to_msg, image_to_msg, intrinsics_to_msg
from perception_nodes.core.types import CameraIntrinsics
from perception_nodes.ros.session import Session
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

log = logging.getLogger(__name__)

# reliable: serves subscriptions that ask for it and those that do not
_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_USUAL_FOV_DEG = 60.0


class PicturePublisher:
    """
    Publishes pictures as the colour camera of one namespace.

    :param camera: Namespace; the optical frame is named after it.
    :param calibration: What camera_info says; None for a guess.
    :param fov_deg: Horizontal field of view of the guess, degrees.
    """

    def __init__(self, session: Session, camera: str = '/camera',
                 calibration: Calibration | None = None, fov_deg: float = _USUAL_FOV_DEG) -> None:
        camera = session.topic(camera).rstrip('/')
        self.image_topic = f'{camera}/color/image_raw'
        self.frame_id = f'{camera[1:].replace("/", "_")}_color_optical_frame'
        self._calibration = calibration
        self._fov_deg = fov_deg
        self._node = session.node
        self._images = self._node.create_publisher(Image, self.image_topic, _QOS)
        self._infos = self._node.create_publisher(CameraInfo, f'{camera}/color/camera_info', _QOS)

    def listeners(self) -> int:
        """Return how many subscriptions of the image there are."""
        return self._images.get_subscription_count()

    def publish(self, picture: Picture) -> int:
        """
        Publish one picture under the time of the node's clock.

        :return: The stamp, nanoseconds.
        :raises ValueError: If the calibration is for another size.
        """
        stamp_ns = self._node.get_clock().now().nanoseconds
        header = header_to_msg(stamp_ns, self.frame_id)
        info = self._camera_info(picture, header)
        self._images.publish(image_to_msg(picture.rgb, 'rgb8', header))
        self._infos.publish(info)
        return stamp_ns

    def finish(self) -> None:
        """Wait until reliable subscriptions have what was published."""
        part((self._images, self._infos))

    def _camera_info(self, picture: Picture, header: Header) -> CameraInfo:
        height, width = picture.rgb.shape[:2]
        if self._calibration is None:
            guess = CameraIntrinsics.from_fov(width, height, self._fov_deg)
            return intrinsics_to_msg(guess, header)
        known = self._calibration.intrinsics
        if (known.width, known.height) != (width, height):
            raise ValueError(
                f'{picture.name} has {width}x{height} pixels, but the calibration is for '
                f'{known.width}x{known.height}: calibrate at that size, or set --size '
                f'{known.width}x{known.height} if the picture is the same view scaled')
        info = intrinsics_to_msg(known, header)
        info.distortion_model = self._calibration.distortion_model
        info.r = self._calibration.rectification
        info.p = self._calibration.projection
        return info


@dataclass(frozen=True)
class Sent:
    """A picture that was published."""

    name: str
    stamp_ns: int  # ROS time, nanoseconds
    answered: bool | None  # whether a reply came in time; None: nobody waited for one


def publish_all(
    pictures: PictureSource,
    publisher: PicturePublisher,
    rate_hz: float | None,
    replies: Replies | None = None,
    timeout_s: float = 10.0,
) -> Iterator[Sent]:
    """
    Publish pictures one by one and yield each as it has been sent.

    :param rate_hz: Highest rate; None: as they come.
    :param replies: Where to wait for the answer to each picture before the next.
    :param timeout_s: Longest wait for an answer, seconds.
    """
    period_s = 1.0 / rate_hz if rate_hz else 0.0
    due_s = time.monotonic()
    coming = iter(pictures)
    # a live camera is asked when its picture is due: one that waited would be old
    while (picture := next(coming, None)) is not None:
        stamp_ns = publisher.publish(picture)
        answered = replies.wait_for(stamp_ns, timeout_s) if replies else None
        yield Sent(picture.name, stamp_ns, answered)
        # what took too long moves the plan: catching up would be a burst
        due_s = max(due_s + period_s, time.monotonic())
        time.sleep(max(0.0, due_s - time.monotonic()))


def play(
    pictures: PictureSource, calibration: Calibration | None, arguments: argparse.Namespace
) -> int:
    """Run ``perception play`` on pictures; the summary goes to standard output."""
    with Session('perception_play') as session:
        fov_deg = arguments.fov or _USUAL_FOV_DEG
        publisher = PicturePublisher(session, arguments.camera or '/camera', calibration, fov_deg)
        if calibration is None:
            log.info('camera_info is a guess from a field of view of %g degrees; give '
                     '--calibration for a real one', fov_deg)
        replies = meet(session, publisher.listeners, publisher.image_topic, arguments)
        rate_hz = arguments.rate or (None if replies else pictures.rate_hz)
        tally = _Tally()
        with suppress(KeyboardInterrupt):
            for _ in itertools.count() if arguments.loop else range(1):
                sent = publish_all(pictures, publisher, rate_hz, replies, arguments.pace_timeout)
                tally.follow(sent, None if arguments.loop else pictures.count())
                if tally.published == 0:
                    raise ValueError(
                        f'none of the {pictures.skipped} picture(s) of {arguments.source} could '
                        'be read')
            publisher.finish()
        print(tally.summary(pictures.skipped))
    return 0


class _Tally:
    """Counts what was sent, beside a progress bar where a person is watching."""

    def __init__(self) -> None:
        self.published = 0
        self._unanswered = 0
        self._first_s = self._last_s = 0.0

    def follow(self, sent: Iterator[Sent], expected: int | None) -> None:
        with progress(expected, 'picture') as bar:
            for one in sent:
                self._last_s = time.monotonic()
                if self.published == 0:
                    self._first_s = self._last_s
                self.published += 1
                bar.update()
                if one.answered is False:
                    self._unanswered += 1
                    log.warning('no answer to %s in time', one.name)

    def summary(self, skipped: int) -> str:
        took_s = self._last_s - self._first_s
        rate = f' ({(self.published - 1) / took_s:.1f} Hz)' if self.published > 1 else ''
        unanswered = f', {self._unanswered} without an answer' if self._unanswered else ''
        return (f'{self.published} published in {took_s:.1f} s{rate}, {skipped} skipped'
                f'{unanswered}')
