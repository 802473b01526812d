"""Child processes: their failures are told, and none outlives its verb."""

from contextlib import contextmanager
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

from perception_nodes.cli.processes import Child, use_private_graph
import pytest

SERVER = ['http.server', '--bind', '127.0.0.1', '0']


def test_a_child_that_fails_is_named_with_its_last_lines(tmp_path):
    with (Child('the camera', ['no_such_module'], tmp_path / 'log') as child,
          pytest.raises(OSError, match='(?s)the camera ended with exit code 1; .*no_such_module')):
        child.wait(60.0)


def test_a_child_that_ends_too_early_is_noticed(tmp_path):
    with Child('the camera', ['this'], tmp_path / 'log') as child:
        assert child.wait(60.0)
        with pytest.raises(OSError, match='the camera ended with exit code 0'):
            child.check()


def test_a_killed_child_is_told_by_its_signal(tmp_path):
    with Child('the camera', SERVER, tmp_path / 'log') as child:
        child._process.send_signal(signal.SIGKILL)
        with pytest.raises(OSError, match='(?s)signal SIGKILL; .*it wrote nothing'):
            child.wait(60.0)


def test_no_child_outlives_an_error(tmp_path):
    with pytest.raises(ValueError, match='elsewhere'), \
            Child('the camera', SERVER, tmp_path / 'log') as child:
        assert not child.wait(0.1)
        child.check()
        raise ValueError('elsewhere')
    assert child._process.poll() is not None


@pytest.mark.skipif(shutil.which('setpriv') is None, reason='setpriv (util-linux) is missing')
def test_no_child_outlives_a_killed_verb(tmp_path):
    script = ('from pathlib import Path\nimport time\n'
              'from perception_nodes.cli.processes import Child\n'
              f"with Child('the camera', {SERVER}, Path('log')) as child:\n"
              '    print(child.pid, flush=True)\n'
              '    time.sleep(60)\n')
    with subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE,
                          cwd=tmp_path) as verb:
        child_pid = int(verb.stdout.readline())
        # once it serves, its ties to the verb are long set
        wait_for(lambda: b'http.server' in Path(f'/proc/{child_pid}/cmdline').read_bytes()
                 and b'setpriv' not in Path(f'/proc/{child_pid}/cmdline').read_bytes())
        verb.kill()
    wait_for(lambda: not is_running(child_pid))


def is_running(pid):
    """Return whether a process is there and no zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition):
    """Return once the condition holds; fail after a minute."""
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_graph_is_a_private_one():
    domain_id = use_private_graph()
    assert 1 <= domain_id <= 101
    assert os.environ['ROS_DOMAIN_ID'] == str(domain_id)
    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'


def test_a_graph_in_use_is_avoided(monkeypatch):
    monkeypatch.setattr('random.SystemRandom.shuffle', lambda generator, ids: None)
    first = use_private_graph()
    with holder(f'import socket as s; k = s.socket(type=s.SOCK_DGRAM); '
                f'k.bind(("", {7400 + 250 * first})); print("held", flush=True); input()') as said:
        assert said == 'held'
        assert use_private_graph() != first


def test_a_graph_that_another_program_has_just_chosen_is_avoided(monkeypatch):
    """Both look in the same order, and the other one's nodes do not listen yet."""
    with holder('import random; random.SystemRandom.shuffle = lambda generator, ids: None; '
                'from perception_nodes.cli.processes import use_private_graph; '
                'print(use_private_graph(), flush=True); input()') as said:
        monkeypatch.setattr('random.SystemRandom.shuffle', lambda generator, ids: ids.sort(
            key=lambda domain_id: domain_id != int(said)))
        assert use_private_graph() != int(said)


def test_a_graph_is_given_back(monkeypatch):
    first = use_private_graph()
    monkeypatch.setattr('random.SystemRandom.shuffle', lambda generator, ids: ids.sort(
        key=lambda domain_id: domain_id != first))
    assert use_private_graph() == first


@contextmanager
def holder(program):
    """Run a Python program that waits for the end of its input; return its first line."""
    with subprocess.Popen([sys.executable, '-c', program], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()
