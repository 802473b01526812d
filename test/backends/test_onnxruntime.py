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
def test_the_default_model_sees_what_is_there(entry, data_dir, place, picture, name, box):
    """The best box of the class lies where the object is."""
    rgb = cv2.cvtColor(cv2.imread(str(data_dir / 'images' / picture)), cv2.COLOR_BGR2RGB)
    found, = ObjectDetector(load_model(entry, place), DetectionParams()).detect([rgb])
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
    ('gpu', "device is 'gpu'; it must be 'auto', 'cpu', 'cuda:N'"),
    ('cuda:x', "device is 'cuda:x'; it must be"),
])
def test_unknown_devices_are_refused(entry, device, sentence):
    """There is no silent fallback to the CPU."""
    with pytest.raises(ValueError) as caught:
        load_model(entry, device)
    assert sentence in str(caught.value)


def test_unknown_backend_and_head_list_the_known_ones(entry):
    """The sentence says what to choose from."""
    with pytest.raises(ValueError, match='choose one of onnxruntime, openvino, torchvision'):
        load_model(replace(entry, backend='tflite'), 'cpu')
    with pytest.raises(ValueError, match="head 'yolo9000'; choose one of ssd, yolo, yolox, detr"):
        load_model(replace(entry, head='yolo9000'), 'cpu')


@pytest.fixture
def exported(tmp_path, make_entry):
    """Return a function that writes a network whose YOLO output is a constant."""
    onnx = pytest.importorskip('onnx')
    from onnx import helper, numpy_helper, TensorProto

    def export(shape=(1, 3, 64, 96), dtype=TensorProto.FLOAT, rows=(), extra_input=False, **image):
        table = np.zeros((1, 300, 6), np.float32)
        table[0, :len(rows)] = np.reshape(rows, (-1, 6))
        graph = helper.make_graph(
            [helper.make_node('Cast', ['images'], ['seen'], to=TensorProto.FLOAT),
             helper.make_node('ReduceMin', ['seen'], ['least'], keepdims=0),
             helper.make_node('Mul', ['least', 'zero'], ['nothing']),
             helper.make_node('Add', ['table', 'nothing'], ['output0'])], 'stub',
            [helper.make_tensor_value_info('images', dtype, shape)]
            + [helper.make_tensor_value_info('scale', dtype, [1])] * extra_input,
            [helper.make_tensor_value_info('output0', TensorProto.FLOAT, [1, 300, 6])],
            [numpy_helper.from_array(table, 'table'),
             numpy_helper.from_array(np.float32(0), 'zero')])
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9)
        onnx.save(model, tmp_path / 'stub.onnx')
        return make_entry(tmp_path / 'stub.onnx', 'onnxruntime', head='yolo',
                          **{'width': 96, 'height': 64} | image)

    return export


ROW = [10, 20, 40, 50, 0.875, 2]


@pytest.mark.parametrize('dtype', ['FLOAT', 'FLOAT16', 'UINT8'])
def test_networks_take_their_own_number_type(exported, place, dtype):
    """An export in 16 bits is fed 16 bits."""
    import onnx
    model = load_model(exported(dtype=getattr(onnx.TensorProto, dtype), rows=[ROW]), place)
    found, = model.predict([np.full((128, 192, 3), 9, np.uint8)])
    assert found.boxes_xyxy.tolist() == [[20, 40, 80, 100]]
    assert found.scores.tolist() == [0.875]
    assert found.class_ids.tolist() == [2]
    assert not model.needs_suppression


def test_a_free_network_takes_another_input_size(exported):
    """A fixed one says what it takes."""
    with pytest.raises(ValueError, match=r"'mine': the network takes images of shape \(3, 64, 96"):
        load_model(exported(), 'cpu', input_size=(320, 320))
    free = exported((1, 3, 'height', 'width'), rows=[ROW])
    found, = load_model(free, 'cpu', input_size=(192, 128)).predict(
        [np.zeros((128, 192, 3), np.uint8)])
    assert found.boxes_xyxy.tolist() == [ROW[:4]]


def test_other_inputs_than_one_image_are_refused(exported):
    """Exports with their post-processing ask for the image's size as well."""
    with pytest.raises(ValueError, match='asks for images .*scale .*export it without'):
        load_model(exported(extra_input=True), 'cpu')
    with pytest.raises(ValueError, match=r'takes tensor\(int64\); supported are tensor\(float\)'):
        load_model(exported(dtype=7), 'cpu')


def test_half_precision_is_a_property_of_the_file(exported):
    """It cannot be switched on."""
    with pytest.raises(ValueError, match='an ONNX file has the precision it was exported with'):
        load_model(exported(), 'cpu', half_precision=True)


def test_a_missing_runtime_is_a_sentence(exported, monkeypatch):
    """Which package to install."""
    import sys
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ImportError, match='needs onnxruntime, which is not installed: pip insta'):
        load_model(exported(), 'cpu')
