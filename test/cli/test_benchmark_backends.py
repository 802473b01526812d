"""The benchmark of the runtimes: every one that is here, the default among them."""

import json

from perception_nodes.cli import benchmark_backends
from perception_nodes.cli.main import main
import pytest

pytest.importorskip('torch')
pytestmark = pytest.mark.slow


def test_every_installed_runtime_is_measured(tmp_path, monkeypatch, capsys):
    entries = [entry for entry in benchmark_backends.shipped()
               if entry.name == 'sim_scene_segmenter']
    monkeypatch.setattr(benchmark_backends, 'shipped', lambda: entries)
    file = tmp_path / 'backends.json'
    assert main(['benchmark', 'backends', '--rounds', '2', '--out', str(file)]) == 0
    found = json.loads(file.read_text())
    assert found['default'] == 'onnxruntime' and found['n'] == 2
    for runtime in ('onnxruntime', 'torch'):
        assert found[f'sim_scene_segmenter_{runtime}_cpu_ms_p50'] > 0.0
    assert found['sim_scene_segmenter_default_over_best'] >= 1.0
    assert found['default_over_best_max'] == found['sim_scene_segmenter_default_over_best']
    assert 'the goal is 1.2' in capsys.readouterr().out


def test_the_three_shipped_networks_are_measured():
    assert {entry.name for entry in benchmark_backends.shipped()} >= {
        'coco_ssdlite_mobilenet_v2', 'sim_scene_detector', 'sim_scene_segmenter'}
