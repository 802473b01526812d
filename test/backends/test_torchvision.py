"""Torchvision's own networks beside our backend, and weights that must not be opened."""

from dataclasses import replace

import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.core.boxes import non_maximum_suppression
from perception_nodes.core.detection import DetectionParams, ObjectDetector
import pytest

torch = pytest.importorskip('torch')
torchvision = pytest.importorskip('torchvision')
backend = pytest.importorskip('perception_nodes.backends.torchvision_backend')

pytestmark = pytest.mark.slow

CLASSES = 3  # and the background


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Sum in one order, in the vendor's pass as in ours."""
    torch.set_num_threads(1)


def vendor(architecture, classes=CLASSES, **options):
    """Return the network with seeded weights that find many different boxes."""
    with backend.Uninitialised():
        network = torchvision.models.get_model(
            architecture, weights=None, weights_backbone=None, num_classes=classes + 1, **options)
    torch.manual_seed(5)
    for name, tensor in network.named_parameters():
        if tensor.ndim > 1:
            gain = 0.1 if any(part in name for part in ('pred', 'logits', 'bbox')) else 1.5
            gain = 0.4 if 'module_list' in name else gain
            tensor.data.normal_(0.0, (gain / tensor[0].numel()) ** 0.5)
        elif name.endswith('weight'):
            tensor.data.fill_(20.0 if 'scale_weight' in name else 1.0)
        else:
            tensor.data.fill_(2.0 if architecture.startswith('fcos') and 'reg' in name else 0.0)
    norms = [m for m in network.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.inference_mode():  # statistics of noise keep the features in range
            network.backbone.train()(torch.randn(2, 3, 128, 128))
    return network.eval().to(memory_format=torch.channels_last)


def channels_last(frame):
    """Return (3, H, W) in the memory order that our backend uses: same sums, same rounding."""
    pixels = torch.tensor(frame).permute(2, 0, 1)[None].float()
    return pixels.to(memory_format=torch.channels_last)[0]


def saved(network, folder, name='weights.pth'):
    """Write the weights as torchvision publishes its own."""
    torch.save(network.state_dict(), folder / name)
    return folder / name


@pytest.mark.parametrize(('architecture', 'size'), [
    ('ssdlite320_mobilenet_v3_large', (320, 320)),
    ('ssd300_vgg16', (300, 300)),
    ('fasterrcnn_mobilenet_v3_large_320_fpn', (160, 96)),
    ('maskrcnn_resnet50_fpn', (96, 64)),
    ('retinanet_resnet50_fpn', (96, 64)),
    ('fcos_resnet50_fpn', (96, 64)),
])
def test_boxes_are_those_of_torchvision_itself(
        tmp_path, photo, architecture, size, make_entry, place):
    """The same image through the vendor's forward pass, its own suppression included."""
    fixed = architecture.startswith('ssd')
    network = vendor(architecture, **({} if fixed else {
        'min_size': min(size), 'max_size': max(size)}))
    entry = make_entry(saved(network, tmp_path), 'torchvision', architecture, CLASSES,
                       width=size[0], height=size[1])
    last = getattr(network, 'roi_heads', network)
    with torch.inference_mode():
        theirs, = network([channels_last(photo) / 255])
    theirs = {name: value.numpy() for name, value in theirs.items()}
    ours, = load_model(entry, place).predict([photo])
    slack = 1 if place == 'cpu' else 100  # sums in another order
    # the vendor's thresholds, which in our backend are the caller's business
    ours = ours[ours.scores > last.score_thresh]
    ours = ours[non_maximum_suppression(
        ours.boxes_xyxy, ours.scores, ours.class_ids, last.nms_thresh, last.detections_per_img)]
    # some of its networks give boxes to the background, which no manifest names
    theirs = {name: value[theirs['labels'] > 0] for name, value in theirs.items()}
    same = ((np.abs(ours.boxes_xyxy[:, None] - theirs['boxes'][None]).max(axis=2) < 1e-3 * slack)
            & (np.abs(ours.scores[:, None] - theirs['scores'][None]) < 1e-5 * slack)
            & (ours.class_ids[:, None] == theirs['labels'][None]))
    # of equal scores at the end of a list that is full, either may have been kept
    lowest = max(ours.scores.min(), theirs['scores'].min()) + 1e-5 * slack
    assert same.any(axis=1)[ours.scores > lowest].all()
    assert same.any(axis=0)[theirs['scores'] > lowest].all()
    assert len(np.unique(ours.boxes_xyxy[ours.scores > lowest], axis=0)) >= 5


@pytest.fixture(scope='module')
def ssdlite(tmp_path_factory, make_entry):
    """Return the entry of a small network."""
    path = saved(vendor('ssdlite320_mobilenet_v3_large'), tmp_path_factory.mktemp('ssdlite'))
    return make_entry(path, 'torchvision', 'ssdlite320_mobilenet_v3_large', CLASSES,
                      width=320, height=320)


def test_frames_of_different_sizes_are_one_batch(ssdlite, photo):
    """Each gets its own boxes, in its own pixels."""
    model = load_model(ssdlite, 'cpu')
    detector = ObjectDetector(model, DetectionParams(score_threshold=0.0, max_detections=5))
    both = detector.detect([photo, photo[:48, :50]])
    for found, frame in zip(both, (photo, photo[:48, :50]), strict=True):
        alone, = detector.detect([frame])
        np.testing.assert_allclose(found.boxes_xyxy, alone.boxes_xyxy, atol=1e-2)
        assert len(found) == 5
    assert model.needs_suppression
    assert torch.get_num_threads() == 1


def test_ids_that_the_manifest_leaves_out_are_not_published(ssdlite, photo):
    """COCO's 91 columns have 11 that mean nothing."""
    gap = replace(ssdlite, class_names={1: 'one', 3: 'three'})
    found, = load_model(gap, 'cpu').predict([photo])
    assert set(found.class_ids.tolist()) == {1, 3}


def test_safetensors_are_read(ssdlite, tmp_path, photo, make_entry):
    """The same weights in the other format give the same boxes."""
    safetensors = pytest.importorskip('safetensors.torch')
    path = tmp_path / 'weights.safetensors'
    state = {k: v.contiguous() for k, v in torch.load(ssdlite.path, weights_only=True).items()}
    safetensors.save_file(state, path)
    entry = make_entry(path, 'torchvision', ssdlite.architecture, CLASSES, width=320, height=320)
    ours, = load_model(entry, 'cpu').predict([photo])
    same, = load_model(ssdlite, 'cpu').predict([photo])
    assert np.array_equal(ours.boxes_xyxy, same.boxes_xyxy)
    path.write_bytes(b'no tensors at all')
    with pytest.raises(ValueError, match='is no safetensors file'):
        load_model(make_entry(path, 'torchvision', ssdlite.architecture), 'cpu')


def test_published_weights_are_loaded_as_torchvision_loads_them(
        tmp_path, photo, monkeypatch, make_entry):
    """They carry no batch counts, and the oldest ones were trained without an epsilon."""
    weights = torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1
    network = vendor('fasterrcnn_resnet50_fpn', 90)
    network.backbone.body.bn1.running_var.fill_(1e-5)  # epsilon matters here
    state = {name: value for name, value in network.state_dict().items()
             if not name.endswith('num_batches_tracked')}
    path = tmp_path / 'weights.pth'
    torch.save(state, path)
    monkeypatch.setattr(type(weights), 'get_state_dict', lambda *_, **__: state)
    theirs = torchvision.models.get_model('fasterrcnn_resnet50_fpn', weights=weights)
    entry = make_entry(path, 'torchvision', 'fasterrcnn_resnet50_fpn', 90, width=96, height=64)
    assert weights.url.endswith('-258fb6c6.pth')
    image = torch.rand(1, 3, 64, 64)

    def difference():
        ours = load_model(entry, 'cpu')._network
        with torch.inference_mode():
            a, b = ours.backbone(image)['0'], theirs.eval().backbone(image)['0']
        return float((a - b).abs().max() / b.abs().max())

    assert difference() > 0.1
    monkeypatch.setattr(backend, '_TRAINED_WITHOUT_EPSILON', (entry.sha256[:8],))
    assert difference() < 1e-4


def test_another_input_size_where_the_network_allows_one(ssdlite, tmp_path, make_entry):
    """A fixed network says so."""
    with pytest.raises(ValueError, match='takes 320x320 pixels only, not 640x640'):
        load_model(ssdlite, 'cpu', input_size=(640, 640))
    architecture = 'fasterrcnn_mobilenet_v3_large_320_fpn'
    entry = make_entry(saved(vendor(architecture), tmp_path), 'torchvision', architecture,
                       CLASSES, width=640, height=320)
    network = load_model(entry, 'cpu', input_size=(200, 100))._network
    assert network.transform.min_size == (100,)
    assert network.transform.max_size == 200


@pytest.mark.parametrize(('changes', 'sentence'), [
    ({'class_names': {1: 'a', 2: 'b'}},
     'the network has 4 classes counting the background 0, but the manifest names 2'),
    ({'architecture': 'fasterrcnn_mobilenet_v3_large_fpn'},
     'the weights are not those of fasterrcnn_mobilenet_v3_large_fpn'),
    ({'architecture': 'ssdlite320_mobilenet'}, "did you mean 'ssdlite320_mobilenet_v3_large'?"),
    ({'architecture': 'keypointrcnn_resnet50_fpn'}, 'torchvision has no detector'),
    ({'sha256': '0' * 64}, "weights of model 'mine' are not the ones of the manifest"),
])
def test_weights_that_are_not_the_manifests_are_refused(ssdlite, changes, sentence):
    """The sentence names what is there and what was expected."""
    with pytest.raises(ValueError) as caught:
        load_model(replace(ssdlite, **changes), 'cpu')
    assert sentence in str(caught.value)


def test_the_class_count_is_told_for_another_family(tmp_path, make_entry):
    """The last layer tells it, whatever its name."""
    architecture = 'fasterrcnn_mobilenet_v3_large_320_fpn'
    entry = make_entry(saved(vendor(architecture), tmp_path), 'torchvision', architecture, 20)
    with pytest.raises(ValueError, match='the network has 4 classes counting the background'):
        load_model(entry, 'cpu')


@pytest.mark.parametrize('wrap', [
    lambda poison: {'weight': poison}, lambda poison: poison, lambda poison: [poison]])
def test_a_poisoned_checkpoint_is_refused_and_nothing_runs(
        tmp_path, ssdlite, wrap, make_entry, poison):
    """Its hash may well be right: somebody put the file and its manifest on the net."""
    victim, path = tmp_path / 'victim', tmp_path / 'poisoned.pth'
    torch.save(wrap(poison(victim)), path)
    entry = make_entry(path, 'torchvision', ssdlite.architecture, CLASSES)
    with pytest.raises(ValueError, match='poisoned.pth was not opened'):
        load_model(entry, 'cpu')
    assert not victim.exists()
    torch.load(path, weights_only=False)  # the poison works
    assert victim.exists()


def test_damaged_and_foreign_files_are_refused(tmp_path, ssdlite, make_entry):
    """Neither is a crash."""
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(ssdlite.path.read_bytes()[:5000])
    whole = tmp_path / 'list.pth'
    torch.save([torch.zeros(3)], whole)
    empty = tmp_path / 'empty.pth'
    empty.touch()
    for path, sentence in ((cut, 'was not opened: it is damaged'),
                           (whole, 'holds no named tensors'), (empty, 'was not opened')):
        with pytest.raises(ValueError, match=sentence):
            load_model(make_entry(path, 'torchvision', ssdlite.architecture), 'cpu')


def test_an_unsafe_torch_opens_nothing(ssdlite, monkeypatch):
    """Before 2.6 weights_only=True was not enough."""
    monkeypatch.setattr(torch, '__version__', '2.5.1+cu121')
    with pytest.raises(ImportError, match='torch 2.5.1.* install torch 2.6 or newer'):
        load_model(ssdlite, 'cpu')


@pytest.mark.parametrize(('device', 'half', 'sentence'), [
    ('gpu', False, "device is 'gpu'; it must be 'auto', 'cpu' or 'cuda:N'"),
    ('cuda:x', False, "device is 'cuda:x'; it must be"),
    ('cuda:7', False, "device is 'cuda:7', but torch finds"),
    ('cpu', True, 'half_precision is true, but the network runs on the CPU'),
])
def test_a_device_that_is_not_there_is_refused(ssdlite, monkeypatch, device, half, sentence):
    """There is no silent fallback to the CPU, nor to 32 bits."""
    with pytest.raises(ValueError) as caught:
        load_model(ssdlite, device, half_precision=half)
    assert sentence in str(caught.value)


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch):
    """And only there."""
    from perception_nodes.backends.torch_runtime import choose_device
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert choose_device('auto', False) == torch.device('cpu')
    with pytest.raises(ValueError, match='no CUDA device'):
        choose_device('cuda', False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert choose_device('auto', True) == torch.device('cuda:0')
    assert choose_device('cuda:1', False) == torch.device('cuda:1')
    with pytest.raises(ValueError, match=r'only 2 CUDA device\(s\), counted from 0'):
        choose_device('cuda:2', False)


@pytest.mark.parametrize(('architecture', 'parts'), [
    ('ssdlite320_mobilenet_v3_large', {'backbone', 'head'}),
    ('retinanet_resnet50_fpn', {'backbone', 'head'}), ('fcos_resnet50_fpn', {'backbone', 'head'}),
    ('fasterrcnn_mobilenet_v3_large_320_fpn',
     {'backbone', 'rpn.head', 'roi_heads.box_predictor'})])
def test_half_precision_does_not_round_boxes(make_entry, tmp_path, architecture, parts):
    """Torchvision computes them in the precision of what these parts give."""
    entry = make_entry(tmp_path / 'absent', 'torchvision', architecture, CLASSES)
    answer = {'a': torch.zeros(2, dtype=torch.float16), 'b': [torch.ones(1, dtype=torch.float16)]}
    for half_precision, dtype in ((True, torch.float32), (False, torch.float16)):
        with backend.Uninitialised(), torch.device('meta'):
            network = torchvision.models.get_model(
                architecture, weights=None, weights_backbone=None, num_classes=CLASSES + 1)
        backend.TorchvisionDetector(network, entry, torch.device('meta'), half_precision)
        for name in parts:
            part = network.get_submodule(name)
            part.forward = lambda images: answer
            found = part(None)
            assert (found['a'].dtype, found['b'][0].dtype) == (dtype, dtype), name
