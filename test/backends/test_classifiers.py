"""Classifiers: torchvision's own answers beside ours, and networks that are not the manifest's."""

import numpy as np
from perception_nodes.backends.class_scores import ScoreReader
from perception_nodes.backends.preprocess import network_input, Resize
from perception_nodes.backends.registry import load_model
from perception_nodes.core.manifest import ModelInput
import pytest

PRESET = {
    'width': 64, 'height': 64, 'resize': 'center_crop', 'crop_fraction': 0.875,
    'mean': (123.675, 116.28, 103.53), 'std': (58.395, 57.12, 57.375)}
NAMES = {0: 'a', 1: 'b', 2: 'c'}


def test_the_middle_of_a_picture_is_cut_out():
    """A column of the input is the column of the picture that it should be."""
    picture = np.zeros((100, 200, 3), np.uint8)
    picture[:, :, 0] = np.arange(200)
    spec = ModelInput(width=50, height=50, resize='center_crop')
    pixels, resize = network_input(picture, spec)
    assert pixels.shape == (3, 50, 50)
    # half the size, from column 50 to 150: each pixel is the mean of two columns
    assert pixels[0, 0] == pytest.approx(np.arange(50, 150, 2) + 0.5, abs=0.51)
    corners = np.array([[0, 0, 50, 50]], np.float32)
    assert resize.undo(corners).tolist() == [[50, 0, 150, 100]]
    assert network_input(picture[:20, :30], spec)[0].shape == (3, 50, 50)


@pytest.mark.parametrize('shape', [(480, 640), (61, 200), (30, 31), (1, 500)])
def test_a_crop_has_the_size_of_the_input(shape):
    """Whatever the picture's proportions, and enlarged as well."""
    spec = ModelInput(**PRESET | {'width': 96})
    pixels, _ = network_input(np.zeros((*shape, 3), np.uint8), spec)
    assert pixels.shape == (3, 64, 96)
    resize = Resize.between(shape[1], shape[0], spec)
    assert all(o <= 0 for o in resize.offset_xy)


def test_logits_become_probabilities_and_probabilities_stay():
    """Best first, by the manifest's ids."""
    logits = np.log(np.array([[0.2, 0.7, 0.1]], np.float32)) + 3
    for sample in (logits, np.array([[0.2, 0.7, 0.1]], np.float32)):
        found, = ScoreReader(NAMES, sample).read(sample)
        assert found.class_ids.tolist() == [1, 0, 2]
        assert found.scores == pytest.approx([0.7, 0.2, 0.1])
    assert ScoreReader({5: 'a', 6: 'b', 7: 'c'}, logits).read(logits)[0].class_ids.tolist() == [
        6, 5, 7]
    gap = ScoreReader({0: 'a', 2: 'c'}, logits).read(logits)[0]
    assert gap.class_ids.tolist() == [0, 2]


def test_outputs_of_no_classifier_are_refused():
    """Shape, number of classes, and what is not a number."""
    with pytest.raises(ValueError, match=r'output of shape \(1, 3, 4, 4\); expected \(N, class'):
        ScoreReader(NAMES, np.zeros((1, 3, 4, 4), np.float32))
    with pytest.raises(ValueError, match='the network has 4 classes, but the manifest names 3'):
        ScoreReader(NAMES, np.zeros((1, 4), np.float32))
    with pytest.raises(ValueError, match='not finite'):
        ScoreReader(NAMES, np.zeros((1, 3), np.float32)).read(
            np.array([[0, np.nan, 1]], np.float32))


@pytest.fixture
def exported(tmp_path, make_entry):
    """Return the entry of a network whose logits are the means of the three colours."""
    onnx = pytest.importorskip('onnx')
    from onnx import helper, TensorProto

    def export(classes=3, **image):
        graph = helper.make_graph(
            [helper.make_node('ReduceMean', ['image'], ['scores'], axes=[2, 3], keepdims=0)],
            'means',
            [helper.make_tensor_value_info('image', TensorProto.FLOAT, [1, 3, 8, 8])],
            [helper.make_tensor_value_info('scores', TensorProto.FLOAT, [1, 3])])
        onnx.save(helper.make_model(
            graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9),
            tmp_path / 'means.onnx')
        return make_entry(tmp_path / 'means.onnx', 'onnxruntime', class_count=classes,
                          task='classification', **{'width': 8, 'height': 8} | image)

    return export


def test_an_onnx_classifier_sees_colours_and_scale(exported, place):
    """Frames of different sizes; red wins in a red picture, by the exact softmax."""
    model = load_model(exported(std=(100.0, 100.0, 100.0)), place)
    red = np.zeros((30, 20, 3), np.uint8)
    red[:, :, 0] = 100
    blue = np.zeros((9, 50, 3), np.uint8)
    blue[:, :, 2] = 200
    first, second = model.predict([red, blue])
    assert first.class_ids.tolist() == [0, 1, 2]
    assert first.scores == pytest.approx(np.exp([1, 0, 0]) / (np.e + 2))
    assert second.class_ids[0] == 2
    assert second.scores[0] == pytest.approx(np.exp(2) / (np.exp(2) + 2))
    assert model.class_names == {0: 'class 0', 1: 'class 1', 2: 'class 2'}


@pytest.mark.parametrize(('options', 'sentence'), [
    ({'classes': 5}, "model 'mine': the network has 3 classes, but the manifest names 5"),
    ({'width': 16}, r"model 'mine': the network takes images of shape \(3, 8, 8\) only"),
])
def test_an_onnx_file_that_is_not_the_manifests_is_refused(exported, options, sentence):
    """Before the first frame."""
    with pytest.raises(ValueError, match=sentence):
        load_model(exported(**options), 'cpu')
    with pytest.raises(ValueError, match='an ONNX file has the precision it was exported with'):
        load_model(exported(), 'cpu', half_precision=True)
