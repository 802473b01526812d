"""Parameters of a node in this process: what may be changed, and what is refused."""

from perception_nodes.core.detection import DetectionParams
from perception_nodes.core.mapping import MappingParams
from perception_nodes.ros import parameters
import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter

pytestmark = pytest.mark.graph


@pytest.fixture
def make_node(graph):
    """Make a node that follows one parameter set, and what it examined."""
    nodes = []

    def make(kind, locked='', **values):
        node = Node('followed', context=graph.context, parameter_overrides=[
            Parameter(name, value=value) for name, value in values.items()])
        nodes.append(node)
        assert parameters.declare(node, (kind,)) == []
        examined = []
        parameters.follow(node, (kind,), lambda: locked, lambda: None, examined.append)
        return node, examined

    yield make
    for node in nodes:
        node.destroy_node()


def refusal(node, **values):
    """Set parameters at once, and return why not."""
    return node.set_parameters_atomically(
        [Parameter(name, value=value) for name, value in values.items()]).reason


def test_a_change_is_judged_by_the_values_it_comes_to(make_node):
    """Rules of classes need a mask, which this node has though it is not the default."""
    node, examined = make_node(MappingParams, 'is locked', use_mask=True)
    assert refusal(node, class_rules=['person cost=30']) == ''
    assert examined[-1].class_rules == ('person cost=30',)
    assert examined[-1].use_mask
    assert "'class_rules'" in refusal(node, class_rules=['person cost=1000'])
    assert refusal(node, map_frame='map') == "parameter 'map_frame' is locked"
    assert parameters.read(node, MappingParams).class_rules == ('person cost=30',)


def test_values_that_need_each_other_are_set_at_once_or_in_order(make_node):
    """Together they are a valid set; the dependent one alone is not."""
    node, examined = make_node(MappingParams)
    assert "'use_mask' is false" in refusal(node, class_rules=['person cost=30'])
    assert not examined
    assert refusal(node, use_mask=True, class_rules=['person cost=30']) == ''
    assert len(examined) == 1


@pytest.mark.parametrize(('kind', 'wrong', 'right'), [
    (DetectionParams, {'score_threshold': 2.0}, {'score_threshold': 0.4}),
    (DetectionParams, {'classes': 'person'}, {'classes': ['person']}),
    (MappingParams, {'surface': 'water'}, {'use_mask': True}),
])
def test_what_a_file_got_wrong_can_be_mended_while_the_node_runs(make_node, kind, wrong, right):
    """Another value is taken, too; one that is wrong in itself is refused as ever."""
    node, examined = make_node(kind, **wrong)
    with pytest.raises(ValueError, match='parameter'):
        parameters.read(node, kind)
    assert 'must be' in refusal(node, **dict.fromkeys(right, 7))
    assert refusal(node, **right) == ''
    assert not examined
    parameters.read(node, kind)


def test_a_name_that_only_begins_like_one_of_ros_is_unknown(graph):
    """What a launch file gives every node of a process is not, even where nobody declares it."""
    values = {'use_sim_time': False, 'nodes': ['detection'], 'nodes_': 1, 'autostarts': False,
              'qos_overrides./image.subscription.depth': 3}
    node = Node('named', context=graph.context, parameter_overrides=[
        Parameter(name, value=value) for name, value in values.items()])
    try:
        unknown = parameters.declare(node, (DetectionParams,))
    finally:
        node.destroy_node()
    assert [sentence.partition(';')[0] for sentence in unknown] == [
        "there is no parameter 'autostarts'", "there is no parameter 'nodes_'"]
