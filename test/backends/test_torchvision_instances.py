"""Masks and key points of torchvision's own forward pass beside those of our backend."""

from dataclasses import replace

import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.core.boxes import non_maximum_suppression
from perception_nodes.core.detection import DetectionParams
from perception_nodes.core.instances import detector_for, instance_image
import pytest

torch = pytest.importorskip('torch')
torchvision = pytest.importorskip('torchvision')
backend = pytest.importorskip('perception_nodes.backends.torchvision_backend')

pytestmark = pytest.mark.slow

SIZE = (96, 64)


def vendor(architecture, classes, **options):
    """Return the network with seeded weights that find many objects of varied shapes."""
    torch.set_num_threads(1)
    with backend.Uninitialised():
        network = torchvision.models.get_model(
            architecture, weights=None, weights_backbone=None, num_classes=classes + 1,
            min_size=min(SIZE), max_size=max(SIZE), **options)
    torch.manual_seed(5)
    for name, tensor in network.named_parameters():
        if tensor.ndim > 1:
            gain = 0.1 if any(part in name for part in ('pred', 'logits', 'bbox')) else 1.5
            gain = 20.0 if 'mask_predictor' in name else gain
            tensor.data.normal_(0.0, (gain / tensor[0].numel()) ** 0.5)
        else:
            tensor.data.fill_(1.0 if name.endswith('weight') else 0.0)
    for norm in network.backbone.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 1.0
    with torch.inference_mode():  # statistics of noise keep the features in range
        network.backbone.train()(torch.randn(2, 3, 128, 128))
    return network.eval().to(memory_format=torch.channels_last)


@pytest.fixture(scope='module', params=[
    ('maskrcnn_resnet50_fpn', 3, {}), ('maskrcnn_resnet50_fpn_v2', 3, {}),
    ('keypointrcnn_resnet50_fpn', 1, {'num_keypoints': 5})], ids=lambda p: p[0])
def pair(request, tmp_path_factory, make_entry):
    """Return a network of torchvision, and the manifest entry of its weights."""
    architecture, classes, options = request.param
    network = vendor(architecture, classes, **options)
    path = tmp_path_factory.mktemp(architecture) / 'weights.pth'
    torch.save(network.state_dict(), path)
    entry = make_entry(path, 'torchvision', architecture, classes, width=SIZE[0], height=SIZE[1])
    return network, replace(entry, task='instances')


def as_vendor(network):
    """Return the choice that torchvision itself makes of its boxes."""
    heads = network.roi_heads

    def select(found):
        rows = np.flatnonzero(found.scores > heads.score_thresh)
        likely = found[rows]
        return rows[non_maximum_suppression(
            likely.boxes_xyxy, likely.scores, likely.class_ids, heads.nms_thresh,
            heads.detections_per_img)]
    return select


def theirs(network, photo):
    """Return the vendor's answer as arrays."""
    pixels = torch.tensor(photo).permute(2, 0, 1)[None].float()
    pixels = pixels.to(memory_format=torch.channels_last)[0]
    with torch.inference_mode():
        answer, = network([pixels / 255])
    return {name: value.numpy() for name, value in answer.items()}


def test_masks_and_keypoints_are_those_of_torchvision_itself(pair, photo, place):
    """For the same boxes: masks differ where the vendor's probability is about a half at most."""
    network, entry = pair
    expected = theirs(network, photo)
    model = load_model(entry, place)
    slack = 1 if place == 'cpu' else 30  # sums in another order
    found, = model.predict_instances([photo], as_vendor(network))
    assert (found.masks is not None) == model.has_masks == ('masks' in expected)
    assert (found.keypoints is not None) == (model.keypoints == 5) == ('keypoints' in expected)
    apart = np.abs(found.boxes_xyxy[:, None] - expected['boxes'][None]).max(axis=2)
    apart[found.class_ids[:, None] != expected['labels'][None]] = np.inf
    ours = np.flatnonzero(apart.min(axis=1) < 1e-3 * slack)
    assert len(ours) > 0.9 * len(expected['boxes'])
    assert len(ours) >= 5
    inside = 0
    for i, k in zip(ours, apart[ours].argmin(axis=1), strict=True):
        if model.has_masks:
            probability = expected['masks'][k, 0]
            mine = np.zeros(photo.shape[:2], bool)
            mine[found.masks.place(i)] = found.masks.parts[i]
            differs = mine != (probability > 0.5)
            assert (np.abs(probability[differs] - 0.5) < 0.03 * (1 + slack) / 2).all()
            inside += mine.any() and not mine[found.masks.place(i)].all()
        else:
            np.testing.assert_allclose(
                found.keypoints[i, :, :2], expected['keypoints'][k, :, :2], atol=1e-2 * slack)
            logit = expected['keypoints_scores'][k]
            np.testing.assert_allclose(
                found.keypoints[i, :, 2], 1.0 / (1.0 + np.exp(-logit)), atol=1e-3 * slack)
            inside += np.ptp(found.keypoints[i, :, 0]) > 1.0
    assert inside >= 3  # neither all nor nothing of the box


def test_only_kept_boxes_go_through_the_branches(pair, photo):
    """And what they give is the same in a batch, or with other boxes beside."""
    _, entry = pair
    model = load_model(entry, 'cpu')
    counts = []
    branch = model._mask_branch or model._keypoint_branch
    branch[1].register_forward_hook(lambda module, given, answer: counts.append(len(answer)))
    params = DetectionParams(score_threshold=0.0, max_detections=2)
    both = detector_for('instances', model, params).detect([photo, photo[:48, :50]])
    assert counts == [2, 2]
    assert [len(found) for found in both] == [2, 2]
    alone, = detector_for('instances', model, params).detect([photo])
    if model.has_masks:
        assert both[1].masks.image_shape == (48, 50)
        assert (instance_image(alone.masks, alone.scores)
                != instance_image(both[0].masks, both[0].scores)).mean() < 0.01
    else:
        np.testing.assert_allclose(alone.keypoints, both[0].keypoints, atol=0.05)


def test_boxes_are_those_of_the_detection_model(pair, photo):
    """Without the branches, where only boxes are asked for; nothing found is an answer too."""
    _, entry = pair
    model = load_model(entry, 'cpu')
    boxes, = model.predict([photo])
    found, = model.predict_instances([photo], lambda found: np.arange(len(found))[::50])
    np.testing.assert_allclose(found.boxes_xyxy, boxes.boxes_xyxy[::50], atol=1e-3)
    nothing, = model.predict_instances([photo], lambda found: np.empty(0, np.int64))
    assert len(nothing) == 0
    if model.has_masks:
        assert nothing.masks.image_shape == photo.shape[:2]
    else:
        assert nothing.keypoints.shape == (0, 5, 3)


def test_a_detector_of_boxes_gives_no_instances(pair):
    """The sentence lists those that do."""
    _, entry = pair
    with pytest.raises(ValueError, match='for instances; there are .*maskrcnn_resnet50_fpn'):
        load_model(replace(entry, architecture='ssd300_vgg16'), 'cpu')


def test_the_memory_goes_with_the_model(pair, gives_memory_back):
    _, entry = pair
    assert gives_memory_back(lambda: load_model(entry, 'cpu'))
