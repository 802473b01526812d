"""``perception view`` on a real graph, and its page in a real browser."""

from contextlib import contextmanager, ExitStack
import re
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
from perception_nodes.core.overlay import colour_of
from perception_nodes.core.types import Detections
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
aiohttp = pytest.importorskip('aiohttp')
from browser import Browser, find_chromium  # noqa: E402
from builtin_interfaces.msg import Time  # noqa: E402
from perception_nodes.cli.viewer.watcher import Watcher  # noqa: E402
from perception_nodes.conversions.encode import (  # noqa: E402
    detections_to_msg,
    header_to_msg,
    image_to_msg,
    label_info_to_msg,
)
from perception_nodes.ros.session import Session  # noqa: E402
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from vision_msgs.msg import Detection2DArray, LabelInfo  # noqa: E402

pytestmark = pytest.mark.graph
WAIT_S = 60.0
GREY = 128
BOX = (160.0, 120.0, 480.0, 360.0)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def wait_for(condition, what, timeout_s=WAIT_S):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f'waited {timeout_s} s for {what}'
        time.sleep(0.02)
    return value


class Camera:
    """A camera and a detector on the graph, with known pictures and boxes."""

    def __init__(self, session, width=640, height=480):
        self.node = session.node
        self._pixels = np.full((height, width, 3), GREY, np.uint8)
        self._publishers = {}
        self._stopping = threading.Event()

    def publisher(self, kind, topic, qos=10):
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(kind, topic, qos)
        return self._publishers[topic]

    def header(self):
        return header_to_msg(self.node.get_clock().now().nanoseconds, 'camera_optical')

    def show(self, topic='/camera/image', qos=qos_profile_sensor_data):
        """Publish one image, and return its header."""
        header = self.header()
        self.publisher(Image, topic, qos).publish(image_to_msg(self._pixels, 'rgb8', header))
        return header

    def detect(self, header, topic='/detection/detections'):
        found = Detections(
            np.array([BOX], np.float32), np.array([0.9], np.float32), np.array([3], np.int64))
        self.publisher(Detection2DArray, topic).publish(detections_to_msg(found, header))

    def name_classes(self, topic='/detection/label_info'):
        self.publisher(LabelInfo, topic, LATCHED).publish(
            label_info_to_msg({3: 'chair'}, 0.5, self.header()))

    @contextmanager
    def running(self, each, rate_hz=10.0):
        """Call ``each`` again and again, in a thread."""
        def run():
            while not self._stopping.wait(1.0 / rate_hz):
                each()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()
            self._stopping.clear()


@pytest.fixture
def camera():
    with Session('camera') as session:
        yield Camera(session)


@pytest.fixture
def watch():
    """Return a function that starts a watcher and the dictionary of the pictures it draws."""
    with ExitStack() as stack:
        def start(*topics, look_at=None, save_to=None):
            session = stack.enter_context(Session('viewer'))
            watcher = stack.enter_context(Watcher(session, topics, 30.0, save_to))
            pictures = {}
            watcher.deliver_to(
                lambda drawn: pictures.update({drawn.topic: drawn.picture}))
            watcher.look_at(frozenset(topics if look_at is None else look_at))
            return watcher, pictures

        yield start


def card_of(watcher, topic):
    return next((card for card in watcher.state()['cards'] if card['topic'] == topic), None)


def sentence_of(watcher, topic, words):
    """Return a card's sentence once it contains ``words``."""
    wait_for(lambda: words in (card_of(watcher, topic) or {'sentence': ''})['sentence'],
             f'"{words}" about {topic}; there is {watcher.state()}')
    return card_of(watcher, topic)['sentence']


def captioned(pictures, text):
    """Return the camera's picture once its legend is ``text``: the names come a little later."""
    wait_for(lambda: '/camera/image' in pictures and [
        name for _, name in pictures['/camera/image'].legend] == [text], f'legend {text}')
    return pictures['/camera/image']


def test_boxes_are_drawn_on_the_image_they_were_found_in(camera, watch):
    camera.name_classes()
    watcher, pictures = watch(look_at=['/camera/image'])

    def each():
        header = camera.show()
        time.sleep(0.03)
        camera.detect(header)

    with camera.running(each):
        picture = captioned(pictures, '1 × chair')
        assert tuple(picture.rgb[360, 320]) == colour_of(3)
        assert tuple(picture.rgb[240, 320]) == (GREY,) * 3
        card = wait_for(lambda: (c := card_of(watcher, '/camera/image')) and c.get('size') and c,
                        'numbers')
        assert card['size'] == '640 × 480' and card['encoding'] == 'rgb8'
        assert card['sentence'] == '' and card['open']
        wait_for(lambda: 5.0 < card_of(watcher, '/camera/image')['rate_hz'] < 11.0, 'the rate')
        wait_for(lambda: 0.0 < card_of(watcher, '/camera/image')['p50_ms'] < 500.0, 'the age')
        [fate] = watcher.state()['results']
        assert fate['topic'] == '/detection/detections'
        wait_for(lambda: watcher.state()['results'][0]['sentence'].startswith(
            'drawn on /camera/image: '), 'what became of the boxes')


def test_boxes_of_another_image_are_not_drawn_and_it_is_said(camera, watch):
    watcher, pictures = watch(look_at=['/camera/image'])

    def each():
        camera.show()
        camera.detect(header_to_msg(5, 'camera_optical'))

    with camera.running(each):
        wait_for(lambda: any('belongs to no image' in fate['sentence']
                             for fate in watcher.state()['results']), 'the sentence')
        wait_for(lambda: pictures, 'a picture')
        assert not pictures['/camera/image'].legend


def test_mask_of_a_node_with_labels_is_laid_over_the_image(camera, watch):
    camera.name_classes('/segmentation/label_info')
    _, pictures = watch(look_at=['/camera/image'])
    ids = np.full((480, 640), 3, np.uint8)

    def each():
        header = camera.show()
        camera.publisher(Image, '/segmentation/mask').publish(image_to_msg(ids, 'mono8', header))

    with camera.running(each):
        picture = captioned(pictures, 'chair')
    expected = 0.55 * GREY + 0.45 * np.array(colour_of(3))
    assert np.abs(picture.rgb - expected).max() <= 1.0


def test_age_is_measured_by_the_simulated_clock(camera, watch):
    watcher, pictures = watch('/camera/image')
    clock = camera.publisher(Clock, '/clock')
    pixels = np.zeros((4, 4, 3), np.uint8)

    def each():
        clock.publish(Clock(clock=Time(sec=1000)))
        header = header_to_msg(1000 * 10**9 - 250_000_000, 'camera_optical')
        camera.publisher(Image, '/camera/image').publish(image_to_msg(pixels, 'rgb8', header))

    with camera.running(each, rate_hz=30.0):
        wait_for(lambda: (card_of(watcher, '/camera/image') or {}).get('p50_ms') == 250.0, 'age')


def test_nothing_is_received_while_nobody_looks(camera, watch):
    images = camera.publisher(Image, '/camera/image', qos_profile_sensor_data)
    watcher, pictures = watch(look_at=[])
    with camera.running(camera.show):
        wait_for(lambda: card_of(watcher, '/camera/image'), 'the card')
        time.sleep(0.7)
        assert images.get_subscription_count() == 0 and not pictures
        watcher.look_at(frozenset({'/camera/image'}))
        wait_for(lambda: pictures, 'a picture')
        assert images.get_subscription_count() == 1
        watcher.look_at(None)
        wait_for(lambda: images.get_subscription_count() == 0, 'the end of the subscription')
    assert watcher.state()['cards'] == []


def test_costly_images_are_not_opened_unasked(camera, watch):
    camera.publisher(Image, '/detection/debug_image')
    camera.publisher(Image, '/camera/image')
    camera.publisher(CompressedImage, '/camera/image/compressed')
    watcher, _ = watch(look_at=[])
    wait_for(lambda: len(watcher.state()['cards']) == 3, 'three cards')
    opened = {card['topic']: card['open'] for card in watcher.state()['cards']}
    assert opened == {'/camera/image': True, '/camera/image/compressed': False,
                      '/detection/debug_image': False}
    chosen, _ = watch('/detection/debug_image')
    assert wait_for(lambda: card_of(chosen, '/detection/debug_image'), 'the card')['open']


def test_silence_is_explained(camera, watch):
    camera.publisher(Image, '/camera/image')
    camera.publisher(String, '/chatter')
    camera.node.create_subscription(Image, '/detector/image', lambda msg: None, 10)
    watcher, _ = watch('/camera/image', '/camera/imag', '/chatter', '/detector/image')
    sentence = sentence_of(watcher, '/camera/imag', 'No node publishes')
    assert sentence.endswith("did you mean '/camera/image'?")
    assert 'carries std_msgs/msg/String' in sentence_of(watcher, '/chatter', 'carries')
    assert 'though camera listens' in sentence_of(watcher, '/detector/image', 'No node')
    sentence = sentence_of(watcher, '/camera/image', 'nothing has arrived')
    assert sentence.startswith('camera publishes this topic, but for ')


def test_wrong_encoding_is_explained_and_survived(camera, watch):
    watcher, pictures = watch('/camera/image')
    wrong = image_to_msg(np.zeros((4, 4, 3), np.uint8), 'rgb8', camera.header())
    wrong.encoding = 'yuv99'
    with camera.running(
            lambda: camera.publisher(Image, '/camera/image').publish(wrong)):
        sentence_of(watcher, '/camera/image', "'yuv99'")
    assert not pictures
    with camera.running(lambda: camera.show(qos=10)):
        wait_for(lambda: pictures, 'a picture')
        wait_for(lambda: not card_of(watcher, '/camera/image')['sentence'], 'silence')


@pytest.mark.parametrize('qos', [
    qos_profile_sensor_data, QoSProfile(depth=10), LATCHED], ids=['sensor', 'reliable', 'latched'])
def test_every_kind_of_publisher_is_heard(camera, watch, qos):
    _, pictures = watch('/camera/image')
    if qos is LATCHED:
        camera.show(qos=qos)  # once, before anybody listens
        wait_for(lambda: pictures, 'a picture')
        return
    with camera.running(lambda: camera.show(qos=qos)):
        wait_for(lambda: pictures, 'a picture')


def test_best_effort_publisher_that_joins_a_reliable_one_is_heard(camera, watch):
    reliable = camera.publisher(Image, '/camera/image', 10)
    _, pictures = watch('/camera/image')
    wait_for(reliable.get_subscription_count, 'the subscription')
    with Session('second') as session:
        second = Camera(session)
        with second.running(second.show):
            wait_for(lambda: pictures, 'a picture')


# the command


@pytest.fixture
def start_view():
    """Return a function that starts ``perception view`` and returns process and URL."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, '-m', 'perception_nodes.cli', 'view', '--port', '0', *arguments],
            stderr=subprocess.PIPE, text=True)
        started.append(process)
        said = process.stderr.readline() + process.stderr.readline()
        port = re.search(r'http://localhost:(\d+)', said)[1]
        assert f'ssh -L {port}:127.0.0.1:{port}' in said
        return process, f'http://localhost:{port}'

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_view_ends_well_when_told_to(start_view, how):
    process, _ = start_view()
    process.send_signal(how)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0 and said == ''


def test_saved_pictures_are_the_annotated_ones(camera, start_view, tmp_path):
    camera.name_classes()
    process, _ = start_view('--save', str(tmp_path / 'out'))
    folder = tmp_path / 'out' / 'camera' / 'image'
    costly = camera.publisher(Image, '/detection/debug_image')
    begin_ns = camera.node.get_clock().now().nanoseconds
    with camera.running(lambda: camera.detect(camera.show())):
        wait_for(lambda: len(list(folder.glob('*.jpg'))) >= 20, 'twenty pictures')
        assert costly.get_subscription_count() == 0
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=WAIT_S)
    end_ns = camera.node.get_clock().now().nanoseconds
    saved = sorted(folder.glob('*.jpg'))
    assert process.returncode == 0
    assert said == f'perception view: saved {len(saved)} picture(s) in {tmp_path / "out"}\n'
    shown = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB).astype(int) for path in saved]
    # a result that comes late leaves its picture bare
    assert np.median([np.abs(rgb[360, 300] - colour_of(3)).max() for rgb in shown]) < 60
    assert all(np.abs(rgb[240, 320] - GREY).max() < 5 for rgb in shown)
    stamps_ns = [int(path.stem) for path in saved]
    assert begin_ns < stamps_ns[0] < stamps_ns[-1] < end_ns
    assert stamps_ns[-1] - stamps_ns[0] > 1.5e9  # twenty at 10 Hz


def test_saving_nothing_says_why_and_fails(camera, start_view, tmp_path):
    process, _ = start_view('/nothing', '--save', str(tmp_path), '--duration', '2')
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert '/nothing: No node publishes this topic' in said


def test_disk_that_takes_nothing_is_said_once(camera, start_view, tmp_path):
    (tmp_path / 'camera').write_text('a file where a folder should be')
    process, _ = start_view('--save', str(tmp_path))
    with camera.running(camera.show):
        first = process.stderr.readline()
        time.sleep(0.5)  # more pictures come
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=WAIT_S)
    assert first.startswith(f'perception view: cannot save {tmp_path}/camera/image/')
    assert first.endswith('no more is saved\n')
    assert rest == f'perception view: saved 0 picture(s) in {tmp_path}\n'


@pytest.mark.parametrize(('arguments', 'code', 'sentence'), [
    (['--port', '99999'], 2, "'99999' is no port"),
    (['--rate', '0'], 2, '0 must be more than 0'),
    (['no topic'], 1, "'no topic' is no topic name"),
    (['--host', '192.0.2.1'], 1, '192.0.2.1 is no address of this machine')])
def test_wrong_arguments_are_explained(arguments, code, sentence):
    done = subprocess.run(
        [sys.executable, '-m', 'perception_nodes.cli', 'view', '--duration', '1', *arguments],
        capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == code
    assert sentence in done.stderr and 'Traceback' not in done.stderr


# the page

CARD = "document.querySelector('[data-topic=\"/camera/image\"]')"


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason='Chromium is not installed')
def test_page_shows_pictures_boxes_and_numbers(camera, start_view):
    camera.name_classes()
    silent = camera.publisher(Image, '/silent/image')
    process, url = start_view()

    def each():
        camera.detect(camera.show())

    with camera.running(each), Browser(width=800, height=1000) as browser:
        browser.open(url)
        browser.wait_for(f"{CARD}?.querySelector('.legend').innerText === '1 × chair'")
        browser.wait_for(f"parseFloat({CARD}.querySelector('.rate').innerText) > 5")
        browser.wait_for(f"{CARD}.innerText.includes('640 × 480 rgb8')")
        browser.wait_for(f'/Age\\n\\d+ ms \\(p95 \\d+ ms\\)/.test({CARD}.innerText)')
        browser.wait_for(f"parseFloat({CARD}.querySelector('.rate').innerText) < 11")
        assert browser.evaluate(f'{CARD}.innerText').startswith('/camera/image\n')
        # a result that comes late leaves its picture bare
        browser.wait_for(f"{CARD}.querySelector('img').alt"
                         " === 'Live picture of /camera/image, showing 1 × chair'")
        wait_for(lambda: is_box_seen(browser), 'the box on the screen')
        browser.wait_for(
            "document.body.innerText.includes('camera publishes this topic, but for')")
        browser.wait_for("document.body.innerText.includes('drawn on /camera/image')")

        images = camera.publisher(Image, '/camera/image')
        assert images.get_subscription_count() == 1
        browser.evaluate(f"{CARD}.querySelector('.toggle').click()")
        wait_for(lambda: images.get_subscription_count() == 0, 'the hidden card to unsubscribe')
        assert silent.get_subscription_count() == 1
        browser.evaluate(f"{CARD}.querySelector('.toggle').click()")
        wait_for(images.get_subscription_count, 'the card shown again to subscribe')

        process.send_signal(signal.SIGINT)
        browser.wait_for("document.body.innerText.includes('connection lost')")
    assert process.wait(WAIT_S) == 0


def is_box_seen(browser):
    """Return whether the screen shows the box: its lower edge, what is inside and outside."""
    left, top, width = browser.evaluate(
        f"(() => {{ const r = {CARD}.querySelector('img').getBoundingClientRect();"
        'return [r.left, r.top, r.width]; })()')
    screen = browser.screenshot().astype(int)

    def colours_around(x, y):
        column, row = round(left + x * width / 640), round(top + y * width / 640)
        return screen[row - 3:row + 4, column - 3:column + 4].reshape(-1, 3)

    edge = np.abs(colours_around(320, BOX[3]) - colour_of(3)).max(axis=1)
    return edge.min() < 60 and all(
        np.abs(colours_around(*inside_or_outside) - GREY).max() < 10
        for inside_or_outside in ((320, 240), (320, 420)))


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason='Chromium is not installed')
def test_page_says_so_when_there_is_nothing(start_view):
    _, url = start_view()
    with Browser() as browser:
        browser.open(url)
        browser.wait_for("document.body.innerText.includes('No image topic on this graph')")
