"""What the package promises to pip, colcon and `ros2 run`."""

import configparser
from email.parser import Parser
import importlib
import importlib.util
import os
from pathlib import Path
import shutil
import subprocess
import sys
from xml.etree import ElementTree
import zipfile

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED_FOLDERS = ('launch', 'config', 'models')
INDEX_MARKER = 'share/ament_index/resource_index/packages/perception_nodes'


def shared_files():
    files = [path for top in SHARED_FOLDERS for path in (REPOSITORY / top).rglob('*')]
    return sorted(
        str(path.relative_to(REPOSITORY)) for path in files
        if path.is_file() and '__pycache__' not in path.parts)


@pytest.fixture(scope='session')
def sources(tmp_path_factory):
    """Return a copy of the package's sources: builds leave their traces beside setup.py."""
    copy = tmp_path_factory.mktemp('sources') / 'perception_nodes'
    ignore = shutil.ignore_patterns(
        '.*', '__pycache__', '*.egg-info', 'build', 'out', 'interfaces', 'test')
    shutil.copytree(REPOSITORY, copy, ignore=ignore)
    return copy


def build(sources, target, kind):
    """Return the opened wheel; kind is the build backend's function, PEP 517 or 660."""
    setuptools = pytest.importorskip('setuptools')
    if tuple(int(part) for part in setuptools.__version__.split('.')[:2]) < (70, 1):
        pytest.skip(f'setuptools {setuptools.__version__} cannot build wheels by itself')
    call = f'import setuptools.build_meta as backend; backend.{kind}({str(target)!r})'
    subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', call], cwd=sources, check=True,
        capture_output=True)
    return zipfile.ZipFile(next(target.glob('*.whl')))


@pytest.fixture(scope='session')
def wheel(sources, tmp_path_factory):
    return build(sources, tmp_path_factory.mktemp('wheel'), 'build_wheel')


@pytest.fixture(scope='session')
def editable_wheel(sources, tmp_path_factory):
    return build(sources, tmp_path_factory.mktemp('editable'), 'build_editable')


def read_member(wheel, ending):
    name = next(name for name in wheel.namelist() if name.endswith(ending))
    return wheel.read(name).decode()


def prefix_files(wheel):
    """Return path below the install prefix → entry of the wheel."""
    marker = '.data/data/'
    return {
        entry.filename.partition(marker)[2]: entry
        for entry in wheel.infolist() if marker in entry.filename
    }


def console_scripts(wheel):
    parser = configparser.ConfigParser()
    parser.read_string(read_member(wheel, '.dist-info/entry_points.txt'))
    return dict(parser['console_scripts'])


@pytest.mark.parametrize(('tag', 'field'), [
    ('name', 'Name'), ('version', 'Version'), ('description', 'Summary'), ('license', 'License')])
def test_package_xml_and_setup_py_agree(wheel, tag, field):
    metadata = Parser().parsestr(read_member(wheel, '.dist-info/METADATA'))
    assert metadata[field] == ElementTree.parse(REPOSITORY / 'package.xml').findtext(tag)


def test_changelog_knows_the_version():
    version = ElementTree.parse(REPOSITORY / 'package.xml').findtext('version')
    headings = (REPOSITORY / 'CHANGELOG.rst').read_text().splitlines()
    assert any(line.startswith(version) for line in headings)


def test_executables_can_be_imported(wheel):
    pytest.importorskip('rclpy', reason='the nodes need rclpy')
    for target in console_scripts(wheel).values():
        module, _, function = target.partition(':')
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize('kind', ['wheel', 'editable_wheel'])
def test_pip_installs_what_ros_tools_look_for(kind, request):
    wheel = request.getfixturevalue(kind)
    installed = prefix_files(wheel)
    expected = {f'share/perception_nodes/{name}' for name in ('package.xml', *shared_files())}
    assert {INDEX_MARKER} | expected <= installed.keys()
    for name in console_scripts(wheel):
        launcher = installed[f'lib/perception_nodes/{name}']
        assert launcher.external_attr >> 16 & 0o111, f'{name} is not executable'
        assert f'/bin/{name}"' in wheel.read(launcher).decode()


def test_wheel_carries_every_module_and_page(wheel, sources):
    files = (path for path in (sources / 'perception_nodes').rglob('*') if path.is_file())
    expected = {str(path.relative_to(sources)) for path in files if path.suffix != '.pyc'}
    assert expected <= set(wheel.namelist())


@pytest.mark.slow
def test_colcon_installs_what_ros_tools_look_for(wheel, sources, tmp_path):
    if importlib.util.find_spec('colcon_core') is None:
        pytest.skip('colcon is not installed in this Python')
    subprocess.run(
        [sys.executable, '-m', 'colcon', '--log-base', 'log', 'build', '--base-paths', sources],
        cwd=tmp_path, check=True, capture_output=True)
    prefix = tmp_path / 'install' / 'perception_nodes'
    for name in ('package.xml', *shared_files()):
        assert (prefix / 'share' / 'perception_nodes' / name).is_file(), name
    assert (prefix / INDEX_MARKER).is_file()
    for name in console_scripts(wheel):
        script = prefix / 'lib' / 'perception_nodes' / name
        assert os.access(script, os.X_OK), f'{name} is not executable'
        assert 'python' in script.read_text().splitlines()[0], f'{name} does not start Python'
