"""Publish ways to grasp what stands on a table, from depth images."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geometry_msgs.msg import PoseArray
import numpy as np
import numpy.typing as npt
from perception_nodes.backends.grasp_planner import make_planner
from perception_nodes.conversions.decode import detections_from_msg, window_from_msg
from perception_nodes.conversions.encode import (
    detections_3d_to_msg,
    header_to_msg,
    image_to_msg,
)
from perception_nodes.conversions.encode_grasps import (
    grasp_markers_to_msg,
    grasp_poses_to_msg,
    grasps_to_msg,
)
from perception_nodes.core.grasping import GraspContext, GraspPlanner, warm_up
from perception_nodes.core.instances import instance_image
from perception_nodes.core.node_params import GraspNodeParams
from perception_nodes.core.transforms import TransformError
from perception_nodes.core.types import Detections3D, GraspCandidates, RgbdFrame
from perception_nodes.ros.inference_node import InferenceNode, RELIABLE
from perception_nodes.ros.process import run
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.task import Future
from sensor_msgs.msg import Image, RegionOfInterest
from std_srvs.srv import Trigger
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import MarkerArray

_PATIENCE_S = 5.0  # of a plan that was asked for


class GraspNode(InferenceNode[GraspNodeParams, GraspPlanner]):
    """
    Plans grasps for a parallel gripper.

    Publishes ``~/grasps``, ``~/poses`` and ``~/markers``, and what stands on the support as
    ``~/instances`` and ``~/detections_3d``; ``~/region`` limits planning to a window of the image,
    ``~/plan`` asks for one plan.
    """

    Params = GraspNodeParams

    def __init__(self, name: str = 'grasp', **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._asked: deque[Future] = deque()
        # in a group of its own: images must come while it waits for them
        self.create_service(
            Trigger, '~/plan', self._on_plan, callback_group=MutuallyExclusiveCallbackGroup())

    def load(self) -> GraspPlanner:
        """Compile the planner, and load its network if it has one."""
        if self.params.scale_depth and not (
                self.params.gravity_frame or self.params.target_frame):
            raise ValueError(
                "parameter 'scale_depth' is true, but no frame says how high the camera is: set "
                'gravity_frame to one whose z axis points up')
        self.grasps = self.create_camera_outputs(Detection3DArray, 'grasps')
        self.poses = self.create_camera_outputs(PoseArray, 'poses')
        self.markers = self.create_camera_outputs(MarkerArray, 'markers')
        self.instances = self.create_camera_outputs(Image, 'instances')
        self.detections_3d = self.create_camera_outputs(Detection3DArray, 'detections_3d')
        self.window_xyxy: tuple[int, int, int, int] | None = None
        self.create_input(RegionOfInterest, '~/region', self._on_region, RELIABLE)
        if self.params.use_detections:
            self.pair_frames_with(Detection2DArray, 'detections')
        warm_up(self.params)
        p = self.params
        return make_planner(p, p.model, p.manifest, fallback_model=p.fallback_model)

    def extra_inputs(self) -> frozenset[str]:
        """Say that depth is what this node works on; transforms where a frame is named."""
        frames = {'transforms'} if self.params.target_frame or self.params.gravity_frame else set()
        return frozenset({'depth', 'camera_info'} | frames)

    def needs_colour(self) -> bool:
        """Spare the transport of pictures that nobody looks at."""
        return False

    def adopt(self) -> None:
        """Let limits change while running."""
        self.core.params = self.params

    def process(self, frames: Mapping[str, RgbdFrame]) -> None:
        """Plan on the newest depth image of each camera."""
        asked = [self._asked.popleft() for _ in range(len(self._asked))]
        if not (self.params.continuous or asked):
            return
        counts = []
        for camera, frame in frames.items():
            try:
                counts.append(self._plan(camera, frame))
            except (ValueError, TransformError) as error:  # the other cameras can still see
                self.fail(camera, error)
                counts.append(str(error))
        for future in asked:
            if not future.done():
                future.set_result('; '.join(counts))

    def _plan(self, camera: str, frame: RgbdFrame) -> str:
        """Plan, publish, and return the number of grasps or the reason why there are none."""
        target_from_camera, context = self._situation(camera, frame)
        watched = bool(self.markers[camera].get_subscription_count())
        objects_watched = any(
            output[camera].get_subscription_count()
            for output in (self.instances, self.detections_3d))
        found = self.core.propose(
            frame, context, with_rejected=watched, with_objects=objects_watched)
        p, frame_id = self.params, self.params.target_frame or frame.frame_id
        header = header_to_msg(frame.stamp_ns, frame_id)
        self.grasps[camera].publish(grasps_to_msg(
            found, target_from_camera, p.finger_width_m, p.finger_depth_m, header))
        self.poses[camera].publish(grasp_poses_to_msg(found, target_from_camera, header))
        if watched:
            self.markers[camera].publish(grasp_markers_to_msg(
                found, target_from_camera, p.finger_depth_m, header))
        if objects_watched:
            self._publish_objects(camera, frame, found, target_from_camera)
        return self._told(camera, found)

    def _publish_objects(
        self, camera: str, frame: RgbdFrame, found: GraspCandidates,
        target_from_camera: npt.NDArray[np.float64],
    ) -> None:
        """Publish the pixels and the boxes of what stands on the support; none without one."""
        ids, boxes = np.zeros_like(frame.depth_m, np.uint16), Detections3D.empty()
        if found.objects is not None and found.objects.masks is not None:
            ids = instance_image(found.objects.masks, found.objects.scores)
        if found.objects_3d is not None:
            boxes = found.objects_3d.transformed(target_from_camera)
        self.instances[camera].publish(
            image_to_msg(ids, 'mono16', header_to_msg(frame.stamp_ns, frame.frame_id)))
        self.detections_3d[camera].publish(detections_3d_to_msg(boxes, header_to_msg(
            frame.stamp_ns, self.params.target_frame or frame.frame_id)))

    def _told(self, camera: str, found: GraspCandidates) -> str:
        if len(found):
            return str(len(found))
        self.fail(camera, ValueError(found.why_none), 'no grasps')
        return found.why_none

    def _situation(
        self, camera: str, frame: RgbdFrame
    ) -> tuple[npt.NDArray[np.float64], GraspContext]:
        """Find where the camera was, which way is up, and what was detected."""
        p = self.params

        def into(target: str) -> npt.NDArray[np.float64]:
            return self.transforms.lookup(
                target, frame.frame_id, frame.stamp_ns, self.transform_timeout_s)

        context = GraspContext()
        if gravity_frame := p.gravity_frame or p.target_frame:
            context = GraspContext.of_pose(
                into(gravity_frame), p.support_height_m if p.scale_depth else None)
        if p.use_detections:
            context = replace(
                context, detections=detections_from_msg(self.partner(camera, frame)))
        return (into(p.target_frame) if p.target_frame else np.eye(4),
                replace(context, window_xyxy=self.window_xyxy))

    def _on_region(self, msg: RegionOfInterest) -> None:
        self.window_xyxy = window_from_msg(msg)

    async def _on_plan(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Answer when the next frame has been planned on, or none comes."""
        if not self._is_active():
            response.message = 'the node is not active: configure and activate it first'
            return response
        future = Future()
        self._asked.append(future)
        patience = self.create_timer(  # a plan that comes at the same moment overrules it
            _PATIENCE_S, lambda: future.set_result(f'no frame came within {_PATIENCE_S:.0f} s'),
            clock=Clock(clock_type=ClockType.STEADY_TIME))
        response.message = await future
        self.destroy_timer(patience)
        response.success = response.message[:1].isdigit()
        return response


def main() -> None:
    """Run the grasp node."""
    run(lambda: [GraspNode()])


if __name__ == '__main__':
    main()
