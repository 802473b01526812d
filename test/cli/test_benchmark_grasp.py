"""The benchmark of grasps writes every figure by its name."""

import json

from perception_nodes.cli.main import main
import pytest

pytest.importorskip('mujoco')


@pytest.mark.slow
def test_one_round_of_each_kind(tmp_path):
    file = tmp_path / 'grasp.json'
    assert main(['benchmark', 'grasp', '--rounds', '1', '--seed', '7', '--out', str(file)]) == 0
    found = json.loads(file.read_text())
    for kind in ('packed', 'pile'):
        for name in ('success', 'cleared'):
            for end in ('', '_ci_low', '_ci_high'):
                for proposer in ('', 'geometry_', 'cascade_', 'generative_'):
                    assert 0.0 <= found[f'{proposer}{kind}_{name}{end}'] <= 1.0
            gain = found[f'{kind}_{name}'] - found[f'geometry_{kind}_{name}']
            assert found[f'{kind}_{name}_gain'] == pytest.approx(gain)
    assert found['plan_cpu_ms'] > 0.0
    assert (found['rounds'], found['n'], found['seed']) == (1, 1, 7)
