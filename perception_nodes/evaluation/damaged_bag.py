"""Reads what is left of bag files that were cut off or damaged. :mod:`bag` chooses them."""

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from io import BytesIO
from operator import attrgetter
from pathlib import Path
import sqlite3
import struct
from typing import Any

import lz4.frame
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import breakup_chunk, StreamReader
from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag2.metadata import parse_qos
import zstandard

_FORMATS = {'ros2msg': MessageDefinitionFormat.MSG, 'ros2idl': MessageDefinitionFormat.IDL}
# what the MCAP reader and its decompressors raise at bytes that make no sense
_DAMAGE = (McapError, ValueError, RuntimeError, EOFError, struct.error, zstandard.ZstdError)
_NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, '')


class CutMcap:
    """
    An MCAP file without its end, read to the last whole message.

    Stamps are in order within a chunk, as recorders write them; across chunks they may overlap
    by what the recorder delivered late.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._definitions: dict[int, tuple[str, MessageDefinition]] = {}
        self._channels: dict[int, Channel] = {}
        counts: Counter[int] = Counter()
        self.start_time, self.end_time = 2**63 - 1, 0
        for message in self._read():
            counts[message.channel_id] += 1
            self.start_time = min(self.start_time, message.log_time)
            self.end_time = max(self.end_time, message.log_time + 1)
        self.message_count = counts.total()
        self.connections = [
            self._connection(channel, counts[key]) for key, channel in self._channels.items()]

    def messages(
        self, connections: Collection[Connection], start: int | None = None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield (connection, nanoseconds, CDR)."""
        wanted = {connection.id: connection for connection in connections}
        for message in self._read():
            if message.channel_id in wanted and message.log_time >= (start or 0):
                yield wanted[message.channel_id], message.log_time, message.data

    def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    def _read(self) -> Iterator[Message]:
        for batch in self._batches():
            for record in batch:
                if isinstance(record, Schema):
                    form = _FORMATS.get(record.encoding, MessageDefinitionFormat.NONE)
                    self._definitions[record.id] = (
                        record.name, MessageDefinition(form, record.data.decode()))
                elif isinstance(record, Channel):
                    self._channels[record.id] = record
            messages = [record for record in batch if isinstance(record, Message)]
            yield from sorted(messages, key=attrgetter('log_time'))

    def _batches(self) -> Iterator[list[McapRecord]]:
        """Yield the records of each chunk, at last those of a chunk that was cut."""
        with self._path.open('rb') as file:
            whole_end = 0
            limit = self._path.stat().st_size
            try:
                for record in StreamReader(
                        file, emit_chunks=True, record_size_limit=limit).records:
                    yield breakup_chunk(record) if isinstance(record, Chunk) else [record]
                    whole_end = file.tell()
            except _DAMAGE:
                pass
            file.seek(whole_end)
            yield _whole_records(_beginning_of_chunk(file.read()))

    def _connection(self, channel: Channel, count: int) -> Connection:
        type_name, definition = self._definitions.get(channel.schema_id, ('', _NO_DEFINITION))
        qos = parse_qos(channel.metadata.get('offered_qos_profiles', ''))
        return Connection(
            channel.id, channel.topic, type_name, definition, '', count,
            ConnectionExtRosbag2(channel.message_encoding, qos), self)


class CutSqlite:
    """
    A damaged sqlite3 file, read in the order of writing until the damage.

    :raises ValueError: If not even its list of topics can be read.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(f'{path.absolute().as_uri()}?mode=ro', uri=True)
        self._database.row_factory = sqlite3.Row
        counts: Counter[int] = Counter()
        self.start_time, self.end_time = 2**63 - 1, 0
        try:
            # otherwise sqlite refuses a file that is shorter than it says
            self._database.execute('PRAGMA writable_schema=ON')
            topics = self._database.execute('SELECT * FROM topics').fetchall()
        except sqlite3.Error as error:
            self._database.close()
            raise ValueError(f'{path} is damaged: its list of topics is lost ({error})') from error
        for topic_id, stamp_ns, _ in self._read():
            counts[topic_id] += 1
            self.start_time = min(self.start_time, stamp_ns)
            self.end_time = max(self.end_time, stamp_ns + 1)
        self.message_count = counts.total()
        definitions = self._definitions()
        self.connections = [
            self._connection(dict(row), definitions, counts[row['id']]) for row in topics]

    def messages(
        self, connections: Collection[Connection], start: int | None = None
    ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield (connection, nanoseconds, CDR)."""
        wanted = {connection.id: connection for connection in connections}
        for topic_id, stamp_ns, data in self._read():
            if topic_id in wanted and stamp_ns >= (start or 0):
                yield wanted[topic_id], stamp_ns, data

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _read(self) -> Iterator[tuple[int, int, bytes]]:
        with suppress(sqlite3.DatabaseError):  # the damage
            for row in self._database.execute(
                    'SELECT topic_id, timestamp, data FROM messages NOT INDEXED ORDER BY id'):
                yield row['topic_id'], row['timestamp'], row['data']

    def _connection(
        self, topic: dict[str, Any], definitions: dict[str, MessageDefinition], count: int
    ) -> Connection:
        qos = parse_qos(topic.get('offered_qos_profiles', ''))  # the oldest bags have none
        return Connection(
            topic['id'], topic['name'], topic['type'],
            definitions.get(topic['type'], _NO_DEFINITION), '', count,
            ConnectionExtRosbag2(topic['serialization_format'], qos), self)

    def _definitions(self) -> dict[str, MessageDefinition]:
        try:
            rows = self._database.execute('SELECT * FROM message_definitions').fetchall()
        except sqlite3.DatabaseError:  # older bags have none
            return {}
        return {row['topic_type']: MessageDefinition(
            _FORMATS.get(row['encoding'], MessageDefinitionFormat.NONE),
            row['encoded_message_definition']) for row in rows}


def _beginning_of_chunk(rest: bytes) -> bytes:
    """
    Return what can be unpacked of a chunk record that was cut off; nothing of another record.

    The record's layout (https://mcap.dev/spec): opcode, its length, two times, unpacked size,
    checksum, compression, length of the packed records, packed records.
    """
    name_at = struct.calcsize('<BQQQQII')
    if len(rest) < name_at or rest[0] != Opcode.CHUNK:
        return b''
    (name_length,) = struct.unpack_from('<I', rest, name_at - 4)
    name = rest[name_at:name_at + name_length]
    packed = rest[name_at + name_length + 8:]
    try:
        if name == b'lz4':
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(packed))
        if name == b'zstd':
            return zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    except (RuntimeError, EOFError, zstandard.ZstdError):
        return b''
    return packed if name == b'' else b''


def _whole_records(data: bytes) -> list[McapRecord]:
    records = []
    with suppress(*_DAMAGE):
        for record in StreamReader(
                BytesIO(data), skip_magic=True, record_size_limit=len(data)).records:
            records.append(record)
    return records
