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


@pytest.fixture
def publish(session):
    """Return a function that offers a topic, waits for the recorder and publishes."""
    publishers = {}

    def publish_one(message, topic, qos=10):
        if topic not in publishers:
            publishers[topic] = session.node.create_publisher(type(message), topic, qos)
            assert session.wait_for(publishers[topic].get_subscription_count, 15.0)
            time.sleep(0.3)
        publishers[topic].publish(message)

    return publish_one


def image(level, width=64, height=48):
    data = np.full(width * height * 3, level, np.uint8).tobytes()
    return Image(width=width, height=height, step=3 * width, encoding='rgb8', data=data)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_topics_are_recorded_as_they_appear(run, publish, tmp_path, storage):
    verb = run('record', tmp_path / 'bag', '--storage', storage)
    publish(String(data='words'), '/latched', LATCHED)
    before_ns = time.time_ns()
    for n in range(20):
        publish(image(n), '/image', qos_profile_sensor_data)
    time.sleep(0.3)
    verb.interrupt()
    shown, said = verb.finish()
    with Bag(tmp_path / 'bag') as bag:
        assert bag.damage == []
        images = list(bag.messages(['/image']))
        (words,) = bag.messages(['/latched'])
    assert [int(rgb_from_msg(m.content)[0, 0, 0]) for m in images] == list(range(20))
    assert all(abs(m.stamp_ns - before_ns) < 20e9 for m in images)
    assert words.content.data == 'words'
    (qos,) = bag.topics['/latched'].offered_qos
    assert (qos.durability, qos.reliability) == (
        QosDurability.TRANSIENT_LOCAL, QosReliability.RELIABLE)
    assert bag.topics['/image'].offered_qos[0].reliability == QosReliability.BEST_EFFORT
    assert re.search(r'/image +20 \[sensor_msgs/msg/Image\]', shown)
    assert 'recording /latched [std_msgs/msg/String]' in said


def test_latched_topics_go_round(run, publish, listen, tmp_path):
    """What was latched when it was recorded is latched when it is played."""
    verb = run('record', tmp_path / 'bag', '--topics', 'latched')
    publish(String(data='words'), '/latched', LATCHED)
    time.sleep(0.3)
    verb.interrupt()
    verb.finish()
    played = run('play', tmp_path / 'bag', '--remap', '/latched:=/again', '--loop', '--wait', 0)
    again = listen(String, '/again', LATCHED)
    assert again.wait_for(1)[0].data == 'words'
    played.interrupt()
    played.finish()


def test_chosen_topics_for_a_while(run, publish, tmp_path):
    verb = run('record', tmp_path / 'bag', '--topics', 'wanted', '/nope', '--duration', 3)
    publish(String(data='yes'), '/wanted')
    shown, said = verb.finish()
    with Bag(tmp_path / 'bag') as bag:
        assert list(bag.topics) == ['/wanted']
        assert bag.count == 1
    assert 'nobody published /nope' in said
    assert 'nothing was received' not in said


def test_a_publisher_that_offers_less_is_followed(run, session, publish, tmp_path):
    verb = run('record', tmp_path / 'bag', '--topics', '/words')
    publish(String(data='reliable'), '/words')
    time.sleep(1.0)
    second = session.node.create_publisher(String, '/words', qos_profile_sensor_data)
    assert session.wait_for(second.get_subscription_count, 15.0)
    for _ in range(20):  # the recorder may learn of the match later, and nothing is sent again
        second.publish(String(data='best effort'))
        time.sleep(0.1)
    verb.interrupt(signal.SIGTERM)
    verb.finish()
    with Bag(tmp_path / 'bag') as bag:
        first, *others = [m.content.data for m in bag.messages()]
    assert first == 'reliable'
    assert others and set(others) == {'best effort'}


def test_nothing_received_is_said(run, tmp_path):
    _, said = run('record', tmp_path / 'bag', '--topics', '/nope', '--duration', 0.5).finish()
    assert 'nobody published /nope: is the node running' in said
    assert said.endswith('nothing was received\n')
    with Bag(tmp_path / 'bag') as bag:
        assert bag.count == 0


def test_a_killed_recorder_leaves_what_it_saved(run, publish, tmp_path):
    verb = run('record', tmp_path / 'bag', '--topics', '/words')
    publish(String(data='words'), '/words')
    time.sleep(1.7)  # it saves once a second
    verb.stop()
    with Bag(tmp_path / 'bag') as bag:
        assert [m.content.data for m in bag.messages()] == ['words']


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
        for n in range(40):
            publish(image(n, 640, 480), '/image')  # 0.9 MB each
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
