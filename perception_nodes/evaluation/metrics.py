"""
How good boxes are: average precision as PASCAL VOC and as COCO count it.

Without ground truth and without detections a score is NaN; with detections only it is 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.core.boxes import iou_matrix
from perception_nodes.core.types import Detections


@dataclass(frozen=True, eq=False)
class BoxLabels:
    """
    The true boxes of one image.

    An ignored box is one that nobody is expected to find (a crowd, a sliver at the border):
    missing it costs nothing, and detections inside it count neither way.

    :raises ValueError: If the arrays disagree in length or shape.
    """

    boxes_xyxy: npt.NDArray[np.float32]  # (N, 4) pixels
    class_ids: npt.NDArray[np.int64]  # (N,)
    ignored: npt.NDArray[np.bool_]  # (N,)

    def __post_init__(self) -> None:
        n = len(self.boxes_xyxy)
        shapes = (self.boxes_xyxy.shape, self.class_ids.shape, self.ignored.shape)
        if shapes != ((n, 4), (n,), (n,)):
            raise ValueError(
                'boxes, class ids and ignore flags have shapes {}, {} and {}; '
                'expected (N, 4), (N,) and (N,)'.format(*shapes))

    def __len__(self) -> int:
        return len(self.class_ids)

    def __getitem__(self, keep: Any) -> 'BoxLabels':
        return BoxLabels(self.boxes_xyxy[keep], self.class_ids[keep], self.ignored[keep])


@dataclass(frozen=True, eq=False)
class PrecisionRecall:
    """Precision and recall of one class as the score threshold falls; ignored boxes left out."""

    scores: npt.NDArray[np.float32]  # (N,) falling
    precision: npt.NDArray[np.float64]  # (N,)
    recall: npt.NDArray[np.float64]  # (N,) rising; NaN without ground truth
    labels: int  # true boxes to find

    def average_precision(self) -> float:
        """
        Return the area under the curve after precision is made to fall (VOC 2010 and later).

        Every point of the curve counts, not 11 or 101 sampled ones.
        """
        if not self.labels:
            return 0.0 if len(self.scores) else math.nan
        envelope = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float(np.sum(np.diff(self.recall, prepend=0.0) * envelope))


@dataclass(frozen=True, eq=False)
class Matches:
    """Which detections of a set of images hit a true box; one row per counted detection."""

    class_ids: npt.NDArray[np.int64]  # (N,)
    scores: npt.NDArray[np.float32]  # (N,) falling
    images: npt.NDArray[np.int64]  # (N,) index of the image
    hits: npt.NDArray[np.bool_]  # (N,)
    label_images: npt.NDArray[np.int64]  # (M,) index of the image of each true box
    label_class_ids: npt.NDArray[np.int64]  # (M,)

    def curve(
        self, class_id: int, image_weights: npt.NDArray[np.int64] | None = None
    ) -> PrecisionRecall:
        """
        Return the precision/recall curve of one class.

        :param image_weights: (images,) how often each image counts; None counts each once.
        """
        mine = self.class_ids == class_id
        is_label = self.label_class_ids == class_id
        if image_weights is None:
            weights = np.ones(np.count_nonzero(mine), np.int64)
            labels = int(np.count_nonzero(is_label))
        else:
            weights = image_weights[self.images[mine]]
            labels = int(image_weights[self.label_images[is_label]].sum())
        found, scores, hits = weights > 0, self.scores[mine], self.hits[mine]
        true_positives = np.cumsum(weights * hits)[found]
        positives = np.cumsum(weights)[found]
        with np.errstate(divide='ignore', invalid='ignore'):
            recall = true_positives / np.float64(labels)
        return PrecisionRecall(scores[found], true_positives / positives, recall, labels)

    def mean_average_precision(
        self, image_weights: npt.NDArray[np.int64] | None = None
    ) -> float:
        """Return the mean of the classes' average precision, over those with ground truth."""
        present = self.label_class_ids
        if image_weights is not None:
            present = present[image_weights[self.label_images] > 0]
        if not len(present):
            return 0.0 if len(self.scores) else math.nan
        return float(np.mean([
            self.curve(int(i), image_weights).average_precision() for i in np.unique(present)]))


def match_detections(
    labels: Sequence[BoxLabels], found: Sequence[Detections], min_iou: float = 0.5
) -> Matches:
    """
    Decide for each detection whether it hits a true box, by the rule of PASCAL VOC.

    Best score first, a detection is compared with the true box of its class that it overlaps
    most: the first one to reach ``min_iou`` hits, every later one is a false alarm.

    See M. Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective",
    2015, section 2.2.

    :param labels: True boxes, one item per image.
    :param found: Detections of the same images.
    :param min_iou: Smallest intersection over union of a hit.
    :raises ValueError: If the two disagree in length.
    """
    images, class_ids, scores, hits = [], [], [], []
    for index, (truth, boxes) in enumerate(zip(labels, found, strict=True)):
        outcome = _outcomes(truth, boxes, min_iou)
        counted = outcome != _IGNORED
        images.append(np.full(np.count_nonzero(counted), index))
        class_ids.append(boxes.class_ids[counted])
        scores.append(boxes.scores[counted])
        hits.append(outcome[counted] == _HIT)
    expected = [truth[~truth.ignored] for truth in labels]
    all_scores = joined(scores, np.float32)
    order = np.argsort(-all_scores, kind='stable')
    return Matches(
        joined(class_ids, np.int64)[order], all_scores[order],
        joined(images, np.int64)[order], joined(hits, np.bool_)[order],
        np.repeat(np.arange(len(labels)), [len(truth) for truth in expected]),
        joined([truth.class_ids for truth in expected], np.int64))


def coco_average_precision(
    labels: Sequence[BoxLabels], found: Sequence[Detections]
) -> dict[str, float]:
    """
    Return ``AP`` (mean over IoU 0.50 to 0.95), ``AP50`` and ``AP75`` as COCO counts them.

    At most 100 detections per image and class count. Computed by faster-coco-eval.

    :param labels: True boxes, one item per image.
    :param found: Detections of the same images.
    :raises ImportError: If that package is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ModuleNotFoundError as error:
        raise ImportError(
            "COCO's average precision needs the package faster-coco-eval: "
            'pip install faster-coco-eval') from error
    annotations = _coco_annotations(labels)
    results = _coco_results(found)
    expected = any(not row['iscrowd'] for row in annotations)
    if not expected or not results:
        value = 0.0 if expected or results else math.nan
        return dict.fromkeys(('AP', 'AP50', 'AP75'), value)
    class_ids = {row['category_id'] for row in (*annotations, *results)}
    truth = COCO({
        'images': [{'id': i + 1} for i in range(len(labels))],
        'categories': [{'id': i, 'name': str(i)} for i in sorted(class_ids)],
        'annotations': annotations})
    evaluation = COCOeval_faster(truth, truth.loadRes(results), 'bbox')
    # boxes of all sizes at once: the library's table by size is four times the work
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0.0, 1e10]], ['all']
    evaluation.params.maxDets = [100]
    evaluation.evaluate()
    evaluation.accumulate()
    # (IoU, recall, class, 1, 1); -1 for classes without ground truth
    precision = evaluation.eval['precision'][..., 0, 0]
    precision = precision[:, :, precision[0, 0] > -1.0]
    by_iou = precision.mean(axis=(1, 2))
    return {'AP': float(by_iou.mean()), 'AP50': float(by_iou[0]), 'AP75': float(by_iou[5])}


def bootstrap_intervals(
    score: Callable[[npt.NDArray[np.int64]], Mapping[str, float]], images: int, seed: int,
    resamples: int = 1000,
) -> dict[str, tuple[float, float]]:
    """
    Return the 95 % intervals of scores over which images happened to be taken.

    Images are drawn with replacement (B. Efron, "Bootstrap methods", 1979); draws on which a
    score is NaN are left out.

    :param score: Gets (images,) int64, how often each image was drawn; returns named scores.
    :param images: How many images there are.
    :param seed: Seed of the draws.
    :param resamples: Number of draws.
    :return: Lower and upper end by name; NaN for both where every draw is.
    """
    random = np.random.default_rng(seed)
    drawn = random.multinomial(images, np.full(images, 1.0 / images), size=resamples)
    scores = [score(weights) for weights in drawn]
    return {name: _central([s[name] for s in scores]) for name in scores[0]}


def scores_with_intervals(
    score: Callable[[npt.NDArray[np.int64]], Mapping[str, float]], groups: npt.NDArray[np.int64],
    seed: int, resamples: int = 1000,
) -> dict[str, float]:
    """
    Return scores by name, each with ``_ci_low`` and ``_ci_high``, the ends of its 95 % interval.

    Whole groups are drawn: pictures of one scene resemble each other and are no separate evidence.

    :param score: Gets (images,) int64, how often each image counts; returns named scores.
    :param groups: (images,) number of the group of each image, counted from 0.
    :param seed: Seed of the draws.
    :param resamples: Number of draws.
    """
    values = score(np.ones(len(groups), np.int64))
    intervals = bootstrap_intervals(
        lambda weights: score(weights[groups]), int(groups.max()) + 1, seed, resamples)
    return {key: value for name in values for key, value in (
        (name, values[name]), (f'{name}_ci_low', intervals[name][0]),
        (f'{name}_ci_high', intervals[name][1]))}


def groups_of(scenes: Sequence[int | None]) -> npt.NDArray[np.int64]:
    """Return the number of each image's scene, (images,) int64; one without is on its own."""
    keys = [(scene, -1) if scene is not None else (-1, i) for i, scene in enumerate(scenes)]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int64)


def first_of_groups(
    order: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], most: int
) -> list[int]:
    """Return the first images of an order, one of each group: others of a scene look alike."""
    seen: dict[int, int] = {}
    for i in order.tolist():
        seen.setdefault(int(groups[i]), i)
    return list(seen.values())[:most]


def _central(values: Sequence[float]) -> tuple[float, float]:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


_FALSE_ALARM, _HIT, _IGNORED = 0, 1, 2


def _outcomes(
    truth: BoxLabels, boxes: Detections, min_iou: float
) -> npt.NDArray[np.uint8]:
    """Return what became of each detection of one image."""
    outcome = np.full(len(boxes), _FALSE_ALARM, np.uint8)
    expected, ignored = truth[~truth.ignored], truth[truth.ignored]
    overlap = iou_matrix(boxes.boxes_xyxy, expected.boxes_xyxy)
    overlap[boxes.class_ids[:, None] != expected.class_ids[None, :]] = 0.0
    inside = _covered(boxes.boxes_xyxy, ignored.boxes_xyxy)
    inside[boxes.class_ids[:, None] != ignored.class_ids[None, :]] = 0.0
    taken = np.zeros(len(expected), np.bool_)
    for i in np.argsort(-boxes.scores, kind='stable'):
        best = int(np.argmax(overlap[i])) if len(expected) else -1
        if best >= 0 and overlap[i, best] >= min_iou and not taken[best]:
            outcome[i], taken[best] = _HIT, True
        elif len(ignored) and inside[i].max() >= min_iou:
            outcome[i] = _IGNORED
    return outcome


def _covered(
    a_xyxy: npt.NDArray[np.float32], b_xyxy: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return the share of each box of ``a`` that each box of ``b`` covers, (N, M)."""
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    area = np.prod(a_xyxy[:, 2:] - a_xyxy[:, :2], axis=1)[:, None]
    return np.divide(shared, area, out=np.zeros_like(shared), where=area > 0.0)


def joined(parts: Sequence[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
    """Return arrays end to end, also where there are none."""
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False)


def _coco_annotations(labels: Sequence[BoxLabels]) -> list[dict[str, Any]]:
    rows = _coco_rows([(truth.boxes_xyxy, truth.class_ids) for truth in labels])
    ignored = joined([truth.ignored for truth in labels], np.bool_).tolist()
    # the library reads id 0 as "unmatched"; iscrowd is the only flag that it ignores by
    return [{**row, 'id': number, 'area': row['bbox'][2] * row['bbox'][3], 'iscrowd': int(flag)}
            for number, (row, flag) in enumerate(zip(rows, ignored, strict=True), start=1)]


def _coco_results(found: Sequence[Detections]) -> list[dict[str, Any]]:
    rows = _coco_rows([(boxes.boxes_xyxy, boxes.class_ids) for boxes in found])
    scores = joined([boxes.scores for boxes in found], np.float32).tolist()
    return [{**row, 'score': score} for row, score in zip(rows, scores, strict=True)]


def _coco_rows(
    images: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]
) -> list[dict[str, Any]]:
    """Return one dict per box, with left, top, width and height; images count from 1."""
    rows: list[dict[str, Any]] = []
    for image_id, (boxes_xyxy, class_ids) in enumerate(images, start=1):
        left_top = boxes_xyxy[:, :2].astype(np.float64)
        boxes = np.hstack([left_top, boxes_xyxy[:, 2:] - left_top]).tolist()
        rows += [{'image_id': image_id, 'category_id': class_id, 'bbox': box}
                 for box, class_id in zip(boxes, class_ids.tolist(), strict=True)]
    return rows
