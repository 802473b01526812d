"""
Score a model's boxes against known ones, directly and through its node.

The headline is ``mAP50``: average precision at IoU 0.5 as PASCAL VOC takes it, over all points of
the precision/recall curve, averaged over the classes with ground truth. COCO's own numbers stand
beside it.
"""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
import logging
from pathlib import Path
import queue
import tempfile
import time
from typing import Any, TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.registry import load_model
from perception_nodes.cli.parameters import add_flags, from_flags, ros_arguments
from perception_nodes.cli.pictures import Picture
from perception_nodes.cli.processes import await_nodes, Child, use_private_graph
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.manifest import find_model
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.datasets import DetectionDataset, read_coco
from perception_nodes.evaluation.metrics import (
    bootstrap_intervals,
    coco_average_precision,
    match_detections,
)
from perception_nodes.evaluation.results import percentiles, write_results
from tqdm import tqdm

if TYPE_CHECKING:
    from perception_nodes.ros.session import Session

log = logging.getLogger(__name__)

_REMAPPING = 'image:=/camera/color/image_raw'
_START_TIMEOUT_S, _ANSWER_TIMEOUT_S = 60.0, 20.0
_SETTLE_S = 0.3  # the other side of a match may learn of it a little later
# COCO's numbers cost twenty times as much per draw
_RESAMPLES, _COCO_RESAMPLES = 1000, 200


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument('model', help='name of a detection model in the manifest')
    parser.add_argument(
        'dataset', type=Path, help='folder with instances.json (COCO) and images/')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='FILE.json', help='result file to write')
    parser.add_argument(
        '--through-ros', action='store_true',
        help='also send every image through a detection node of its own process')
    parser.add_argument(
        '--map', type=_renamed, default={}, metavar='THEIRS=OURS,...', dest='renamed',
        help="the data set's class names where the model has others")
    # average precision wants every box, also those that nobody would act on
    add_flags(parser, DetectionParams, {'score_threshold': 0.01}, leave_out=['model'])
    parser.add_argument(
        '--seed', type=int, default=0, help='of the confidence intervals (default 0)')


def run(arguments: Namespace) -> int:
    """Evaluate, write the result file and print a table."""
    start_s = time.monotonic()
    params = from_flags(DetectionParams, arguments)
    entry = find_model(params.model, 'detection', params.manifest)
    dataset = read_coco(arguments.dataset).with_classes_of(entry.class_names, arguments.renamed)
    detector = ObjectDetector(load_model(
        entry, params.device, half_precision=params.half_precision, input_size=params.input_size),
        params)
    answers = {'direct': _detect(detector, dataset)}
    if arguments.through_ros:
        answers['ros'] = _detect_through_ros(params, entry.class_names, dataset)
    values: dict[str, float | int | str] = {
        'model': entry.name, 'dataset': arguments.dataset.name, 'images': len(dataset.images),
        'boxes': sum(len(image.labels) for image in dataset.images),
        'classes': len(dataset.class_names), 'score_threshold': params.score_threshold,
        'nms_iou': params.nms_iou, 'max_detections': params.max_detections}
    for variant, (found, times_ms) in answers.items():
        scores = _scores(dataset, found, arguments.seed)
        values[f'{variant}_images_processed'] = len(found)
        values |= {f'{variant}_{name}': value for name, value in scores.items()}
        values |= percentiles(f'{variant}_answer_ms', times_ms)
    write_results(arguments.out, values, seed=arguments.seed, n=len(dataset.images),
                  wall_s=time.monotonic() - start_s)
    _print_table(dataset, answers, values)
    log.info('wrote %s', arguments.out)
    return 0


Answers = tuple[list[Detections], list[float]]  # per image: what was found, and after how many ms


def _detect(detector: ObjectDetector, dataset: DetectionDataset) -> Answers:
    """Run the core on each image."""
    found, times_ms = [], []
    for image in tqdm(dataset.images, 'direct', unit='image', disable=None):
        rgb = image.rgb()
        start_ns = time.monotonic_ns()
        found.append(_of_classes(detector.detect([rgb])[0], dataset.class_names))
        times_ms.append((time.monotonic_ns() - start_ns) * 1e-6)
    return found, times_ms


def _detect_through_ros(
    params: DetectionParams, class_names: Mapping[int, str], dataset: DetectionDataset
) -> Answers:
    """
    Run a detection node and send it each image once the one before is answered.

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
        for image in tqdm(dataset.images, 'through ROS', unit='image', disable=None):
            answer, answer_ms = camera.show(Picture(image.path.name, image.rgb()))
            found.append(_of_classes(answer, dataset.class_names))
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


def _of_classes(found: Detections, class_names: Mapping[int, str]) -> Detections:
    """Leave out what the data set has no labels for."""
    return found[np.isin(found.class_ids, list(class_names))]


def _scores(
    dataset: DetectionDataset, found: Sequence[Detections], seed: int
) -> dict[str, float]:
    """Return each score with the ends of its 95 % interval over images."""
    labels = [image.labels for image in dataset.images]
    matches = match_detections(labels, found)

    def voc(weights: npt.NDArray[np.int64] | None) -> dict[str, float]:
        return {'mAP50': matches.mean_average_precision(weights)}

    def coco(weights: npt.NDArray[np.int64]) -> dict[str, float]:
        picked = np.repeat(np.arange(len(labels)), weights).tolist()
        scores = coco_average_precision([labels[i] for i in picked], [found[i] for i in picked])
        return {f'coco_{name}': value for name, value in scores.items()}

    scores = voc(None) | coco(np.ones(len(labels), np.int64))
    ends = (bootstrap_intervals(voc, len(labels), seed, _RESAMPLES)
            | bootstrap_intervals(coco, len(labels), seed, _COCO_RESAMPLES))
    return {name: value for score, (low, high) in ends.items() for name, value in (
        (score, scores[score]), (f'{score}_ci_low', low), (f'{score}_ci_high', high))}


def _print_table(
    dataset: DetectionDataset, answers: Mapping[str, Answers], values: Mapping[str, Any]
) -> None:
    labels = [image.labels for image in dataset.images]
    matches = {variant: match_detections(labels, found)
               for variant, (found, _) in answers.items()}
    width = max(len(name) for name in dataset.class_names.values())
    print(f'{"AP50":{width}}  boxes' + ''.join(f'{variant:>8}' for variant in answers))
    for class_id, name in sorted(dataset.class_names.items(), key=lambda item: item[1]):
        curves = [m.curve(class_id) for m in matches.values()]
        print(f'{name:{width}}  {curves[0].labels:5d}' + ''.join(
            f'{curve.average_precision():8.3f}' for curve in curves))
    for variant in answers:
        mean, low, high = (values[f'{variant}_mAP50{end}'] for end in ('', '_ci_low', '_ci_high'))
        print(f'{variant}: mAP50 {mean:.3f} (95 % interval {low:.3f} to {high:.3f}), '
              f'COCO AP50 {values[f"{variant}_coco_AP50"]:.3f}, '
              f'AP {values[f"{variant}_coco_AP"]:.3f}')


def _renamed(text: str) -> dict[str, str]:
    pairs = [pair.split('=') for pair in text.split(',')]
    if any(len(pair) != 2 or not all(part.strip() for part in pair) for pair in pairs):
        raise ArgumentTypeError(
            f"'{text}' is no list of names; write it as 'sofa=couch,tvmonitor=tv'")
    return {theirs.strip(): ours.strip() for theirs, ours in pairs}
