"""Where results go is checked before the work whose results they are."""

from argparse import ArgumentTypeError
import os
from pathlib import Path

from perception_nodes.cli.arguments import result_file, result_folder
from perception_nodes.cli.main import main
import pytest


@pytest.fixture
def sealed(tmp_path):
    """Return a folder that nobody may write to."""
    folder = tmp_path / 'sealed'
    folder.mkdir()
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):
        pytest.skip('root may write everywhere')
    yield folder
    folder.chmod(0o755)


def test_what_is_not_there_yet_is_not_made(tmp_path):
    assert result_folder(str(tmp_path / 'a' / 'b')) == tmp_path / 'a' / 'b'
    assert result_file(str(tmp_path / 'a' / 'b.json')) == tmp_path / 'a' / 'b.json'
    assert not (tmp_path / 'a').exists()
    assert result_file('figures.json') == Path('figures.json')


def test_a_file_is_no_folder(tmp_path):
    file = tmp_path / 'file'
    file.touch()
    for wrong in (lambda: result_folder(str(file)), lambda: result_folder(str(file / 'below')),
                  lambda: result_file(str(file / 'figures.json'))):
        with pytest.raises(ArgumentTypeError, match='file is a file; name a folder'):
            wrong()


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ArgumentTypeError, match=r'is a folder; name a file in it, such as '):
        result_file(str(tmp_path))


def test_a_folder_that_is_sealed(sealed):
    for wrong in (lambda: result_folder(str(sealed / 'below')),
                  lambda: result_file(str(sealed / 'figures.json'))):
        with pytest.raises(ArgumentTypeError, match='sealed cannot be written to; change its'):
            wrong()


def test_verbs_say_so_at_once(tmp_path, capsys):
    (tmp_path / 'file').touch()
    for words in (['soak', '--out'], ['benchmark', 'tracking', '--out']):
        with pytest.raises(SystemExit):
            main([*words, str(tmp_path / 'file' / 'x.json')])
        assert 'file is a file; name a folder' in capsys.readouterr().err
