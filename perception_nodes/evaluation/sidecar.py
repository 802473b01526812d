"""Frames of a bag as pictures for an annotation tool, with boxes to begin from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from perception_nodes.core.types import CameraIntrinsics, Detections
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.bag_nodes import Answers, make_node
from perception_nodes.evaluation.bag_source import BagSource, TopicNames
from perception_nodes.evaluation.parameter_sets import ParameterSet
from tqdm import tqdm


@dataclass(frozen=True)
class Extracted:
    """What was written."""

    pictures: int
    boxes: int
    sentences: tuple[str, ...]  # about what could not be read


def extract_frames(
    path: Path, out: Path, every: int, topics: TopicNames, parameters: ParameterSet
) -> Extracted:
    """
    Write every N-th frame of a bag as a data set that ``perception evaluate-model`` reads too.

    ``images/STAMP_NS.png``, ``intrinsics.json`` with the camera of each picture, and
    ``instances.json`` (COCO) with what the detector finds.

    :param parameters: Its detection node is run; without one the file has no boxes.
    :raises FileExistsError: If there are labels already: nobody's work is written over.
    :raises ValueError: If the bag has no pictures.
    """
    labels = out / 'instances.json'
    if labels.exists():
        raise FileExistsError(
            f'{labels} is there already and may hold labels made by hand; choose another folder')
    with Bag(path) as bag:
        setups = [setup for setup in parameters.nodes if setup.kind == 'detection']
        source = BagSource(bag, topics, parameters.nodes[0].inputs,
                           is_simulated=parameters.use_sim_time)
        if not source.topics.image:
            raise ValueError(f'bag {path} has no colour images to extract; name them with --image')
        nodes = [make_node(setup, source.surroundings) for setup in setups]
        (out / 'images').mkdir(parents=True, exist_ok=True)
        content = _empty(nodes[0].class_names if nodes else {})
        lenses: dict[str, Any] = {}
        frames = tqdm(source.frames(), path.name, source.total, unit='frame', disable=None,
                      leave=False)
        for number, seen in enumerate(frames):
            if number % every:
                continue
            frame, answers = seen.rgbd, Answers()
            for node in nodes:
                node.answer(frame, answers)
            name = f'{frame.stamp_ns}.png'
            cv2.imwrite(str(out / 'images' / name), cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR))
            _add(content, name, frame.rgb.shape, answers.detections)
            if frame.intrinsics is not None:
                lenses[name] = _lens(frame.intrinsics, frame.frame_id)
        sentences = (*bag.damage, *source.lost)
    (out / 'intrinsics.json').write_text(json.dumps(lenses, indent=1) + '\n')
    labels.write_text(json.dumps(content, indent=1) + '\n')
    return Extracted(len(content['images']), len(content['annotations']), sentences)


def _empty(class_names: Mapping[int, str]) -> dict[str, list[dict[str, Any]]]:
    return {'images': [], 'annotations': [],
            'categories': [{'id': i, 'name': name} for i, name in class_names.items()]}


def _add(
    content: dict[str, list[dict[str, Any]]], name: str, shape: tuple[int, ...],
    found: Detections | None,
) -> None:
    image_id = len(content['images']) + 1
    content['images'].append(
        {'id': image_id, 'file_name': name, 'width': shape[1], 'height': shape[0]})
    if found is None:
        return
    sides = np.hstack([found.boxes_xyxy[:, :2], found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]])
    for box, score, class_id in zip(
            sides.astype(np.float64).round(2).tolist(), found.scores.tolist(),
            found.class_ids.tolist(), strict=True):
        content['annotations'].append({
            'id': len(content['annotations']) + 1, 'image_id': image_id,
            'category_id': class_id, 'bbox': box, 'area': round(box[2] * box[3], 2),
            'iscrowd': 0, 'score': round(score, 4)})


def _lens(intrinsics: CameraIntrinsics, frame_id: str) -> dict[str, Any]:
    return {'frame_id': frame_id, **asdict(intrinsics)}
