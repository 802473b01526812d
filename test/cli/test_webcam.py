"""``perception webcam``: three processes that start, work and end as one."""

import asyncio
import json
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
aiohttp = pytest.importorskip('aiohttp')

pytestmark = pytest.mark.graph
WAIT_S = 120.0
TOPIC = '/webcam/color/image_raw'


class Webcam:
    """The command, its page and its children."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'perception_nodes.cli', 'webcam', '--port', '0', *arguments],
            stderr=subprocess.PIPE, text=True)
        self.said = ''
        while 'ssh -L' not in self.said:
            line = self.process.stderr.readline()
            assert line, self.said
            self.said += line
        self.url = re.search(r'http://localhost:\d+', self.said)[0]

    def children(self):
        pid = self.process.pid
        return {int(child): Path(f'/proc/{child}/cmdline').read_text().replace('\0', ' ')
                for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()}

    def wait(self):
        """Return the exit code and what was said last."""
        _, rest = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, rest

    async def caption_with(self, text):
        """Look as a browser does until a picture's legend has ``text``, and return the legend."""
        async with (aiohttp.ClientSession() as client,
                    client.ws_connect(f'{self.url}/live') as stream):
            await stream.send_json({'want': [TOPIC]})
            await stream.send_json({'next': TOPIC})
            while True:
                message = await stream.receive(timeout=WAIT_S)
                if message.type != aiohttp.WSMsgType.BINARY:
                    continue
                about = json.loads(message.data.partition(b'\n')[0])
                legend = [entry for _, entry in about['legend']]
                if text in legend:
                    return legend
                await stream.send_json({'next': TOPIC})


@pytest.fixture
def photos(data_dir, tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    shutil.copy(data_dir / 'images' / 'bus.jpg', folder)
    return folder


@pytest.fixture
def start():
    started = []

    def start_webcam(*arguments):
        started.append(Webcam(*map(str, arguments)))
        return started[-1]

    yield start_webcam
    for webcam in started:
        if webcam.process.poll() is None:
            webcam.process.terminate()
            webcam.process.communicate(timeout=WAIT_S)


def are_gone(pids, within_s=60.0):
    deadline = time.monotonic() + within_s
    while any(os.path.exists(f'/proc/{pid}') for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_photos_are_detected_and_seen_and_everything_ends(start, photos):
    webcam = start(photos)
    legend = asyncio.run(asyncio.wait_for(webcam.caption_with('1 × bus'), WAIT_S))
    assert any(entry.endswith('× person') for entry in legend)
    children = webcam.children()
    assert len(children) == 2
    webcam.process.send_signal(signal.SIGTERM)
    code, rest = webcam.wait()
    assert (code, rest) == (0, '')
    assert are_gone(children)


def test_dead_child_is_named_and_the_others_end(start, photos):
    webcam = start(photos)
    children = webcam.children()
    [detection] = [pid for pid, command in children.items() if 'detection_node' in command]
    os.kill(detection, signal.SIGKILL)
    code, rest = webcam.wait()
    assert code == 1
    assert rest.startswith('perception webcam: the detection node ended with signal SIGKILL')
    assert are_gone(children)


def test_it_stops_after_its_duration(start, photos):
    webcam = start(photos, '--duration', '1')
    assert webcam.wait() == (0, '')


@pytest.mark.parametrize(('arguments', 'sentence'), [
    (['/no/such/folder'], '/no/such/folder does not exist'),
    (['--model', 'coco_ssdlite'], "did you mean 'coco_ssdlite_mobilenet_v2'?")])
def test_what_cannot_start_is_explained(arguments, sentence):
    done = subprocess.run(
        [sys.executable, '-m', 'perception_nodes.cli', 'webcam', '--port', '0', *arguments],
        capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 1
    assert sentence in done.stderr and 'Traceback' not in done.stderr
