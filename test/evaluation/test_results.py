"""Result files: flat, complete, and valid JSON whatever the numbers are."""

from importlib.metadata import PackageNotFoundError
import json
import os
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


def test_a_copy_that_nobody_installed_loses_no_results(tmp_path, monkeypatch):
    """Sources that were copied to a machine with a GPU have neither git nor metadata."""
    def unknown(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(results, 'version', unknown)
    monkeypatch.setattr(results, '_git', lambda folder, *command: None)
    write_results(tmp_path / 'x.json', {'mAP50': 0.5}, seed=0, n=1, wall_s=0.1)
    assert json.loads((tmp_path / 'x.json').read_text())['commit'] == (
        'perception_nodes, a copy without its commit')


@pytest.mark.skipif(not shutil.which('git'), reason='git is not installed')
@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give files away')
def test_the_commit_is_known_where_the_checkout_is_somebody_elses(tmp_path, monkeypatch):
    """As in a container; git refuses to read what belongs to another user."""
    source = tmp_path / 'perception_nodes' / '__init__.py'
    source.parent.mkdir()
    source.write_text('')
    git(tmp_path, 'init')
    git(tmp_path, 'add', '.')
    git(tmp_path, 'commit', '-m', 'x')
    monkeypatch.setattr(perception_nodes, '__file__', str(source))
    ours = commit()
    for path in (tmp_path, tmp_path / '.git', source.parent, source):
        os.chown(path, 12345, 12345)
    assert commit() == ours and len(ours) == 12
