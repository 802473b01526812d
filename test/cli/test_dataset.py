"""A data set is complete, agrees with itself, and does not depend on how often it was begun."""

import json
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
from perception_nodes.cli import dataset
from perception_nodes.cli.main import main
from perception_nodes.core.whole_file import draft_of
from perception_nodes.evaluation.datasets import read_coco
from perception_nodes.sim import dataset as sim_dataset
from perception_nodes.sim.families import HELD_OUT_FAMILIES
import pytest

SMALL = ['--train', '4', '--val', '2', '--test', '3', '--size', '96x72',
         '--frames-per-scene', '2', '--worlds', 'room', 'tabletop_packed']


def make(folder, *more):
    return main(['dataset', str(folder), *SMALL, '--processes', '1', *more])


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'small'
    assert make(folder) == 0
    return folder


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes()
            for p in sorted(folder.rglob('*')) if p.is_file()}


def test_layout(made):
    """Every frame has its four pictures, and nothing is left over."""
    for split, count in (('train', 4), ('val', 2), ('test', 3)):
        names = [f'{i:06d}.png' for i in range(count)]
        for kind in ('images', 'masks', 'instances', 'depth'):
            assert sorted(p.name for p in (made / split / kind).iterdir()) == names
        lines = (made / split / 'frames.jsonl').read_text().splitlines()
        assert [json.loads(line)['file'] for line in lines] == names
    assert sorted(p.name for p in made.iterdir()) == ['dataset.json', 'test', 'train', 'val']


def test_description(made):
    """dataset.json says how it was made; held-out families and other seeds are for tests."""
    said = json.loads((made / 'dataset.json').read_text())
    assert (said['version'], said['complete']) == (1, True)
    assert said['command'].startswith('perception dataset FOLDER --train 4')
    assert said['classes']['9'] == 'can'
    splits = said['splits']
    for split in ('train', 'val'):
        assert not set(HELD_OUT_FAMILIES) & set(splits[split]['families'])
    assert set(HELD_OUT_FAMILIES) <= set(splits['test']['families'])
    assert splits['train']['seeds'][1] < splits['val']['seeds'][0]
    assert splits['val']['seeds'][1] < splits['test']['seeds'][0]


def test_annotations_are_what_the_pictures_show(made):
    """Each box is tight around its value in the instance image, of its class in the mask."""
    labels = json.loads((made / 'train' / 'instances.json').read_text())
    assert len(labels['annotations']) > 5
    for found in labels['annotations']:
        name = labels['images'][found['image_id'] - 1]['file_name']
        ids = cv2.imread(str(made / 'train/instances' / name), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(str(made / 'train/masks' / name), cv2.IMREAD_UNCHANGED)
        assert (ids.dtype, mask.dtype) == (np.uint16, np.uint8)
        rows, columns = np.nonzero(ids == found['instance_id'])
        left, top, width, height = found['bbox']
        assert (columns.min(), rows.min()) == (left, top)
        assert (columns.max() + 1, rows.max() + 1) == (left + width, top + height)
        assert found['area'] == len(rows)
        assert (mask[rows, columns] == found['category_id']).all()
        assert 0.0 < found['visible_fraction'] <= 1.0
    assert len({found['id'] for found in labels['annotations']}) == len(labels['annotations'])


def test_depth_and_geometry(made):
    """Depth is in millimetres, and the floor it shows is at height 0 in map."""
    checked = 0
    for line in (made / 'train' / 'frames.jsonl').read_text().splitlines():
        frame = json.loads(line)
        lens, pose = frame['intrinsics'], np.array(frame['map_from_camera'])
        depth = cv2.imread(str(made / 'train/depth' / frame['file']), cv2.IMREAD_UNCHANGED)
        mask = cv2.imread(str(made / 'train/masks' / frame['file']), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.uint16
        v, u = np.nonzero((mask == 0) & (depth > 0) & (depth < 4000))
        if len(v) < 50:
            continue
        z = depth[v, u] / 1000.0
        points = np.stack([(u - lens['cx']) / lens['fx'] * z, (v - lens['cy']) / lens['fy'] * z, z,
                           np.ones(len(z))])
        assert abs(np.median((pose @ points)[2])) < 0.02
        checked += 1
    assert checked > 0


def test_the_evaluator_reads_it(made):
    """The same loader as for every COCO data set."""
    data = read_coco(made / 'test')
    assert data.class_names[3] == 'table'
    assert len(data.images) == 3
    assert data.images[0].rgb().shape == (72, 96, 3)


def test_interrupted_and_continued_it_is_the_same(made, tmp_path, monkeypatch, caplog):
    """A Ctrl-C after the first scene ends with 0 and a sentence; the rest follows later."""
    folder, begun = tmp_path / 'again', []

    def interrupted(root, plan, task):
        if begun:
            raise KeyboardInterrupt
        begun.append(task)
        return whole(root, plan, task)
    whole = dataset.make_frames
    monkeypatch.setattr(dataset, 'make_frames', interrupted)
    assert make(folder) == 0
    assert 'the same command goes on from here' in caplog.text
    assert not (folder / 'train' / 'instances.json').exists()
    monkeypatch.setattr(dataset, 'make_frames', whole)
    assert make(folder) == 0
    assert '2 of 9 frames are there already' in caplog.text
    assert contents(folder) == contents(made)
    assert make(folder) == 0
    assert 'is complete: 9 frames' in caplog.text


def test_interrupted_while_it_begins(made, tmp_path, monkeypatch):
    """However early a Ctrl-C comes, the same command goes on in that folder."""
    folder = tmp_path / 'begun'

    def interrupted(*_):
        raise KeyboardInterrupt
    with monkeypatch.context() as patched:
        patched.setattr(sim_dataset, '_record', interrupted)
        assert make(folder) == 0
        assert list(folder.iterdir())
    assert make(folder) == 0
    assert contents(folder) == contents(made)


def test_killed_while_it_begins(made, tmp_path):
    """A half-written description is no reason to refuse the folder."""
    folder = tmp_path / 'begun'
    folder.mkdir()
    draft_of(folder / 'dataset.json').write_text('{"command": "per')
    assert make(folder) == 0
    assert contents(folder) == contents(made)


@pytest.mark.slow
def test_several_processes_and_a_signal_change_nothing(made, tmp_path):
    """Two workers, interrupted by SIGINT and started again, write the same bytes."""
    folder = tmp_path / 'parallel'
    command = [sys.executable, '-m', 'perception_nodes.cli', 'dataset', str(folder), *SMALL,
               '--processes', '2']
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    patience = time.monotonic() + 200.0
    while time.monotonic() < patience and not (folder / 'records' / 'train').is_dir():
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    said = first.communicate(timeout=200)[1]
    assert first.returncode == 0, said
    assert 'Traceback' not in said
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert contents(folder) == contents(made)


def test_views_of_a_robot(tmp_path):
    """All pictures are taken level, at the height of a robot's camera or a little off it."""
    folder = tmp_path / 'robot'
    assert main(['dataset', str(folder), '--train', '6', '--val', '0', '--test', '0', '--size',
                 '64x48', '--worlds', 'room', '--processes', '1', '--robot-views', '1']) == 0
    poses = np.array([json.loads(line)['map_from_camera'] for line in
                      (folder / 'train' / 'frames.jsonl').read_text().splitlines()])
    assert (np.abs(poses[:, 2, 3] - 0.56) < 0.151).all()
    assert np.abs(poses[:, 2, 0]).max() < 1e-5  # x of an optical frame lies in the picture's rows
    downward_deg = np.degrees(np.arcsin(-poses[:, 2, 2]))
    assert (downward_deg > -0.01).all() and (downward_deg < 35.01).all()
    assert '--robot-views 1.0' in json.loads((folder / 'dataset.json').read_text())['command']


@pytest.mark.parametrize(('more', 'sentence'), [
    (['--worlds', 'rooom'], "there is no world 'rooom'; choose from room"),
    (['--shadows', '1.5'], 'the share of scenes with shadows is 1.5; it must lie between 0 and 1'),
    (['--robot-views', '2'], "the share of views that are the robot's own is 2.0; it must lie"),
    (['--train', '0', '--val', '0', '--test', '0'], 'the data set is empty'),
])
def test_wrong_requests(tmp_path, capsys, more, sentence):
    assert make(tmp_path / 'none', *more) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / 'none').exists()


def test_other_settings_need_another_folder(made, tmp_path, capsys):
    before = contents(made)
    assert make(made, '--seed', '5') == 1
    assert 'holds a data set of other settings' in capsys.readouterr().err
    assert contents(made) == before
    (tmp_path / 'letter.txt').write_text('mine')
    assert make(tmp_path) == 1
    assert 'is not empty and holds no data set' in capsys.readouterr().err
