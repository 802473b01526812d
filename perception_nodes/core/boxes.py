"""Axis-aligned boxes in pixels: overlap and non-maximum suppression."""

from numba import njit
import numpy as np
import numpy.typing as npt


def iou_matrix(
    a_xyxy: npt.NDArray[np.float32], b_xyxy: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """
    Return the intersection over union of every box of ``a`` with every box of ``b``.

    :param a_xyxy: (N, 4) pixels.
    :param b_xyxy: (M, 4) pixels.
    :return: (N, M) float32 in [0, 1]; 0 where both boxes are empty.
    """
    low = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    area_a = np.prod(a_xyxy[:, 2:] - a_xyxy[:, :2], axis=1)
    area_b = np.prod(b_xyxy[:, 2:] - b_xyxy[:, :2], axis=1)
    union = area_a[:, None] + area_b[None, :] - shared
    ratio = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0.0)
    return np.asarray(ratio, np.float32)


def non_maximum_suppression(
    boxes_xyxy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    class_ids: npt.NDArray[np.int64],
    max_iou: float,
    max_kept: int,
) -> npt.NDArray[np.int64]:
    """
    Return the indices of the boxes to keep, best first.

    Greedy and per class: a box goes when a better one of its own class overlaps it by more
    than ``max_iou``. Equal scores keep their order.

    :param boxes_xyxy: (N, 4) pixels.
    :param scores: (N,) in [0, 1].
    :param class_ids: (N,).
    :param max_iou: Largest overlap two kept boxes of a class may have, in [0, 1].
    :param max_kept: Largest number of boxes to return.
    """
    order = np.argsort(-scores, kind='stable')
    # contiguous copies: one compiled signature, whatever view the caller holds
    kept = _suppress(
        np.ascontiguousarray(boxes_xyxy[order], np.float32),
        np.ascontiguousarray(class_ids[order], np.int64), np.float32(max_iou), max_kept)
    return np.asarray(order[kept], np.int64)


@njit(cache=True)
def _suppress(boxes, class_ids, max_iou, max_kept):  # type: ignore[no-untyped-def]
    n = len(boxes)
    kept = np.empty(min(n, max_kept), np.int64)
    count = 0
    for i in range(n):
        if count == len(kept):
            break
        area_i = (boxes[i, 2] - boxes[i, 0]) * (boxes[i, 3] - boxes[i, 1])
        survives = True
        for k in range(count):
            j = kept[k]
            if class_ids[i] != class_ids[j]:
                continue
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            if width <= 0.0 or height <= 0.0:
                continue
            shared = width * height
            area_j = (boxes[j, 2] - boxes[j, 0]) * (boxes[j, 3] - boxes[j, 1])
            if shared > max_iou * (area_i + area_j - shared):
                survives = False
                break
        if survives:
            kept[count] = i
            count += 1
    return kept[:count]
