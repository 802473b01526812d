"""Verbs as a user runs them, beside a node that watches."""

from contextlib import suppress
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest


class Verb:
    """A running ``perception`` command."""

    def __init__(self, *words, **popen):
        self._process = subprocess.Popen(
            [sys.executable, '-m', 'perception_nodes.cli', *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)

    @property
    def running(self):
        return self._process.poll() is None

    def interrupt(self, number=signal.SIGINT):
        self._process.send_signal(number)

    def wait_for(self, words, timeout_s=90.0):
        """Read standard error until ``words`` appear."""
        said = []
        watchdog = threading.Timer(timeout_s, self._process.kill)
        watchdog.start()
        while words not in ''.join(said[-1:]):
            said.append(self._process.stderr.readline())
            assert said[-1], f'ended without "{words}": {"".join(said)}'
        watchdog.cancel()

    def finish(self, code=0, timeout_s=120.0):
        """Wait for the end and return what it wrote to standard output and error."""
        try:
            shown, said = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        assert self._process.returncode == code, said
        assert 'Traceback' not in said
        return shown, said

    def stop(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def run():
    """Return a function that starts a verb; none outlives the test."""
    verbs = []

    def start(*words, **popen):
        verbs.append(Verb(*words, **popen))
        return verbs[-1]

    yield start
    for verb in verbs:
        verb.stop()


@pytest.fixture
def session():
    """Return a node of the test's own on the graph."""
    from perception_nodes.ros.session import Session
    with Session('test') as open_session:
        yield open_session


class Listener:
    """Keeps what arrives on a topic, and when."""

    def __init__(self, session, message, topic, qos):
        self.messages = []
        self.times_s = []
        self._session = session
        self._subscription = session.node.create_subscription(message, topic, self._keep, qos)

    def wait_for(self, count, timeout_s=60.0):
        assert self._session.wait_for(lambda: len(self.messages) >= count, timeout_s), (
            f'{len(self.messages)} of {count} message(s) came')
        return self.messages

    def _keep(self, message):
        self.messages.append(message)
        self.times_s.append(time.monotonic())


@pytest.fixture
def listen(session):
    """Return a function that subscribes."""
    def subscribe(message, topic, qos=10):
        return Listener(session, message, topic, qos)

    return subscribe


class Camera(ThreadingHTTPServer):
    """A network camera with a green view that sends five pictures and hangs up."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), self.Handler)
        self.connections = 0
        self.url = f'http://127.0.0.1:{self.server_port}/stream'
        threading.Thread(target=self.serve_forever, daemon=True).start()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.connections += 1
            self.send_response(200)
            self.send_header('Content-Type', 'multipart/x-mixed-replace; boundary=frame')
            self.end_headers()
            green = np.full((48, 64, 3), (0, 255, 0), np.uint8)
            jpeg = cv2.imencode('.jpg', green)[1].tobytes()
            head = b'--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n'
            with suppress(ConnectionError):  # who only looked has gone
                for _ in range(5):
                    self.wfile.write(head % len(jpeg) + jpeg + b'\r\n')

        def log_message(self, *arguments):
            pass


@pytest.fixture
def camera():
    """Return a network camera; ``url`` is its address, ``connections`` how often it was asked."""
    with Camera() as server:
        yield server
        server.shutdown()


@pytest.fixture(scope='session')
def save_constant_network():
    """Return the function that writes one."""
    return _save_constant_network


def _save_constant_network(path, output, values, size):
    """Write a network that answers the same to every image; return the file's sha256."""
    onnx = pytest.importorskip('onnx')
    helper = onnx.helper
    graph = helper.make_graph(
        # the image takes part, as an input that nothing reads would be left out
        [helper.make_node('ReduceSum', ['image'], ['sum'], keepdims=0),
         helper.make_node('Mul', ['sum', 'zero'], ['nothing']),
         helper.make_node('Add', ['values', 'nothing'], [output])],
        'constant',
        [helper.make_tensor_value_info('image', 1, [1, 3, *size])],
        [helper.make_tensor_value_info(output, 1, list(values.shape))],
        [onnx.numpy_helper.from_array(values.astype(np.float32), 'values'),
         onnx.numpy_helper.from_array(np.zeros((), np.float32), 'zero')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return hashlib.sha256(path.read_bytes()).hexdigest()
