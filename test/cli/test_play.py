"""``perception play`` on a real graph."""

import os
import re
import signal
import time

import cv2
import numpy as np
from perception_nodes.conversions.decode import rgb_from_msg, stamp_ns_from_msg
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.bag_writer import BagWriter
import pytest
import yaml

rclpy = pytest.importorskip('rclpy')
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from rclpy.time import Time  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, PointCloud2  # noqa: E402
from std_msgs.msg import Header, String  # noqa: E402

pytestmark = pytest.mark.graph

IMAGE, INFO = '/camera/color/image_raw', '/camera/color/camera_info'


@pytest.fixture
def pictures(tmp_path):
    """Return a folder of four pictures, whose grey levels are 10, 20, 30 and 40."""
    folder = tmp_path / 'pictures'
    folder.mkdir()
    for n in (1, 2, 3, 4):
        cv2.imwrite(str(folder / f'{n}.png'), np.full((24, 32, 3), 10 * n, np.uint8))
    return folder


def levels(messages):
    return [int(rgb_from_msg(message)[0, 0, 0]) for message in messages]


class TestPictures:
    @pytest.mark.parametrize('qos', [qos_profile_sensor_data, 10], ids=['sensor', 'reliable'])
    def test_image_and_camera_info_in_lock_step(self, run, listen, pictures, qos):
        images, infos = listen(Image, IMAGE, qos), listen(CameraInfo, INFO, qos)
        (pictures / '2.png').write_bytes(b'broken')
        shown, said = run('play', pictures, '--rate', 20, '--fov', 90).finish()
        images.wait_for(3), infos.wait_for(3)
        assert levels(images.messages) == [10, 30, 40]
        assert [m.header for m in images.messages] == [m.header for m in infos.messages]
        first = images.messages[0]
        assert (first.header.frame_id, first.encoding) == ('camera_color_optical_frame', 'rgb8')
        assert abs(time.time_ns() - stamp_ns_from_msg(first.header.stamp)) < 600e9
        info = infos.messages[0]
        assert (info.width, info.height) == (32, 24)
        np.testing.assert_allclose(
            info.k.reshape(3, 3), [[16, 0, 15.5], [0, 16, 11.5], [0, 0, 1]])
        assert re.match(r'3 published in \d+\.\d s \(\d+\.\d Hz\), 1 skipped$', shown)
        assert '2.png: it cannot be read as a picture' in said
        assert 'camera_info is a guess from a field of view of 90 degrees' in said

    def test_another_camera_with_a_calibration(self, run, listen, pictures, tmp_path):
        calibration = tmp_path / 'camera.yaml'
        projection = [45.0, 0, 16, 0, 0, 46, 12, 0, 0, 0, 1, 0]
        calibration.write_text(yaml.safe_dump({
            'image_width': 32, 'image_height': 24,
            'camera_matrix': {'data': [50.0, 0, 15, 0, 51, 11, 0, 0, 1]},
            'distortion_model': 'equidistant',
            'distortion_coefficients': {'data': [0.1, 0.2, 0.3, 0.4]},
            'rectification_matrix': {'data': [1, 0, 0, 0, 1, 0, 0, 0, 1]},
            'projection_matrix': {'data': projection}}))
        listen(Image, '/table_camera/color/image_raw')
        infos = listen(CameraInfo, '/table_camera/color/camera_info')
        _, said = run('play', pictures / '1.png', '--camera', 'table_camera',
                      '--calibration', calibration).finish()
        (info,) = infos.wait_for(1)
        assert info.header.frame_id == 'table_camera_color_optical_frame'
        assert info.distortion_model == 'equidistant'
        assert list(info.d) == [0.1, 0.2, 0.3, 0.4]
        assert list(info.p) == projection
        assert info.k[0] == 50.0
        assert 'guess' not in said

    def test_a_calibration_for_another_size_is_refused(self, run, pictures, tmp_path):
        calibration = tmp_path / 'camera.yaml'
        calibration.write_text(yaml.safe_dump({
            'image_width': 64, 'image_height': 48,
            'camera_matrix': {'data': [50.0, 0, 15, 0, 51, 11, 0, 0, 1]},
            'distortion_model': 'plumb_bob', 'distortion_coefficients': {'data': [0] * 5}}))
        _, said = run(
            'play', pictures, '--calibration', calibration, '--wait', 0).finish(code=1)
        assert ('1.png has 32x24 pixels, but the calibration is for 64x48: calibrate at that '
                'size, or set --size 64x48') in said

    def test_nobody_listens(self, run, pictures):
        shown, said = run('play', pictures, '--rate', 50, '--wait', 0.2).finish()
        assert f'nobody listens to {IMAGE} after 0.2 s' in said
        assert shown.startswith('4 published')

    def test_nothing_but_broken_pictures(self, run, tmp_path):
        (tmp_path / 'a.jpg').write_bytes(b'broken')
        _, said = run('play', tmp_path, '--wait', 0).finish(code=1)
        assert f'none of the 1 picture(s) of {tmp_path} could be read' in said

    @pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
    def test_loop_until_interrupted(self, run, listen, pictures, number):
        images = listen(Image, IMAGE)
        verb = run('play', pictures, '--rate', 50, '--loop')
        images.wait_for(10)
        verb.interrupt(number)
        shown, _ = verb.finish()
        assert int(shown.split()[0]) >= 10
        assert set(levels(images.messages)) == {10, 20, 30, 40}

    def test_a_video_at_its_own_rate(self, run, listen, tmp_path):
        video = cv2.VideoWriter(
            str(tmp_path / 'v.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 20.0, (64, 48))
        for n in range(12):
            video.write(np.full((48, 64, 3), 10 * n, np.uint8))
        video.release()
        images = listen(Image, IMAGE)
        shown, _ = run('play', tmp_path / 'v.avi', '--size', '32x24').finish()
        images.wait_for(12)
        assert {(m.width, m.height) for m in images.messages} == {(32, 24)}
        np.testing.assert_allclose(levels(images.messages), range(0, 120, 10), atol=3)
        # 11 periods of 50 ms, and what a busy machine takes away or adds
        assert 0.3 < images.times_s[-1] - images.times_s[0] < 60.0
        assert shown.startswith('12 published in ')


def test_a_live_camera_until_interrupted(run, listen, camera):
    """It hangs up after five pictures: more than five mean that it was opened again."""
    images = listen(Image, IMAGE)
    verb = run('play', camera.url)
    images.wait_for(6)
    verb.interrupt()
    shown, said = verb.finish()
    assert camera.connections >= 3  # one to look, one to read, one to read on
    assert 'stopped delivering; opening it again' in said
    assert int(shown.split()[0]) >= 6


class Answerer:
    """Answers each image after a while, with a header and nothing else in it."""

    def __init__(self, session, silent_at=()):
        self.log = []
        self._silent_at = silent_at
        self._publisher = session.node.create_publisher(PointCloud2, '/answers', 10)
        session.node.create_subscription(Image, IMAGE, self._answer, 10)

    def _answer(self, image):
        level = int(image.data[0])
        self.log.append(('image', level))
        if level not in self._silent_at:
            time.sleep(0.12)
            self.log.append(('answer', level))
            self._publisher.publish(PointCloud2(header=image.header))


class TestPace:
    def test_the_next_picture_waits_for_the_answer(self, run, session, pictures):
        answerer = Answerer(session)
        shown, _ = run('play', pictures, '--pace-by', 'answers').finish()
        assert answerer.log == [
            (what, level) for level in (10, 20, 30, 40) for what in ('image', 'answer')]
        assert shown.startswith('4 published') and 'without' not in shown

    def test_a_missing_answer_is_counted(self, run, session, pictures):
        answerer = Answerer(session, silent_at=[20])
        shown, said = run(
            'play', pictures, '--pace-by', '/answers', '--pace-timeout', 5).finish()
        assert [level for what, level in answerer.log if what == 'image'] == [10, 20, 30, 40]
        assert '1 without an answer' in shown
        assert 'no answer to 2.png in time' in said

    def test_answers_need_a_header(self, run, session, pictures):
        session.node.create_publisher(String, '/words', 1)
        _, said = run('play', pictures, '--pace-by', '/words').finish(code=1)
        assert '/words carries std_msgs/msg/String, which has no header' in said

    def test_nobody_answers(self, run, pictures):
        _, said = run('play', pictures, '--pace-by', '/nowhere', '--wait', 0.2).finish(code=1)
        assert 'nobody publishes /nowhere' in said


def cdr(message):
    return serialize_message(message)


def header(stamp_ns):
    stamp = Time(nanoseconds=stamp_ns).to_msg()
    return Header(stamp=stamp, frame_id='camera')


SECOND = 1_000_000_000


@pytest.fixture
def bag(tmp_path):
    """Return a bag of ten images, one each 50 ms from 100 s on, and two latched words."""
    writer = BagWriter(tmp_path / 'bag')
    writer.add_topic('/latched', 'std_msgs/msg/String', [latched_qos()])
    writer.add_topic(IMAGE, 'sensor_msgs/msg/Image')
    writer.write('/latched', 100 * SECOND, cdr(String(data='first')))
    writer.write('/latched', 100 * SECOND + 1, cdr(String(data='second')))
    for n in range(10):
        stamp_ns = 100 * SECOND + n * 50_000_000
        image = Image(header=header(stamp_ns), height=1, width=1, step=3, encoding='rgb8',
                      data=[10 * n, 0, 0])
        writer.write(IMAGE, stamp_ns, cdr(image))
    writer.close()
    return tmp_path / 'bag'


def latched_qos():
    from rosbags.interfaces import (
        Qos,
        QosDurability,
        QosHistory,
        QosLiveliness,
        QosReliability,
        QosTime,
    )
    forever = QosTime(9223372036, 854775807)
    return Qos(QosHistory.UNKNOWN, 0, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
               forever, forever, QosLiveliness.AUTOMATIC, forever, False)


LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TestBag:
    def test_every_message_at_its_time_under_the_recorded_clock(self, run, listen, bag):
        images, clock = listen(Image, IMAGE), listen(Clock, '/clock', 1000)
        shown, said = run('play', bag, '--clock').finish()
        images.wait_for(10)
        assert levels(images.messages) == list(range(0, 100, 10))
        assert stamp_ns_from_msg(images.messages[3].header.stamp) == 100 * SECOND + 150_000_000
        took_s = images.times_s[-1] - images.times_s[0]
        # 9 periods of 50 ms, and what a busy machine takes away or adds
        assert 0.25 < took_s < 60.0
        times_ns = [stamp_ns_from_msg(message.clock) for message in clock.messages]
        assert times_ns == sorted(times_ns)
        assert times_ns[0] >= 100 * SECOND
        assert times_ns[-1] < 200 * SECOND  # of the recording, not of today
        # every 5 ms; a busy machine leaves some out
        assert len(times_ns) >= 12
        assert np.diff(times_ns).min() < 10e6
        assert shown.startswith('12 message(s) published in ') and 'late by p50 ' in shown

    def test_rate_start_topics_and_other_names(self, run, listen, bag):
        images = listen(Image, '/other/image')
        shown, _ = run('play', bag, '--rate', 0.25, '--start', 0.25, '--topics',
                       IMAGE, '--remap', f'{IMAGE}:=/other/image').finish()
        images.wait_for(5)
        assert levels(images.messages) == [50, 60, 70, 80, 90]
        # 4 periods of 200 ms, four times as long as recorded
        assert 0.4 < images.times_s[-1] - images.times_s[0] < 60.0
        assert shown.startswith('5 message(s)')

    def test_latched_messages_reach_who_comes_late(self, run, listen, bag):
        images = listen(Image, IMAGE)
        verb = run('play', bag, '--start', 0.2, '--loop')
        images.wait_for(2)
        late = listen(String, '/latched', LATCHED)
        assert [m.data for m in late.wait_for(2)[:2]] == ['first', 'second']
        verb.interrupt()
        verb.finish()

    def test_each_picture_waits_for_the_answer(self, run, session, bag):
        answerer = Answerer(session)
        shown, _ = run('play', bag, '--pace-by', '/answers').finish()
        assert answerer.log == [
            (what, level) for level in range(0, 100, 10) for what in ('image', 'answer')]
        assert '0 picture(s) without an answer' in shown

    def test_a_cut_bag_is_played_to_its_last_whole_message(self, run, listen, bag):
        path = bag / 'bag.mcap'
        content = path.read_bytes()
        os.truncate(path, content.index(bytes([90, 0, 0])) - 20)  # inside the last image
        images = listen(Image, IMAGE)
        shown, said = run('play', bag).finish()
        images.wait_for(9)
        assert levels(images.messages) == list(range(0, 90, 10))
        assert '11 whole message(s) can be read' in said
        assert shown.startswith('11 message(s)')

    def test_types_that_are_not_installed_are_left_out(self, run, listen, bag, tmp_path):
        text = (bag / 'metadata.yaml').read_text()
        (bag / 'metadata.yaml').write_text(
            text.replace('type: std_msgs/msg/String', 'type: no_msgs/msg/Thing'))
        content = (bag / 'bag.mcap').read_bytes()
        (bag / 'bag.mcap').write_bytes(
            content.replace(b'std_msgs/msg/String', b'none_msgs/msg/Thing'))
        (bag / 'metadata.yaml').unlink()
        images = listen(Image, IMAGE)
        _, said = run('play', bag).finish()
        images.wait_for(10)
        assert 'left out /latched with 2 message(s): message type none_msgs/msg/Thing' in said
        assert "install the package 'none_msgs'" in said

    @pytest.mark.parametrize(('words', 'sentence'), [
        (['--start', '1'], 'start is 1 s, but bag {bag} lasts 0.5 s'),
        (['--topics', '/nope'], 'bag {bag} has no topic /nope; it has /camera/color/image_raw, '),
        (['--remap', '/nope:=/x'], '/nope cannot be renamed: it is none of /camera'),
        (['--fov', '50'], '--fov is for pictures; {bag} is a bag'),
        (['--remap', f'{IMAGE}:=bad name'], "'bad name' is no topic name"),
    ])
    def test_wrong_arguments(self, run, bag, words, sentence):
        _, said = run('play', bag, *words).finish(code=1)
        assert sentence.format(bag=bag) in said

    def test_the_summary_counts_every_time_through(self, run, listen, bag):
        images = listen(Image, IMAGE)
        verb = run('play', bag, '--loop')
        images.wait_for(21)  # twice through, each half a second of the recording
        verb.interrupt()
        shown, _ = verb.finish()
        count, took_s = re.match(r'(\d+) message\(s\) published in ([\d.]+) s', shown).groups()
        assert int(count) >= 21
        assert float(took_s) >= 0.8

    @pytest.mark.parametrize('name', ['dining_room', 'tabletop'])
    def test_recorded_bags(self, run, data_dir, listen, name):
        with Bag(data_dir / 'bags' / name) as bag:
            count = bag.count
        infos = listen(CameraInfo, INFO)
        shown, said = run('play', data_dir / 'bags' / name).finish()
        infos.wait_for(4)
        assert shown.startswith(f'{count} message(s)')
        assert said == ''
