"""The shipped detector on real photos, and what happens when a model cannot be loaded."""

from dataclasses import replace
import hashlib

import cv2
import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.core.boxes import iou_matrix
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.manifest import find_model
import pytest

NAME = DetectionParams().model


@pytest.fixture(scope='module')
def entry():
    """Return the default detector's entry."""
    return find_model(NAME, 'detection')


@pytest.mark.data
@pytest.mark.parametrize(('picture', 'name', 'box'), [
    ('chelsea.png', 'cat', [10, 0, 400, 300]),
    ('coffee.png', 'cup', [170, 20, 420, 250]),
    ('bus.jpg', 'bus', [10, 228, 805, 745]),
])
def test_the_default_model_sees_what_is_there(entry, data_dir, picture, name, box):
    """The best box of the class lies where the object is."""
    rgb = cv2.cvtColor(cv2.imread(str(data_dir / 'images' / picture)), cv2.COLOR_BGR2RGB)
    found, = ObjectDetector(load_model(entry, 'cpu'), DetectionParams()).detect([rgb])
    names = [entry.class_names[i] for i in found.class_ids.tolist()]
    best = names.index(name)
    assert iou_matrix(found.boxes_xyxy[[best]], np.array([box], np.float32))[0, 0] > 0.85
    assert found.scores[best] > 0.8


def test_a_file_that_is_no_network_is_refused(entry, tmp_path):
    """Bytes with the right hash but no graph inside are an error, not a crash."""
    path = tmp_path / 'broken.onnx'
    path.write_bytes(b'not a network')
    sha256 = hashlib.sha256(b'not a network').hexdigest()
    with pytest.raises(ValueError, match=f"model '{NAME}': onnxruntime cannot load"):
        load_model(replace(entry, path=path, sha256=sha256), 'cpu')


@pytest.mark.parametrize(('device', 'sentence'), [
    ('gpu', "device is 'gpu'; it must be 'auto', 'cpu' or 'cuda:N'"),
    ('cuda:x', "device is 'cuda:x'; it must be"),
])
def test_unknown_devices_are_refused(entry, device, sentence):
    """There is no silent fallback to the CPU."""
    with pytest.raises(ValueError) as caught:
        load_model(entry, device)
    assert sentence in str(caught.value)


def test_unknown_backend_and_head_list_the_known_ones(entry):
    """The sentence says what to choose from."""
    with pytest.raises(ValueError, match='cannot do detection; choose one of onnxruntime'):
        load_model(replace(entry, backend='tflite'), 'cpu')
    with pytest.raises(ValueError, match="head 'yolo9000'; choose one of ssd"):
        load_model(replace(entry, head='yolo9000'), 'cpu')
