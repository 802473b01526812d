"""Masks and key points of ultralytics' own post-processing beside those of our backend."""

from dataclasses import replace

import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.core.boxes import non_maximum_suppression
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('ultralytics')
tasks = pytest.importorskip('ultralytics.nn.tasks')
ops = pytest.importorskip('ultralytics.utils.ops')

pytestmark = pytest.mark.slow


def checkpoint(folder, config, kind, *, end_to_end=False, **options):
    """Write a seeded network as ultralytics writes what it has trained; return it and the path."""
    torch.set_num_threads(1)
    torch.manual_seed(11)
    network = getattr(tasks, kind)(config, nc=3, verbose=False, **options)
    last = network.model[-1]
    for name, parameter in last.named_parameters():
        if name.startswith(('cv3', 'one2one_cv3')) and name.endswith('.2.bias'):
            parameter.data.normal_(-1.0, 1.0)  # bias_init expects one object in thousands
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.inference_mode():  # statistics of noise, or every place looks the same
        network.train()(torch.rand(4, 3, 128, 128))
    last.end2end = end_to_end
    network.names = {0: 'a', 1: 'b', 2: 'c'}
    network.eval()
    path = folder / 'weights.pt'
    torch.save({'model': network, 'ema': None, 'train_args': {'imgsz': 64}}, path)
    return network, path


def entry_of(make_entry, path, size):
    """Return the manifest entry of a checkpoint."""
    return replace(make_entry(path, 'ultralytics', resize='letterbox', std=(255.0, 255.0, 255.0),
                              width=size, height=size), task='instances')


def theirs(network, photo, size):
    """Return the (N, 6 + M) rows of the vendor's suppression, its prototypes and its input."""
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils import nms
    boxed = LetterBox((size, size), auto=True, stride=32)(image=photo)
    pixels = torch.from_numpy(np.ascontiguousarray(boxed.transpose(2, 0, 1)))[None] / 255
    with torch.inference_mode():
        answer = network(pixels)[0]
    decoded, prototypes = answer if isinstance(answer, tuple) else (answer, None)
    rows = nms.non_max_suppression(
        decoded, 0.05, 0.6, nc=3, end2end=network.model[-1].end2end)[0]
    return rows, prototypes, pixels.shape[2:]


def as_vendor(end_to_end):
    """Return the same suppression as a choice of rows."""
    def select(found):
        rows = np.flatnonzero(found.scores > 0.05)
        likely = found[rows]
        if end_to_end:
            return rows[np.argsort(-likely.scores, kind='stable')]
        return rows[non_maximum_suppression(
            likely.boxes_xyxy, likely.scores, likely.class_ids, 0.6, 300)]
    return select


def in_order_of(found, rows, shape, photo):
    """Return the vendor's rows in our order; two of nearly the same score may change places."""
    boxes = ops.scale_boxes(shape, rows[:, :4].clone(), photo.shape).numpy()
    ours = np.clip(found.boxes_xyxy, 0, (*photo.shape[1::-1], *photo.shape[1::-1]))
    apart = np.abs(ours[:, None] - boxes[None]).max(axis=2)
    apart += 1e4 * np.abs(found.scores[:, None] - rows[:, 4].numpy()[None])
    apart += 1e3 * (found.class_ids[:, None] != rows[:, 5].numpy().astype(int)[None])
    nearest = apart.argmin(axis=1)
    assert sorted(nearest.tolist()) == list(range(len(rows)))
    return rows[nearest]


def whole(found, i):
    """Return one mask at the image's size."""
    image = np.zeros(found.masks.image_shape, bool)
    image[found.masks.place(i)] = found.masks.parts[i]
    return image


SEGMENTERS = [('yolov8n-seg.yaml', False), ('yolo11n-seg.yaml', False), ('yolo26n-seg.yaml', True)]


@pytest.mark.parametrize(('config', 'end_to_end'), SEGMENTERS)
def test_masks_are_those_of_process_mask(tmp_path, photo, make_entry, config, end_to_end):
    """At the network's own size they are the same up to rounding where a mask ends."""
    network, path = checkpoint(tmp_path, config, 'SegmentationModel', end_to_end=end_to_end)
    rows, prototypes, shape = theirs(network, photo, 128)
    assert shape == photo.shape[:2]
    model = load_model(entry_of(make_entry, path, 128), 'cpu')
    found, = model.predict_instances([photo], as_vendor(end_to_end))
    rows = in_order_of(found, rows, shape, photo)
    expected = ops.process_mask(prototypes[0], rows[:, 6:], rows[:, :4], shape, upsample=True)
    assert (model.has_masks, model.keypoints, found.keypoints) == (True, 0, None)
    np.testing.assert_allclose(found.scores, rows[:, 4], atol=1e-4)
    parted = 0
    for i, mask in enumerate(expected.numpy().astype(bool)):
        ours = whole(found, i)
        border = np.zeros_like(mask)
        border[:, 1:] |= mask[:, 1:] != mask[:, :-1]
        border[1:] |= mask[1:] != mask[:-1]
        assert (ours != mask).sum() <= 0.02 * border.sum() + 1
        parted += 0 < mask.sum() < 0.9 * found.masks.parts[i].size
    assert parted >= 5


def test_masks_of_a_letterboxed_image_lie_at_its_own_size(tmp_path, photo, make_entry):
    """Against the vendor's way from prototypes to the image."""
    network, path = checkpoint(tmp_path, 'yolov8n-seg.yaml', 'SegmentationModel')
    photo = np.ascontiguousarray(photo[:60])  # bars above and below at the network's size
    rows, prototypes, shape = theirs(network, photo, 64)
    found, = load_model(entry_of(make_entry, path, 64), 'cpu').predict_instances(
        [photo], as_vendor(False))
    rows = in_order_of(found, rows, shape, photo)
    boxes = ops.scale_boxes(shape, rows[:, :4].clone(), photo.shape)
    expected = ops.process_mask_native(prototypes[0], rows[:, 6:], boxes, photo.shape[:2])
    assert found.masks.image_shape == (60, 128)
    np.testing.assert_allclose(found.scores, rows[:, 4], atol=1e-4)
    ours = np.array([whole(found, i) for i in range(len(found))])
    expected = expected.numpy().astype(bool)
    overlap = (ours & expected).sum() / (ours | expected).sum()
    assert len(ours) >= 5
    assert overlap > 0.97


@pytest.mark.parametrize(('config', 'shape'), [
    ('yolov8n-pose.yaml', (17, 3)), ('yolo11n-pose.yaml', (5, 2)), ('yolo26n-pose.yaml', (17, 3))])
def test_keypoints_are_those_of_ultralytics(tmp_path, photo, make_entry, config, shape):
    """In the pixels of the image; networks without a score give 1."""
    network, path = checkpoint(tmp_path, config, 'PoseModel', data_kpt_shape=shape)
    rows, _, size = theirs(network, photo, 64)
    model = load_model(entry_of(make_entry, path, 64), 'cpu')
    found, = model.predict_instances([photo], as_vendor(False))
    rows = in_order_of(found, rows, size, photo)
    points = rows[:, 6:].reshape(-1, *shape)
    expected = ops.scale_coords(size, points.clone(), photo.shape).numpy()
    assert (model.has_masks, model.keypoints, found.masks) == (False, shape[0], None)
    assert found.keypoints.shape == (len(rows), shape[0], 3)
    # the vendor moves those outside to the border
    inside = np.clip(found.keypoints[..., :2], 0, (128, 96))
    np.testing.assert_allclose(inside, expected[..., :2], atol=1e-2)
    assert (inside == found.keypoints[..., :2]).all(axis=2).sum() > 20
    if shape[1] == 3:
        np.testing.assert_allclose(found.keypoints[..., 2], expected[..., 2], atol=1e-4)
    else:
        assert (found.keypoints[..., 2] == 1.0).all()


def test_boxes_alone_are_those_of_the_detection_model(tmp_path, photo, make_entry):
    """Nothing kept is an answer too, and a detector's checkpoint is refused."""
    _, path = checkpoint(tmp_path, 'yolov8n-seg.yaml', 'SegmentationModel')
    model = load_model(entry_of(make_entry, path, 64), 'cpu')
    boxes, = model.predict([photo])
    found, = model.predict_instances([photo], lambda found: np.arange(len(found)))
    np.testing.assert_array_equal(found.boxes_xyxy, boxes.boxes_xyxy)
    nothing, = model.predict_instances([photo], lambda found: np.empty(0, np.int64))
    assert len(nothing.masks) == 0
    _, path = checkpoint(tmp_path, 'yolov8n.yaml', 'DetectionModel')
    with pytest.raises(ValueError, match='a DetectionModel; supported are SegmentationModel, Po'):
        load_model(entry_of(make_entry, path, 64), 'cpu')
