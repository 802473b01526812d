"""The set-up uses what the machine has and says in one sentence what it lacks."""

from collections import namedtuple
import importlib.util
from pathlib import Path
import sys

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
VersionInfo = namedtuple('VersionInfo', 'major minor micro')
ROS_VARIABLES = {'ROS_DISTRO': 'jazzy', 'AMENT_PREFIX_PATH': '/opt/ros/jazzy'}


@pytest.fixture
def make_venv(monkeypatch):
    """Return the script as a module, on a machine without ROS, that only notes its commands."""
    spec = importlib.util.spec_from_file_location(
        'make_venv', REPOSITORY / 'requirements' / 'make_venv.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.commands = []
    monkeypatch.setattr(
        module, 'run_step',
        lambda sentence, command: module.commands.append(' '.join(map(str, command))))
    for name in ROS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return module


@pytest.fixture
def machine_has(make_venv, monkeypatch):
    """Return a function that decides which modules the machine's Python can import."""
    def provide(*modules):
        monkeypatch.setattr(
            make_venv, 'can_import', lambda module, python=None: module in modules)
    return provide


def source_ros(monkeypatch):
    for name, value in ROS_VARIABLES.items():
        monkeypatch.setenv(name, value)


def requirement_files(make_venv):
    return [name for name in ('base', 'ros', 'torch', 'dev')
            if any(f'{name}.txt' in command for command in make_venv.commands)]


def test_bare_machine_gets_everything(make_venv, machine_has):
    machine_has()
    make_venv.install_requirements(Path('venv'))
    assert requirement_files(make_venv) == ['base', 'ros', 'torch', 'dev']
    assert '--system-site-packages' not in make_venv.commands[0]
    assert all('constraints-numpy2.txt' in command for command in make_venv.commands[1:])


def test_sourced_ros_is_used_with_its_numpy(make_venv, machine_has, monkeypatch):
    source_ros(monkeypatch)
    machine_has('rclpy', 'numpy; assert numpy.__version__[0] == "1"')
    make_venv.install_requirements(Path('venv'))
    assert requirement_files(make_venv) == ['base', 'torch', 'dev']
    assert '--system-site-packages' in make_venv.commands[0]
    assert all('constraints-numpy1.txt' in command for command in make_venv.commands[1:])


def test_installed_torch_is_kept(make_venv, machine_has, monkeypatch):
    machine_has('torch')
    monkeypatch.setattr(make_venv, 'pins_of_kept_torch', lambda: ['torch==2.5.0a0+nv24.8'])
    make_venv.install_requirements(Path('venv'))
    assert all(command.endswith('torch==2.5.0a0+nv24.8') for command in make_venv.commands[1:])
    assert requirement_files(make_venv) == ['base', 'ros', 'dev']
    assert '--system-site-packages' in make_venv.commands[0]


def test_sourced_ros_of_another_python_is_refused(make_venv, machine_has, monkeypatch):
    source_ros(monkeypatch)
    machine_has()
    with pytest.raises(make_venv.SetupError, match='cannot import its rclpy'):
        make_venv.install_requirements(Path('venv'))


def test_wheels_and_sourced_ros_are_not_mixed(make_venv, machine_has, monkeypatch, tmp_path):
    source_ros(monkeypatch)
    machine_has('rclpy')
    (tmp_path / 'lib').mkdir()
    (tmp_path / 'lib' / 'librcl.so').touch()
    with pytest.raises(make_venv.SetupError, match='name another folder'):
        make_venv.install_requirements(tmp_path)


def test_missing_apt_messages_are_named(make_venv, machine_has, monkeypatch):
    source_ros(monkeypatch)
    machine_has('rclpy', 'tf2_msgs')
    with pytest.raises(make_venv.SetupError, match='apt install ros-jazzy-vision-msgs$'):
        make_venv.install_interfaces(Path('venv'))


@pytest.mark.parametrize('version', [(3, 10, 12), (3, 14, 0)])
def test_unsupported_python_is_refused(make_venv, monkeypatch, version):
    monkeypatch.setattr(sys, 'version_info', VersionInfo(*version))
    with pytest.raises(make_venv.SetupError, match='Python 3.11 to 3.13 is needed'):
        make_venv.check_python()
