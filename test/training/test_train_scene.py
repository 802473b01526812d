"""The simulator's detector and segmenter: from rendered frames to two files that nodes load."""

import json

import numpy as np
from perception_nodes.cli.main import main
import pytest

pytest.importorskip('torch', reason='torch is not installed')
pytest.importorskip('mujoco', reason='mujoco is not installed: the simulator needs it')
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope='module')
def frames(tmp_path_factory):
    root = tmp_path_factory.mktemp('scenes') / 'frames'
    assert main(['dataset', str(root), '--train', '12', '--val', '6', '--test', '0', '--size',
                 '160x120', '--frames-per-scene', '3', '--processes', '1']) == 0
    return root


def test_two_models_come_out_and_a_second_start_goes_on(frames, tmp_path):
    """Losses fall, features are kept, the files load by name, and more epochs are no new run."""
    from perception_nodes.backends.registry import load_model
    from perception_nodes.core.manifest import find_model

    command = ['train', 'scene', str(frames), '--out', str(tmp_path), '--batch-size', '4',
               '--epochs', '3', '--learning-rate', '0.004']
    assert main(command) == 0
    history = [json.loads(line) for line in (tmp_path / 'history.jsonl').read_text().splitlines()]
    assert [row['epoch'] for row in history] == [1, 2, 3]
    assert history[-1]['loss_masks'] < history[0]['loss_masks']
    assert json.loads((tmp_path / 'features/train/prepared.json').read_text())['done'] == 12
    picture = np.full((120, 160, 3), 90, np.uint8)
    manifest = str(tmp_path / 'manifest.yaml')
    detector = load_model(find_model('sim_scene_detector', 'detection', manifest), 'cpu')
    assert len(detector.predict([picture])) == 1
    segmenter = load_model(find_model('sim_scene_segmenter', 'segmentation', manifest), 'cpu')
    mask, = segmenter.predict([picture])
    assert mask.ids.shape == (120, 160) and mask.ids.max() <= 8
    best = (tmp_path / 'best.pt').read_bytes()
    assert main(command) == 0
    assert (tmp_path / 'best.pt').read_bytes() == best


def test_a_later_training_begins_where_an_earlier_ended(frames, tmp_path, capsys):
    """With steps of length 0 the weights are those it began with; a foreign file is named."""
    import torch

    first, second = tmp_path / 'first', tmp_path / 'second'
    command = ['train', 'scene', str(frames), '--batch-size', '4', '--epochs', '1']
    assert main([*command, '--out', str(first)]) == 0
    assert main([*command, '--out', str(second), '--start-from', str(first),
                 '--learning-rate', '0']) == 0
    before, after = (torch.load(folder / 'best.pt', weights_only=True)['network']
                     for folder in (first, second))
    learned = [name for name in before if 'running' not in name and 'num_batches' not in name]
    assert learned and all(torch.equal(before[name], after[name]) for name in learned)
    assert f'weights of {first}' in (second / 'manifest.yaml').read_text()
    torch.save({'network': {'bias': torch.zeros(3)}}, first / 'best.pt')
    assert main([*command, '--out', str(tmp_path / 'third'), '--start-from', str(first)]) == 1
    said = capsys.readouterr().err
    assert 'best.pt is of another network' in said and 'Traceback' not in said


def test_a_damaged_mask_is_named(frames, tmp_path, capsys):
    mask = frames / 'train' / 'masks' / '000003.png'
    whole = mask.read_bytes()
    mask.write_bytes(whole[:100])
    try:
        assert main(['train', 'scene', str(frames), '--out', str(tmp_path)]) == 1
    finally:
        mask.write_bytes(whole)
    said = capsys.readouterr().err
    assert '000003.png' in said and 'Traceback' not in said
