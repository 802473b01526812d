"""Torchvision's own segmenters beside our backend."""

from dataclasses import replace

import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.core.manifest import find_model
import pytest

torch = pytest.importorskip('torch')
torchvision = pytest.importorskip('torchvision')
backend = pytest.importorskip('perception_nodes.backends.torchvision_segmentation')

pytestmark = pytest.mark.slow

CLASSES = 5
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Sum in one order, in the vendor's pass as in ours."""
    torch.set_num_threads(1)


def vendor(architecture, aux_loss=None):
    """Return the network with seeded weights that see several classes."""
    torch.manual_seed(7)
    options = {} if aux_loss is None else {'aux_loss': aux_loss}
    network = torchvision.models.get_model(
        architecture, weights=None, weights_backbone=None, num_classes=CLASSES, **options)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.inference_mode():  # statistics of noise keep the features in range
        network.train()(torch.randn(2, 3, 96, 96))
    return network.eval().to(memory_format=torch.channels_last)


@pytest.fixture
def saved(tmp_path, make_entry):
    """Return a function that writes a network and returns its entry."""
    def save(network, architecture):
        torch.save(network.state_dict(), tmp_path / 'weights.pth')
        entry = make_entry(
            tmp_path / 'weights.pth', 'torchvision', architecture, width=128, height=96,
            mean=MEAN, std=STD, resize='letterbox')
        return replace(entry, task='segmentation',
                       class_names={i: f'class {i}' for i in range(CLASSES)})
    return save


def their_scores(network, rgb):
    """Return torchvision's scores, (C, H, W) at the size of the image."""
    pixels = (torch.tensor(rgb).permute(2, 0, 1)[None].float() - torch.tensor(MEAN).view(3, 1, 1))
    pixels = (pixels / torch.tensor(STD).view(3, 1, 1)).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        return network(pixels)['out'][0].numpy()


@pytest.mark.parametrize(('architecture', 'aux_loss'), [
    ('lraspp_mobilenet_v3_large', None), ('deeplabv3_mobilenet_v3_large', True),
    ('fcn_resnet50', True)])
def test_masks_are_those_of_torchvision_itself(photo, saved, place, architecture, aux_loss):
    """The same picture through the vendor's forward pass, its interpolation included."""
    network = vendor(architecture, aux_loss)
    scores = their_scores(network, photo)
    mask, = load_model(saved(network, architecture), place).predict([photo], confidence=True)
    slack = 1 if place == 'cpu' else 100  # sums in another order
    best, second = np.sort(scores, axis=0)[:-3:-1]
    differs = mask.ids != scores.argmax(axis=0)
    assert (best - second)[differs].max(initial=0.0) < 1e-4 * slack
    assert differs.mean() < 0.01
    assert len(np.unique(mask.ids)) > 1
    theirs = torch.tensor(scores).softmax(dim=0).amax(dim=0).numpy()
    np.testing.assert_allclose(mask.confidence, theirs, atol=1e-4 * slack)


def test_any_input_size_and_any_proportions(photo, saved):
    """Frames keep their size, whatever the network's; bars are not computed."""
    entry = saved(vendor('lraspp_mobilenet_v3_large'), 'lraspp_mobilenet_v3_large')
    model = load_model(entry, 'cpu', input_size=(50, 70))
    wide, tall = model.predict([photo, photo[:, :30]])
    assert wide.ids.shape == photo.shape[:2]
    assert tall.ids.shape == (96, 30)


@pytest.mark.parametrize(('changes', 'sentence'), [
    ({'architecture': 'lraspp_mobilenet'}, "'lraspp_mobilenet'; did you mean 'lraspp_mob"),
    ({'architecture': 'fcn_resnet50'}, 'the weights are not those of fcn_resnet50'),
    ({'class_names': {0: 'a', 1: 'b'}}, 'the network has 5 classes, but the manifest names 2'),
])
def test_weights_that_are_not_the_manifests_are_refused(saved, changes, sentence):
    """A sentence, before anything is computed."""
    entry = saved(vendor('lraspp_mobilenet_v3_large'), 'lraspp_mobilenet_v3_large')
    with pytest.raises(ValueError, match=sentence):
        load_model(replace(entry, **changes), 'cpu')


def test_a_poisoned_file_is_refused_and_nothing_runs(tmp_path, make_entry, poison):
    """A segmenter's file is opened as carefully as a detector's."""
    victim, path = tmp_path / 'victim', tmp_path / 'poisoned.pth'
    torch.save({'classifier.4.weight': poison(victim)}, path)
    entry = replace(make_entry(path, 'torchvision', 'fcn_resnet50'), task='segmentation')
    with pytest.raises(ValueError, match='poisoned.pth was not opened'):
        load_model(entry, 'cpu')
    assert not victim.exists()


@pytest.mark.parametrize('weights', [
    'LRASPP_MobileNet_V3_Large_Weights', 'DeepLabV3_MobileNet_V3_Large_Weights',
    'FCN_ResNet50_Weights'])
def test_the_shipped_entries_are_what_torchvision_publishes(weights):
    """Address, classes and normalisation, from its own table."""
    theirs = getattr(torchvision.models.segmentation, weights).COCO_WITH_VOC_LABELS_V1
    name = next(n for n in backend.architectures()
                if torchvision.models.get_model_weights(n) is type(theirs))
    entry = find_model(name, 'segmentation')
    assert entry.url == theirs.url
    assert entry.sha256 in theirs.url
    names = list(theirs.meta['categories'])
    assert entry.class_names == {0: 'background'} | dict(enumerate(names[1:], 1))
    preset = theirs.transforms()
    assert entry.input.mean == pytest.approx([255 * m for m in preset.mean])
    assert entry.input.std == pytest.approx([255 * s for s in preset.std])
    assert entry.input.height == preset.resize_size[0]
