"""The counting node over a real graph: numbered boxes in, latched counts out."""

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
from perception_nodes.conversions.encode import (
    detections_to_msg,
    header_to_msg,
    label_info_to_msg,
)
from perception_nodes.core.types import Detections
from perception_nodes.ros.lifecycle_node import LATCHED
import pytest
from vision_msgs.msg import Detection2DArray, LabelInfo

pytestmark = pytest.mark.graph

PATIENCE_S = 60.0
PERSON = 4


def walker(y, stamp_ns, object_id):
    """Return a person whose feet are at height ``y``, with or without a number."""
    return detections_to_msg(Detections(
        np.array([[80, y - 90, 120, y]], np.float32), np.ones(1, np.float32),
        np.array([PERSON]), None if object_id is None else np.array([object_id])),
        header_to_msg(stamp_ns, 'camera'))


def values(status):
    return {v.key: v.value for v in status.values}


def test_crossings_are_counted_and_boxes_without_numbers_refused(graph, start_node):
    """What is missing is said; counts come when they change, and once more to who comes late."""
    node = start_node('counting_node', '-p', 'line:=[0.0, 100.0, 200.0, 100.0]')
    arrays = graph.collect(DiagnosticArray, '/diagnostics')
    counts = graph.collect(DiagnosticStatus, '/counting/counts', LATCHED)
    boxes = graph.publisher(Detection2DArray, '/detections')

    def status(text):
        return next((s for a in reversed(arrays) for s in a.status if text in s.message), None)

    stamp_ns, number = 0, 0

    def walk(*heights, numbered=True):
        """Lead one more person along heights."""
        nonlocal stamp_ns, number
        number += 1
        for y in heights:
            stamp_ns += 10**8
            boxes.publish(walker(y, stamp_ns, number if numbered else None))

    def after(condition, *heights, numbered=True):
        """Let persons walk, one after the other, until it has an effect: messages may be lost."""
        def walked():
            walk(*heights, numbered=numbered)
            return condition()
        return graph.wait_for(walked, 'an effect of boxes', PATIENCE_S)

    refused = after(lambda: status('set track to true'), 50, numbered=False)
    assert int(values(refused)['dropped_no_id']) >= 1
    after(lambda: status("counted, but not published: no class names have come on '/label_info'"),
          20)
    assert counts == []
    graph.publisher(LabelInfo, '/label_info', LATCHED).publish(
        label_info_to_msg({PERSON: 'person'}, 0.5, header_to_msg(0, '')))
    after(lambda: counts and int(values(counts[-1]).get('person/in', '0')), 50, 150)
    after(lambda: int(values(counts[-1])['person/out']), 150, 50)
    assert counts[-1].name == '/counting'
    assert set(values(counts[-1])) == {'person/in', 'person/out'}
    late = graph.collect(DiagnosticStatus, '/counting/counts', LATCHED)
    # the last walkers may still be under way
    graph.wait_for(lambda: late and values(late[-1]) == values(counts[-1]), 'latched counts',
                   PATIENCE_S)
    told = [values(c) for c in counts]
    after(lambda: status('has the box [100.0, nan, 40.0, nan]'), np.nan)
    after(lambda: counts and int(values(counts[-1])['person/in']) > int(told[-1]['person/in']),
          50, 150)
    assert all(one != other for one, other in zip(told, told[1:], strict=False))
    assert node.running


def test_without_a_border_the_node_says_what_to_set(graph, start_node):
    node = start_node('counting_node')
    arrays = graph.collect(DiagnosticArray, '/diagnostics')
    graph.wait_for(
        lambda: any("cannot configure: set either 'line' or 'zone'" in s.message
                    for a in arrays for s in a.status), 'the reason', PATIENCE_S)
    assert node.running
