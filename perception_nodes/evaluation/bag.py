"""
Bags (rosbag2 folders, MCAP and sqlite3 files) without ROS.

    with Bag('recorded/') as bag:
        for message in bag.messages(['/camera/color/image_raw']):
            rgb = rgb_from_msg(message.content)

A damaged bag is read as far as it goes, and says so in :attr:`Bag.damage`.
"""

from collections.abc import Collection, Iterator
from contextlib import closing, ExitStack, suppress
from dataclasses import dataclass
import heapq
from operator import itemgetter
from pathlib import Path
import sqlite3
import struct
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from perception_nodes.evaluation.damaged_bag import CutMcap, CutSqlite
from perception_nodes.evaluation.message_types import MessageTypes
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import Reader, ReaderError

SUFFIXES = ('.mcap', '.db3')


class RawMessage(NamedTuple):
    """A message as it was recorded."""

    topic: str
    stamp_ns: int  # when the recorder got it, nanoseconds
    type_name: str  # package/msg/Name
    cdr: bytes


class Message(NamedTuple):
    """A message with its fields as attributes, named as in rclpy."""

    topic: str
    stamp_ns: int  # when the recorder got it, nanoseconds
    type_name: str  # package/msg/Name
    content: Any


@dataclass(frozen=True)
class Topic:
    """What a bag knows about a topic."""

    name: str
    type_name: str  # package/msg/Name
    count: int
    offered_qos: tuple[Qos, ...]  # of its publishers; empty where the recorder did not say


class _Part(Protocol):
    """One readable piece: a whole bag, or a single file of one."""

    @property
    def connections(self) -> list[Connection]: ...

    @property
    def start_time(self) -> int: ...

    @property
    def end_time(self) -> int: ...

    @property
    def message_count(self) -> int: ...

    def messages(
        self, connections: Collection[Connection], start: int | None
    ) -> Iterator[tuple[Connection, int, bytes]]: ...

    def close(self) -> None: ...


def header_stamp_ns(cdr: bytes) -> int:
    """Return the stamp of a serialised message that begins with a header, nanoseconds."""
    order = '<' if cdr[1] & 1 else '>'  # four bytes say the byte order, then comes the stamp
    sec, nanosec = struct.unpack_from(f'{order}iI', cdr, 4)
    return int(sec) * 1_000_000_000 + int(nanosec)


def is_bag(path: Path) -> bool:
    """Return whether ``path`` looks like a bag: by metadata.yaml or by a file's suffix."""
    if path.is_dir():
        return (path / 'metadata.yaml').exists() or bool(_files_in(path))
    return path.suffix in SUFFIXES


class Bag:
    """
    Reads a bag.

    :param path: A bag's folder, or one ``.mcap`` or ``.db3`` file.
    :raises FileNotFoundError: If there is nothing at ``path``.
    :raises ValueError: If it holds no bag, or one of which nothing can be read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.damage: list[str] = []  # sentences; empty for a whole bag
        self._types = MessageTypes()
        self._parts = self._open_parts()
        connections = [c for part in self._parts for c in part.connections]
        for connection in connections:
            self._types.learn(connection.msgtype, connection.msgdef)
        self.topics = {name: _topic(name, connections)
                       for name in sorted({c.topic for c in connections})}
        filled = [part for part in self._parts if part.message_count]
        self.count = sum(part.message_count for part in filled)
        # nanoseconds; both 0 without messages
        self.start_ns = min((part.start_time for part in filled), default=0)
        self.end_ns = max((part.end_time for part in filled), default=0)

    def __enter__(self) -> 'Bag':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        with ExitStack() as stack:
            for part in self._parts:
                stack.callback(part.close)

    def raw(
        self, topics: Collection[str] | None = None, start_ns: int | None = None
    ) -> Iterator[RawMessage]:
        """
        Yield messages in the order of their stamps.

        Damage that is met on the way ends the reading of that file and is added to
        :attr:`damage`.

        :param topics: Only these; None for all.
        :param start_ns: Only from this stamp on, nanoseconds.
        :raises ValueError: If the bag has no such topic.
        """
        for name in topics or ():
            if name not in self.topics:
                raise ValueError(
                    f'bag {self.path} has no topic {name}; it has {", ".join(self.topics)}')
        streams = [self._stream(part, topics, start_ns) for part in self._parts]
        yield from heapq.merge(*streams, key=itemgetter(1))

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None
    ) -> Iterator[Message]:
        """
        Yield messages as :meth:`raw` does, with their fields as attributes.

        :raises ValueError: If a type is not defined anywhere, or bytes do not fit their type.
        """
        for raw in self.raw(topics, start_ns):
            yield Message(raw.topic, raw.stamp_ns, raw.type_name, self.decoded(raw))

    def decoded(self, raw: RawMessage) -> Any:
        """
        Return the fields of a message as attributes.

        :raises ValueError: As :meth:`messages` does.
        """
        return self._types.deserialize(raw.cdr, raw.type_name)

    def _stream(
        self, part: _Part, topics: Collection[str] | None, start_ns: int | None
    ) -> Iterator[RawMessage]:
        wanted = [c for c in part.connections if topics is None or c.topic in topics]
        if not wanted:
            return
        count = 0
        messages = part.messages(wanted, start_ns)
        while True:
            try:
                connection, stamp_ns, cdr = next(messages)
            except StopIteration:
                return
            except Exception as error:  # whatever a decoder says to damaged bytes
                self.damage.append(
                    f'bag {self.path} is damaged: {count} message(s) could be read, then: {error}')
                return
            count += 1
            yield RawMessage(connection.topic, stamp_ns, connection.msgtype, bytes(cdr))

    def _open_parts(self) -> list[_Part]:
        if not self.path.exists():
            raise FileNotFoundError(f'bag {self.path} does not exist')
        if not self.path.is_dir():
            if self.path.suffix not in SUFFIXES:
                raise ValueError(
                    f'{self.path} is no bag; a bag is a folder with metadata.yaml, or a file '
                    f'that ends in {" or ".join(SUFFIXES)}')
            return [self._open_file(self.path)]
        if (self.path / 'metadata.yaml').exists():
            try:
                return [_whole(self.path)]
            except ReaderError as error:
                reason = str(error).rstrip('.')
        else:
            reason = 'metadata.yaml is missing'
        files = _files_in(self.path)
        if not files:
            raise ValueError(
                f'{self.path} holds no bag that can be read: {reason}, and there is no '
                f'{" or ".join(SUFFIXES)} file')
        self.damage.append(f'bag {self.path} is read from its files: {reason}')
        return [self._open_file(path) for path in files]

    def _open_file(self, path: Path) -> _Part:
        _finish_transaction(path)
        try:
            return _whole(path)
        except ReaderError as error:
            reason = str(error).rstrip('.')
        part = CutMcap(path) if path.suffix == '.mcap' else CutSqlite(path)
        if not part.message_count:
            part.close()
            raise ValueError(f'{path} is damaged ({reason}): not one whole message can be read')
        self.damage.append(
            f'{path} is damaged ({reason}): {part.message_count} whole message(s) can be read')
        return part


def _whole(path: Path) -> Reader:
    reader = Reader(path)
    reader.open()
    return reader


def _finish_transaction(path: Path) -> None:
    """Let sqlite roll back what a killed recorder left half written, as every opening would."""
    if any(Path(f'{path}{end}').exists() for end in ('-journal', '-wal')):
        with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as database:
            database.execute('SELECT count(*) FROM sqlite_master')


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)


def _topic(name: str, connections: list[Connection]) -> Topic:
    """Sum up a topic over the files and publishers that have it."""
    own = [c for c in connections if c.topic == name]
    qos = [q for c in own for q in getattr(c.ext, 'offered_qos_profiles', ())]
    return Topic(name, own[0].msgtype, sum(c.msgcount for c in own), tuple(dict.fromkeys(qos)))
