"""Publish the objects seen in colour images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.sharing import share_model
from perception_nodes.conversions.encode import (
    detections_3d_to_msg,
    detections_to_msg,
    header_to_msg,
    image_to_msg,
    label_info_to_msg,
)
from perception_nodes.conversions.encode_markers import boxes_to_markers_msg, keypoints_to_msg
from perception_nodes.core.detection import lowest_scores, ObjectDetector
from perception_nodes.core.instances import detector_for, instance_image
from perception_nodes.core.keypoints import locate_keypoints
from perception_nodes.core.localization import locate, warm_up
from perception_nodes.core.node_params import DetectionNodeParams
from perception_nodes.core.overlay import draw_detections
from perception_nodes.core.tracking import ObjectTracker
from perception_nodes.core.transforms import TransformError
from perception_nodes.core.types import Detections, RgbdFrame
from perception_nodes.ros.inference_node import InferenceNode, LATCHED
from perception_nodes.ros.process import run
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo
from visualization_msgs.msg import MarkerArray


class DetectionNode(InferenceNode[DetectionNodeParams, ObjectDetector]):
    """
    Finds objects in the colour image, and with depth or a ground plane also in space.

    Publishes ``~/detections``, ``~/detections_3d`` with ``~/markers``, ``~/label_info`` and
    ``~/debug_image``; ``~/instances`` and ``~/keypoints`` where the model gives them. With
    ``track`` the ids of all of them are those of objects followed from image to image.
    """

    Params = DetectionNodeParams

    def __init__(self, name: str = 'detection', **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def load(self) -> ObjectDetector:
        """Load the model that the parameters name."""
        self.detections = self.create_camera_outputs(Detection2DArray, 'detections')
        in_space = self.params.boxes_3d != 'none'
        self.detections_3d = self.create_camera_outputs(Detection3DArray, 'detections_3d') \
            if in_space else {}
        self.markers = self.create_camera_outputs(MarkerArray, 'markers') if in_space else {}
        self.debug_images = self.create_camera_outputs(Image, 'debug_image')
        self.label_info = self.create_output(LabelInfo, '~/label_info', LATCHED)
        p = self.params
        entry = p.entry('detection', self.get_parameter('use_sim_time').value)
        detector = detector_for(entry.task, share_model(
            entry, p.device, half_precision=p.half_precision, input_size=p.input_size), p,
            p.track_weak_score if p.track else 1.0)
        # one per camera: the ids of each depend on its own images alone
        self.trackers = {camera: ObjectTracker(p) for camera in self.detections if p.track}
        self.instances = self.create_camera_outputs(Image, 'instances') \
            if detector.gives_masks else {}
        self.keypoints = self.create_camera_outputs(MarkerArray, 'keypoints') \
            if detector.gives_keypoints and p.boxes_3d == 'depth' else {}
        if detector.gives_keypoints and not self.keypoints:
            self.get_logger().warning(
                f"boxes_3d is '{p.boxes_3d}', so key points are seen in the debug image only; "
                "set it to 'depth' for ~/keypoints")
        detector.detect([np.zeros((entry.input.height, entry.input.width, 3), np.uint8)])
        if p.boxes_3d == 'depth':
            warm_up(p)
        return detector

    def extra_inputs(self) -> frozenset[str]:
        """Depth, camera_info and transforms where boxes in space ask for them."""
        p = self.params
        wanted = {'none': set(), 'depth': {'depth', 'camera_info'}, 'ground': {'camera_info'}}
        frames = {'transforms'} if p.target_frame or p.gravity_frame else set()
        return frozenset(wanted[p.boxes_3d] | frames)

    def announce(self) -> None:
        """Publish what the class ids mean."""
        header = header_to_msg(self.get_clock().now().nanoseconds, '')
        self.label_info.publish(label_info_to_msg(
            self.core.model.class_names, self.params.score_threshold, header))

    def check(self, params: DetectionNodeParams) -> None:
        """Refuse classes that the model does not know."""
        lowest_scores(params, self.core.model.class_names)

    def adopt(self) -> None:
        """Let thresholds change while running."""
        self.core.params = self.params
        self.announce()

    def reset(self) -> None:
        """Follow nothing across a jump of time."""
        for tracker in self.trackers.values():
            tracker.reset()

    def process(self, frames: Mapping[str, RgbdFrame]) -> None:
        """Detect in the newest image of each camera."""
        results = self.core.detect([frame.rgb for frame in frames.values()])
        for (camera, frame), found in zip(frames.items(), results, strict=True):
            if self.trackers:
                found = self.trackers[camera].step(
                    found, frame.stamp_ns, self.core.is_confident(found))
            header = header_to_msg(frame.stamp_ns, frame.frame_id)
            self.detections[camera].publish(detections_to_msg(found, header))
            if found.masks is not None:
                ids = instance_image(found.masks, found.scores)
                self.instances[camera].publish(image_to_msg(ids, 'mono16', header))
            if self.debug_images[camera].get_subscription_count():
                drawn = draw_detections(frame.rgb, found, self.core.model.class_names)
                self.debug_images[camera].publish(image_to_msg(drawn, 'rgb8', header))
            if self.detections_3d:
                self._publish_in_space(camera, frame, found)

    def _publish_in_space(self, camera: str, frame: RgbdFrame, found: Detections) -> None:
        try:
            if found.keypoints is not None and self.keypoints:
                self._publish_keypoints(camera, frame, found.keypoints)
            boxes, frame_id = locate(
                found, frame, self.transforms, self.transform_timeout_s, self.params)
        except (ValueError, TransformError) as error:  # the boxes in the image are out already
            self.fail(camera, error)
            return
        for _, reason in boxes.rejected:
            self.get_logger().debug(f'no box in space: {reason}')
        header = header_to_msg(frame.stamp_ns, frame_id)
        self.detections_3d[camera].publish(detections_3d_to_msg(boxes, header))
        if self.markers[camera].get_subscription_count():
            self.markers[camera].publish(
                boxes_to_markers_msg(boxes, self.core.model.class_names, header))

    def _publish_keypoints(
        self, camera: str, frame: RgbdFrame, keypoints: npt.NDArray[np.float32]
    ) -> None:
        if self.keypoints[camera].get_subscription_count():
            points = locate_keypoints(keypoints, frame, self.params)
            self.keypoints[camera].publish(
                keypoints_to_msg(points, header_to_msg(frame.stamp_ns, frame.frame_id)))


def main() -> None:
    """Run the detection node."""
    run(lambda: [DetectionNode()])


if __name__ == '__main__':
    main()
