"""
The executables of the nodes, as ``setup.py`` names them: ``programs:detection_node``.

What a node needs takes a second or two to import. Until its ``main`` runs, nothing is open, and
Ctrl-C ends the process at once; an interrupt inside an import would be a traceback.
"""

from functools import partial
from importlib import import_module
from importlib.util import find_spec
import os
import signal
from types import FrameType
from typing import NoReturn

_OTHERS = {'perception_container': 'perception_nodes.ros.container'}
_ENDS = (signal.SIGINT, signal.SIGTERM)


def __getattr__(name: str) -> 'partial[None]':
    module = _OTHERS.get(name, f'perception_nodes.{name}')
    if name not in _OTHERS and not (name.endswith('_node') and find_spec(module)):
        raise AttributeError(f"there is no executable '{name}'")
    return partial(_run, module)


def _run(module: str) -> None:
    before = {number: signal.signal(number, _leave) for number in _ENDS}
    main = import_module(module).main
    for number, handler in before.items():
        signal.signal(number, handler)
    main()


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(0)  # an exception might be caught by what is being imported
