"""The page about a model: everything on it, nothing from elsewhere."""

from html.parser import HTMLParser
import math

import numpy as np
from perception_nodes.evaluation.model_page import (
    Chart,
    ConfusionTable,
    Curve,
    Evaluation,
    ModelPage,
    Table,
    write_page,
)
from perception_nodes.evaluation.report import Legend, Moment, Panel, Tile

PICTURE = np.full((12, 16, 3), 90, np.uint8)


class Elements(HTMLParser):
    """Collects the text, and what is loaded."""

    def __init__(self):
        super().__init__()
        self.text = ''
        self.loaded = []
        self.lines = []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.loaded += [found[name] for name in ('src', 'href') if name in found]
        self.lines += [found['points']] if tag == 'polyline' else []

    def handle_data(self, data):
        self.text += data


def write(path, **changes):
    evaluation = Evaluation(
        {'mAP50': 0.5}, [Table('By class', 'why', ('class', 'AP50', 'boxes'),
                               [('cat & dog', (0.25, 4)), ('emu', (math.nan, 0))])],
        [Chart('Precision', 'note', 'recall', 'precision', [
            Curve('all', np.array([0.0, 0.5, 1.0]), np.array([1.0, 1.0, 0.0]))])],
        ConfusionTable('percent', ['cat & dog'], ['cat & dog', 'missed'], np.array([[3, 1]])),
        [Moment('a.png: 2 wrong', [Panel('true', '', PICTURE), Panel('found', '', PICTURE)])],
        'the worst')
    page = ModelPage(**{
        'title': 'm on d', 'headline': 'mAP50 0.5', 'lead': 'lead', 'tiles': [
            Tile('0.500', 'mAP50', 'interval')], 'evaluation': evaluation,
        'legends': [Legend('cat & dog', (1, 2, 3))], 'corruptions': None, 'occlusions': [],
        'commands': [('again', 'perception evaluate-model')], 'facts': [('commit', 'abc')],
    } | changes)
    write_page(path, page)
    elements = Elements()
    elements.feed(path.read_text())
    return elements


def test_the_page_holds_everything_and_loads_nothing(tmp_path):
    elements = write(tmp_path / 'new' / 'page.html')
    for words in ('mAP50 0.5', 'cat & dog', '0.250', '–', 'a.png: 2 wrong', '75', 'abc'):
        assert words in elements.text
    assert 'Worse pictures' not in elements.text
    assert len(elements.loaded) >= 3
    assert all(address.startswith('data:') for address in elements.loaded)


def test_curves_are_drawn_with_y_upwards(tmp_path):
    assert write(tmp_path / 'page.html').lines == ['0,0 150,0 300,200']


def test_points_that_cannot_be_told_apart_are_left_out():
    x = np.linspace(0.0, 2.0, 100_000)
    chart = Chart('', '', '', '', [], x_max=1.0)
    points = chart.points(Curve('', x, np.ones_like(x))).split()
    assert len(points) == 301
    assert (points[0], points[-1]) == ('0,0', '300,0')
    assert chart.points(Curve('', np.array([math.nan]), np.array([1.0]))) == ''


def test_what_was_asked_for_is_shown(tmp_path):
    elements = write(
        tmp_path / 'page.html', corruptions=Table('Worse pictures', '', ('mAP50', 'clean'), [
            ('blur', (0.125,))]), occlusions=[Moment('b.png', [Panel('dog', '', PICTURE)])])
    for words in ('Worse pictures', '0.125', 'What the answers hang on', 'b.png'):
        assert words in elements.text
