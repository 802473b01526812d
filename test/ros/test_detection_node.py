"""The detection node over a real graph: what it publishes, and what it survives."""

import signal
import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from perception_nodes.conversions.decode import rgb_from_msg
from perception_nodes.conversions.encode import header_to_msg, image_to_msg
from perception_nodes.core.share import share_file
from perception_nodes.ros.inference_node import LATCHED
import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import String
from vision_msgs.msg import Detection2DArray, LabelInfo

pytestmark = pytest.mark.graph

FRAME_ID = 'camera_color_optical_frame'
GREY = np.full((48, 64, 3), 127, np.uint8)


@pytest.fixture
def detections(graph):
    """Collect what the node detects."""
    return graph.collect(Detection2DArray, '/detection/detections')


@pytest.fixture
def statuses(graph):
    """Collect what the node says about itself."""
    arrays = graph.collect(DiagnosticArray, '/diagnostics')

    class Statuses:
        """The node's statuses, newest last."""

        def waits_for(self, text, timeout_s=60.0):
            """Return the first status whose message contains ``text``."""
            return graph.wait_for(
                lambda: next((s for a in arrays for s in a.status if text in s.message), None),
                f'{text!r} in the diagnostics', timeout_s)

        def values_after_a_result(self):
            """Return the newest values, once a frame was processed."""
            values = {v.key: v.value for a in arrays for s in a.status for v in s.values}
            return values if values.get('processed', '0') != '0' else {}

    return Statuses()


def publish_until(graph, publisher, msg, arrived):
    """Publish best-effort input until it has an effect, each time with a new stamp."""
    for _ in range(120):
        msg.header.stamp.sec += 1
        publisher.publish(msg)
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            if arrived():
                return
            time.sleep(0.01)
    raise AssertionError(f'120 messages on {publisher.topic} had no effect')


def change_state(graph, transition):
    """Ask the node for a lifecycle transition."""
    request = ChangeState.Request(transition=Transition(id=transition))
    return graph.call(ChangeState, '/detection/change_state', request).success


def set_parameter(graph, name, value):
    """Set a parameter from outside and return the node's answer."""
    kind = {float: (ParameterType.PARAMETER_DOUBLE, 'double_value'),
            str: (ParameterType.PARAMETER_STRING, 'string_value'),
            list: (ParameterType.PARAMETER_STRING_ARRAY, 'string_array_value')}[type(value)]
    wire = ParameterValue(type=kind[0], **{kind[1]: value})
    request = SetParameters.Request(parameters=[Parameter(name=name, value=wire)])
    return graph.call(SetParameters, '/detection/set_parameters', request).results[0]


@pytest.mark.data
def test_a_cat_is_detected_under_the_pictures_own_header(
        graph, start_node, detections, statuses, data_dir):
    """Image in, the right box out: content, header, labels and debug image."""
    picture = cv2.imread(str(data_dir / 'images' / 'chelsea.png'))
    start_node('detection_node')
    labels = graph.collect(LabelInfo, '/detection/label_info', LATCHED)
    debug = graph.collect(Image, '/detection/debug_image')
    publisher = graph.publisher(Image, '/image', qos_profile_sensor_data)
    msg = image_to_msg(picture, 'bgr8', header_to_msg(1_700_000_000_000_000_007, FRAME_ID))
    publish_until(graph, publisher, msg, lambda: detections and debug and labels)
    found = detections[0]
    assert found.header.frame_id == FRAME_ID
    assert found.header.stamp.nanosec == 7
    assert found.header.stamp.sec > 1_700_000_000
    best = found.detections[0]
    names = {c.class_id: c.class_name for c in labels[0].class_map}
    assert names[int(best.results[0].hypothesis.class_id)] == 'cat'
    assert best.results[0].hypothesis.score > 0.8
    assert (best.bbox.center.position.x, best.bbox.center.position.y) == pytest.approx(
        (200, 150), abs=15)
    drawn = rgb_from_msg(debug[0])
    original = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    changed = (drawn != original).any(axis=2)
    assert 0.005 < changed.mean() < 0.2
    assert not changed[60:120, 150:250].any()
    values = graph.wait_for(statuses.values_after_a_result, 'figures in the diagnostics')
    assert {'age_p50_ms', 'age_p95_ms', 'age_p99_ms', 'rate_hz', 'failed'} <= values.keys()


def test_bad_images_are_counted_and_explained_and_the_node_lives(
        graph, start_node, detections, statuses):
    """Wrong encoding, no pixels, a short buffer: a sentence each, then work goes on."""
    node = start_node('detection_node')
    publisher = graph.publisher(Image, '/image', qos_profile_sensor_data)
    for change, sentence in (
            ({'encoding': 'nv21'}, "encoding 'nv21'; supported are rgb8"),
            ({'height': 0}, 'image is 64x0 pixels'),
            ({'height': 480}, 'image buffer holds 9216 bytes; 64x480')):
        bad = image_to_msg(GREY, 'rgb8', header_to_msg(0, FRAME_ID))
        for name, value in change.items():
            setattr(bad, name, value)
        publish_until(graph, publisher, bad, lambda s=sentence: s in node.output)
        statuses.waits_for(sentence)
    assert detections == []
    good = image_to_msg(GREY, 'rgb8', header_to_msg(0, FRAME_ID))
    publish_until(graph, publisher, good, lambda: detections)
    assert detections[0].detections == []


def test_a_missing_model_leaves_a_node_that_can_be_configured_again(
        graph, start_node, statuses):
    """The sentence lists what there is; with the right name the same node starts."""
    node = start_node('detection_node', '-p', 'model:=coco_ssdlite')
    status = statuses.waits_for("did you mean 'coco_ssdlite_mobilenet_v2'?")
    assert status.level == b'\x02'
    assert not change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert set_parameter(graph, 'model', 'coco_ssdlite_mobilenet_v2').successful
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    assert node.running


def test_poisoned_weights_are_refused(start_node, statuses, tmp_path):
    """A file that is not the one of the manifest is never opened by the runtime."""
    shipped = share_file('models/manifest.yaml').read_text()
    (tmp_path / 'manifest.yaml').write_text(shipped)
    file = 'coco_ssdlite_mobilenet_v2_300_fp16.onnx'
    poisoned = bytearray(share_file(f'models/{file}').read_bytes())
    poisoned[len(poisoned) // 2] ^= 0xFF
    (tmp_path / file).write_bytes(poisoned)
    start_node('detection_node', '-p', f'manifest:={tmp_path}/manifest.yaml')
    status = statuses.waits_for('cannot configure')
    assert "weights of model 'coco_ssdlite_mobilenet_v2' are not the ones" in status.message


@pytest.mark.parametrize(('argument', 'sentence'), [
    ('score_threshold:=1.5', "cannot configure: parameter 'score_threshold' is 1.5; it must be"),
    ('device:=gpu', "cannot configure: device is 'gpu'; it must be 'auto', 'cpu', 'cuda:N'"),
    ('half_precision:=true', 'half'),
    ('max_detections:=many', "parameter 'max_detections' is 'many', of type str"),
])
def test_wrong_parameters_are_explained(start_node, statuses, argument, sentence):
    """A wrong value or type at start is said, and the node waits for a better one."""
    start_node('detection_node', '-p', argument)
    statuses.waits_for(sentence)


def test_unknown_parameters_are_pointed_out(start_node, statuses):
    """A misspelt name is answered with the nearest one."""
    start_node('detection_node', '-p', 'score_treshold:=0.3')
    statuses.waits_for("no parameter 'score_treshold'; did you mean 'score_threshold'?")


def test_parameters_while_running(graph, start_node):
    """Thresholds change at once, the model only through cleanup; wrong values are refused."""
    start_node('detection_node', '-p', 'score_threshold:=1', '-p', 'classes:=[]')
    labels = graph.collect(LabelInfo, '/detection/label_info', LATCHED)
    graph.wait_for(lambda: labels, 'the labels')
    assert labels[-1].threshold == 1.0
    assert set_parameter(graph, 'score_threshold', 0.25).successful
    graph.wait_for(lambda: labels[-1].threshold == 0.25, 'the new threshold')
    answer = set_parameter(graph, 'score_threshold', -1.0)
    assert not answer.successful
    answer = set_parameter(graph, 'model', 'other')
    assert not answer.successful
    assert 'deactivate and clean up the node first' in answer.reason
    assert set_parameter(graph, 'classes', ['cat', 'dog']).successful
    answer = set_parameter(graph, 'classes', ['kat'])
    assert not answer.successful
    assert "class 'kat', which the model does not know; did you mean 'cat'" in answer.reason


def test_silence_is_explained(graph, start_node, statuses):
    """No publisher, then one of another type: both are said by the topic's name."""
    start_node('detection_node', '-r', 'image:=/camera/image')
    statuses.waits_for("nothing arrives on '/camera/image': no node publishes it")
    graph.publisher(String, '/camera/image', matched=False)
    statuses.waits_for('it carries std_msgs/msg/String, not sensor_msgs/msg/Image')


def test_lifecycle_round_trip_and_wrong_transition(graph, start_node, detections):
    """Deactivated it is silent, cleaned up it starts again, nonsense does not end it."""
    node = start_node('detection_node')
    publisher = graph.publisher(Image, '/image', qos_profile_sensor_data)
    msg = image_to_msg(GREY, 'rgb8', header_to_msg(0, FRAME_ID))
    publish_until(graph, publisher, msg, lambda: detections)
    assert change_state(graph, Transition.TRANSITION_DEACTIVATE)
    graph.wait_for(lambda: not publisher.get_subscription_count(), 'the node to unsubscribe')
    assert change_state(graph, Transition.TRANSITION_CLEANUP)
    assert not change_state(graph, Transition.TRANSITION_DEACTIVATE)
    graph.wait_for(
        lambda: "no transition 4 from state 'unconfigured'" in node.output, 'the complaint')
    state = graph.call(GetState, '/detection/get_state', GetState.Request())
    assert state.current_state.label == 'unconfigured'
    assert change_state(graph, Transition.TRANSITION_CONFIGURE)
    assert change_state(graph, Transition.TRANSITION_ACTIVATE)
    seen = len(detections)
    publish_until(graph, publisher, msg, lambda: len(detections) > seen)


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_exits_cleanly(graph, start_node, how):
    """Exit code 0 and no traceback, with frames coming in."""
    node = start_node('detection_node')
    publisher = graph.publisher(Image, '/image', qos_profile_sensor_data)
    publisher.publish(image_to_msg(GREY, 'rgb8', header_to_msg(0, FRAME_ID)))
    assert node.stop(how) == 0
    assert 'Traceback' not in node.output
