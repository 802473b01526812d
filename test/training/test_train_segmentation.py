"""Trainings for masks: balanced classes, CamVid's layout, and models that nodes load by name."""

import json
import shutil

import cv2
import numpy as np
from perception_nodes.cli.main import main
from perception_nodes.core.manifest import find_model, ModelInput
from perception_nodes.evaluation.mask_datasets import CAMVID_CLASSES, read_masks
import pytest

torch = pytest.importorskip('torch')
from perception_nodes.backends.registry import load_model  # noqa: E402
from perception_nodes.training.augmentation import STRENGTHS  # noqa: E402
from perception_nodes.training.segmentation import (  # noqa: E402
    median_frequency_weights,
    new_segmenter,
    SegmentationTask,
)

pytestmark = pytest.mark.slow


def test_rare_classes_weigh_more():
    """By hand: shares 0.9 in both pictures; 0.2 where it is; void counts nowhere."""
    first = np.zeros((10, 10), np.uint8)
    first[0] = 1
    second = np.zeros((10, 10), np.uint8)
    second[:2] = 255
    second[2] = 2
    weights = median_frequency_weights([first, second], 4)
    shares = np.array([(90 + 70) / (100 + 80), 10 / 100, 10 / 80])
    np.testing.assert_allclose(weights, [*(np.median(shares) / shares), 1.0], rtol=1e-6)
    with pytest.raises(ValueError, match='every pixel of the masks is void'):
        median_frequency_weights([np.full((4, 4), 255, np.uint8)], 2)


@pytest.fixture
def halves(tmp_path):
    """Write pictures that are dark on one side, with masks that say so."""
    rng = np.random.default_rng(0)
    root = tmp_path / 'halves'
    for folder in ('images', 'masks'):
        (root / folder).mkdir(parents=True)
    for i in range(8):
        edge = int(rng.integers(16, 48))
        rgb = rng.integers(150, 200, (48, 64, 3)).astype(np.uint8)
        rgb[:, :edge] //= 4
        ids = np.ones((48, 64), np.uint8)
        ids[:, :edge] = 0
        ids[:2] = 255
        cv2.imwrite(str(root / 'images' / f'{i}.png'), rgb)
        cv2.imwrite(str(root / 'masks' / f'{i}.png'), ids)
    (root / 'classes.txt').write_text('dark\nlight\n')
    return root


def train(dataset, out, *words):
    return main(['train', 'segmentation', str(dataset), '--out', str(out), '--width', '64',
                 '--height', '48', '--device', 'cpu', *words])


@pytest.mark.parametrize(('network', 'epochs'), [('scene', 6), ('segnet_small', 20)])
def test_halves_are_told_apart(halves, tmp_path, network, epochs):
    out = tmp_path / 'out'
    assert train(halves, out, '--network', network, '--epochs', str(epochs), '--val-share', '.25',
                 '--batch-size', '3', '--validate-every', str(epochs),
                 '--learning-rate', '0.01') == 0
    entry = find_model(f'halves_{network}', 'segmentation', str(out / 'manifest.yaml'))
    assert entry.backend == ('onnxruntime' if network == 'scene' else 'own')
    assert entry.class_names == {0: 'dark', 1: 'light'}
    rgb, truth = read_masks(halves).images[0].rgb_and_mask()
    mask = load_model(entry, 'cpu').predict([rgb])[0].ids
    counted = truth != 255
    assert (mask == truth)[counted].mean() > 0.75


def test_folds_of_masks(halves, tmp_path):
    out = tmp_path / 'out'
    assert train(halves, out, '--folds', '2', '--epochs', '1', '--batch-size', '4',
                 '--network', 'segnet_small') == 0
    assert json.loads((out / 'folds.json').read_text())['folds'] == 2


def test_a_value_outside_the_list_is_named(halves, tmp_path, capsys):
    ids = np.full((48, 64), 7, np.uint8)
    cv2.imwrite(str(halves / 'masks' / '5.png'), ids)
    assert train(halves, tmp_path / 'out') == 1
    assert '5.png has pixels of value 7, which the class list does not name' in (
        capsys.readouterr().err)
    assert not (tmp_path / 'out').exists()


def test_a_trunk_of_another_network_is_refused(halves, tmp_path, capsys):
    assert train(halves, tmp_path / 'out', '--network', 'segnet', '--start-from',
                 'resnet18') == 1
    said = capsys.readouterr().err
    assert 'Traceback' not in said and 'resnet18' in said


def test_segnet_learns_from_camvid(data_dir):
    """The paper's network on the eight pictures: the loss falls, and 11 classes are scored."""
    dataset = read_masks(data_dir / 'datasets' / 'camvid8', 'test')
    names = dict(enumerate(CAMVID_CLASSES[:-1]))
    assert dataset.class_names == names and len(names) == 11
    segmenter = new_segmenter('segnet', 11, seed=0)
    task = SegmentationTask(
        segmenter, dataset, dataset, ModelInput(64, 48, mean=segmenter.mean, std=segmenter.std),
        STRENGTHS['none'], frozen_epochs=0)
    optimizer = torch.optim.SGD(task.parameters()[0], 0.1, momentum=0.9)
    torch.set_num_threads(1)
    losses, device = [], torch.device('cpu')
    for epoch in range(4):
        for batch in task.batches(epoch, 4, np.random.default_rng(epoch)):
            optimizer.zero_grad()
            losses.append(task.losses(batch, device)['masks'])
            losses[-1].backward()
            optimizer.step()
    assert losses[0].item() == pytest.approx(np.log(11), abs=0.5), 'before: all classes alike'
    assert losses[-1] < losses[0] - 0.03
    segmenter.network.eval()
    with torch.inference_mode():
        scores = task.validate(segmenter.network, device)
    assert 0.0 <= scores['mIoU'] <= 1.0 and 0.0 < scores['pixel_accuracy'] <= 1.0


def test_camvid_trains_from_the_command_line(data_dir, tmp_path):
    """In its own layout, with a split of its own to validate on; the weights are not kept."""
    source, root = data_dir / 'datasets' / 'camvid8', tmp_path / 'camvid'
    for split in ('train', 'val'):
        shutil.copytree(source / 'test', root / split)
        shutil.copytree(source / 'testannot', root / f'{split}annot')
    out = tmp_path / 'out'
    assert train(root, out, '--network', 'segnet_small', '--epochs', '2', '--batch-size', '4') == 0
    rows = [json.loads(line) for line in (out / 'history.jsonl').open()]
    assert rows[1]['loss_masks'] < rows[0]['loss_masks']
    assert 0.0 <= rows[1]['mIoU'] <= 1.0
    entry = find_model('camvid_segnet_small', 'segmentation', str(out / 'manifest.yaml'))
    assert list(entry.class_names.values()) == list(CAMVID_CLASSES[:-1])
