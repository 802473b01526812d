"""Labelled pictures on disk: what is read, and the sentence for each way they can be broken."""

import json

import cv2
import numpy as np
from perception_nodes.evaluation.datasets import (
    read_coco,
    read_image_folder,
    read_rgb,
    split_folder,
)
import pytest

NAMES = {1: 'cat', 7: 'sofa'}
BOX = {'id': 5, 'image_id': 2, 'category_id': 7, 'bbox': [10.0, 20.0, 5.0, 8.0]}


def write(root, annotations=(BOX,), **changes):
    """Write a data set of two pictures, the second of which is red."""
    (root / 'images').mkdir()
    cv2.imwrite(str(root / 'images' / 'grey.png'), np.full((30, 40, 3), 128, np.uint8))
    cv2.imwrite(str(root / 'images' / 'red.jpg'), np.full((48, 64, 3), (0, 0, 255), np.uint8))
    content = {
        'categories': [{'id': i, 'name': name} for i, name in NAMES.items()],
        'images': [{'id': 1, 'file_name': 'grey.png', 'width': 40, 'height': 30},
                   {'id': 2, 'file_name': 'red.jpg', 'width': 64, 'height': 48}],
        'annotations': list(annotations)} | changes
    (root / 'instances.json').write_text(json.dumps(content))
    return root


def test_boxes_come_with_their_picture(tmp_path):
    dataset = read_coco(write(tmp_path))
    assert dataset.class_names == NAMES
    grey, red = dataset.images
    assert len(grey.labels) == 0
    assert red.labels.boxes_xyxy.tolist() == [[10, 20, 15, 28]]
    assert red.labels.class_ids.tolist() == [7]
    assert not red.labels.ignored.any()
    assert red.rgb().shape == (48, 64, 3)
    np.testing.assert_allclose(red.rgb()[24, 32], (255, 0, 0), atol=3)


@pytest.mark.parametrize('flag', [{'iscrowd': 1}, {'ignore': 1}])
def test_crowds_and_ignored_boxes_are_marked(tmp_path, flag):
    labels = read_coco(write(tmp_path, [BOX, BOX | flag])).images[1].labels
    assert labels.ignored.tolist() == [False, True]


@pytest.mark.parametrize(('change', 'sentence'), [
    ({'category_id': 3}, 'annotation 5 has class id 3, which is not in the list of categories'),
    ({'image_id': 9}, 'annotation 5 belongs to image 9, which is not in the list of images'),
    ({'bbox': [1, 2, -3, 4]}, r'annotation 5 has the box \[1, 2, -3, 4\]'),
    ({'bbox': [1, 2, 3]}, r'annotation 5 has the box \[1, 2, 3\]'),
    ({'bbox': [1, 2, 3, 'x']}, r"annotation 5 has the box \[1, 2, 3, 'x'\]; it must be left"),
    ({'bbox': None}, 'annotation 5 has the box None; it must be left'),
    ({'image_id': '2'}, "annotation 5 belongs to image '2', which is not in the list"),
    ({'bbox': [65, 20, 5, 8]}, 'which lies outside its picture of 64x48 pixels'),
    ({'bbox': [-9, 20, 5, 8]}, 'which lies outside its picture of 64x48 pixels'),
])
def test_a_broken_annotation_is_named(tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        read_coco(write(tmp_path, [BOX | change]))
    assert str(tmp_path / 'instances.json') in str(error.value)


def test_a_missing_field_is_named(tmp_path):
    with pytest.raises(ValueError, match="is not a COCO file of boxes: a field 'bbox' is missing"):
        read_coco(write(tmp_path, [{k: v for k, v in BOX.items() if k != 'bbox'}]))


@pytest.mark.parametrize('text', ['{"images": [', '\x80'])
def test_what_is_not_json_is_said(tmp_path, text):
    (tmp_path / 'instances.json').write_text(text, encoding='latin-1')
    with pytest.raises(ValueError, match='instances.json is not JSON'):
        read_coco(tmp_path)


def test_another_json_is_no_dataset(tmp_path):
    (tmp_path / 'instances.json').write_text('[1, 2]')
    with pytest.raises(ValueError, match='is not a COCO file of boxes: it holds no object with'):
        read_coco(tmp_path)


def test_boxes_of_two_pictures_with_one_id_are_not_mixed(tmp_path):
    picture = {'id': 2, 'file_name': 'grey.png', 'width': 40, 'height': 30}
    with pytest.raises(ValueError, match='2 images have the id 2, so nobody knows whose boxes'):
        read_coco(write(tmp_path, images=[picture, picture | {'file_name': 'red.jpg'}]))


def test_an_empty_dataset_is_said(tmp_path):
    with pytest.raises(ValueError, match='names no images'):
        read_coco(write(tmp_path, [], images=[]))


def test_a_folder_without_labels_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no .*instances.json; a data set is'):
        read_coco(tmp_path)


def test_missing_pictures_are_counted_and_named(tmp_path):
    (write(tmp_path) / 'images' / 'red.jpg').unlink()
    with pytest.raises(FileNotFoundError, match='2 images, 1 of which are missing.*red.jpg'):
        read_coco(tmp_path)


def test_a_picture_of_another_size_is_named(tmp_path):
    cv2.imwrite(str(write(tmp_path) / 'images' / 'grey.png'), np.zeros((30, 41, 3), np.uint8))
    with pytest.raises(ValueError, match='grey.png has 41x30 pixels, but .* for 40x30'):
        read_coco(tmp_path).images[0].rgb()


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_a_cut_picture_is_named(tmp_path, suffix):
    path = tmp_path / f'cut{suffix}'
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cv2.imwrite(str(path), noise)
    read_rgb(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=f'cut{suffix} cannot be read as a picture'):
        read_rgb(path)


@pytest.mark.parametrize('data', [b'', b'hello'])
def test_what_is_no_picture_is_named(tmp_path, data):
    path = tmp_path / 'note.jpg'
    path.write_bytes(data)
    with pytest.raises(ValueError, match='note.jpg cannot be read'):
        read_rgb(path)


def test_labels_take_the_ids_of_a_model(tmp_path):
    model = {17: 'cat', 63: 'couch', 64: 'potted plant'}
    dataset = read_coco(write(tmp_path)).with_classes_of(model, {'sofa': 'couch'})
    assert dataset.class_names == {17: 'cat', 63: 'couch'}
    assert dataset.images[1].labels.class_ids.tolist() == [63]


@pytest.mark.parametrize(('renamed', 'sentence'), [
    ({}, r"1 class\(es\) that the model does not know: sofa; map each, as in --map 'sofa=...'"),
    ({'sofa': 'coach'}, "does not know: coach; map each, as in --map 'sofa=couch'"),
    ({'soffa': 'couch'}, "has no class 'soffa' to map; there are cat, sofa"),
])
def test_class_names_that_disagree_are_explained(tmp_path, renamed, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        read_coco(write(tmp_path)).with_classes_of({17: 'cat', 63: 'couch'}, renamed)
    assert str(tmp_path / 'instances.json') in str(error.value)


def test_a_simulated_set_tells_scene_and_family(tmp_path):
    root = write(tmp_path, [BOX | {'family': 'settee'}, BOX | {'id': 6}])
    (root / 'frames.jsonl').write_text(
        '{"file": "grey.png", "scene_seed": 3}\n{"file": "red.jpg", "scene_seed": 4}\n')
    grey, red = read_coco(root).images
    assert (grey.scene, red.scene) == (3, 4)
    assert red.families == ('settee', '')


def test_broken_frames_are_named(tmp_path):
    (write(tmp_path) / 'frames.jsonl').write_text('{"file": "grey.png"}\n')
    with pytest.raises(ValueError, match='frames.jsonl is not a list of frames'):
        read_coco(tmp_path)


def test_a_split_is_taken_where_there_are_splits(tmp_path):
    assert split_folder(tmp_path, 'test') == tmp_path
    (tmp_path / 'val').mkdir()
    assert split_folder(tmp_path, 'val') == tmp_path / 'val'
    with pytest.raises(FileNotFoundError, match="no split 'test'; choose from val"):
        split_folder(tmp_path, 'test')
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        split_folder(tmp_path / 'nowhere', 'test')


def write_folders(root):
    """Write one red cat and two green dogs."""
    for name, colour, count in (('dog', (0, 255, 0), 2), ('cat', (0, 0, 255), 1)):
        (root / name).mkdir()
        for i in range(count):
            cv2.imwrite(str(root / name / f'{i}.png'), np.full((8, 8, 3), colour, np.uint8))
    return root


def test_folders_are_classes(tmp_path):
    dataset = read_image_folder(write_folders(tmp_path))
    assert dataset.class_names == {0: 'cat', 1: 'dog'}
    assert [image.class_id for image in dataset.images] == [0, 1, 1]
    assert dataset.images[0].rgb()[0, 0].tolist() == [255, 0, 0]
    renamed = dataset.with_classes_of({5: 'cat', 9: 'wolf'}, {'dog': 'wolf'})
    assert [image.class_id for image in renamed.images] == [5, 9, 9]
    with pytest.raises(ValueError, match='does not know: dog'):
        dataset.with_classes_of({5: 'cat'})


def test_an_empty_class_is_named(tmp_path):
    with pytest.raises(ValueError, match='has no folders'):
        read_image_folder(tmp_path)
    (write_folders(tmp_path) / 'emu').mkdir()
    with pytest.raises(ValueError, match='emu holds no pictures'):
        read_image_folder(tmp_path)
