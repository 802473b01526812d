"""Publish how many objects crossed a line or a zone of the image."""

import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from perception_nodes.conversions.decode import (
    class_names_from_msg,
    detections_from_msg,
    stamp_ns_from_msg,
)
from perception_nodes.conversions.encode_counts import counts_to_msg
from perception_nodes.core.counting import CountingParams, ObjectCounter
from perception_nodes.ros.lifecycle_node import LATCHED
from perception_nodes.ros.message_node import MessageNode
from perception_nodes.ros.process import run
from vision_msgs.msg import Detection2DArray, LabelInfo


class CountingNode(MessageNode[CountingParams, ObjectCounter]):
    """
    Counts the numbered objects on the topic ``detections`` by class.

    Publishes ``~/counts`` when they change; the latched topic ``label_info`` tells what the
    classes are called.
    """

    Params = CountingParams

    def __init__(self, name: str = 'counting', **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def load(self) -> ObjectCounter:
        """Create the output, listen, and begin at zero."""
        counter = ObjectCounter(self.params)
        self.counts = self.create_output(DiagnosticStatus, '~/counts', LATCHED)
        self._class_names: dict[int, str] | None = None
        self._told: dict[int, dict[str, int]] | None = None
        self._labels_topic = self.resolve_topic_name('label_info')
        self.create_input(LabelInfo, 'label_info', self._on_label_info, LATCHED)
        self.hear(Detection2DArray, 'detections', self._on_detections)
        return counter

    def _on_label_info(self, msg: LabelInfo) -> None:
        self._class_names, self._told = class_names_from_msg(msg), None

    def _on_detections(self, msg: Detection2DArray) -> None:
        """Count, and publish where that changed something."""
        assert self.health is not None
        started_ns = time.monotonic_ns()
        found = detections_from_msg(msg)
        if found.object_ids is None:
            for _ in range(len(found)):
                self.health.dropped('no_id')
            raise ValueError(
                f'{len(found)} objects without a number cannot be counted: set track to true on '
                'the detection node')
        self.core.step(found, stamp_ns_from_msg(msg.header.stamp))
        if self._class_names is None:
            self.fail(
                f"counted, but not published: no class names have come on '{self._labels_topic}'; "
                'remap label_info to that of the node that publishes the boxes')
            return
        counts = self.core.counts
        if counts != self._told:
            self._told = counts
            self.counts.publish(counts_to_msg(self.get_fully_qualified_name(), {
                self._class_names.get(i, f'id {i}'): own for i, own in counts.items()}))
        taken_ms = (time.monotonic_ns() - started_ns) * 1e-6
        self.health.processed(taken_ms, taken_ms)


def main() -> None:
    """Run the counting node."""
    run(lambda: [CountingNode()])


if __name__ == '__main__':
    main()
