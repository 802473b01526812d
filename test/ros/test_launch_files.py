"""What launch files share, without launch."""

from pathlib import Path

from perception_nodes.core.share import share_file
from perception_nodes.ros.launch_files import (
    camera_presets,
    camera_topics,
    misspelled,
    NODES,
    parameter_files,
)
import pytest

PACKAGE = Path(share_file('package.xml')).parent / 'perception_nodes'


def test_every_node_that_can_be_switched_on_exists():
    assert all((PACKAGE / f'{name}_node.py').is_file() for name in NODES)


@pytest.mark.parametrize('camera', ['/front', '/front/'])
def test_a_namespace_has_the_topics_of_a_driver(camera):
    assert camera_topics(camera) == {
        'image': '/front/color/image_raw',
        'depth': '/front/aligned_depth_to_color/image_raw',
        'camera_info': '/front/color/camera_info'}


def test_every_preset_has_a_colour_image():
    assert {'realsense', 'usb'} <= set(camera_presets())
    assert all(camera_topics(name)['image'].startswith('/') for name in camera_presets())
    assert 'depth' not in camera_topics('usb')


@pytest.mark.parametrize('camera', ['realsens', '', 'camera', '../perception'])
def test_another_camera_is_refused(camera):
    with pytest.raises(ValueError, match='neither a namespace such as /camera nor one of oak, '):
        camera_topics(camera)


def test_parameter_files_lie_on_top_of_each_other(tmp_path):
    mine = tmp_path / 'mine.yaml'
    mine.touch()
    files = parameter_files(['perception', 'simulation'], str(mine))
    assert [Path(file).name for file in files] == [
        'perception.yaml', 'simulation.yaml', 'mine.yaml']
    assert all(Path(file).is_file() for file in files)
    assert [Path(file).name for file in parameter_files(['perception'], '')] == ['perception.yaml']


def test_a_parameter_file_that_is_not_there_is_refused(tmp_path):
    """The launch system only warns, and starts the nodes with other values than were meant."""
    with pytest.raises(ValueError, match=r'params_file:=\S*/mine.yaml: there is no such file'):
        parameter_files(['perception'], str(tmp_path / 'mine.yaml'))


def test_names_that_were_meant():
    declared = ['camera', 'obstacle_map', 'params_file']
    assert misspelled(['camera', 'cammera', 'param_file', 'bag'], declared) == [
        "there is no argument 'cammera'; did you mean 'camera'?",
        "there is no argument 'param_file'; did you mean 'params_file'?"]
