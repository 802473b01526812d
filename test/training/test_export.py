"""Networks as files: the same answers, half the size, and never a half-written manifest."""

import numpy as np
from perception_nodes.core.manifest import find_model, ModelInput, read_manifest
from perception_nodes.sim.dataset import begin, DatasetPlan
import pytest
import yaml

torch = pytest.importorskip('torch')
onnx = pytest.importorskip('onnx')
from perception_nodes.backends.networks.segnet import segnet_small  # noqa: E402
from perception_nodes.backends.torch_runtime import load_state_dict  # noqa: E402
from perception_nodes.training import export  # noqa: E402
from torch import nn  # noqa: E402

pytestmark = pytest.mark.slow

CLASSES = {0: 'a', 1: 'b'}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
                         nn.Conv2d(16, 2, 1)).eval()


def trained(name='mine', **changes):
    said = {
        'name': name, 'task': 'segmentation', 'backend': 'onnxruntime', 'architecture': 'Small',
        'head': None, 'domain': 'real', 'licence': 'Apache-2.0', 'source': '3 pictures',
        'class_names': CLASSES, 'input': ModelInput(32, 24), 'seed': 7, 'hours_cpu': 0.25,
        'quality': [{'dataset': 'val', 'metric': 'mIoU', 'value': 0.5, 'command': 'train'}],
        'notes': ['It is small.']}
    return export.Trained(**(said | changes))


def test_the_file_answers_as_the_network(tmp_path, network):
    file = tmp_path / 'a.onnx'
    export.export_onnx(network, (32, 24), 'logits', file)
    images = np.random.default_rng(0).normal(size=(3, 3, 24, 32)).astype(np.float32)
    difference = export.onnx_difference(network, file, images)
    # weights of 11 bits: something is lost, but little
    assert 0.0 < difference < 5e-3
    assert [path.name for path in tmp_path.iterdir()] == ['a.onnx']


def test_a_file_that_answers_otherwise_is_not_written(tmp_path, network, monkeypatch):
    monkeypatch.setattr(export, 'onnx_difference', lambda *_: 0.5)
    with pytest.raises(ValueError, match='the ONNX file answers 0.5 otherwise than the network'):
        export.export_onnx(network, (32, 24), 'logits', tmp_path / 'a.onnx')
    assert not list(tmp_path.iterdir())


def test_a_difference_is_seen(tmp_path, network):
    file = tmp_path / 'a.onnx'
    export.export_onnx(network, (32, 24), 'logits', file)
    with torch.no_grad():
        network[3].bias += 0.25
    images = np.zeros((1, 3, 24, 32), np.float32)
    assert export.onnx_difference(network, file, images) == pytest.approx(0.25, abs=2e-3)


def test_large_weights_take_16_bits_small_ones_stay(tmp_path, network):
    with torch.no_grad():
        network[3].weight[0, 0] = 1e6  # does not fit
    file = tmp_path / 'a.onnx'
    export.export_onnx(nn.Sequential(network, nn.Conv2d(2, 64, 1)), (32, 24), 'logits', file)
    weights = {tuple(w.dims): onnx.numpy_helper.to_array(w).dtype
               for w in onnx.load(str(file)).graph.initializer}
    assert weights[16, 3, 3, 3] == np.float16
    assert weights[64, 2, 1, 1] == np.float16
    assert weights[2, 16, 1, 1] == np.float32, 'too small to gain, and 1e6 would overflow'
    assert weights[16,] == np.float32


def test_safetensors_hold_every_tensor(tmp_path):
    pytest.importorskip('safetensors')
    network = segnet_small(3).to(memory_format=torch.channels_last)
    export.export_safetensors(network, tmp_path / 'a.safetensors')
    state = load_state_dict(tmp_path / 'a.safetensors')
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ['a.safetensors']


def test_others_may_read_safetensors_where_they_may_read_files(tmp_path):
    pytest.importorskip('safetensors')
    (tmp_path / 'plain').touch()
    export.export_safetensors(nn.Linear(2, 3), tmp_path / 'a.safetensors')
    assert (tmp_path / 'a.safetensors').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_what_learned_from_the_simulator_is_no_model_for_real_cameras(tmp_path):
    root = tmp_path / 'drawn'
    (root / 'train').mkdir(parents=True)
    assert export.domain_of(root) == 'real'
    for foreign in ('[1, 2]', '{"numTraining": 3}', '{'):  # others call files so as well
        (root / 'dataset.json').write_text(foreign)
        assert export.domain_of(root) == 'real'
    begin(root / 'ours', DatasetPlan({'train': 6}, worlds=('room',)), 'perception dataset')
    assert export.domain_of(root / 'ours') == 'simulation'
    assert export.domain_of(root / 'ours' / 'train') == 'simulation'


def test_entries_are_added_and_replaced(tmp_path):
    file = tmp_path / 'weights.onnx'
    file.write_bytes(b'one')
    export.publish(trained('first'), file)
    export.publish(trained('second', head=None), file)
    file.write_bytes(b'two')
    export.publish(trained('first', seed=8), file)
    entries = read_manifest(tmp_path / 'manifest.yaml')
    assert list(entries) == ['second', 'first']
    entry = find_model('first', 'segmentation', str(tmp_path / 'manifest.yaml'))
    assert entry.training['seed'] == 8
    assert entry.class_names == CLASSES
    assert entry.input == ModelInput(32, 24)
    assert entry.verified_path() == file
    with pytest.raises(ValueError, match='not the ones of the manifest'):
        entries['second'].verified_path()
    card = (tmp_path / 'weights.md').read_text()
    assert 'Classes: a, b' in card and '| val | mIoU | 0.5 |' in card and 'It is small.' in card


@pytest.mark.parametrize('text', ['models: 3', 'models: [{name: x}]', '{'])
def test_a_broken_manifest_is_left_alone(tmp_path, text):
    (tmp_path / 'manifest.yaml').write_text(text)
    (tmp_path / 'weights.onnx').write_bytes(b'one')
    for act in (lambda: export.publish(trained(), tmp_path / 'weights.onnx'),
                lambda: export.check_name(tmp_path, 'mine', CLASSES)):
        with pytest.raises(ValueError, match='manifest.yaml'):
            act()
    assert (tmp_path / 'manifest.yaml').read_text() == text


def test_a_disk_that_is_full_leaves_the_manifest_whole(tmp_path, monkeypatch):
    file = tmp_path / 'weights.onnx'
    file.write_bytes(b'one')
    export.publish(trained('first'), file)
    before = (tmp_path / 'manifest.yaml').read_bytes()
    monkeypatch.setattr(yaml, 'safe_dump', lambda *_, **__: 'models:\n- name: fi')
    with pytest.raises(ValueError):
        export.publish(trained('second'), file)
    assert (tmp_path / 'manifest.yaml').read_bytes() == before


def test_a_name_keeps_its_classes(tmp_path):
    export.check_name(tmp_path, 'mine', CLASSES)
    (tmp_path / 'weights.onnx').write_bytes(b'one')
    export.publish(trained(), tmp_path / 'weights.onnx')
    export.check_name(tmp_path, 'mine', CLASSES)
    export.check_name(tmp_path, 'other', {0: 'x'})
    with pytest.raises(ValueError, match="has a model 'mine' whose classes are a, b, but"):
        export.check_name(tmp_path, 'mine', {0: 'a', 1: 'x'})


def test_a_file_that_is_worse_is_refused():
    export.check_scores({'AP': 0.5}, {'AP': 0.495}, ('AP',))
    with pytest.raises(ValueError, match='the exported file reaches AP 0.450, the network 0.500'):
        export.check_scores({'AP': 0.5}, {'AP': 0.45}, ('AP',))
