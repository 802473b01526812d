"""
Two dozen labelled simulated frames in one file, so that metrics need no data set and no renderer.

Made again by::

    perception dataset ROOT --train 1 --val 1 --test 24 --seed 2027
    python -m perception_nodes.evaluation.gpu_frames ROOT FILE
"""

from dataclasses import dataclass
from pathlib import Path
import sys
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.evaluation.datasets import read_coco
from perception_nodes.evaluation.metrics import BoxLabels
from perception_nodes.sim.classes import segmented

FILE = Path(__file__).with_name('gpu_frames.npz')
_JPEG_QUALITY = 92


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A picture and what is in it."""

    rgb: npt.NDArray[np.uint8]  # (H, W, 3)
    mask: npt.NDArray[np.uint8]  # (H, W) ids of the shipped segmenter, 255 void
    labels: BoxLabels


def read_frames(count: int, file: Path = FILE) -> list[LabelledFrame]:
    """Return the first frames of the file, at most ``count``."""
    with np.load(file) as kept:
        return [LabelledFrame(
            cv2.cvtColor(_decoded(kept[f'jpeg_{i}']), cv2.COLOR_BGR2RGB).astype(np.uint8),
            _decoded(kept[f'mask_{i}']),
            BoxLabels(kept[f'boxes_{i}'], kept[f'ids_{i}'], kept[f'ignored_{i}']))
            for i in range(min(count, int(kept['count'])))]


def pack(root: Path, file: Path) -> None:
    """Write the test split of a rendered data set into one file."""
    images = read_coco(root / 'test').images
    content: dict[str, Any] = {'count': len(images)}
    for i, image in enumerate(images):
        mask = cv2.imread(
            str(root / 'test' / 'masks' / image.path.name), cv2.IMREAD_UNCHANGED)
        bgr = cv2.cvtColor(image.rgb(), cv2.COLOR_RGB2BGR)
        content |= {
            f'jpeg_{i}': cv2.imencode(
                '.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1],
            f'mask_{i}': cv2.imencode('.png', segmented(np.asarray(mask, np.uint8)))[1],
            f'boxes_{i}': image.labels.boxes_xyxy, f'ids_{i}': image.labels.class_ids,
            f'ignored_{i}': image.labels.ignored}
    np.savez(file, **content)


def _decoded(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)


if __name__ == '__main__':
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
