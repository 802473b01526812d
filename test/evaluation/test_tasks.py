"""Detectors, segmenters and classifiers of known answers on small sets."""

import cv2
import numpy as np
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.types import ClassScores, Detections, SegmentationMask
from perception_nodes.evaluation.classification_task import ClassificationTask
from perception_nodes.evaluation.datasets import (
    ClassificationDataset,
    ClassifiedImage,
    DetectionDataset,
    LabelledImage,
)
from perception_nodes.evaluation.detection_task import DetectionTask
from perception_nodes.evaluation.mask_datasets import MaskedImage, SegmentationDataset
from perception_nodes.evaluation.metrics import BoxLabels
from perception_nodes.evaluation.segmentation_task import SegmentationTask
import pytest

CAT, DOG = 1, 2
NAMES = {CAT: 'cat', DOG: 'dog'}
BOX = (8, 8, 24, 24)


class Model:
    """Finds a cat where the picture is white, and always a bird, which no label names."""

    class_names = {**NAMES, 3: 'bird'}
    needs_suppression = False

    def predict(self, frames, *, confidence=False):
        return [self.answer(frame) for frame in frames]

    def answer(self, rgb):
        white = rgb.min(axis=2) == 255
        boxes = np.array([BOX, (0, 0, 4, 4)], np.float32)
        scores = np.array([white[8:24, 8:24].mean(), 0.95], np.float32)
        return Detections(boxes, scores, np.array([CAT, 3]))


class MaskModel(Model):
    def answer(self, rgb):
        return SegmentationMask(np.where(rgb[..., 0] == 255, CAT, DOG).astype(np.uint8))


class ClassModel(Model):
    def answer(self, rgb):
        cat = float((rgb.min(axis=2) == 255).mean() > 0.1)
        scores = {CAT: 0.9 * cat, DOG: 0.8 - 0.7 * cat, 3: 0.05}
        ids = sorted(scores, key=scores.get, reverse=True)
        return ClassScores(np.array(ids), np.array([scores[i] for i in ids], np.float32))


def labels(class_id):
    return BoxLabels(np.array([BOX], np.float32), np.array([class_id]), np.array([False]))


@pytest.fixture
def pictures(tmp_path):
    """Return the paths of a white square on black, and of nothing."""
    square = np.zeros((32, 32, 3), np.uint8)
    square[8:24, 8:24] = 255
    paths = []
    for name, rgb in (('square', square), ('nothing', np.zeros_like(square))):
        paths.append(tmp_path / f'{name}.png')
        cv2.imwrite(str(paths[-1]), rgb)
    mask = np.where(square[..., 0] == 255, CAT, DOG).astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'mask.png'), mask)
    return paths


def run(task):
    return task.evaluate([task.predict(image.rgb()) for image in task.images])


def test_boxes(pictures, tmp_path):
    images = [LabelledImage(path, 32, 32, labels(CAT)) for path in pictures]
    detector = ObjectDetector(Model(), DetectionParams(model='m', score_threshold=0.01))
    task = DetectionTask(detector, DetectionDataset(tmp_path, NAMES, images), seed=0)
    result = run(task)
    assert result.values['mAP50'] == pytest.approx(0.5)  # one of two cats; birds are not asked for
    assert result.confusion.counts.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]
    worst, = result.worst
    assert worst.title == 'nothing.png: 1 wrong'
    precision = result.charts[0].curves[-1]
    assert (precision.x.tolist(), precision.y.tolist()) == ([0.5], [1.0])
    what, score = task.confidence(images[0].rgb())
    assert what == 'cat 1.00'
    half = images[0].rgb().copy()
    half[:, :16] = 0
    assert score(half) == pytest.approx(0.5)
    assert task.confidence(images[1].rgb())[0] == 'nothing found'


def test_masks(pictures, tmp_path):
    ids = np.arange(256, dtype=np.int16)
    images = [MaskedImage(path, tmp_path / 'mask.png', None, ids) for path in pictures]
    task = SegmentationTask(MaskModel(), SegmentationDataset(tmp_path, NAMES, images), seed=0)
    answers = [task.predict(image.rgb()) for image in images]
    result = task.evaluate(answers)
    # cat: 256 of 512 pixels; dog: 1536 of 1792
    assert result.values['mIoU'] == pytest.approx((256 / 512 + 1536 / 1792) / 2)
    assert task.headline(answers)['mIoU'] == result.values['mIoU']
    assert result.worst[0].title == 'nothing.png: 75.0% of the pixels are right'
    assert len(result.worst) == 1
    _, score = task.confidence(images[0].rgb())
    assert score(np.zeros((32, 32, 3), np.uint8)) == pytest.approx(0.75)


def test_classes(pictures, tmp_path):
    images = [ClassifiedImage(pictures[0], CAT), ClassifiedImage(pictures[1], CAT),
              ClassifiedImage(pictures[1], DOG)]
    task = ClassificationTask(
        ClassModel(), ClassificationDataset(tmp_path, NAMES, images), seed=0)
    result = run(task)
    assert result.values['accuracy'] == pytest.approx(2 / 3)
    assert result.values['top5_accuracy'] == 1.0
    assert result.values['roc_area'] == pytest.approx(0.75)  # a tie and a pair in order, twice
    assert result.confusion.counts.tolist() == [[1, 1, 0], [0, 1, 0]]
    wrong, = result.worst
    assert wrong.panels[0].note == 'taken for dog 0.80'
    assert task.confidence(images[0].rgb())[1](np.zeros((32, 32, 3), np.uint8)) == 0.0
