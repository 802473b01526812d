"""Shipped files are found in a checkout and in installed prefixes."""

from pathlib import Path

from perception_nodes.core import share
import pytest


def install(prefix: Path, modules: str) -> Path:
    """Return the package folder of a make-believe install that ships one file."""
    shared = prefix / 'share' / 'perception_nodes'
    (shared / 'config').mkdir(parents=True)
    (shared / 'package.xml').touch()
    (shared / 'config' / 'detection.yaml').touch()
    package = prefix / modules / 'perception_nodes'
    package.mkdir(parents=True)
    return package


@pytest.mark.parametrize('modules', [
    'lib/python3.12/site-packages',  # pip in a venv, colcon
    'local/lib/python3.12/dist-packages',  # pip and colcon on Debian
    '',  # pip install --target
])
def test_installed_file_is_found(tmp_path, monkeypatch, modules):
    monkeypatch.setattr(share, '_PACKAGE', install(tmp_path, modules))
    expected = tmp_path / 'share/perception_nodes/config/detection.yaml'
    assert share.share_file('config/detection.yaml') == expected


def test_checkout_is_found(tmp_path, monkeypatch):
    (tmp_path / 'package.xml').touch()
    (tmp_path / 'config').mkdir()
    (tmp_path / 'config' / 'detection.yaml').touch()
    monkeypatch.setattr(share, '_PACKAGE', tmp_path / 'perception_nodes')
    assert share.share_file('config/detection.yaml') == tmp_path / 'config/detection.yaml'


def test_running_package_has_a_share_folder():
    assert (share.share_folder() / 'package.xml').is_file()


def test_wrong_name_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(share, '_PACKAGE', install(tmp_path, 'lib/python3.12/site-packages'))
    with pytest.raises(FileNotFoundError, match='config/nothing.yaml does not exist'):
        share.share_file('config/nothing.yaml')


def test_modules_without_share_files_are_explained(tmp_path, monkeypatch):
    package = tmp_path / 'site-packages' / 'perception_nodes'
    monkeypatch.setattr(share, '_PACKAGE', package)
    with pytest.raises(FileNotFoundError, match='install the package with pip or colcon'):
        share.share_folder()
