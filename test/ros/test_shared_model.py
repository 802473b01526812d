"""Nodes of one process on one copy of a model: each answers as alone, by its own parameters."""

import gc
import threading
import time
from weakref import ref, WeakValueDictionary

from perception_nodes.backends import sharing
from perception_nodes.backends.registry import load_model
from perception_nodes.conversions.encode import detections_to_msg, header_to_msg, image_to_msg
from perception_nodes.core.detection import DetectionParams, ObjectDetector
from perception_nodes.core.manifest import find_model
from perception_nodes.detection_node import DetectionNode
from perception_nodes.evaluation.gpu_frames import read_frames
from perception_nodes.ros.sources import CameraHub
import pytest
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

pytestmark = pytest.mark.graph

MODEL = 'sim_scene_detector'
THRESHOLDS = {'front': 0.3, 'left': 0.6, 'right': 0.1}
WAIT_S = 60.0


class Gate:
    """A model around a real one that runs when the gate is open, and counts its frames."""

    def __init__(self, model):
        self._model = model
        self.class_names, self.needs_suppression = model.class_names, model.needs_suppression
        self.batches = []
        self.entered, self.open = threading.Event(), threading.Event()
        self.open.set()

    def predict(self, frames):
        self.batches.append(len(frames))
        self.entered.set()
        assert self.open.wait(WAIT_S)
        return self._model.predict(frames)


@pytest.fixture
def process(graph, monkeypatch):
    """Return a function that starts detection nodes as a container does, each with a camera."""
    monkeypatch.setattr(sharing, '_loaded', WeakValueDictionary())  # nothing of other tests
    host = rclpy.create_node('host', context=graph.context)
    hub = CameraHub(host)
    nodes = {}

    class Process:
        def start(self, **thresholds):
            self.found, self.cameras = {}, {}
            for name, threshold in thresholds.items():
                values = {'model': MODEL, 'camera_domain': 'simulation', 'cameras': [name],
                          'score_threshold': threshold, 'input_reliability': 'reliable'}
                nodes[name] = DetectionNode(
                    name, hub=hub, context=graph.context, parameter_overrides=[
                        Parameter(key, value=value) for key, value in values.items()])
                nodes[name].start()
                self.found[name] = graph.collect(
                    Detection2DArray, f'/{name}/{name}/detections')
                self.cameras[name] = graph.publisher(Image, f'/{name}/image')
                graph.wait_for(
                    nodes[name].detections[name].get_subscription_count, 'the subscriber')
            return nodes

        def show(self, name, rgb):
            self.found[name].clear()
            self.cameras[name].publish(image_to_msg(rgb, 'rgb8', header_to_msg(1, name)))

        def result(self, name):
            return graph.wait_for(lambda: self.found[name], f'what {name} saw')[0]

    graph._executor.add_node(host)
    yield Process()
    for node in nodes.values():
        node.halt()
        node.destroy_node()
    graph._executor.remove_node(host)
    host.destroy_node()


@pytest.fixture(scope='module')
def pictures():
    """Return a picture for each camera, in each of which something is found."""
    frames = [frame.rgb for frame in read_frames(24)]
    return dict(zip(THRESHOLDS, frames[::8], strict=True))


def boxes(msg):
    """Return what a message says, in numbers."""
    return [(d.results[0].hypothesis.class_id, d.results[0].hypothesis.score,
             d.bbox.center.position.x, d.bbox.center.position.y, d.bbox.size_x, d.bbox.size_y)
            for d in msg.detections]


def alone(name, rgb):
    """Return what a model of one's own finds with the parameters of a node."""
    detector = ObjectDetector(
        load_model(find_model(MODEL), 'cpu'),
        DetectionParams(model=MODEL, score_threshold=THRESHOLDS[name]))
    expected = detections_to_msg(detector.detect([rgb])[0], header_to_msg(1, name))
    assert expected.detections
    return expected


def check_same(msg, expected):
    assert msg.header == expected.header
    assert len(msg.detections) == len(expected.detections)
    for mine, other in zip(boxes(msg), boxes(expected), strict=True):
        assert mine[0] == other[0]
        assert mine[1:] == pytest.approx(other[1:], abs=1e-3)


def test_cameras_that_come_together_are_one_batch(graph, monkeypatch, process, pictures):
    """
    Two that wait for the run of the first; each gets its own boxes by its own threshold.

    Their waiting makes results older, but is no time that they compute.
    """
    waits = threading.Semaphore(0)
    gates = []

    class Watched(threading.Condition):
        def wait(self, timeout=None):
            waits.release()
            return super().wait(timeout)

    def load(*arguments, **settings):
        gates.append(Gate(load_model(*arguments, **settings)))
        return gates[-1]

    monkeypatch.setattr(sharing, 'Condition', Watched)
    monkeypatch.setattr(sharing, 'load_model', load)
    monkeypatch.setattr(sharing, 'is_torch_on_gpu', lambda backend, device: True)
    nodes = process.start(**THRESHOLDS)
    gate, = gates
    gate.entered.clear()
    gate.open.clear()
    process.show('front', pictures['front'])
    assert gate.entered.wait(WAIT_S)
    for name in ('left', 'right'):
        process.show(name, pictures[name])
        assert waits.acquire(timeout=WAIT_S)
    began_s = time.monotonic()
    expected = {name: alone(name, rgb) for name, rgb in pictures.items()}
    waited_ms = (time.monotonic() - began_s) * 1e3
    gate.open.set()
    for name in pictures:
        check_same(process.result(name), expected[name])
    assert gate.batches == [1, 1, 1, 1, 2]  # the first three when the nodes were configured
    for name in ('left', 'right'):
        health = nodes[name]._inputs[name].health
        values = graph.wait_for(
            lambda health=health: (v := health.values())['processed'] == '1' and v, 'the count')
        assert float(values['age_p50_ms']) - float(values['compute_p50_ms']) > waited_ms - 0.1


def test_a_copy_is_freed_with_the_last_node_that_uses_it(process, pictures):
    nodes = process.start(front=THRESHOLDS['front'], left=THRESHOLDS['left'])
    front, left = nodes.values()
    assert front.core.model is left.core.model
    model = ref(front.core.model)
    for name in nodes:
        process.show(name, pictures[name])
        check_same(process.result(name), alone(name, pictures[name]))
    clean_up(front)
    process.show('left', pictures['left'])
    check_same(process.result('left'), alone('left', pictures['left']))
    assert model() is not None
    clean_up(left)
    gc.collect()
    assert model() is None


def clean_up(node):
    """Bring a node back to where it began."""
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
