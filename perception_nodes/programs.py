"""
The executables of the nodes, as ``setup.py`` names them: ``programs:detection_node``.

What a node needs takes a second or two to import. Until its ``main`` runs, nothing is open, and
Ctrl-C ends the process at once; an interrupt inside an import would be a traceback.
"""

from functools import partial
from importlib import import_module
import os
import signal
from types import FrameType
from typing import NoReturn

_ENDS = (signal.SIGINT, signal.SIGTERM)


def _run(module: str) -> None:
    before = {number: signal.signal(number, _leave) for number in _ENDS}
    main = import_module(module).main
    for number, handler in before.items():
        signal.signal(number, handler)
    main()


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(0)  # an exception might be caught by what is being imported


anonymisation_node = partial(_run, 'perception_nodes.anonymisation_node')
classification_node = partial(_run, 'perception_nodes.classification_node')
counting_node = partial(_run, 'perception_nodes.counting_node')
description_node = partial(_run, 'perception_nodes.description_node')
detection_node = partial(_run, 'perception_nodes.detection_node')
grasp_node = partial(_run, 'perception_nodes.grasp_node')
navigation_node = partial(_run, 'perception_nodes.navigation_node')
obstacle_map_node = partial(_run, 'perception_nodes.obstacle_map_node')
segmentation_node = partial(_run, 'perception_nodes.segmentation_node')
simulation_node = partial(_run, 'perception_nodes.simulation_node')
track_node = partial(_run, 'perception_nodes.track_node')
perception_container = partial(_run, 'perception_nodes.ros.container')
