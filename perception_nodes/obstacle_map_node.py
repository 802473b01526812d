"""Publish where a robot cannot go, from depth images."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from nav_msgs.msg import OccupancyGrid
import numpy as np
import numpy.typing as npt
from perception_nodes.conversions.decode import (
    class_names_from_msg,
    ids_from_msg,
    stamp_ns_from_msg,
)
from perception_nodes.conversions.encode import (
    header_to_msg,
    laser_scan_to_msg,
    occupancy_to_msg,
    points_to_msg,
)
from perception_nodes.core.mapping import MappingParams, ObstacleMapper, View, warm_up
from perception_nodes.core.semantics import class_table, parse_rules
from perception_nodes.core.transforms import Patience, TransformError
from perception_nodes.core.types import LaserRanges, RgbdFrame
from perception_nodes.ros.attitude import Attitude
from perception_nodes.ros.inference_node import InferenceNode, LATCHED, SCAN
from perception_nodes.ros.process import run
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image, Imu, LaserScan, PointCloud2
from vision_msgs.msg import LabelInfo

_REMEMBERED_VIEWS = 15  # for masks that are as much older than the newest depth


class ObstacleMapNode(InferenceNode[MappingParams, ObstacleMapper]):
    """
    Maps obstacles from the depth of one or more cameras into one grid, and from a laser scan.

    On water, obstacles come from the masks of a segmentation, with depth or without.

    Publishes ``~/map``, ``~/obstacles``, ``~/clearing`` and ``~/scan``, and with the masks of a
    segmentation ``~/class_map``.
    """

    Params = MappingParams

    def __init__(self, name: str = 'obstacle_map', **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def load(self) -> ObstacleMapper:
        """Create an empty map."""
        self.maps = self.create_output(OccupancyGrid, '~/map', LATCHED)
        self.obstacles = self.create_camera_outputs(
            PointCloud2, 'obstacles', qos_profile_sensor_data)
        self.clearing = self.create_camera_outputs(
            PointCloud2, 'clearing', qos_profile_sensor_data)
        self.scans = self.create_output(LaserScan, '~/scan', qos_profile_sensor_data)
        self._patience = Patience(
            self.transform_timeout_s, len(self.obstacles) + self.params.use_scan)
        warm_up(self.params)
        mapper = ObstacleMapper(self.params)
        if self.params.use_imu:
            self.attitude = Attitude(self.resolve_topic_name('imu'))
            self.create_input(Imu, 'imu', self.attitude.receive, qos_profile_sensor_data)
        if self.params.use_mask:
            self._listen_to_masks()
        return mapper

    def _listen_to_masks(self) -> None:
        """Wait for masks, which come later than the depth of their moment."""
        self.create_input(LabelInfo, 'label_info', self._on_label_info, LATCHED)
        self.class_maps = self.create_output(OccupancyGrid, '~/class_map', LATCHED)
        self._shown: deque[tuple[str, int, View]] = deque(maxlen=_REMEMBERED_VIEWS)
        self._masks: deque[tuple[str, Any]] = deque(maxlen=_REMEMBERED_VIEWS)
        if self.params.is_water:  # there is nothing to map before the mask
            self.pair_frames_with(Image, 'mask')
            return
        for camera in self.obstacles:
            def keep(msg: Image, camera: str = camera) -> None:
                self._masks.append((camera, msg))
            self.create_input(
                Image, f'{camera}/mask'.lstrip('/'), keep, qos_profile_sensor_data)

    def _on_label_info(self, msg: LabelInfo) -> None:
        try:
            self.core.set_class_names(class_names_from_msg(msg))
        except ValueError as error:
            self.get_logger().error(f"parameters 'class_rules' and 'water_classes': {error}")

    def extra_inputs(self) -> frozenset[str]:
        """Say that depth is what this node works on, where there is any."""
        wanted = frozenset({'camera_info', 'transforms'})
        return wanted | {'depth'} if self.params.use_depth else wanted

    def wants_scan(self) -> bool:
        """Take a laser scan, too, where that is asked for."""
        return self.params.use_scan

    def needs_colour(self) -> bool:
        """Spare the transport of pictures that nobody looks at, where depth says when."""
        return not self.params.use_depth

    def check(self, params: MappingParams) -> None:
        """Refuse rules for classes that the segmentation does not know."""
        if self.core.class_names:
            class_table(parse_rules(params.class_rules), self.core.class_names)

    def adopt(self) -> None:
        """Let heights, thresholds, memory and the rules of classes change while running."""
        self.core.params = self.params
        self.core.set_class_names(self.core.class_names)

    def reset(self) -> None:
        """Forget the map of another time."""
        self.core.reset()
        if self.params.use_mask:
            self._shown.clear()
        if self.params.use_imu:
            self.attitude.reset()

    def process(self, frames: Mapping[str, RgbdFrame]) -> None:
        """Map the newest depth image of each camera, and publish the map once."""
        views: dict[str, View] = {}
        stamp_ns = 0
        for camera, frame in sorted(frames.items(), key=lambda item: item[1].stamp_ns):
            try:
                view, map_from_base = self._view(camera, frame)
            except (ValueError, TransformError) as error:  # the other cameras can still see
                self.lose(camera, error)
                continue
            if self._move(map_from_base, frame.stamp_ns):
                views.clear()
            self.core.integrate(view)
            views[camera], stamp_ns = view, frame.stamp_ns
        if not views:
            return
        if self.params.use_mask:
            self._shown.extend((camera, frames[camera].stamp_ns, v) for camera, v in views.items())
            self._label()
            self.class_maps.publish(occupancy_to_msg(self.core.class_map(), stamp_ns))
        self.maps.publish(occupancy_to_msg(self.core.occupancy(), stamp_ns))
        for camera, view in views.items():
            self._publish_points(camera, view, frames[camera])
        if self.scans.get_subscription_count():
            self.scans.publish(laser_scan_to_msg(
                self.core.sweep(list(views.values()), map_from_base, stamp_ns)))

    def process_scan(self, scan: LaserRanges) -> None:
        """Map what a laser meets and passes, and publish the map."""
        map_from_laser, map_from_base = self._poses(SCAN, scan.frame_id, scan.stamp_ns)
        self._move(map_from_base, scan.stamp_ns)
        self.core.integrate_scan(scan, map_from_laser, map_from_base)
        self.maps.publish(occupancy_to_msg(self.core.occupancy(), scan.stamp_ns))

    def _move(self, map_from_base: npt.NDArray[np.float64], stamp_ns: int) -> bool:
        jumped = self.core.move(map_from_base, stamp_ns)
        if jumped:
            self.get_logger().warning(
                'the robot was somewhere else a moment ago: the map starts again')
        return jumped

    def _view(self, camera: str, frame: RgbdFrame) -> tuple[View, npt.NDArray[np.float64]]:
        """Find where the camera and the robot were when the image was taken."""
        if frame.intrinsics is None or (frame.depth_m is None and self.params.use_depth):
            raise ValueError('the frame has no depth')
        map_from_camera, map_from_base = self._poses(camera, frame.frame_id, frame.stamp_ns)
        if self.params.is_water:
            return self._view_water(camera, frame, map_from_camera, map_from_base), map_from_base
        assert frame.depth_m is not None
        view = self.core.view(frame.depth_m, frame.intrinsics, map_from_camera, map_from_base)
        return view, map_from_base

    def _view_water(
        self, camera: str, frame: RgbdFrame, map_from_camera: npt.NDArray[np.float64],
        map_from_base: npt.NDArray[np.float64],
    ) -> View:
        assert frame.intrinsics is not None
        msg = self.partner(camera, frame)
        self._masks.append((camera, msg))  # to name the cells when they are mapped
        up = self.attitude.up_in(
            frame.frame_id, frame.stamp_ns, self.transforms, self._patience.timeout_s(camera)
        ) if self.params.use_imu else None
        return self.core.view_water(
            ids_from_msg(msg), frame.intrinsics, map_from_camera, map_from_base, frame.depth_m, up)

    def _poses(
        self, name: str, frame_id: str, stamp_ns: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return where a sensor and the robot were in the map."""
        def pose(child: str) -> npt.NDArray[np.float64]:
            return self.transforms.lookup(
                self.params.map_frame, child, stamp_ns, self._patience.timeout_s(name))

        came = False
        try:
            map_from_sensor = pose(frame_id)
            if self.params.base_frame:
                map_from_base = pose(self.params.base_frame)
            else:  # in the hand: under the camera, level
                map_from_base = np.eye(4)
                map_from_base[:2, 3] = map_from_sensor[:2, 3]
            came = True
        finally:
            self._patience.note(name, came=came)
        return map_from_sensor, map_from_base

    def _label(self) -> None:
        """Use the masks that have come for views of the last moments."""
        while self._masks:
            camera, msg = self._masks.popleft()
            stamp_ns = stamp_ns_from_msg(msg.header.stamp)
            view = next((v for c, s, v in self._shown if (c, s) == (camera, stamp_ns)), None)
            try:
                if view is not None:
                    self.core.label(view, ids_from_msg(msg))
            except ValueError as error:
                self.fail(camera, error)

    def _publish_points(self, camera: str, view: View, frame: RgbdFrame) -> None:
        header = header_to_msg(frame.stamp_ns, frame.frame_id)
        if self.obstacles[camera].get_subscription_count():
            self.obstacles[camera].publish(
                points_to_msg(self.core.obstacle_points(view), header))
        if self.clearing[camera].get_subscription_count():
            self.clearing[camera].publish(points_to_msg(self.core.ray_ends(view), header))


def main() -> None:
    """Run the obstacle map node."""
    run(lambda: [ObstacleMapNode()])


if __name__ == '__main__':
    main()
