"""ONNX files in torch beside onnxruntime, and files that torch cannot run."""

import numpy as np
import onnxruntime
from perception_nodes.core.manifest import find_model
import pytest

torch = pytest.importorskip('torch')
from perception_nodes.backends.onnx_device import OnnxInTorch, segmenter_in_torch  # noqa: E402
from perception_nodes.backends.onnx_file import read_graph  # noqa: E402
from perception_nodes.backends.onnx_torch import OnnxModule  # noqa: E402
from perception_nodes.backends.onnxruntime_backend import OnnxDetector  # noqa: E402
from perception_nodes.backends.onnxruntime_segmentation import OnnxSegmenter  # noqa: E402
from perception_nodes.backends.registry import load_model  # noqa: E402
from perception_nodes.evaluation.gpu_frames import read_frames  # noqa: E402

pytestmark = pytest.mark.slow

SHIPPED = ('coco_ssdlite_mobilenet_v2', 'sim_scene_detector', 'sim_scene_segmenter')


@pytest.fixture(autouse=True)
def one_thread():
    """Leave the machine to others."""
    torch.set_num_threads(1)


def beside_onnxruntime(path, image, place='cpu'):
    """Return the answers of torch and of onnxruntime."""
    module = OnnxModule(read_graph(path)).to(place)
    with torch.inference_mode():
        ours = [answer.cpu().numpy() for answer in module(torch.from_numpy(image).to(place))]
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return ours, session.run(None, {session.get_inputs()[0].name: image})


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_files_answer_as_in_onnxruntime(name, place):
    entry = find_model(name)
    rng = np.random.default_rng(0)
    shape = (1, 300, 300, 3) if entry.input.layout == 'NHWC' else (1, 3, 240, 320)
    image = rng.uniform(-1.0, 1.0, shape).astype(np.float32)
    if entry.input.layout == 'NHWC':
        image = (image + 1.0) * 127.0
    ours, theirs = beside_onnxruntime(entry.verified_path(), image, place)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize('name', SHIPPED[1:])
def test_files_for_one_image_take_several(name):
    """They say so, and each gets its own answer."""
    module = OnnxModule(read_graph(find_model(name).verified_path()))
    assert module.takes_batches
    images = torch.randn(3, 3, 240, 320, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        together, = module(images)
        alone, = module(images[2:])
    torch.testing.assert_close(together[2:], alone, rtol=1e-4, atol=1e-3)


def test_a_file_that_knows_one_image_only_says_so():
    assert not OnnxModule(read_graph(find_model(SHIPPED[0]).verified_path())).takes_batches


@pytest.fixture(scope='module')
def frames():
    """Return simulated scenes with objects in them, of two sizes."""
    scenes = [frame.rgb for frame in read_frames(3)]
    return [scenes[0], np.ascontiguousarray(scenes[1][:200]), scenes[2]]


@pytest.mark.parametrize('name', SHIPPED[:2])
def test_boxes_are_those_of_the_cpu(frames, name, place):
    """Frames of two shapes, each in its own pixels."""
    entry = find_model(name)
    theirs = load_model(entry, 'cpu').predict(frames)
    model = OnnxDetector(OnnxInTorch(entry, place, False), entry)
    # the input of a GPU is not rounded to 8 bits
    loose, far = (1e-3, 0.1) if place == 'cpu' else (0.03, 3.0)
    compared = 0
    for found, expected in zip(model.predict(frames), theirs, strict=True):
        sure = expected[expected.scores > 0.15]
        compared += len(sure)
        for box, score, label in zip(sure.boxes_xyxy, sure.scores, sure.class_ids, strict=True):
            near = np.abs(found.boxes_xyxy - box).max(axis=1) < far
            assert (near & (found.class_ids == label)
                    & (np.abs(found.scores - score) < loose)).any()
    assert compared > 0


def test_masks_are_those_of_the_cpu(frames, place):
    entry = find_model('sim_scene_segmenter')
    theirs = load_model(entry, 'cpu').predict(frames, confidence=True)
    ours = segmenter_in_torch(entry, place, False).predict(frames, confidence=True)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.ids.shape == other.ids.shape and mine.ids.dtype == other.ids.dtype
        assert (mine.ids == other.ids).mean() > 0.98
        assert np.abs(mine.confidence - other.confidence).mean() < 0.02


@pytest.mark.parametrize('output', ['NCHW', 'NHWC', 'ids'])
def test_every_layout_of_a_segmenter_is_read(colour_segmenter, output):
    """Scores are read on the device, class ids on the host."""
    entry = find_model('colours', '', str(colour_segmenter(output=output)))
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[:48, :, 1], picture[48:, :, 2] = 200, 200
    segmenter = segmenter_in_torch(entry, 'cpu', False)
    if output == 'ids':
        assert segmenter is None
        segmenter = OnnxSegmenter(OnnxInTorch(entry, 'cpu', False), entry)
    mask, = segmenter.predict([picture])
    assert (mask.ids[:44] == 1).all() and (mask.ids[52:] == 2).all()


def test_computed_sizes_are_folded(small):
    """As exporters leave them: arithmetic on constants alone."""
    path = small([node('Add', 'a b', 'c'), node('Mul', 'c b', 'd'), node('Reshape', 'x d')],
                 {'a': ints(0, 2, 3), 'b': ints(1, 1, 189)})
    assert [n.kind for n in OnnxModule(read_graph(path))._nodes] == ['Reshape']


@pytest.fixture
def small(tmp_path):
    """Return a function that writes a network of the given nodes."""
    onnx = pytest.importorskip('onnx')
    from onnx import helper, numpy_helper, TensorProto

    def write(nodes, constants=(), shape=(1, 3, 12, 16)):
        graph = helper.make_graph(
            [helper.make_node(*named, **said) for *named, said in nodes], 'small',
            [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info('y', TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(v), k) for k, v in dict(constants).items()])
        path = tmp_path / 'small.onnx'
        onnx.save(helper.make_model(
            graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9), str(path))
        return path

    return write


def node(kind, inputs='x', outputs='y', **said):
    return kind, inputs.split(), outputs.split(), said


def ints(*values):
    return np.array(values, np.int64)


W = np.random.default_rng(2).normal(size=(6, 3, 3, 3)).astype(np.float32)
OPERATIONS = {
    'conv': ([node('Conv', 'x w b', pads=[1, 1, 1, 1], strides=[2, 2])],
             {'w': W, 'b': np.arange(6, dtype=np.float32)}),
    'conv_uneven': ([node('Conv', 'x w', pads=[0, 1, 2, 1], dilations=[2, 2])], {'w': W}),
    'conv_groups': ([node('Conv', 'x w', group=3)], {'w': W[:, :1]}),
    'norm': ([node('BatchNormalization', 'x s o m v', epsilon=1e-3)],
             {k: np.arange(1, 4, dtype=np.float32) * f
              for k, f in zip('somv', (1, 2, 3, 4), strict=True)}),
    'max_pool': ([node('MaxPool', kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1])], {}),
    'pad_clip': ([node('Pad', 'x p c', 'z'), node('Clip', 'z l h')],
                 {'p': ints(0, 0, 1, 2, 0, 0, 3, 0), 'c': np.float32(0.25),
                  'l': np.float32(-0.5), 'h': np.float32(0.5)}),
    'clip_below': ([node('Clip', 'x l')], {'l': np.float32(0.1)}),
    'resize_sizes': ([node('Resize', 'x r f s', mode='linear',
                           coordinate_transformation_mode='half_pixel')],
                     {'r': np.zeros(0, np.float32), 'f': np.zeros(0, np.float32),
                      's': ints(1, 3, 20, 33)}),
    'resize_scales': ([node('Resize', 'x r f', mode='nearest', nearest_mode='floor',
                            coordinate_transformation_mode='asymmetric')],
                      {'r': np.zeros(0, np.float32),
                       'f': np.array([1, 1, 2, 2], np.float32)}),
    'slices': ([node('Slice', 'x a e k t', 'z'), node('Concat', 'z z', axis=1)],
               {'a': ints(1, 0), 'e': ints(-1, 9999), 'k': ints(3, 2), 't': ints(2, 3)}),
    'split': ([node('Split', 'x n', 'p q', axis=3), node('Mul', 'p q')], {'n': ints(8, 8)}),
    'reduce': ([node('ReduceSum', 'x k', 's', keepdims=0),
                node('ReduceMean', 's', 'm', axes=[1], keepdims=1),
                node('Unsqueeze', 'm u', 'n'), node('Squeeze', 'n u')],
               {'k': ints(2), 'u': ints(1)}),
    'head': ([node('GlobalAveragePool', 'x', 'g'), node('Flatten', 'g', 'f'),
              node('Gemm', 'f w b', 'l', transB=1, alpha=0.5), node('Softmax', 'l', axis=1)],
             {'w': W[:4, :, 0, 0].copy(), 'b': np.arange(4, dtype=np.float32)}),
    'extremes': ([node('ReduceMax', 'x', 'a', axes=[2, 3]),
                  node('ReduceMin', 'x', 'b', keepdims=0),
                  node('AveragePool', 'x', 'c', kernel_shape=[4, 4], strides=[4, 4]),
                  node('Add', 'a b', 'd'), node('Sub', 'c d')], {}),
    'best': ([node('ArgMax', 'x', 'a', axis=1, keepdims=0), node('Cast', 'a', to=1)], {}),
    'curves': ([node('HardSwish', 'x', 'a'), node('HardSigmoid', 'a', 'b', alpha=0.3, beta=0.4),
                node('Sigmoid', 'b', 'c'), node('Exp', 'c', 'd'), node('Div', 'd two', 'e'),
                node('Sub', 'e x')], {'two': np.float32(2.0)}),
    'matrices': ([node('Transpose', 'x', 't', perm=[0, 1, 3, 2]), node('MatMul', 'x t', 'm'),
                  node('Reshape', 'm r', 'z'), node('Add', 'z x0'), ],
                 {'r': ints(0, 3, -1), 'x0': np.ones((1, 3, 144), np.float32)}),
}


@pytest.mark.parametrize('name', OPERATIONS)
def test_each_operation_is_onnxruntimes(small, name):
    nodes, constants = OPERATIONS[name]
    image = np.random.default_rng(0).normal(size=(1, 3, 12, 16)).astype(np.float32)
    (ours,), (theirs,) = beside_onnxruntime(small(nodes, constants), image)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('nodes', 'constants', 'sentence'), [
    ([('NonMaxSuppression', 'x x')], {}, 'torch runs no ONNX file with NonMaxSuppression here'),
    ([('Conv', 'x w', {'auto_pad': 'SAME_UPPER'})], {'w': W}, 'pads by SAME_UPPER'),
    ([('Cast', 'x', {'to': 16})], {}, 'Cast to numbers of type 16 is not supported'),
    ([('Resize', 'x r f', {'mode': 'cubic'})],
     {'r': np.zeros(0, np.float32), 'f': np.array([1, 1, 2, 2], np.float32)}, 'Resize cubic'),
    ([('Slice', 'x a e k t')],
     {'a': ints(9), 'e': ints(0), 'k': ints(2), 't': ints(-1)}, 'Slice backwards')])
def test_what_torch_cannot_run_is_said(small, nodes, constants, sentence):
    path = small([node(kind, inputs, **(rest[0] if rest else {}))
                  for kind, inputs, *rest in nodes], constants)
    with pytest.raises(ValueError, match=sentence):
        OnnxModule(read_graph(path))(torch.zeros(1, 3, 12, 16))


@pytest.mark.parametrize('damage', [
    lambda data: b'', lambda data: b'no network at all', lambda data: data[:len(data) // 2],
    lambda data: data[:40] + bytes([255] * 12) + data[52:]])
def test_a_damaged_file_is_refused(small, tmp_path, damage):
    data = small(*OPERATIONS['conv']).read_bytes()
    path = tmp_path / 'damaged.onnx'
    path.write_bytes(damage(data))
    with pytest.raises(ValueError, match='damaged.onnx is no ONNX network'):
        read_graph(path)


def test_files_are_read_as_onnx_reads_them():
    """Every constant and node of a shipped file."""
    onnx = pytest.importorskip('onnx')
    path = find_model(SHIPPED[1]).verified_path()
    ours, theirs = read_graph(path), onnx.load(str(path)).graph
    assert [(n.kind, list(n.inputs), list(n.outputs)) for n in ours.nodes] == [
        (n.op_type, list(n.input), list(n.output)) for n in theirs.node]
    for weight in theirs.initializer:
        values = onnx.numpy_helper.to_array(weight)
        assert ours.constants[weight.name].dtype == values.dtype
        assert np.array_equal(ours.constants[weight.name], values)
    for mine, other in zip(ours.nodes, theirs.node, strict=True):
        for attribute in other.attribute:
            value = onnx.helper.get_attribute_value(attribute)
            mine_value = mine.attributes[attribute.name]
            expected = value.decode() if isinstance(value, bytes) else value
            assert mine_value == (list(expected) if hasattr(expected, '__len__')
                                  and not isinstance(expected, str) else expected)
