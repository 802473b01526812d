"""The classification node over a real graph: whole images, and the boxes of a detector."""

import cv2
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from perception_nodes.conversions.decode import stamp_ns_from_msg
from perception_nodes.conversions.encode import (
    detections_to_msg,
    header_to_msg,
    image_to_msg,
)
from perception_nodes.core.types import Detections
from perception_nodes.ros.inference_node import LATCHED
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification, Detection2DArray, LabelInfo

pytestmark = pytest.mark.graph

FRAME_ID = 'camera_color_optical_frame'
RED, GREEN, BLUE = '0', '1', '2'


@pytest.fixture
def colours(colour_classifier):
    """Return the arguments for a classifier that tells red, green and blue apart."""
    return '-p', f'manifest:={colour_classifier}', '-p', 'model:=colours'


def picture(stamp_ns):
    """Return an image that is blue, with a red square in it."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :, 2] = 200
    pixels[10:30, 20:40] = (200, 0, 0)
    return image_to_msg(pixels, 'rgb8', header_to_msg(stamp_ns, FRAME_ID))


def publish_until(graph, arrived, *pairs):
    """Publish best-effort input with a new stamp each time, until it has an effect."""
    for attempt in range(1, 120):
        for publisher, msg in pairs:
            msg.header.stamp.sec = attempt
            publisher.publish(msg)
        try:
            return graph.wait_for(arrived, 'an effect', 0.5)
        except AssertionError:
            continue
    raise AssertionError('120 messages had no effect')


def best(results):
    """Return class ids and scores of a list of hypotheses."""
    return [h.class_id for h in results], [h.score for h in results]


def test_an_image_gets_its_best_classes_under_its_own_header(graph, start_node, colours):
    """Mostly blue: the exact softmax, best first; labels say what the ids are."""
    start_node('classification_node', *colours, '-p', 'max_classes:=2',
               '-p', 'score_threshold:=0.01')
    answers = graph.collect(Classification, '/classification/classification')
    labels = graph.collect(LabelInfo, '/classification/label_info', LATCHED)
    publisher = graph.publisher(Image, '/image', qos_profile_sensor_data)
    publish_until(graph, lambda: answers and labels, (publisher, picture(7)))
    answer = answers[0]
    assert answer.header.frame_id == FRAME_ID
    assert answer.header.stamp.nanosec == 7
    ids, scores = best(answer.results)
    assert ids == [BLUE, RED]
    share = 400 / (48 * 64)
    powers = np.exp(4 * np.array([1 - share, share, 0]))
    assert scores == pytest.approx((powers / powers.sum())[:2], abs=0.02)
    assert {c.class_id: c.class_name for c in labels[0].class_map} == {
        0: 'red', 1: 'green', 2: 'blue'}
    assert labels[0].threshold == pytest.approx(0.01)


def test_boxes_of_a_detector_get_classes_and_keep_their_ids(graph, start_node, colours):
    """Whichever comes first, boxes or image; a box outside the image gets no class."""
    node = start_node('classification_node', *colours, '-p', 'crops:=detections',
                      '-p', 'crop_margin:=0.0', '-p', 'max_classes:=1')
    answers = graph.collect(Detection2DArray, '/classification/detections')
    images = graph.publisher(Image, '/image', qos_profile_sensor_data)
    boxes = graph.publisher(Detection2DArray, '/detections')
    found = detections_to_msg(Detections(
        np.array([[20, 10, 40, 30], [42, 0, 62, 20], [70, 0, 90, 20]], np.float32),
        np.full(3, 0.9, np.float32), np.array([5, 6, 7]), np.array([31, 32, 33])),
        header_to_msg(9, FRAME_ID))
    for order in ((boxes, found), (images, picture(9))), ((images, picture(9)), (boxes, found)):
        answers.clear()
        publish_until(graph, lambda: answers, *order)
        answer = answers[-1]
        assert (answer.header.frame_id, answer.header.stamp.nanosec) == (FRAME_ID, 9)
        assert [d.id for d in answer.detections] == ['31', '32', '33']
        assert [d.bbox for d in answer.detections] == [d.bbox for d in found.detections]
        assert [[r.hypothesis.class_id for r in d.results] for d in answer.detections] == [
            [RED], [BLUE], []]
    # under stamps of its own: answers to what was published before may still come
    empty = Detection2DArray(header=header_to_msg(8, FRAME_ID))
    publish_until(graph, lambda: any(a.header.stamp.nanosec == 8 for a in answers),
                  (images, picture(8)), (boxes, empty))
    assert all(a.detections == [] for a in answers if a.header.stamp.nanosec == 8)
    assert node.running


def test_boxes_belong_to_the_image_of_their_stamp(graph, start_node, colours):
    """A detector is late: what it found is looked for in the image it saw, not in the newest."""
    start_node('classification_node', *colours, '-p', 'crops:=detections',
               '-p', 'crop_margin:=0.0')
    answers = graph.collect(Detection2DArray, '/classification/detections')
    images = graph.publisher(Image, '/image', qos_profile_sensor_data)
    boxes = graph.publisher(Detection2DArray, '/detections')
    found = detections_to_msg(Detections(
        np.array([[20, 10, 40, 30]], np.float32), np.ones(1, np.float32), np.array([5])),
        header_to_msg(0, FRAME_ID))
    green = np.zeros((48, 64, 3), np.uint8)
    green[:, :, 1] = 200
    for second in range(1, 480, 4):
        found.header.stamp.sec = second
        images.publish(picture(second * 10**9))
        for later in (1, 2, 3):
            images.publish(image_to_msg(
                green, 'rgb8', header_to_msg((second + later) * 10**9, FRAME_ID)))
        boxes.publish(found)
        try:
            graph.wait_for(lambda: answers, 'an answer', 0.5)
            break
        except AssertionError:
            continue
    answer = answers[0]
    assert stamp_ns_from_msg(answer.header.stamp) % (4 * 10**9) == 10**9
    assert answer.detections[0].results[0].hypothesis.class_id == RED


def test_boxes_that_never_come_are_missed_aloud(graph, start_node, colours):
    """Images alone are dropped, and the status says for what they waited."""
    start_node('classification_node', *colours, '-p', 'crops:=detections',
               '-r', 'detections:=/detector/detections')
    arrays = graph.collect(DiagnosticArray, '/diagnostics')
    images = graph.publisher(Image, '/image', qos_profile_sensor_data)
    sentence = "nothing on '/detector/detections' has the stamp of one of the last 30 frames"

    def told():
        images.publish(picture(told.stamp_ns))
        told.stamp_ns += 10**8
        return any(sentence in s.message for a in arrays for s in a.status)

    told.stamp_ns = 0
    graph.wait_for(told, 'the sentence')
    values = {v.key: int(v.value) for s in arrays[-1].status for v in s.values
              if v.key in ('received', 'dropped_no_detections')}
    assert 0 < values['dropped_no_detections'] < values['received']


def test_weights_that_were_not_fetched_are_named_with_the_command(
        graph, start_node, tmp_path, monkeypatch):
    """The default model is torchvision's, which nothing downloads unasked."""
    monkeypatch.setenv('PERCEPTION_NODES_MODELS', str(tmp_path))
    node = start_node('classification_node')
    graph.wait_for(
        lambda: 'get them with: perception fetch-model mobilenet_v3_small' in node.output,
        'the command')
    assert node.running


@pytest.mark.data
def test_behind_a_detector_in_one_process(graph, start_node, colours, data_dir):
    """A cat is found, and its box comes again with the classifier's answer for its pixels."""
    own = [part.replace('manifest:=', 'classification:manifest:=').replace(
        'model:=', 'classification:model:=') for part in colours]
    start_node(
        'ros.container', '-p', "nodes:=['detection', 'classification']", *own,
        '-p', 'classification:crops:=detections', '-p', 'classification:score_threshold:=0.0',
        '-r', 'detections:=/detection/detections')
    found = graph.collect(Detection2DArray, '/detection/detections')
    answers = graph.collect(Detection2DArray, '/classification/detections')
    images = graph.publisher(Image, '/image', qos_profile_sensor_data)
    picture = cv2.imread(str(data_dir / 'images' / 'chelsea.png'))
    msg = image_to_msg(picture, 'bgr8', header_to_msg(5, FRAME_ID))
    publish_until(graph, lambda: answers, (images, msg))
    answer = answers[0]
    cats = graph.wait_for(
        lambda: next((f for f in found if f.header == answer.header), None), 'the same boxes')
    assert [d.bbox for d in answer.detections] == [d.bbox for d in cats.detections]
    assert cats.detections[0].results[0].hypothesis.class_id == '17'
    ids, scores = best([r.hypothesis for r in answer.detections[0].results])
    assert sorted(ids) == [RED, GREEN, BLUE]
    assert ids[0] == RED  # the cat's fur is ginger
    assert sum(scores) == pytest.approx(1.0)
