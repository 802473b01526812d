"""Writes bags that stay readable whatever happens to the disk or the process. No ROS."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
import errno
from io import BytesIO, FileIO
import os
from pathlib import Path
import shutil
import sqlite3
import tempfile
from typing import Any, cast, Literal

from perception_nodes.evaluation.message_types import MessageTypes
from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter, PendingChunk
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer

Storage = Literal['mcap', 'sqlite3']

_PLUGINS = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}
_RESERVE_BYTES = 8 << 20
_UNSAVED_BYTES = 4 << 20
_NEVER = 2**63 - 1  # start time of a bag without messages


class BagWriter:
    """
    Writes one rosbag2 folder.

    ``rosbags`` alone keeps a chunk of an MCAP file, and the whole of a sqlite3 file, back until
    :meth:`close`; :meth:`checkpoint` saves what there is, so that little is lost when the
    process dies. Some space on the disk is held back, and given up to close the bag when the
    disk refuses a write.

    Only one thread may use a writer: sqlite3 asks for it.

    :param path: Folder to make; it must not exist.
    :raises FileExistsError: If it exists.
    :raises OSError: If the disk refuses it.
    """

    def __init__(self, path: Path, storage: Storage = 'mcap') -> None:
        if path.exists():
            raise FileExistsError(f'{path} exists already; choose another name for the bag')
        self.path = path
        self._types = MessageTypes()
        self._connections: dict[str, Connection] = {}
        self._writer = Writer(path, version=9, storage_plugin=_PLUGINS[storage])
        try:
            self._writer.open()
            self._file = _Mcap(self._writer) if storage == 'mcap' else _Sqlite(self._writer)
            self._reserve = tempfile.TemporaryFile(dir=path)  # noqa: SIM115 - closed when needed
            os.posix_fallocate(self._reserve.fileno(), 0, _RESERVE_BYTES)
        except (OSError, sqlite3.Error) as error:
            shutil.rmtree(path, ignore_errors=True)
            raise OSError(f'bag {path} cannot be begun: {_reason(error)}') from error

    @property
    def counts(self) -> dict[str, int]:
        """Return how many messages of each topic are in the bag."""
        return {name: self._writer.counts[c.id] for name, c in self._connections.items()}

    def add_topic(self, name: str, type_name: str, offered_qos: Sequence[Qos] = ()) -> None:
        """
        Announce a topic.

        :param type_name: ``package/msg/Name``.
        :param offered_qos: What its publishers offer.
        :raises ValueError: If the type is defined nowhere on this machine.
        :raises OSError: As :meth:`write` does.
        """
        definition, digest = self._types.definition(type_name)

        def add() -> None:
            self._connections[name] = self._writer.add_connection(
                name, type_name, msgdef=definition, rihs01=digest,
                offered_qos_profiles=list(offered_qos))

        self._or_rescue(add)

    def write(self, topic: str, stamp_ns: int, cdr: bytes) -> None:
        """
        Write one message.

        :param topic: A topic that was added.
        :param stamp_ns: When it was received, nanoseconds.
        :raises OSError: If the disk refuses it. The bag is closed then, with everything that
            came before the refusal, and takes nothing more.
        """
        self._or_rescue(lambda: self._writer.write(self._connections[topic], stamp_ns, cdr))
        self._or_rescue(lambda: self._file.written(len(cdr)))

    def checkpoint(self) -> None:
        """
        Hand everything to the operating system; it then outlives this process.

        :raises OSError: As :meth:`write` does.
        """
        self._or_rescue(self._file.save)

    def close(self) -> None:
        """
        Finish the bag.

        :raises OSError: As :meth:`write` does.
        """
        self.checkpoint()
        self._reserve.close()
        self._or_rescue(self._writer.close)

    def _or_rescue(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except (OSError, sqlite3.Error) as error:
            self._reserve.close()
            state = 'closed and readable' if self._rescue() else (
                'not closed, but `perception play` reads it to its last whole message')
            raise OSError(
                f'bag {self.path} is {state}, with {sum(self.counts.values())} message(s); '
                f'it ends here because {_reason(error)}') from error

    def _rescue(self) -> bool:
        """Close the bag with what fits; return whether its file could be closed."""
        for step_back in (self._file.step_back, self._file.drop_unsaved):
            if self._writer.storage is None:  # closed, but for metadata.yaml
                return True
            with suppress(OSError, sqlite3.Error):
                step_back()
                self._file.save()
                self._writer.close()
        closed = self._writer.storage is None
        with suppress(OSError, sqlite3.Error):
            self._writer.abort()
        return closed


class _Mcap:
    """
    Keeps the end of the whole chunks of an MCAP file in mind.

    ``rosbags`` builds a chunk in memory and forgets it once it is written, so a write that
    failed can be undone and tried again.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._storage = cast(McapWriter, writer.storage)
        self._storage.bio.close()
        self._storage.bio = cast(Any, _UnbufferedFile(self._storage.path, 'r+b'))
        self._storage.bio.seek(0, os.SEEK_END)
        self._remember()

    def save(self) -> None:
        """Write the chunk that is being built."""
        if self._storage.chunk.msgs:
            self._storage.close_chunk()
        self._remember()

    def written(self, size: int) -> None:
        """Take note of a message of ``size`` bytes, and of the chunk that it may have filled."""
        if not self._storage.chunk.msgs:
            self._remember()

    def step_back(self) -> None:
        """Cut off what was written in part."""
        self._storage.bio.seek(self._end)
        self._storage.bio.truncate()
        # the message that filled the chunk is in it, but the writer did not come to count it
        self._writer.counts.update(self._storage.channel_stats)
        self._writer.min_timestamp = self._storage.message_start_time
        self._writer.max_timestamp = self._storage.message_end_time

    def drop_unsaved(self) -> None:
        """Forget the chunk that is being built."""
        for channel, messages in self._storage.chunk.msgs.items():
            self._storage.channel_stats[channel] -= len(messages)
        self._storage.chunk = PendingChunk(_NEVER, 0, BytesIO(), defaultdict(list))
        self._storage.message_end_time = self._last_ns
        if not self._last_ns:
            self._storage.message_start_time = _NEVER
        self.step_back()

    def _remember(self) -> None:
        self._end = self._storage.bio.tell()
        self._last_ns = self._storage.message_end_time


class _Sqlite:
    """Commits now and then; ``rosbags`` would do so once, at the end."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._connection = cast(Sqlite3Writer, writer.storage).conn
        self.save()
        # as with MCAP, when the disk gets it is left to the operating system
        self._connection.execute('PRAGMA synchronous=OFF')

    def save(self) -> None:
        """Commit."""
        self._connection.commit()
        writer = self._writer
        self._saved = (dict(writer.counts), writer.min_timestamp, writer.max_timestamp)
        self._unsaved_bytes = 0

    def written(self, size: int) -> None:
        """Commit every few megabytes: a full disk may take back what is not committed."""
        self._unsaved_bytes += size
        if self._unsaved_bytes > _UNSAVED_BYTES:
            self.save()

    def step_back(self) -> None:
        """Find out what is left: a full disk may have undone the whole transaction."""
        if not self._connection.in_transaction:
            self.drop_unsaved()

    def drop_unsaved(self) -> None:
        """Go back to the last commit."""
        self._connection.rollback()
        counts, self._writer.min_timestamp, self._writer.max_timestamp = self._saved
        self._writer.counts.update(dict.fromkeys(self._writer.counts, 0) | counts)


class _UnbufferedFile(FileIO):
    """A file whose ``write`` writes all, at once, or raises."""

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast('B')
        size = len(rest)
        while rest:
            rest = rest[super().write(rest):]
        return size


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC or 'is full' in str(error):
        return 'the disk is full'
    return f'the disk refuses it ({getattr(error, "strerror", None) or error})'
