"""What is evaluated over a bag is what the node finds when the bag is played to it."""

import os
from pathlib import Path
import subprocess
import sys

from perception_nodes.conversions.decode import detections_from_msg, stamp_ns_from_msg
from perception_nodes.evaluation.evaluate_bag import BagTask, evaluate_bag
from perception_nodes.evaluation.parameter_sets import read_parameter_set
from perception_nodes.evaluation.result_hash import content_digest, lockstep_hash
import pytest
from vision_msgs.msg import Detection2DArray

pytestmark = [pytest.mark.graph, pytest.mark.data]

IMAGE, RESULTS = '/camera/color/image_raw', '/detection/detections'
PARAMS = 'detection: {ros__parameters: {score_threshold: 0.3, track: true}}\n'


def test_the_node_and_the_evaluation_find_the_same(graph, start_node, data_dir, tmp_path):
    """Boxes, scores, classes and numbers of every frame have one hash."""
    params, bag = tmp_path / 'params.yaml', data_dir / 'bags' / 'dining_room'
    params.write_text(PARAMS)
    node = start_node('detection_node', '--params-file', str(params), '-r', f'image:={IMAGE}')
    found = graph.collect(Detection2DArray, RESULTS, 50)
    graph.wait_for(lambda: graph.node.count_publishers(RESULTS)
                   and graph.node.count_subscribers(IMAGE), 'the node')
    subprocess.run(
        [sys.executable, '-m', 'perception_nodes.cli', 'play', str(bag), '--topics', IMAGE,
         '--pace-by', RESULTS, '--pace-timeout', '60'],
        env=os.environ, check=True, capture_output=True, timeout=400)
    graph.wait_for(lambda: len(found) == 5, 'the results')
    assert node.stop() == 0
    played = lockstep_hash(
        (stamp_ns_from_msg(msg.header.stamp), RESULTS, content_digest(detections_from_msg(msg)))
        for msg in found)
    evaluation = evaluate_bag(BagTask(Path(bag), read_parameter_set(params), 'room'))
    assert sum(len(msg.detections) for msg in found) > 10
    assert evaluation.findings.values['detection_detections_hash'] == played
