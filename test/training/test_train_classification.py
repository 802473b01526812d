"""Training a classifier, from pictures to a model that the node loads by name."""

import cv2
import numpy as np
from perception_nodes.cli.main import main
from perception_nodes.core.manifest import find_model
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('safetensors')
from perception_nodes.backends.networks.lenet import LeNet5  # noqa: E402
from perception_nodes.backends.preprocess import network_input  # noqa: E402
from perception_nodes.backends.registry import load_model  # noqa: E402
from perception_nodes.training import classification  # noqa: E402
from perception_nodes.training.augmentation import Strength  # noqa: E402

pytestmark = pytest.mark.slow

SPEC = classification.DIGITS_INPUT


def picture(side, rng):
    """Return a noisy picture that is bright on one side: 0 left, 1 right, 2 nowhere."""
    pixels = rng.integers(0, 60, (40, 50, 3)).astype(np.uint8)
    if side < 2:
        pixels[:, 25 * side:25 * (side + 1)] += 150
    return pixels


@pytest.fixture
def folder(tmp_path):
    """Write 20 pictures of each of three classes."""
    rng = np.random.default_rng(4)
    for side, name in enumerate(('a_left', 'b_right', 'c_none')):
        (tmp_path / 'sides' / name).mkdir(parents=True)
        for i in range(20):
            cv2.imwrite(str(tmp_path / 'sides' / name / f'{i:02}.png'), picture(side, rng))
    return tmp_path / 'sides'


def train(dataset, out, *flags):
    """Run the command as a user does; return its exit code."""
    return main(['train', 'classification', str(dataset), '--out', str(out), *flags])


def test_pictures_become_a_model_that_is_loaded_by_name(folder, tmp_path):
    """New pictures of the same kinds are told apart; the manifest says what there is to know."""
    out = tmp_path / 'out'
    assert train(folder, out, '--epochs', '5', '--batch-size', '4', '--average', '0.8') == 0
    entry = find_model('sides_lenet5', 'classification', str(out / 'manifest.yaml'))
    assert (entry.backend, entry.architecture) == ('own', 'lenet5')
    assert entry.class_names == {0: 'a_left', 1: 'b_right', 2: 'c_none'}
    assert entry.quality[0]['value'] == 1.0
    assert entry.training['seed'] == 0
    assert (out / 'sides_lenet5.md').read_text().startswith('# sides_lenet5')
    rng = np.random.default_rng(99)
    answers = load_model(entry, 'cpu').predict([picture(side, rng) for side in (2, 0, 1, 1)])
    assert [answer.class_ids[0] for answer in answers] == [2, 0, 1, 1]


def test_a_training_begins_with_the_weights_of_another_model():
    """All but the last layer stays as it was while it is frozen."""
    with torch.random.fork_rng():
        network = LeNet5(3)
        state = {name: torch.full_like(value, 0.25)
                 for name, value in LeNet5(7).state_dict().items()}
        classification.start_from(network, state, 'lenet5')
    assert classification.last_layer(network) == 'output.'
    for name, value in network.state_dict().items():
        assert bool((value == 0.25).all()) == (not name.startswith('output.'))
    with pytest.raises(ValueError, match='the weights are not those of lenet5: 1 of its'):
        classification.start_from(
            network, {n: v for n, v in state.items() if n != 'c1.bias'}, 'lenet5')
    examples = [classification.Digit(picture(0, np.random.default_rng(0)), 0)]
    task = classification.ClassificationTask(
        network, examples, examples, 3, SPEC, Strength(), frozen_epochs=2)
    new, pretrained = task.parameters()
    assert {id(p) for p in new} == {id(p) for p in network.output.parameters()}
    for epoch, learns in ((0, False), (1, False), (2, True)):
        next(task.batches(epoch, 1, np.random.default_rng(0)))
        assert {p.requires_grad for p in pretrained} == {learns}
        assert all(p.requires_grad for p in new)


def test_views_without_augmentation_are_what_the_node_sees():
    """The same pixels as of the model's own way in, whatever the picture's size."""
    rng = np.random.default_rng(1)
    examples = [classification.Digit(picture(i, rng), i) for i in range(3)]
    task = classification.ClassificationTask(LeNet5(3), examples, examples, 3, SPEC, Strength())
    (images, shares), = task.batches(0, 3, np.random.default_rng(0))
    for image, share in zip(images.numpy(), shares.numpy(), strict=True):
        expected, _ = network_input(examples[int(share.argmax())].pixels, SPEC)
        assert image == pytest.approx(expected, abs=2 / 200)
        assert sorted(share.tolist()) == [0.0, 0.0, 1.0]


def test_mixed_pictures_have_the_shares_of_both():
    """Half and half, also when a picture meets its own class."""
    rng = np.random.default_rng(1)
    examples = [classification.Digit(picture(i, rng), i) for i in range(3)]
    task = classification.ClassificationTask(
        LeNet5(3), examples, examples, 3, SPEC, Strength(mixup=1.0))
    (_, shares), = task.batches(0, 3, np.random.default_rng(0))
    assert shares.sum(1).tolist() == [1.0] * 3
    assert set(shares.unique().tolist()) <= {0.0, 0.5, 1.0}


def test_every_class_is_in_both_parts():
    """With its own share, however rare it is."""
    ids = [0] * 50 + [1] * 10
    train_rows, val_rows = classification.held_out(ids, 0.2, 3)
    assert sorted([*train_rows, *val_rows]) == list(range(60))
    assert np.bincount(np.array(ids)[val_rows]).tolist() == [10, 2]
    assert [*classification.held_out(ids, 0.2, 3)[1]] == [*val_rows]
    assert [*classification.held_out(ids, 0.2, 4)[1]] != [*val_rows]
    with pytest.raises(ValueError, match='0 of the 2 pictures of class 1 would be held out'):
        classification.held_out([0, 0, 0, 0, 0, 0, 1, 1], 0.2, 0)


def test_digits_are_white_on_black_and_clear_of_the_border():
    """1797 of them; their black and white are the network's -0.1 and 1.175."""
    pytest.importorskip('sklearn')
    found = classification.digits()
    assert np.bincount([digit.class_id for digit in found]).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    pixels, _ = network_input(found[0].rgb(), SPEC)
    assert pixels.shape == (3, 32, 32)
    assert pixels.min() == pytest.approx(-0.1)
    assert pixels.max() == pytest.approx(1.175, abs=0.1)
    assert (pixels[:, :4] == pixels.min()).all() and (pixels[:, :, -4:] == pixels.min()).all()


def test_lenet_reads_digits(tmp_path):
    """The worked example, cut short."""
    pytest.importorskip('sklearn')
    assert train('digits', tmp_path, '--epochs', '2', '--average', '0.9') == 0
    entry = find_model('digits_lenet5', 'classification', str(tmp_path / 'manifest.yaml'))
    assert entry.quality[0]['value'] > 0.8
    zero, one = (next(d for d in classification.digits() if d.class_id == i) for i in (0, 1))
    answers = load_model(entry, 'cpu').predict([zero.rgb(), one.rgb()])
    assert [answer.class_ids[0] for answer in answers] == [0, 1]


def test_bad_input_is_a_sentence_before_anything_is_trained(folder, tmp_path, capsys):
    """The file, the class or the name that is wrong; nothing is half-written."""
    out = tmp_path / 'out'
    assert train(folder, out, '--architecture', 'lenet6') != 0
    assert "no architecture 'lenet6'; choose one of lenet5" in capsys.readouterr().err
    assert train(tmp_path / 'absent', out) != 0
    assert 'there is no folder' in capsys.readouterr().err
    (folder / 'a_left' / '00.png').write_bytes(b'no picture')
    assert train(folder, out) != 0
    assert 'a_left/00.png' in capsys.readouterr().err
    assert not (out / 'manifest.yaml').exists()
