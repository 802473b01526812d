"""Torchvision's classifiers through our loader, beside torchvision's own preprocessing."""

from dataclasses import replace

import numpy as np
from perception_nodes.backends.registry import load_model
import pytest

torch = pytest.importorskip('torch')
torchvision = pytest.importorskip('torchvision')
backend = pytest.importorskip('perception_nodes.backends.torchvision_classification')

pytestmark = pytest.mark.slow

PRESET = {
    'width': 224, 'height': 224, 'resize': 'center_crop', 'crop_fraction': 0.875,
    'mean': (123.675, 116.28, 103.53), 'std': (58.395, 57.12, 57.375)}


def seeded(architecture, classes=4):
    """Return the network with weights that tell pictures apart."""
    torch.manual_seed(7)
    network = torchvision.models.get_model(architecture, weights=None, num_classes=classes)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.inference_mode():  # statistics of noise keep the features in range
            network.train()(torch.randn(4, 3, 224, 224))
    last = list(network.parameters())[-2]
    last.data *= 20.0  # answers far from even
    return network.eval()


@pytest.fixture(scope='module')
def resnet(tmp_path_factory, make_entry):
    """Return the network and the entry of its saved weights."""
    network = seeded('resnet18')
    path = tmp_path_factory.mktemp('resnet') / 'weights.pth'
    # as the oldest published files are: without counts of batches
    torch.save({name: value for name, value in network.state_dict().items()
                if not name.endswith('num_batches_tracked')}, path)
    return network, make_entry(
        path, 'torchvision', 'resnet18', 4, task='classification', **PRESET)


def test_scores_are_those_of_torchvisions_own_transforms(resnet, photo, place):
    """Resize, crop, normalise, network, softmax; to the difference between two resamplings."""
    network, entry = resnet
    frames = [photo, np.ascontiguousarray(np.kron(photo, np.ones((5, 5, 1), np.uint8)))]
    transforms = torchvision.transforms._presets.ImageClassification(crop_size=224)
    with torch.inference_mode():
        theirs = [network(transforms(torch.tensor(frame).permute(2, 0, 1))[None]).softmax(1)[0]
                  for frame in frames]
    ours = load_model(entry, place).predict(frames)
    for found, expected in zip(ours, theirs, strict=True):
        assert found.scores == pytest.approx(expected.numpy()[found.class_ids], abs=0.05)
        assert (np.diff(found.scores) <= 0).all()
        assert found.scores[0] > 0.4
    stretched = replace(entry, input=replace(entry.input, resize='stretch'))
    other, = load_model(stretched, place).predict(frames[1:])
    assert np.abs(other.scores - theirs[1].numpy()[other.class_ids]).max() > 0.1
    alone, = load_model(entry, place).predict(frames[1:])
    assert alone.scores == pytest.approx(ours[1].scores, abs=1e-3)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize('architecture', [
    'mobilenet_v3_small', 'efficientnet_b0', 'squeezenet1_1', 'shufflenet_v2_x0_5', 'googlenet'])
def test_other_families_load_and_answer(architecture, tmp_path, photo, make_entry):
    """Auxiliary outputs of training do not get in the way."""
    path = tmp_path / 'weights.pth'
    torch.save(seeded(architecture).state_dict(), path)
    entry = make_entry(path, 'torchvision', architecture, 4, task='classification', **PRESET)
    found, = load_model(entry, 'cpu').predict([photo])
    assert sorted(found.class_ids.tolist()) == [0, 1, 2, 3]
    assert found.scores.sum() == pytest.approx(1.0)


def test_a_densenet_as_it_was_published_loads(tmp_path, make_entry):
    """Its file is older than the names of its tensors."""
    with backend.Uninitialised():
        state = torchvision.models.densenet121(num_classes=4).state_dict()
    renamed = {backend._OLD_DENSENET.sub(r'\1\2.', name): value for name, value in state.items()}
    assert renamed.keys() == state.keys()
    old = {name.replace('norm1.', 'norm.1.').replace('conv1.', 'conv.1.')
           .replace('norm2.', 'norm.2.').replace('conv2.', 'conv.2.')
           if 'denselayer' in name else name: torch.ones_like(value)
           for name, value in state.items()}
    path = tmp_path / 'weights.pth'
    torch.save(old, path)
    assert load_model(make_entry(path, 'torchvision', 'densenet121', 4, task='classification',
                                 width=32, height=32), 'cpu')


@pytest.mark.parametrize(('changes', 'sentence'), [
    ({'class_names': {0: 'a', 1: 'b'}}, 'the network has 4 classes, but the manifest names 2'),
    ({'architecture': 'resnet34'}, 'the weights are not those of resnet34'),
    ({'architecture': 'resnet19'}, "did you mean 'resnet1"),
    ({'architecture': 'ssd300_vgg16'}, 'torchvision has no classifier'),
])
def test_weights_that_are_not_the_manifests_are_refused(resnet, changes, sentence):
    """The sentence names what is there and what was expected."""
    with pytest.raises(ValueError) as caught:
        load_model(replace(resnet[1], **changes), 'cpu')
    assert sentence in str(caught.value)
    assert "model 'mine'" in str(caught.value)


def test_a_size_that_the_network_cannot_take_is_a_sentence(tmp_path, make_entry):
    """Transformers have one size, and torch says so with an assertion."""
    with backend.Uninitialised():
        network = torchvision.models.vit_b_32(num_classes=3)
    path = tmp_path / 'weights.pth'
    torch.save(network.state_dict(), path)
    entry = make_entry(path, 'torchvision', 'vit_b_32', 3, task='classification', **PRESET)
    with pytest.raises(ValueError, match="'mine': vit_b_32 does not take images of 96x96 pixels"):
        load_model(entry, 'cpu', input_size=(96, 96))


def test_a_poisoned_checkpoint_is_refused_and_nothing_runs(tmp_path, make_entry, poison):
    """A classifier's file is opened as carefully as a detector's."""
    victim, path = tmp_path / 'victim', tmp_path / 'poisoned.pth'
    torch.save({'fc.weight': poison(victim)}, path)
    with pytest.raises(ValueError, match='poisoned.pth was not opened'):
        load_model(make_entry(path, 'torchvision', 'resnet18', task='classification'), 'cpu')
    assert not victim.exists()
