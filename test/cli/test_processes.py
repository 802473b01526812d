"""Child processes: their failures are told, and none outlives its verb."""

import os
import signal
import subprocess

from perception_nodes.cli.processes import Child, use_private_graph
import pytest

SERVER = ['http.server', '--bind', '127.0.0.1', '0']


def test_a_child_that_fails_is_named_with_its_last_lines(tmp_path):
    with (Child('the camera', ['no_such_module'], tmp_path / 'log') as child,
          pytest.raises(OSError, match='(?s)the camera ended with exit code 1; .*no_such_module')):
        child.wait(10.0)


def test_a_child_that_ends_too_early_is_noticed(tmp_path):
    with Child('the camera', ['this'], tmp_path / 'log') as child:
        assert child.wait(10.0)
        with pytest.raises(OSError, match='the camera ended with exit code 0'):
            child.check()


def test_a_killed_child_is_told_by_its_signal(tmp_path):
    with Child('the camera', SERVER, tmp_path / 'log') as child:
        child._process.send_signal(signal.SIGKILL)
        with pytest.raises(OSError, match='(?s)signal SIGKILL; .*it wrote nothing'):
            child.wait(10.0)


def test_no_child_outlives_an_error(tmp_path):
    with pytest.raises(ValueError, match='elsewhere'), \
            Child('the camera', SERVER, tmp_path / 'log') as child:
        assert not child.wait(0.1)
        child.check()
        raise ValueError('elsewhere')
    assert child._process.poll() is not None


def test_each_graph_is_a_private_one(monkeypatch):
    for name in ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE'):
        monkeypatch.setenv(name, '')
    domain_id = use_private_graph()
    assert 1 <= domain_id <= 101
    assert os.environ['ROS_DOMAIN_ID'] == str(domain_id)
    assert os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'


def test_a_graph_in_use_is_avoided(monkeypatch):
    for name in ('ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE'):
        monkeypatch.setenv(name, '')
    monkeypatch.setattr('random.shuffle', lambda ids: None)
    first = use_private_graph()
    hold = f'import socket as s; k = s.socket(type=s.SOCK_DGRAM); ' \
           f'k.bind(("", {7400 + 250 * first})); print("held", flush=True); input()'
    with subprocess.Popen(['python3', '-c', hold], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b'held\n'
        assert use_private_graph() > first
        holder.stdin.close()
