"""Which nodes a ROS parameter file starts, and with what: read without ROS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from perception_nodes.core.classification import ClassificationParams
from perception_nodes.core.mapping import MappingParams
from perception_nodes.core.node_params import (
    DetectionNodeParams,
    GraspNodeParams,
    is_of_the_process,
    NodeParams,
)
from perception_nodes.core.params import Params, unknown_name
from perception_nodes.core.segmentation import SegmentationParams
import yaml

# in the order in which results of one frame depend on each other
KINDS: Mapping[str, type[Params]] = {
    'detection': DetectionNodeParams, 'segmentation': SegmentationParams,
    'classification': ClassificationParams, 'obstacle_map': MappingParams,
    'grasp': GraspNodeParams}
_CONTAINER, _EVERYBODY, _BLOCK = 'perception_container', '/**', 'ros__parameters'


@dataclass(frozen=True)
class NodeSetup:
    """One node and its parameters."""

    name: str
    kind: str  # one of KINDS
    params: Params
    inputs: NodeParams


@dataclass(frozen=True)
class ParameterSet:
    """The nodes of one parameter file that can be evaluated over a bag."""

    name: str  # of the file, without folder and ending
    nodes: tuple[NodeSetup, ...]
    use_sim_time: bool = False
    left_out: tuple[str, ...] = ()  # kinds of nodes that are started, but not evaluated


def read_parameter_set(path: Path, only: tuple[str, ...] = ()) -> ParameterSet:
    """
    Read a parameter file as the container and its nodes would.

    Its nodes are those of ``perception_container``'s list ``nodes``; without one, every kind of
    node that has a block of its own.

    :param only: Names of the nodes wanted; empty for all that the file starts.
    :raises OSError: If the file cannot be read.
    :raises ValueError: If it is no parameter file, or a value is not allowed; with file and node.
    """
    blocks = _blocks(path)
    listed = blocks.get(_CONTAINER, {}).get('nodes')
    wanted = listed if listed is not None else [k for k in KINDS if k in blocks]
    nodes, left_out = [], []
    for text in map(str, wanted):
        name, _, kind = text.rpartition('=')
        if kind not in KINDS:
            left_out.append(kind)
        elif not only or (name or kind) in only:
            nodes.append(_setup(path, name or kind, kind, blocks))
    missing = [name for name in only if name not in {node.name for node in nodes}]
    for name in missing:
        if name not in KINDS:
            raise ValueError(f'{path}: {unknown_name(name, list(KINDS), "node")}')
        nodes.append(_setup(path, name, name, blocks))
    if not nodes:
        raise ValueError(
            f'{path} starts no node that works on a bag: it needs a block named '
            f'{", ".join(KINDS)}, or perception_container with a list of nodes')
    _check_kinds(path, nodes)
    order = list(KINDS)
    return ParameterSet(
        path.stem, tuple(sorted(nodes, key=lambda node: order.index(node.kind))),
        any(block.get('use_sim_time') is True for block in blocks.values()), tuple(left_out))


def default_parameter_set(names: tuple[str, ...]) -> ParameterSet:
    """
    Return nodes with the parameters that they have by themselves.

    :raises ValueError: If there is no such node.
    """
    for name in names:
        if name not in KINDS:
            raise ValueError(unknown_name(name, list(KINDS), 'node'))
    return ParameterSet('defaults', tuple(
        NodeSetup(kind, kind, KINDS[kind](), NodeParams()) for kind in KINDS if kind in names))


def _check_kinds(path: Path, nodes: Sequence[NodeSetup]) -> None:
    """Refuse what cannot be shown one camera's frames, one node of a kind after the other."""
    for kind in KINDS:
        names = [node.name for node in nodes if node.kind == kind]
        if len(names) > 1:
            raise ValueError(
                f'{path} starts {kind} twice, as {" and ".join(names)}; a bag is evaluated with '
                'one node of each kind: name those you want with --nodes')
    for node in nodes:
        if node.inputs.cameras:
            raise ValueError(
                f"{path}, node {node.name}: parameter 'cameras' names "
                f'{", ".join(node.inputs.cameras)}, and a bag is evaluated for one camera at a '
                'time: leave it out, and name the topics with --camera or --image')


def _blocks(path: Path) -> dict[str, dict[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} is no YAML: {" ".join(str(error).split())}') from error
    if not isinstance(content, dict) or not all(
            isinstance(block, dict) and isinstance(block.get(_BLOCK), dict)
            for block in content.values()):
        raise ValueError(
            f'{path} is no ROS parameter file: it must hold node names, and under each '
            f"'{_BLOCK}' with names and values")
    return {name if name == _EVERYBODY else str(name).rpartition('/')[2]: block[_BLOCK]
            for name, block in content.items()}


def _setup(path: Path, name: str, kind: str, blocks: Mapping[str, Mapping[str, Any]]) -> NodeSetup:
    own, inputs = ({f.name for f in fields(k)} for k in (KINDS[kind], NodeParams))
    # what is for everybody reaches those who know it
    values = {key: value for key, value in blocks.get(_EVERYBODY, {}).items()
              if key in own | inputs}
    values |= {key: value for key, value in blocks.get(name, {}).items()
               if key in own | inputs or not is_of_the_process(key)}
    try:
        return NodeSetup(
            name, kind,
            KINDS[kind].from_mapping({k: v for k, v in values.items() if k not in inputs}),
            NodeParams.from_mapping({k: v for k, v in values.items() if k in inputs}))
    except ValueError as error:
        raise ValueError(f'{path}, node {name}: {error}') from None
