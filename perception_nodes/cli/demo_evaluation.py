"""
The recording of ``perception demo``, evaluated: the command that a user would type.

The thresholds of the boxes are opened for it, because average precision wants every box.
"""

import json
from pathlib import Path
from typing import Any

from perception_nodes.cli.processes import Child
import yaml

_TIMEOUT_S = 600.0
# figure of the evaluation: name in the demo's metrics
_FIGURES = {
    'detection_AP50': 'detection_AP50', 'segmentation_mIoU': 'segmentation_mIoU',
    'segmentation_pixel_accuracy': 'segmentation_pixel_accuracy',
    'obstacle_map_f1': 'map_f1', 'recorded_detection_detections_HOTA': 'tracking_HOTA',
    'lockstep_hash': 'lockstep_hash', 'evaluation_s': 'evaluation_s'}
_TRACKS = '/detection/detections'  # tracks are scored as they were published


def evaluate_drive(bag: Path, params: str, out: Path) -> dict[str, Any]:
    """
    Run the drive's nodes over its recording again, and score them against the truth in it.

    :param params: The parameter file of the drive, as text.
    :param out: Folder for the page, the figures and the parameter file of the evaluation.
    :return: What the demo's metrics say of it.
    :raises OSError: If the command fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / 'params.yaml'
    file.write_text(_with_every_box(params))
    words = ['perception_nodes.cli', 'evaluate', str(bag), '--params', str(file),
             '--recorded', _TRACKS, '--out', str(out)]
    with Child('the evaluation', words, out / 'log.txt') as command:
        if not command.wait(_TIMEOUT_S):
            raise TimeoutError(f'the evaluation took longer than {_TIMEOUT_S:g} s')
    found = json.loads((out / 'evaluation.json').read_text())
    return {name: found[key] for key, name in _FIGURES.items() if key in found}


def _with_every_box(params: str) -> str:
    blocks = yaml.safe_load(params)
    detection = blocks.setdefault('detection', {'ros__parameters': {}})['ros__parameters']
    detection |= {'score_threshold': 0.01, 'track': False}
    nodes = blocks['perception_container']['ros__parameters']['nodes']
    nodes[:] = [node for node in nodes if node != 'grasp']  # it looks through another camera
    return yaml.safe_dump(blocks)
