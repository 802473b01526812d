"""OpenVINO, where it is installed, beside onnxruntime; where it is not, how to get it."""

from dataclasses import replace
import sys

import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.core.manifest import find_model
from perception_nodes.evaluation.gpu_frames import read_frames
import pytest


@pytest.fixture
def picture():
    """Return a simulated scene with objects in it."""
    return read_frames(1)[0].rgb


def test_without_it_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    entry = replace(find_model('sim_scene_detector'), backend='openvino')
    with pytest.raises(ImportError, match='needs openvino, which is not installed: pip install'):
        load_model(entry, 'cpu')


def test_it_takes_no_gpu_and_no_sixteen_bits():
    entry = replace(find_model('sim_scene_detector'), backend='openvino')
    with pytest.raises(ValueError, match='backend openvino runs on the CPU only'):
        load_model(entry, 'cuda:0')
    pytest.importorskip('openvino')
    with pytest.raises(ValueError, match="'sim_scene_detector': half_precision is true, but"):
        load_model(entry, 'cpu', half_precision=True)


def test_boxes_are_those_of_onnxruntime(picture):
    pytest.importorskip('openvino')
    entry = find_model('sim_scene_detector')
    theirs, = load_model(entry, 'cpu').predict([picture])
    ours, = load_model(replace(entry, backend='openvino'), 'cpu').predict([picture])
    sure = theirs.scores > 0.2
    assert abs(len(ours) - len(theirs)) <= 2 and sure.any()
    for box, score in zip(theirs.boxes_xyxy[sure], theirs.scores[sure], strict=True):
        near = np.abs(ours.boxes_xyxy - box).max(axis=1) < 0.05
        assert (near & (np.abs(ours.scores - score) < 1e-3)).any()


def test_masks_are_those_of_onnxruntime(picture):
    pytest.importorskip('openvino')
    entry = find_model('sim_scene_segmenter')
    theirs, = load_model(entry, 'cpu').predict([picture])
    ours, = load_model(replace(entry, backend='openvino'), 'cpu').predict([picture])
    assert (ours.ids == theirs.ids).mean() > 0.999


def test_a_file_it_cannot_read_is_a_sentence(tmp_path, make_entry):
    pytest.importorskip('openvino')
    (tmp_path / 'broken.onnx').write_bytes(b'no network')
    entry = make_entry(tmp_path / 'broken.onnx', 'openvino', head='dense')
    with pytest.raises(ValueError, match="model 'mine': OpenVINO cannot load"):
        load_model(entry, 'cpu')
