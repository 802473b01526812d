"""The executables: an interrupt while a node is still being imported ends it without a word."""

from importlib.metadata import entry_points
from importlib.util import find_spec
import os
import signal
import subprocess
import sys

from perception_nodes import programs
import pytest

SLOW_MODULE = """
import time
try:
    print('importing', flush=True)
    time.sleep(120)
except BaseException:  # as numpy and compiled modules have it
    pass
"""
QUICK_MODULE = """
import signal

def main():
    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
SCRIPT = """
from perception_nodes import programs
programs._run('fake_module')
"""


def start(folder, module):
    (folder / 'fake_module.py').write_text(module)
    return subprocess.Popen(
        [sys.executable, '-c', SCRIPT], env={**os.environ, 'PYTHONPATH': str(folder)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupt_inside_an_import(tmp_path, number):
    process = start(tmp_path, SLOW_MODULE)
    assert process.stdout.readline() == 'importing\n'
    process.send_signal(number)
    assert process.communicate(timeout=60) == ('', '')
    assert process.returncode == 0


def test_main_finds_the_handlers_as_python_has_them(tmp_path):
    shown, said = start(tmp_path, QUICK_MODULE).communicate(timeout=60)
    assert (shown, said) == ('True\n', '')


def test_every_executable_is_a_module_with_a_main():
    names = entry_points(group='console_scripts', module='perception_nodes.programs').names
    assert 'detection_node' in names and 'perception_container' in names
    for name in names:
        module, = getattr(programs, name).args
        assert find_spec(module) is not None
        assert module.endswith(name) or module == 'perception_nodes.ros.container'
