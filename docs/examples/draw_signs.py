"""
Draw a small labelled set of traffic signs, to try the trainings on.

    python docs/examples/draw_signs.py out/signs

``out/signs/{train,val}`` are for detectors (COCO), ``out/signs/crops`` for classifiers.
"""

import json
from pathlib import Path
import sys

import cv2
import numpy as np

CLASSES = ('stop', 'yield', 'parking')
SIZE = (160, 128)
COUNTS = {'train': 48, 'val': 16}


def draw_sign(
    picture: np.ndarray, kind: str, centre: tuple[int, int], radius: int
) -> list[int]:
    """Draw one sign onto a BGR picture; return its box: left, top, width, height."""
    sides, turned = {'stop': (8, 1 / 16), 'yield': (3, 1 / 4), 'parking': (4, 1 / 8)}[kind]
    turns = (np.arange(sides) / sides + turned) * 2.0 * np.pi
    corners = np.int32(np.stack([np.cos(turns), np.sin(turns)], 1) * radius + centre)
    colour = {'stop': (30, 30, 200), 'yield': (235, 235, 240), 'parking': (190, 90, 20)}[kind]
    cv2.fillPoly(picture, [corners], colour, cv2.LINE_AA)
    cv2.polylines(picture, [corners], True, (40, 40, 220) if kind == 'yield' else (255, 255, 255),
                  max(1, radius // 6), cv2.LINE_AA)
    return list(cv2.boundingRect(corners))


def draw(rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[int, list[int]]]]:
    """Return a BGR picture and its signs: class id and COCO box."""
    width, height = SIZE
    low = rng.integers(40, 200, (6, 8, 3), dtype=np.uint8)
    picture = cv2.resize(low, SIZE, interpolation=cv2.INTER_CUBIC)
    signs = []
    for column in range(2):  # one in each half at most, so that none hides another
        if rng.random() < 0.25 and column:
            continue
        kind, radius = int(rng.integers(len(CLASSES))), int(rng.integers(14, 26))
        x = int(rng.integers(radius, width // 2 - radius)) + column * width // 2
        y = int(rng.integers(radius, height - radius))
        signs.append((kind + 1, draw_sign(picture, CLASSES[kind], (x, y), radius)))
    noisy = picture + rng.normal(0.0, 6.0, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), signs


def main(root: Path) -> None:
    """Draw the set."""
    for split, count in COUNTS.items():
        rng = np.random.default_rng(list(COUNTS).index(split))
        (root / split / 'images').mkdir(parents=True, exist_ok=True)
        images, annotations = [], []
        for i in range(count):
            picture, signs = draw(rng)
            name = f'{i:04d}.png'
            cv2.imwrite(str(root / split / 'images' / name), picture)
            images.append({'id': i, 'file_name': name, 'width': SIZE[0], 'height': SIZE[1]})
            for class_id, box in signs:
                annotations.append({'id': len(annotations) + 1, 'image_id': i, 'bbox': box,
                                    'category_id': class_id, 'area': box[2] * box[3]})
                left, top, width, height = box
                folder = root / 'crops' / split / CLASSES[class_id - 1]
                folder.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f'{len(annotations):04d}.png'),
                            picture[top:top + height, left:left + width])
        (root / split / 'instances.json').write_text(json.dumps({
            'images': images, 'annotations': annotations,
            'categories': [{'id': k, 'name': name} for k, name in enumerate(CLASSES, 1)]}))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
