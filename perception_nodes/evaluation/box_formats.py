"""Data sets of boxes in the layouts that people have: COCO, PASCAL VOC, and YOLO's data.yaml."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
from perception_nodes.evaluation.datasets import (
    DetectionDataset,
    LabelledImage,
    pictures_in,
    read_coco,
    read_rgb,
    split_folder,
)
from perception_nodes.evaluation.metrics import BoxLabels
import yaml

SPLITS = ('train', 'val', 'test')
_VOC_SETS = Path('ImageSets', 'Main')


def splits_of(source: Path) -> tuple[str, ...]:
    """Return which of :data:`SPLITS` a data set has; none where it is one heap."""
    if source.is_file():
        content = _read_yolo_file(source)
        return tuple(split for split in SPLITS if content.get(split))
    if _is_voc(source):
        return tuple(split for split in SPLITS if _voc_list(source, split).is_file())
    return tuple(split for split in SPLITS if (source / split).is_dir())


def read_boxes(source: Path, split: str) -> DetectionDataset:
    """
    Read one part of a data set in any of these layouts.

    - a folder with ``instances.json`` and ``images/``, or such folders by split (COCO)
    - a folder with ``Annotations``, ``JPEGImages`` and ``ImageSets/Main`` (PASCAL VOC)
    - a file ``data.yaml`` with ``names`` and a path for each split (YOLO)

    A data set without splits is read whole.

    :raises FileNotFoundError: If a file or the split is missing.
    :raises ValueError: If the labels are broken, naming the file and the line or object.
    """
    if source.is_file():
        return read_yolo(source, split)
    if _is_voc(source):
        return read_voc(source, split)
    return read_coco(split_folder(source, split))


def read_voc(root: Path, split: str) -> DetectionDataset:
    """
    Read ``root/Annotations/*.xml`` with the pictures of ``root/JPEGImages``.

    Pixels count from 1 there, and the last one belongs to the box. Objects marked ``difficult``
    are ignored ones. Class ids count the names of ``root/classes.txt`` from 0, one per line, or
    without that file the sorted names of all objects.

    :param split: Name of a list in ``ImageSets/Main``; without that folder all are read.
    :raises FileNotFoundError: If the split or a picture is missing.
    :raises ValueError: If a file is broken or names an unknown class, naming both.
    """
    files = _voc_files(root, split)
    parsed = {file: _parsed_xml(file) for file in files}
    names = _voc_names(root)
    ids = {name: i for i, name in enumerate(names)}
    images = [_voc_image(root, file, content, ids) for file, content in parsed.items()]
    return DetectionDataset(root / 'Annotations', dict(enumerate(names)), images)


def read_yolo(file: Path, split: str) -> DetectionDataset:
    """
    Read a ``data.yaml`` as ultralytics' trainers take it.

    Labels lie where the pictures do, with the last ``images`` of the path made ``labels``: a line
    per object, its class and either centre and size or the corners of its outline, in fractions
    of the picture. A picture without a label file has no objects.

    :raises FileNotFoundError: If the split or a folder is missing.
    :raises ValueError: If a file is broken or a class is not in the list, naming the line.
    """
    content = _read_yolo_file(file)
    raw = content['names']
    names = {int(i): str(name) for i, name in (
        raw.items() if isinstance(raw, dict) else enumerate(raw))}
    if not content.get(split):
        there = ', '.join(name for name in SPLITS if content.get(name)) or 'none'
        raise FileNotFoundError(f"{file} has no split '{split}'; choose from {there}")
    pictures = _yolo_pictures(file, content, split)
    if not pictures:
        raise ValueError(f"split '{split}' of {file} holds no pictures")
    return DetectionDataset(file, names, [_yolo_image(path, names) for path in pictures])


def _is_voc(root: Path) -> bool:
    return (root / 'Annotations').is_dir()


def _voc_list(root: Path, split: str) -> Path:
    return root / _VOC_SETS / f'{split}.txt'


def _voc_files(root: Path, split: str) -> list[Path]:
    """Return the label files of a split."""
    listed = _voc_list(root, split)
    if (root / _VOC_SETS).is_dir():
        if not listed.is_file():
            there = ', '.join(sorted(path.stem for path in listed.parent.glob('*.txt')))
            raise FileNotFoundError(f'there is no list {listed}; there are {there}')
        names = [line.split()[0] for line in listed.read_text().splitlines() if line.strip()]
        files = [root / 'Annotations' / f'{name}.xml' for name in names]
    else:
        files = sorted((root / 'Annotations').glob('*.xml'))
    if not files:
        raise ValueError(f'{root} names no pictures; there is nothing to learn from')
    return files


def _voc_names(root: Path) -> list[str]:
    """Return the class names, of all splits, so that every split has the same ids."""
    file = root / 'classes.txt'
    if file.is_file():
        return [line.strip() for line in file.read_text(encoding='utf-8').splitlines()]
    return sorted({
        item.findtext('name', '').strip() for path in sorted((root / 'Annotations').glob('*.xml'))
        for item in _parsed_xml(path).iter('object')})


def _parsed_xml(file: Path) -> ElementTree.Element:
    if not file.is_file():
        raise FileNotFoundError(f'there is no label file {file}')
    try:
        return ElementTree.fromstring(file.read_bytes())
    except ElementTree.ParseError as error:
        raise ValueError(f'{file} is not XML: {error}') from error


def _voc_image(
    root: Path, file: Path, content: ElementTree.Element, ids: Mapping[str, int]
) -> LabelledImage:
    boxes, class_ids, ignored = [], [], []
    for item in content.iter('object'):
        name = item.findtext('name', '').strip()
        if name not in ids:
            raise ValueError(f"{file} has an object of class '{name}', which is not in the list: "
                             f'{", ".join(ids)}')
        try:
            left, top, right, bottom = (
                float(item.findtext(f'bndbox/{side}', '')) for side in (
                    'xmin', 'ymin', 'xmax', 'ymax'))
        except ValueError as error:
            raise ValueError(f"{file}: the box of an object '{name}' is not four numbers "
                             'xmin, ymin, xmax, ymax') from error
        boxes.append((left - 1.0, top - 1.0, right, bottom))
        class_ids.append(ids[name])
        ignored.append(item.findtext('difficult', '0').strip() == '1')
    path = root / 'JPEGImages' / (content.findtext('filename') or f'{file.stem}.jpg')
    height, width = read_rgb(path).shape[:2]
    return LabelledImage(path, width, height, _checked(file, boxes, class_ids, ignored))


def _read_yolo_file(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{file} is not YAML: {error}') from error
    if not isinstance(content, dict) or not isinstance(content.get('names'), (dict, list)):
        raise ValueError(f"{file} is no data set of YOLO's: it needs 'names', and a path for each "
                         f'of {", ".join(SPLITS)} that there is')
    return content


def _yolo_pictures(file: Path, content: Mapping[str, Any], split: str) -> list[Path]:
    """Return the pictures of a split, which is a folder, a list of files, or several of them."""
    root = file.parent / str(content.get('path') or '')
    named = content[split]
    pictures = []
    for place in (root / str(name) for name in (named if isinstance(named, list) else [named])):
        if place.is_dir():
            pictures += pictures_in(place)
        elif place.is_file():
            lines = place.read_text(encoding='utf-8').splitlines()
            pictures += [place.parent / line.strip() for line in lines if line.strip()]
        else:
            raise FileNotFoundError(f"{file}: there is no {place}, which split '{split}' names")
    return pictures


def _yolo_image(path: Path, names: Mapping[int, str]) -> LabelledImage:
    height, width = read_rgb(path).shape[:2]
    file = _yolo_label_file(path)
    lines = file.read_text(encoding='utf-8').splitlines() if file.is_file() else []
    boxes, class_ids = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        what = f'{file}, line {number}'
        try:
            values = [float(word) for word in line.split()]
        except ValueError as error:
            raise ValueError(f"{what} is '{line}'; it must be numbers") from error
        if int(values[0]) not in names:
            raise ValueError(f'{what} has class {values[0]:g}, which is not in the list; there '
                             f'are {", ".join(map(str, names))}')
        boxes.append(_yolo_box(values[1:], what))
        class_ids.append(int(values[0]))
    scaled = np.array(boxes, np.float64).reshape(-1, 4) * (width, height, width, height)
    return LabelledImage(
        path, width, height, _checked(file, scaled, class_ids, [False] * len(boxes)))


def _yolo_label_file(picture: Path) -> Path:
    parts = list(picture.parts)
    for k in range(len(parts) - 2, -1, -1):
        if parts[k] == 'images':
            parts[k] = 'labels'
            break
    return Path(*parts).with_suffix('.txt')


def _yolo_box(values: Sequence[float], what: str) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom in fractions of the picture."""
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2.0, y - height / 2.0, x + width / 2.0, y + height / 2.0
    if len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[0::2], values[1::2]
        return min(xs), min(ys), max(xs), max(ys)
    raise ValueError(f'{what} has {len(values)} numbers after the class; there must be 4, or two '
                     'for each of at least 3 corners')


def _checked(
    file: Path, boxes: Sequence[Any] | npt.NDArray[np.float64], class_ids: Sequence[int],
    ignored: Sequence[bool],
) -> BoxLabels:
    array = np.array(boxes, np.float64).reshape(-1, 4)
    wrong = ~(np.isfinite(array).all(1) & (array[:, 2:] >= array[:, :2]).all(1))
    if wrong.any():
        raise ValueError(f'{file}: object {int(wrong.argmax()) + 1} has the box '
                         f'{array[wrong][0].round(3).tolist()}; its right and bottom must not lie '
                         'before its left and top')
    return BoxLabels(array.astype(np.float32), np.array(class_ids, np.int64),
                     np.array(ignored, np.bool_))
