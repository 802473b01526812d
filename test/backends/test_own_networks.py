"""Our own networks: what the papers say of them, and their way into a node."""

from dataclasses import replace

import numpy as np
from perception_nodes.backends.preprocess import network_input
from perception_nodes.backends.registry import load_model
import pytest

torch = pytest.importorskip('torch')
networks = pytest.importorskip('perception_nodes.backends.networks')
safetensors = pytest.importorskip('safetensors.torch')
from perception_nodes.backends.device_network import DeviceInput  # noqa: E402
from perception_nodes.backends.networks import fcn, lenet, segnet  # noqa: E402
from torch import nn  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Leave the machine to others."""
    torch.set_num_threads(1)


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def meta(build, *args):
    """Build a network without memory for its weights."""
    with torch.device('meta'):
        return build(*args)


def test_segnet_has_the_size_that_the_paper_states():
    """29.45 million, of 26 convolutions; the small one fits a robot."""
    network = meta(segnet.SegNet, 11)
    assert parameters(network) == pytest.approx(29.45e6, rel=1e-3)
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 26
    assert parameters(meta(segnet.segnet_small, 11)) < 0.15e6


def test_lenet_has_the_parameters_that_the_paper_counts():
    """156, 12, 1516, 32, 48120 and 10164 by layer; the output is ours."""
    network = meta(lenet.LeNet5)
    layers = (network.c1, network.s2, network.c3, network.s4, network.c5, network.f6)
    assert [parameters(layer) for layer in layers] == [156, 12, 1516, 32, 48120, 10164]
    assert network(torch.zeros(2, 3, 32, 32, device='meta')).shape == (2, 10)
    assert lenet.squash(torch.tensor([1.0, -1.0, 1e3])).tolist() == pytest.approx(
        [1, -1, 1.7159], abs=1e-4)


def test_c3_sees_the_maps_of_the_papers_table():
    """Column by column; every map of S2 is used ten times."""
    inputs = lenet._C3_INPUTS
    assert inputs[:2] == ((0, 1, 2), (1, 2, 3))
    assert [sorted(i) for i in inputs[9:12]] == [[0, 3, 4, 5], [0, 1, 4, 5], [0, 1, 2, 5]]
    assert [sorted(i) for i in inputs[12:]] == [
        [0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5], [0, 1, 2, 3, 4, 5]]
    counts = np.bincount([i for maps in inputs for i in maps])
    assert counts.tolist() == [10] * 6


class Identity(nn.Sequential):
    """A stage that changes nothing."""


@pytest.mark.parametrize('shape', [(8, 8), (7, 9), (5, 6)])
def test_unpooling_puts_each_maximum_back_where_it_was(shape):
    """With convolutions that do nothing, the maxima stay in place and the rest becomes 0."""
    network = segnet.SegNet(3, ((3, 1),))
    network.encoder[0] = network.decoder[0] = Identity()
    network.classifier = Identity()
    image = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(1)) + 1
    out = network(image)
    assert out.shape == image.shape
    kept = out != 0
    assert torch.equal(out[kept], image[kept])
    for top in range(0, shape[0], 2):
        for left in range(0, shape[1], 2):
            cell = (..., slice(top, top + 2), slice(left, left + 2))
            assert (kept[cell].sum((-2, -1)) == 1).all()
            assert torch.equal(out[cell].amax((-2, -1)), image[cell].amax((-2, -1)))


@pytest.mark.parametrize(('architecture', 'stride'), [
    ('segnet', 1), ('segnet_small', 1), ('fcn8s_resnet18', 8), ('fcn8s_mobilenet_v3_small', 8)])
def test_sizes_that_no_stride_divides(architecture, stride):
    """SegNet gives every pixel a score, the FCN every eighth, on any device."""
    network = meta(networks.NETWORKS['segmentation'][architecture], 5)
    for height, width in ((97, 131), (64, 96), (33, 200)):
        out = network(torch.zeros(1, 3, height, width, device='meta'))
        assert out.shape == (1, 5, -(-height // stride), -(-width // stride))


def test_an_fcn_begins_with_its_coarse_answer_and_learns_from_its_skips():
    """The scores of strides 16 and 8 are 0 at first; each gets a gradient."""
    network = fcn.Fcn8s(4, 'resnet18').eval()
    image = torch.rand(1, 3, 64, 64)
    scores = network(image)
    assert [len(network.parts), scores.shape] == [3, (1, 4, 8, 8)]
    features = image
    for part, stride in zip(network.parts, fcn.STRIDES, strict=True):
        features = part(features)
        assert features.shape[2] == 64 // stride
    coarse = network.score_32(features)
    rounding = 1e-5  # enlarging weighs neighbours by shares whose sum is 1 only nearly
    assert coarse.min() - rounding <= scores.min() and scores.max() <= coarse.max() + rounding
    scores.square().sum().backward()
    for layer in (network.score_8, network.score_16, network.score_32):
        assert layer.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('backbone', fcn.BACKBONES)
def test_every_backbone_is_cut_at_the_three_strides(backbone):
    """Whatever the layers of its family are called."""
    network = meta(fcn.Fcn8s, 2, backbone)
    x = torch.zeros(1, 3, 96, 64, device='meta')
    for part, stride in zip(network.parts, fcn.STRIDES, strict=True):
        x = part(x)
        assert x.shape[2:] == (96 // stride, 64 // stride)


@pytest.fixture(scope='module')
def small(tmp_path_factory, make_entry):
    """Return a small SegNet with seeded weights, and the entry of its file."""
    torch.manual_seed(2)
    network = segnet.segnet_small(3)
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 1.0
    with torch.inference_mode():  # statistics of noise keep the features in range
        network(torch.randn(2, 3, 48, 64))
    network.eval()
    path = tmp_path_factory.mktemp('segnet') / 'small.safetensors'
    safetensors.save_file(network.state_dict(), path)
    return network, make_entry(
        path, 'own', 'segnet_small', 3, task='segmentation', width=64, height=48,
        mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


def test_masks_come_at_the_size_of_each_frame(small, photo, place):
    """They are what torch's interpolation of the logits gives; so is the confidence."""
    network, entry = small
    frames = [photo, photo[:31, :45]]
    masks = load_model(entry, place).predict(frames, confidence=True)
    near = 1e-3 if place == 'cpu' else 1e-2  # sums in another order
    gaps = []
    for mask, frame in zip(masks, frames, strict=True):
        pixels = torch.tensor(network_input(frame, entry.input)[0][None])
        if place != 'cpu':  # where the resized image is not rounded to 8 bits
            pixels = DeviceInput(entry.input)(torch.tensor(frame)[None])
        with torch.inference_mode():
            logits = network(pixels)
            scores = nn.functional.interpolate(
                logits, frame.shape[:2], mode='bilinear')[0].softmax(0)
        assert mask.ids.shape == frame.shape[:2]
        assert mask.ids.dtype == np.uint8
        gaps.append(np.subtract(*scores.topk(2, dim=0).values.numpy()))
        differs = mask.ids != scores.argmax(0).numpy()
        assert (gaps[-1][differs] < 2 * near).all() and differs.mean() < 0.01
        assert len(np.unique(mask.ids)) > 1
        assert mask.confidence == pytest.approx(scores.amax(0).numpy(), abs=near)
    alone, = load_model(entry, place).predict(frames[1:])
    differs = alone.ids != masks[1].ids
    assert (gaps[1][differs] < 2 * near).all() and differs.mean() < 0.01
    assert alone.confidence is None


@pytest.mark.parametrize(('changes', 'sentence'), [
    ({'class_names': {0: 'a', 1: 'b'}},
     'the network has 3 classes, but the manifest names 2 with ids from 0 to 1'),
    ({'architecture': 'segnet'}, 'the weights are not those of segnet: '),
    ({'architecture': 'segnet_smal'}, "did you mean 'segnet_small'?"),
    ({'architecture': 'deeplab'}, 'there are segnet, segnet_small, fcn8s_vgg16'),
    ({'architecture': 'lenet5', 'task': 'classification'}, 'the weights are not those of lenet5'),
])
def test_weights_that_are_not_the_manifests_are_refused(small, changes, sentence):
    """The sentence names what is there and what was expected."""
    with pytest.raises(ValueError) as caught:
        load_model(replace(small[1], **changes), 'cpu')
    assert sentence in str(caught.value)
    assert "model 'mine'" in str(caught.value)


def test_a_tensor_that_is_missing_is_named(small, tmp_path, make_entry):
    """Nothing is loaded in parts."""
    state = safetensors.load_file(small[1].path)
    del state['encoder.1.0.0.weight']
    safetensors.save_file(state, tmp_path / 'cut.safetensors')
    entry = make_entry(tmp_path / 'cut.safetensors', 'own', 'segnet_small', 3,
                       task='segmentation')
    with pytest.raises(ValueError, match=r'1 of its \d+ tensors are missing and 0 are unknown, '
                       'for example encoder.1.0.0.weight'):
        load_model(entry, 'cpu')


def test_a_lenet_is_loaded_by_name(tmp_path, make_entry, place):
    """It takes 32x32 pixels, and says so."""
    torch.manual_seed(1)
    network = lenet.LeNet5(4)
    safetensors.save_file(network.state_dict(), tmp_path / 'lenet.safetensors')
    entry = make_entry(tmp_path / 'lenet.safetensors', 'own', 'lenet5', 4, task='classification',
                       width=32, height=32, std=(255, 255, 255))
    picture = np.full((64, 64, 3), 255, np.uint8)
    found, = load_model(entry, place).predict([picture])
    with torch.inference_mode():
        expected = network(torch.ones(1, 3, 32, 32)).softmax(1)[0].numpy()
    assert found.scores == pytest.approx(expected[found.class_ids], abs=1e-5)
    with pytest.raises(ValueError, match='lenet5 does not take images of 64x64 pixels'):
        load_model(entry, 'cpu', input_size=(64, 64))
