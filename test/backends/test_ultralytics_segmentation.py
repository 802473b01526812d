"""Ultralytics' own forward pass beside our masks of its checkpoints."""

from dataclasses import replace

import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.core.detection import DetectionParams
from perception_nodes.core.instances import InstanceDetector
import pytest

torch = pytest.importorskip('torch')
ultralytics = pytest.importorskip('ultralytics')
tasks = pytest.importorskip('ultralytics.nn.tasks')

pytestmark = pytest.mark.slow

NAMES = {0: 'a', 1: 'b', 2: 'c'}


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Sum in one order, in the vendor's pass as in ours."""
    torch.set_num_threads(1)


@pytest.fixture
def checkpoint(tmp_path, make_entry):
    """Return a function that writes a seeded network; it returns that and its entry."""
    def write(kind, config):
        if not hasattr(tasks, kind):
            pytest.skip(f'ultralytics {ultralytics.__version__} has no {kind}')
        torch.manual_seed(11)
        network = getattr(tasks, kind)(config, nc=3, verbose=False)
        for name, parameter in network.model[-1].named_parameters():
            if name.startswith('cv3') and name.endswith('.2.bias'):
                parameter.data.fill_(-2.0)  # bias_init expects one object in thousands
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.inference_mode():  # statistics of noise, or every place looks the same
            network.train()(torch.rand(4, 3, 128, 128))
        network.names = NAMES
        network.eval()
        torch.save({'model': network, 'ema': None}, tmp_path / 'weights.pt')
        entry = make_entry(tmp_path / 'weights.pt', 'ultralytics', resize='letterbox',
                           width=128, height=128, std=(255.0, 255.0, 255.0))
        return network, replace(entry, task='segmentation')
    return write


def test_semantic_checkpoints_give_the_vendors_mask(checkpoint, photo):
    """Its network on the same pixels, its scores brought to the image by torch."""
    network, entry = checkpoint('SemanticSegmentationModel', 'yolo26n-sem.yaml')
    mask, = load_model(entry, 'cpu').predict([photo], confidence=True)
    pixels = torch.tensor(photo).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        logits = network(pixels.to(memory_format=torch.channels_last))
        scores = torch.nn.functional.interpolate(
            logits, photo.shape[:2], mode='bilinear', align_corners=False)[0]
    best = scores.topk(2, dim=0).values
    differs = torch.tensor(mask.ids) != scores.argmax(dim=0)
    assert (best[0] - best[1])[differs].sum() < 1e-3
    assert differs.float().mean() < 0.01
    assert len(np.unique(mask.ids)) > 1
    np.testing.assert_allclose(
        mask.confidence, scores.softmax(dim=0).amax(dim=0).numpy(), atol=1e-3)


@pytest.mark.parametrize(('class_names', 'rest'), [
    (NAMES, 255), ({0: 'background'} | {i + 1: n for i, n in NAMES.items()}, 0),
    (NAMES | {3: 'background'}, 3)])
def test_instances_become_a_mask_of_classes(checkpoint, photo, class_names, rest):
    """Each pixel is of the best object that has it, whatever the number of the background."""
    _, entry = checkpoint('SegmentationModel', 'yolov8n-seg.yaml')
    entry = replace(entry, class_names=class_names)
    mask, = load_model(entry, 'cpu').predict([photo], confidence=True)
    things = replace(entry, task='instances', class_names={
        i: n for i, n in class_names.items() if n != 'background'})
    found, = InstanceDetector(
        load_model(things, 'cpu'),
        DetectionParams(score_threshold=0.25, max_detections=300)).detect([photo])
    assert len(found) > 3
    ids, scores = np.full(photo.shape[:2], rest), np.ones(photo.shape[:2], np.float32)
    for i in np.argsort(found.scores, kind='stable').tolist():
        pixels = found.masks.parts[i]
        ids[found.masks.place(i)][pixels] = found.class_ids[i]
        scores[found.masks.place(i)][pixels] = found.scores[i]
    assert len(np.unique(ids)) > 1
    assert (mask.confidence == scores).all()
    tied = np.isin(scores, [s for s in found.scores if (found.scores == s).sum() > 1])
    assert (mask.ids == ids)[~tied].all()


@pytest.mark.parametrize(('kind', 'config'), [
    ('SemanticSegmentationModel', 'yolo26n-sem.yaml'), ('SegmentationModel', 'yolov8n-seg.yaml')])
def test_another_number_of_classes_is_refused(checkpoint, kind, config):
    """Before a pixel gets a wrong name."""
    _, entry = checkpoint(kind, config)
    with pytest.raises(ValueError, match="'mine': the network has 3 classes, but the manifest na"):
        load_model(replace(entry, class_names={0: 'background', 1: 'a'}), 'cpu')


def test_detectors_are_no_segmenters(checkpoint):
    """The sentence says what is supported."""
    _, entry = checkpoint('DetectionModel', 'yolov8n.yaml')
    with pytest.raises(ValueError, match='holds a DetectionModel; supported are SemanticSegmen'):
        load_model(entry, 'cpu')
