"""Shared memory for images is asked for where there is room for it, and what hangs is removed."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

from perception_nodes.ros import transport
import pytest


@pytest.fixture
def left(monkeypatch, tmp_path):
    """Return a function that sets how many bytes a /dev/shm of the test's own has left."""
    monkeypatch.setattr(transport, '_SHARED_MEMORY', str(tmp_path))
    monkeypatch.delenv(transport.PROFILE, raising=False)
    monkeypatch.delenv(transport.SWITCH, raising=False)

    def set_room(free_bytes):
        monkeypatch.setattr(
            os, 'statvfs', lambda path: SimpleNamespace(f_bavail=free_bytes >> 12, f_frsize=4096))

    yield set_room
    os.environ.pop(transport.PROFILE, None)  # before monkeypatch brings the old one back


def test_the_shipped_profile_is_used(left, caplog):
    left(64 << 20)
    transport.tune()
    assert os.environ[transport.PROFILE].endswith('config/fastdds.xml')
    assert not caplog.records


def test_no_segment_is_asked_for_where_none_fits(left, caplog):
    left(3 << 20)
    transport.tune()
    assert transport.PROFILE not in os.environ
    assert 'has 3 MB left, images need 17 MB' in caplog.text


def test_a_profile_of_the_user_is_kept(left, monkeypatch, caplog):
    left(0)
    monkeypatch.setenv(transport.PROFILE, '/mine.xml')
    transport.tune()
    assert os.environ[transport.PROFILE] == '/mine.xml'
    assert not caplog.records


def test_ports_left_half_made_are_removed(left, tmp_path, caplog):
    """Only the empty file of a port goes; one that is being made, a whole one and locks stay."""
    left(64 << 20)
    for name, content, age_s in (
            ('fastrtps_port7411', '', 60), ('fastrtps_port7413', 'whole', 60),
            ('fastrtps_port7413_el', '', 60), ('fastrtps_port7415', '', -3600),
            ('fastrtps_0123456789abcdef_el', '', 60)):
        (tmp_path / name).write_text(content)
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    transport.tune()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'fastrtps_0123456789abcdef_el', 'fastrtps_port7413', 'fastrtps_port7413_el',
        'fastrtps_port7415']
    assert 'fastrtps_port7411, which was left half made' in caplog.text
    assert len(caplog.records) == 1


# the port of a graph's first participant: RTPS 2.2, 9.6.1.1
HALF_MADE = """
import os
from pathlib import Path
from perception_nodes.cli.processes import use_private_graph
from perception_nodes.ros.session import Session

port = Path(f'/dev/shm/fastrtps_port{7411 + 250 * use_private_graph()}')
port.unlink(missing_ok=True)
port.touch()
os.utime(port, (0, 0))
with Session('starts'):
    print('started')
"""


@pytest.mark.graph
@pytest.mark.skipif(not os.access('/dev/shm', os.W_OK), reason='/dev/shm cannot be written to')
def test_a_port_left_half_made_keeps_nobody_from_starting():
    """Without the removal Fast DDS waits for it for ever."""
    done = subprocess.run(
        [sys.executable, '-c', HALF_MADE], capture_output=True, text=True, timeout=120,
        env={**os.environ, transport.SWITCH: 'tuned'})
    assert (done.returncode, done.stdout) == (0, 'started\n'), done.stderr
    assert 'which was left half made' in done.stderr
