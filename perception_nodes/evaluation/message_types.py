"""Message definitions without ROS: from a bag, from installed packages, or from ``rosbags``."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
import os
from pathlib import Path
import sys
from typing import Any

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.interfaces.typing import Typesdict
from rosbags.typesys import (
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
    Stores,
    TypesysError,
)
from rosbags.typesys.store import Typestore

_PARSERS = {
    MessageDefinitionFormat.MSG: get_types_from_msg,
    MessageDefinitionFormat.IDL: lambda text, name: get_types_from_idl(text),
}


class MessageTypes:
    """
    Knows how messages are built.

    A definition that a bag brings along describes its messages best; then come the installed
    packages (``share/<package>/msg``), then those of ROS 2 Jazzy that ``rosbags`` ships.
    """

    def __init__(self) -> None:
        self._stores: dict[str, Typestore] = {}

    def learn(self, name: str, definition: MessageDefinition) -> None:
        """Take the definition of ``package/msg/Name`` that a bag brings; a broken one is left."""
        if name not in self._stores and definition.format in _PARSERS:
            try:
                types = _PARSERS[definition.format](definition.data, name)
                self._stores[name] = _complete_store(name, types)
            except TypesysError:
                return

    def definition(self, name: str) -> tuple[str, str]:
        """
        Return the full text of a definition and its RIHS01 hash.

        :param name: ``package/msg/Name``.
        :raises ValueError: If no definition can be found.
        """
        store = self._store(name)
        return store.generate_msgdef(name, ros_version=2)[0], store.hash_rihs01(name)

    def deserialize(self, cdr: bytes, name: str) -> Any:
        """
        Return the message that ``cdr`` holds; its attributes are named as in rclpy.

        :raises ValueError: If no definition can be found or the bytes do not fit it.
        """
        store = self._store(name)
        try:
            return store.deserialize_cdr(cdr, name)
        except Exception as error:  # generated code meets arbitrary bytes
            raise ValueError(f'{len(cdr)} bytes are no {name}: {error}') from error

    def _store(self, name: str) -> Typestore:
        if name not in self._stores:
            self._stores[name] = _installed_store(name) or _shipped_store(name)
        return self._stores[name]


def _installed_store(name: str) -> Typestore | None:
    """Return a store with the type as the installed packages define it, or None."""
    types: Typesdict = {}
    wanted = [name]
    try:
        while wanted:
            current = wanted.pop()
            path = _installed_file(current)
            if current in types or path is None:
                continue
            found = get_types_from_msg(path.read_text(encoding='utf-8'), current)
            types.update(found)
            wanted += _referred(found[current][1])
        return _complete_store(name, types)
    except TypesysError:
        return None


def _shipped_store(name: str) -> Typestore:
    store = _jazzy()
    if name not in store.fielddefs:
        raise ValueError(
            f'no definition of message type {name} can be found: install the package that '
            'defines it, or source the workspace that has it')
    return store


@lru_cache
def _jazzy() -> Typestore:
    return get_typestore(Stores.ROS2_JAZZY)


def _complete_store(name: str, types: Typesdict) -> Typestore:
    """
    Return a store that can build ``name``.

    :raises TypesysError: If it, or a type that it is made of, is not among ``types``.
    """
    store = get_typestore(Stores.EMPTY)
    store.register(types)
    store.generate_msgdef(name, ros_version=2)
    return store


def _installed_file(name: str) -> Path | None:
    package, _, rest = name.partition('/')
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) + [sys.prefix]
    for prefix in filter(None, prefixes):
        path = Path(prefix, 'share', package, f'{rest}.msg')
        if path.is_file():
            return path
    return None


def _referred(fields: Iterable[Any]) -> Iterator[str]:
    """Yield the names of the message types that fields are made of."""
    for _, (_, detail) in fields:
        # a name, or (base type, limit), or (the type of the items, how many)
        while isinstance(detail, tuple) and isinstance(detail[0], tuple):
            detail = detail[0][1]
        if isinstance(detail, str):
            yield detail
