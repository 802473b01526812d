"""A YOLO by ultralytics' trainer becomes a model of the manifest; nothing else is touched."""

import cv2
import numpy as np
from perception_nodes.cli.main import main
from perception_nodes.core.manifest import find_model
import pytest

pytest.importorskip('ultralytics')
from perception_nodes.backends.registry import load_model  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def data_file(tmp_path):
    """Write a data set whose description would harm whoever obeyed all of it."""
    for split, count in (('train', 4), ('val', 2)):
        for folder in ('images', 'labels'):
            (tmp_path / 'set' / folder / split).mkdir(parents=True)
        for i in range(count):
            rgb = np.full((64, 64, 3), 60, np.uint8)
            rgb[16:48, 16:48] = (0, 0, 255)
            cv2.imwrite(str(tmp_path / 'set' / 'images' / split / f'{i}.png'), rgb)
            (tmp_path / 'set' / 'labels' / split / f'{i}.txt').write_text('0 .5 .5 .5 .5\n')
    file = tmp_path / 'set' / 'data.yaml'
    file.write_text('train: images/train\nval: images/val\nnames: [red]\n'
                    f'download: bash touch {tmp_path / "harm"}\n')
    return file


def train(file, out, *words):
    return main(['train', 'yolo', str(file), '--out', str(out), '--epochs', '1', '--size', '64',
                 '--batch-size', '2', *words])


def test_the_backend_loads_what_was_trained(data_file, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / 'out'
    assert train(data_file, out) == 0
    assert 'AGPL-3.0' in capsys.readouterr().err
    entry = find_model('set_yolo', 'detection', str(out / 'manifest.yaml'))
    assert (entry.backend, entry.licence) == ('ultralytics', 'AGPL-3.0-only')
    assert entry.class_names == {0: 'red'}
    load_model(entry, 'cpu').predict([np.zeros((64, 64, 3), np.uint8)])
    assert not (tmp_path / 'harm').exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'set']


@pytest.mark.parametrize(('words', 'sentence'), [
    (('--model', 'yolo11n.pt'), 'must be a description such as yolo11n.yaml'),
    (('--size', '100'), '--size is 100; it must be a multiple of 32')])
def test_what_cannot_be_trained_is_refused(data_file, tmp_path, capsys, words, sentence):
    assert train(data_file, tmp_path / 'out', *words) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_class_outside_the_list_is_named(data_file, tmp_path, capsys):
    (data_file.parent / 'labels' / 'val' / '1.txt').write_text('3 .5 .5 .5 .5\n')
    assert train(data_file, tmp_path / 'out') == 1
    assert '1.txt, line 1 has class 3, which is not in the list' in capsys.readouterr().err
