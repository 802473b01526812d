"""
Many nodes in one process: one subscription and one decoding per camera, one executor.

``perception_container`` has the parameter ``nodes``, a list of node types; ``NAME=TYPE`` starts
a type under another name. Each node reads its own block of the same parameter file::

    perception_container: {ros__parameters: {nodes: [detection, rear=detection]}}
    detection: {ros__parameters: {score_threshold: 0.4}}
    rear: {ros__parameters: {model: mine}}
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
import sys
from typing import Any

from perception_nodes.core.params import param, Params, unknown_name
from perception_nodes.ros import parameters
from perception_nodes.ros.process import run
from perception_nodes.ros.sources import CameraHub
from rclpy.node import Node

# imported when asked for: a robot without a GPU need not have every library of the suite
NODE_TYPES = {
    'anonymisation': 'perception_nodes.anonymisation_node:AnonymisationNode',
    'classification': 'perception_nodes.classification_node:ClassificationNode',
    'counting': 'perception_nodes.counting_node:CountingNode',
    'description': 'perception_nodes.description_node:DescriptionNode',
    'detection': 'perception_nodes.detection_node:DetectionNode',
    'grasp': 'perception_nodes.grasp_node:GraspNode',
    'navigation': 'perception_nodes.navigation_node:NavigationNode',
    'obstacle_map': 'perception_nodes.obstacle_map_node:ObstacleMapNode',
    'segmentation': 'perception_nodes.segmentation_node:SegmentationNode',
    'simulation': 'perception_nodes.simulation_node:SimulationNode',
    'track': 'perception_nodes.track_node:TrackNode',
}


@dataclass(frozen=True, kw_only=True)
class ContainerParams(Params):
    """Parameters of the container itself."""

    nodes: tuple[str, ...] = param(
        ('detection',), 'Node types to start in this process, or NAME=TYPE.')


def make_nodes(name: str) -> list[Node]:
    """
    Create the container's own node and every node it is told to hold.

    :param name: The container's name.
    :raises ValueError: If a type is unknown or a name is given twice.
    """
    container = Node(name)
    for sentence in parameters.declare(container, (ContainerParams,)):
        container.get_logger().warning(sentence)
    hub = CameraHub(container)
    nodes: dict[str, Node] = {}
    for wanted in parameters.read(container, ContainerParams).nodes:
        node_name, _, kind = wanted.rpartition('=')
        node_name = node_name or kind
        if node_name in nodes:
            raise ValueError(
                f"the container's parameter 'nodes' names '{node_name}' twice; "
                f'start the second as OTHER_NAME={kind}')
        nodes[node_name] = node_class(kind)(node_name, hub=hub)
    container.get_logger().info(f'holding {", ".join(nodes) or "no nodes"}')
    return [container, *nodes.values()]


def node_class(kind: str) -> Any:
    """
    Return the class of a node type.

    :raises ValueError: If there is no such type.
    """
    if kind not in NODE_TYPES:
        raise ValueError(unknown_name(kind, list(NODE_TYPES), 'node type'))
    module, name = NODE_TYPES[kind].split(':')
    return getattr(import_module(module), name)


def split_name(args: Sequence[str], default: str) -> tuple[list[str], str]:
    """
    Take the renaming of the process out of a command line.

    ROS would give the name that a launch file sets (``-r __node:=NAME``) to every node of the
    process; it is meant for the container.

    :return: The other arguments, and the container's name.
    """
    kept: list[str] = []
    name = default
    for arg in args:
        if arg.startswith(('__node:=', '__name:=')):
            name = arg.partition(':=')[2]
            kept.pop()  # the -r before it
        else:
            kept.append(arg)
    return kept, name


def main() -> None:
    """Run the container."""
    args, name = split_name(sys.argv, 'perception_container')
    run(lambda: make_nodes(name), args)


if __name__ == '__main__':
    main()
