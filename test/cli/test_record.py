"""``perception record`` on a real graph."""

import re
import shutil
import signal
import subprocess
import time

import numpy as np
from perception_nodes.conversions.decode import rgb_from_msg
from perception_nodes.evaluation.bag import Bag
import pytest
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2 import Reader

pytest.importorskip('rclpy')
from rclpy.qos import (  # noqa: E402
    DurabilityPolicy,
    qos_profile_sensor_data,
    QoSProfile,
)
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402

pytestmark = pytest.mark.graph

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PATIENCE_S = 60.0
WORDS_BYTES, IMAGE_BYTES = 50_000, 64 * 48 * 3
PROBE = 255


@pytest.fixture
def publish(session):
    """Return a function that offers a topic, waits for the recorder and publishes."""
    publishers = {}

    def publish_one(message, topic, qos=10):
        if topic not in publishers:
            publishers[topic] = session.node.create_publisher(type(message), topic, qos)
            assert session.wait_for(publishers[topic].get_subscription_count, PATIENCE_S)
            # the recorder may learn of the match later; what is reliable waits for it
            time.sleep(0.3)
        publishers[topic].publish(message)

    return publish_one


@pytest.fixture
def saved(session, tmp_path):
    """
    Return a function that waits until so many bytes more have been written than it wrote last.

    The recorder saves once a second. It reads what it gets in order: once a long message is in
    the file, those of its topic before it are.
    """
    known = 0

    def wait_for(size_bytes):
        nonlocal known
        assert session.wait_for(
            lambda: size_of(tmp_path / 'bag') >= known + size_bytes, PATIENCE_S)
        known = size_of(tmp_path / 'bag')

    return wait_for


def size_of(bag):
    """Return the size of the bag's file, without the journal that sqlite3 keeps for a moment."""
    return sum(f.stat().st_size for f in (bag / 'bag.mcap', bag / 'bag.db3') if f.exists())


def words(beginning, seed=0):
    """Return a message of 50 kB that does not get smaller when it is compressed."""
    noise = np.random.default_rng(seed).integers(32, 127, WORDS_BYTES, np.uint8).tobytes()
    return String(data=f'{beginning} {noise.decode()}')


def first_words(messages):
    return [m.content.data.split()[0] for m in messages]


def image(level, width=64, height=48):
    """Return an image of noise whose first value is ``level``."""
    data = np.random.default_rng(level).integers(0, 256, width * height * 3, np.uint8)
    data[0] = level
    return Image(
        width=width, height=height, step=3 * width, encoding='rgb8', data=data.tobytes())


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_topics_are_recorded_as_they_appear(run, session, publish, saved, tmp_path, storage):
    verb = run('record', tmp_path / 'bag', '--storage', storage)
    before_ns = time.time_ns()
    publish(words('words'), '/latched', LATCHED)
    saved(WORDS_BYTES)
    probes, published_s = 0, 0.0

    def is_heard():
        """Publish now and then, until the recorder has found what sends nothing again."""
        nonlocal probes, published_s
        if time.monotonic() - published_s > 2.0:
            probes, published_s = probes + 1, time.monotonic()
            publish(image(PROBE), '/image', qos_profile_sensor_data)
        return size_of(tmp_path / 'bag') > before + IMAGE_BYTES

    before = size_of(tmp_path / 'bag')
    assert session.wait_for(is_heard, PATIENCE_S)
    saved(0)
    for n in range(20):
        publish(image(n), '/image', qos_profile_sensor_data)
        time.sleep(0.02)
    saved(20 * IMAGE_BYTES)
    verb.interrupt()
    shown, said = verb.finish()
    with Bag(tmp_path / 'bag') as bag:
        assert bag.damage == []
        images = list(bag.messages(['/image']))
        (latched,) = bag.messages(['/latched'])
    levels = [int(rgb_from_msg(m.content)[0, 0, 0]) for m in images]
    assert levels[-20:] == list(range(20))
    assert 1 <= len(levels[:-20]) <= probes and set(levels[:-20]) == {PROBE}
    assert all(before_ns <= m.stamp_ns <= time.time_ns() for m in images)
    assert latched.content.data == words('words').data
    (qos,) = bag.topics['/latched'].offered_qos
    assert (qos.durability, qos.reliability) == (
        QosDurability.TRANSIENT_LOCAL, QosReliability.RELIABLE)
    assert bag.topics['/image'].offered_qos[0].reliability == QosReliability.BEST_EFFORT
    assert re.search(rf'/image +{len(levels)} \[sensor_msgs/msg/Image\]', shown)
    assert 'recording /latched [std_msgs/msg/String]' in said


def test_latched_topics_go_round(run, publish, saved, listen, tmp_path):
    """What was latched when it was recorded is latched when it is played."""
    verb = run('record', tmp_path / 'bag', '--topics', 'latched')
    publish(words('words'), '/latched', LATCHED)
    saved(WORDS_BYTES)
    verb.interrupt()
    verb.finish()
    played = run('play', tmp_path / 'bag', '--remap', '/latched:=/again', '--loop', '--wait', 0)
    again = listen(String, '/again', LATCHED)
    assert again.wait_for(1)[0] == words('words')
    played.interrupt()
    played.finish()


def test_chosen_topics_for_a_while(run, session, tmp_path):
    verb = run('record', tmp_path / 'bag', '--topics', 'wanted', '/nope', '--duration', 5)
    wanted, other = (session.node.create_publisher(String, name, 10) for name in (
        '/wanted', '/other'))
    n = 0
    while verb.running:
        n += 1
        for publisher in (wanted, other):
            publisher.publish(String(data=f'word {n}'))
        time.sleep(0.05)
    shown, said = verb.finish()
    with Bag(tmp_path / 'bag') as bag:
        assert list(bag.topics) == ['/wanted']
        numbers = [int(m.content.data.split()[1]) for m in bag.messages()]
    assert numbers and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert 'nobody published /nope' in said
    assert 'nothing was received' not in said


def test_a_publisher_that_offers_less_is_followed(run, session, publish, saved, tmp_path):
    verb = run('record', tmp_path / 'bag', '--topics', '/words')
    publish(words('reliable'), '/words')
    saved(WORDS_BYTES)
    second = session.node.create_publisher(String, '/words', qos_profile_sensor_data)
    assert session.wait_for(second.get_subscription_count, PATIENCE_S)
    before = size_of(tmp_path / 'bag')

    def is_heard():  # the recorder may learn of the match later, and nothing is sent again
        second.publish(words('effort', seed=1))
        time.sleep(0.1)
        return size_of(tmp_path / 'bag') > before + WORDS_BYTES

    assert session.wait_for(is_heard, PATIENCE_S)
    verb.interrupt(signal.SIGTERM)
    verb.finish()
    with Bag(tmp_path / 'bag') as bag:
        first, *others = first_words(bag.messages())
    assert first == 'reliable'
    assert others and set(others) == {'effort'}


def test_nothing_received_is_said(run, tmp_path):
    _, said = run('record', tmp_path / 'bag', '--topics', '/nope', '--duration', 0.5).finish()
    assert 'nobody published /nope: is the node running' in said
    assert said.endswith('nothing was received\n')
    with Bag(tmp_path / 'bag') as bag:
        assert bag.count == 0


def test_a_killed_recorder_leaves_what_it_saved(run, publish, saved, tmp_path):
    verb = run('record', tmp_path / 'bag', '--topics', '/words')
    publish(words('words'), '/words')
    saved(WORDS_BYTES)
    verb.stop()
    with Bag(tmp_path / 'bag') as bag:
        assert first_words(bag.messages()) == ['words']


class TestOut:
    def test_an_existing_bag_is_kept_unless_told(self, run, tmp_path):
        def record(*words, code=0):
            return run('record', tmp_path / 'bag', '--topics', '/nope', '--duration', 0.1,
                       *words).finish(code)[1]

        record()
        mark = tmp_path / 'bag' / 'mark'
        mark.touch()
        assert 'exists already; name another folder or give --overwrite' in record(code=1)
        assert mark.exists()
        record('--overwrite')
        assert not mark.exists()

    def test_a_folder_that_is_no_bag_is_never_replaced(self, run, tmp_path):
        (tmp_path / 'thesis.tex').touch()
        _, said = run('record', tmp_path, '--overwrite').finish(code=1)
        assert 'is there and is no bag' in said
        assert (tmp_path / 'thesis.tex').exists()

    def test_a_folder_that_cannot_be_made(self, run, tmp_path):
        (tmp_path / 'file').touch()
        _, said = run('record', tmp_path / 'file' / 'bag').finish(code=1)
        assert 'cannot be begun' in said


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_full_disk_ends_the_recording_well(run, publish, tmp_path, storage):
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', str(disk)]
    if shutil.which('mount') is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('no file system may be mounted here')
    try:
        verb = run('record', disk / 'bag', '--topics', '/image', '--storage', storage)
        n = 0
        while verb.running:  # some are lost where the recorder cannot keep up
            publish(image(n % 200, 640, 480), '/image')  # 0.9 MB each
            n += 1
            time.sleep(0.02)
        shown, said = verb.finish(code=1)
        assert re.search(
            r'bag .* is closed and readable, with \d+ message\(s\); it ends here because the '
            'disk is full', said)
        with Reader(disk / 'bag') as reader:
            count = len(list(reader.messages()))
        assert 10 <= count < 30
        assert re.search(rf'/image +{count} ', shown)
    finally:
        subprocess.run(['umount', str(disk)], check=True)
