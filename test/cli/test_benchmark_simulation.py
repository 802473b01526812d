"""The benchmark writes every figure by its name, with and without OpenGL."""

import json

from perception_nodes.cli import benchmark_simulation
from perception_nodes.cli.main import main
from perception_nodes.sim.rendering import Egl
import pytest


@pytest.mark.graph
def test_figures_without_opengl(tmp_path, monkeypatch):
    """What cannot be measured is null; everything else is a positive number."""
    monkeypatch.setattr(benchmark_simulation, 'probe_egl', lambda: Egl(False, 'no libEGL.so.1'))
    file = tmp_path / 'simulation.json'
    assert main(['benchmark', 'simulation', '--scenes', '1', '--seconds', '1',
                 '--out', str(file)]) == 0
    found = json.loads(file.read_text())
    assert found['egl_rgb_ms'] is found['egl_depth_ms'] is found['egl_masks_ms'] is None
    for name in ('real_time_factor', 'cpu_cores', 'ray_all_ms', 'physics_real_time_factor'):
        assert found[name] > 0.0
    assert (found['n'], found['seed'], found['egl_device']) == (1, 0, 'no libEGL.so.1')
