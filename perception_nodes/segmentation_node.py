"""Publish the class of every pixel of colour images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from perception_nodes.backends.sharing import share_model
from perception_nodes.conversions.encode import (
    header_to_msg,
    image_to_msg,
    label_info_to_msg,
)
from perception_nodes.conversions.encode_segmentation import (
    labelled_points_to_msg,
    mask_to_msg,
)
from perception_nodes.core.overlay import draw_mask
from perception_nodes.core.segmentation import (
    class_edges,
    labelled_points,
    SegmentationParams,
    Segmenter,
    warm_up,
)
from perception_nodes.core.types import RgbdFrame, SegmentationMask
from perception_nodes.ros.inference_node import InferenceNode, LATCHED
from perception_nodes.ros.process import run
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo


class SegmentationNode(InferenceNode[SegmentationParams, Segmenter]):
    """
    Names the class of every pixel, and with depth that of every point.

    Publishes ``~/mask``, ``~/confidence``, ``~/edges``, ``~/points``, ``~/label_info`` and
    ``~/debug_image``; all but the mask and the labels only while somebody subscribes.
    """

    Params = SegmentationParams

    def __init__(self, name: str = 'segmentation', **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def load(self) -> Segmenter:
        """Load the model that the parameters name."""
        self.masks = self.create_camera_outputs(Image, 'mask')
        self.confidences = self.create_camera_outputs(Image, 'confidence')
        self.edges = self.create_camera_outputs(Image, 'edges')
        self.debug_images = self.create_camera_outputs(Image, 'debug_image')
        self.points = self.create_camera_outputs(PointCloud2, 'points') \
            if self.params.points else {}
        self.label_info = self.create_output(LabelInfo, '~/label_info', LATCHED)
        p = self.params
        entry = p.entry('segmentation', self.get_parameter('use_sim_time').value)
        segmenter = Segmenter(share_model(
            entry, p.device, half_precision=p.half_precision, input_size=p.input_size), p)
        segmenter.segment(
            [np.zeros((entry.input.height, entry.input.width, 3), np.uint8)], confidence=True)
        if p.points:
            warm_up()
        return segmenter

    def extra_inputs(self) -> frozenset[str]:
        """Depth and camera_info where points ask for them."""
        return frozenset({'depth', 'camera_info'} if self.params.points else ())

    def depth_is_optional(self) -> bool:
        """Let masks go out when depth does not come."""
        return True

    def announce(self) -> None:
        """Publish what the ids of the masks mean."""
        header = header_to_msg(self.get_clock().now().nanoseconds, '')
        self.label_info.publish(label_info_to_msg(
            self.core.model.class_names, self.params.confidence_threshold, header))

    def adopt(self) -> None:
        """Let the threshold change while running."""
        self.core.params = self.params
        self.announce()

    def process(self, frames: Mapping[str, RgbdFrame]) -> None:
        """Segment the newest image of each camera."""
        unsure = {c for c in frames if self.confidences[c].get_subscription_count()}
        masks = self.core.segment(
            [frame.rgb for frame in frames.values()], confidence=bool(unsure))
        for (camera, frame), mask in zip(frames.items(), masks, strict=True):
            header = header_to_msg(frame.stamp_ns, frame.frame_id)
            self.masks[camera].publish(mask_to_msg(mask.ids, header))
            if camera in unsure:
                self._publish_confidence(camera, mask, header)
            if self.edges[camera].get_subscription_count():
                self.edges[camera].publish(image_to_msg(class_edges(mask.ids), 'mono8', header))
            if self.debug_images[camera].get_subscription_count():
                drawn = draw_mask(frame.rgb, mask.ids, self.core.model.class_names)
                self.debug_images[camera].publish(image_to_msg(drawn, 'rgb8', header))
            if self.points and self.points[camera].get_subscription_count():
                self._publish_points(camera, frame, mask, header)

    def _publish_confidence(self, camera: str, mask: SegmentationMask, header: Header) -> None:
        if mask.confidence is None:
            self.fail(camera, ValueError('the model gives class ids only'), 'no confidence')
        else:
            self.confidences[camera].publish(image_to_msg(mask.confidence, '32FC1', header))

    def _publish_points(
        self, camera: str, frame: RgbdFrame, mask: SegmentationMask, header: Header
    ) -> None:
        if frame.depth_m is None or frame.intrinsics is None:
            return  # the reason is in the diagnostics already
        points, labels = labelled_points(mask.ids, frame.depth_m, frame.intrinsics)
        self.points[camera].publish(labelled_points_to_msg(points, labels, header))


def main() -> None:
    """Run the segmentation node."""
    run(lambda: [SegmentationNode()])


if __name__ == '__main__':
    main()
