"""A robot for ``perception soak``: a camera, transforms and a clock that go wrong on demand."""

from collections import deque
from collections.abc import Callable
import threading
import time
from types import TracebackType
from typing import Any, Literal

import numpy as np
from perception_nodes.conversions.encode import header_to_msg, image_to_msg, intrinsics_to_msg
from perception_nodes.conversions.encode_robot import transforms_to_msg
from perception_nodes.core.types import CameraIntrinsics
from perception_nodes.ros.session import Session
from rclpy.qos import qos_profile_sensor_data, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

Fault = Literal['', 'frames_dropped', 'frames_truncated', 'frames_late', 'wrong_encoding',
                'transforms_lost']

OPTICAL = 'camera_color_optical_frame'
COLOUR, DEPTH = '/camera/color/image_raw', '/camera/aligned_depth_to_color/image_raw'
INFO = '/camera/color/camera_info'
_CAMERA = CameraIntrinsics.from_fov(320, 240, 69.0)
_TICK_S, _FRAME_S, _TRANSFORM_S = 0.01, 0.2, 0.02
_LATE_S = 0.6  # much more than nodes allow between colour and depth
_START_NS = 1_000_000_000_000
# the camera looks ahead from a metre above the ground (REP 103)
_MOUNT = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 0, 1]])


class Robot:
    """
    Publishes from a thread while it is open.

    :param seed: Of the pictures, and of which frames are dropped.
    """

    def __init__(self, session: Session, seed: int) -> None:
        self.fault: Fault = ''
        self.frames_sent = 0
        self._rng = np.random.default_rng(seed)
        self._noise = self._rng.integers(0, 256, (_CAMERA.height, _CAMERA.width, 3), np.uint8)
        self._offset_ns = 0
        self._begin_ns = time.monotonic_ns()
        self._held: deque[tuple[int, Callable[[], None]]] = deque()  # late messages, when due
        node = session.node
        self._clock = node.create_publisher(Clock, '/clock', QoSProfile(depth=1))
        self._tf = node.create_publisher(TFMessage, '/tf', QoSProfile(depth=100))
        self._images = {topic: node.create_publisher(Image, topic, qos_profile_sensor_data)
                        for topic in (COLOUR, DEPTH)}
        self._info = node.create_publisher(CameraInfo, INFO, qos_profile_sensor_data)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name='robot', daemon=True)

    def __enter__(self) -> 'Robot':
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._closing.set()
        self._thread.join()

    def now_ns(self) -> int:
        """Return the robot's time."""
        return _START_NS + time.monotonic_ns() - self._begin_ns + self._offset_ns

    def jump(self, seconds: float) -> None:
        """Set the robot's time ahead, or back."""
        self._offset_ns += round(seconds * 1e9)

    def _run(self) -> None:
        next_frame_s = next_transform_s = 0.0
        while not self._closing.wait(_TICK_S):
            now_s = time.monotonic()
            self._clock.publish(Clock(clock=header_to_msg(self.now_ns(), '').stamp))
            if now_s >= next_transform_s and self.fault != 'transforms_lost':
                next_transform_s = now_s + _TRANSFORM_S
                self._publish_transforms()
            if now_s >= next_frame_s:
                next_frame_s = now_s + _FRAME_S
                self._publish_frame()
            while self._held and self._held[0][0] <= time.monotonic_ns():
                self._held.popleft()[1]()

    def _publish_transforms(self) -> None:
        stamp_ns = self.now_ns()
        way_m = 0.2 * np.sin(stamp_ns * 1e-9)
        odom_from_base = np.eye(4)
        odom_from_base[0, 3] = way_m
        self._tf.publish(transforms_to_msg([
            ('odom', 'base_link', odom_from_base), ('base_link', OPTICAL, _MOUNT)], stamp_ns))

    def _publish_frame(self) -> None:
        header = header_to_msg(self.now_ns(), OPTICAL)
        left = self.frames_sent * 4 % (_CAMERA.width - 60)
        rgb, depth_m = self._noise // 4, np.full(self._noise.shape[:2], 3.0, np.float32)
        rgb[100:180, left:left + 60] = 220  # something that moves
        depth_m[100:180, left:left + 60] = 2.0
        depth_m[self._noise[..., 0] < 8] = np.nan
        self.frames_sent += 1
        self._info.publish(intrinsics_to_msg(_CAMERA, header))
        for topic, pixels, encoding in ((DEPTH, depth_m, '32FC1'), (COLOUR, rgb, 'rgb8')):
            self._send(topic, image_to_msg(pixels, encoding, header))

    def _send(self, topic: str, msg: Any) -> None:
        if self.fault == 'frames_dropped' and self._rng.random() < 0.5:
            return
        if self.fault == 'frames_truncated':
            msg.data = msg.data[:len(msg.data) // 2]
        if self.fault == 'wrong_encoding':
            msg.encoding = '8UC4'
        if self.fault == 'frames_late' and topic == DEPTH:
            due_ns = time.monotonic_ns() + round(_LATE_S * 1e9)
            self._held.append((due_ns, lambda: self._images[topic].publish(msg)))
            return
        self._images[topic].publish(msg)
