"""Words on a node's command line that ROS passes over."""

from perception_nodes.ros.process import run
import pytest


@pytest.mark.parametrize(('words', 'first'), [
    (['-p', 'rate:=3'], '-p'), (['--model', 'mine'], '--model'),
    (['--ros-args', '-p', 'rate:=3', '--', 'extra'], 'extra')])
def test_words_that_ros_passes_over_end_the_program(words, first):
    with pytest.raises(SystemExit) as left:
        run(list, ['/somewhere/detection_node', *words])
    assert left.value.code == (
        f"perception_nodes: cannot start: '{first}' is no ROS argument; write detection_node "
        '--ros-args [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO]; '
        "'perception parameters detection' lists the parameters")


def test_help_tells_how_a_node_is_told(capsys):
    with pytest.raises(SystemExit) as left:
        run(list, ['detection_node', '--help'])
    assert left.value.code is None
    assert capsys.readouterr().out.startswith('usage: detection_node --ros-args')
