"""Publish what colour images show, or what is in the boxes that a detector found in them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from perception_nodes.backends.sharing import share_model
from perception_nodes.conversions.decode import boxes_from_msg
from perception_nodes.conversions.encode import (
    classification_to_msg,
    classified_boxes_to_msg,
    header_to_msg,
    label_info_to_msg,
)
from perception_nodes.core.classification import ClassificationParams, ImageClassifier
from perception_nodes.core.types import RgbdFrame
from perception_nodes.ros.inference_node import InferenceNode, LATCHED
from perception_nodes.ros.process import run
from vision_msgs.msg import Classification, Detection2DArray, LabelInfo


class ClassificationNode(InferenceNode[ClassificationParams, ImageClassifier]):
    """
    Classifies the colour image, or each detection in it.

    Publishes ``~/classification`` and ``~/label_info``; with ``crops: detections`` instead of the
    former ``~/detections``, the boxes of the topic ``detections`` with classes of this model.
    """

    Params = ClassificationParams

    def __init__(self, name: str = 'classification', **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def load(self) -> ImageClassifier:
        """Load the model that the parameters name."""
        p = self.params
        if p.crops == 'detections':
            self.results = self.create_camera_outputs(Detection2DArray, 'detections')
            self.pair_frames_with(Detection2DArray, 'detections')
        else:
            self.results = self.create_camera_outputs(Classification, 'classification')
        self.label_info = self.create_output(LabelInfo, '~/label_info', LATCHED)
        entry = p.entry('classification', self.get_parameter('use_sim_time').value)
        classifier = ImageClassifier(share_model(
            entry, p.device, half_precision=p.half_precision, input_size=p.input_size), p)
        classifier.classify([np.zeros((entry.input.height, entry.input.width, 3), np.uint8)])
        return classifier

    def announce(self) -> None:
        """Publish what the class ids mean."""
        header = header_to_msg(self.get_clock().now().nanoseconds, '')
        self.label_info.publish(label_info_to_msg(
            self.core.model.class_names, self.params.score_threshold, header))

    def adopt(self) -> None:
        """Let the threshold and the number of classes change while running."""
        self.core.params = self.params
        self.announce()

    def process(self, frames: Mapping[str, RgbdFrame]) -> None:
        """Classify the newest image of each camera, or the boxes in it."""
        if self.params.crops == 'detections':
            for camera, frame in frames.items():
                self._classify_boxes(camera, frame)
            return
        answers = self.core.classify([frame.rgb for frame in frames.values()])
        for (camera, frame), scores in zip(frames.items(), answers, strict=True):
            header = header_to_msg(frame.stamp_ns, frame.frame_id)
            self.results[camera].publish(classification_to_msg(scores, header))

    def _classify_boxes(self, camera: str, frame: RgbdFrame) -> None:
        found = self.partner(camera, frame)
        answers = self.core.classify_boxes(frame.rgb, boxes_from_msg(found))
        self.results[camera].publish(classified_boxes_to_msg(found, answers))


def main() -> None:
    """Run the classification node."""
    run(lambda: [ClassificationNode()])


if __name__ == '__main__':
    main()
