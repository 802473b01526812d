"""One input of a node: where its frames or scans wait, and how they fare."""

from collections.abc import Callable
from typing import Any

from perception_nodes.conversions.decode import stamp_ns_from_msg
from perception_nodes.core.health import NodeHealth, STALE_AFTER_S
from perception_nodes.core.latest import LatestSlots
from perception_nodes.core.stamp_pairs import StampPairs
from perception_nodes.core.types import LaserRanges
from perception_nodes.ros.sources import Arrived, CameraSource, Observation, ScanSource

Taken = Observation | Arrived[LaserRanges]

_WAITING_FRAMES = 30  # for messages about them, which another node is still making


class CameraInput:
    """
    One camera of a node: where its frames wait, and how they fare.

    :param partner: Topic whose message of the same stamp a frame waits for; empty: none.
    """

    def __init__(
        self, name: str, slots: LatestSlots[Taken], time_jumped: Callable[[], None],
        partner: str = '',
    ) -> None:
        self.name = name
        self.health = NodeHealth()
        self.source: CameraSource | ScanSource | None = None
        self.time_jumped = time_jumped
        self.pairs: StampPairs[Taken, Any] = StampPairs(
            _WAITING_FRAMES, lambda: self.dropped(self._without_partner))
        self._slots = slots
        self._partner = partner
        self._without_partner = f'no_{partner.rpartition("/")[2]}'

    def received(self) -> None:
        """Hear that an image arrived."""
        self.health.received()

    def dropped(self, reason: str) -> None:
        """Hear that an image could not be made part of a frame."""
        self.health.dropped(reason)

    def deliver(self, observation: Taken) -> None:
        """Put a complete frame where the worker takes the newest from."""
        if self._partner:
            self._proceed(self.pairs.add_first(observation.stamp_ns, observation))
        else:
            self._proceed(observation)

    def partner_arrived(self, msg: Any) -> None:
        """Take the message that the frame of its stamp waits for."""
        self._proceed(self.pairs.add_second(stamp_ns_from_msg(msg.header.stamp), msg))

    def _proceed(self, observation: Taken | None) -> None:
        if observation is None:
            return
        self.health.completed()
        if self._slots.put(self.name, observation):
            self.health.dropped('superseded')

    def concern(self) -> str:
        """Return what is wrong with this camera now; empty when nothing is."""
        if failure := self.health.recent_failure():
            return failure
        if self.source is None or self.health.idle_s() < STALE_AFTER_S:
            return ''
        if self.health.last_drop() == self._without_partner:
            return (f"nothing on '{self._partner}' has the stamp of one of the last "
                    f'{_WAITING_FRAMES} frames: start the node that publishes it on the same '
                    'camera, or remap the topic')
        return self.source.why_silent(self.health.last_drop())
