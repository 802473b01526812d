"""The demo from end to end: two pictures over a real graph, a bag, and what is made of it."""

import json

import cv2
import numpy as np
from perception_nodes.cli import demo
from perception_nodes.cli.demo_pictures import demo_pictures, DemoPicture
from perception_nodes.cli.main import main
from perception_nodes.core.detection import DetectionParams
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.bag_writer import BagWriter
import pytest


@pytest.fixture(scope='module')
def photos():
    """Return the photos that the installed packages bring along."""
    found = {picture.title: picture for picture in demo_pictures()}
    if not {'Coffee', 'Chelsea the cat'} <= found.keys():
        pytest.skip('scikit-image, whose sample pictures are used, is not installed')
    return found


@pytest.mark.graph
def test_two_pictures_become_a_report(photos, tmp_path, monkeypatch, capsys):
    shown = [photos['Coffee'], photos['Chelsea the cat']]
    monkeypatch.setattr(demo, 'demo_pictures', lambda: iter(shown))
    assert main(['demo', '--only', 'photos', '--out', str(tmp_path / 'demo')]) == 0

    with Bag(tmp_path / 'demo' / 'bag') as bag:
        assert not bag.damage
        assert bag.topics['/detection/detections'].count == 2
        assert bag.topics['/camera/color/image_raw'].count == 2
    metrics = json.loads((tmp_path / 'demo' / 'metrics.json').read_text())
    assert metrics['pictures'] == metrics['pictures_with_detections'] == metrics['n'] == 2
    assert metrics['dropped_detection'] == metrics['failed_detection'] == 0
    assert 0.0 < metrics['age_p50_ms_detection'] <= metrics['age_p95_ms_detection']
    assert metrics['age_p50_ms_detection'] < metrics['stamp_to_record_ms_p95']
    page = (tmp_path / 'demo' / 'report.html').read_text()
    assert page.count('<figure') == 2
    for name in ('cup', 'cat', 'dining table'):
        assert f'<td>{name}</td>' in page.replace('</span>', '<td>')
    overlay = cv2.imread(str(tmp_path / 'demo' / 'pictures' / '02_chelsea_the_cat.jpg'))
    assert overlay.shape == shown[1].rgb.shape
    said = capsys.readouterr().out
    assert said.startswith('3 objects in 2 pictures: 1 × ')
    assert str(tmp_path / 'demo' / 'report.html') in said


@pytest.mark.graph
def test_it_replaces_its_bag_and_says_when_nothing_is_seen(tmp_path, monkeypatch, capsys):
    grey = DemoPicture('Fog', 'nobody', np.full((120, 160, 3), 128, np.uint8))
    monkeypatch.setattr(demo, 'demo_pictures', lambda: iter([grey]))
    BagWriter(tmp_path / 'bag').close()
    assert main(['demo', '--only', 'photos', '--out', str(tmp_path)]) == 0
    assert '0 objects in 1 picture: nothing above the threshold.' in capsys.readouterr().out
    with Bag(tmp_path / 'bag') as bag:
        assert bag.topics['/detection/detections'].count == 1


@pytest.mark.graph
def test_a_node_that_cannot_start_ends_the_demo(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, 'ros_arguments', lambda params: ['--ros-args', '-x'])
    assert main(['demo', '--out', str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert 'the detection node ended with exit code 1; its last lines' in said
    assert not (tmp_path / 'report.html').exists()


@pytest.mark.graph
def test_a_recorder_that_cannot_write_ends_the_demo(photos, tmp_path, capsys):
    """There is a folder of the user's where the bag should go."""
    (tmp_path / 'bag').mkdir()
    (tmp_path / 'bag' / 'holiday.txt').write_text('mine')
    assert main(['demo', '--out', str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert 'the recorder ended with exit code 1; its last lines' in said
    assert 'is no bag: it is not overwritten' in said
    assert (tmp_path / 'bag' / 'holiday.txt').read_text() == 'mine'


def test_an_unknown_model_is_one_sentence(tmp_path, capsys):
    assert main(['demo', '--out', str(tmp_path / 'demo'), '--model', 'yolo']) == 1
    said = capsys.readouterr().err
    assert "there is no detection model 'yolo'" in said
    assert said.count('\n') == 1
    assert not (tmp_path / 'demo').exists()


def test_without_any_photo_it_says_where_photos_come_from(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, 'demo_pictures', lambda: iter(()))
    assert main(['demo', '--out', str(tmp_path / 'demo')]) == 1
    assert 'no photos were found: install scikit-image' in capsys.readouterr().err


def test_bags_are_shown_where_they_are(data_dir, monkeypatch):
    monkeypatch.setenv('PERCEPTION_NODES_DATA', str(data_dir))
    titles = [picture.title for picture in demo_pictures()]
    assert titles[-9:] == [*(f'Dining room {i}' for i in range(1, 6)),
                           *(f'Tabletop {i}' for i in range(1, 5))]


def test_what_photos_and_drive_both_measure_is_kept_apart():
    page = demo._Page(DetectionParams())
    page.photo_values = {'pictures': 16, 'age_p50_ms_detection': 20.0}
    page.drive_values = {'goals': 3, 'age_p50_ms_detection': 40.0}
    assert page.metrics() == {
        'pictures': 16, 'photos_age_p50_ms_detection': 20.0, 'age_p50_ms_detection': 40.0,
        'goals': 3}


def test_no_bags_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.setenv('PERCEPTION_NODES_DATA', str(tmp_path))
    assert not any('recorded bag' in picture.credit for picture in demo_pictures())
