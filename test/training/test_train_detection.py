"""One command from labelled pictures to a model that nodes load by name."""

import json
from pathlib import Path

from perception_nodes.cli.main import main
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('onnx')
from perception_nodes.backends.registry import load_model  # noqa: E402
from perception_nodes.core.detection import DetectionParams, ObjectDetector  # noqa: E402
from perception_nodes.core.manifest import find_model, ModelInput  # noqa: E402
from perception_nodes.evaluation.box_formats import read_boxes  # noqa: E402
from perception_nodes.training import loop  # noqa: E402
from perception_nodes.training.augmentation import STRENGTHS  # noqa: E402
from perception_nodes.training.detection import DetectionTask, MEAN, STD  # noqa: E402

pytestmark = pytest.mark.slow

SMALL = ('--width', '64', '--height', '48', '--device', 'cpu')


def train(dataset, out, *words):
    return main(['train', 'detection', str(dataset), '--out', str(out), *SMALL, *words])


def sentence(capsys):
    """Return what was said last; never a traceback."""
    said = capsys.readouterr().err
    assert 'Traceback' not in said
    return said.strip().splitlines()[-1]


@pytest.mark.timeout(600)
def test_squares_are_found_after_training(squares, tmp_path, capsys):
    """AP rises from nothing, and the exported model finds what it was taught."""
    out, dataset = tmp_path / 'out', squares(24)
    words = ('--epochs', '24', '--batch-size', '6', '--views', '4', '--validate-every', '12',
             '--val-share', '0.25', '--learning-rate', '0.004', '--frozen-epochs', '3')
    assert train(dataset, out, *words) == 0
    said = capsys.readouterr().err
    assert 'before training: AP 0, AP50 0' in said
    entry = find_model('squares_detector', 'detection', str(out / 'manifest.yaml'))
    assert entry.class_names == {0: 'red', 1: 'blue'}
    assert entry.licence == 'Apache-2.0'
    assert {row['metric']: row['value'] for row in entry.quality}['AP50'] > 0.5
    assert 'differs from the network by at most' in (out / 'squares_detector.md').read_text()
    image = read_boxes(dataset, 'train').images[1]
    detector = ObjectDetector(load_model(entry, 'cpu'), DetectionParams(score_threshold=0.05))
    found = detector.detect([image.rgb()])[0]
    assert found.class_ids[0] == 1
    assert abs(found.boxes_xyxy[0] - image.labels.boxes_xyxy[0]).max() < 6.0
    history = [json.loads(line) for line in (out / 'history.jsonl').open()]
    assert len(history) == 24
    # the second start finds everything done
    assert train(dataset, out, *words) == 0
    assert len((out / 'history.jsonl').read_text().splitlines()) == 24


def test_folds_are_reported(squares, tmp_path, capsys):
    out = tmp_path / 'out'
    assert train(squares(9), out, '--folds', '3', '--epochs', '1', '--batch-size', '6') == 0
    shown = capsys.readouterr().out
    assert 'AP50: 0.000 ± 0.000 over 3 folds' in shown
    values = json.loads((out / 'folds.json').read_text())
    assert values['n'] == 9 and values['folds'] == 3
    assert {'AP_mean', 'AP_std', 'AP_fold_3', 'AP50_mean'} <= values.keys()
    assert not (out / 'manifest.yaml').exists()


def damage_picture(root):
    (root / 'images' / '03.png').write_bytes(b'\x89PNG')
    return '03.png cannot be read as a picture'


def strange_class(root):
    file = root / 'instances.json'
    file.write_text(file.read_text().replace('"category_id": 7', '"category_id": 8', 1))
    return 'instances.json: annotation 1 has class id 8'


def no_boxes(root):
    file = root / 'instances.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {'annotations': []}))
    return 'instances.json has no boxes to learn from'


@pytest.mark.parametrize('harm', [damage_picture, strange_class, no_boxes])
def test_broken_data_is_named_before_training(squares, tmp_path, capsys, harm):
    dataset = squares(6)
    expected = harm(dataset)
    assert train(dataset, tmp_path / 'out', '--epochs', '1') == 1
    assert expected in sentence(capsys)
    assert not (tmp_path / 'out').exists(), 'nothing is half-written'


def test_a_split_of_other_classes_is_named(squares, tmp_path, capsys):
    squares(4, split='train')
    dataset = squares(4, names=('red', 'green'), split='val')
    assert train(dataset, tmp_path / 'out') == 1
    assert 'val/instances.json has 1 class(es) that the model does not know: green' in sentence(
        capsys)


def test_an_empty_split_is_named(squares, tmp_path, capsys):
    squares(4, split='train')
    (tmp_path / 'squares' / 'val').mkdir()
    assert train(tmp_path / 'squares', tmp_path / 'out') == 1
    assert 'val/instances.json' in sentence(capsys)
    assert train(squares(4, split='other') / 'other', tmp_path / 'out', '--val-share', '0.01') == 1
    assert '0 of 4 pictures (or scenes) would be held out' in sentence(capsys)
    assert train(tmp_path / 'nowhere', tmp_path / 'out') == 1
    assert 'there is no data set' in sentence(capsys)


MANIFEST = """
models:
  - {name: squares_detector, task: detection, backend: onnxruntime, architecture: x, domain: real,
     file: a.onnx, sha256: '%s', licence: MIT, classes: {0: cat}, input: {width: 64, height: 48}}
""" % ('0' * 64)


def test_a_manifest_of_other_classes_is_named(squares, tmp_path, capsys):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'manifest.yaml').write_text(MANIFEST)
    assert train(squares(6), out) == 1
    assert ("manifest.yaml has a model 'squares_detector' whose classes are cat, but the data "
            'set has red, blue') in sentence(capsys)
    assert [path.name for path in out.iterdir()] == ['manifest.yaml']


def test_a_poisoned_checkpoint_is_named_and_not_executed(squares, tmp_path, capsys):
    class Poison:
        def __reduce__(self):
            import os
            return os.system, (f'touch {tmp_path / "harm"}',)

    out = tmp_path / 'out'
    out.mkdir()
    torch.save({'network': Poison()}, out / 'checkpoint.pt')
    assert train(squares(6), out, '--batch-size', '4') == 1
    assert f'{out / "checkpoint.pt"} is no checkpoint of a training' in sentence(capsys)
    assert not (tmp_path / 'harm').exists()


def task_of(dataset, **changes):
    whole = read_boxes(dataset, 'train').with_classes_of({0: 'red', 1: 'blue'})
    said = {'frozen_epochs': 2, 'seed': 0} | changes
    return DetectionTask(whole, whole, ModelInput(64, 48, mean=MEAN, std=STD),
                         STRENGTHS['strong'], **said)


def test_pretrained_layers_wait(squares):
    """The early trunk never learns, the late one after the first epochs."""
    import numpy as np
    task = task_of(squares(6))
    new, late = task.parameters()
    assert new and late
    device = torch.device('cpu')
    for epoch, expected in ((0, False), (1, False), (2, True)):
        batch = next(iter(task.batches(epoch, 4, np.random.default_rng(0))))
        task.network.zero_grad(set_to_none=True)
        sum(task.losses(batch, device).values()).backward()
        assert (late[0].grad is not None) == expected
        assert all(p.grad is None for p in task.network.trunk.early_parameters())
        assert task.network.pyramid.lateral[0][0].weight.grad is not None


@pytest.mark.parametrize('views', [0, 2])
def test_a_resumed_detector_is_the_same_to_the_bit(squares, tmp_path, views):
    """It stops while pretrained layers wait, and goes on until they have learned, too."""
    dataset = squares(6)
    params = loop.LoopParams(epochs=3, batch_size=3, device='cpu', validate_every=3)
    whole, stopped, resumed = (task_of(dataset, views=views) for _ in range(3))
    loop.fit(whole, params, tmp_path / 'whole')
    run = loop._Run(stopped, params, tmp_path, torch.device('cpu'), loop._settings(params, {}))
    run.resume()
    run.train_epoch()
    del run, stopped
    loop.fit(resumed, params, tmp_path)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_kept_features_teach_the_same(squares):
    """A view that is kept gives the losses of the same view computed anew, but for 16 bits."""
    dataset = squares(6)
    kept, anew = task_of(dataset, views=3), task_of(dataset, views=0)
    batch = [(0, 1), (3, 2)]
    device = torch.device('cpu')
    first, again, other = (task.losses(batch, device) for task in (kept, kept, anew))
    for name, value in first.items():
        torch.testing.assert_close(again[name], value, rtol=1e-5, atol=0.0)
        torch.testing.assert_close(other[name], value, rtol=2e-2, atol=1e-3)


def test_from_scratch_everything_learns(squares):
    task = task_of(squares(4), from_scratch=True)
    everything, nothing = task.parameters()
    assert len(everything) == len(list(task.network.parameters())) and not nothing
    sum(task.losses([(k, 0) for k in range(4)], torch.device('cpu')).values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in everything)
    assert task.network.trunk.convolutions()[0].weight.grad.norm() > 1e-6


def test_the_folder_can_be_moved(squares, tmp_path):
    """Paths in the manifest are relative: the folder can be copied to the robot."""
    out = tmp_path / 'out'
    assert train(squares(6), out, '--epochs', '1', '--batch-size', '4') == 0
    moved = out.rename(tmp_path / 'moved')
    entry = find_model('squares_detector', 'detection', str(moved / 'manifest.yaml'))
    assert entry.verified_path() == Path(moved / 'squares_detector.onnx')
