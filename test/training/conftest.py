"""Small labelled pictures that a network can learn in seconds."""

import json

import cv2
import numpy as np
import pytest

COLOURS = {'red': (220, 40, 40), 'blue': (40, 40, 220)}


@pytest.fixture
def squares(tmp_path):
    """Return a function that writes a COCO data set of coloured squares on grey noise."""
    def write(count=16, names=tuple(COLOURS), split=''):
        rng = np.random.default_rng(len(split))
        root = tmp_path / 'squares' / split
        (root / 'images').mkdir(parents=True)
        images, annotations = [], []
        for i in range(count):
            rgb = rng.integers(90, 130, (48, 64, 3)).astype(np.uint8)
            category = i % 2
            side = int(rng.integers(14, 24))
            x, y = (int(v) for v in rng.integers(0, (64 - side, 48 - side)))
            rgb[y:y + side, x:x + side] = list(COLOURS.values())[category]
            cv2.imwrite(str(root / 'images' / f'{i:02}.png'), rgb[..., ::-1])
            images.append({'id': i, 'file_name': f'{i:02}.png', 'width': 64, 'height': 48})
            annotations.append({'id': i, 'image_id': i, 'category_id': 5 + 2 * category,
                                'bbox': [x, y, side, side]})
        (root / 'instances.json').write_text(json.dumps({
            'categories': [{'id': 5 + 2 * k, 'name': name} for k, name in enumerate(names)],
            'images': images, 'annotations': annotations}))
        return tmp_path / 'squares'

    return write
