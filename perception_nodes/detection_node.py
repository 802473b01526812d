"""Publish the objects seen in colour images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.conversions.encode import (
    detections_to_msg,
    header_to_msg,
    image_to_msg,
    label_info_to_msg,
)
from perception_nodes.core.detection import DetectionParams, lowest_scores, ObjectDetector
from perception_nodes.core.manifest import camera_domain, check_domain, find_model
from perception_nodes.core.overlay import draw_detections
from perception_nodes.core.types import RgbdFrame
from perception_nodes.ros.inference_node import InferenceNode, LATCHED
from perception_nodes.ros.process import run
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo


class DetectionNode(InferenceNode[DetectionParams, ObjectDetector]):
    """Subscribes to ``image``; publishes ``~/detections``, ``~/label_info``, ``~/debug_image``."""

    Params = DetectionParams

    def __init__(self, name: str = 'detection', **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def load(self) -> ObjectDetector:
        """Load the model that the parameters name."""
        self.detections = self.create_camera_outputs(Detection2DArray, 'detections')
        self.debug_images = self.create_camera_outputs(Image, 'debug_image')
        self.label_info = self.create_output(LabelInfo, '~/label_info', LATCHED)
        p = self.params
        entry = find_model(p.model, 'detection', p.manifest)
        domain = camera_domain(p.camera_domain, self.get_parameter('use_sim_time').value)
        check_domain(entry, domain, p.allow_domain_mismatch, p.manifest)
        detector = ObjectDetector(load_model(
            entry, p.device, half_precision=p.half_precision, input_size=p.input_size), p)
        detector.detect([np.zeros((entry.input.height, entry.input.width, 3), np.uint8)])
        return detector

    def announce(self) -> None:
        """Publish what the class ids mean."""
        header = header_to_msg(self.get_clock().now().nanoseconds, '')
        self.label_info.publish(label_info_to_msg(
            self.core.model.class_names, self.params.score_threshold, header))

    def check(self, params: DetectionParams) -> None:
        """Refuse classes that the model does not know."""
        lowest_scores(params, self.core.model.class_names)

    def adopt(self) -> None:
        """Let thresholds change while running."""
        self.core.params = self.params
        self.announce()

    def process(self, frames: Mapping[str, RgbdFrame]) -> None:
        """Detect in the newest image of each camera."""
        results = self.core.detect([frame.rgb for frame in frames.values()])
        for (camera, frame), found in zip(frames.items(), results, strict=True):
            header = header_to_msg(frame.stamp_ns, frame.frame_id)
            self.detections[camera].publish(detections_to_msg(found, header))
            if self.debug_images[camera].get_subscription_count():
                drawn = draw_detections(frame.rgb, found, self.core.model.class_names)
                self.debug_images[camera].publish(image_to_msg(drawn, 'rgb8', header))


def main() -> None:
    """Run the detection node."""
    run(lambda: [DetectionNode()])


if __name__ == '__main__':
    main()
