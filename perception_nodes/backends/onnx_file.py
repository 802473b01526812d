"""
ONNX files as plain graphs, read without the ``onnx`` package.

A file is a Protocol Buffers message: fields of a number, a kind and a value. The numbers are those
of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). Nothing in a file is run.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_DTYPES: dict[int, Any] = {
    1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64, 9: np.bool_,
    10: np.float16, 11: np.float64}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_STANDARD_DOMAINS = ('', 'ai.onnx')

Field = int | memoryview


@dataclass(frozen=True)
class Node:
    """One operation. A name that is empty stands for an input that is left out."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]  # int, float, str, lists of the first two, or an array


class Input(NamedTuple):
    """What a network asks for."""

    name: str
    shape: tuple[int, ...]  # -1 where a side is free
    dtype: Any


@dataclass(frozen=True)
class Graph:
    """A network: its operations in the order they are done."""

    nodes: tuple[Node, ...]
    constants: dict[str, npt.NDArray[Any]]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]


def read_graph(path: Path) -> Graph:
    """
    Read a network.

    :raises ValueError: If the file is no ONNX network, or holds what this reader does not know.
    """
    try:
        model = _grouped(memoryview(path.read_bytes()))
        graph = _grouped(_only(model, 7))
        constants = dict(_tensor(raw) for raw in graph.get(5, ()))
        nodes = [_node(raw) for raw in graph.get(1, ())]
        inputs = [_input(raw) for raw in graph.get(11, ())]
        outputs = [_text(_only(_grouped(raw), 1)) for raw in graph.get(12, ())]
    except (IndexError, KeyError, TypeError, UnicodeDecodeError, struct.error) as error:
        raise ValueError(f'{path} is no ONNX network, or damaged ({error!r})') from error
    except ValueError as error:
        raise ValueError(f'{path} is no ONNX network that can be read: {error}') from error
    # old files name constants among the inputs
    return Graph(tuple(nodes), constants,
                 tuple(i for i in inputs if i.name not in constants), tuple(outputs))


def constant_value(node: Node) -> npt.NDArray[Any] | None:
    """Return what a node of kind Constant holds; None for other nodes and other constants."""
    value = node.attributes.get('value')
    return value if node.kind == 'Constant' and isinstance(value, np.ndarray) else None


def _node(raw: Field) -> Node:
    fields = _grouped(raw)
    domain = _text(fields[7][0]) if 7 in fields else ''
    kind = _text(_only(fields, 4))
    return Node(
        kind if domain in _STANDARD_DOMAINS else f'{domain}.{kind}',
        tuple(_text(name) for name in fields.get(1, ())),
        tuple(_text(name) for name in fields.get(2, ())),
        dict(_attribute(one) for one in fields.get(5, ())))


def _attribute(raw: Field) -> tuple[str, Any]:
    fields = _grouped(raw)
    name = _text(_only(fields, 1))
    if 7 in fields:
        return name, list(_numbers(fields[7], '<f4'))
    if 8 in fields:
        return name, _integers(fields[8])
    if 5 in fields:
        return name, _tensor(fields[5][0])[1]
    if 4 in fields:
        return name, _text(fields[4][0])
    if 2 in fields:
        return name, float(_numbers(fields[2], '<f4')[0])
    return name, _integers(fields.get(3, [0]))[0]


def _tensor(raw: Field) -> tuple[str, npt.NDArray[Any]]:
    fields = _grouped(raw)
    name = _text(fields[8][0]) if 8 in fields else ''
    if 13 in fields:
        raise ValueError(f"tensor '{name}' is kept in another file; save the network as one file")
    number = int(_whole(_only(fields, 2)))
    if number not in _DTYPES:
        raise ValueError(f"tensor '{name}' has numbers of type {number}, which is not supported")
    dtype = np.dtype(_DTYPES[number]).newbyteorder('<')
    shape = _integers(fields.get(1, []))
    if 9 in fields:
        values = np.frombuffer(_bytes(fields[9][0]), dtype)
    elif 4 in fields:
        values = _numbers(fields[4], '<f4')
    elif 10 in fields:
        values = _numbers(fields[10], '<f8')
    elif number == 10:  # as bit patterns
        values = np.array(_integers(fields.get(5, [])), np.uint16).view(np.float16)
    else:
        values = np.array(_integers(fields.get(7, fields.get(5, []))), dtype)
    return name, values.astype(_DTYPES[number], copy=False).reshape(shape)


def _input(raw: Field) -> Input:
    fields = _grouped(raw)
    tensor_type = _grouped(_only(_grouped(_only(fields, 2)), 1))
    dims = _grouped(_only(tensor_type, 2)).get(1, []) if 2 in tensor_type else []
    return Input(
        _text(_only(fields, 1)),
        tuple(_integers(_grouped(dim).get(1, [-1]))[0] for dim in dims),
        _DTYPES[_whole(_only(tensor_type, 1))])


def _grouped(raw: Field) -> dict[int, list[Field]]:
    """Return the values of a message by the number of their field."""
    found: dict[int, list[Field]] = {}
    for number, value in _fields(_bytes(raw)):
        found.setdefault(number, []).append(value)
    return found


def _fields(data: memoryview) -> Iterator[tuple[int, Field]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            raise ValueError(f'there is a field of kind {kind}')
        if at + size > len(data):
            raise ValueError('it ends in the middle of a field')
        yield key >> 3, data[at:at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError('there is a number of more than 64 bits')


def _integers(values: list[Field]) -> list[int]:
    """Return signed numbers that stand one by one, or packed together."""
    found = []
    for value in values:
        if isinstance(value, int):
            found.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            found.append(number)
    return [n - (1 << 64) if n >> 63 else n for n in found]


def _numbers(values: list[Field], dtype: str) -> npt.NDArray[Any]:
    return np.concatenate([np.frombuffer(_bytes(value), dtype) for value in values])


def _only(fields: dict[int, list[Field]], number: int) -> Field:
    return fields[number][-1]


def _whole(value: Field) -> int:
    if not isinstance(value, int):
        raise ValueError('a number was expected')
    return value


def _bytes(value: Field) -> memoryview:
    if isinstance(value, int):
        raise ValueError('a message was expected')
    return value


def _text(value: Field) -> str:
    return str(_bytes(value), 'utf-8')
