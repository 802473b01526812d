"""
What runs in the processes of ``perception benchmark graph``: a camera, or one kind of consumer.

Image stamps carry the steady clock, which all processes of a machine share. A consumer notes
when it had touched each image, and leaves that as JSON when it is told to stop.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import json
from multiprocessing.connection import Listener
import os
from pathlib import Path
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.ros import transport
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import try_shutdown
from sensor_msgs.msg import Image

VGA, HD = (640, 480), (1280, 720)
BOXES = 19
_PAGE_BYTES = 4096


@dataclass(frozen=True)
class Variant:
    """One way to bring images to their consumers."""

    name: str
    consumer: str  # bare, detection, model or container
    size: tuple[int, int] = VGA  # width, height in pixels; (0, 0) for an empty message
    transport: str = 'tuned'  # or default
    processes: int = 1
    nodes: int = 1  # in each process
    reliability: str = 'reliable'  # or best_effort, on both sides

    @property
    def topic(self) -> str:
        """Where its images go."""
        return f'/benchmark/{self.name}'

    @property
    def subscriptions(self) -> int:
        """How many its images have to reach."""
        return self.processes * (1 if self.consumer == 'container' else self.nodes)


# Everything is reliable, so that all of them deliver every image, ...
VARIANTS = (
    Variant('empty', 'bare', (0, 0)),
    Variant('bare_vga', 'bare'),
    Variant('bare_vga_default', 'bare', transport='default'),
    Variant('bare_720p', 'bare', HD),
    Variant('bare_720p_default', 'bare', HD, 'default'),
    Variant('detection_vga', 'detection'),
    Variant('detection_720p', 'detection', HD),
    Variant('model_vga', 'model'),
    Variant('four_processes_default', 'bare', transport='default', processes=4),
    Variant('four_processes_tuned', 'bare', processes=4),
    Variant('four_nodes', 'bare', nodes=4),
    Variant('container', 'container', nodes=4),
)
# ... except where losses are counted.
BEST_EFFORT = (
    Variant('best_effort_vga', 'bare', reliability='best_effort'),
    Variant('best_effort_vga_default', 'bare', transport='default', reliability='best_effort'),
)

Receipts = dict[int, int]  # stamp of an image to when it was touched, steady clock, nanoseconds


def picture(width: int, height: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return (height, width, 3) uint8 of coloured noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def touch(data: npt.NDArray[np.uint8]) -> None:
    """Read one byte of every page, which is what makes a lazily mapped image arrive."""
    data.reshape(-1)[::_PAGE_BYTES].sum()


def main() -> None:
    """Play one part until told to stop."""
    parser = ArgumentParser()
    parser.add_argument('part', choices=('camera', *_CONSUMERS))
    parser.add_argument('name', help='of a variant; of the transport, for a camera')
    parser.add_argument('file', type=Path, help='receipts to write; socket, for a camera')
    arguments = parser.parse_args()
    if arguments.part == 'camera':
        _camera(arguments)
        return
    variant = next(v for v in (*VARIANTS, *BEST_EFFORT) if v.name == arguments.name)
    _choose_transport(variant.transport)
    receipts = _CONSUMERS[arguments.part](variant)
    arguments.file.write_text(json.dumps([list(r.items()) for r in receipts]))


def _choose_transport(name: str) -> None:
    os.environ[transport.SWITCH] = name
    if name == 'default':
        os.environ.pop(transport.PROFILE, None)  # the one who started us may have tuned itself
    transport.tune()


def _camera(arguments: Namespace) -> None:
    """
    Publish images on command.

    It is sent ``publish TOPIC`` and answers with the stamp, or ``matched TOPIC`` and answers
    with the number of subscriptions.
    """
    _choose_transport(arguments.name)
    rclpy.init(args=[])
    node = Node(f'camera_{arguments.name}', start_parameter_services=False)
    publishers = {v.topic: (node.create_publisher(Image, v.topic, _qos(v)), _image(v))
                  for v in (*VARIANTS, *BEST_EFFORT) if v.transport == arguments.name}
    try:
        with Listener(str(arguments.file)) as listener, listener.accept() as commands:
            while True:
                command, topic = commands.recv_bytes().decode().split()
                publisher, msg = publishers[topic]
                if command == 'matched':
                    commands.send_bytes(b'%d' % publisher.get_subscription_count())
                    continue
                stamp_ns = time.monotonic_ns()
                msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(stamp_ns, 10**9)
                publisher.publish(msg)
                commands.send_bytes(b'%d' % stamp_ns)
    except (EOFError, KeyboardInterrupt):
        pass
    finally:
        node.destroy_node()
        try_shutdown()


def _image(variant: Variant) -> Image:
    from perception_nodes.conversions.encode import header_to_msg, image_to_msg

    return image_to_msg(picture(*variant.size), 'bgr8', header_to_msg(0, 'camera'))


def _qos(variant: Variant) -> QoSProfile:
    return QoSProfile(depth=5, reliability=ReliabilityPolicy[variant.reliability.upper()])


def _bare(variant: Variant) -> list[Receipts]:
    """Subscribe with nothing but rclpy."""
    rclpy.init(args=[])
    executor = SingleThreadedExecutor()
    nodes = [Node(f'{variant.name}_{os.getpid()}_{i}') for i in range(variant.nodes)]
    receipts: list[Receipts] = [{} for _ in nodes]
    for node, own in zip(nodes, receipts, strict=True):
        def on_image(msg: Any, own: Receipts = own) -> None:
            touch(np.frombuffer(msg.data, np.uint8))
            _note(own, msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec)

        node.create_subscription(Image, variant.topic, on_image, _qos(variant))
        executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        for node in nodes:
            node.destroy_node()
        try_shutdown()
    return receipts


# The suite is imported by the parts that measure it: a bare subscriber has none of it in memory.

def _detection(variant: Variant) -> list[Receipts]:
    """Run the detection node as it is, with a network that takes no time."""
    from perception_nodes import detection_node
    from perception_nodes.ros.process import run

    vars(detection_node)['share_model'] = lambda *arguments, **options: StubDetector()
    run(lambda: [detection_node.DetectionNode(variant.name)], _arguments(variant))
    return []  # the answers are on a topic


def _model(variant: Variant) -> list[Receipts]:
    """Run the detection node with the model it ships with."""
    from perception_nodes.detection_node import DetectionNode
    from perception_nodes.ros.process import run

    run(lambda: [DetectionNode(variant.name)], _arguments(variant))
    return []


def _container(variant: Variant) -> list[Receipts]:
    """Run the container with nodes that only touch their frames."""
    from perception_nodes.core import params
    from perception_nodes.core.types import RgbdFrame
    from perception_nodes.ros import container
    from perception_nodes.ros.inference_node import InferenceNode
    from perception_nodes.ros.process import run

    receipts: list[Receipts] = []

    class TouchNode(InferenceNode[params.Params, Receipts]):
        Params = params.Params

        def load(self) -> Receipts:
            receipts.append({})
            return receipts[-1]

        def process(self, frames: Mapping[str, RgbdFrame]) -> None:
            for frame in frames.values():
                touch(frame.rgb)
                _note(self.core, frame.stamp_ns)

    vars(container)['node_class'] = lambda kind: TouchNode
    held = ','.join(f'{variant.name}_{i}=touch' for i in range(variant.nodes))
    run(lambda: container.make_nodes(f'{variant.name}_container'),
        [*_arguments(variant), '-p', f'nodes:=[{held}]'])
    return receipts


class StubDetector:
    """A :class:`~perception_nodes.core.protocols.DetectorModel` that always answers the same."""

    class_names = {i: f'class_{i}' for i in range(80)}
    needs_suppression = True

    def __init__(self) -> None:
        from perception_nodes.core.types import Detections

        left_top = np.array([(i % 5 * 120, i // 5 * 110) for i in range(BOXES)], np.float32)
        self._found = Detections(
            np.hstack([left_top, left_top + 100.0]),
            np.linspace(0.95, 0.55, BOXES, dtype=np.float32), np.arange(BOXES, dtype=np.int64))

    def predict(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[Any]:
        """Return the same boxes for each frame, which is touched."""
        for frame in frames:
            touch(frame)
        return [self._found for _ in frames]


def _arguments(variant: Variant) -> list[str]:
    return ['--ros-args', '-r', f'image:={variant.topic}',
            '-p', f'input_reliability:={variant.reliability}']


def _note(receipts: Receipts, stamp_ns: int) -> None:
    receipts[stamp_ns] = time.monotonic_ns()


_CONSUMERS = {'bare': _bare, 'detection': _detection, 'model': _model, 'container': _container}

if __name__ == '__main__':
    main()
