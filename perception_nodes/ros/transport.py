"""
Settings that let camera images cross processes quickly; applied before ``rclpy.init``.

Fast DDS' own shared-memory segment is smaller than one VGA image, and glibc returns each
image's pages to the kernel only to ask for them again. Both cost most of an image's latency.
``PERCEPTION_NODES_TRANSPORT=default`` leaves everything as it is.
"""

import ctypes
import logging
import os
from pathlib import Path
import sys
import time

from perception_nodes.core.share import share_file

SWITCH = 'PERCEPTION_NODES_TRANSPORT'
PROFILE = 'FASTRTPS_DEFAULT_PROFILES_FILE'
_SHARED_MEMORY = '/dev/shm'
_PORTS = 'fastrtps_port*[0-9]'  # locks beside them, _el and _sl, are always empty
_MADE_WITHIN_S = 2.0  # a port's file is empty for microseconds
_SEGMENT_BYTES = 17 << 20  # what config/fastdds.xml asks for, and what Fast DDS adds

# mallopt(3): serve images from a heap that keeps its pages
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MALLOC_OPTIONS = (
    (_M_MMAP_THRESHOLD, 1 << 25), (_M_TRIM_THRESHOLD, 1 << 29), (_M_TOP_PAD, 1 << 25))


def tune() -> None:
    """
    Prepare this process for large messages.

    A profile the user named in ``FASTRTPS_DEFAULT_PROFILES_FILE`` is kept. Where shared memory has
    no room for a segment, Fast DDS keeps its own small one, which is said: a process that gets
    none is not found by those that have one, and hears nothing. What a full /dev/shm has left
    behind half made is removed, as nobody could start.

    :raises ValueError: If the switch has another value than ``tuned`` or ``default``.
    """
    choice = os.environ.get(SWITCH, 'tuned')
    if choice not in ('tuned', 'default'):
        raise ValueError(f"{SWITCH} is '{choice}'; it must be 'tuned' or 'default'")
    if choice == 'default':
        return
    _remove_half_made_ports()
    if PROFILE not in os.environ and _segment_fits():
        os.environ[PROFILE] = str(share_file('config/fastdds.xml'))
    # a worker inside a network holds the GIL for whole intervals while callbacks wait
    sys.setswitchinterval(0.0005)
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'mallopt'):  # musl has none
        for option, value in _MALLOC_OPTIONS:
            libc.mallopt(option, value)


def _remove_half_made_ports() -> None:
    """
    Remove the empty files of ports that somebody could not finish.

    Fast DDS waits without end for such a file to be filled, in whoever wants that port next: a
    node that starts, or one that has something to send there.
    """
    log = logging.getLogger(__name__)
    for path in sorted(Path(_SHARED_MEMORY).glob(_PORTS)):
        try:
            found = path.stat()
            if found.st_size or time.time() - found.st_mtime < _MADE_WITHIN_S:
                continue
            path.unlink()
        except FileNotFoundError:  # another process was as quick
            continue
        except OSError as error:
            log.warning('%s is half made, and whoever needs it waits for ever; delete it (%s)',
                        path, error.strerror)
        else:
            log.warning('removed %s, which was left half made when %s was full: nodes waited for '
                        'it for ever; restart those that still do', path, _SHARED_MEMORY)


def _segment_fits() -> bool:
    try:
        room = os.statvfs(_SHARED_MEMORY)
    except OSError:  # another system; Fast DDS knows what it has
        return True
    free_bytes = room.f_bavail * room.f_frsize
    if free_bytes >= _SEGMENT_BYTES:
        return True
    logging.getLogger(__name__).warning(
        '%s has %d MB left, images need %d MB of it in every process: they come late or not at '
        'all; start a container with --shm-size=1g, and see perception doctor',
        _SHARED_MEMORY, free_bytes >> 20, _SEGMENT_BYTES >> 20)
    return False
