"""A real graph for tests: node processes on one side, a node of the test's own on the other."""

from collections.abc import Callable
import contextlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: E402
from rclpy.impl.implementation_singleton import rclpy_implementation  # noqa: E402

WAIT_S = 60.0


class Graph:
    """The test's own node, spinning in the background."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('test_driver', context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self):
        with contextlib.suppress(ExternalShutdownException):
            while self.context.ok():
                try:
                    self._executor.spin_once()
                except rclpy_implementation.InvalidHandle:
                    pass  # a test may destroy what the executor was about to wait for
                except rclpy_implementation.RCLError:
                    if self.context.ok():  # else it was shut down in between
                        raise

    def collect(self, msg_type, topic, qos=10):
        """Subscribe, and return the list that messages are appended to."""
        messages = []
        self.node.create_subscription(msg_type, topic, messages.append, qos)
        return messages

    def publisher(self, msg_type, topic, qos=10, *, matched=True):
        """Create a publisher, and wait until somebody listens unless ``matched`` is false."""
        publisher = self.node.create_publisher(msg_type, topic, qos)
        if matched:
            self.wait_for(publisher.get_subscription_count, f'a subscriber of {topic}')
        return publisher

    def call(self, srv_type, name, request):
        """Call a service and return its response."""
        client = self.node.create_client(srv_type, name)
        assert client.wait_for_service(WAIT_S), f'{name} does not exist'
        future = client.call_async(request)
        self.wait_for(future.done, f'an answer of {name}')
        self.node.destroy_client(client)
        return future.result()

    @staticmethod
    def wait_for(condition: Callable, what: str, timeout_s: float = WAIT_S):
        """Return the condition's value as soon as it is true; fail after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f'waited {timeout_s} s for {what}'
            time.sleep(0.01)
        return value

    def close(self):
        """Stop spinning and leave the graph."""
        self.context.try_shutdown()  # first: an executor that is shut down while it spins can hang
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()


class NodeProcess:
    """A node of the suite in a process of its own."""

    def __init__(self, module, *ros_args):
        command = [sys.executable, '-m', f'perception_nodes.{module}']
        if ros_args:
            command += ['--ros-args', *ros_args]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.output = ''
        self.expected_exit = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._process.stdout:
            self.output += line

    @property
    def running(self):
        """Return whether the process lives."""
        return self._process.poll() is None

    def expect_exit(self, code):
        """Say that this process ends with ``code`` by itself; return whether it has."""
        self.expected_exit = code
        return self._process.wait(timeout=WAIT_S) == code

    def stop(self, how=signal.SIGINT):
        """Send a signal and return the exit code."""
        if self.running:
            self._process.send_signal(how)
        try:
            self._process.wait(timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._reader.join()
        return self._process.returncode


@pytest.fixture
def graph():
    """Join the graph for one test."""
    graph = Graph()
    yield graph
    graph.close()


@pytest.fixture
def start_node():
    """Return a function that starts a node; each must end with code 0 when told to."""
    started = []

    def start(module, *ros_args):
        started.append(NodeProcess(module, *ros_args))
        return started[-1]

    yield start
    codes = [node.stop() for node in started]
    assert codes == [node.expected_exit for node in started], ''.join(n.output for n in started)


@pytest.fixture
def touchy(tmp_path, write_manifest):
    """Return the arguments for a detector with one fixed box that throws at bright images."""
    onnx = pytest.importorskip('onnx', reason='onnx is not installed: it builds the network')
    from onnx import helper, numpy_helper, TensorProto
    index = [
        helper.make_node('ReduceMax', ['image'], ['peak'], keepdims=0),
        helper.make_node('Cast', ['peak'], ['index'], to=TensorProto.INT64),
        # reading past the end of 200 zeros is an error of the runtime
        helper.make_node('Gather', ['zeros', 'index'], ['zero']),
        helper.make_node('Add', ['score', 'zero'], ['scores']),
        helper.make_node('Add', ['box', 'zero'], ['boxes'])]
    constants = {
        'zeros': np.zeros(200, np.float32), 'score': np.full((1, 1, 1), 0.9, np.float32),
        'box': np.array([[[0.25, 0.25, 0.75, 0.5]]], np.float32)}
    graph = helper.make_graph(
        index, 'touchy',
        [helper.make_tensor_value_info('image', TensorProto.FLOAT, [1, 8, 8, 3])],
        [helper.make_tensor_value_info('scores', TensorProto.FLOAT, [1, 1, 1]),
         helper.make_tensor_value_info('boxes', TensorProto.FLOAT, [1, 1, 4])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(model, tmp_path / 'touchy.onnx')
    manifest = write_manifest('touchy', 'detection', head='ssd', classes={1: 'thing'},
                              input={'width': 8, 'height': 8, 'layout': 'NHWC'})
    return '-p', f'manifest:={manifest}', '-p', 'model:=touchy'
