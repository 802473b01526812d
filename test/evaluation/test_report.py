"""The page stands alone, shows what was found, and nothing in it can break out."""

import base64
from dataclasses import replace
import re

import cv2
import numpy as np
from perception_nodes.core.overlay import colour_of
from perception_nodes.core.types import Detections
from perception_nodes.evaluation.report import (
    Legend,
    Moment,
    Panel,
    Report,
    Section,
    Shot,
    Step,
    Tile,
    write_report,
)
import pytest

CLASS_NAMES = {3: 'cup', 9: 'table'}
CUP_ON_TABLE = Detections(
    np.array([[20, 10, 60, 50], [0, 40, 100, 80]], np.float32),
    np.array([0.91, 0.55], np.float32), np.array([3, 9], np.int64))


def shot(title='Kitchen', found=CUP_ON_TABLE, size=(80, 100), age_ms=12.0):
    return Shot(title, 'ours, CC0', np.full((*size, 3), 90, np.uint8), found, age_ms)


@pytest.fixture
def page(tmp_path):
    def make(*shots, sections=()):
        report = Report(
            title='demo', headline='2 objects', lead='How it was made.',
            steps=[Step('camera', '/image')], tiles=[Tile('2', 'objects', 'of 2 classes')],
            shots=shots, class_names=CLASS_NAMES, commands=[('Again:', 'perception demo')],
            facts=[('Python', '3.11')], sections=sections)
        write_report(tmp_path / 'report.html', report)
        return (tmp_path / 'report.html').read_text()
    return make


def test_every_detection_is_in_the_table(page):
    rows = re.findall(r'<tr><td>(.*?)</tr>', page(shot()))
    cells = [re.sub(r'<[^>]+>', ' ', row).split() for row in rows]
    assert cells == [['Kitchen', 'cup', '0.91', '20', '10', '60', '50'],
                     ['Kitchen', 'table', '0.55', '0', '40', '100', '80']]


def test_the_page_needs_nothing_else(page):
    html = page(shot())
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert 'http' not in html
    assert '@import' not in html
    assert 'url(' not in html


def test_the_picture_in_the_page_has_the_boxes(page):
    large = replace(CUP_ON_TABLE, boxes_xyxy=CUP_ON_TABLE.boxes_xyxy * 5)
    data = re.search(r'data:image/jpeg;base64,([^"]+)', page(shot(found=large, size=(400, 500))))
    bgr = cv2.imdecode(np.frombuffer(base64.b64decode(data[1]), np.uint8), cv2.IMREAD_COLOR)
    assert bgr.shape == (400, 500, 3)
    assert np.abs(bgr[100, 100].astype(int) - 90).max() > 30  # the left edge of the cup
    np.testing.assert_allclose(bgr[100, 200], 90, atol=12)


def test_a_large_picture_shrinks_with_its_boxes():
    overlay = shot(size=(1600, 2000), found=replace(
        CUP_ON_TABLE, boxes_xyxy=CUP_ON_TABLE.boxes_xyxy * 20)).overlay(CLASS_NAMES)
    assert overlay.shape == (640, 800, 3)
    assert tuple(overlay[300, 160]) == colour_of(3)  # the left edge of the cup


def test_bars_are_as_long_as_the_ages(page):
    html = page(shot(age_ms=10.0), shot(age_ms=40.0), shot(age_ms=20.0))
    assert re.findall(r'<i style="height: ([\d.]+)%', html) == ['25.0', '100.0', '50.0']
    assert 'median 20.0 ms, longest 40.0 ms' in html


def test_classes_are_counted_over_all_pictures(page):
    html = page(shot(), shot(found=CUP_ON_TABLE[:1]), shot(found=Detections.empty()))
    assert re.findall(r'(cup|table)&ensp;<b>(\d)</b>', html) == [('cup', '2'), ('table', '1')]
    assert html.count('nothing above the threshold') == 1


def test_a_page_without_pictures_leaves_their_parts_out(page):
    html = page()
    assert 'How it was made.' in html
    assert 'What was seen' not in html
    assert 'median' not in html


def test_a_section_shows_its_pictures_side_by_side(page):
    reds = [np.full((24, 32, 3), (red, 0, 0), np.uint8) for red in (40, 200)]
    moment = Moment('1.5 s', [Panel('truth', '3 objects', reds[0]), Panel('depth', '', reds[1])])
    html = page(sections=[Section(
        'Robot', 'It drives.', note='<b>mind</b>', moments=[moment],
        legends=[Legend('wall', (1, 2, 3))])])
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)" alt="(\w+) at 1.5 s"', html)
    assert [name for _, name in pictures] == ['truth', 'depth']
    for (data, _), red in zip(pictures, reds, strict=True):
        bgr = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_allclose(bgr[..., ::-1], red, atol=4)
    assert 'background: rgb(1, 2, 3)' in html
    assert '&lt;b&gt;mind' in html


def test_names_are_text_not_markup(page):
    assert '<script>' not in page(shot(title='<script>alert(1)</script>'))


def test_a_class_without_a_name_is_shown_by_its_id(page):
    foreign = replace(CUP_ON_TABLE, class_ids=np.array([3, 77], np.int64))
    assert re.search(r'77 0\.55', page(shot(found=foreign)))
