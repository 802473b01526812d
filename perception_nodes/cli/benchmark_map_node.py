"""What the obstacle map node costs: the CPU time of its whole process, with real images."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
import time
from typing import Any

from nav_msgs.msg import OccupancyGrid
import numpy as np
from perception_nodes.cli.benchmark_graph import cpu_ms
from perception_nodes.cli.processes import await_nodes, Child, use_private_graph
from perception_nodes.conversions.encode import header_to_msg, image_to_msg, intrinsics_to_msg
from perception_nodes.conversions.encode_robot import transforms_to_msg
from perception_nodes.evaluation import mapping_scenarios as scenarios
from perception_nodes.evaluation.depth_scenes import noisy, pose, render
from perception_nodes.ros.inference_node import LATCHED
from perception_nodes.ros.session import Session
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

RATE_HZ = 15.0
_WARM_UP = 30
_START_TIMEOUT_S = 90.0
_SIDES = ('front', 'left', 'rear', 'right')


def node_cpu_ms(frames: int, folder: Path) -> dict[str, float]:
    """
    Return the CPU time per frame of the node with one camera, and the load of four.

    :param frames: Frames of each camera, at 15 Hz.
    :param folder: For the log of the node.
    """
    one_ms = _measured((), frames, folder)
    four_ms = _measured(_SIDES, frames, folder)
    return {'frame_cpu_ms': one_ms, 'four_cameras_frame_cpu_ms': four_ms,
            'four_cameras_core_share': four_ms * len(_SIDES) * RATE_HZ * 1e-3}


def _measured(cameras: Sequence[str], frames: int, folder: Path) -> float:
    """Return the CPU milliseconds of the node's process for each published frame."""
    use_private_graph()
    arguments = ['perception_nodes.obstacle_map_node']
    if cameras:
        arguments += ['--ros-args', '-p', f'cameras:=[{", ".join(cameras)}]']
    with Session('map_benchmark') as session, ExitStack() as stack:
        node = stack.enter_context(Child('obstacle_map_node', arguments, folder / 'node.log'))
        rig = _Rig(session, cameras or ('',))
        maps: list[Any] = []
        session.node.create_subscription(OccupancyGrid, '/obstacle_map/map', maps.append, LATCHED)
        await_nodes(session, [node], rig.is_heard, _START_TIMEOUT_S)
        rig.play(_WARM_UP)
        before_ms, seen = cpu_ms([node.pid]), len(maps)
        rig.play(frames)
        spent_ms = cpu_ms([node.pid]) - before_ms
        if len(maps) - seen < 0.8 * frames:
            raise OSError(
                f'only {len(maps) - seen} maps came from {frames} frames; the last lines of the '
                f'node:\n{node.last_lines()}')
        return spent_ms / (frames * max(1, len(cameras)))


class _Rig:
    """Cameras on a robot, which publish the same rendered images from their own places."""

    def __init__(self, session: Session, cameras: Sequence[str]) -> None:
        rng = np.random.default_rng(0)
        shots = scenarios.draw_shots(rng)
        depth_m, _ = render(shots.scene, shots.map_from_camera, scenarios.CAMERA)
        self._depths = [
            np.nan_to_num(noisy(depth_m, rng) * 1e3, nan=0, posinf=0).astype(np.uint16)
            for _ in range(4)]
        height = shots.map_from_camera[2, 3]
        place = {name: pose(0.0, 0.0, 0.0, yaw=i * np.pi / 2)[:3, :3] @ pose(
            0.0, 0.0, 0.0)[:3, :3].T for i, name in enumerate(cameras)}
        create = session.node.create_publisher
        self._static = create(TFMessage, '/tf_static', LATCHED)
        self._tf = create(TFMessage, '/tf', 100)
        links = [('odom', 'base_link', np.eye(4))]
        self._outputs: list[tuple[str, Any, Any]] = []
        for name in cameras:
            mount = np.eye(4)
            mount[:3, :3] = place[name] @ shots.map_from_camera[:3, :3]
            mount[2, 3] = height
            links.append(('base_link', f'{name}_optical', mount))
            prefix = f'/{name}'.rstrip('/')
            self._outputs.append((
                f'{name}_optical',
                create(CameraInfo, f'{prefix}/camera_info', qos_profile_sensor_data),
                create(Image, f'{prefix}/depth', qos_profile_sensor_data)))
        self._static.publish(transforms_to_msg(links, 0))
        self._frame = 0

    def is_heard(self) -> bool:
        """Return whether the node listens to all cameras."""
        return all(out.get_subscription_count() for _, *outs in self._outputs for out in outs)

    def play(self, frames: int) -> None:
        """Publish so many frames of every camera, in time."""
        due_s = time.monotonic()
        for _ in range(frames):
            stamp_ns = 1_000_000_000 + round(self._frame * 1e9 / RATE_HZ)
            depth = self._depths[self._frame % len(self._depths)]
            self._frame += 1
            for frame_id, info, depths in self._outputs:
                header = header_to_msg(stamp_ns, frame_id)
                info.publish(intrinsics_to_msg(scenarios.CAMERA, header))
                depths.publish(image_to_msg(depth, '16UC1', header))
            due_s += 1.0 / RATE_HZ
            time.sleep(max(0.0, due_s - time.monotonic()))
        time.sleep(0.2)
