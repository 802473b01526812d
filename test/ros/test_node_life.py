"""The life of a node that runs in this process, transition by transition."""

import gc
import weakref

import numpy as np
from perception_nodes.conversions.encode import header_to_msg, image_to_msg
from perception_nodes.core.health import Verdict
from perception_nodes.detection_node import DetectionNode
from perception_nodes.ros import lifecycle_node
import pytest
from rcl_interfaces.msg import Log
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

pytestmark = pytest.mark.graph

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
GREY = np.full((48, 64, 3), 127, np.uint8)


@pytest.fixture
def node(graph):
    """Make a node that nobody has configured."""
    node = DetectionNode(
        'inside', context=graph.context, parameter_overrides=[Parameter('autostart', value=False)])
    yield node
    node.halt()
    node.destroy_node()


def test_cleanup_frees_the_model(graph, node):
    """After work, nothing holds the model or the network: its memory is there for another."""
    found = graph.collect(Detection2DArray, '/inside/detections')
    for _ in range(2):
        assert node.trigger_configure() == SUCCESS
        detector, network = weakref.ref(node.core), weakref.ref(node.core.model)
        assert node.trigger_activate() == SUCCESS
        publisher = graph.publisher(Image, '/image')
        publisher.publish(image_to_msg(GREY, 'rgb8', header_to_msg(1, 'camera')))
        graph.wait_for(lambda: found, 'a result')
        assert node.trigger_deactivate() == SUCCESS
        assert detector() is not None
        assert node.trigger_cleanup() == SUCCESS
        gc.collect()
        assert detector() is None
        assert network() is None
        graph.node.destroy_publisher(publisher)
        found.clear()


def test_a_configure_that_takes_long_says_that_it_goes_on(graph, node, monkeypatch):
    monkeypatch.setattr(lifecycle_node, '_SAID_AFTER_S', 0.1)
    said = graph.collect(Log, '/rosout')
    load = node.load

    def take_long():
        graph.wait_for(lambda: [log for log in said if 'still configuring' in log.msg], 'a word')
        return load()

    monkeypatch.setattr(node, 'load', take_long)
    assert node.trigger_configure() == SUCCESS


def test_what_is_set_while_inactive_counts_or_is_refused(node):
    """A parameter never says what the node does not do."""
    assert node.trigger_configure() == SUCCESS
    threshold = Parameter('score_threshold', value=0.875)
    assert node.set_parameters([threshold])[0].successful
    refused = node.set_parameters([Parameter('model', value='another')])[0]
    assert not refused.successful
    assert 'clean up the node first' in refused.reason
    assert node.trigger_activate() == SUCCESS
    assert node.core.params.score_threshold == 0.875
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    assert node.set_parameters([Parameter('model', value='another')])[0].successful


def test_a_failed_configure_holds_nothing_and_can_be_repeated(node):
    """A model that is not there is said; with another name the same node works."""
    node.set_parameters([Parameter('model', value='no_such_model')])
    assert node.trigger_configure() == FAILURE
    assert not hasattr(node, 'core')
    node.set_parameters([Parameter('model', value='coco_ssdlite_mobilenet_v2')])
    assert node.trigger_configure() == SUCCESS


def test_shutdown_stops_a_node_at_work(graph, node):
    """It lets go of its topics, its worker and its model at once."""
    assert node.trigger_configure() == SUCCESS
    network = weakref.ref(node.core.model)
    assert node.trigger_activate() == SUCCESS
    publisher = graph.publisher(Image, '/image')
    assert node.trigger_shutdown() == SUCCESS
    graph.wait_for(lambda: not publisher.get_subscription_count(), 'the node to unsubscribe')
    gc.collect()
    assert network() is None


def test_what_fails_at_activation_is_said(node, monkeypatch):
    """The node stays inactive and works once the reason is gone."""
    assert node.trigger_configure() == SUCCESS

    def fail():
        raise RuntimeError('no words')

    monkeypatch.setattr(node, 'announce', fail)
    assert node.trigger_activate() == FAILURE
    assert node._judged(Verdict('ok', '')).message == 'cannot activate: no words'
    monkeypatch.undo()
    assert node.trigger_activate() == SUCCESS
    assert node._judged(Verdict('ok', '')).level == 'ok'


@pytest.mark.parametrize(('arguments', 'sentence'), [
    (['--params-file', '/nonexistent.yaml'], "params file: '--params-file /nonexistent.yaml'"),
    (['-r', 'image:=bad name'], 'cannot start'),
])
def test_ros_arguments_that_ros_refuses_are_one_sentence(start_node, arguments, sentence):
    """The command line is wrong before there is a node that could say so."""
    node = start_node('detection_node', *arguments)
    assert node.expect_exit(1)
    node.stop()
    assert sentence in node.output
    assert 'Traceback' not in node.output
