"""Words on a node's command line that ROS passes over."""

import pytest

pytest.importorskip('rclpy')
from perception_nodes.ros import process  # noqa: E402
from perception_nodes.ros.process import run  # noqa: E402


@pytest.fixture(autouse=True)
def untuned(monkeypatch):
    """Keep the settings of a node's process out of this one, which tests others too."""
    monkeypatch.setattr(process.transport, 'tune', lambda: None)


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


def test_ros_arguments_need_no_program_before_them(monkeypatch):
    begun = []
    monkeypatch.setattr(process.rclpy, 'init', lambda args: begun.append(args))
    monkeypatch.setattr(process, 'spin', lambda executor: None)
    monkeypatch.setattr(process, 'SingleThreadedExecutor', lambda: None)
    monkeypatch.setattr(process.signal, 'signal', lambda number, handler: None)
    for words in (['--ros-args', '-r', '__node:=other'], ['node', '--ros-args'], ['node'], []):
        run(list, words)
        assert begun.pop() == words


def test_help_tells_how_a_node_is_told(capsys):
    with pytest.raises(SystemExit) as left:
        run(list, ['detection_node', '--help'])
    assert left.value.code is None
    assert capsys.readouterr().out.startswith('usage: detection_node --ros-args')
