"""Which nodes a parameter file starts, and with what."""

from perception_nodes.core.mapping import MappingParams
from perception_nodes.evaluation.parameter_sets import default_parameter_set, read_parameter_set
import pytest


def read(tmp_path, text, only=()):
    path = tmp_path / 'robot.yaml'
    path.write_text(text)
    return read_parameter_set(path, only)


def test_the_nodes_are_those_of_the_container(tmp_path):
    found = read(tmp_path, (
        '/**: {ros__parameters: {use_sim_time: true, score_threshold: 0.4}}\n'
        'perception_container: {ros__parameters: {nodes: [obstacle_map, simulation, detection]}}\n'
        'detection: {ros__parameters: {nms_iou: 0.3, sync_tolerance_ms: 7}}\n'
        'grasp: {ros__parameters: {max_opening_m: 0.1}}\n'))
    assert found.name == 'robot'
    assert found.use_sim_time
    assert found.left_out == ('simulation',)
    assert [node.name for node in found.nodes] == ['detection', 'obstacle_map']
    detection, obstacle_map = found.nodes
    assert (detection.params.score_threshold, detection.params.nms_iou) == (0.4, 0.3)
    assert detection.inputs.sync_tolerance_ms == 7.0
    assert obstacle_map.params == MappingParams()
    assert obstacle_map.inputs.sync_tolerance_ms == 20.0


def test_without_a_list_the_blocks_are_the_nodes(tmp_path):
    found = read(tmp_path, (
        '/robot/segmentation: {ros__parameters: {model: mine}}\n'
        'detection: {ros__parameters: {use_sim_time: false}}\n'))
    assert [node.kind for node in found.nodes] == ['detection', 'segmentation']
    assert found.nodes[1].params.model == 'mine'


def test_a_node_may_have_a_name_of_its_own(tmp_path):
    found = read(tmp_path, (
        'perception_container: {ros__parameters: {nodes: [front=detection, rear=detection]}}\n'
        'rear: {ros__parameters: {score_threshold: 0.25}}\n'), ('rear',))
    assert [(node.name, node.kind) for node in found.nodes] == [('rear', 'detection')]
    assert found.nodes[0].params.score_threshold == 0.25


@pytest.mark.parametrize(('text', 'said'), [
    ('a: [', 'is no YAML'),
    ('just words', 'is no ROS parameter file'),
    ('detection: {model: x}', "under each 'ros__parameters'"),
    ('camera: {ros__parameters: {rate: 5}}', 'starts no node'),
    ('detection: {ros__parameters: {score_treshold: 0.5}}',
     "node detection: there is no parameter 'score_treshold'; did you mean 'score_threshold'"),
    ('detection: {ros__parameters: {score_threshold: 2.0}}', 'it must be at most 1.0'),
    ('perception_container: {ros__parameters: {nodes: [a=detection, b=detection]}}',
     'detection twice'),
    ('detection: {ros__parameters: {cameras: [front, rear]}}', 'one camera')])
def test_what_is_wrong_with_a_file_is_said(tmp_path, text, said):
    with pytest.raises(ValueError, match=r'robot\.yaml') as caught:
        read(tmp_path, text)
    assert said in str(caught.value)


def test_defaults():
    found = default_parameter_set(('grasp', 'detection'))
    assert [node.name for node in found.nodes] == ['detection', 'grasp']
    with pytest.raises(ValueError, match="did you mean 'detection'"):
        default_parameter_set(('detecton',))
