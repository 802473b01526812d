"""The pages of two real recordings, which have no ground truth."""

import json

from perception_nodes.cli.main import main
import pytest

# with nothing compiled yet, grasp planning alone takes a minute of a busy machine
pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(600)]

PARAMS = """
detection: {ros__parameters: {score_threshold: 0.3, boxes_3d: depth, target_frame: odom}}
obstacle_map: {ros__parameters: {base_frame: ''}}
"""


def evaluate(bag, out, *flags):
    assert main(['evaluate', str(bag), '--out', str(out), *flags]) == 0
    return json.loads((out / 'evaluation.json').read_text()), (out / 'report.html').read_text()


def test_a_dining_room(data_dir, tmp_path):
    """Every frame has boxes, boxes in space and a map; the second run finds the same."""
    (tmp_path / 'room.yaml').write_text(PARAMS)
    bag, flags = data_dir / 'bags' / 'dining_room', ('--params', str(tmp_path / 'room.yaml'))
    figures, page = evaluate(bag, tmp_path / 'a', *flags)
    assert figures['frames'] == 5
    assert figures['detection_processed'] == figures['obstacle_map_processed'] == 5
    assert figures['detection_boxes_per_frame'] > 2.0
    assert figures['detection_boxes_with_3d'] > 0.8
    assert figures['detection_box_2d_3d_iou_p50'] > 0.3
    assert not any(name.endswith('AP50') for name in figures)
    for words in ('Milliseconds per frame', 'does it agree with itself?', 'obstacle map',
                  'depth', 'Moments spread over the bag'):
        assert words in page
    assert page.count('data:image/jpeg') >= 15
    again, _ = evaluate(bag, tmp_path / 'b', *flags)
    assert again['lockstep_hash'] == figures['lockstep_hash']


def test_a_table_top(data_dir, tmp_path):
    """Compressed colour is found by itself, and grasps are planned without any transform."""
    figures, page = evaluate(
        data_dir / 'bags' / 'tabletop', tmp_path / 'out', '--nodes', 'detection', 'grasp')
    assert figures['frames'] == 4
    assert figures['detection_processed'] == figures['grasp_processed'] == 4
    assert figures['detection_boxes_per_frame'] >= 0.5
    assert '<b>grasps</b>' in page
