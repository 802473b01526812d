"""Files for runtimes: padding moves into convolutions where that changes nothing."""

import numpy as np
import onnxruntime
import pytest

onnx = pytest.importorskip('onnx')
from onnx import helper, numpy_helper, TensorProto  # noqa: E402
from perception_nodes.training.onnx_graph import simplify  # noqa: E402

EDGES = [0, 0, 1, 0, 0, 0, 2, 1]  # before and after each of four axes


@pytest.fixture
def padded(tmp_path):
    """Return a function that writes a convolution behind padding."""
    def write(edges=EDGES, value=0.0, mode='constant', also_read=False, pads=(0, 1, 0, 0)):
        rng = np.random.default_rng(0)
        weight = rng.normal(size=(8, 3, 3, 3)).astype(np.float16).astype(np.float32)
        graph = helper.make_graph(
            # edges are computed, as exporters leave them
            [helper.make_node('Add', ['edges', 'nothing'], ['computed']),
             helper.make_node('Pad', ['image', 'computed', 'value'], ['wide'], mode=mode),
             helper.make_node('Conv', ['wide', 'weight'], ['out'], pads=pads),
             *[helper.make_node('Relu', ['wide'], ['other'])] * also_read],
            'padded', [helper.make_tensor_value_info('image', TensorProto.FLOAT, [1, 3, 9, 10])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
             for name in ['out', 'other'][:1 + also_read]],
            [numpy_helper.from_array(np.array(edges, np.int64), 'edges'),
             numpy_helper.from_array(np.zeros(8, np.int64), 'nothing'),
             numpy_helper.from_array(np.array(value, np.float32), 'value'),
             numpy_helper.from_array(weight, 'weight')])
        file = tmp_path / 'a.onnx'
        onnx.save(helper.make_model(
            graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9), str(file))
        return file

    return write


def answers(file):
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    image = np.random.default_rng(1).normal(size=(1, 3, 9, 10)).astype(np.float32)
    return session.run(None, {'image': image})


def kinds(file):
    return [node.op_type for node in onnx.load(str(file)).graph.node]


def test_padding_becomes_the_convolutions_own(padded):
    file = padded()
    before = answers(file)
    simplify(file)
    assert kinds(file) == ['Cast', 'Conv']
    np.testing.assert_allclose(answers(file)[0], before[0], rtol=1e-5, atol=1e-5)
    assert [path.name for path in file.parent.iterdir()] == ['a.onnx']
    once = file.read_bytes()
    simplify(file)
    assert kinds(file) == ['Cast', 'Conv'] and len(file.read_bytes()) == pytest.approx(
        len(once), abs=50)


@pytest.mark.parametrize('changes', [
    {'value': 1.0}, {'mode': 'edge'}, {'mode': 'reflect'}, {'edges': [0, 0, 1, 0, 0, 0, -1, 0]},
    {'edges': [0, 1, 0, 0, 0, -1, 0, 0]}])
def test_other_padding_stays(padded, changes):
    file = padded(**changes)
    before = answers(file)
    simplify(file)
    assert kinds(file)[-2:] == ['Pad', 'Conv']
    np.testing.assert_allclose(answers(file)[0], before[0], rtol=1e-5, atol=1e-5)


def test_padding_that_another_reads_stays_for_it(padded):
    file = padded(also_read=True)
    before = answers(file)
    simplify(file)
    assert sorted(kinds(file)) == ['Cast', 'Conv', 'Pad', 'Relu']
    for ours, theirs in zip(answers(file), before, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
