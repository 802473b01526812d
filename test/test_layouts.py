"""What RViz and Foxglove are told to show is what the nodes publish, with the type it needs."""

import json
import re

from perception_nodes.core.share import share_file, share_folder
import pytest
import yaml

MESSAGES = share_folder() / 'docs' / 'messages.md'
RVIZ_TYPES = {
    'Map': 'nav_msgs/OccupancyGrid', 'PointCloud2': 'sensor_msgs/PointCloud2',
    'LaserScan': 'sensor_msgs/LaserScan', 'MarkerArray': 'visualization_msgs/MarkerArray',
    'Image': 'sensor_msgs/Image'}
FOXGLOVE_TYPES = {
    '3D': ('nav_msgs/OccupancyGrid', 'sensor_msgs/PointCloud2', 'sensor_msgs/LaserScan',
           'visualization_msgs/MarkerArray', 'geometry_msgs/PoseArray'),
    'Image': ('sensor_msgs/Image',), 'DiagnosticSummary': ('diagnostic_msgs/DiagnosticArray',),
    'RawMessages': ('vision_msgs/Detection2DArray', 'vision_msgs/Detection3DArray')}


@pytest.fixture(scope='module')
def published():
    """Return the type of every result topic that docs/messages.md names."""
    if not MESSAGES.is_file():
        pytest.skip('the docs are not installed, only in a checkout')
    rows = re.findall(r'^\| (\w+) \| `([~/\w]+)` \| ([\w/]+)', MESSAGES.read_text(), re.M)
    assert len(rows) > 20
    return {topic.replace('~', f'/{node}'): kind for node, topic, kind in rows}


def displays():
    """Return class, topic and QoS of every display of the RViz file that has a topic."""
    content = yaml.safe_load(share_file('config/perception.rviz').read_text())
    return [(d['Class'].rpartition('/')[2], d['Topic']['Value'], d['Topic'])
            for d in content['Visualization Manager']['Displays'] if 'Topic' in d]


def panels():
    """Return type and topics of every panel of the Foxglove layout."""
    content = json.loads(share_file('config/foxglove_layout.json').read_text())
    for name, panel in content['configById'].items():
        shown = [*panel.get('topics', ()), panel.get('imageMode', {}).get('imageTopic'),
                 panel.get('topicToRender'), panel.get('topicPath')]
        yield name, [topic for topic in shown if topic]


def test_rviz_shows_what_is_published_as_it_is_offered(published):
    """Latched topics are asked for as latched ones; sensor data is not asked for as reliable."""
    found = displays()
    assert len(found) >= 6
    text = MESSAGES.read_text()
    for kind, topic, qos in found:
        assert published.get(topic) == RVIZ_TYPES[kind], topic
        row = next(line for line in text.splitlines() if topic.split('/')[1] in line
                   and f'`~/{topic.split("/")[2]}`' in line)
        assert (qos['Durability Policy'] == 'Transient Local') == ('latched' in row), topic
        assert (qos['Reliability Policy'] == 'Best Effort') == ('sensor QoS' in row), topic


def test_foxglove_shows_what_is_published(published):
    found = list(panels())
    assert all(topics for _, topics in found)
    for name, topics in found:
        for topic in topics:
            assert published.get(topic) in FOXGLOVE_TYPES[name.partition('!')[0]], topic


def test_every_panel_of_the_foxglove_layout_has_a_place():
    content = json.loads(share_file('config/foxglove_layout.json').read_text())

    def leaves(tree):
        return [tree] if isinstance(tree, str) else [*leaves(tree['first']),
                                                     *leaves(tree['second'])]
    assert sorted(leaves(content['layout'])) == sorted(content['configById'])
