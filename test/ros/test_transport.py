"""Shared memory for images is asked for where there is room for it."""

import os
from types import SimpleNamespace

from perception_nodes.ros import transport
import pytest


@pytest.fixture
def left(monkeypatch):
    """Return a function that sets how many bytes /dev/shm has left."""
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
    assert '/dev/shm has 3 MB left, images need 17 MB' in caplog.text


def test_a_profile_of_the_user_is_kept(left, monkeypatch, caplog):
    left(0)
    monkeypatch.setenv(transport.PROFILE, '/mine.xml')
    transport.tune()
    assert os.environ[transport.PROFILE] == '/mine.xml'
    assert not caplog.records
