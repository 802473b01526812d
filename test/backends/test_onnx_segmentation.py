"""A segmenter in an ONNX file whose classes are the colours of its picture."""

import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.core.manifest import find_model
import pytest

RED, GREEN, BLUE = (220, 10, 10), (10, 220, 10), (10, 10, 220)


@pytest.fixture
def picture():
    """Return a red picture of 128 x 96 with a green lower half and a blue box in it."""
    rgb = np.full((96, 128, 3), RED, np.uint8)
    rgb[48:] = GREEN
    rgb[64:88, 32:96] = BLUE
    return rgb


def truth(picture):
    """Return the class of each pixel."""
    return np.asarray(picture).argmax(axis=2)


@pytest.mark.parametrize('output', ['NCHW', 'NHWC', 'ids'])
def test_every_layout_gives_the_right_mask(colour_segmenter, picture, place, output):
    """The output `logits` is taken, though it is not the first; borders are true to a cell."""
    entry = find_model('colours', 'segmentation', str(colour_segmenter(output=output)))
    model = load_model(entry, place)
    mask, = model.predict([picture])
    assert mask.ids.shape == (96, 128)
    differs = mask.ids != truth(picture)
    assert not differs[:60].any()  # borders lie between cells of 8 pixels
    assert differs.sum() <= (0 if output == 'ids' else 4 * 16)  # interpolation rounds corners off
    assert mask.confidence is None
    mask, = model.predict([picture], confidence=True)
    if output == 'ids':
        assert mask.confidence is None
    else:
        first = np.exp(10.0 * np.array(RED) / 255)
        assert mask.confidence[0, 0] == pytest.approx(first[0] / first.sum(), abs=1e-4)
        assert mask.confidence[47, 10] < 0.8 < mask.confidence[20, 10]


def test_frames_of_different_sizes_keep_theirs(colour_segmenter, picture, place):
    """Each mask is of its own frame's size."""
    model = load_model(find_model('colours', '', str(colour_segmenter())), place)
    first, second = model.predict([picture, picture[:48, :50]])
    assert first.ids.shape == (96, 128)
    assert second.ids.shape == (48, 50)
    assert (second.ids == 0).all()


@pytest.mark.parametrize(('classes', 'sentence'), [
    ('{0: red, 1: green}', r"'colours': the network's output has shape \(3, 12, 16\) of float32; "
                           'with the 2 classes of the manifest it must be'),
    ('{0: red, 70000: green}', 'ids of masks end at 65535'),
])
def test_classes_that_are_not_the_networks_are_refused(colour_segmenter, classes, sentence):
    """When it is loaded, not with the first frame."""
    entry = find_model('colours', '', str(colour_segmenter(classes)))
    with pytest.raises(ValueError, match=sentence):
        load_model(entry, 'cpu')


def test_half_precision_is_refused(colour_segmenter):
    """An ONNX file is what it is."""
    with pytest.raises(ValueError, match='has the precision it was exported with'):
        load_model(find_model('colours', '', str(colour_segmenter())), 'cpu', half_precision=True)
