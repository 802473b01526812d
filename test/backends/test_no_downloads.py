"""Loading a model opens no connection and starts no program, whatever the backend."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# an audit hook sees what every library does, also on import and in C code called from Python
GUARD = """
import re
import sys
FORBIDDEN = ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto',
             'subprocess.Popen', 'os.system', 'os.posix_spawn', 'urllib.Request')
PIP = r"(^|[/' ])pip[0-9.]*($|[' ])"  # the program or the module, no folder that is named so

def guard(event, arguments):
    # ultralytics asks for the processor's name, numba and torch for a compiler
    harmless = event == 'subprocess.Popen' and not re.search(PIP, str(arguments[1]))
    if event in FORBIDDEN and not harmless:
        print('FORBIDDEN', event, arguments)

sys.addaudithook(guard)
"""

LOAD = """
import numpy as np, pathlib, runpy, sys
folder = pathlib.Path(sys.argv[1])
helper = runpy.run_path(sys.argv[2])['_entry']
from perception_nodes.backends.registry import load_model
from perception_nodes.core.manifest import find_model
frame = [np.zeros((64, 64, 3), np.uint8)]
load_model(find_model('coco_ssdlite_mobilenet_v2'), 'cpu').predict(frame)
import torch, torchvision
name = 'ssdlite320_mobilenet_v3_large'
network = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=4)
torch.save(network.state_dict(), folder / 'weights.pth')
entry = helper(folder / 'weights.pth', 'torchvision', name, width=320, height=320)
load_model(entry, 'cpu').predict(frame)
name = 'lraspp_mobilenet_v3_large'
network = torchvision.models.get_model(name, weights=None, weights_backbone=None, num_classes=3)
torch.save(network.state_dict(), folder / 'segmenter.pth')
entry = helper(folder / 'segmenter.pth', 'torchvision', name, task='segmentation')
load_model(entry, 'cpu').predict(frame)
from perception_nodes.backends import ultralytics_backend
tasks = ultralytics_backend.import_tasks()
torch.save({'model': tasks.DetectionModel('yolov8n.yaml', nc=3, verbose=False)},
           folder / 'yolov5n.pt')
entry = helper(folder / 'yolov5n.pt', 'ultralytics', resize='letterbox', std=(255, 255, 255))
load_model(entry, 'cpu').predict(frame)
print('loaded all')
"""


def test_no_backend_connects_anywhere(tmp_path, request):
    """All three, in a process of their own, from the first import on."""
    for package in ('onnxruntime', 'torchvision', 'ultralytics'):
        pytest.importorskip(package)
    helper = request.path.parent / 'conftest.py'
    done = subprocess.run(
        [sys.executable, '-c', GUARD + LOAD, str(tmp_path), str(helper)],
        capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['loaded all'], done.stdout


@pytest.mark.parametrize('attempt', [
    "import socket; socket.getaddrinfo('localhost', 80)",
    "import subprocess, sys; subprocess.run([sys.executable, '-m', 'pip', '--version'])",
])
def test_the_guard_sees_it(attempt):
    """The test above could fail."""
    done = subprocess.run([sys.executable, '-c', GUARD + attempt], capture_output=True, text=True)
    assert 'FORBIDDEN' in done.stdout
