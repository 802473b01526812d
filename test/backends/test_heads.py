"""Raw outputs with known boxes, through resize and head, back to image pixels."""

import numpy as np
from perception_nodes.backends import heads
from perception_nodes.backends.preprocess import network_input, Resize
from perception_nodes.core.manifest import ModelInput
import pytest

LETTERBOX = ModelInput(320, 320, resize='letterbox')
STRETCH = ModelInput(300, 300)


def test_ssd_reads_fractions_of_the_image():
    """Rows become boxes, columns become classes, unowned columns and weak scores vanish."""
    scores = np.zeros((3, 4), np.float32)
    scores[0, 1], scores[2, 3], scores[1, 2], scores[1, 0] = 0.9, 0.4, 0.8, 0.005
    boxes = np.array([[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1], [0, 0.5, 1, 1]], np.float32)
    ids = np.array([1, 2, -1, 4])
    found = heads.ssd({'scores': scores, 'boxes': boxes}, (300, 200), ids)
    assert found.class_ids.tolist() == [2, 4]
    np.testing.assert_allclose(found.scores, [0.9, 0.4])
    np.testing.assert_allclose(
        found.boxes_xyxy, [[60, 20, 180, 100], [150, 0, 300, 200]], rtol=1e-6)


@pytest.mark.parametrize('spec', [LETTERBOX, STRETCH])
@pytest.mark.parametrize('shape', [(480, 640), (1080, 810), (37, 91), (320, 320)])
def test_resizing_is_undone_exactly(spec, shape):
    """A box mapped into the network and back is where it was, for any image size."""
    height, width = shape
    box = np.array([[0, 0, width, height], [3, 5, 20, 30]], np.float32)
    resize = Resize.between(width, height, spec)
    scale = np.array(resize.scale_xy * 2)
    inside = box * scale + np.array(resize.offset_xy * 2)
    np.testing.assert_allclose(resize.undo(inside.astype(np.float32)), box, atol=1e-3)
    assert inside.min() >= 0 and inside[:, [0, 2]].max() <= spec.width


def test_a_marked_corner_lands_where_the_resize_says():
    """The pixels go the same way as the boxes: a bright square is found where it should be."""
    rgb = np.zeros((240, 640, 3), np.uint8)
    rgb[60:180, 160:480] = 255
    pixels, resize = network_input(rgb, ModelInput(320, 320, layout='NHWC', resize='letterbox'))
    rows, columns = np.nonzero(pixels[..., 0] > 200)
    inside = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    np.testing.assert_allclose(resize.undo(inside), [[160, 60, 480, 180]], atol=2.0)
    assert pixels[0, 0].tolist() == [114.0] * 3


def test_colour_order_layout_and_normalisation():
    """The network gets what its manifest entry asks for."""
    rgb = np.full((2, 2, 3), (10, 20, 30), np.uint8)
    pixels, _ = network_input(rgb, ModelInput(2, 2, color='bgr', mean=(5, 5, 5), std=(2, 2, 2)))
    assert pixels.shape == (3, 2, 2)
    assert pixels[:, 0, 0].tolist() == [12.5, 7.5, 2.5]
    untouched, _ = network_input(rgb, ModelInput(2, 2, layout='NHWC'))
    assert untouched[0, 0].tolist() == [10.0, 20.0, 30.0]
    assert untouched.dtype == np.float32
