"""Pairing of a camera's messages: what belongs together, what is dropped, and why."""

import gc
from types import SimpleNamespace
import weakref

import numpy as np
from perception_nodes.conversions.encode import (
    header_to_msg,
    image_to_msg,
    intrinsics_to_msg,
)
from perception_nodes.core.types import CameraIntrinsics
from perception_nodes.ros.sources import Arrived, CameraHub, CameraTopics
import pytest

MS = 1_000_000
TOPICS = CameraTopics('/image', '/depth', '/camera_info', tolerance_ms=20.0)
CAMERA = CameraIntrinsics(6, 4, 5.0, 5.0, 2.5, 1.5)
RGB = np.full((4, 6, 3), 7, np.uint8)


class FakeNode:
    """Hands out subscriptions that the test calls; pairing needs no wire."""

    def __init__(self):
        self.callbacks = {}

    def subscribe(self, msg_type, topic, callback, qos, event_callbacks):
        assert topic not in self.callbacks, f'{topic} is subscribed twice'
        self.callbacks[topic] = callback
        return SimpleNamespace(topic=topic)

    def resolve_topic_name(self, topic):
        return topic

    def create_timer(self, period_s, callback, clock):
        """Let nothing happen by itself."""

    def unsubscribe(self, subscription):
        del self.callbacks[subscription.topic]


class Recorder:
    """Keeps what a source tells."""

    def __init__(self):
        self.frames, self.drops, self.jumps, self.images = [], [], 0, 0

    def received(self):
        self.images += 1

    def dropped(self, reason):
        self.drops.append(reason)

    def deliver(self, observation):
        self.frames.append(observation)

    def time_jumped(self):
        self.jumps += 1


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
def recorder():
    return Recorder()


def header(stamp_ms, frame_id='camera'):
    return header_to_msg(stamp_ms * MS, frame_id)


def send_image(node, stamp_ms):
    node.callbacks['/image'](image_to_msg(RGB, 'rgb8', header(stamp_ms)))


def send_depth(node, stamp_ms, depth_m=None, frame_id='camera'):
    depth_m = np.full((4, 6), stamp_ms, np.float32) if depth_m is None else depth_m
    node.callbacks['/depth'](image_to_msg(depth_m, '32FC1', header(stamp_ms, frame_id)))


def send_info(node, camera=CAMERA):
    node.callbacks['/camera_info'](intrinsics_to_msg(camera, header(0)))


def test_equal_stamps_are_paired_at_once(node, recorder):
    """Whichever half comes first, the frame is there with the second."""
    CameraHub(node, node).listen(TOPICS, recorder)
    send_info(node)
    send_image(node, 100)
    assert recorder.frames == []
    send_depth(node, 100)
    send_depth(node, 133)
    send_image(node, 133)
    frames = [o.frame() for o in recorder.frames]
    assert [f.stamp_ns // MS for f in frames] == [100, 133]
    assert [f.depth_m[0, 0] for f in frames] == [100.0, 133.0]
    assert frames[0].intrinsics == CAMERA
    assert recorder.drops == []


def test_the_nearest_depth_within_tolerance_is_taken(node, recorder):
    """An image between two depths waits for the second only if that can be nearer."""
    CameraHub(node, node).listen(TOPICS, recorder)
    send_info(node)
    for stamp in (0, 33, 66):
        send_depth(node, stamp)
    send_image(node, 70)  # 4 ms after one, the next is due 29 ms later
    assert recorder.frames[0].frame().depth_m[0, 0] == 66.0
    send_image(node, 94)  # the next, due at 99, will be nearer than 66
    assert len(recorder.frames) == 1
    send_depth(node, 99)
    assert recorder.frames[1].frame().depth_m[0, 0] == 99.0


def test_images_without_depth_are_dropped_with_the_reason(node, recorder):
    """Out of tolerance, never any depth, no camera_info: each is counted by its name."""
    source = CameraHub(node, node).listen(TOPICS, recorder)
    send_image(node, 0)
    send_image(node, 1)
    assert recorder.drops == ['no_camera_info']
    send_info(node)
    for stamp in range(10, 21):
        send_image(node, stamp)
    assert recorder.drops == ['no_camera_info', 'no_depth', 'no_depth']
    send_depth(node, 100)
    assert recorder.drops.count('no_depth') == 12
    assert recorder.frames == []
    assert recorder.images == 13
    assert "raise 'sync_tolerance_ms'" in source.why_silent('no_depth')


def test_an_image_just_before_the_first_camera_info_is_not_lost(node, recorder):
    """Bags and drivers may send the halves of the first moment in any order."""
    CameraHub(node, node).listen(TOPICS, recorder)
    send_image(node, 5)
    send_depth(node, 5)
    send_info(node)
    assert recorder.frames[0].frame().intrinsics == CAMERA
    assert recorder.drops == []


def test_one_subscription_and_one_decoding_for_all(node, recorder):
    """Nodes share the frame object; a colour-only node shares the colour subscription."""
    hub, second, colour = CameraHub(node, node), Recorder(), Recorder()
    sources = [hub.listen(TOPICS, recorder), hub.listen(TOPICS, second),
               hub.listen(CameraTopics('/image'), colour)]
    send_info(node)
    send_depth(node, 5)
    send_image(node, 5)
    frame = recorder.frames[0].frame()
    assert second.frames[0].frame() is frame
    assert colour.frames[0].frame().rgb is frame.rgb
    assert colour.frames[0].frame().depth_m is None
    assert not frame.rgb.flags.writeable
    assert not frame.depth_m.flags.writeable
    hub.leave(sources[0], recorder)
    send_image(node, 6)
    assert (recorder.images, second.images) == (1, 2)
    hub.leave(sources[1], second)
    assert set(node.callbacks) == {'/image'}
    hub.leave(sources[2], colour)
    assert node.callbacks == {}


@pytest.mark.parametrize(('depth', 'frame_id'), [
    (np.ones((2, 3), np.float32), 'camera'), (np.ones((4, 6), np.float32), 'depth_camera')])
def test_depth_that_is_not_aligned_is_refused(node, recorder, depth, frame_id):
    """Another size or frame is said, with the driver's way out."""
    CameraHub(node, node).listen(TOPICS, recorder)
    send_info(node)
    send_depth(node, 5, depth, frame_id)
    send_image(node, 5)
    for _ in range(2):
        with pytest.raises(ValueError, match='align_depth.enable:=true'):
            recorder.frames[0].frame()


def test_camera_info_of_another_size_is_refused(node, recorder):
    """Intrinsics of another resolution would put everything in the wrong place."""
    CameraHub(node, node).listen(TOPICS, recorder)
    send_info(node, CameraIntrinsics(640, 480, 5.0, 5.0, 2.5, 1.5))
    send_depth(node, 5)
    send_image(node, 5)
    with pytest.raises(ValueError, match='is for 640x480 pixels, the image has 6x4'):
        recorder.frames[0].frame()


def test_stamps_that_jump_back_start_anew(node, recorder):
    """Old halves are not paired with new ones, and the listener hears of it once."""
    CameraHub(node, node).listen(TOPICS, recorder)
    send_info(node)
    send_depth(node, 9990)
    send_image(node, 10_000)
    send_image(node, 0)
    assert recorder.jumps == 1
    send_depth(node, 0)
    assert [o.frame().stamp_ns for o in recorder.frames] == [0]


OPTIONAL = CameraTopics(
    '/image', '/depth', '/camera_info', tolerance_ms=20.0, depth_is_optional=True)


def test_optional_depth_is_done_without_at_once_and_the_reason_is_kept(node, recorder):
    """No depth, then no camera_info, then both, then depth far off in time."""
    source = CameraHub(node, node).listen(OPTIONAL, recorder)
    source.why_silent = lambda dropped: f'because of {dropped}'
    send_image(node, 0)
    send_depth(node, 33)
    send_image(node, 33)
    send_info(node)
    send_depth(node, 66)
    send_image(node, 66)
    send_image(node, 120)
    assert len(recorder.frames) == 3  # the nearest depth may still come
    send_depth(node, 150)
    frames = [o.frame() for o in recorder.frames]
    assert [f.stamp_ns // MS for f in frames] == [0, 33, 66, 120]
    assert [None if f.depth_m is None else f.depth_m[0, 0] for f in frames] == [
        None, 33.0, 66.0, None]
    assert [f.intrinsics is None for f in frames] == [True, True, False, False]
    assert [o.depth_problem for o in recorder.frames] == [
        'because of no_depth', 'because of no_camera_info', '', 'because of no_depth']
    assert recorder.drops == []


def test_optional_depth_that_cannot_be_used_leaves_the_colour(node, recorder):
    """What would refuse the frame elsewhere is kept as the reason."""
    CameraHub(node, node).listen(OPTIONAL, recorder)
    send_info(node)
    send_depth(node, 0, np.ones((2, 3), np.float32), 'other')
    send_image(node, 0)
    observation, = recorder.frames
    frame = observation.frame()
    assert frame.depth_m is None
    assert (frame.rgb == RGB).all()
    assert "depth is 3x2 pixels in 'other'" in observation.depth_problem


def test_a_message_that_cannot_be_read_tells_everybody_and_is_let_go():
    def read(msg):
        raise ValueError('its buffer ends half way')

    arrived = Arrived(image_to_msg(RGB, 'rgb8', header(0)), read)
    gone = weakref.ref(arrived)
    for _ in range(2):
        with pytest.raises(ValueError, match='half way'):
            arrived.value()
    gc.disable()  # which would only come by after many megabytes
    try:
        del arrived
        assert gone() is None
    finally:
        gc.enable()
