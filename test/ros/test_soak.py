"""A short soak: much goes wrong once, and comes back."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.graph, pytest.mark.slow, pytest.mark.timeout(900)]

FAULTS = ('frames_truncated', 'transforms_lost', 'time_back', 'disk_full')


def test_what_is_spoilt_comes_back_and_nobody_crashes(tmp_path):
    """The kill is left to `make soak`: a node takes its time to start again."""
    out = tmp_path / 'soak.json'
    done = subprocess.run(
        [sys.executable, '-m', 'perception_nodes.cli', 'soak', '--minutes', '0.01', '--faults',
         *FAULTS, '--out', str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert (figures['crashes'], figures['not_recovered'], figures['faults']) == (
        0, 0, len(FAULTS))
    for fault in FAULTS:
        assert 0.0 < figures[f'recovery_{fault}_s_p50'] <= figures[f'recovery_{fault}_s_p100']
        assert fault in done.stdout
    assert figures['bag_messages_at_full_disk_min'] > 0
    assert all(figures[f'results_{name}'] > 0 for name in (
        'detection_detections', 'detection_detections_3d', 'obstacle_map_map'))
    assert figures['rss_own_mb_begin'] > 10.0
    assert done.stdout.endswith('no node crashed\n')
