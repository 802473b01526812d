"""Camera topics to frames: each message is received once and decoded once, by whoever needs it."""

from collections.abc import Callable
import threading
import time

from perception_nodes.conversions.decode import rgb_from_msg, stamp_ns_from_msg
from perception_nodes.core.types import RgbdFrame
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import qos_policy_name_from_kind, qos_profile_sensor_data
from sensor_msgs.msg import Image


class Observation:
    """The messages of one moment, turned into a frame when somebody first asks."""

    def __init__(self, image: Image) -> None:
        self.received_ns = time.monotonic_ns()
        self._image = image
        self._lock = threading.Lock()
        self._frame: RgbdFrame | None = None

    def frame(self) -> RgbdFrame:
        """
        Return the decoded frame, the same object for everybody.

        :raises ValueError: If a message cannot be decoded, with the sentence why.
        """
        with self._lock:
            if self._frame is None:
                header = self._image.header
                rgb = rgb_from_msg(self._image)
                rgb.flags.writeable = False
                self._frame = RgbdFrame(rgb, stamp_ns_from_msg(header.stamp), header.frame_id)
            return self._frame


class CameraSource:
    """A subscription to the node's ``image`` topic, and why it may be silent."""

    def __init__(self, node: LifecycleNode, deliver: Callable[[Observation], None]) -> None:
        self._node = node
        self._refused_policy = ''
        self._subscription = node.create_subscription(
            Image, 'image', lambda msg: deliver(Observation(msg)), qos_profile_sensor_data,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible))
        self.topic = self._subscription.topic_name

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def why_silent(self) -> str:
        """Return the sentence that explains why nothing arrives."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        wrong = {p.topic_type for p in publishers} - {'sensor_msgs/msg/Image'}
        if not publishers:
            return (f"nothing arrives on '{self.topic}': no node publishes it; start the camera "
                    "or remap 'image' to its topic")
        if wrong:
            return (f"nothing arrives on '{self.topic}': it carries {', '.join(sorted(wrong))}, "
                    'not sensor_msgs/msg/Image; remap to the raw image topic')
        if self._refused_policy:
            return (f"nothing arrives on '{self.topic}': its publisher offers an incompatible "
                    f'QoS ({self._refused_policy})')
        return (f"nothing arrives on '{self.topic}', though {len(publishers)} node(s) publish it: "
                'is the camera streaming, and is the shared-memory segment large enough '
                '(config/fastdds.xml)?')

    def _on_incompatible(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        self._refused_policy = qos_policy_name_from_kind(event.last_policy_kind)
