"""Pictures of a data set through a detection node of its own process, one at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
import queue
import tempfile
import time
from typing import Any, TYPE_CHECKING

from perception_nodes.cli.parameters import ros_arguments
from perception_nodes.cli.pictures import Picture
from perception_nodes.cli.processes import await_nodes, Child, use_private_graph
from perception_nodes.core.detection import DetectionParams
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.datasets import LabelledImage
from tqdm import tqdm

if TYPE_CHECKING:
    from perception_nodes.ros.session import Session

_REMAPPING = 'image:=/camera/color/image_raw'
_START_TIMEOUT_S, _ANSWER_TIMEOUT_S = 60.0, 20.0
_SETTLE_S = 0.3  # the other side of a match may learn of it a little later


def detect_through_ros(
    params: DetectionParams, class_names: Mapping[int, str], images: Sequence[LabelledImage]
) -> tuple[list[Detections], list[float]]:
    """
    Run a detection node and send it each image once the one before is answered.

    :param class_names: What the node is to announce.
    :return: For each image what was found, and after how many milliseconds.
    :raises OSError: If the node ends or leaves an image unanswered.
    """
    from perception_nodes.ros.session import Session

    use_private_graph()
    command = ['perception_nodes.detection_node', *ros_arguments(params), '-r', _REMAPPING]
    with (tempfile.TemporaryDirectory() as folder,
          Child('the detection node', command, Path(folder) / 'log') as node,
          Session('perception_evaluate_model') as session):
        camera = _Camera(session, node)
        camera.meet(class_names)
        found, times_ms = [], []
        for image in tqdm(images, 'through ROS', unit='image', disable=None):
            answer, answer_ms = camera.show(Picture(image.path.name, image.rgb()))
            found.append(answer)
            times_ms.append(answer_ms)
        node.stop()
    return found, times_ms


class _Camera:
    """Publishes one image at a time and waits for the node's answer to it."""

    def __init__(self, session: 'Session', node: Child) -> None:
        # ROS is imported by who asks for it: a direct evaluation needs none
        from perception_nodes.cli.play_pictures import PicturePublisher
        from perception_nodes.ros.inference_node import LATCHED, RELIABLE
        from vision_msgs.msg import Detection2DArray, LabelInfo

        self._session = session
        self._node = node
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._label_infos: list[Any] = []
        self._publisher = PicturePublisher(session)
        self._subscription = session.node.create_subscription(
            Detection2DArray, 'detection/detections', self._answers.put, RELIABLE)
        session.node.create_subscription(
            LabelInfo, 'detection/label_info', self._label_infos.append, LATCHED)

    def meet(self, class_names: Mapping[int, str]) -> None:
        """Wait until the node listens and is heard, and compare its classes with the model's."""
        from perception_nodes.conversions.decode import class_names_from_msg

        await_nodes(self._session, [self._node], lambda: bool(
            self._label_infos and self._publisher.listeners()
            and self._subscription.get_publisher_count()), _START_TIMEOUT_S)
        time.sleep(_SETTLE_S)
        announced = class_names_from_msg(self._label_infos[-1])
        if announced != class_names:
            raise ValueError(
                f'the detection node announces {len(announced)} classes that are not the '
                f'{len(class_names)} of the model: is another node on its topics?')

    def show(self, picture: Picture) -> tuple[Detections, float]:
        """
        Return what the node finds in a picture, and how long it took in milliseconds.

        :raises OSError: If the node ends or does not answer.
        """
        from perception_nodes.conversions.decode import detections_from_msg, stamp_ns_from_msg

        start_s = time.monotonic()
        stamp_ns = self._publisher.publish(picture)
        while time.monotonic() < start_s + _ANSWER_TIMEOUT_S:
            try:
                msg = self._answers.get(timeout=0.2)
            except queue.Empty:
                self._node.check()
                continue
            if stamp_ns_from_msg(msg.header.stamp) == stamp_ns:
                return detections_from_msg(msg), (time.monotonic() - start_s) * 1e3
        raise TimeoutError(
            f'the detection node has not answered {picture.name} within {_ANSWER_TIMEOUT_S:g} s; '
            f'its last lines:\n{self._node.last_lines()}')
