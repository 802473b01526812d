"""Anonymised images over a real graph and in recordings: what was not looked through stays out."""

import cv2
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from perception_nodes.cli.concealment import Concealer
from perception_nodes.cli.recorder import Recorder
from perception_nodes.conversions.decode import (
    rgb_from_compressed_msg,
    rgb_from_msg,
    samples_from_msg,
)
from perception_nodes.conversions.encode import header_to_msg, image_to_msg, points_to_msg
from perception_nodes.core.anonymisation import AnonymisationParams
from perception_nodes.evaluation.bag import Bag
from perception_nodes.ros.session import Session
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import String
from vision_msgs.msg import Detection2DArray
from visualization_msgs.msg import MarkerArray

pytestmark = pytest.mark.graph

PATIENCE_S = 60.0
SIZE = (96, 128)
# of the detector with one fixed box: rows 24 to 72, columns 32 to 64, grown by 15 %
REGION = np.zeros(SIZE, bool)
REGION[16:80, 27:69] = True


def noise(high=180, channels=(3,), dtype=np.uint8, seed=0):
    """Return pixels of two values; the detector throws where one is above 199."""
    return np.random.default_rng(seed).choice(np.array([0, high], dtype), (*SIZE, *channels))


def message(pixels, encoding, stamp_ns=1):
    return image_to_msg(pixels, encoding, header_to_msg(stamp_ns, 'camera'))


def assert_hidden(after, before, slack=0):
    """Check every pixel: a mean of many inside the region, what it was outside."""
    inside = after[REGION].astype(int)
    assert ((inside > 40 - slack) & (inside < 140 + slack)).all()
    if not slack:
        np.testing.assert_array_equal(after[~REGION], before[~REGION])


def test_the_node_publishes_only_what_it_has_looked_through(graph, start_node, touchy):
    """Images on which the model fails, or that nobody can read, are counted and stay inside."""
    node = start_node('anonymisation_node', *touchy, '-p', 'classes:=[thing]')
    images = graph.collect(Image, '/anonymisation/image')
    arrays = graph.collect(DiagnosticArray, '/diagnostics')
    publisher = graph.publisher(Image, '/image', qos_profile_sensor_data)
    stamp_ns = 0

    def failed():
        return max((int(v.value) for a in arrays for s in a.status for v in s.values
                    if v.key == 'failed'), default=0)

    def until(pixels, encoding, condition):
        """Publish the same pixels, under stamps that tell the kind, until it has an effect."""
        def published():
            nonlocal stamp_ns
            stamp_ns += 10**7
            msg = message(pixels, 'rgb8', stamp_ns)
            msg.encoding = encoding
            msg.header.frame_id = encoding
            publisher.publish(msg)
            return condition()
        graph.wait_for(published, f'an effect of {encoding}', PATIENCE_S)

    until(noise(), 'rgb8', lambda: len(images) >= 3)
    before = failed()
    until(noise(high=255), 'rgb8', lambda: failed() >= before + 2)
    before = failed()
    until(noise(), 'no_such_encoding', lambda: failed() >= before + 2)
    count = len(images)
    until(noise(), 'rgb8', lambda: len(images) > count)
    service = '/anonymisation/set_parameters'
    for classes, accepted in (['stranger'], False), (['thing'], True):
        request = SetParameters.Request(
            parameters=[Parameter('classes', value=classes).to_parameter_msg()])
        assert graph.call(SetParameters, service, request).results[0].successful == accepted
    for image in images:
        assert image.encoding == 'rgb8'
        assert image.header.frame_id == 'rgb8'
        assert_hidden(rgb_from_msg(image), noise())
    assert node.running


@pytest.fixture
def recording(touchy, tmp_path):
    """Return a function that sends messages, by topic, through a recorder, and opens the bag."""
    params = AnonymisationParams(
        classes=('thing',), model='touchy', manifest=str(tmp_path / 'manifest.yaml'))

    def record(messages, written, *, dropped=0):
        with (Session('camera') as camera, Session('recorder') as session,
              Recorder(session, tmp_path / 'bag', list(messages), 'mcap',
                       Concealer(params)) as recorder):
            publishers = {topic: camera.node.create_publisher(type(m[0]), topic, 20)
                          for topic, m in messages.items()}
            def matched():
                recorder.attend()
                heard = recorder._subscriptions.values()
                return (len(heard) == len(publishers)
                        and all(s.get_publisher_count() for s in heard)
                        and all(p.get_subscription_count() for p in publishers.values()))
            assert session.wait_for(matched, PATIENCE_S)
            for topic, many in messages.items():
                for one in many:
                    publishers[topic].publish(one)  # reliable: all of them arrive
            assert session.wait_for(
                lambda: sum(recorder.counts.values()) == written
                and sum(recorder.withheld.values()) == dropped, PATIENCE_S), (
                    recorder.counts, recorder.withheld)
        with Bag(tmp_path / 'bag') as bag:
            kept = {topic: [m.content for m in bag.messages([topic])] for topic in bag.topics}
        return kept, recorder.withheld

    return record


def test_recorded_images_hold_nobody_in_any_encoding(recording):
    """Raw ones keep their encoding and every pixel outside the region."""
    pictures = {
        '/rgb8': noise(), '/bgr8': noise(seed=1), '/rgba8': noise(channels=(4,)),
        '/bgra8': noise(channels=(4,), seed=1), '/mono8': noise(channels=()),
        '/mono16': noise(180 * 257, (), np.uint16)}
    messages = {topic: [message(pixels, topic[1:])] for topic, pixels in pictures.items()}
    padded = message(noise(seed=2), 'rgb8')
    rows = np.frombuffer(padded.data, np.uint8).reshape(SIZE[0], -1)
    padded.step += 16
    padded.data = np.pad(rows, ((0, 0), (0, 16)), constant_values=7).tobytes()
    pictures['/padded'], messages['/padded'] = noise(seed=2), [padded]
    kept, withheld = recording(messages, len(messages))
    assert not withheld
    for topic, before in pictures.items():
        [msg] = kept[topic]
        assert msg.encoding == messages[topic][0].encoding
        assert msg.header.frame_id == 'camera'
        after = samples_from_msg(msg)
        assert after.shape == before.shape
        if topic == '/mono16':
            after, before = after // 257, before // 257
        assert_hidden(after, before)


def test_recorded_pictures_hold_nobody_either(recording):
    """PNG outside the region as it was; JPEG at least of the same size."""
    grey = np.repeat(noise(channels=())[..., None], 3, axis=2)

    def compressed(suffix, form):
        return CompressedImage(
            format=form, data=cv2.imencode(suffix, grey)[1].tobytes(),
            header=header_to_msg(1, 'camera'))

    kept, withheld = recording({
        '/png/compressed': [compressed('.png', 'rgb8; png compressed bgr8')],
        '/jpeg/compressed': [compressed('.jpg', 'jpeg')]}, 2)
    assert not withheld
    [png], [jpeg] = kept['/png/compressed'], kept['/jpeg/compressed']
    assert_hidden(rgb_from_compressed_msg(png), grey)
    assert bytes(jpeg.data[:2]) == b'\xff\xd8'
    # what is left of the noise outside rings a little into the region
    assert_hidden(rgb_from_compressed_msg(jpeg), grey, slack=30)


def test_what_cannot_be_looked_into_is_not_written(recording, caplog):
    """Where the model fails, the encoding is unknown, the file is cut, or a cloud has colours."""
    unknown = message(noise(), 'rgb8')
    unknown.encoding = 'no_such_encoding'
    jpeg = cv2.imencode('.jpg', noise())[1].tobytes()
    cloud = points_to_msg(np.zeros((5, 3), np.float32), header_to_msg(1, 'camera'))
    coloured = points_to_msg(np.zeros((5, 3), np.float32), header_to_msg(1, 'camera'))
    coloured.fields.append(PointField(name='rgb', offset=0, datatype=7, count=1))
    depth = message(np.arange(96 * 128, dtype=np.uint16).reshape(SIZE), '16UC1')
    metres = message(np.full(SIZE, np.nan, np.float32), '32FC1')
    packed = CompressedImage(
        format='16UC1; compressedDepth png', data=bytes(12) + b'png')
    kept, withheld = recording({
        '/image': [message(noise(high=255), 'rgb8'), unknown, message(noise(), 'rgb8')],
        '/image/compressed': [CompressedImage(format='jpeg', data=jpeg[:100])],
        '/cloud': [coloured, cloud], '/depth': [depth, metres],
        '/depth/compressedDepth': [packed], '/words': [String(data='hello')],
    }, 6, dropped=4)
    assert withheld == {'/image': 2, '/image/compressed': 1, '/cloud': 1}
    [image] = kept['/image']
    assert_hidden(rgb_from_msg(image), noise())
    assert [m.encoding for m in kept['/depth']] == ['16UC1', '32FC1']
    assert bytes(kept['/depth'][0].data) == bytes(depth.data)
    assert bytes(kept['/depth/compressedDepth'][0].data) == bytes(packed.data)
    assert [len(m.fields) for m in kept['/cloud']] == [3]
    assert kept['/words'][0].data == 'hello'
    assert 'leaving out messages of /image that cannot be anonymised' in caplog.text


@pytest.mark.parametrize('field', [
    'sensor_msgs/Image', 'sequence<sensor_msgs/CompressedImage>', 'sequence<sensor_msgs/Image, 4>',
    'sensor_msgs/Image[2]', 'visualization_msgs/Marker'])
def test_pictures_inside_other_messages_are_refused(touchy, tmp_path, field):
    """A marker has a texture; a topic of markers is kept, as that shows no camera's view."""
    concealer = Concealer(AnonymisationParams(
        classes=('thing',), model='touchy', manifest=str(tmp_path / 'manifest.yaml')))

    class Shot:
        @staticmethod
        def get_fields_and_field_types():
            return {'header': 'std_msgs/Header', 'values': 'sequence<double>', 'shot': field}

    with pytest.raises(ValueError, match='robot_msgs/msg/Shot holds pictures that cannot be'):
        concealer.check('robot_msgs/msg/Shot', Shot)
    with pytest.raises(ValueError, match='holds pictures'):
        concealer.check('foxglove_msgs/msg/CompressedVideo', String)
    for kind in (Image, CompressedImage, MarkerArray, Detection2DArray, PointCloud2, String):
        concealer.check(f'{kind.__module__.partition(".")[0]}/msg/{kind.__name__}', kind)
