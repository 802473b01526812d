"""Figures of models whose answers are known: constant boxes, and floor wherever one looks."""

import json
import math

import cv2
import numpy as np
from perception_nodes.cli.main import main
from perception_nodes.sim.classes import CLASS_NAMES, FIRST_OBJECT, SEGMENTED_NAMES
import pytest
import yaml

pytest.importorskip('mujoco')

WIDTH, HEIGHT = 320, 240


@pytest.fixture
def manifest(tmp_path, save_constant_network):
    """Make a detector that always finds a chair in the middle, and a segmenter of floors."""
    boxes = np.zeros((1, 4 + len(CLASS_NAMES) - FIRST_OBJECT, 30))
    boxes[0, :4, 0] = (160, 120, 100, 100)
    boxes[0, 4 + 1, 0] = 0.9  # chair
    masks = np.zeros((1, len(SEGMENTED_NAMES), HEIGHT // 8, WIDTH // 8))
    masks[0, 0] = 5.0
    models = []
    for task, head, name, values, classes in (
            ('detection', 'yolo', 'boxes', boxes,
             {i: n for i, n in CLASS_NAMES.items() if i >= FIRST_OBJECT}),
            ('segmentation', None, 'logits', masks, dict(SEGMENTED_NAMES))):
        path = tmp_path / f'{task}.onnx'
        sha256 = save_constant_network(path, name, values, (HEIGHT, WIDTH))
        models.append({
            'name': task, 'task': task, 'backend': 'onnxruntime', 'architecture': 'constant',
            'head': head, 'domain': 'simulation', 'file': path.name, 'sha256': sha256,
            'licence': 'Apache-2.0', 'classes': classes,
            'input': {'width': WIDTH, 'height': HEIGHT}})
    (tmp_path / 'manifest.yaml').write_text(yaml.safe_dump({'models': models}))
    return tmp_path / 'manifest.yaml'


@pytest.mark.slow
def test_constant_models_score_what_can_be_counted(manifest, tmp_path, capsys):
    words = ['benchmark', 'vision', '--detector', 'detection', '--segmenter', 'segmentation',
             '--manifest', str(manifest), '--frames', '12', '--seed', '3',
             '--scenes', str(tmp_path / 'scenes'), '--out', str(tmp_path / 'vision.json')]
    assert main(words) == 0
    values = json.loads((tmp_path / 'vision.json').read_text())
    shown = capsys.readouterr().out
    root, = (tmp_path / 'scenes').iterdir()
    masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
             for path in sorted((root / 'test' / 'masks').iterdir())]
    pixels = np.concatenate([mask[mask != 255] for mask in masks])
    # of all classes that occur only the floor is ever right, and only where there is floor
    floor = float((pixels == 0).mean())
    assert values['segmentation_pixel_accuracy'] == pytest.approx(floor, abs=1e-6)
    assert values['segmentation_IoU_floor'] == pytest.approx(floor, abs=1e-6)
    classes = len(np.unique(np.minimum(pixels, 8)))
    assert values['segmentation_mIoU'] == pytest.approx(floor / classes, abs=1e-6)
    frames = [json.loads(line) for line in
              (root / 'test' / 'frames.jsonl').read_text().splitlines()]
    rooms = np.concatenate([mask[mask != 255] for mask, frame in zip(masks, frames, strict=True)
                            if frame['world'] == 'room'])
    expected = (rooms == 0).mean() / len(np.unique(np.minimum(rooms, 8)))
    assert values['segmentation_mIoU_rooms'] == pytest.approx(float(expected), abs=1e-6)
    assert values['segmentation_object_recall_held_out_families'] == 0.0
    rows = json.loads((root / 'test' / 'instances.json').read_text())['annotations']
    assert values['boxes_ignored'] == sum(row['ignore'] for row in rows)
    assert values['boxes'] + values['boxes_ignored'] == len(rows)
    assert values['detection_AP50_chair'] <= 1.0
    assert 0.0 <= values['detection_AP'] <= values['detection_AP50'] <= 1.0
    assert values['n'] == values['images'] == 12
    assert (values['scenes'], values['validation_images']) == (2, 6)
    # a seed of the split test of data set 3, which no training draws from
    assert values['scene_seed_first'] == (3 * 3 + 2) * 1_000_000
    for name in ('detection_AP50', 'detection_AP', 'segmentation_mIoU', 'boundary_f',
                 'detection_AP50_all_counted', 'detection_AP50_held_out_families'):
        assert {f'{name}_ci_low', f'{name}_ci_high'} <= values.keys()
    assert 'validation_detection_AP50' in values
    assert values['segmenter_hz_1_thread'] > 0.0
    assert math.isfinite(values['segmenter_640x480_cpu_ms_p95'])
    assert 'segmenter_hz_1_thread' in shown
    assert 'MISSED' in shown


def test_a_model_that_is_missing_is_said_before_anything_is_drawn(tmp_path, capsys):
    words = ['benchmark', 'vision', '--detector', 'nonesuch', '--scenes', str(tmp_path / 's')]
    assert main(words) == 1
    assert "there is no detection model 'nonesuch'" in capsys.readouterr().err
    assert not (tmp_path / 's').exists()
