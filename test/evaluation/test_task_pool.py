"""The same work on many things, here or elsewhere."""

import os
import subprocess
import sys
from types import SimpleNamespace

from perception_nodes.evaluation.task_pool import run_tasks
import pytest


def halved(number):
    """Return half of an even number."""
    if number % 2:
        raise ValueError(f'{number} is odd')
    return number // 2


def test_a_task_that_fails_leaves_a_sentence_and_the_others_alone():
    assert run_tasks(halved, [4, 3, 8]) == [2, '3 is odd', 4]


def test_what_is_no_sentence_is_raised():
    with pytest.raises(TypeError):
        run_tasks(halved, ['four'])


def test_a_cluster_needs_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(ImportError, match='pip install ray'):
        run_tasks(halved, [4], cluster='auto')


def test_a_cluster_does_the_same(monkeypatch):
    """Through a stand-in for Ray, which is not installed here: its calls and their order."""
    calls = []

    def remote(function):
        return SimpleNamespace(remote=lambda *arguments: (function, arguments))

    monkeypatch.setitem(sys.modules, 'ray', SimpleNamespace(
        init=lambda address, log_to_driver: calls.append(f'init {address}'),
        remote=remote, get=lambda tasks: [function(*arguments) for function, arguments in tasks],
        shutdown=lambda: calls.append('shutdown')))
    assert run_tasks(halved, [4, 3], cluster='head:6379') == [2, '3 is odd']
    assert calls == ['init head:6379', 'shutdown']


@pytest.mark.slow
def test_a_cluster_of_this_machine_does_the_same():
    ray = pytest.importorskip('ray', reason='Ray is not installed: pip install ray')
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False,
             runtime_env={'env_vars': {'PYTHONPATH': os.pathsep.join(sys.path)}})
    address = ray.get_runtime_context().gcs_address
    try:
        cluster = subprocess.run(
            [sys.executable, '-c', 'from perception_nodes.evaluation.task_pool import run_tasks; '
             'import operator; '
             f'print(run_tasks(operator.index, [4, 3], cluster={address!r}))'],
            capture_output=True, text=True, timeout=120, check=True)
    finally:
        ray.shutdown()
    assert cluster.stdout.strip() == '[4, 3]'
