"""
Raw network outputs to boxes, one function per family of detectors.

Each takes the outputs of one image and returns every plausible box, in network pixels.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import Detections

# below this a box cannot be told from noise; the user's threshold lies above
SCORE_FLOOR = 0.01

Outputs = dict[str, npt.NDArray[np.float32]]
Head = Callable[[Outputs, tuple[int, int], npt.NDArray[np.int64]], Detections]


def ssd(
    outputs: Outputs, size: tuple[int, int], class_ids: npt.NDArray[np.int64]
) -> Detections:
    """
    Read the decoded anchors of a single-shot detector (Liu et al., 2016).

    :param outputs: ``scores`` (A, C) after the sigmoid, ``boxes`` (A, 4) as top, left, bottom,
        right in fractions of the image.
    :param size: Width and height of the network's input.
    :param class_ids: (C,) id of each score column; -1 for columns that no class owns.
    """
    scores, boxes = outputs['scores'], outputs['boxes']
    anchors, columns = np.nonzero(scores >= SCORE_FLOOR)
    owned = class_ids[columns] >= 0
    anchors, columns = anchors[owned], columns[owned]
    top_left_bottom_right = boxes[anchors]
    width, height = size
    scale = np.array([width, height, width, height], np.float32)
    return Detections(
        top_left_bottom_right[:, [1, 0, 3, 2]] * scale, scores[anchors, columns],
        class_ids[columns])


HEADS: dict[str, Head] = {'ssd': ssd}
