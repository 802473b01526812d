"""Boxes in other people's layouts: what is read, and the sentence for each way it can break."""

import cv2
import numpy as np
from perception_nodes.evaluation.box_formats import read_boxes, splits_of
import pytest

VOC = """<annotation><filename>a.png</filename>
  <object><name>dog</name><bndbox><xmin>{xmin}</xmin><ymin>3</ymin><xmax>10</xmax><ymax>12</ymax>
  </bndbox></object>
  <object><name>cat</name><difficult>1</difficult><bndbox><xmin>5</xmin><ymin>5</ymin>
  <xmax>8</xmax><ymax>8</ymax></bndbox></object></annotation>"""


def write_picture(path, width=40, height=20):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


@pytest.fixture
def voc(tmp_path):
    write_picture(tmp_path / 'JPEGImages' / 'a.png')
    write_picture(tmp_path / 'JPEGImages' / 'b.jpg')
    (tmp_path / 'Annotations').mkdir()
    (tmp_path / 'Annotations' / 'a.xml').write_text(VOC.format(xmin=1))
    (tmp_path / 'Annotations' / 'b.xml').write_text('<annotation></annotation>')
    return tmp_path


def test_voc_counts_pixels_from_one(voc):
    dataset = read_boxes(voc, 'train')
    assert dataset.class_names == {0: 'cat', 1: 'dog'}
    dogs, nothing = dataset.images
    assert (dogs.path.name, dogs.width, dogs.height) == ('a.png', 40, 20)
    assert dogs.labels.boxes_xyxy.tolist() == [[0, 2, 10, 12], [4, 4, 8, 8]]
    assert dogs.labels.class_ids.tolist() == [1, 0]
    assert dogs.labels.ignored.tolist() == [False, True]
    # without a name in the file, the picture is called as the label file is
    assert nothing.path.name == 'b.jpg'
    assert len(nothing.labels) == 0


def test_voc_lists_are_splits(voc):
    assert splits_of(voc) == ()
    (voc / 'ImageSets' / 'Main').mkdir(parents=True)
    (voc / 'ImageSets' / 'Main' / 'val.txt').write_text('b  1\n')
    assert splits_of(voc) == ('val',)
    dataset = read_boxes(voc, 'val')
    assert [image.path.name for image in dataset.images] == ['b.jpg']
    assert dataset.class_names == {0: 'cat', 1: 'dog'}, 'ids must not depend on the split'
    with pytest.raises(FileNotFoundError, match='train.txt; there are val'):
        read_boxes(voc, 'train')


@pytest.mark.parametrize(('text', 'sentence'), [
    ('<annotation>', 'a.xml is not XML'),
    (VOC.format(xmin='left'), "a.xml: the box of an object 'dog' is not four numbers"),
    (VOC.format(xmin=30), r'a.xml: object 1 has the box \[29.0, 2.0, 10.0, 12.0\]'),
    (VOC.format(xmin='nan'), r'a.xml: object 1 has the box \[nan'),
])
def test_broken_voc_labels_are_named(voc, text, sentence):
    (voc / 'Annotations' / 'a.xml').write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_boxes(voc, 'train')


def test_a_voc_class_outside_the_list_is_named(voc):
    (voc / 'classes.txt').write_text('dog\nhorse\n')
    with pytest.raises(ValueError, match=r"a.xml has an object of class 'cat', .*: dog, horse"):
        read_boxes(voc, 'train')


@pytest.fixture
def yolo(tmp_path):
    write_picture(tmp_path / 'images' / 'train' / 'a.png')
    write_picture(tmp_path / 'images' / 'train' / 'b.png')
    (tmp_path / 'labels' / 'train').mkdir(parents=True)
    (tmp_path / 'labels' / 'train' / 'a.txt').write_text(
        '1 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.3 0.2 0.3 0.9\n')
    file = tmp_path / 'data.yaml'
    file.write_text('train: images/train\nnames: [cat, dog]\n')
    return file


def test_yolo_counts_in_fractions(yolo):
    assert splits_of(yolo) == ('train',)
    dataset = read_boxes(yolo, 'train')
    assert dataset.class_names == {0: 'cat', 1: 'dog'}
    boxes, nothing = (image.labels for image in dataset.images)
    np.testing.assert_allclose(boxes.boxes_xyxy, [[15, 5, 25, 15], [4, 4, 12, 18]], atol=1e-5)
    assert boxes.class_ids.tolist() == [1, 0]
    assert len(nothing) == 0


def test_yolo_takes_lists_of_files_and_names_by_id(yolo):
    (yolo.parent / 'some.txt').write_text('images/train/b.png\n')
    yolo.write_text('path: .\nval: some.txt\nnames: {3: cat, 5: dog}\n')
    dataset = read_boxes(yolo, 'val')
    assert dataset.class_names == {3: 'cat', 5: 'dog'}
    assert [image.path.name for image in dataset.images] == ['b.png']
    with pytest.raises(FileNotFoundError, match="has no split 'train'; choose from val"):
        read_boxes(yolo, 'train')


@pytest.mark.parametrize(('line', 'sentence'), [
    ('2 .5 .5 .1 .1', 'a.txt, line 1 has class 2, which is not in the list; there are 0, 1'),
    ('0 .5 .5 .1', 'a.txt, line 1 has 3 numbers after the class'),
    ('0 .5 .5 x .1', "a.txt, line 1 is '0 .5 .5 x .1'; it must be numbers"),
    ('0 .5 .5 -.1 .1', r'a.txt: object 1 has the box'),
])
def test_broken_yolo_labels_are_named(yolo, line, sentence):
    (yolo.parent / 'labels' / 'train' / 'a.txt').write_text(line)
    with pytest.raises(ValueError, match=sentence):
        read_boxes(yolo, 'train')


@pytest.mark.parametrize(('text', 'sentence'), [
    ('a: [', 'is not YAML'), ('train: images', "is no data set of YOLO's: it needs 'names'")])
def test_a_broken_yolo_file_is_named(yolo, text, sentence):
    yolo.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        splits_of(yolo)


def test_a_missing_yolo_folder_is_named(yolo):
    yolo.write_text('train: pictures\nnames: [cat]\n')
    with pytest.raises(FileNotFoundError, match="there is no .*pictures, which split 'train'"):
        read_boxes(yolo, 'train')


def test_a_damaged_picture_is_named(yolo):
    (yolo.parent / 'images' / 'train' / 'b.png').write_bytes(b'\x89PNG and no more')
    with pytest.raises(ValueError, match='b.png cannot be read as a picture'):
        read_boxes(yolo, 'train')
