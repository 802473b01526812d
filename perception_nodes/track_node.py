"""Follow one object of the colour image that was shown once."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from perception_nodes.conversions.decode import window_from_msg
from perception_nodes.conversions.encode import (
    detections_to_msg,
    header_to_msg,
    image_to_msg,
    label_info_to_msg,
)
from perception_nodes.core.correlation_tracking import CorrelationTracker, TrackParams
from perception_nodes.core.overlay import draw_detections
from perception_nodes.core.types import Detections, RgbdFrame
from perception_nodes.ros.inference_node import InferenceNode, LATCHED, RELIABLE
from perception_nodes.ros.process import run
from sensor_msgs.msg import Image, RegionOfInterest
from vision_msgs.msg import Detection2DArray, LabelInfo

_NAMES = {0: 'target'}


class TrackNode(InferenceNode[TrackParams, dict[str, CorrelationTracker]]):
    """
    Follows what was in the box of ``~/region`` when it came.

    Publishes ``~/track`` with one detection, or none while the object is lost, ``~/label_info``
    and ``~/debug_image``.
    """

    Params = TrackParams

    def __init__(self, name: str = 'track', **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def load(self) -> dict[str, CorrelationTracker]:
        """Create the outputs, and listen for what is to be followed."""
        self.tracks = self.create_camera_outputs(Detection2DArray, 'track')
        self.debug_images = self.create_camera_outputs(Image, 'debug_image')
        self.label_info = self.create_output(LabelInfo, '~/label_info', LATCHED)
        self._shown: dict[str, RegionOfInterest] = {}  # regions that wait for an image
        for camera in self.tracks:
            self.create_input(
                RegionOfInterest, f'~/{camera}/region'.replace('//', '/'),
                partial(self._shown.__setitem__, camera), RELIABLE)
        return {}

    def announce(self) -> None:
        """Publish what the class id means."""
        header = header_to_msg(self.get_clock().now().nanoseconds, '')
        self.label_info.publish(label_info_to_msg(_NAMES, self.params.lost_score, header))

    def adopt(self) -> None:
        """Let the scores change while running."""
        for tracker in tuple(self.core.values()):  # the worker may begin or end one meanwhile
            tracker.params = self.params

    def reset(self) -> None:
        """Follow nothing across a jump of time."""
        self.core.clear()

    def process(self, frames: Mapping[str, RgbdFrame]) -> None:
        """Look for each camera's object in its newest image."""
        for camera, frame in frames.items():
            try:
                found = self._follow(camera, frame)
            except ValueError as error:  # the other cameras can still see
                self.lose(camera, error)
                continue
            header = header_to_msg(frame.stamp_ns, frame.frame_id)
            self.tracks[camera].publish(detections_to_msg(found, header))
            if self.debug_images[camera].get_subscription_count():
                drawn = draw_detections(frame.rgb, found, _NAMES)
                self.debug_images[camera].publish(image_to_msg(drawn, 'rgb8', header))

    def _follow(self, camera: str, frame: RgbdFrame) -> Detections:
        """Return the object as this image shows it; what a new region shows comes first."""
        region = self._shown.pop(camera, None)
        if region is not None:
            self.core.pop(camera, None)
            box = window_from_msg(region)
            if box is not None:
                self.core[camera] = CorrelationTracker(frame.rgb, box, self.params)
        tracker = self.core.get(camera)
        target = tracker.step(frame.rgb) if tracker else None
        if target is None:
            return Detections.empty()
        return Detections(
            target.box_xyxy[None], np.array([target.score], np.float32), np.zeros(1, np.int64))


def main() -> None:
    """Run the track node."""
    run(lambda: [TrackNode()])


if __name__ == '__main__':
    main()
