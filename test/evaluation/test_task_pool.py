"""The same work on many things, here or elsewhere."""

from contextlib import suppress
import operator
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
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


@pytest.mark.slow
def test_processes_answer_in_the_order_of_the_tasks():
    assert run_tasks(operator.index, [5, 4, 3], jobs=2) == [5, 4, 3]


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


_LONG_WORK = """
import os
from pathlib import Path
import signal
import sys
import time
from perception_nodes.evaluation.task_pool import run_tasks

def work(file):
    Path(file).touch()
    if file.endswith('killed'):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600.0)

if __name__ == '__main__':
    # a shell may have started the tests with interrupts ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run_tasks(work, sys.argv[1:], jobs=2)
    except (KeyboardInterrupt, OSError) as error:
        print(type(error).__name__, error)
"""


@pytest.fixture
def long_work(tmp_path):
    """Start two tasks that take ten minutes; a process that stays keeps the pipes open."""
    def start(*names):
        script = tmp_path / 'long_work.py'
        script.write_text(_LONG_WORK)
        files = [tmp_path / name for name in names]
        process = subprocess.Popen(
            [sys.executable, str(script), *map(str, files)], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(
                [str(Path(__file__).parents[2]), *sys.path])})
        started.append(process)
        return process, files

    started = []
    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(('send', 'when'), [
    (os.kill, 'at work'), (os.killpg, 'at work'), (os.killpg, 'starting')])
def test_an_interrupt_ends_all_processes_without_a_traceback(long_work, send, when):
    process, files = long_work('a', 'b')
    if when == 'at work':
        deadline = time.monotonic() + 60.0
        while not all(file.exists() for file in files):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
    else:
        children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
        if not children.exists():
            pytest.skip('this system does not tell the children of a process')
        deadline = time.monotonic() + 60.0
        while len(children.read_text().split()) < 3:  # the workers and their tracker
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.002)
    send(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=60.0)
    assert said.split() == ['KeyboardInterrupt']
    assert errors == ''


@pytest.mark.slow
def test_a_process_that_is_killed_is_a_sentence(long_work):
    process, _ = long_work('a', 'killed')
    said, errors = process.communicate(timeout=60.0)
    assert said.startswith('OSError a process at work ended with -9 and no answer')
    assert errors == ''


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
