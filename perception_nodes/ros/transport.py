"""
Settings that let camera images cross processes quickly; applied before ``rclpy.init``.

Fast DDS' own shared-memory segment is smaller than one VGA image, and glibc returns each
image's pages to the kernel only to ask for them again. Both cost most of an image's latency.
``PERCEPTION_NODES_TRANSPORT=default`` leaves everything as it is.
"""

import ctypes
import os
import sys

from perception_nodes.core.share import share_file

SWITCH = 'PERCEPTION_NODES_TRANSPORT'
PROFILE = 'FASTRTPS_DEFAULT_PROFILES_FILE'

# mallopt(3): serve images from a heap that keeps its pages
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MALLOC_OPTIONS = (
    (_M_MMAP_THRESHOLD, 1 << 25), (_M_TRIM_THRESHOLD, 1 << 29), (_M_TOP_PAD, 1 << 25))


def tune() -> None:
    """
    Prepare this process for large messages.

    A profile the user named in ``FASTRTPS_DEFAULT_PROFILES_FILE`` is kept.

    :raises ValueError: If the switch has another value than ``tuned`` or ``default``.
    """
    choice = os.environ.get(SWITCH, 'tuned')
    if choice not in ('tuned', 'default'):
        raise ValueError(f"{SWITCH} is '{choice}'; it must be 'tuned' or 'default'")
    if choice == 'default':
        return
    os.environ.setdefault(PROFILE, str(share_file('config/fastdds.xml')))
    # a worker inside a network holds the GIL for whole intervals while callbacks wait
    sys.setswitchinterval(0.0005)
    libc = ctypes.CDLL(None)
    if hasattr(libc, 'mallopt'):  # musl has none
        for option, value in _MALLOC_OPTIONS:
            libc.mallopt(option, value)
