"""What the tests of the backends share: entries for weights that were made a moment ago."""

import gc
import hashlib
from pathlib import Path
import weakref

import numpy as np
from perception_nodes.backends.runtime_choice import cuda_device_count
from perception_nodes.core.manifest import ModelEntry, ModelInput
import pytest


@pytest.fixture(scope='session')
def make_entry():
    """Return the function that makes a manifest entry."""
    return _entry


@pytest.fixture(scope='session')
def poison():
    """Return the class of objects that do harm when they are unpickled."""
    return _Poison


def _entry(path, backend, architecture='', class_count=3, head=None, *, task='detection',
           **image):
    """Return the manifest entry of a file, with classes counted from 0 or, torchvision, 1."""
    first = 1 if (backend, task) == ('torchvision', 'detection') else 0
    return ModelEntry(
        name='mine', task=task, backend=backend, architecture=architecture, head=head,
        domain='real', path=path, url='', licence='MIT', source='', size_bytes=None,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else '0' * 64,
        class_names={first + i: f'class {i}' for i in range(class_count)},
        input=ModelInput(**{'width': 64, 'height': 64} | image), quality=(), training={},
        converted_by='', manifest=Path('manifest.yaml'))


@pytest.fixture(scope='session')
def photo():
    """Return a (96, 128, 3) image with structure at several scales."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    photo = (coarse * 0.8 + rng.integers(0, 51, (96, 128, 3))).astype(np.uint8)
    photo.flags.writeable = False  # as every node gets its frames
    return photo


@pytest.fixture(params=['cpu', pytest.param('cuda:0', marks=pytest.mark.skipif(
    not cuda_device_count(), reason='no CUDA device'))])
def place(request):
    """
    Return each device of this machine, for tests that know the answer.

    On a GPU without TF32, whose 10 bits would blur what is compared.
    """
    if request.param == 'cpu':
        yield request.param
        return
    from torch.backends import cudnn
    with cudnn.flags(enabled=True, allow_tf32=False):
        yield request.param


@pytest.fixture
def gives_memory_back(monkeypatch):
    """
    Return a function that loads a model, drops it, and says whether its network goes at once.

    A GPU's memory goes back when a network dies: who holds a part of it longer, or in a circle
    that waits for the garbage collector, keeps that memory from others.
    """
    from perception_nodes.backends.device_network import DeviceNetwork
    gone = []

    def give_back(device_network):
        network = weakref.ref(device_network.network)
        device_network.__dict__.clear()
        gone.append(network() is None)

    def check(load):
        model = load()
        gc.collect()
        gone.clear()
        gc.disable()
        try:
            del model
        finally:
            gc.enable()
        return gone == [True]

    monkeypatch.setattr(DeviceNetwork, '__del__', give_back)
    return check


class _Poison:
    """Unpickling it creates a file."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        """Say what unpickling does."""
        import os
        return os.system, (f'touch {self.victim}',)
