"""The check of GPUs runs end to end without one and without ROS, and claims nothing then."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('torch')
from perception_nodes.evaluation import gpu_check, gpu_measure  # noqa: E402
from perception_nodes.evaluation.gpu_frames import read_frames  # noqa: E402
from perception_nodes.evaluation.gpu_record import backends_sha256, read_records  # noqa: E402
from perception_nodes.evaluation.gpu_subjects import Subject, subjects  # noqa: E402

# the networks are quick; a machine that is busy may not be
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ALONE = """
import sys

for name in ('rclpy', 'std_msgs', 'sensor_msgs', 'vision_msgs', 'ultralytics', 'mujoco', 'onnx',
             'onnxruntime', 'faster_coco_eval', 'matplotlib', 'skimage', 'sklearn', 'safetensors',
             'aiohttp', 'jinja2', 'rosbags', 'tqdm', 'scipy', 'mcap', 'lz4', 'zstandard',
             'gymnasium', 'stable_baselines3', 'openvino', 'pandas', 'ament_index_python'):
    sys.modules[name] = None  # importing it is an error
from perception_nodes.evaluation.gpu_check import main
sys.exit(main(sys.argv[1:]))
"""


def test_on_the_cpu_it_runs_to_the_end_and_verifies_nothing(tmp_path):
    """With torch, torchvision, NumPy, OpenCV, numba and PyYAML alone."""
    done = subprocess.run(
        [sys.executable, '-c', ALONE, '--out', str(tmp_path), '--device', 'cpu', '--frames', '2',
         '--repeats', '1', '--only', 'sim_scene_detector', 'lenet5'],
        capture_output=True, text=True)
    assert done.returncode == gpu_measure.EXIT_NO_GPU, done.stderr
    assert 'no GPU was checked: this ran on cpu' in done.stdout
    assert 'which is no record: the other networks were not checked' in done.stdout
    assert read_records(tmp_path) == []
    record = json.loads((tmp_path / 'cpu.unfinished').read_text())
    assert (record['device'], record['gpu'], record['n']) == ('cpu', 'cpu', 2)
    assert record['checks_failed'] == 0 and record['failures'] == ''
    assert record['backends_sha256'] == backends_sha256()
    assert record['sim_scene_detector_fp32_metric_cpu'] > 0.3
    assert record['sim_scene_detector_fp32_metric_drop'] == pytest.approx(0.0, abs=1e-6)
    assert record['sim_scene_detector_fp32_threads_metric_drop'] == pytest.approx(0.0, abs=1e-6)
    for name in ('sim_scene_detector', 'lenet5'):
        assert record[f'{name}_fp32_threads_hz'] > 0.0
        assert record[f'{name}_fp32_difference_share'] < 1e-4
        assert record[f'{name}_fp32_batch8_hz'] > 0.0


def test_on_meta_every_network_runs_without_numbers(tmp_path):
    assert gpu_check.main(['--out', str(tmp_path), '--device', 'meta', '--frames', '1']) == \
        gpu_measure.EXIT_NO_GPU
    record = json.loads((tmp_path / 'meta.json').read_text())
    assert {name.removesuffix('_meta_answers') for name in record
            if name.endswith('_meta_answers')} == {subject.name for subject in subjects()}
    assert record['sim_scene_segmenter_meta_answers'] == '(1, 9, 60, 80)'


@pytest.mark.parametrize(('words', 'sentence'), [
    (['--device', 'cuda:97'], "device is 'cuda:97', but torch finds"),
    (['--device', 'gpu'], "device is 'gpu'; it must be"),
    (['--only', 'yolo9000'], "there is no network 'yolo9000'; choose from sim_scene_detector")])
def test_wrong_words_are_a_sentence(tmp_path, capsys, words, sentence):
    assert gpu_check.main(['--out', str(tmp_path), *words]) == 1
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_packages_that_are_missing_are_named_before_anything_is_imported(
        monkeypatch, tmp_path, capsys):
    """A machine with a GPU often has nothing but torch."""
    assert gpu_check.what_is_missing() == ''
    sentence = gpu_check.what_is_missing(
        {'json': 'json', 'no_such_module': 'no-such-package', 'nor_this': 'nor-this'})
    assert sentence == (
        f'{sys.executable} has no no-such-package, nor-this; install what is missing: '
        f'{sys.executable} -m pip install no-such-package nor-this')
    monkeypatch.setattr(gpu_check, 'what_is_missing', lambda: 'this Python has no torch')
    assert gpu_check.main(['--out', str(tmp_path / 'new')]) == 1
    assert capsys.readouterr().err == 'this Python has no torch\n'
    assert not (tmp_path / 'new').exists()
    # else a missing one would be a traceback before anybody asks
    subprocess.run([sys.executable, '-c', (
        'import sys; import perception_nodes.evaluation.gpu_check; '
        'assert not {"torch", "numpy", "cv2", "numba", "yaml"} & set(sys.modules)')], check=True)


def test_networks_without_steady_answers_are_judged_by_what_holds_for_them():
    """Rounding to 16 bits moves SegNet's maxima; that its answers are numbers holds anyway."""
    half = gpu_measure.Variant('fp16', half_precision=True)
    found = {'difference_share': 0.4, 'memory_left_mb': 0.0, 'hidden_syncs': 0.0}
    assert gpu_measure._failures('a', found, half, is_steady=False) == []
    assert len(gpu_measure._failures('a', found, half)) == 1
    assert len(gpu_measure._failures(
        'a', found, gpu_measure.Variant('fp32'), is_steady=False)) == 1
    assert len(gpu_measure._failures(
        'a', found | {'difference_share': np.nan}, half, is_steady=False)) == 1


def test_a_check_that_is_stopped_leaves_what_it_knows(monkeypatch, tmp_path):
    """A machine is lent for minutes; a network that does not even load is one failure."""
    lenet, = (subject for subject in subjects() if subject.name == 'lenet5')

    def absent(device, half_precision):
        raise FileNotFoundError('weights of the model are missing')

    def stopped(device, half_precision):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_measure, 'subjects', lambda: [
        Subject('absent', absent), lenet, Subject('endless', stopped), Subject('last', stopped)])
    with pytest.raises(KeyboardInterrupt):
        gpu_check.main(
            ['--out', str(tmp_path), '--device', 'cpu', '--frames', '1', '--repeats', '1'])
    file, = tmp_path.iterdir()
    assert file.name == 'cpu.unfinished'
    record = json.loads(file.read_text())
    assert record['failures'] == (
        'absent on the CPU stopped: weights of the model are missing; endless was not reached; '
        'last was not reached')
    assert record['checks_failed'] == 3
    assert record['lenet5_fp32_difference_share'] < 1e-4
    assert read_records(tmp_path) == []


def test_what_is_wrong_is_said():
    graph = gpu_measure.Variant('fp16_graph', half_precision=True, graph=True)
    good = {'difference_share': 0.09, 'metric_cpu': 0.7, 'metric_drop': 0.004,
            'threads_metric_drop': 0.004, 'memory_left_mb': 10.0, 'hidden_syncs': 0.0,
            'graphs': 1.0}
    assert gpu_measure._failures('a', good, graph) == []
    unknown = dict.fromkeys(('metric_cpu', 'metric_drop', 'threads_metric_drop'), np.nan)
    assert gpu_measure._failures('a', good | unknown, graph) == []
    for change, sentence in (
            ({'difference_share': 0.2}, 'a_difference_share is 0.2, at most 0.1 is allowed'),
            ({'difference_share': np.nan}, 'a_difference_share is nan'),
            ({'metric_drop': 0.006}, 'a_metric_drop is 0.006, at most 0.005 is allowed'),
            ({'threads_metric_drop': 0.5}, 'a_threads_metric_drop is 0.5, at most 0.005'),
            ({'memory_left_mb': 51.0}, 'a_memory_left_mb is 51, at most 50 is allowed'),
            ({'hidden_syncs': 2.0}, 'a_hidden_syncs is 2'),
            ({'graphs': 0.0}, 'could not be recorded as a CUDA graph')):
        wrong = gpu_measure._failures('a', good | change, graph)
        assert len(wrong) == 1 and sentence in wrong[0]


def test_a_network_that_answers_otherwise_fails_the_check(monkeypatch, tmp_path):
    lenet, = (subject for subject in subjects() if subject.name == 'lenet5')
    loads = []

    def load(device, half_precision):
        loaded = lenet.load(device, half_precision)
        loads.append(loaded)
        if len(loads) > 1:  # the first is the CPU's
            loaded.network.forward_of = lambda network, images: network(images) * 1.5
        return loaded

    monkeypatch.setattr(gpu_measure, 'subjects', lambda: [Subject('lenet5', load)])
    gpu_check.main(['--out', str(tmp_path), '--device', 'cpu', '--frames', '1', '--repeats', '1'])
    record = json.loads((tmp_path / 'cpu.json').read_text())
    assert record['checks_failed'] == 1
    assert record['failures'].startswith('lenet5_fp32_difference_share is 0.5')


def test_a_network_that_stops_does_not_end_the_check(monkeypatch, tmp_path):
    lenet, = (subject for subject in subjects() if subject.name == 'lenet5')
    loads = []

    def load(device, half_precision):
        loads.append(device)
        if len(loads) > 1:
            raise RuntimeError('no kernel image is available\nand so on')
        return lenet.load(device, half_precision)

    monkeypatch.setattr(gpu_measure, 'subjects', lambda: [Subject('one', load), lenet])
    gpu_check.main(['--out', str(tmp_path), '--device', 'cpu', '--frames', '1', '--repeats', '1'])
    record = json.loads((tmp_path / 'cpu.json').read_text())
    assert record['failures'] == 'one_fp32 stopped: no kernel image is available'
    with pytest.raises(ValueError, match=r'cpu\.json is no record of a GPU'):
        read_records(tmp_path)
    assert record['lenet5_fp32_difference_share'] < 1e-4


def test_the_frames_are_labelled():
    frames = read_frames(99)
    assert len(frames) == 24
    assert all(frame.rgb.shape == (240, 320, 3) for frame in frames)
    assert all(frame.mask.shape == (240, 320) for frame in frames)
    assert sum(len(frame.labels) for frame in frames) > 100
    assert set(np.unique(np.stack([frame.mask for frame in frames]))) <= {*range(9), 255}
