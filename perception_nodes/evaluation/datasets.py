"""Labelled pictures on disk, checked before anything is computed from them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
import difflib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.evaluation.metrics import BoxLabels

_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.webp')


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One picture of a data set and its true boxes."""

    path: Path
    width: int  # pixels
    height: int
    labels: BoxLabels
    families: tuple[str, ...] = ()  # of each box, where the data set tells; '' for unknown
    scene: int | None = None  # pictures of one scene are not independent; None where not told

    def rgb(self) -> npt.NDArray[np.uint8]:
        """
        Read the picture.

        :return: (height, width, 3) uint8.
        :raises ValueError: If it is damaged or not of the labelled size, naming the file.
        """
        rgb = read_rgb(self.path)
        if rgb.shape[:2] != (self.height, self.width):
            raise ValueError(
                f'{self.path} has {rgb.shape[1]}x{rgb.shape[0]} pixels, but its labels are for '
                f'{self.width}x{self.height}; restore the picture or label it again')
        return rgb


@dataclass(frozen=True, eq=False)
class DetectionDataset:
    """Pictures with true boxes, and what the class ids of the boxes mean."""

    file: Path  # where the labels were read, for messages
    class_names: Mapping[int, str]
    images: Sequence[LabelledImage]

    def with_classes_of(
        self, class_names: Mapping[int, str], renamed: Mapping[str, str] | None = None
    ) -> 'DetectionDataset':
        """
        Express the labels in the class ids of a model.

        :param class_names: The model's ids and names; those the data set lacks are left out.
        :param renamed: Data set's name to model's name, where the two differ.
        :raises ValueError: If a name is unknown on either side, naming it and the way out.
        """
        new_ids = model_ids(self.file, self.class_names, class_names, renamed)
        images = [replace(image, labels=_relabelled(image.labels, new_ids))
                  for image in self.images]
        return DetectionDataset(self.file, {i: class_names[i] for i in new_ids.values()}, images)


@dataclass(frozen=True)
class ClassifiedImage:
    """One picture of a data set and what it shows."""

    path: Path
    class_id: int

    def rgb(self) -> npt.NDArray[np.uint8]:
        """Read the picture, (H, W, 3) uint8; see :func:`read_rgb`."""
        return read_rgb(self.path)


@dataclass(frozen=True)
class ClassificationDataset:
    """Pictures that each show one class."""

    file: Path  # the folder, for messages
    class_names: Mapping[int, str]
    images: Sequence[ClassifiedImage]

    def with_classes_of(
        self, class_names: Mapping[int, str], renamed: Mapping[str, str] | None = None
    ) -> 'ClassificationDataset':
        """Express the labels in a model's class ids; see :func:`model_ids`."""
        new_ids = model_ids(self.file, self.class_names, class_names, renamed)
        images = [replace(image, class_id=new_ids[image.class_id]) for image in self.images]
        return ClassificationDataset(
            self.file, {i: class_names[i] for i in new_ids.values()}, images)


def model_ids(
    file: Path, theirs: Mapping[int, str], ours: Mapping[int, str],
    renamed: Mapping[str, str] | None = None,
) -> dict[int, int]:
    """
    Return the model's id of each class of a data set.

    :param file: Where the data set was read, for messages.
    :param theirs: The data set's ids and names.
    :param ours: The model's ids and names.
    :param renamed: Data set's name to model's name, where the two differ.
    :raises ValueError: If a name is unknown on either side, naming it and the way out.
    """
    renamed = renamed or {}
    for name in renamed:
        if name not in theirs.values():
            raise ValueError(
                f"{file} has no class '{name}' to map; "
                f'there are {", ".join(sorted(theirs.values()))}')
    ids = {name: i for i, name in ours.items()}
    wanted = {i: renamed.get(name, name) for i, name in theirs.items()}
    unknown = {theirs[i]: name for i, name in wanted.items() if name not in ids}
    if unknown:
        raise ValueError(_unknown_classes(file, unknown, list(ids)))
    return {i: ids[name] for i, name in wanted.items()}


def split_folder(root: Path, split: str) -> Path:
    """
    Return ``root/split`` where a data set is kept by splits, else ``root`` itself.

    :raises FileNotFoundError: If there is no such folder, or it has other splits only.
    """
    if not root.is_dir():
        raise FileNotFoundError(f'there is no folder {root}')
    if (root / split).is_dir():
        return root / split
    others = [name for name in ('train', 'val', 'test') if (root / name).is_dir()]
    if others:
        raise FileNotFoundError(
            f"{root} has no split '{split}'; choose from {', '.join(others)}")
    return root


def read_image_folder(root: Path) -> ClassificationDataset:
    """
    Read ``root/CLASS/*``, a folder of pictures per class; ids count the sorted names from 0.

    :raises FileNotFoundError: If there is no such folder.
    :raises ValueError: If there is no class, or a class without pictures, naming it.
    """
    if not root.is_dir():
        raise FileNotFoundError(f'there is no folder {root}')
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    if not folders:
        raise ValueError(f'{root} has no folders; a data set has one per class, with its pictures')
    images = []
    for class_id, folder in enumerate(folders):
        found = pictures_in(folder)
        if not found:
            raise ValueError(f'{folder} holds no pictures; add some, or delete the folder')
        images += [ClassifiedImage(path, class_id) for path in found]
    return ClassificationDataset(root, dict(enumerate(f.name for f in folders)), images)


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder by name; other files are left out."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def scenes_in(folder: Path) -> dict[str, int]:
    """
    Return the scene of each picture by its file name; empty where the folder does not tell.

    :raises ValueError: If ``frames.jsonl`` is there and cannot be read.
    """
    file = folder / 'frames.jsonl'
    if not file.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in file.read_text(encoding='utf-8').splitlines()]
        return {str(row['file']): int(row['scene_seed']) for row in rows}
    except (UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{file} is not a list of frames: {error}') from error


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """
    Read a picture whole.

    :return: (H, W, 3) uint8, turned as its EXIF orientation says.
    :raises FileNotFoundError: If there is no such file.
    :raises ValueError: If it is not a picture, or cut off.
    """
    if not path.is_file():
        raise FileNotFoundError(f'there is no picture {path}')
    data = path.read_bytes()
    bgr = None
    # OpenCV fills the missing part of a cut JPEG with grey and says nothing
    if data and not _is_cut_jpeg(data):
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(
            f'{path} cannot be read as a picture: it is damaged or of an unknown format')
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def read_coco(root: Path) -> DetectionDataset:
    """
    Read ``root/instances.json`` (COCO) and check that its pictures are in ``root/images``.

    Boxes marked ``iscrowd`` or ``ignore`` are ignored ones. Pictures keep the file's order.

    :raises FileNotFoundError: If the labels or pictures are not there.
    :raises ValueError: If the labels contradict themselves, naming the file and the entry.
    """
    file = root / 'instances.json'
    if not file.is_file():
        raise FileNotFoundError(
            f'there is no {file}; a data set is a folder with instances.json (COCO) and images/')
    labels = _read_coco_file(file, root / 'images', scenes_in(root))
    _check_present(labels.images, file)
    return labels


def read_labels(file: Path) -> DetectionDataset:
    """
    Read a COCO file of boxes alone; its pictures may be anywhere.

    :raises FileNotFoundError: If it is not there.
    :raises ValueError: As :func:`read_coco` does.
    """
    if not file.is_file():
        raise FileNotFoundError(f'there is no file {file} with labels')
    return _read_coco_file(file, file.parent, {})


def _read_coco_file(file: Path, pictures: Path, scenes: Mapping[str, int]) -> DetectionDataset:
    try:
        content = json.loads(file.read_bytes())
        if not isinstance(content, dict):
            raise TypeError('it holds no object with images, annotations and categories')
        class_names = {int(c['id']): str(c['name']) for c in content['categories']}
        raw_images = {raw['id']: raw for raw in content['images']}
        if len(raw_images) < len(content['images']):
            [(twice, times)] = Counter(raw['id'] for raw in content['images']).most_common(1)
            raise ValueError(
                f'{times} images have the id {twice!r}, so nobody knows whose boxes are whose; '
                'give each image an id of its own, in its annotations as well')
        rows: dict[Any, list[Any]] = {number: [] for number in raw_images}
        for row in content['annotations']:
            _check_annotation(row, class_names, raw_images)
            rows[row['image_id']].append(row)
        images = [_image(raw, rows[number], pictures, scenes)
                  for number, raw in raw_images.items()]
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f'{file} is not JSON: {error}') from error
    except (KeyError, TypeError) as error:
        what = f'a field {error} is missing' if isinstance(error, KeyError) else str(error)
        raise ValueError(f'{file} is not a COCO file of boxes: {what}') from error
    except ValueError as error:
        raise ValueError(f'{file}: {error}') from error
    if not images:
        raise ValueError(f'{file} names no images; there is nothing to evaluate')
    return DetectionDataset(file, class_names, images)


def _check_annotation(
    row: Mapping[str, Any], class_names: Mapping[int, str], images: Mapping[Any, Any]
) -> None:
    what = f'annotation {row.get("id", "without id")}'
    if row['category_id'] not in class_names:
        known = ', '.join(map(str, sorted(class_names)))
        raise ValueError(
            f'{what} has class id {row["category_id"]!r}, which is not in the list of '
            f'categories; there are {known}')
    if row['image_id'] not in images:
        raise ValueError(
            f'{what} belongs to image {row["image_id"]!r}, which is not in the list of images')
    try:
        box = np.array(row['bbox'], np.float64)
    except (TypeError, ValueError):  # a word, null, or lists of several lengths
        box = np.empty(0)
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < 0.0).any():
        raise ValueError(
            f'{what} has the box {row["bbox"]!r}; it must be left, top, width and height in '
            'pixels, four finite numbers with no negative width or height')
    width, height = int(images[row['image_id']]['width']), int(images[row['image_id']]['height'])
    left, top = box[:2].tolist()
    right, bottom = (box[:2] + box[2:]).tolist()
    if left > width or top > height or right < 0.0 or bottom < 0.0:
        raise ValueError(
            f'{what} has the box {row["bbox"]!r}, which lies outside its picture of '
            f'{width}x{height} pixels; correct it, or the size of the picture')


def _image(
    raw: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], pictures: Path,
    scenes: Mapping[str, int],
) -> LabelledImage:
    boxes = np.array([row['bbox'] for row in rows], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = BoxLabels(
        boxes.astype(np.float32), np.array([row['category_id'] for row in rows], np.int64),
        np.array([bool(row.get('iscrowd') or row.get('ignore')) for row in rows], np.bool_))
    path = pictures / raw['file_name']
    return LabelledImage(
        path, int(raw['width']), int(raw['height']), labels,
        tuple(str(row.get('family', '')) for row in rows), scenes.get(raw['file_name']))


def _check_present(images: Sequence[LabelledImage], file: Path) -> None:
    missing = [image.path for image in images if not image.path.is_file()]
    if missing:
        raise FileNotFoundError(
            f'{file} names {len(images)} images, {len(missing)} of which are missing; '
            f'the first is {missing[0]}')


def _relabelled(labels: BoxLabels, new_ids: Mapping[int, int]) -> BoxLabels:
    ids = np.array([new_ids[i] for i in labels.class_ids.tolist()], np.int64)
    return replace(labels, class_ids=ids)


def _unknown_classes(file: Path, unknown: Mapping[str, str], known: Sequence[str]) -> str:
    """Return the sentence for names, theirs and as mapped, that the model lacks."""
    close = {theirs: difflib.get_close_matches(ours, known, n=1)
             for theirs, ours in unknown.items()}
    pairs = ','.join(f'{theirs}={matches[0] if matches else "..."}'
                     for theirs, matches in close.items())
    return (f'{file} has {len(unknown)} class(es) that the model does not know: '
            f"{', '.join(unknown.values())}; map each, as in --map '{pairs}' "
            f'(the model knows {", ".join(sorted(known))})')


def _is_cut_jpeg(data: bytes) -> bool:
    """Return whether the last scan of a JPEG has no end marker; markers cannot occur in scans."""
    start_of_scan, end_of_image = b'\xff\xda', b'\xff\xd9'
    is_jpeg = data.startswith(b'\xff\xd8')
    return is_jpeg and data.rfind(end_of_image) < data.rfind(start_of_scan)
