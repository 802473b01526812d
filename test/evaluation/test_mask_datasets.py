"""Pictures with masks: what is read, and the sentence for each way they can be broken."""

import json

import cv2
import numpy as np
from perception_nodes.evaluation.mask_datasets import read_masks, VOID
from perception_nodes.sim.classes import CLASS_NAMES, SEGMENTED_NAMES
import pytest

MASK = np.array([[0, 1, 2], [2, 1, 255]], np.uint8)


@pytest.fixture
def folders(tmp_path):
    """Make images/, masks/ and classes.txt with one picture of six pixels."""
    for name in ('images', 'masks'):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / 'images' / 'a.png'), np.full((2, 3, 3), (255, 0, 0), np.uint8))
    cv2.imwrite(str(tmp_path / 'masks' / 'a.png'), MASK)
    (tmp_path / 'classes.txt').write_text('road\ncar\nvoid\n')
    return tmp_path


def test_values_become_classes_and_void(folders):
    dataset = read_masks(folders)
    assert dataset.class_names == {0: 'road', 1: 'car'}
    rgb, mask = dataset.images[0].rgb_and_mask()
    assert rgb[0, 0].tolist() == [0, 0, 255]
    assert mask.tolist() == [[0, 1, VOID], [VOID, 1, VOID]]


def test_masks_take_the_ids_of_a_model(folders):
    dataset = read_masks(folders).with_classes_of({4: 'car', 7: 'street'}, {'road': 'street'})
    assert dataset.class_names == {7: 'street', 4: 'car'}
    assert dataset.images[0].mask().tolist() == [[7, 4, VOID], [VOID, 4, VOID]]


def test_a_class_can_be_left_out_as_void(folders):
    dataset = read_masks(folders).with_classes_of({4: 'car'}, {'road': 'void'})
    assert dataset.class_names == {4: 'car'}
    assert dataset.images[0].mask().tolist() == [[VOID, 4, VOID], [VOID, 4, VOID]]


def test_class_names_that_disagree_are_explained(folders):
    with pytest.raises(ValueError, match=r'classes.txt has 1 class.* not know: road; map each'):
        read_masks(folders).with_classes_of({0: 'raod', 1: 'car'})


def test_camvid_needs_no_class_list(folders):
    (folders / 'classes.txt').unlink()
    (folders / 'images').rename(folders / 'test')
    (folders / 'masks').rename(folders / 'testannot')
    dataset = read_masks(folders)
    assert len(dataset.class_names) == 11
    assert dataset.class_names[8] == 'Car'
    cv2.imwrite(str(folders / 'testannot' / 'a.png'), np.full((2, 3), 11, np.uint8))
    assert (dataset.images[0].mask() == VOID).all()


def test_the_simulators_small_things_are_one_class(folders):
    (folders / 'test').mkdir()
    for name in ('images', 'masks'):
        (folders / name).rename(folders / 'test' / name)
    (folders / 'test' / 'instances').mkdir()
    cv2.imwrite(str(folders / 'test' / 'instances' / 'a.png'), MASK.astype(np.uint16) * 300)
    mask = np.where(MASK == VOID, VOID, MASK * 9).astype(np.uint8)
    cv2.imwrite(str(folders / 'test' / 'masks' / 'a.png'), mask)
    (folders / 'dataset.json').write_text(json.dumps({'classes': dict(CLASS_NAMES)}))
    (folders / 'test' / 'frames.jsonl').write_text('{"file": "a.png", "scene_seed": 7}\n')
    exact = read_masks(folders, 'test')
    assert exact.images[0].scene == 7
    assert exact.images[0].instances()[0].tolist() == [0, 300, 600]
    assert exact.with_classes_of(CLASS_NAMES).images[0].mask()[0].tolist() == [0, 9, 18]
    coarse = exact.with_classes_of(SEGMENTED_NAMES)
    assert coarse.class_names == SEGMENTED_NAMES
    assert coarse.images[0].mask()[0].tolist() == [0, 8, 8]


def test_a_value_outside_the_list_is_named(folders):
    cv2.imwrite(str(folders / 'masks' / 'a.png'), MASK + np.uint8(40))
    image = read_masks(folders).with_classes_of({0: 'road', 1: 'car'}).images[0]
    with pytest.raises(ValueError, match=r'a.png has pixels of value 39, 40, 41, 42, which'):
        image.mask()


def test_another_size_is_named(folders):
    cv2.imwrite(str(folders / 'masks' / 'a.png'), MASK.T)
    with pytest.raises(ValueError, match='a.png has 2x3 pixels, but its picture has 3x2'):
        read_masks(folders).images[0].rgb_and_mask()


@pytest.mark.parametrize('damage', [
    lambda path: path.write_bytes(path.read_bytes()[:40]),
    lambda path: path.write_bytes(b''),
    lambda path: cv2.imwrite(str(path), np.zeros((2, 3, 3), np.uint8)),
    lambda path: cv2.imwrite(str(path), np.zeros((2, 3), np.uint16)),
])
def test_what_is_no_mask_is_named(folders, damage):
    damage(folders / 'masks' / 'a.png')
    with pytest.raises(ValueError, match=r'masks/a.png (cannot be read|is \(2, 3)'):
        read_masks(folders).images[0].mask()


def test_missing_parts_are_named(folders):
    (folders / 'masks' / 'a.png').unlink()
    with pytest.raises(FileNotFoundError, match='1 of 1 pictures .* first .*masks/a.png'):
        read_masks(folders)
    (folders / 'images' / 'a.png').unlink()
    with pytest.raises(ValueError, match='images holds no pictures'):
        read_masks(folders)
    (folders / 'classes.txt').write_text('road\n\ncar\n')
    with pytest.raises(ValueError, match='classes.txt must name from 1 to 255 classes'):
        read_masks(folders)
    (folders / 'classes.txt').unlink()
    with pytest.raises(FileNotFoundError, match='there is no .*classes.txt'):
        read_masks(folders)
    (folders / 'masks').rmdir()
    with pytest.raises(FileNotFoundError, match='no folder .*masks; a data set of masks has'):
        read_masks(folders)


@pytest.mark.parametrize(('text', 'sentence'), [
    ('{"classes": {"255": "sky"}}', 'dataset.json must name from 1 to 255 classes'),
    ('{"classes": ["sky"]}', 'dataset.json has no list of classes'),
    ('{', 'dataset.json has no list of classes'),
])
def test_a_broken_class_list_is_named(folders, text, sentence):
    (folders / 'dataset.json').write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_masks(folders)


def test_camvids_own_files_are_read(data_dir):
    dataset = read_masks(data_dir / 'datasets' / 'camvid8')
    assert len(dataset.images) == 8
    rgb, mask = dataset.images[0].rgb_and_mask()
    assert rgb.shape == (360, 480, 3)
    assert set(np.unique(mask)) <= {*range(11), VOID}
