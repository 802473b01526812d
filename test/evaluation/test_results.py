"""Result files: flat, complete, and valid JSON whatever the numbers are."""

import json
import shutil
import subprocess

import perception_nodes
from perception_nodes.evaluation import results
from perception_nodes.evaluation.results import commit, percentiles, write_results
import pytest


def test_a_result_file_is_flat_and_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(results, 'commit', lambda: 'abc123-dirty')
    path = tmp_path / 'out' / 'x.json'
    write_results(path, {'mAP50': 0.12345678, 'model': 'x', 'images': 3}, seed=7, n=3, wall_s=1.5)
    result = json.loads(path.read_text())
    assert result == {'mAP50': 0.123457, 'model': 'x', 'images': 3, 'seed': 7, 'n': 3,
                      'commit': 'abc123-dirty', 'wall_s': 1.5}


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_is_no_number_is_null(tmp_path, value):
    write_results(tmp_path / 'x.json', {'mAP50': value}, seed=0, n=0, wall_s=0.0)
    text = (tmp_path / 'x.json').read_text()
    assert json.loads(text, parse_constant=pytest.fail)['mAP50'] is None


def test_percentiles_have_names():
    assert percentiles('age_ms', range(101)) == {'age_ms_p50': 50.0, 'age_ms_p95': 95.0}
    assert percentiles('age_ms', range(101), (99,)) == {'age_ms_p99': 99.0}
    assert set(map(str, percentiles('age_ms', []).values())) == {'nan'}


def git(folder, *command):
    subprocess.run(['git', '-C', str(folder), '-c', 'user.name=t', '-c', 'user.email=t@t.example',
                    *command], check=True, capture_output=True)


@pytest.mark.skipif(not shutil.which('git'), reason='git is not installed')
def test_the_commit_is_that_of_the_package(tmp_path, monkeypatch):
    source = tmp_path / 'perception_nodes' / '__init__.py'
    source.parent.mkdir()
    source.write_text('')
    git(tmp_path, 'init')
    monkeypatch.setattr(perception_nodes, '__file__', str(source))
    # installed inside a checkout of something else
    assert commit().startswith('perception_nodes ')
    git(tmp_path, 'add', '.')
    git(tmp_path, 'commit', '-m', 'x')
    clean = commit()
    assert len(clean) == 12
    source.write_text('changed = True\n')
    assert commit() == f'{clean}-dirty'
