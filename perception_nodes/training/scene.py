"""
Train the simulator's detector and segmenter, together, on one trunk.

The early trunk comes from the COCO detector and stays as it is, so its features are computed once
and kept on disk; an epoch then costs a third of what it would from pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.backends.heads import ScoreColumns
from perception_nodes.backends.networks.scene import SceneDetector, SceneNetwork, SceneSegmenter
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.datasets import read_coco, read_rgb
from perception_nodes.evaluation.metrics import BoxLabels, coco_average_precision
from perception_nodes.evaluation.segmentation_metrics import confusion_matrix, mean_iou
from perception_nodes.sim.classes import (
    CLASS_NAMES,
    FIRST_OBJECT,
    segmented,
    SEGMENTED_NAMES,
    VOID,
)
from perception_nodes.training.detection import box_targets, image_batch, kept_boxes
from perception_nodes.training.detection_loss import detection_loss
from perception_nodes.training.loop import load_whole, shuffled, whole_batches
from perception_nodes.training.pretrained import load_coco_trunk
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

log = logging.getLogger(__name__)

BOX_CLASSES = {i: name for i, name in CLASS_NAMES.items() if i >= FIRST_OBJECT}
MASK_CLASSES = dict(SEGMENTED_NAMES)

MASK_STRIDE = 2  # masks are learned at half size
_RARE_POWER = 0.35  # how much more a pixel of a rare class counts: its share to minus this
_MASK_WEIGHT = 1.0
_CHUNK = 50  # frames between two records of progress
# what the early trunk gives for a frame; channels last, as the convolutions like it
_FEATURES = {'stride_4': (4, 24), 'stride_8': (8, 32)}


@dataclass(frozen=True, eq=False)
class SceneFrames:
    """One split of a data set: features of the early trunk, masks and boxes."""

    features: Mapping[str, npt.NDArray[np.float16]]  # each (N, h, w, C)
    masks: npt.NDArray[np.uint8]  # (N, H / 2, W / 2) class ids of the segmenter, 255 void
    labels: Sequence[BoxLabels]
    files: Sequence[Path]  # the pictures

    def __len__(self) -> int:
        return len(self.labels)

    def stacked(self, rows: npt.NDArray[np.int64], device: torch.device) -> list[torch.Tensor]:
        """Return the features of some frames, (n, C, h, w) float32."""
        return [torch.from_numpy(np.ascontiguousarray(kept[rows])).to(device).float().permute(
            0, 3, 1, 2) for kept in self.features.values()]


class SceneTask:
    """
    Boxes and masks from cached features.

    :param train: Frames to learn from.
    :param val: Frames to choose the checkpoint by.
    :param seed: Of what the new layers begin with.
    :param start_from: Checkpoint of an earlier training to begin with instead.
    :raises ValueError: If that checkpoint is damaged or of another network.
    """

    score = 'score'

    def __init__(self, train: SceneFrames, val: SceneFrames, seed: int,
                 start_from: Path | None = None) -> None:
        torch.manual_seed(seed)
        self.network = new_network()
        if start_from is not None:
            _load(self.network, start_from)
        self._train, self._val = train, val
        self._columns = ScoreColumns(BOX_CLASSES)
        shares = np.bincount(train.masks[::10].ravel(), minlength=256)[:len(MASK_CLASSES)]
        weights = (shares / shares.sum()).clip(1e-4) ** -_RARE_POWER
        self._weights = torch.tensor(weights / weights.mean(), dtype=torch.float32)

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the heads and pyramid, and the late trunk."""
        trunk = self.network.trunk
        kept = {id(p) for p in trunk.early_parameters()}
        late = [p for p in trunk.parameters() if id(p) not in kept]
        trunks = kept | {id(p) for p in late}
        return [p for p in self.network.parameters() if id(p) not in trunks], late

    def steps(self, batch_size: int) -> int:
        """Return how many whole batches there are; a smaller set makes one."""
        return whole_batches(len(self._train), batch_size)

    def batches(
        self, epoch: int, batch_size: int, rng: np.random.Generator
    ) -> Iterator[npt.NDArray[np.int64]]:
        """Yield rows of the training frames."""
        for rows in shuffled(len(self._train), batch_size, rng):
            yield np.sort(rows)  # sorted rows are read from disk in one go

    def losses(
        self, batch: npt.NDArray[np.int64], device: torch.device
    ) -> Mapping[str, torch.Tensor]:
        """Return the terms of the boxes and of the masks."""
        frames = self._train
        grid, logits = self.network(*frames.stacked(batch, device))
        targets = box_targets([frames.labels[i] for i in batch], FIRST_OBJECT).to(device)
        masks = torch.from_numpy(frames.masks[batch].astype(np.int64)).to(device)
        logits = functional.interpolate(
            logits.float(), masks.shape[1:], mode='bilinear', align_corners=False)
        by_mask = functional.cross_entropy(
            logits, masks, self._weights.to(device), ignore_index=VOID)
        return detection_loss(grid, targets) | {'masks': _MASK_WEIGHT * by_mask}

    def validate(self, network: SceneNetwork, device: torch.device) -> Mapping[str, float]:
        """Return AP, AP50 and mIoU (masks at half size), and their mean as the score."""
        frames = self._val
        found: list[Detections] = []
        guessed = np.empty_like(frames.masks)
        for first in range(0, len(frames), 25):
            rows = np.arange(first, min(first + 25, len(frames)))
            grid, logits = network(*frames.stacked(rows, device))
            boxes, scores = grid.boxes().cpu().numpy(), grid.logits.sigmoid().cpu().numpy()
            found += [kept_boxes(b, s, self._columns) for b, s in zip(boxes, scores, strict=True)]
            guessed[rows] = functional.interpolate(
                logits, guessed.shape[1:], mode='bilinear').argmax(1).cpu().numpy()
        scores = coco_average_precision(frames.labels, found)
        miou = mean_iou(confusion_matrix(frames.masks, guessed, list(MASK_CLASSES)))
        return {'AP': scores['AP'], 'AP50': scores['AP50'], 'mIoU': miou,
                'score': (scores['AP'] + miou) / 2.0}


def new_network() -> SceneNetwork:
    """Return the network before training: the trunk as COCO taught it, the rest random."""
    network = SceneNetwork(len(BOX_CLASSES), len(MASK_CLASSES))
    load_coco_trunk(network.trunk)
    return network


def _load(network: SceneNetwork, file: Path) -> None:
    state = load_whole(file).get('network', {})
    wrong = sorted(name for name, value in network.state_dict().items()
                   if name not in state or state[name].shape != value.shape)
    if wrong:
        raise ValueError(f'{file} is of another network: its {wrong[0]} does not fit; '
                         'give the folder of a `perception train scene`')
    network.load_state_dict(state)


def separated(network: SceneNetwork) -> tuple[SceneDetector, SceneSegmenter]:
    """Return the detector and the segmenter that a network trained on both consists of."""
    state = network.state_dict()
    parts = SceneDetector(len(BOX_CLASSES)), SceneSegmenter(len(MASK_CLASSES))
    for part in parts:
        part.load_state_dict({name: state[name] for name in part.state_dict()})
        part.eval()
    return parts


def prepare(root: Path, split: str, cache: Path) -> SceneFrames:
    """
    Compute and keep what training needs of a split; what is there already is not done again.

    :param root: A data set of ``perception dataset``.
    :param cache: Folder for features and masks, about 330 kB per frame of 320x240.
    :raises FileNotFoundError: If there is no such split.
    :raises ValueError: If a picture or a mask is damaged or of another size, naming the file.
    """
    dataset = read_coco(root / split).with_classes_of(BOX_CLASSES)
    files = [image.path for image in dataset.images]
    folder = cache / split
    folder.mkdir(parents=True, exist_ok=True)
    width, height = dataset.images[0].width, dataset.images[0].height
    shapes = {name: (len(files), height // stride, width // stride, channels)
              for name, (stride, channels) in _FEATURES.items()}
    record = folder / 'prepared.json'
    said = {'root': str(root.resolve()), 'frames': len(files), 'size': [width, height]}
    found = json.loads(record.read_text()) if record.is_file() else {}
    done = found.get('done', 0) if {k: found.get(k) for k in said} == said else 0
    mode = 'r+' if done else 'w+'
    kept = {name: np.lib.format.open_memmap(folder / f'{name}.npy', mode, np.float16, shape)
            for name, shape in shapes.items()}
    mask_shape = (len(files), height // MASK_STRIDE, width // MASK_STRIDE)
    masks = np.lib.format.open_memmap(folder / 'masks.npy', mode, np.uint8, mask_shape)
    trunk = new_network().trunk.eval().to(memory_format=torch.channels_last)
    for first in tqdm(range(done, len(files), _CHUNK), f'features of {split}', unit='chunk',
                      disable=None, initial=done // _CHUNK, total=-(-len(files) // _CHUNK)):
        chosen = files[first:first + _CHUNK]
        rows = slice(first, first + len(chosen))
        for array, values in zip(kept.values(), _early(trunk, chosen, (width, height)),
                                 strict=True):
            array[rows] = values
        masks[rows] = [_read_mask(root / split / 'masks' / file.name, (width, height))
                       for file in chosen]
        for array in (*kept.values(), masks):
            array.flush()
        record.write_text(json.dumps({**said, 'done': first + len(chosen)}))
    return SceneFrames(kept, masks, [image.labels for image in dataset.images], files)


def _early(trunk: Any, files: Sequence[Path], size: tuple[int, int]) -> list[Any]:
    pictures = []
    for file in files:
        rgb = read_rgb(file)
        if rgb.shape[1::-1] != size:
            raise ValueError(f'{file} has {rgb.shape[1]}x{rgb.shape[0]} pixels, but the first '
                             f'picture has {size[0]}x{size[1]}; all must have one size')
        pictures.append(rgb)
    with torch.inference_mode():
        features = trunk.early(image_batch(pictures, torch.device('cpu')))
        return [x.permute(0, 2, 3, 1).half().numpy() for x in features]


def _read_mask(file: Path, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return a mask at half size in the segmenter's classes."""
    ids = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if ids is None or ids.shape != size[::-1] or ids.dtype != np.uint8:
        raise ValueError(f'{file} is no mask of {size[0]}x{size[1]} pixels with a byte each; '
                         'render the data set again')
    # the corner that stays is the pixel nearest to the middle of the interpolated logits
    return segmented(np.asarray(ids[::MASK_STRIDE, ::MASK_STRIDE], np.uint8))
