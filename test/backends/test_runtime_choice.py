"""Devices that are not there and runtimes that would rather do something else: a sentence each."""

import logging

import onnxruntime
from perception_nodes.backends import runtime_choice
from perception_nodes.backends.onnxruntime_backend import open_session
from perception_nodes.backends.registry import load_model
from perception_nodes.backends.runtime_choice import Choice, choose_runtime, is_torch_on_gpu
from perception_nodes.core.manifest import find_model
import pytest

NAME = 'sim_scene_detector'
CUDA, TENSORRT = 'CUDAExecutionProvider', 'TensorrtExecutionProvider'


@pytest.fixture
def machine(monkeypatch):
    """Return a function that says which GPUs there are and who can use them."""
    def describe(gpus=0, providers=(), torch_has_cuda=False):
        monkeypatch.setattr(runtime_choice, 'cuda_device_count', lambda: gpus)
        monkeypatch.setattr(onnxruntime, 'get_available_providers',
                            lambda: [*providers, 'CPUExecutionProvider'])
        torch = pytest.importorskip('torch') if torch_has_cuda else None
        if torch:
            monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
        else:
            real = runtime_choice.find_spec
            monkeypatch.setattr(runtime_choice, 'find_spec',
                                lambda name: None if name == 'torch' else real(name))
    return describe


@pytest.mark.parametrize(('device', 'gpus', 'providers', 'expected'), [
    ('cpu', 2, [CUDA], Choice('onnxruntime', 'cpu')),
    ('auto', 0, [CUDA], Choice('onnxruntime', 'cpu')),
    ('auto', 1, [CUDA], Choice('onnxruntime', 'cuda:0')),
    ('cuda', 1, [CUDA], Choice('onnxruntime', 'cuda:0')),
    ('cuda:1', 2, [TENSORRT, CUDA], Choice('onnxruntime', 'cuda:1')),
    ('tensorrt:1', 2, [TENSORRT, CUDA], Choice('onnxruntime', 'tensorrt:1'))])
def test_what_is_installed_and_plugged_in_decides(machine, device, gpus, providers, expected):
    machine(gpus, providers)
    assert choose_runtime('onnxruntime', device) == expected


@pytest.mark.slow
def test_torch_runs_files_where_onnxruntime_has_no_cuda(machine):
    machine(1, torch_has_cuda=True)
    assert choose_runtime('onnxruntime', 'auto') == Choice('torch', 'cuda:0')
    assert choose_runtime('onnxruntime', 'cuda:0') == Choice('torch', 'cuda:0')
    with pytest.raises(ValueError, match='neither onnxruntime nor torch has TensorRT here'):
        choose_runtime('onnxruntime', 'tensorrt:0')


@pytest.mark.parametrize(('device', 'gpus'), [('cpu', 1), ('auto', 0), ('cuda:0', 0), ('auto', 1)])
def test_without_torch_on_a_gpu_nothing_runs_there(machine, device, gpus):
    machine(gpus)
    assert not any(is_torch_on_gpu(backend, device) for backend in (
        'onnxruntime', 'openvino', 'own', 'torchvision', 'ultralytics'))


@pytest.mark.slow
def test_torch_on_a_gpu_is_told_from_onnxruntime_there(machine):
    machine(1, torch_has_cuda=True)
    assert is_torch_on_gpu('onnxruntime', 'auto')
    assert is_torch_on_gpu('own', 'cuda:0')
    assert not is_torch_on_gpu('own', 'cpu')
    assert not is_torch_on_gpu('openvino', 'auto')
    assert not is_torch_on_gpu('onnxruntime', 'tensorrt:0')
    machine(1, [CUDA], torch_has_cuda=True)
    assert not is_torch_on_gpu('onnxruntime', 'auto')
    assert is_torch_on_gpu('torchvision', 'auto')


@pytest.mark.parametrize(('device', 'gpus', 'sentence'), [
    ('gpu', 1, "device is 'gpu'; it must be 'auto', 'cpu', 'cuda:N' or 'tensorrt:N'"),
    ('cuda:x', 1, "device is 'cuda:x'; it must be"),
    ('cuda:3', 1, r"device is 'cuda:3', but the driver finds only 1 CUDA device\(s\)"),
    ('cuda:0', 0, "device is 'cuda:0', but the driver finds no CUDA device"),
    ('cuda:0', 1, "device is 'cuda:0', but neither onnxruntime nor torch has CUDA here; install"),
    ('tensorrt:0', 1, 'has TensorRT here; install onnxruntime-gpu and TensorRT')])
def test_a_device_that_cannot_be_used_is_refused(machine, device, gpus, sentence):
    machine(gpus)
    with pytest.raises(ValueError, match=sentence):
        load_model(find_model(NAME), device)


def test_a_gpu_that_nobody_can_use_is_not_passed_over_in_silence(machine, caplog):
    machine(1)
    with caplog.at_level(logging.WARNING):
        assert choose_runtime('onnxruntime', 'auto') == Choice('onnxruntime', 'cpu')
    assert 'there is a GPU, but neither onnxruntime nor torch has CUDA' in caplog.text


@pytest.mark.parametrize('device', ['auto', 'cuda:0', 'tensorrt:0'])
def test_onnxruntime_taking_another_provider_is_an_error(
        machine, monkeypatch, tmp_path, caplog, device):
    """It falls back to the CPU without a word where a library is missing."""
    machine(1, [TENSORRT, CUDA])
    monkeypatch.setenv('PERCEPTION_NODES_MODELS', str(tmp_path))
    real = onnxruntime.InferenceSession
    asked = []

    def session(path, options, providers):
        asked.extend(providers)
        return real(path, options, providers=['CPUExecutionProvider'])

    preloaded = []
    monkeypatch.setattr(onnxruntime, 'InferenceSession', session)
    monkeypatch.setattr(onnxruntime, 'preload_dlls', lambda: preloaded.append(list(asked)),
                        raising=False)
    wanted = TENSORRT if device.startswith('tensorrt') else CUDA
    with pytest.raises(ValueError, match=f'asked onto {wanted} but onnxruntime took CPU'):
        load_model(find_model(NAME), device)
    provider, said = asked[0]
    assert (provider, said['device_id']) == (wanted, 0)
    assert preloaded == [[]], "pip's CUDA libraries are loaded once, before the session"
    if wanted == TENSORRT:
        assert said['trt_engine_cache_enable']
        assert said['trt_engine_cache_path'] == str(tmp_path / 'tensorrt')
        assert 'TensorRT builds its engine now' in caplog.text


def test_openvino_is_for_the_cpu():
    assert choose_runtime('openvino', 'auto') == Choice('openvino', 'cpu')
    with pytest.raises(ValueError, match='backend openvino runs on the CPU only'):
        choose_runtime('openvino', 'cuda:0')


def test_sixteen_bits_need_a_file_of_sixteen_bits():
    with pytest.raises(ValueError, match='the precision it was exported with'):
        open_session(find_model(NAME), 'cpu', True)


def test_a_network_that_does_not_fit_is_said(monkeypatch):
    from perception_nodes.backends import onnxruntime_backend

    def load(*_):
        raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB.')

    monkeypatch.setattr(onnxruntime_backend, 'load_detector', load)
    with pytest.raises(ValueError, match=(
            f"model '{NAME}' does not fit onto device 'auto' .CUDA out of memory.; choose")):
        load_model(find_model(NAME), 'auto')


@pytest.fixture
def load_as_on_a_gpu(monkeypatch):
    """Return a function that loads a detector whose run fails, as if there were a GPU."""
    from perception_nodes.backends import onnxruntime_backend, registry

    def load(words, device='cuda:0'):
        seen = []

        class Detector:
            def predict(self, frames):
                seen.append([frame.shape for frame in frames])
                if words:
                    raise RuntimeError(words)

        monkeypatch.setattr(registry, 'is_torch_on_gpu', lambda backend, place: place != 'cpu')
        monkeypatch.setattr(onnxruntime_backend, 'load_detector', lambda *_: Detector())
        load_model(find_model(NAME), device)
        return seen

    return load


def test_on_a_gpu_a_network_runs_once_when_it_is_loaded(load_as_on_a_gpu):
    """Weights may fit where what is computed from them does not."""
    assert load_as_on_a_gpu('') == [[(240, 320, 3)]]
    assert load_as_on_a_gpu('', 'cpu') == []
    for words in ('CUDA out of memory. Tried to allocate 2 GiB.',
                  'CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)'):
        with pytest.raises(ValueError, match=f"model '{NAME}' does not fit onto device 'cuda:0'"):
            load_as_on_a_gpu(words)


def test_a_gpu_that_torch_was_not_built_for_is_a_sentence(load_as_on_a_gpu):
    with pytest.raises(ValueError, match=(
            f"model '{NAME}' does not run on device 'cuda:0' .CUDA error: no kernel image is "
            'available for execution on the device.; does this torch support the GPU')):
        load_as_on_a_gpu('CUDA error: no kernel image is available for execution on the device\n'
                         'CUDA kernel errors might be reported at some other API call')


@pytest.mark.slow
def test_a_gpu_that_torch_cannot_use_is_not_passed_over_in_silence(monkeypatch, caplog):
    torch_runtime = pytest.importorskip('perception_nodes.backends.torch_runtime')
    monkeypatch.setattr(torch_runtime.torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(torch_runtime, 'cuda_device_count', lambda: 1)
    with caplog.at_level(logging.WARNING):
        assert torch_runtime.choose_device('auto', False).type == 'cpu'
    assert 'there is a GPU, but torch' in caplog.text
    caplog.clear()
    monkeypatch.setattr(torch_runtime, 'cuda_device_count', lambda: 0)
    torch_runtime.choose_device('auto', False)
    assert not caplog.text


def test_other_faults_of_a_runtime_are_not_called_memory(monkeypatch):
    from perception_nodes.backends import onnxruntime_backend

    def load(*_):
        raise RuntimeError('no kernel image')

    monkeypatch.setattr(onnxruntime_backend, 'load_detector', load)
    with pytest.raises(RuntimeError, match='no kernel image'):
        load_model(find_model(NAME), 'auto')


def test_the_doctor_says_what_a_node_would_say(machine):
    from perception_nodes.cli.diagnosis.machine import device_problem
    machine(1, [CUDA])
    assert device_problem('cuda:0') == device_problem('auto') == device_problem('') == ''
    assert device_problem('cuda:1').startswith(
        "device is 'cuda:1', but the driver finds only 1 CUDA device(s), counted from 0; check")
