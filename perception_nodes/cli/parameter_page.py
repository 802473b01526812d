"""perception parameters: print what every node can be told, as a page or as a YAML file."""

import argparse
from collections.abc import Iterator
from dataclasses import Field, fields
from typing import Any, get_type_hints

from perception_nodes.core.params import Params

_HEAD = """\
# Parameters

Written by `perception parameters`; do not edit. Every value is checked when the node is
configured, and a wrong one is refused with a sentence that says what is allowed. *Live* ones
may change while the node is active; the others take effect at the next configure.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this verb."""
    parser.add_argument('node', nargs='?', help='only this node, such as detection')
    parser.add_argument(
        '--yaml', action='store_true', help='print a parameter file with the defaults')


def run(args: argparse.Namespace) -> int:
    """Print the parameters that were asked for."""
    sets = dict(parameter_sets())
    if args.node is not None and args.node not in sets:
        raise ValueError(f"there is no node '{args.node}'; choose one of {', '.join(sets)}")
    wanted = {n: kinds for n, kinds in sets.items() if args.node in (None, n)}
    print((yaml_file if args.yaml else page)(wanted), end='')
    return 0


def parameter_sets() -> Iterator[tuple[str, tuple[type[Params], ...]]]:
    """Yield each node's name and the parameter sets it declares."""
    from perception_nodes.ros.container import ContainerParams, node_class, NODE_TYPES
    yield 'perception_container', (ContainerParams,)
    for name in NODE_TYPES:
        yield name, node_class(name).parameter_kinds()


def page(sets: dict[str, tuple[type[Params], ...]]) -> str:
    """Return the Markdown page about parameter sets by node."""
    lines = [_HEAD]
    for node, kinds in sets.items():
        lines += [f'\n## {node}\n', '| parameter | type | default | allowed | live | meaning |',
                  '|---|---|---|---|---|---|']
        lines += [_row(f, hint) for f, hint in _declared(kinds)]
    return '\n'.join(lines) + '\n'


def yaml_file(sets: dict[str, tuple[type[Params], ...]]) -> str:
    """Return a ROS parameter file that sets everything to its default."""
    lines = []
    for node, kinds in sets.items():
        lines += [f'{node}:', '  ros__parameters:']
        # ROS refuses an empty list without a type, so those stay unset
        lines += [f'    {f.name}: {_yaml_value(f.default)}  # {f.metadata["doc"]}'
                  for f, _ in _declared(kinds) if f.default != ()]
    return '\n'.join(lines) + '\n'


def _declared(kinds: tuple[type[Params], ...]) -> list[tuple[Field[Any], Any]]:
    return [(f, get_type_hints(kind)[f.name]) for kind in kinds for f in fields(kind)]


def _row(f: Field[Any], hint: Any) -> str:
    m = f.metadata
    kind = f'list of {hint.__args__[0].__name__}' if hasattr(hint, '__args__') else hint.__name__
    limits = [f'≥ {m["ge"]}'] * (m['ge'] is not None) + [f'≤ {m["le"]}'] * (m['le'] is not None)
    allowed = ', '.join(m['choices'] or limits) + (f' {m["unit"]}' if m['unit'] else '')
    default = _yaml_value(f.default)
    live = 'yes' if m['dynamic'] else ''
    return f'| `{f.name}` | {kind} | `{default}` | {allowed} | {live} | {m["doc"]} |'


def _yaml_value(value: Any) -> str:
    if isinstance(value, tuple):
        return f'[{", ".join(map(str, value))}]'
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}'" if value == '' else str(value)
