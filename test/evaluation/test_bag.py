"""Bags: what was written is read, and what is left of a damaged one."""

from contextlib import closing
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys

import numpy as np
from perception_nodes.conversions.decode import (
    depth_m_from_msg,
    intrinsics_from_msg,
    rgb_from_msg,
    stamp_ns_from_msg,
)
from perception_nodes.evaluation.bag import Bag, is_bag
from perception_nodes.evaluation.bag_writer import BagWriter
import pytest
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Reader
import yaml

STORAGES = ('mcap', 'sqlite3')
SUFFIX = {'mcap': 'mcap', 'sqlite3': 'db3'}
FOREVER = QosTime(9223372036, 854775807)
LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, FOREVER,
    FOREVER, QosLiveliness.AUTOMATIC, FOREVER, False)

storages = pytest.mark.parametrize('storage', STORAGES)


def text(words, size=0):
    """Return a std_msgs/String as CDR, filled up to ``size`` bytes."""
    content = words.encode().ljust(size, b' ') + b'\0'
    return b'\0\1\0\0' + struct.pack('<I', len(content)) + content


def write_bag(path, storage='mcap', count=10, size=300_000):
    """Write ``count`` messages of about ``size`` bytes, one per millisecond from 1 s on."""
    writer = BagWriter(path, storage)
    writer.add_topic('/words', 'std_msgs/msg/String', [LATCHED])
    for n in range(count):
        writer.write('/words', 1_000_000_000 + n * 1_000_000, text(f'message {n}', size))
    writer.close()
    return path


def numbers(bag):
    return [int(message.content.data.split()[1]) for message in bag.messages()]


class TestWhole:
    @storages
    def test_what_was_written_is_read(self, tmp_path, storage):
        with Bag(write_bag(tmp_path / 'bag', storage)) as bag:
            assert bag.damage == []
            assert (bag.count, bag.start_ns, bag.end_ns) == (10, 1_000_000_000, 1_009_000_001)
            assert numbers(bag) == list(range(10))
            raw = next(bag.raw())
        topic = bag.topics['/words']
        assert (topic.type_name, topic.count, topic.offered_qos) == (
            'std_msgs/msg/String', 10, (LATCHED,))
        assert raw == (
            '/words', 1_000_000_000, 'std_msgs/msg/String', text('message 0', 300_000))

    @storages
    def test_a_single_file_is_a_bag(self, tmp_path, storage):
        path = write_bag(tmp_path / 'bag', storage) / f'bag.{SUFFIX[storage]}'
        with Bag(path) as bag:
            assert bag.damage == []
            assert numbers(bag) == list(range(10))
            assert bag.topics['/words'].offered_qos == (LATCHED,)

    @storages
    def test_reading_starts_and_chooses(self, tmp_path, storage):
        writer = BagWriter(tmp_path / 'bag', storage)
        for name in ('/a', '/b'):
            writer.add_topic(name, 'std_msgs/msg/String')
        for n in range(6):
            writer.write('/a' if n % 2 else '/b', n, text(f'message {n}'))
        writer.close()
        with Bag(tmp_path / 'bag') as bag:
            assert [m.stamp_ns for m in bag.raw(start_ns=3)] == [3, 4, 5]
            assert [m.stamp_ns for m in bag.raw(['/b'], start_ns=1)] == [2, 4]
            with pytest.raises(ValueError, match='has no topic /c; it has /a, /b'):
                list(bag.raw(['/c']))

    def test_metadata_is_what_rosbag2_expects(self, tmp_path):
        information = yaml.safe_load(
            (write_bag(tmp_path / 'bag') / 'metadata.yaml').read_text())[
                'rosbag2_bagfile_information']
        assert information['version'] == 9
        assert information['storage_identifier'] == 'mcap'
        assert information['relative_file_paths'] == ['bag.mcap']
        assert information['message_count'] == 10
        assert information['duration'] == {'nanoseconds': 9_000_000}
        (topic,) = information['topics_with_message_count']
        assert topic['topic_metadata']['type_description_hash'] == (
            'RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18')
        (qos,) = topic['topic_metadata']['offered_qos_profiles']
        assert (qos['durability'], qos['reliability'], qos['history'], qos['depth']) == (
            'transient_local', 'reliable', 'keep_last', 1)

    def test_messages_of_other_packages_bring_their_definition(self, tmp_path, monkeypatch):
        pytest.importorskip('vision_msgs')
        writer = BagWriter(tmp_path / 'bag')
        writer.add_topic('/found', 'vision_msgs/msg/Detection2DArray')
        # header with an empty frame, then no detections
        cdr = b'\0\1\0\0' + struct.pack('<iII', 5, 7, 1) + b'\0\0\0\0' + struct.pack('<I', 0)
        writer.write('/found', 1, cdr)
        writer.close()
        monkeypatch.setattr(sys, 'prefix', str(tmp_path))  # nothing is installed there
        monkeypatch.delenv('AMENT_PREFIX_PATH', raising=False)
        with Bag(tmp_path / 'bag') as bag:
            (message,) = bag.messages()
        assert stamp_ns_from_msg(message.content.header.stamp) == 5_000_000_007
        assert len(message.content.detections) == 0

    def test_an_empty_bag_is_a_bag(self, tmp_path):
        BagWriter(tmp_path / 'bag').close()
        with Bag(tmp_path / 'bag') as bag:
            assert (bag.count, bag.start_ns, bag.end_ns, list(bag.raw())) == (0, 0, 0, [])

    def test_bytes_that_are_no_message(self, tmp_path):
        writer = BagWriter(tmp_path / 'bag')
        writer.add_topic('/words', 'std_msgs/msg/String')
        writer.write('/words', 1, b'\0\1\0\0\xff\xff\xff\xff')
        writer.close()
        with Bag(tmp_path / 'bag') as bag, pytest.raises(ValueError, match='8 bytes are no std_m'):
            list(bag.messages())


class TestRecordings:
    """Real recordings: what is in them is known."""

    def test_dining_room(self, data_dir):
        with Bag(data_dir / 'bags' / 'dining_room') as bag:
            assert {topic.count for topic in bag.topics.values()} == {5}
            content = {message.topic: message.content for message in bag.messages()}
        assert rgb_from_msg(content['/camera/color/image_raw']).shape == (480, 640, 3)
        depth_m = depth_m_from_msg(content['/camera/aligned_depth_to_color/image_raw'])
        assert 0.3 < np.nanmedian(depth_m) < 5.0
        assert intrinsics_from_msg(content['/camera/color/camera_info']).fx == 518.0
        assert content['/tf'].transforms[0].header.frame_id == 'odom'

    def test_tabletop(self, data_dir):
        with Bag(data_dir / 'bags' / 'tabletop') as bag:
            assert bag.count == len(list(bag.messages())) == 12
            assert bag.damage == []


class TestDamaged:
    @storages
    def test_without_metadata(self, tmp_path, storage):
        path = write_bag(tmp_path / 'bag', storage)
        (path / 'metadata.yaml').unlink()
        with Bag(path) as bag:
            assert numbers(bag) == list(range(10))
            assert bag.topics['/words'].offered_qos == (LATCHED,)
        assert 'metadata.yaml is missing' in bag.damage[0]

    @pytest.mark.parametrize('lost', [1, 40, 100, 300_000, 310_000, 1_500_000])
    def test_cut_mcap_is_read_to_its_last_whole_message(self, tmp_path, lost):
        path = write_bag(tmp_path / 'bag') / 'bag.mcap'
        content = path.read_bytes()
        ends = [content.index(b'message %d ' % n) + 300_001 for n in range(10)]
        os.truncate(path, len(content) - lost)
        whole = [n for n, end in enumerate(ends) if end <= len(content) - lost]
        with Bag(tmp_path / 'bag') as bag:
            assert numbers(bag) == whole
            assert bag.count == bag.topics['/words'].count == len(whole)
            assert f'{len(whole)} whole message(s) can be read' in bag.damage[-1]
            assert bag.topics['/words'].offered_qos == (LATCHED,)

    @pytest.mark.parametrize('compression', ['lz4', 'zstd'])
    def test_cut_compressed_mcap(self, tmp_path, compression):
        from mcap.writer import CompressionType, Writer
        path = tmp_path / 'bag.mcap'
        with path.open('wb') as file:
            writer = Writer(file, chunk_size=1 << 22, compression=CompressionType[
                compression.upper()])
            writer.start(profile='ros2')
            schema = writer.register_schema('std_msgs/msg/String', 'ros2msg', b'string data\n')
            channel = writer.register_channel('/words', 'cdr', schema)
            noise = np.random.default_rng(0)
            for n in range(20):
                words = noise.integers(33, 126, 100_000, np.uint8).tobytes().decode()
                data = text(f'message {n} {words}')
                writer.add_message(channel, log_time=n, data=data, publish_time=n)
            writer.finish()
        os.truncate(path, path.stat().st_size // 2)
        with Bag(path) as bag:
            found = numbers(bag)
        assert found == list(range(len(found)))
        assert 5 < len(found) < 20

    @pytest.mark.parametrize('kept', [0, 4, 30, 200])
    def test_an_mcap_of_which_nothing_is_left(self, tmp_path, kept):
        os.truncate(write_bag(tmp_path / 'bag') / 'bag.mcap', kept)
        with pytest.raises(ValueError, match='not one whole message can be read'):
            Bag(tmp_path / 'bag')

    def test_cut_sqlite_is_read_as_far_as_it_goes(self, tmp_path):
        path = write_bag(tmp_path / 'bag', 'sqlite3', count=200, size=20_000) / 'bag.db3'
        os.truncate(path, 3_000_000)
        with Bag(tmp_path / 'bag') as bag:
            found = numbers(bag)
            assert bag.count == len(found)
        assert found == list(range(len(found)))
        assert 100 < len(found) < 150
        assert 'malformed' in bag.damage[-1]

    def test_sqlite_damaged_in_the_middle(self, tmp_path):
        path = write_bag(tmp_path / 'bag', 'sqlite3', count=200, size=20_000) / 'bag.db3'
        content = bytearray(path.read_bytes())
        content[2_000_000:2_100_000] = bytes(100_000)
        path.write_bytes(content)
        with Bag(tmp_path / 'bag') as bag:
            count = len(list(bag.raw()))
        assert count < 200
        assert bag.damage

    def test_sqlite_whose_recorder_died_with_a_write_ahead_log(self, tmp_path):
        path = write_bag(tmp_path / 'bag', 'sqlite3')
        (path / 'metadata.yaml').unlink()
        with closing(sqlite3.connect(path / 'bag.db3')) as database:
            database.execute('PRAGMA journal_mode=WAL')
            database.execute('INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)',
                             (2_000_000_000, text('message 10')))
            database.commit()
            shutil.copytree(path, tmp_path / 'left')
        with Bag(tmp_path / 'left') as bag:
            assert numbers(bag) == list(range(11))

    def test_sqlite_of_which_nothing_is_left(self, tmp_path):
        os.truncate(write_bag(tmp_path / 'bag', 'sqlite3') / 'bag.db3', 1000)
        with pytest.raises(ValueError, match='damaged: its list of topics is lost'):
            Bag(tmp_path / 'bag')

    @pytest.mark.parametrize(('make', 'kind', 'sentence'), [
        (lambda path: None, FileNotFoundError, 'does not exist'),
        (lambda path: path.mkdir(), ValueError, 'metadata.yaml is missing, and there is no .mcap'),
        (lambda path: path.write_text('words'), ValueError, 'is no bag; a bag is a folder'),
    ])
    def test_no_bag_at_all(self, tmp_path, make, kind, sentence):
        make(tmp_path / 'bag')
        assert not is_bag(tmp_path / 'bag')
        with pytest.raises(kind, match=sentence):
            Bag(tmp_path / 'bag')

    def test_a_storage_that_nobody_here_reads(self, tmp_path):
        path = write_bag(tmp_path / 'bag')
        metadata = path / 'metadata.yaml'
        metadata.write_text(metadata.read_text().replace(': mcap\n', ': tape\n'))
        (path / 'bag.mcap').rename(path / 'bag.tape')
        metadata.write_text(metadata.read_text().replace('bag.mcap', 'bag.tape'))
        with pytest.raises(ValueError, match="'tape' not supported"):
            Bag(path)


class TestWriting:
    def test_an_existing_folder_is_left_alone(self, tmp_path):
        with pytest.raises(FileExistsError, match='exists already'):
            BagWriter(tmp_path)

    def test_a_type_that_is_defined_nowhere(self, tmp_path):
        writer = BagWriter(tmp_path / 'bag')
        with pytest.raises(ValueError, match='type no_msgs/msg/Thing can be found: install'):
            writer.add_topic('/thing', 'no_msgs/msg/Thing')
        writer.close()

    @storages
    def test_a_killed_process_loses_nothing_before_its_checkpoint(self, tmp_path, storage):
        path = tmp_path / 'bag'
        process = multiprocessing.get_context('spawn').Process(
            target=write_and_die, args=(path, storage))
        process.start()
        process.join(200)
        assert process.exitcode == -signal.SIGKILL
        assert 'metadata.yaml' not in os.listdir(path)
        with Bag(path) as bag:
            found = numbers(bag)
        assert found == list(range(len(found)))
        assert 400 <= len(found) < 2000

    @storages
    @pytest.mark.parametrize('saves', [True, False])
    def test_a_file_that_may_not_grow(self, tmp_path, storage, saves):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        writer = BagWriter(tmp_path / 'bag', storage)
        writer.add_topic('/words', 'std_msgs/msg/String')
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000_000, limits[1]))
        try:
            with pytest.raises(OSError, match='is closed and readable, with') as error:
                fill(writer, saves)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert 'the disk refuses it' in str(error.value)
        expect_whole(tmp_path / 'bag', writer, at_least=80)

    @storages
    def test_a_full_disk(self, tmp_path, storage):
        disk = tmp_path / 'disk'
        disk.mkdir()
        mount = ['mount', '-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', str(disk)]
        if shutil.which('mount') is None or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip('no file system may be mounted here')
        try:
            writer = BagWriter(disk / 'bag', storage)
            writer.add_topic('/words', 'std_msgs/msg/String')
            with pytest.raises(OSError, match='it ends here because the disk is full'):
                fill(writer, saves=True)
            expect_whole(disk / 'bag', writer, at_least=130)
        finally:
            subprocess.run(['umount', str(disk)], check=True)

    def test_a_disk_without_room_to_begin(self, tmp_path):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
        try:
            with pytest.raises(OSError, match='bag .* cannot be begun: the disk refuses it'):
                BagWriter(tmp_path / 'bag')
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert not (tmp_path / 'bag').exists()


def write_and_die(path, storage):
    writer = BagWriter(path, storage)
    writer.add_topic('/words', 'std_msgs/msg/String')
    for n in range(2000):
        writer.write('/words', n, text(f'message {n}', 3000))
        if n == 399:
            writer.checkpoint()
    os.kill(os.getpid(), signal.SIGKILL)


def fill(writer, saves):
    for n in range(10_000):
        writer.write('/words', n, text(f'message {n}', 90_000))
        if saves and n % 25 == 0:
            writer.checkpoint()


def expect_whole(path, writer, at_least):
    """Expect that stock readers open the bag and find what the writer counted."""
    count = writer.counts['/words']
    assert count >= at_least
    with Reader(path) as reader:
        assert len(list(reader.messages())) == reader.message_count == count
    with Bag(path) as bag:
        assert bag.damage == []
        assert numbers(bag) == list(range(count))
        assert bag.end_ns == count
