"""The parts of the viewer that need no graph, on messages and pictures with known answers."""

import asyncio
import json
import threading
from types import SimpleNamespace

import cv2
import numpy as np
from perception_nodes.cli.viewer.matching import Arrival, Arrivals, ImageQueue, Results
from perception_nodes.cli.viewer.picture import Layer, Painter, Picture
from perception_nodes.cli.viewer.scene import Drawn, ImageFeed, ResultFeed, Scene
from perception_nodes.core.overlay import colour_of
import pytest

aiohttp = pytest.importorskip('aiohttp')
from perception_nodes.cli.viewer import server  # noqa: E402
from perception_nodes.cli.viewer.server import listen, PageServer  # noqa: E402

GREY = 128


def header(stamp_ns=0, frame_id='camera'):
    sec, nanosec = divmod(stamp_ns, 10**9)
    return SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)


def image(pixels, encoding, stamp_ns=0):
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    return SimpleNamespace(
        header=header(stamp_ns), height=height, width=width, encoding=encoding,
        is_bigendian=0, step=pixels.nbytes // height, data=pixels.tobytes())


def grey(width=64, height=48, stamp_ns=0):
    return image(np.full((height, width, 3), GREY, np.uint8), 'rgb8', stamp_ns)


def boxes(*centred, class_id='3', stamp_ns=0):
    """Return a Detection2DArray of (centre x, centre y, width, height)."""
    hypothesis = SimpleNamespace(hypothesis=SimpleNamespace(class_id=class_id, score=0.9))
    return SimpleNamespace(header=header(stamp_ns), detections=[
        SimpleNamespace(id='', results=[hypothesis], bbox=SimpleNamespace(
            center=SimpleNamespace(position=SimpleNamespace(x=x, y=y)), size_x=w, size_y=h))
        for x, y, w, h in centred])


def arrival(number, received_s=0.0, size_bytes=10):
    return Arrival(SimpleNamespace(data=bytes(size_bytes)), (number, 'camera'), received_s)


# which image is next


def test_newest_image_wins_and_the_others_are_counted():
    queue = ImageQueue()
    for number in range(3):
        queue.add(arrival(number))
    assert queue.take({}, 0.0).key[0] == 2
    assert queue.take({}, 0.0) is None
    assert queue.skipped == 2


def answering_queue(lag_s=0.1):
    """Return a queue whose images are answered on /boxes, ``lag_s`` after they came."""
    queue, results = ImageQueue(), Results()
    queue.add(arrival(0, 0.0))
    results.add((0, 'camera'), 'boxes 0')
    queue.answered('/boxes', (0, 'camera'), lag_s)
    assert queue.take({'/boxes': results}, lag_s).key[0] == 0
    return queue, results


def test_an_image_waits_for_its_result():
    queue, results = answering_queue()
    for number in (1, 2):
        queue.add(arrival(number, 0.1 * number))
    assert queue.take({'/boxes': results}, 0.22) is None
    results.add((1, 'camera'), 'boxes 1')
    assert queue.take({'/boxes': results}, 0.23).key[0] == 1
    assert queue.take({'/boxes': results}, 0.24) is None


def test_a_result_of_another_camera_is_not_waited_for():
    queue, results = ImageQueue(), Results()
    queue.add(arrival(0))
    results.add((0, 'other'), 'boxes')
    queue.answered('/boxes', (0, 'other'), 0.1)
    assert queue.take({'/boxes': results}, 0.1).key[0] == 0


def test_an_image_is_shown_bare_when_its_result_stays_away():
    queue, results = answering_queue(lag_s=0.1)
    queue.add(arrival(1, 1.0))
    assert queue.take({'/boxes': results}, 1.1) is None
    assert queue.take({'/boxes': results}, 1.3).key[0] == 1


def test_results_that_stopped_are_forgotten():
    queue, results = answering_queue()
    queue.add(arrival(1, 10.0))
    assert queue.take({'/boxes': results}, 10.0).key[0] == 1


def test_waiting_images_are_bounded_in_time_and_memory():
    queue = ImageQueue()
    for number in range(100):
        queue.add(arrival(number, 0.1 * number))
    assert queue.skipped == 100 - 21  # two seconds of them are kept
    queue = ImageQueue()
    for number in range(5):
        queue.add(arrival(number, size_bytes=50 << 20))
    assert queue.skipped == 3  # 128 MiB of them


def test_rate_and_age_are_those_of_the_last_seconds():
    arrivals = Arrivals(0.0)
    assert arrivals.rate_hz(1.0) == 0.0 and arrivals.ages_ms() == {}
    for number in range(31):
        arrivals.add(number / 10.0, 20.0)
    arrivals.add(3.1, None)
    assert arrivals.rate_hz(3.1) == pytest.approx(10.0)
    assert arrivals.ages_ms()['p50_ms'] == pytest.approx(20.0)
    assert arrivals.rate_hz(7.0) == 0.0
    assert arrivals.silent_s(7.0) == pytest.approx(3.9)


# what the picture looks like


def test_boxes_are_drawn_where_they_are_and_named():
    layer = Layer('/boxes', 'boxes', boxes((30, 25, 20, 10)), {3: 'chair'})
    picture = Painter('/image').paint(grey(), [layer])
    assert tuple(picture.rgb[25, 20]) == colour_of(3)
    assert tuple(picture.rgb[30, 40]) == colour_of(3)
    assert tuple(picture.rgb[40, 50]) == (GREY,) * 3
    assert picture.legend == [('#{:02x}{:02x}{:02x}'.format(*colour_of(3)), '1 × chair')]
    assert picture.encoding == 'rgb8'


def test_mask_is_translucent_over_the_image_and_opaque_alone():
    ids = np.full((48, 64), 255, np.uint8)
    ids[:, :32] = 4
    over = Painter('/image').paint(
        grey(), [Layer('/mask', 'mask', image(ids, 'mono8'), {4: 'table'})])
    expected = 0.55 * GREY + 0.45 * np.array(colour_of(4))
    assert np.abs(over.rgb[:, :32] - expected).max() <= 1.0
    assert (over.rgb[:, 32:] == GREY).all()
    alone = Painter('/node/mask', 'mask', {4: 'table'}).paint(image(ids, 'mono8'), [])
    assert tuple(alone.rgb[0, 0]) == colour_of(4) and tuple(alone.rgb[0, 63]) == (0, 0, 0)
    assert [text for _, text in over.legend] == [text for _, text in alone.legend] == ['table']


def test_instances_are_coloured_except_where_there_is_none():
    ids = np.zeros((48, 64), np.uint16)
    ids[0, 0] = 300
    picture = Painter('/node/instances', 'instances').paint(image(ids, 'mono16'), [])
    assert tuple(picture.rgb[0, 0]) == colour_of(300) and tuple(picture.rgb[1, 1]) == (0, 0, 0)


def test_depth_is_coloured_on_a_scale_that_does_not_flicker():
    painter = Painter('/depth/image')
    near_mm = np.full((48, 64), 900, np.uint16)
    assert 'to violet 1 m' in painter.paint(image(near_mm, '16UC1'), []).note
    assert 'to violet 2 m' in painter.paint(image(near_mm + 200, '16UC1'), []).note
    assert 'to violet 2 m' in painter.paint(image(near_mm, '16UC1'), []).note
    nothing = painter.paint(image(np.zeros((48, 64), np.uint16), '16UC1'), [])
    assert (nothing.rgb == 96).all()


def test_confidence_has_no_metres():
    values = image(np.full((4, 4), 0.7, np.float32), '32FC1')
    note = Painter('/segmentation/confidence').paint(values, []).note
    assert note == 'yellow 0 to violet 1, grey: no reading'


@pytest.mark.parametrize(('suffix', 'name'), [('.jpg', 'jpeg'), ('.png', 'png')])
def test_compressed_image_is_shown(suffix, name):
    _, data = cv2.imencode(suffix, np.full((48, 64, 3), (255, 0, 0), np.uint8))  # BGR
    msg = SimpleNamespace(header=header(), format=name, data=data.tobytes())
    picture = Painter('/image/compressed').paint(msg, [])
    assert np.abs(picture.rgb.astype(int) - (0, 0, 255)).max() <= 2


def test_result_that_cannot_be_drawn_leaves_the_picture():
    wrong = Layer('/boxes', 'boxes', boxes((30, 25, 20, 10), class_id='chair'), {})
    picture = Painter('/image').paint(grey(), [wrong])
    assert (picture.rgb == GREY).all()
    assert picture.failure.startswith('/boxes: ') and "'chair'" in picture.failure


def scene_of(**results):
    feed = ImageFeed(Painter('/image'), True, Arrivals(0.0))
    return Scene({'/image': feed}, {f'/{name}': r for name, r in results.items()}), feed


def test_scene_draws_a_result_that_comes_after_its_image():
    scene, feed = scene_of(boxes=ResultFeed('boxes', Arrivals(0.0), {3: 'chair'}))
    scene.receive('/image', grey(stamp_ns=5), 5)
    assert len(list(scene.draw(0.0))) == 1  # nobody answers yet
    scene.receive('/boxes', boxes((30, 25, 20, 10), stamp_ns=5), 5)
    scene.receive('/image', grey(stamp_ns=6), 6)
    assert not list(scene.draw(0.0))
    scene.receive('/boxes', boxes((30, 25, 20, 10), stamp_ns=6), 6)
    [drawn] = scene.draw(0.0)
    assert (drawn.topic, drawn.stamp_ns) == ('/image', 6)
    assert tuple(drawn.picture.rgb[25, 20]) == colour_of(3)
    bgr = cv2.imdecode(np.frombuffer(drawn.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert bgr.shape == (48, 64, 3) and np.abs(bgr[40, 55].astype(int) - GREY).max() < 10


def test_scene_survives_images_it_cannot_show():
    scene, feed = scene_of()
    broken = grey()
    broken.encoding = 'yuv99'
    scene.receive('/image', broken, 0)
    assert not list(scene.draw(0.0))
    assert "'yuv99'" in feed.failure
    cut = grey()
    cut.data = cut.data[:100]
    scene.receive('/image', cut, 0)
    assert not list(scene.draw(0.0))
    assert 'buffer holds 100 bytes' in feed.failure
    scene.receive('/image', grey(), 0)
    assert len(list(scene.draw(0.0))) == 1 and not feed.failure


def test_scene_keeps_the_rate():
    scene, feed = scene_of()
    for _ in range(3):
        scene.receive('/image', grey(), 0)
        list(scene.draw(1000.0))
    assert feed.queue.shown == 1


# the page and its websocket


class FakeSource:
    """Stands for the graph; remembers what browsers look at."""

    def __init__(self):
        self.looked_at = None
        self.changed = threading.Condition()

    def state(self):
        return {'cards': [], 'results': [], 'saving_failure': '', 'graph': 'none'}

    def deliver_to(self, show):
        self.show = show

    def look_at(self, topics):
        with self.changed:
            self.looked_at = topics
            self.changed.notify_all()

    def wait_for(self, topics):
        with self.changed:
            assert self.changed.wait_for(lambda: self.looked_at == topics, 60.0), self.looked_at


@pytest.fixture
def page():
    source = FakeSource()
    with listen('127.0.0.1', 0) as listener, PageServer(listener, source):
        yield source, f'http://127.0.0.1:{listener.getsockname()[1]}'


def get(url, **headers):
    async def fetch():
        async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as answer:
            return answer.status, answer.headers, await answer.text()
    return asyncio.run(fetch())


@pytest.mark.parametrize(('path', 'kind'), [
    ('/', 'text/html'), ('/view.js', 'javascript'), ('/view.css', 'text/css')])
def test_page_needs_nothing_from_elsewhere(page, path, kind):
    _, url = page
    status, headers, text = get(url + path)
    assert status == 200 and kind in headers['Content-Type']
    assert "default-src 'self'" in headers['Content-Security-Policy']
    assert 'http://' not in text and 'https://' not in text


@pytest.mark.parametrize('headers', [
    {'Origin': 'http://elsewhere.example'}, {'Host': 'rebound.example:8080'}])
def test_other_web_sites_get_nothing(page, headers):
    _, url = page
    assert get(url, **headers)[0] == 403
    assert get(f'{url}/live', **headers)[0] == 403


def test_unknown_path_is_not_found(page):
    _, url = page
    assert get(f'{url}/../view.py')[0] == 404


async def next_picture(stream):
    while True:
        message = await stream.receive(timeout=60.0)
        if message.type == aiohttp.WSMsgType.BINARY:
            about, _, jpeg = message.data.partition(b'\n')
            return json.loads(about), jpeg


def test_pictures_are_sent_when_asked_for_and_only_the_newest(page):
    source, url = page
    picture = Picture(np.zeros((2, 2, 3), np.uint8), 'rgb8', [('#000000', '1 × chair')], '')

    async def look():
        async with (aiohttp.ClientSession() as client,
                    client.ws_connect(f'{url}/live', headers={'Origin': url}) as stream):
            assert json.loads((await stream.receive()).data)['graph'] == 'none'
            await stream.send_json({'want': ['/a']})
            await asyncio.to_thread(source.wait_for, frozenset({'/a'}))
            source.show(Drawn('/a', 1, picture, b'first'))
            source.show(Drawn('/a', 2, picture, b'second'))
            await stream.send_json({'next': '/a'})
            about, jpeg = await next_picture(stream)
            assert jpeg == b'second'
            assert about == {'topic': '/a', 'legend': [['#000000', '1 × chair']], 'note': ''}
            await stream.send_json({'next': '/a'})
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(next_picture(stream), 0.7)  # nothing new
        await asyncio.to_thread(source.wait_for, None)

    asyncio.run(look())


def test_browser_that_talks_nonsense_is_let_go(page):
    source, url = page

    async def talk(text):
        async with (aiohttp.ClientSession() as client,
                    client.ws_connect(f'{url}/live') as stream):
            await stream.send_str(text)
            while (message := await stream.receive(timeout=60.0)).type == aiohttp.WSMsgType.TEXT:
                pass
            return message.data

    for text in ('{', '[]', '{"want": 3}', '{"other": 1}', '{"want": [{}]}'):
        assert asyncio.run(talk(text)) == 1003
    source.wait_for(None)


def test_a_page_that_cannot_be_served_is_an_error(monkeypatch, tmp_path):
    """As in an installation without the page; it waited for ever."""
    monkeypatch.setattr(server, 'PAGE', tmp_path / 'none')
    with (listen('127.0.0.1', 0) as listener, pytest.raises(ValueError, match='none'),
          PageServer(listener, FakeSource())):
        pass


def test_port_in_use_names_a_free_one():
    with listen('127.0.0.1', 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf'port {port} is in use .* --port \d+') as caught:
            listen('127.0.0.1', port)
        free = int(str(caught.value).rpartition(' ')[2])
        listen('127.0.0.1', free).close()


@pytest.mark.parametrize(('host', 'reason'), [
    ('192.0.2.1', 'is no address of this machine'), ('no.such.host.invalid', 'is no host')])
def test_wrong_host_is_explained(host, reason):
    with pytest.raises(OSError, match=reason):
        listen(host, 0)
