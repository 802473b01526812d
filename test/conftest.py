"""Every test process gets a ROS graph of its own; nothing here needs ROS."""

import atexit
import hashlib
import os
from pathlib import Path
import random
import shutil
import sys
import tempfile

import numpy as np
from perception_nodes.cli.processes import use_private_graph
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
DATA_VARIABLE = 'PERCEPTION_NODES_DATA'


def isolate_this_process():
    """Set what rclpy and ultralytics read when they are imported; child processes inherit it."""
    scratch = tempfile.mkdtemp(prefix='perception_nodes_test_')
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    use_private_graph()
    os.environ['ROS_LOG_DIR'] = scratch
    os.environ['YOLO_CONFIG_DIR'] = scratch


isolate_this_process()


@pytest.fixture(scope='session')
def data_dir():
    """Return the folder of the test data, or skip."""
    folder = Path(os.environ.get(DATA_VARIABLE, REPOSITORY.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no test data in {folder}: set {DATA_VARIABLE} to its folder')
    return folder


@pytest.fixture
def write_manifest(tmp_path):
    """Return a function that writes a manifest of one model and returns its path."""
    def write(name, task, **fields):
        file = tmp_path / fields.setdefault('file', f'{name}.onnx')
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else 64 * 'f'
        path = tmp_path / 'manifest.yaml'
        path.write_text(yaml.safe_dump({'models': [{
            'name': name, 'task': task, 'backend': 'onnxruntime', 'architecture': 'none',
            'domain': 'real', 'sha256': digest, 'licence': 'Apache-2.0',
            **fields}]}))
        return path

    return write


@pytest.fixture
def colour_segmenter(tmp_path, write_manifest):
    """
    Return a function that writes a manifest with a segmenter named ``colours``.

    Its scores are the mean brightness of each colour over 4 x 4 pixels, times ten: class 0 red,
    1 green, 2 blue. ``output`` is ``NCHW``, ``NHWC`` or ``ids``.
    """
    onnx = pytest.importorskip('onnx', reason='onnx is not installed: it builds the network')
    from onnx import helper, numpy_helper, TensorProto

    def write(classes='{0: red, 1: green, 2: blue}', output='NCHW'):
        layout = 'NHWC' if output == 'NHWC' else 'NCHW'
        steps = [helper.make_node('AveragePool', ['planes'], ['means'], kernel_shape=[4, 4],
                                  strides=[4, 4]),
                 helper.make_node('Mul', ['means', 'ten'], ['scores'])]
        if layout == 'NHWC':
            steps = [helper.make_node('Transpose', ['image'], ['planes'], perm=[0, 3, 1, 2]),
                     *steps,
                     helper.make_node('Transpose', ['scores'], ['logits'], perm=[0, 2, 3, 1])]
        else:
            steps = [helper.make_node('Identity', ['image'], ['planes']), *steps]
            steps += [helper.make_node('ArgMax', ['scores'], ['logits'], axis=1, keepdims=0)
                      if output == 'ids' else helper.make_node('Identity', ['scores'], ['logits'])]
        shape = [1, 48, 64, 3] if layout == 'NHWC' else [1, 3, 48, 64]
        kind = TensorProto.INT64 if output == 'ids' else TensorProto.FLOAT
        graph = helper.make_graph(
            steps, 'colours', [helper.make_tensor_value_info('image', TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info('scores', TensorProto.FLOAT, None),
             helper.make_tensor_value_info('logits', kind, None)],
            [numpy_helper.from_array(np.float32(10.0), 'ten')])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
        onnx.save(model, tmp_path / 'colours.onnx')
        return write_manifest(
            'colours', 'segmentation', classes=yaml.safe_load(classes),
            input={'width': 64, 'height': 48, 'layout': layout, 'std': [255, 255, 255]})

    return write


@pytest.fixture
def colour_classifier(tmp_path, write_manifest):
    """Write a classifier ``colours`` that tells red, green and blue; return its manifest."""
    onnx = pytest.importorskip('onnx', reason='onnx is not installed: it builds the network')
    from onnx import helper, TensorProto
    graph = helper.make_graph(
        [helper.make_node('ReduceMean', ['image'], ['scores'], axes=[2, 3], keepdims=0)],
        'means', [helper.make_tensor_value_info('image', TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info('scores', TensorProto.FLOAT, [1, 3])])
    onnx.save(helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8),
        tmp_path / 'colours.onnx')
    return write_manifest(
        'colours', 'classification', classes={0: 'red', 1: 'green', 2: 'blue'},
        input={'width': 8, 'height': 8, 'std': [50, 50, 50]})


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """What a test draws without a generator of its own is the same in every run."""
    random.seed(0)
    np.random.seed(0)
    if 'torch' in sys.modules:
        sys.modules['torch'].manual_seed(0)


def pytest_collection_modifyitems(items):
    for item in items:
        if 'data_dir' in getattr(item, 'fixturenames', ()):
            item.add_marker('data')


def pytest_terminal_summary(terminalreporter):
    """Say how much was not tried because there is no GPU."""
    cases = [report for report in terminalreporter.stats.get('skipped', ())
             if 'cuda:0' in report.nodeid]
    if cases:
        terminalreporter.write_line(f'{len(cases)} cases on CUDA were skipped: no CUDA device')
