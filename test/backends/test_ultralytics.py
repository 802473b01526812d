"""Ultralytics' own forward pass beside our backend, and checkpoints that must not be opened."""

from dataclasses import replace
import os
import sys

import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.core.boxes import non_maximum_suppression
import pytest

torch = pytest.importorskip('torch')
ultralytics = pytest.importorskip('ultralytics')
tasks = pytest.importorskip('ultralytics.nn.tasks')

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Sum in one order, in the vendor's pass as in ours."""
    torch.set_num_threads(1)


def checkpoint(folder, config='yolov8n.yaml', kind='DetectionModel', end_to_end=False):
    """Write a seeded network as ultralytics writes what it has trained; return it and the path."""
    torch.manual_seed(11)
    network = getattr(tasks, kind)(config, nc=3, verbose=False)
    last = network.model[-1]
    for name, parameter in last.named_parameters():
        if name.startswith(('cv3', 'one2one_cv3')) and name.endswith('.2.bias'):
            parameter.data.normal_(-1.0, 1.0)  # bias_init expects one object in thousands
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.inference_mode():  # statistics of noise, or every place looks the same
        network.train()(torch.rand(4, 3, 128, 128))
    if end_to_end:
        network.model[-1].end2end = True
    network.names = {0: 'a', 1: 'b', 2: 'c'}
    network.eval()
    path = folder / 'yolov5n.pt'  # a name that ultralytics itself would go looking for
    torch.save({'model': network, 'ema': None, 'train_args': {'imgsz': 64}}, path)
    return network, path


def theirs(network, photo, size, scale_fill=False):
    """Return (N, 6) rows of the vendor's letterbox, network, suppression and scaling."""
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils import nms, ops
    boxed = LetterBox((size, size), auto=not scale_fill, scale_fill=scale_fill, stride=32)(
        image=photo)
    pixels = torch.from_numpy(np.ascontiguousarray(boxed.transpose(2, 0, 1)))[None] / 255
    with torch.inference_mode():
        decoded = network(pixels)[0]
    if scale_fill:
        rows = decoded[0].numpy()
        low, high = rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2
        return np.concatenate([low * (128, 96), high * (128, 96), rows[:, 4:]], axis=1)
    decoded = decoded[0] if isinstance(decoded, tuple) else decoded
    rows = nms.non_max_suppression(
        decoded, 0.05, 0.6, nc=3, end2end=network.model[-1].end2end)[0]
    rows[:, :4] = ops.scale_boxes(pixels.shape[2:], rows[:, :4], photo.shape)
    return rows.numpy()


@pytest.mark.parametrize(('config', 'kind', 'end_to_end'), [
    ('yolov8n.yaml', 'DetectionModel', False),
    ('yolov8n-seg.yaml', 'SegmentationModel', False),
    ('yolov8n-pose.yaml', 'PoseModel', False),
    ('yolo11n.yaml', 'DetectionModel', False),
    ('yolov10n.yaml', 'DetectionModel', True),
    ('yolo26n.yaml', 'DetectionModel', True),
    ('yolo26n.yaml', 'DetectionModel', False),
    ('yolo26n-seg.yaml', 'SegmentationModel', True),
])
def test_boxes_are_those_of_ultralytics_itself(
        tmp_path, photo, make_entry, place, config, kind, end_to_end):
    """The same image through the vendor's own letterbox, network and suppression."""
    network, path = checkpoint(tmp_path, config, kind, end_to_end)
    entry = make_entry(path, 'ultralytics', resize='letterbox', std=(255.0, 255.0, 255.0))
    model = load_model(entry, place)
    # on a GPU the resized image is not rounded to 8 bits
    slack = 1 if place == 'cpu' else 1000
    assert model.needs_suppression is not end_to_end
    ours, = model.predict([photo])
    rows = theirs(network, photo, 64)
    ours = ours[ours.scores > 0.05]
    if not end_to_end:
        ours = ours[non_maximum_suppression(
            ours.boxes_xyxy, ours.scores, ours.class_ids, 0.6, 300)]
    limits = np.array([128, 96, 128, 96], np.float32)
    boxes = np.clip(ours.boxes_xyxy, 0, limits)
    assert len(rows) >= 3
    if place != 'cpu':  # near scores may change places: the surest objects are compared
        assert abs(len(ours) - len(rows)) <= 0.1 * len(rows) + 1
        best = np.argsort(-ours.scores, kind='stable')[0]
        near = np.abs(rows[:, :4] - boxes[best]).max(axis=1) < 1e-3 * slack
        assert (near & (np.abs(rows[:, 4] - ours.scores[best]) < 1e-5 * slack)).any()
        return
    assert len(ours) == len(rows)
    np.testing.assert_allclose(np.sort(ours.scores)[::-1], rows[:, 4], atol=1e-4)
    # two of nearly the same score may change places
    same = np.abs(boxes[:, None] - rows[None, :, :4]).max(axis=2) < 1e-2
    same &= np.abs(ours.scores[:, None] - rows[None, :, 4]) < 1e-4
    same &= ours.class_ids[:, None] == rows[None, :, 5].astype(int)
    assert same.any(axis=0).all() and same.any(axis=1).all()


def test_a_transformer_is_read_by_the_same_head_as_its_export(tmp_path, photo, make_entry):
    """RT-DETR stretches the image and needs no suppression."""
    network, path = checkpoint(tmp_path, 'rtdetr-resnet50.yaml', 'RTDETRDetectionModel')
    entry = make_entry(path, 'ultralytics', std=(255.0, 255.0, 255.0))
    model = load_model(entry, 'cpu')
    assert not model.needs_suppression
    ours, = model.predict([photo])
    rows = theirs(network, photo, 64, scale_fill=True)
    order = np.argsort(-ours.scores, kind='stable')
    rows = rows[:len(ours)]  # at this size the vendor takes more than one box per query
    assert len(rows) > 50
    np.testing.assert_allclose(ours.scores[order], rows[:, 4], atol=1e-4)
    np.testing.assert_allclose(ours.boxes_xyxy[order], rows[:, :4], atol=2e-2)


@pytest.fixture(scope='module')
def yolo(tmp_path_factory, make_entry):
    """Return the entry of a small network."""
    _, path = checkpoint(tmp_path_factory.mktemp('yolo'))
    return make_entry(path, 'ultralytics', resize='letterbox', std=(255.0, 255.0, 255.0))


def test_frames_of_different_sizes_go_through_one_call(yolo, photo):
    """Equal sizes as one batch, others one by one; the boxes are the same."""
    model = load_model(yolo, 'cpu')
    narrow = np.ascontiguousarray(photo[:, :40])
    for frames in ([photo, photo[:, ::-1].copy()], [photo, narrow]):
        together = model.predict(frames)
        for found, frame in zip(together, frames, strict=True):
            alone, = model.predict([frame])
            np.testing.assert_allclose(found.boxes_xyxy, alone.boxes_xyxy, atol=1e-2)


def test_another_input_size_is_a_multiple_of_the_stride(yolo, photo):
    """A free network takes any such size."""
    assert len(load_model(yolo, 'cpu', input_size=(128, 96)).predict([photo])) == 1
    with pytest.raises(ValueError, match='the input is 100x64; both must be multiples of 32'):
        load_model(yolo, 'cpu', input_size=(100, 64))


@pytest.mark.parametrize('class_names', [{0: 'a', 1: 'b'}, {i: str(i) for i in range(80)}])
def test_another_number_of_classes_is_refused(yolo, class_names):
    """Before a box gets a wrong name."""
    with pytest.raises(ValueError, match='the network has 3 classes, but the manifest names'):
        load_model(replace(yolo, class_names=class_names), 'cpu')


@pytest.mark.parametrize('wrap', [
    lambda poison: {'model': poison}, lambda poison: poison,
    lambda poison: {'model': torch.nn.Identity(), 'train_args': poison}])
def test_a_poisoned_checkpoint_is_refused_and_nothing_runs(tmp_path, make_entry, poison, wrap):
    """Ultralytics' own YOLO(path) would have run it."""
    victim, path = tmp_path / 'victim', tmp_path / 'poisoned.pt'
    torch.save(wrap(poison(victim)), path)
    entry = make_entry(path, 'ultralytics', resize='letterbox')
    with pytest.raises(ValueError, match='poisoned.pt was not opened'):
        load_model(entry, 'cpu')
    assert not victim.exists()
    torch.load(path, weights_only=False)  # the poison works
    assert victim.exists()


def test_damaged_and_foreign_files_are_refused(tmp_path, make_entry, yolo):
    """Neither is a crash, and neither is looked for on the net."""
    cut, foreign = tmp_path / 'cut.pt', tmp_path / 'classifier.pt'
    cut.write_bytes(yolo.path.read_bytes()[:3000])
    torch.save({'model': tasks.ClassificationModel(
        'yolov8n-cls.yaml', nc=3, verbose=False)}, foreign)
    for path, sentence in ((cut, 'was not opened'), (foreign, 'holds a ClassificationModel; '
                                                              'supported are DetectionModel')):
        with pytest.raises(ValueError, match=sentence):
            load_model(make_entry(path, 'ultralytics'), 'cpu')


def test_without_ultralytics_the_sentence_names_the_package_and_its_licence(yolo, monkeypatch):
    """It is not a dependency, because of that licence."""
    monkeypatch.setitem(sys.modules, 'ultralytics', None)
    with pytest.raises(ImportError, match='needs ultralytics, which is not installed: pip install '
                                          'ultralytics-opencv-headless .*AGPL-3.0'):
        load_model(yolo, 'cpu')


def test_versions_that_load_unsafely_are_not_used(yolo, monkeypatch):
    """Neither an old torch nor an old ultralytics opens the file."""
    monkeypatch.setattr(tasks, 'torch_safe_load', lambda weight: None)
    with pytest.raises(ImportError, match='runs whatever a checkpoint says; install 8.4.190'):
        load_model(yolo, 'cpu')
    monkeypatch.setattr(torch, '__version__', '2.4.0')
    with pytest.raises(ImportError, match='install torch 2.6'):
        load_model(yolo, 'cpu')


def test_half_precision_on_a_cpu_is_refused(yolo):
    """Not computed in another precision than asked for."""
    with pytest.raises(ValueError, match='half_precision is true, but the network runs on the CP'):
        load_model(yolo, 'cpu', half_precision=True)


def test_its_machinery_is_off(yolo):
    """No network, no installation, no settings in the user's home."""
    load_model(yolo, 'cpu')
    assert os.environ['YOLO_OFFLINE'] == 'true'
    assert os.environ['YOLO_AUTOINSTALL'] == 'false'
    assert 'YOLO_CONFIG_DIR' in os.environ


def test_the_memory_goes_with_the_model(yolo, gives_memory_back):
    assert gives_memory_back(lambda: load_model(yolo, 'cpu'))
