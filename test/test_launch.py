"""Launch files name executables and files that exist; where ROS is, they are really read."""

import ast
from pathlib import Path

from perception_nodes.core.share import share_file, share_folder
import pytest
import yaml

LAUNCH_FILES = sorted((share_folder() / 'launch').glob('*.launch.py'))
WITHOUT_OUR_NODES = {'gazebo_bridge.launch.py', 'bag_replay.launch.py'}  # it includes them
CAMERAS = sorted((share_folder() / 'config' / 'cameras').glob('*.yaml'))
PACKAGE = Path(share_file('package.xml')).parent / 'perception_nodes'
EXECUTABLES = {'perception_container'} | {path.stem for path in PACKAGE.glob('*_node.py')}


def calls(tree, name):
    """Yield every call of a function or class by its bare name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def constants(tree, name):
    """Return a tuple of strings that a launch file assigns at its top level."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return ast.literal_eval(node.value)
    return ()


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda p: p.name)
def test_executables_exist(path):
    """Every fixed executable, and every node of the NODES tuple, is one of this package."""
    tree = ast.parse(path.read_text())
    ours = [{k.arg: k.value for k in call.keywords} for call in calls(tree, 'Node')]
    fixed = [options['executable'].value for options in ours
             if 'package' not in options or options['package'].value == 'perception_nodes'
             if isinstance(options['executable'], ast.Constant)]
    named = [f'{name}_node' for name in constants(tree, 'NODES')]
    assert fixed or named or path.name in WITHOUT_OUR_NODES
    assert set(fixed) | set(named) <= EXECUTABLES


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda p: p.name)
def test_every_argument_that_is_used_is_declared(path):
    """A LaunchConfiguration without its DeclareLaunchArgument fails only when it is reached."""
    tree = ast.parse(path.read_text())
    used = {call.args[0].value for call in calls(tree, 'LaunchConfiguration')
            if isinstance(call.args[0], ast.Constant)}
    used |= {call.args[0].value for call in calls(tree, 'value')
             if isinstance(call.args[0], ast.Constant)}
    declared = {call.args[0].value for name in ('DeclareLaunchArgument', 'switch')
                for call in calls(tree, name) if isinstance(call.args[0], ast.Constant)}
    assert used <= declared | set(constants(tree, 'NODES'))


@pytest.mark.parametrize('path', CAMERAS, ids=lambda p: p.stem)
def test_presets_name_topics_and_say_whether_they_were_tried(path):
    """A preset is short: the driver's command, absolute topic names, and a word on trust."""
    text = path.read_text()
    preset = yaml.safe_load(text)
    assert {'driver', 'image', 'camera_info'} <= preset.keys() <= {
        'driver', 'image', 'depth', 'camera_info'}
    assert all(preset[name].startswith('/') for name in preset if name != 'driver')
    assert len(text.splitlines()) <= 10
    if path.stem != 'sim':
        assert 'ried' in text.splitlines()[0]


def test_the_presets_that_the_readme_names_are_there():
    """These names stand in the README."""
    assert {path.stem for path in CAMERAS} >= {
        'realsense', 'zed', 'oak', 'orbbec', 'usb', 'sim'}


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda p: p.name)
def test_the_real_launch_reads_the_file(path):
    """Its arguments are shown and its description is built."""
    launch = pytest.importorskip('launch', reason='launch is not installed: needs a ROS install')
    pytest.importorskip('launch_ros', reason='launch_ros is not installed: needs a ROS install')
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    source = PythonLaunchDescriptionSource(str(path))
    description = source.get_launch_description(launch.LaunchContext())
    names = {argument.name for argument in description.get_launch_arguments()}
    assert 'use_sim_time' in names
