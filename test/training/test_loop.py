"""The loop: what it keeps, when it stops, and that a killed run ends as if it had not been."""

from dataclasses import replace
import json
from pathlib import Path
import signal
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip('torch')
from perception_nodes.training import loop  # noqa: E402
from perception_nodes.training.loop import fit, LoopParams  # noqa: E402
from torch import nn  # noqa: E402

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from killed_training import Lines, PARAMS  # noqa: E402

pytestmark = pytest.mark.slow


def tensors_of(file):
    """Return every tensor of a checkpoint by where it is."""
    found = {}

    def walk(value, name):
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, dict):
            for key, item in value.items():
                walk(item, f'{name}/{key}')
        elif isinstance(value, list):
            for key, item in enumerate(value):
                walk(item, f'{name}/{key}')

    walk(torch.load(file, weights_only=True), '')
    return found


@pytest.mark.parametrize('epoch', [1, 4])
def test_a_killed_run_ends_with_the_same_weights(tmp_path, epoch):
    """SIGKILL in the middle of an epoch; the second start goes on and every bit is the same."""
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    task = Lines()
    best = fit(task, PARAMS, whole)
    process = subprocess.Popen(
        [sys.executable, str(HERE / 'killed_training.py'), str(killed), str(epoch)],
        stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'in the middle\n'
    process.kill()
    assert process.wait(60) == -signal.SIGKILL
    assert (killed / 'checkpoint.pt').is_file() == (epoch > 1)
    with (killed / 'history.jsonl').open('a') as history:
        history.write('{"epoch": 9, "loss')  # as if it had been killed while writing this
    resumed = Lines()
    found = fit(resumed, PARAMS, killed)
    for name in ('checkpoint.pt', 'best.pt'):
        expected, got = tensors_of(whole / name), tensors_of(killed / name)
        assert expected.keys() == got.keys() and len(expected) > 5
        for key, value in expected.items():
            assert torch.equal(value, got[key]), f'{key} of {name}'
    for key, value in task.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key]), key
    assert {k: v for k, v in found.items() if k != 'cpu_s'} == {
        k: v for k, v in best.items() if k != 'cpu_s'}
    epochs = [json.loads(line)['epoch'] for line in (killed / 'history.jsonl').open()]
    assert epochs == [1, 2, 3, 4, 5]
    assert not list(killed.glob('.*.part'))


def test_a_run_begun_on_a_cpu_goes_on_where_losses_are_scaled(tmp_path, monkeypatch):
    """As on a GPU; a checkpoint from a CPU knows no scale to go on with."""
    best = fit(Lines(), PARAMS, tmp_path)
    scaler = torch.amp.GradScaler('cpu')
    assert scaler.is_enabled()
    monkeypatch.setattr(loop.torch.amp, 'GradScaler', lambda *arguments, **named: scaler)
    assert fit(Lines(), PARAMS, tmp_path) == best


def test_a_finished_run_is_not_trained_again(tmp_path):
    best = fit(Lines(), PARAMS, tmp_path)
    files = [tmp_path / name for name in ('history.jsonl', 'checkpoint.pt', 'best.pt')]
    before = [file.read_bytes() for file in files]
    assert fit(Lines(), PARAMS, tmp_path) == best
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize(('optimizer', 'schedule'), [
    ('adamw', 'step'), ('adam', 'constant'), ('sgd', 'cosine')])
def test_losses_fall(tmp_path, optimizer, schedule):
    params = LoopParams(epochs=6, batch_size=8, device='cpu', optimizer=optimizer, average=0.0,
                        schedule=schedule, learning_rate=0.03, validate_every=4)
    fit(Lines(), params, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / 'history.jsonl').open()]
    assert rows[-1]['loss_line'] < rows[0]['loss_line'] * 0.7
    assert ['score' in row for row in rows] == [False, False, False, True, False, True]
    assert (tmp_path / 'curves.png').stat().st_size > 1000


def test_the_best_weights_are_what_is_left(tmp_path):
    """A validation that likes the second epoch best gets the second epoch's weights."""
    class Liked(Lines):
        def __init__(self):
            super().__init__()
            self.seen = []

        def validate(self, network, device):
            self.seen.append({k: v.clone() for k, v in network.state_dict().items()})
            return {'score': [0.1, 0.9, 0.5, 0.9][len(self.seen) - 1]}

    task = Liked()
    params = LoopParams(epochs=4, batch_size=8, device='cpu', learning_rate=0.05)
    assert fit(task, params, tmp_path)['epoch'] == 2
    for key, value in task.network.state_dict().items():
        assert torch.equal(value, task.seen[1][key])
    assert not task.network.training
    assert (task.seen[1]['0.weight'] != task.seen[3]['0.weight']).any()


def test_patience_ends_a_run(tmp_path):
    class Worse(Lines):
        scores = iter([0.5, 0.6, 0.6, 0.1, 0.2, 0.9])

        def validate(self, network, device):
            return {'score': next(self.scores)}

    params = LoopParams(epochs=50, batch_size=8, device='cpu', patience=3)
    assert fit(Worse(), params, tmp_path)['epoch'] == 2
    assert len((tmp_path / 'history.jsonl').read_text().splitlines()) == 5


def test_other_settings_are_refused(tmp_path):
    fit(Lines(), PARAMS, tmp_path, {'augment': 'light'})
    with pytest.raises(ValueError, match='holds a training with other settings') as error:
        fit(Lines(), replace(PARAMS, learning_rate=0.1), tmp_path, {'augment': 'light'})
    assert str(tmp_path) in str(error.value)
    with pytest.raises(ValueError, match=r'settings: augment "light" \(now "strong"\); give the'):
        fit(Lines(), PARAMS, tmp_path, {'augment': 'strong'})


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    class Broken(Lines):
        def losses(self, batch, device):
            return {'line': super().losses(batch, device)['line'] * np.nan}

    with pytest.raises(ValueError, match="epoch 1 are {'loss_line': nan}; lower learning_rate"):
        fit(Broken(), PARAMS, tmp_path)
    assert not (tmp_path / 'checkpoint.pt').exists()


def test_a_score_that_is_no_number_ends_the_run(tmp_path):
    """It would be neither better nor worse than any other: the first epoch would stay best."""
    class Unscored(Lines):
        def validate(self, network, device):
            return {'score': np.nan, 'other': 1.0}

    with pytest.raises(ValueError, match='says score nan after epoch 2; it chooses the best'):
        fit(Unscored(), PARAMS, tmp_path)


@pytest.mark.parametrize('name', ['checkpoint.pt', 'best.pt'])
def test_a_poisoned_checkpoint_is_not_executed(tmp_path, name):
    class Poison:
        def __reduce__(self):
            import os
            return os.system, (f'touch {tmp_path / "harm"}',)

    fit(Lines(), PARAMS, tmp_path)
    torch.save({'settings': '', 'network': Poison()}, tmp_path / name)
    with pytest.raises(ValueError, match=f'{name} is no checkpoint of a training, or damaged'):
        fit(Lines(), PARAMS, tmp_path)
    assert not (tmp_path / 'harm').exists()


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    """Writing stops after some bytes: the checkpoint of the epoch before is still whole."""
    save, calls = torch.save, []

    def full(state, file):
        calls.append(file)
        if len(calls) > 4:
            Path(file).write_bytes(b'half of it')
            raise OSError(28, 'No space left on device', str(file))
        save(state, file)

    monkeypatch.setattr(loop.torch, 'save', full)
    with pytest.raises(OSError, match='No space left'):
        fit(Lines(), PARAMS, tmp_path)
    monkeypatch.undo()
    assert tensors_of(tmp_path / 'checkpoint.pt')
    resumed = Lines()
    fit(resumed, PARAMS, tmp_path)
    fit(undisturbed := Lines(), PARAMS, tmp_path / 'undisturbed')
    for key, value in undisturbed.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[key])


def test_what_is_in_no_group_stays_as_it_is(tmp_path):
    class Frozen(Lines):
        def parameters(self):
            return list(self.network[3:].parameters()), []

    task = Frozen()
    before = task.network[0].weight.clone()
    fit(task, PARAMS, tmp_path)
    assert torch.equal(task.network[0].weight, before)
    assert not torch.equal(task.network[4].weight, Lines().network[4].weight)


def test_the_average_forgets_how_it_began():
    """A short training is not judged by the zeros and ones that its norms count from."""
    average, weights = [torch.ones(2)], [torch.zeros(2)]
    for step in range(1, 61):
        loop._average_of(0.998)(average, weights, torch.tensor(step))
    assert average[0].max() < 1e-6
    average = [torch.ones(2)]
    loop._average_of(0.998)(average, weights, torch.tensor(100_000))
    np.testing.assert_allclose(average[0], 0.998, atol=1e-6)


def test_norms_and_biases_do_not_decay():
    optimizer, rates = loop._optimizer(Lines(), LoopParams(weight_decay=0.5, backbone_rate=0.1))
    sizes = [(group['weight_decay'], sorted(p.ndim for p in group['params']))
             for group in optimizer.param_groups]
    assert sizes == [(0.5, [2]), (0.0, [1]), (0.5, [2]), (0.0, [1, 1, 1])]
    np.testing.assert_allclose(rates, [2e-3, 2e-3, 2e-4, 2e-4])
    assert isinstance(Lines().network[1], nn.BatchNorm1d)
