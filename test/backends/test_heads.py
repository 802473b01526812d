"""Raw outputs with known boxes, through resize and head, back to image pixels."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from perception_nodes.backends import heads
from perception_nodes.backends.heads import ScoreColumns
from perception_nodes.backends.onnxruntime_backend import OnnxDetector, OnnxNetwork
from perception_nodes.backends.preprocess import network_input, Resize, smallest_letterbox
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.manifest import ModelEntry, ModelInput
import pytest

LETTERBOX = ModelInput(320, 320, resize='letterbox')
TOP_LEFT = ModelInput(320, 320, resize='letterbox_top_left')
STRETCH = ModelInput(320, 256)
RESIZES = (STRETCH, LETTERBOX, TOP_LEFT)

NAMES = {0: 'cat', 1: 'dog', 2: 'bus', 3: 'cup', 4: 'car'}
# left, top, right, bottom in the image's pixels, score, class
KNOWN = np.array([
    [100, 50, 300, 250, 0.9, 1], [10, 20, 60, 90.5, 0.75, 4], [0, 0, 640, 480, 0.55, 0],
    [600.25, 400, 640, 480, 0.625, 2], [101, 52, 300, 250, 0.6, 1]], np.float32)
DUPLICATE = 4  # the same object as row 0


def entry(head, spec=STRETCH, names=NAMES):
    """Return a manifest entry for a network that exists only as its output."""
    return ModelEntry(
        name='stub', task='detection', backend='onnxruntime', architecture='stub', head=head,
        domain='real', path=Path('stub.onnx'), url='', sha256='0' * 64, size_bytes=None,
        licence='MIT', source='', class_names=names, input=spec, quality=(), training={},
        converted_by='', manifest=Path('manifest.yaml'))


@dataclass
class Session:
    """Stands for onnxruntime's session: always the same raw output, whatever the image."""

    outputs: dict
    shape: tuple
    dtype: str = 'tensor(float)'
    fed = None

    def get_inputs(self):
        """Return the one image input."""
        return [SimpleNamespace(name='image', shape=list(self.shape), type=self.dtype)]

    def get_outputs(self):
        """Return what there is."""
        return [SimpleNamespace(name=name) for name in self.outputs]

    def run(self, names, feed):
        """Return the raw output of a batch of one."""
        self.fed, = feed.values()
        return [value[None] for value in self.outputs.values()]


def detector(head, spec, outputs, names=NAMES):
    """Return the ONNX detector around a stub network."""
    session = Session(outputs, (1, 3, spec.height, spec.width))
    said = entry(head, spec, names)
    return OnnxDetector(OnnxNetwork(session, said), said)


def inside(spec, rows=KNOWN, shape=(480, 640)):
    """Return the known boxes in network pixels."""
    resize = Resize.between(shape[1], shape[0], spec)
    return rows[:, :4] * np.array(resize.scale_xy * 2) + np.array(resize.offset_xy * 2)


def centre_size(corners):
    """Return centre and size."""
    low, high = corners[:, :2], corners[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=1)


def one_hot(rows=KNOWN, columns=5):
    """Return a matrix with each row's score in its class' column."""
    scores = np.zeros((len(rows), columns), np.float32)
    scores[np.arange(len(rows)), rows[:, 5].astype(int)] = rows[:, 4]
    return scores


def logit(p):
    """Return the inverse of the sigmoid."""
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def raw_ssd(spec):
    """Return decoded anchors, most of them empty."""
    fractions = inside(spec) / np.array([spec.width, spec.height] * 2)
    return anchored({'scores': one_hot(), 'boxes': fractions[:, [1, 0, 3, 2]]}, 1917)


def raw_yolo_v8(spec):
    """Return (4 + C, A)."""
    table = np.concatenate([centre_size(inside(spec)), one_hot()], axis=1)
    return {'output0': anchored({'': table}, 2100)[''].T.copy()}


def raw_yolo_v8_transposed(spec):
    """Return (A, 4 + C)."""
    return {'output0': raw_yolo_v8(spec)['output0'].T.copy()}


def raw_yolo_v5(spec):
    """Return (A, 5 + C), the score split into objectness and class."""
    objectness = np.full((len(KNOWN), 1), 0.95)
    scores = one_hot() / 0.95
    table = np.concatenate([centre_size(inside(spec)), objectness, scores], axis=1)
    return anchored({'output': table}, 6300)


def raw_yolo_end_to_end(spec):
    """Return (N, 6), padded with zeros, without the duplicate."""
    table = np.concatenate([inside(spec), KNOWN[:, 4:]], axis=1)
    return {'output0': np.concatenate(
        [np.delete(table, DUPLICATE, axis=0), np.zeros((296, 6))]).astype(np.float32)}


def raw_yolox(spec):
    """Return what decodes to the known boxes, each at a cell of another stride."""
    sizes = [(spec.height // s, spec.width // s, s) for s in (8, 16, 32)]
    cells = [(x, y, s) for rows, columns, s in sizes for y in range(rows) for x in range(columns)]
    at = np.array([0, 7, 1300, len(cells) - 1, len(cells) - 40])
    place = np.array([cells[i] for i in at], np.float64)
    boxes = centre_size(inside(spec))
    table = np.zeros((len(cells), 10))
    table[at, :2] = boxes[:, :2] / place[:, 2:] - place[:, :2]
    table[at, 2:4] = np.log(boxes[:, 2:] / place[:, 2:])
    table[at, 4] = 0.98
    table[at, 5:] = one_hot() / 0.98
    return {'output': table.astype(np.float32)}


def raw_detr(spec):
    """Return 300 queries: logits and boxes in fractions, without the duplicate."""
    boxes = centre_size(inside(spec)) / np.array([spec.width, spec.height] * 2)
    table = {'dets': boxes, 'labels': logit(one_hot())}
    queries = anchored({name: np.delete(v, DUPLICATE, axis=0) for name, v in table.items()}, 300)
    queries['labels'][queries['labels'] == 0] = -12.0
    return queries


def anchored(tables, count):
    """Scatter the rows of tables over ``count`` anchors, the same places in each."""
    at = np.random.default_rng(1).permutation(count)[:len(next(iter(tables.values())))]
    result = {}
    for name, table in tables.items():
        result[name] = np.zeros((count, table.shape[1]), np.float32)
        result[name][at] = table
    return result


@pytest.mark.parametrize('spec', RESIZES, ids=lambda spec: spec.resize)
@pytest.mark.parametrize(('head', 'raw'), [
    ('ssd', raw_ssd), ('yolo', raw_yolo_v8), ('yolo', raw_yolo_v8_transposed),
    ('yolo', raw_yolo_v5), ('yolo', raw_yolo_end_to_end), ('yolox', raw_yolox),
    ('detr', raw_detr)])
def test_known_boxes_come_back_in_image_pixels(head, raw, spec):
    """The raw output alone decides: boxes within 1e-3 px, scores, classes, one per object."""
    model = detector(head, spec, raw(spec))
    found, = ObjectDetector(model, DetectionParams(score_threshold=0.3)).detect(
        [np.zeros((480, 640, 3), np.uint8)])
    expected = np.delete(KNOWN, DUPLICATE, axis=0)
    expected = expected[np.argsort(-expected[:, 4])]
    np.testing.assert_allclose(found.boxes_xyxy, expected[:, :4], atol=1e-3)
    np.testing.assert_allclose(found.scores, expected[:, 4], atol=1e-5)
    assert found.class_ids.tolist() == expected[:, 5].astype(int).tolist()
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
    assert found.class_ids.dtype == np.int64


@pytest.mark.parametrize(('head', 'raw', 'needs'), [
    ('ssd', raw_ssd, True), ('yolo', raw_yolo_v8, True), ('yolox', raw_yolox, True),
    ('yolo', raw_yolo_end_to_end, False), ('detr', raw_detr, False)])
def test_models_without_duplicates_say_so(head, raw, needs):
    """Suppression would only lose objects there."""
    assert detector(head, STRETCH, raw(STRETCH)).needs_suppression is needs


@pytest.mark.parametrize(('head', 'empty'), [
    ('ssd', {'scores': (1917, 5), 'boxes': (1917, 4)}), ('yolo', {'o': (9, 2100)}),
    ('yolo', {'o': (6300, 10)}), ('yolo', {'o': (300, 6)}), ('yolox', {'o': (1680, 10)})])
def test_nothing_in_the_image_is_no_boxes(head, empty):
    """All-zero outputs give empty arrays of the right shapes."""
    outputs = {name: np.zeros(shape, np.float32) for name, shape in empty.items()}
    found, = detector(head, STRETCH, outputs).predict([np.zeros((48, 64, 3), np.uint8)])
    assert found.boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize(('head', 'raw'), [
    ('ssd', raw_ssd), ('yolo', raw_yolo_v8), ('yolo', raw_yolo_v5),
    ('yolo', raw_yolo_end_to_end), ('yolox', raw_yolox), ('detr', raw_detr)])
def test_an_answer_that_is_no_number_is_not_taken_for_nothing(head, raw):
    """What overflows in 16 bits on some pictures only lies above no threshold."""
    outputs = raw(STRETCH)
    model = detector(head, STRETCH, outputs)
    for values in outputs.values():
        values[:] = np.nan
    with pytest.raises(ValueError, match='the network answered NaN'):
        model.predict([np.zeros((48, 64, 3), np.uint8)])


def test_one_class_with_objectness_is_not_taken_for_the_end_to_end_layout():
    """Both have six columns; the number of rows tells them apart."""
    rows = KNOWN[:1].copy()
    rows[0, 5] = 0
    table = np.zeros((6300, 6), np.float32)  # 3 anchors x (40 x 40 + 20 x 20 + 10 x 10)
    table[17] = [*centre_size(inside(LETTERBOX, rows))[0], 1.0, 0.9]
    model = detector('yolo', LETTERBOX, {'output': table}, {0: 'cat'})
    assert model.needs_suppression
    found, = model.predict([np.zeros((480, 640, 3), np.uint8)])
    np.testing.assert_allclose(found.boxes_xyxy, rows[:, :4], atol=1e-3)
    np.testing.assert_allclose(found.scores, 0.9, rtol=1e-6)


def test_ids_with_gaps_and_networks_that_count_from_zero():
    """COCO's 90 ids: 90 columns begin at 1, 91 at 0; columns of missing ids are dropped."""
    columns = ScoreColumns({1: 'person', 3: 'car'})
    assert columns.ids(3).tolist() == [1, -1, 3]
    assert columns.ids(4).tolist() == [-1, 1, -1, 3]
    scores = np.array([[0.9, 0.8, 0.7]], np.float32)
    boxes = np.array([[0.1, 0.2, 0.5, 0.6]], np.float32)
    found = heads.ssd({'scores': scores, 'boxes': boxes}, (300, 200), columns)
    assert found.class_ids.tolist() == [1, 3]
    np.testing.assert_allclose(found.boxes_xyxy, [[60, 20, 180, 100]] * 2, rtol=1e-6)


@pytest.mark.parametrize(('head', 'outputs', 'sentence'), [
    ('ssd', {'scores': (1917, 90), 'boxes': (1917, 4)},
     'the network has 90 classes, but the manifest names 5 with ids from 0 to 4'),
    ('ssd', {'output0': (84, 8400)}, "no output 'scores', only output0"),
    ('yolo', {'output0': (84, 2100)}, 'shape (84, 2100); with the 5 classes of the manifest'),
    ('yolox', {'output': (1680, 85)}, 'the network has 80 classes'),
    ('yolox', {'output': (8400, 10)}, 'head yolox expects (1680, 5 + classes) at an input of'),
    ('detr', {'dets': (300, 4), 'labels': (300, 91)}, 'the network has 91 classes'),
    ('detr', {'boxes': (300, 4), 'scores': (300,), 'labels': (300,)}, 'without its post-pro'),
    ('yolo9000', {'o': (1, 1)}, "head 'yolo9000'; choose one of ssd, yolo, yolox, detr"),
])
def test_a_network_that_is_not_the_manifests_is_refused(head, outputs, sentence):
    """When it is loaded, not at the first object."""
    raw = {name: np.ones(shape, np.float32) for name, shape in outputs.items()}
    with pytest.raises(ValueError, match="^model 'stub'") as caught:
        detector(head, STRETCH, raw)
    assert sentence in str(caught.value)


def test_an_end_to_end_network_with_more_classes_is_refused():
    """Its columns do not tell how many it has; the first unknown class does."""
    table = np.array([[0, 0, 9, 9, 0.9, 17]], np.float32)
    with pytest.raises(ValueError, match='found class number 17, but the manifest names only 5'):
        heads.yolo_end_to_end(table, ScoreColumns(NAMES))


def test_four_classes_are_told_from_boxes_by_name():
    """Both outputs of a transformer are then (queries, 4)."""
    logits = np.full((300, 4), -9.0, np.float32)
    logits[5, 3] = 3.0
    boxes = np.full((300, 4), 0.5, np.float32)
    found = heads.detr({'pred_logits': logits, 'pred_boxes': boxes}, (100, 100), ScoreColumns(
        {0: 'a', 1: 'b', 2: 'c', 3: 'd'}))
    assert found.class_ids.tolist() == [3]
    np.testing.assert_allclose(found.boxes_xyxy, [[25, 25, 75, 75]])


@pytest.mark.parametrize('spec', RESIZES, ids=lambda spec: spec.resize)
@pytest.mark.parametrize('shape', [(480, 640), (1080, 810), (37, 91), (320, 320), (1, 900)])
def test_resizing_is_undone_exactly(spec, shape):
    """A box mapped into the network and back is where it was, for any image size."""
    height, width = shape
    box = np.array([[0, 0, width, height], [3, 5, 20, 30]], np.float32)
    resize = Resize.between(width, height, spec)
    scale = np.array(resize.scale_xy * 2)
    within = box * scale + np.array(resize.offset_xy * 2)
    np.testing.assert_allclose(resize.undo(within.astype(np.float32)), box, atol=1e-3)
    assert within[0].min() >= 0 and within[0, 2] <= spec.width and within[0, 3] <= spec.height
    assert network_input(np.zeros((*shape, 3), np.uint8), spec)[0].shape == (
        3, spec.height, spec.width)


@pytest.mark.parametrize(('spec', 'corner'), [(LETTERBOX, 114.0), (TOP_LEFT, 0.0)])
def test_a_marked_corner_lands_where_the_resize_says(spec, corner):
    """The pixels go the same way as the boxes: a bright square is found where it should be."""
    rgb = np.zeros((240, 640, 3), np.uint8)
    rgb[60:180, 160:480] = 255
    pixels, resize = network_input(rgb, replace(spec, layout='NHWC'))
    rows, columns = np.nonzero(pixels[..., 0] > 200)
    within = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    np.testing.assert_allclose(resize.undo(within), [[160, 60, 480, 180]], atol=2.0)
    assert pixels[0, 0].tolist() == [corner] * 3
    assert pixels[-1, -1].tolist() == [114.0] * 3


def test_colour_order_layout_and_normalisation():
    """The network gets what its manifest entry asks for."""
    rgb = np.full((2, 2, 3), (10, 20, 30), np.uint8)
    spec = ModelInput(2, 2, color='bgr', mean=(5, 6, 7), std=(2, 2, 4))
    for layout in ('NCHW', 'NHWC'):
        pixels, _ = network_input(rgb, replace(spec, layout=layout))
        planes = pixels if layout == 'NCHW' else pixels.transpose(2, 0, 1)
        assert planes.shape == (3, 2, 2)
        assert planes[:, 0, 0].tolist() == [12.5, 7.0, 0.75]
    untouched, _ = network_input(rgb, ModelInput(2, 2, layout='NHWC'))
    assert untouched[0, 0].tolist() == [10.0, 20.0, 30.0]
    assert untouched.dtype == np.float32


def test_bars_that_a_network_does_not_need_are_left_out():
    """A free network sees a wide image without the grey above and below it."""
    spec = ModelInput(640, 640, resize='letterbox')
    slim = smallest_letterbox(1280, 720, spec, 32)
    assert (slim.width, slim.height) == (640, 384)
    assert smallest_letterbox(1280, 720, ModelInput(640, 640), 32) == ModelInput(640, 640)
    assert smallest_letterbox(480, 640, spec, 32).width == 480


def test_every_plausible_class_of_a_dense_cell_is_a_box():
    """Centre and size in the first rows; scores below the floor and gaps in the ids are none."""
    names = {3: 'table', 5: 'shelf'}
    table = np.array([[10, 50], [20, 60], [4, 8], [6, 2], [0.9, 0.001], [0.8, 0.7], [0.3, 0.005]],
                     np.float32)
    found = heads.dense({'boxes': table}, (64, 64), ScoreColumns(names))
    assert sorted(zip(found.class_ids.tolist(), found.scores.round(3).tolist(), strict=True)) == [
        (3, pytest.approx(0.9)), (5, pytest.approx(0.3))]
    assert found.boxes_xyxy.tolist() == [[8, 17, 12, 23]] * 2
    with pytest.raises(ValueError, match='head dense expects 7 rows'):
        heads.dense({'boxes': table[:6]}, (64, 64), ScoreColumns(names))
