"""Publish in sentences what stands where."""

from collections import deque
import time
from typing import Any

from perception_nodes.conversions.decode import (
    class_names_from_msg,
    detections_3d_from_msg,
    stamp_ns_from_msg,
)
from perception_nodes.core.scene_relations import describe, DescriptionParams
from perception_nodes.core.transforms import TransformError
from perception_nodes.core.types import Detections3D
from perception_nodes.ros.lifecycle_node import LATCHED
from perception_nodes.ros.message_node import MessageNode
from perception_nodes.ros.process import run
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from std_msgs.msg import String
from vision_msgs.msg import Detection3DArray, LabelInfo

_PERIOD_S = 1.0
_WAITING = 30  # messages that may wait for their transform


class DescriptionNode(MessageNode[DescriptionParams, None]):
    """
    Says how the things on the topic ``detections_3d`` stand to each other.

    Publishes ``~/description`` when it changes, once a second at most; the latched topic
    ``label_info`` tells what the things are called.
    """

    Params = DescriptionParams

    def __init__(self, name: str = 'description', **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.create_timer(
            _PERIOD_S, self._on_time, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def load(self) -> None:
        """Create the output, and listen."""
        self.description = self.create_output(String, '~/description', LATCHED)
        self._class_names: dict[int, str] | None = None
        self.create_input(LabelInfo, 'label_info', self._on_label_info, LATCHED)
        self.hear(Detection3DArray, 'detections_3d', self._on_detections)
        self._labels_topic = self.resolve_topic_name('label_info')

    def begin(self) -> None:
        """Have told nothing yet."""
        # a transform may come after its boxes, and callbacks cannot wait for it
        self._waiting: deque[tuple[int, Detection3DArray]] = deque(maxlen=_WAITING)
        self._told: str | None = None
        _ = self.transforms  # it listens from the first use on
        super().begin()

    def time_jumped(self) -> None:
        """Forget what was seen at another time."""
        if self.health is not None:
            self._waiting.clear()

    def _on_label_info(self, msg: LabelInfo) -> None:
        self._class_names = class_names_from_msg(msg)

    def _on_detections(self, msg: Detection3DArray) -> None:
        if self._waiting and self.health is not None:
            self.health.dropped('superseded')
        self._waiting.append((time.monotonic_ns(), msg))

    def _on_time(self) -> None:
        if self.health is not None and self._waiting:
            self.attempt(self._describe)

    def _describe(self) -> None:
        """Tell the newest boxes that have a transform."""
        if self._class_names is None:
            raise ValueError(
                f"no class names have come on '{self._labels_topic}': remap label_info to that of "
                'the node that publishes the boxes')
        started_ns = time.monotonic_ns()
        received_ns, things = self._newest()
        self._waiting.clear()
        text = describe(things, self._class_names, self.params)
        if text != self._told:
            self._told = text
            self.description.publish(String(data=text))
        done_ns = time.monotonic_ns()
        assert self.health is not None
        self.health.processed((done_ns - received_ns) * 1e-6, (done_ns - started_ns) * 1e-6)

    def _newest(self) -> tuple[int, Detections3D]:
        """Return when the newest boxes came that have a transform, and them as the robot sees."""
        missing = TransformError('', may_come=True)
        for received_ns, msg in reversed(self._waiting):
            try:
                robot_from_boxes = self.transforms.lookup(
                    self.params.robot_frame, msg.header.frame_id,
                    stamp_ns_from_msg(msg.header.stamp))
            except TransformError as error:
                missing = error
            else:
                return received_ns, detections_3d_from_msg(msg).transformed(robot_from_boxes)
        raise missing


def main() -> None:
    """Run the description node."""
    run(lambda: [DescriptionNode()])


if __name__ == '__main__':
    main()
