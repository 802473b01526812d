"""Every test process gets a ROS graph of its own; nothing here needs ROS."""

import atexit
import fcntl
import os
from pathlib import Path
import shutil
import socket
import tempfile

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
DATA_VARIABLE = 'PERCEPTION_NODES_DATA'


def claim_domain_id():
    """
    Return a ROS domain id that nobody on this machine uses, and keep it until the process ends.

    The lock file keeps other test processes away, the port other ROS programs. Ids above 101
    would share their ports with outgoing connections.
    """
    for domain_id in range(1, 102):
        lock = lock_file(Path(tempfile.gettempdir()) / f'ros_test_domain_{domain_id}.lock')
        if lock and discovery_port_is_free(domain_id):
            atexit.register(lock.close)  # the reference keeps the lock
            return domain_id
    raise RuntimeError('all ROS domain ids from 1 to 101 are in use on this machine')


def lock_file(path):
    """Return the locked file, or None where another process (or user) has it."""
    try:
        lock = path.open('a')
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None
    return lock


def discovery_port_is_free(domain_id):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(('', 7400 + 250 * domain_id))  # where DDS participants listen
        except OSError:
            return False
    return True


def isolate_this_process():
    """Set what rclpy and ultralytics read when they are imported; child processes inherit it."""
    scratch = tempfile.mkdtemp(prefix='perception_nodes_test_')
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    os.environ['ROS_DOMAIN_ID'] = str(claim_domain_id())
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ['ROS_LOG_DIR'] = scratch
    os.environ['YOLO_CONFIG_DIR'] = scratch


isolate_this_process()


@pytest.fixture(scope='session')
def data_dir():
    """Return the folder of the test data, or skip."""
    folder = Path(os.environ.get(DATA_VARIABLE, REPOSITORY.parent / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip(f'no test data in {folder}: set {DATA_VARIABLE} to its folder')
    return folder


def pytest_collection_modifyitems(items):
    for item in items:
        if 'data_dir' in getattr(item, 'fixturenames', ()):
            item.add_marker('data')
