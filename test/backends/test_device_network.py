"""The way of a GPU, on whatever device there is: the same input, masks and answers as OpenCV's."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
import logging
import threading
import time

import numpy as np
from perception_nodes.backends.preprocess import network_input, Resize
from perception_nodes.backends.segmentation import MaskReader
from perception_nodes.core.manifest import ModelInput
import pytest

torch = pytest.importorskip('torch')
from perception_nodes.backends import device_network  # noqa: E402
from perception_nodes.backends.device_masks import DeviceMasks  # noqa: E402
from perception_nodes.backends.device_network import DeviceInput, DeviceNetwork  # noqa: E402
from perception_nodes.backends.networks import NETWORKS  # noqa: E402
from perception_nodes.backends.networks.scene import SceneDetector, SceneSegmenter  # noqa: E402
from perception_nodes.backends.torch_classifier import TorchClassifier  # noqa: E402
from perception_nodes.evaluation.gpu_frames import read_frames  # noqa: E402
from perception_nodes.evaluation.gpu_subjects import subjects  # noqa: E402
from torch import nn  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

pytestmark = pytest.mark.slow

META = torch.device('meta')
IMAGENET = {'mean': (123.675, 116.28, 103.53), 'std': (58.395, 57.12, 57.375)}


def smooth(height, width):
    """Return an image whose interpolation does not depend on the last bit of a coordinate."""
    rows, columns = np.indices((height, width)) / 9.0
    planes = [np.sin(rows + k) + np.cos(columns * (k + 1) / 2) for k in range(3)]
    return ((np.stack(planes, -1) + 2.0) * 63.0).astype(np.uint8)


@pytest.mark.parametrize('spec', [
    ModelInput(64, 48), ModelInput(64, 48, layout='NHWC', **IMAGENET),
    ModelInput(64, 64, resize='letterbox', color='bgr', std=(255, 255, 255)),
    ModelInput(64, 64, resize='letterbox_top_left'), ModelInput(130, 100, resize='letterbox'),
    ModelInput(32, 32, resize='center_crop', crop_fraction=0.875),
    ModelInput(150, 150, resize='center_crop'),
], ids=lambda spec: f'{spec.resize}-{spec.width}-{spec.layout}')
def test_the_input_is_that_of_opencv(spec, place):
    """Up to rounding to 8 bits, which only OpenCV does; places and colours agree."""
    frame = smooth(96, 128)
    expected, _ = network_input(frame, spec)
    found = DeviceInput(spec).to(place)(torch.from_numpy(np.stack([frame, frame])).to(place))
    assert found.shape == (2, *expected.shape)
    difference = np.abs(found[1].cpu().numpy() - expected)
    levels = difference * min(spec.std)
    # a crop shrinks with another filter: the mean of areas here, a triangle there
    assert levels.max() < (8.0 if spec.resize == 'center_crop' else 1.2)
    assert levels.mean() < 0.6
    assert torch.equal(found[0], found[1])
    if spec.layout == 'NCHW':
        assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(('cells', 'resize', 'network', 'image'), [
    ((12, 16), Resize((0.5, 0.5), (0.0, 0.0)), (64, 48), (128, 96)),
    ((10, 10), Resize((0.5, 0.5), (0.0, 8.0)), (64, 64), (128, 96)),
    ((31, 45), Resize((1.5, 1.25), (0.0, 0.0)), (90, 62), (60, 50))])
def test_masks_are_those_of_the_reader(make_entry, tmp_path, place, cells, resize, network, image):
    """Class by class and with probabilities, in bands of rows as at once."""
    reader = MaskReader(make_entry(tmp_path / 'absent', 'own', class_count=5,
                                   task='segmentation'))
    logits = np.random.default_rng(0).normal(0.0, 3.0, (2, 5, *cells)).astype(np.float32)
    masks = DeviceMasks(reader.table(5), torch.device(place))
    on_device = torch.from_numpy(logits).to(place)
    ids, broken, sure = masks.masks(on_device, resize, network, image, confidence=True)
    assert not broken
    for k in range(2):
        expected = reader.from_logits(logits[k], resize, network, image, confidence=True)
        assert (ids[k].cpu().numpy() == expected.ids).mean() > 0.999
        np.testing.assert_allclose(sure[k].cpu().numpy(), expected.confidence, atol=2e-3)
    logits[1, 2, 3, 4] = np.nan
    alone = masks.masks(torch.from_numpy(logits).to(place), resize, network, image,
                        confidence=False)
    assert len(alone) == 2 and alone[1]


def test_bands_of_rows_are_one_mask(monkeypatch):
    logits = torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    said = (Resize((1.0, 1.0), (0.0, 0.0)), (32, 24), (32, 24))
    whole = DeviceMasks(np.arange(4, dtype=np.uint8), torch.device('cpu')).masks(
        logits, *said, confidence=True)
    monkeypatch.setattr('perception_nodes.backends.device_masks._MOST_AT_ONCE', 4 * 32 * 5)
    parts = DeviceMasks(np.arange(4, dtype=np.uint8), torch.device('cpu')).masks(
        logits, *said, confidence=True)
    for ours, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, theirs)


class Means(nn.Module):
    """Answers with the mean colour of each image, one at a time where asked."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(len(images))
        return images.mean((2, 3)), images.amax((1, 2, 3))


@pytest.mark.parametrize('takes_batches', [True, False])
def test_every_frame_gets_its_own_answer(place, takes_batches):
    network = DeviceNetwork(Means(), torch.device(place), False, takes_batches=takes_batches)
    frames = [np.full((20, 30, 3), k, np.uint8) for k in (3, 90, 200)]
    for _ in range(2):  # the second time from what was kept of the first
        means, highest = network.to_host(network.run(frames, ModelInput(8, 8)))
        assert means.shape == (3, 3)
        np.testing.assert_allclose(means[:, 1], (3, 90, 200), atol=1e-3)
        np.testing.assert_allclose(highest, (3, 90, 200), atol=1e-3)
    kept = means.copy()
    network.to_host(network.run(frames[::-1], ModelInput(8, 8)))
    assert np.array_equal(means, kept), 'answers belong to whoever asked for them'
    if place == 'cpu':
        assert set(network.network.seen) == ({3} if takes_batches else {1})


def own_networks():
    for architecture, build in NETWORKS['segmentation'].items():
        if architecture in ('segnet', 'segnet_small', 'fcn8s_resnet18', 'fcn8s_vgg16_bn'):
            yield pytest.param(build, 'masks', id=architecture)
    for architecture, build in NETWORKS['classification'].items():
        yield pytest.param(build, 'scores', id=architecture)
    yield pytest.param(SceneSegmenter, 'masks', id='scene_segmenter')
    yield pytest.param(SceneDetector, 'boxes', id='scene_detector')


class NothingFromHost(TorchDispatchMode):
    """
    Refuses what comes from the host while a network runs: no graph can hold it.

    Whatever an operation takes must be a weight, an image, or what another one gave on the device.
    A list of indices is none of them; by its device alone it cannot be told.
    """

    def __init__(self, network, images):
        super().__init__()
        self._known = [images, *network.parameters(), *network.buffers()]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for tensor in tree_leaves((args, kwargs)):
            # numbers are tensors without axes here
            if isinstance(tensor, torch.Tensor) and tensor.ndim:
                assert any(tensor is known for known in self._known), f'{func} is given a stranger'
        answer = func(*args, **kwargs or {})
        found = [t for t in tree_leaves(answer) if isinstance(t, torch.Tensor)]
        assert all(t.is_meta for t in found if t.ndim), f'{func} gives a tensor on the host'
        self._known += found
        return answer


@pytest.mark.parametrize(('build', 'kind'), list(own_networks()))
def test_from_pixels_to_masks_nothing_asks_the_host(build, kind):
    """On a device without numbers every hidden copy to the host is an error."""
    with META:
        network = build(5)
    size = 32 if kind == 'scores' else 64
    spec = ModelInput(size, size, resize='letterbox', color='bgr', **IMAGENET)
    on_meta = DeviceNetwork(network, META, False)
    answer, = on_meta.run([np.zeros((60, 100, 3), np.uint8)] * 2, spec)
    assert answer.is_meta and answer.shape[:1] == (2,)
    if kind == 'scores':
        assert answer.shape == (2, 5)
    if kind == 'masks':
        masks = DeviceMasks(np.arange(5, dtype=np.uint8), META)
        ids, broken, sure = masks.masks(
            answer, Resize.between(100, 60, spec), (size, size), (100, 60), confidence=True)
        assert ids.shape == sure.shape == (2, 60, 100)
        assert ids.dtype == torch.uint8 and broken.is_meta


@pytest.mark.parametrize('build', [case.values[0] for case in own_networks()],
                         ids=[case.id for case in own_networks()])
def test_nothing_comes_from_the_host_while_own_networks_run(build):
    """A list of indices, or a tensor made on the way: each goes up in every run, and waits."""
    with META:
        network = build(5)
    side = 32 if build is NETWORKS['classification']['lenet5'] else 64
    on_meta = DeviceNetwork(network, META, False)
    images = torch.empty(2, 3, side, side, device='meta')
    with NothingFromHost(on_meta.network, images):
        answer, = on_meta.forward(images)
    assert answer.is_meta


@pytest.mark.parametrize(
    'name', ['sim_scene_detector', 'coco_ssdlite_mobilenet_v2', 'lraspp_mobilenet_v3_large'])
def test_nothing_comes_from_the_host_while_shipped_networks_run(name):
    subject, = (subject for subject in subjects() if subject.name == name)
    loaded = subject.load('cpu', False)
    on_meta = DeviceNetwork(
        loaded.network.network.to('meta'), META, False, loaded.network.forward_of)
    images = on_meta.prepared([np.zeros((240, 320, 3), np.uint8)], loaded.input)
    with NothingFromHost(on_meta.network, images):
        assert all(answer.is_meta for answer in on_meta.forward(images))


@pytest.mark.parametrize('forward', [
    lambda images: images[:, [2, 0]], lambda images: images + torch.ones(3, 1, 1).to('meta'),
    lambda images: images * torch.tensor([1.0, 2.0, 3.0, 4.0], device='meta')])
def test_what_comes_from_the_host_is_seen(forward):
    images = torch.empty(1, 3, 4, 4, device='meta')
    with pytest.raises(AssertionError), NothingFromHost(nn.Identity(), images):
        forward(images)
    with NothingFromHost(nn.Identity(), images):
        (images[:, 1:] * 2.0 + torch.arange(4, device='meta')).flip(1)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Send what is on the CPU the way of a GPU."""
    monkeypatch.setattr(DeviceNetwork, 'is_cpu', property(lambda self: False))


@pytest.mark.usefixtures('as_on_a_gpu')
@pytest.mark.parametrize('name', [
    'sim_scene_segmenter', 'sim_scene_detector', 'lenet5', 'lraspp_mobilenet_v3_large'])
def test_whole_models_answer_the_same_by_the_way_of_a_gpu(name, monkeypatch):
    """Scores within what rounding to 8 bits does; masks but for pixels between two classes."""
    subject, = (subject for subject in subjects() if subject.name == name)
    scenes = [frame.rgb for frame in read_frames(2)]
    frames = [scenes[0], np.ascontiguousarray(scenes[1][:200, :300]), scenes[1]]
    options = {} if name.startswith('sim_scene_d') or name == 'lenet5' else {'confidence': True}
    ours = subject.load('cpu', False).predict(frames, **options)
    monkeypatch.undo()
    theirs = subject.load('cpu', False).predict(frames, **options)
    for mine, other, frame in zip(ours, theirs, frames, strict=True):
        if options:
            assert mine.ids.shape == other.ids.shape == frame.shape[:2]
            assert mine.ids.dtype == other.ids.dtype
            assert (mine.ids == other.ids).mean() > 0.95
            assert np.abs(mine.confidence - other.confidence).mean() < 0.03
        elif name == 'lenet5':
            assert mine.scores == pytest.approx(other.scores, abs=0.02)
        else:
            for box, score in zip(other.boxes_xyxy[:5], other.scores[:5], strict=True):
                near = np.abs(mine.boxes_xyxy - box).max(axis=1) < 3.0
                assert (near & (np.abs(mine.scores - score) < 0.05)).any()


def test_meta_catches_a_hidden_copy():
    class Hidden(nn.Module):
        def forward(self, images):
            return images * float(images.max())

    with pytest.raises((RuntimeError, NotImplementedError)):
        DeviceNetwork(Hidden(), META, False).run(
            [np.zeros((8, 8, 3), np.uint8)], ModelInput(8, 8))


def test_pictures_of_ever_new_shapes_do_not_fill_the_memory(monkeypatch):
    """Crops of boxes have any size; memory for the last ones is kept, and found again."""
    made = []

    def unpinned(shape, *, dtype, pin_memory):
        made.append(shape)
        return torch.zeros(shape, dtype=dtype)

    monkeypatch.setattr(torch, 'empty', unpinned)
    network = DeviceNetwork(nn.Identity(), torch.device('cpu'), half_precision=False)
    for side in range(1, 200):
        network._pinned_like(-1, (1, side, side, 3), torch.uint8)
    assert len(network._pinned) < 64
    kept = len(made)
    network._pinned_like(-1, (1, 199, 199, 3), torch.uint8)
    assert len(made) == kept
    network._pinned_like(-1, (1, 1, 1, 3), torch.uint8)
    assert len(made) == kept + 1


class NoGpu:
    """What recording asks of ``torch.cuda``, in the order it asks; nothing is computed there."""

    def __init__(self, monkeypatch):
        self.asked, self.capturing, self.failure = [], threading.Lock(), None
        self._current = 'the current stream'
        device_network._stream_of_recordings.cache_clear()
        for name, stand_in in {
                'Stream': lambda device: self.stream('a new stream'),
                'current_stream': lambda device: self.stream(self._current),
                'stream': self.on_stream, 'CUDAGraph': lambda: self,
                'graph': self.capture}.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)

    def stream(self, name):
        stream = type('Stream', (), {})()
        stream.name = name
        stream.wait_stream = lambda other: self.asked.append(f'{name} waits for {other.name}')
        return stream

    @contextmanager
    def on_stream(self, stream):
        before, self._current = self._current, stream.name
        try:
            yield
        finally:
            self._current = before

    @contextmanager
    def capture(self, graph, stream, capture_error_mode):
        assert capture_error_mode == 'thread_local', 'other nodes run on'
        assert self.capturing.acquire(blocking=False), 'two recordings at a time'
        try:
            self.asked.append('recording')
            time.sleep(1e-3)  # others get a chance to break in
            yield
            if self.failure:
                raise self.failure
        finally:
            self.capturing.release()

    def replay(self):
        self.asked.append(f'replayed on {self._current}')


@pytest.fixture
def no_gpu(monkeypatch):
    yield NoGpu(monkeypatch)
    device_network._stream_of_recordings.cache_clear()


def test_a_recording_waits_for_its_input_and_leaves_the_stream_as_it_was(no_gpu, monkeypatch):
    real = torch.Tensor.clone

    def clone(tensor):
        no_gpu.asked.append('copied')
        return real(tensor)

    monkeypatch.setattr(torch.Tensor, 'clone', clone)

    def double(images):
        no_gpu.asked.append('run')
        return (images * 2,)

    replay = device_network._recorded(double, torch.ones(1, 2))
    assert no_gpu.asked == [
        'copied', 'a new stream waits for the current stream',
        'run', 'copied', 'run', 'copied', 'run', 'copied',
        'the current stream waits for a new stream', 'recording', 'run',
        'replayed on the current stream']
    assert replay(torch.ones(1, 2))[0].tolist() == [[2, 2]]


@pytest.mark.parametrize('failure', [
    torch.OutOfMemoryError('CUDA out of memory. Tried'),
    RuntimeError('operation not permitted when stream is capturing')])
def test_a_network_that_runs_but_cannot_be_recorded_runs_on(no_gpu, caplog, failure):
    """A graph needs memory of its own, which may be what lacks; frames must not fail for it."""
    no_gpu.failure = failure
    with caplog.at_level(logging.WARNING):
        assert device_network._recorded(lambda images: (images,), torch.ones(1, 2)) is None
    assert 'no CUDA graph for images of shape (1, 2), which run without: ' in caplog.text
    assert str(failure) in caplog.text
    assert 'replayed' not in ' '.join(no_gpu.asked)

    def too_large(images):
        raise torch.OutOfMemoryError('CUDA out of memory')

    with pytest.raises(torch.OutOfMemoryError):  # it does not even run
        device_network._recorded(too_large, torch.ones(1, 2))
    no_gpu.failure = None
    assert device_network._recorded(lambda images: (images,), torch.ones(1, 2)) is not None


def test_networks_of_two_nodes_are_recorded_one_after_the_other(no_gpu):
    """The second would wait for the whole device, which a recording does not survive."""
    both = threading.Barrier(2)

    def record(side):
        both.wait(60)
        return all(device_network._recorded(
            lambda images: (images * 2,), torch.ones(1, side)) for _ in range(10))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(record, (2, 3))) == [True, True]


def test_graphs_that_are_not_wanted_any_more_are_freed():
    network = DeviceNetwork(nn.Identity(), torch.device('cpu'), half_precision=False)
    network._recordings[1, 3, 8, 8] = lambda images: (images,)
    network._recordings[2, 3, 8, 8] = None
    assert network.records and network.graphs == 1
    network.records = False
    assert network.graphs == 0


def test_what_the_device_lacks_is_not_blamed_on_the_size(make_entry, tmp_path):
    entry = make_entry(tmp_path / 'absent', 'own', task='classification')

    class Full(nn.Module):
        def forward(self, images):
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')

    with pytest.raises(torch.OutOfMemoryError):
        TorchClassifier(Full(), entry, torch.device('cpu'), False)
