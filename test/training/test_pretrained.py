"""The trunk taken from the shipped detector computes what that detector computes inside."""

import hashlib

import numpy as np
import pytest

torch = pytest.importorskip('torch')
onnx = pytest.importorskip('onnx')
import onnxruntime  # noqa: E402
from perception_nodes.backends.networks.fcn import Fcn8s  # noqa: E402
from perception_nodes.backends.networks.mobilenet_v2 import MobileNetV2  # noqa: E402
from perception_nodes.core.manifest import find_model, read_manifest  # noqa: E402
from perception_nodes.training import pretrained  # noqa: E402
from torchvision.models import get_model  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def trunk():
    network = MobileNetV2()
    pretrained.load_coco_trunk(network)
    return network.eval()


def inside(path, pixels):
    """Run the shipped file with what its layers give exposed, and return that as (C, h, w)."""
    model = onnx.load(str(path))
    names = [node.output[0] for node in model.graph.node if node.op_type in ('Add', 'Clip')]
    present = {output.name for output in model.graph.output}
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names if name not in present)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider'])
    found = session.run(names, {session.get_inputs()[0].name: pixels.transpose(0, 2, 3, 1)})
    # the file keeps features in either order
    maps = [x[0] for x in found if x.ndim == 4]
    return [*maps, *(x.transpose(2, 0, 1) for x in maps)]


def test_features_are_those_of_the_shipped_file(trunk):
    entry = find_model(pretrained.SOURCE)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (1, 3, 10, 10)).astype(np.float32)
    pixels = coarse.repeat(30, 2).repeat(30, 3)
    ours = [*trunk.early(torch.from_numpy(pixels) / 127.5 - 1.0)]
    ours += trunk.late(ours[-1])
    assert [tuple(x.shape) for x in ours] == [
        (1, 24, 75, 75), (1, 32, 38, 38), (1, 96, 19, 19), (1, 160, 10, 10)]
    theirs = inside(entry.verified_path(), pixels)
    for feature in ours:
        values = feature[0].detach().numpy()
        nearest = min(float(np.abs(values - x).max()) for x in theirs if x.shape == values.shape)
        assert nearest < 1e-4 * np.abs(values).max(), values.shape


def test_the_early_trunk_is_frozen_alone(trunk):
    network = MobileNetV2()
    pretrained.freeze_early(network)
    frozen = {id(p) for p in network.early_parameters()}
    for parameter in network.parameters():
        assert parameter.requires_grad == (id(parameter) not in frozen)


def test_a_trunk_from_scratch_keeps_the_size_of_the_signal():
    torch.manual_seed(0)
    network = MobileNetV2()
    pretrained.initialise(network)
    with torch.no_grad():
        stride_4, stride_8 = network.early(torch.randn(2, 3, 64, 64))
        stride_16, stride_32 = network.late(stride_8)
    for feature in (stride_4, stride_8, stride_16, stride_32):
        assert 0.1 < feature.std() < 30.0


def entry_of(tmp_path, state, architecture):
    torch.save(state, tmp_path / 'weights.pth')
    digest = hashlib.sha256((tmp_path / 'weights.pth').read_bytes()).hexdigest()
    (tmp_path / 'manifest.yaml').write_text(f"""
models:
  - {{name: mine, task: classification, backend: torchvision, architecture: {architecture},
     domain: real, file: weights.pth, sha256: {digest}, licence: MIT,
     classes: {{0: a}}, input: {{width: 64, height: 64}}}}
""")
    return read_manifest(tmp_path / 'manifest.yaml')['mine']


@pytest.mark.parametrize('backbone', ['resnet18', 'mobilenet_v3_small', 'vgg16_bn'])
def test_a_classifier_lends_its_trunk(tmp_path, backbone):
    """What the cut-up trunk computes is what the classifier computes before its head."""
    torch.manual_seed(1)
    classifier = get_model(backbone, weights=None).eval()
    network = Fcn8s(3, backbone).eval()
    trunk_only = {name: value for name, value in classifier.state_dict().items()
                  if name.split('.')[0] != 'classifier'}
    entry = entry_of(tmp_path, trunk_only, backbone)
    pretrained.load_classifier_trunk(network.parts, entry)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x = image
        for part in network.parts:
            x = part(x)
        seen = []
        layer = classifier.layer4 if backbone == 'resnet18' else classifier.features
        layer.register_forward_hook(lambda _, __, output: seen.append(output))
        classifier(image)
    torch.testing.assert_close(x, seen[0])


def test_another_classifier_is_refused(tmp_path):
    state = get_model('resnet18', weights=None).state_dict()
    network = Fcn8s(3, 'mobilenet_v2')
    with pytest.raises(ValueError, match="model 'mine' are not those of a mobilenet_v2: one has"):
        pretrained.load_classifier_trunk(network.parts, entry_of(tmp_path, state, 'mobilenet_v2'))
    few = dict(list(get_model('mobilenet_v2', weights=None).state_dict().items())[:12])
    with pytest.raises(ValueError, match='end after 10 of'):
        pretrained.load_classifier_trunk(network.parts, entry_of(tmp_path, few, 'mobilenet_v2'))
