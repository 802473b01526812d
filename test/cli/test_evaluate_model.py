"""Scoring a model from the command line, directly and over a real graph."""

from importlib.util import find_spec
import json
from pathlib import Path
import shutil

import cv2
import numpy as np
from perception_nodes.cli import evaluate_through_ros
from perception_nodes.cli.main import main
import pytest
import yaml

MODEL = 'coco_ssdlite_mobilenet_v2'


@pytest.fixture
def cat_and_nothing(tmp_path):
    """Make a data set of two real pictures: a cat that fills the first, a cup unlabelled."""
    if find_spec('skimage') is None:
        pytest.skip('scikit-image, whose sample pictures are used, is not installed')
    pictures = Path(find_spec('skimage').origin).parent / 'data'
    (tmp_path / 'set' / 'images').mkdir(parents=True)
    for name in ('chelsea.png', 'coffee.png'):
        shutil.copy(pictures / name, tmp_path / 'set' / 'images')
    (tmp_path / 'set' / 'instances.json').write_text(json.dumps({
        'categories': [{'id': 3, 'name': 'kitty'}],
        'images': [{'id': 1, 'file_name': 'chelsea.png', 'width': 451, 'height': 300},
                   {'id': 2, 'file_name': 'coffee.png', 'width': 600, 'height': 400}],
        'annotations': [{'id': 1, 'image_id': 1, 'category_id': 3, 'bbox': [5, 0, 440, 295]}]}))
    return tmp_path / 'set'


def evaluate(folder, out, *flags, model=MODEL):
    return main(['evaluate-model', model, str(folder), '--out', str(out), *flags])


def test_a_cat_is_found(cat_and_nothing, tmp_path, capsys):
    out = tmp_path / 'new' / 'cat.json'
    assert evaluate(cat_and_nothing, out, '--map', 'kitty=cat') == 0
    result = json.loads(out.read_text())
    assert result['direct_mAP50'] == result['direct_coco_AP50'] == 1.0
    assert result['direct_mAP50_ci_low'] <= 1.0
    assert result['direct_images_processed'] == result['n'] == 2
    assert {'seed', 'commit', 'wall_s', 'direct_answer_ms_p50'} <= result.keys()
    assert all(isinstance(value, (int, float, str)) for value in result.values())
    assert 'direct: mAP50 1.000' in capsys.readouterr().out
    page = out.with_suffix('.html').read_text()
    assert 'mAP50 1.000 on 2 pictures' in page
    assert '--map kitty=cat' in page


@pytest.mark.graph
def test_the_node_finds_what_the_core_finds(cat_and_nothing, tmp_path):
    out = tmp_path / 'cat.json'
    assert evaluate(cat_and_nothing, out, '--map', 'kitty=cat', '--through-ros') == 0
    result = json.loads(out.read_text())
    for name in ('mAP50', 'coco_AP', 'images_processed'):
        assert result[f'ros_{name}'] == pytest.approx(result[f'direct_{name}'])


@pytest.mark.graph
def test_a_node_that_cannot_start_says_why(cat_and_nothing, tmp_path, monkeypatch, capsys):
    wrong = ['--ros-args', '-p', 'model:=nonesuch']
    monkeypatch.setattr(evaluate_through_ros, 'ros_arguments', lambda params: wrong)
    assert evaluate(cat_and_nothing, tmp_path / 'o', '--map', 'kitty=cat', '--through-ros') == 1
    assert "detection cannot configure: there is no detection model 'nonesuch'" in \
        capsys.readouterr().err
    assert not (tmp_path / 'o').exists()


@pytest.mark.graph
def test_a_node_that_ends_is_told_with_its_last_lines(
        cat_and_nothing, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate_through_ros, 'ros_arguments', lambda params: ['--ros-args', '-x'])
    assert evaluate(cat_and_nothing, tmp_path / 'o', '--map', 'kitty=cat', '--through-ros') == 1
    said = capsys.readouterr().err
    assert 'the detection node ended with exit code 1; its last lines' in said
    assert "cannot start: unknown ROS arguments ['-x']" in said


@pytest.mark.parametrize(('flags', 'model', 'sentence'), [
    ((), MODEL, 'does not know: kitty'),
    (('--map', 'kitty=cat'), 'yolo', "there is no model 'yolo'"),
    (('--map', 'kitty=cat', '--nms-iou', '2'), MODEL, "parameter 'nms_iou' is 2.0"),
    (('--map', 'kitty=cat', '--half-precision'), MODEL, 'half_precision is true'),
])
def test_wrong_input_is_one_sentence(cat_and_nothing, tmp_path, capsys, flags, model, sentence):
    assert evaluate(cat_and_nothing, tmp_path / 'o', *flags, model=model) == 1
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count('\n') == 1
    assert not (tmp_path / 'o').exists()


def test_an_input_size_that_the_network_lacks_is_refused(cat_and_nothing, tmp_path, capsys):
    flags = ('--map', 'kitty=cat', '--input-size', '64', '64')
    assert evaluate(cat_and_nothing, tmp_path / 'o', *flags) == 1
    assert 'leave input_size empty' in capsys.readouterr().err


def test_a_map_without_names_is_wrong_usage(cat_and_nothing, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        evaluate(cat_and_nothing, tmp_path / 'o', '--map', 'kitty')
    assert ended.value.code == 2
    assert "'kitty' is no list of names; write it as" in capsys.readouterr().err


def test_a_damaged_picture_is_named(cat_and_nothing, tmp_path, capsys):
    picture = cat_and_nothing / 'images' / 'coffee.png'
    picture.write_bytes(picture.read_bytes()[:10_000])
    assert evaluate(cat_and_nothing, tmp_path / 'o', '--map', 'kitty=cat') == 1
    assert 'coffee.png cannot be read as a picture' in capsys.readouterr().err


@pytest.fixture
def constant_models(tmp_path, save_constant_network):
    """Make a segmenter that sees road everywhere, and a classifier that says dog."""
    masks = np.zeros((1, 2, 4, 4), np.float32)
    masks[0, 0] = 5.0
    models = []
    for task, output, values, classes in (
            ('segmentation', 'logits', masks, {0: 'road', 1: 'car'}),
            ('classification', 'scores', np.array([[0.0, 4.0]], np.float32),
             {0: 'cat', 1: 'dog'})):
        path = tmp_path / f'{task}.onnx'
        sha256 = save_constant_network(path, output, values, (32, 32))
        models.append({
            'name': f'constant_{task}', 'task': task, 'backend': 'onnxruntime',
            'architecture': 'constant', 'domain': 'real', 'file': path.name, 'sha256': sha256,
            'licence': 'Apache-2.0', 'classes': classes, 'input': {'width': 32, 'height': 32}})
    (tmp_path / 'manifest.yaml').write_text(yaml.safe_dump({'models': models}))
    return tmp_path / 'manifest.yaml'


@pytest.fixture
def masks(tmp_path):
    """Make two pictures, one half road and half car, one of which a quarter is void."""
    for name in ('images', 'masks'):
        (tmp_path / 'masked' / name).mkdir(parents=True)
    for name, void in (('a.png', 0), ('b.png', 16)):
        cv2.imwrite(str(tmp_path / 'masked' / 'images' / name), np.zeros((32, 32, 3), np.uint8))
        mask = np.repeat([[0], [1]], 16, axis=0).repeat(32, axis=1).astype(np.uint8)
        mask[:16, :void] = 255
        cv2.imwrite(str(tmp_path / 'masked' / 'masks' / name), mask)
    (tmp_path / 'masked' / 'classes.txt').write_text('road\ncar\n')
    return tmp_path / 'masked'


def test_masks_are_scored(constant_models, masks, tmp_path, capsys):
    out = tmp_path / 'masks.json'
    assert evaluate(masks, out, '--manifest', str(constant_models), '--corruptions',
                    '--occlusion', '1', model='constant_segmentation') == 0
    result = json.loads(out.read_text())
    # road: 512 + 256 of all 2048 - 256 pixels; no car is found
    assert result['direct_mIoU'] == pytest.approx(0.5 * 768 / 1792, abs=1e-6)
    assert result['direct_pixel_accuracy'] == pytest.approx(768 / 1792, abs=1e-6)
    assert result['direct_mIoU_jpeg_3'] == result['direct_mIoU']
    assert result['direct_mIoU_blur_1_ci_low'] == result['direct_mIoU_ci_low']
    assert {'direct_boundary_f', 'direct_cpu_ms_p95', 'direct_mIoU_ci_high'} <= result.keys()
    assert 'direct: mIoU 0.214' in capsys.readouterr().out
    assert 'a.png' in out.with_suffix('.html').read_text()


def test_classes_are_scored(constant_models, tmp_path, capsys):
    for name, count in (('cat', 1), ('dog', 3)):
        (tmp_path / 'set' / 'test' / name).mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(tmp_path / 'set' / 'test' / name / f'{i}.png'),
                        np.zeros((8, 8, 3), np.uint8))
    out = tmp_path / 'classes.json'
    assert evaluate(tmp_path / 'set', out, '--manifest', str(constant_models), '--occlusion', '1',
                    model='constant_classification') == 0
    result = json.loads(out.read_text())
    assert result['direct_accuracy'] == 0.75
    assert result['direct_top5_accuracy'] == 1.0
    assert result['direct_roc_area'] == 0.5  # it tells nothing apart
    assert 'direct: accuracy 0.750' in capsys.readouterr().out
    assert 'taken for dog' in out.with_suffix('.html').read_text()


@pytest.mark.parametrize(('flags', 'sentence'), [
    (('--through-ros',), "--through-ros is for detectors, but model 'constant_segmentation' does"),
    (('--nms-iou', '0.4'), '--nms-iou is for detectors'),
    (('--map', 'car=lorry'), 'classes.txt has 1 class(es) that the model does not know: lorry'),
])
def test_what_suits_no_segmenter_is_said(
        constant_models, masks, tmp_path, capsys, flags, sentence):
    assert evaluate(masks, tmp_path / 'o.json', '--manifest', str(constant_models), *flags,
                    model='constant_segmentation') == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / 'o.json').exists()


def test_a_class_can_be_void(constant_models, masks, tmp_path):
    out = tmp_path / 'o.json'
    assert evaluate(masks, out, '--manifest', str(constant_models), '--map', 'car=void',
                    model='constant_segmentation') == 0
    assert json.loads(out.read_text())['direct_mIoU'] == 1.0


@pytest.mark.graph
def test_fifty_photos_score_what_the_model_promises(data_dir, tmp_path):
    names = ('aeroplane=airplane,diningtable=dining table,motorbike=motorcycle,'
             'pottedplant=potted plant,sofa=couch,tvmonitor=tv')
    out = tmp_path / 'voc50.json'
    assert evaluate(
        data_dir / 'datasets' / 'voc50', out, '--map', names, '--through-ros') == 0
    result = json.loads(out.read_text())
    assert result['direct_images_processed'] == result['ros_images_processed'] == 50
    assert min(result['direct_mAP50'], result['ros_mAP50']) >= 0.71
    assert np.isclose(result['direct_mAP50'], result['ros_mAP50'], atol=0.005)
    assert result['ros_mAP50_ci_low'] < result['ros_mAP50'] < result['ros_mAP50_ci_high']
