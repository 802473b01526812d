"""Publish colour images in which chosen objects cannot be recognised."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from perception_nodes.backends.sharing import share_model
from perception_nodes.conversions.encode import header_to_msg, image_to_msg
from perception_nodes.core.anonymisation import AnonymisationParams, Anonymiser
from perception_nodes.core.detection import lowest_scores
from perception_nodes.core.types import RgbdFrame
from perception_nodes.ros.inference_node import InferenceNode
from perception_nodes.ros.process import run
from sensor_msgs.msg import Image


class AnonymisationNode(InferenceNode[AnonymisationParams, Anonymiser]):
    """
    Hides people, or what else a model finds, in the colour image.

    Publishes ``~/image``; an image that could not be looked through is not published.
    """

    Params = AnonymisationParams

    def __init__(self, name: str = 'anonymisation', **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def load(self) -> Anonymiser:
        """Load the model that the parameters name."""
        p = self.params
        self.images = self.create_camera_outputs(Image, 'image')
        entry = p.entry('detection', self.get_parameter('use_sim_time').value)
        anonymiser = Anonymiser(share_model(
            entry, p.device, half_precision=p.half_precision, input_size=p.input_size), p)
        anonymiser.find([np.zeros((entry.input.height, entry.input.width, 3), np.uint8)])
        return anonymiser

    def check(self, params: AnonymisationParams) -> None:
        """Refuse classes that the model does not know."""
        lowest_scores(params, self.core.class_names)

    def adopt(self) -> None:
        """Let what is hidden, and how, change while running."""
        self.core.params = self.params

    def process(self, frames: Mapping[str, RgbdFrame]) -> None:
        """Hide what is found in the newest image of each camera."""
        found = self.core.find([frame.rgb for frame in frames.values()])
        for (camera, frame), regions in zip(frames.items(), found, strict=True):
            header = header_to_msg(frame.stamp_ns, frame.frame_id)
            self.images[camera].publish(
                image_to_msg(self.core.hide(frame.rgb, regions), 'rgb8', header))


def main() -> None:
    """Run the anonymisation node."""
    run(lambda: [AnonymisationNode()])


if __name__ == '__main__':
    main()
