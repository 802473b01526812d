"""
The look at a table in ``perception demo``: after the drive, grasps on what stands there.

The grasp node waits in the container, unconfigured, so that the second camera is not drawn while
the robot drives. It is started like any lifecycle node; its answers go into a bag of their own.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.cli.demo_health import await_reports, Health, reported
from perception_nodes.cli.processes import await_nodes, Child
from perception_nodes.conversions.decode import (
    detections_3d_from_msg,
    intrinsics_from_msg,
    rgb_from_msg,
    stamp_ns_from_msg,
)
from perception_nodes.core.types import CameraIntrinsics, GraspCandidates
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.grasp_overlay import draw_grasps
from perception_nodes.evaluation.report import Moment, Panel

COLOUR = '/table_camera/color/image_raw'
DEPTH = '/table_camera/aligned_depth_to_color/image_raw'
INFO = '/table_camera/color/camera_info'
_GRASPS = '/grasp/grasps'
_TOPICS = (COLOUR, DEPTH, INFO, _GRASPS, '/grasp/markers', '/clock', '/diagnostics')
_LOOKS = 5  # answers that are waited for
_TIMEOUT_S = 480.0  # the first start compiles
_SHOWN = 12  # grasps in the picture


@dataclass
class TableLook:
    """What the table camera saw, by simulated stamp_ns."""

    colours: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)
    grasps: dict[int, GraspCandidates] = field(default_factory=dict)
    intrinsics: CameraIntrinsics | None = None
    health: Health = field(default_factory=dict)

    @property
    def candidates(self) -> int:
        """Return how many grasps an image had, in the median."""
        return round(float(np.median([len(found) for found in self.grasps.values()] or [0])))

    def moment(self) -> Moment | None:
        """Return the last image with its best grasps; None where nothing was recorded."""
        stamps = sorted(set(self.colours) & set(self.grasps))
        if not stamps or self.intrinsics is None:
            return None
        rgb, found = self.colours[stamps[-1]], self.grasps[stamps[-1]]
        picture = cv2.resize(rgb, None, fx=2.0, fy=2.0, interpolation=cv2.INTER_LINEAR)
        return Moment('A look at the table', [Panel(
            'grasps', f'{len(found)} found; the {min(_SHOWN, len(found))} best are drawn',
            draw_grasps(
                np.asarray(picture, np.uint8), found[:_SHOWN], _doubled(self.intrinsics)))])


def _doubled(camera: CameraIntrinsics) -> CameraIntrinsics:
    """Return the intrinsics of an image that was enlarged twice; pixel centres are integers."""
    return CameraIntrinsics(
        2 * camera.width, 2 * camera.height, 2.0 * camera.fx, 2.0 * camera.fy,
        2.0 * camera.cx + 0.5, 2.0 * camera.cy + 0.5)


def record_table(session: Any, container: Child, bag: Path, log: Path) -> None:
    """
    Start the grasp node, and record until it has answered a few times.

    :param session: Of the program.
    :param container: The process that holds the grasp node.
    :raises OSError: If a process ends, the node refuses to start, or nothing comes in time.
    """
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState
    from vision_msgs.msg import Detection3DArray

    answers: list[int] = []
    subscription = session.node.create_subscription(
        Detection3DArray, _GRASPS, lambda msg: answers.append(len(msg.detections)), 10)
    client = session.node.create_client(ChangeState, '/grasp/change_state')
    with Child('the recorder of the table', [
            'perception_nodes.cli', 'record', str(bag), '--overwrite', '--topics', *_TOPICS],
            log) as recorder:
        for step in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            if not client.wait_for_service(_TIMEOUT_S):
                raise TimeoutError('the grasp node does not offer its lifecycle services')
            future = client.call_async(ChangeState.Request(transition=Transition(id=step)))
            await_nodes(session, [container, recorder], future.done, _TIMEOUT_S)
            if not future.result().success:
                raise OSError('the grasp node does not start; its last lines:\n'
                              f'{container.last_lines()}')

        def is_recorded() -> bool:
            return (all(map(session.node.count_subscribers, (COLOUR, DEPTH, INFO)))
                    and session.node.count_subscribers(_GRASPS) >= 2)

        await_nodes(session, [container, recorder], is_recorded, _TIMEOUT_S)
        answers.clear()  # those before may not have been recorded
        await_nodes(session, [container, recorder], lambda: len(answers) >= _LOOKS, _TIMEOUT_S)
        await_reports(session, [container, recorder], ['grasp'])
        recorder.stop()
    session.unsubscribe(subscription)


def read_table(bag: Path) -> TableLook:
    """Return what the bag of the table holds."""
    look = TableLook()
    with Bag(bag) as recorded:
        for message in recorded.messages():
            msg = message.content
            if message.topic == COLOUR:
                look.colours[stamp_ns_from_msg(msg.header.stamp)] = rgb_from_msg(msg)
            elif message.topic == INFO:
                look.intrinsics = intrinsics_from_msg(msg)
            elif message.topic == _GRASPS:
                look.grasps[stamp_ns_from_msg(msg.header.stamp)] = _grasps(msg)
            elif message.topic == '/diagnostics':
                look.health |= reported(msg)
    return look


def _grasps(msg: Any) -> GraspCandidates:
    """Return the grasps of a message, which are published as boxes of the fingers."""
    boxes = detections_3d_from_msg(msg)
    poses = np.tile(np.eye(4), (len(boxes), 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = boxes.rotations, boxes.centers_m
    return GraspCandidates(
        poses, boxes.sizes_m[:, 1].astype(np.float32), boxes.scores, boxes.class_ids)
