"""Grasp networks as nodes load them: by name, from ONNX files, refused when they are others."""

import hashlib
import math
from pathlib import Path
import sys

import numpy as np
from perception_nodes.backends.grasp_planner import make_planner
from perception_nodes.backends.onnxruntime_grasping import summits
from perception_nodes.core.grasp_patches import FEATURES
from perception_nodes.core.grasping import GraspParams
import pytest
import yaml

torch = pytest.importorskip('torch', reason='torch is not installed')
pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
pytest.importorskip('mujoco', reason='mujoco is not installed: labels come from the simulator')
pytestmark = pytest.mark.slow

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'training'))
from labelled_boxes import labelled_box, WIDTH_M  # noqa: E402
from perception_nodes.backends.networks import grasp as networks  # noqa: E402
from perception_nodes.training.grasp_export import export_batched  # noqa: E402

SHAPES = {
    'GraspScorerNetwork': ({'patches': (3, 2, 32, 32), 'features': (3, FEATURES)}, ('logits',)),
    'GraspCascadeNetwork': ({'coarse': (5, 4, 12, 12), 'fine': (2, 4, 24, 24)},
                            ('small', 'large')),
    'GraspMapNetwork': ({'maps': (1, 3, 64, 48)}, ('grasps',)),
}


def untrained(name):
    torch.manual_seed(4)
    network = getattr(networks, name)().eval()
    if name == 'GraspMapNetwork':
        torch.nn.init.constant_(network.outputs.bias, 0.9)  # opens wider than the box
    return network


def written(folder, name, **changes):
    """Write an untrained network and a manifest that names it, and return the manifest."""
    shapes, outputs = SHAPES[name]
    rng = np.random.default_rng(2)
    file = folder / f'{name}.onnx'
    export_batched(
        untrained(name), {key: rng.standard_normal(shape).astype(np.float32)
                          for key, shape in shapes.items()}, outputs, file,
        (2, 3) if name == 'GraspMapNetwork' else ())
    entry = {'name': 'mine', 'task': 'grasping', 'backend': 'onnxruntime', 'architecture': name,
             'domain': 'simulation', 'file': file.name, 'licence': 'Apache-2.0',
             'sha256': hashlib.sha256(file.read_bytes()).hexdigest(), **changes}
    manifest = folder / 'manifest.yaml'
    manifest.write_text(yaml.safe_dump({'models': [entry]}))
    return str(manifest)


@pytest.fixture(scope='module')
def view():
    return labelled_box(np.random.default_rng(8))


@pytest.mark.parametrize('name', SHAPES)
def test_any_network_can_be_planned_with(tmp_path, view, name):
    """Even an untrained one gives grasps on the box: scores in order, openings that fit."""
    planner = make_planner(GraspParams(), 'mine', written(tmp_path, name), 'cpu')
    found = planner.propose(view.frame, view.context)
    assert len(found) > 0, found.why_none
    assert (np.diff(found.scores) <= 0.0).all()
    assert (found.scores >= 0.0).all() and (found.scores <= 1.0).all()
    assert (found.openings_m <= 0.08 + 1e-6).all()
    centre = view.map_from_grasp[1, :3, 3]
    for pose in view.map_from_camera @ found.camera_from_grasp:
        assert np.linalg.norm(pose[:2, 3] - centre[:2]) < 0.08
        assert 0.003 < pose[2, 3] < 0.06
        assert pose[2, 2] == pytest.approx(-1.0, abs=1e-3)


@pytest.mark.parametrize('model', ['grasp_scorer', 'grasp_cascade', 'grasp_generative'])
def test_shipped_networks_hold_a_box_across_its_width(model):
    """The best grasp is on the box, closes across it and opens wider than it is."""
    planner = make_planner(GraspParams(), model, device='cpu')
    for seed in (1, 2, 3):
        view = labelled_box(np.random.default_rng(seed))
        found = planner.propose(view.frame, view.context)
        assert len(found) > 0, found.why_none
        best = view.map_from_camera @ found.camera_from_grasp[0]
        middle = view.map_from_grasp[1]
        off = np.abs((best[:3, 3] - middle[:3, 3]) @ middle[:3, :2])  # along the box, across it
        assert off[0] < 0.05 and off[1] < 0.012
        assert abs(best[:3, 1] @ middle[:3, 1]) > math.cos(math.radians(25.0))
        assert WIDTH_M < found.openings_m[0] <= 0.08 + 1e-6


@pytest.mark.parametrize('name', SHAPES)
def test_the_file_answers_as_the_network(tmp_path, name):
    """With another number of examples than it was written with."""
    import onnxruntime
    shapes, _ = SHAPES[name]
    written(tmp_path, name)
    session = onnxruntime.InferenceSession(
        str(tmp_path / f'{name}.onnx'), providers=['CPUExecutionProvider'])
    rng = np.random.default_rng(6)
    feed = {key: rng.standard_normal((shape[0] + 4, *shape[1:])).astype(np.float32)
            for key, shape in shapes.items()}
    with torch.inference_mode():
        ours = untrained(name)(*(torch.from_numpy(values) for values in feed.values()))
    for a, b in zip(ours if isinstance(ours, tuple) else (ours,), session.run(None, feed),
                    strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(('changes', 'words'), [
    ({'architecture': 'GraspMapNetwork'}, 'train it again'),
    ({'architecture': 'Sorcery'}, 'choose one of'),
    ({'sha256': 64 * '0'}, 'are not the ones of the manifest'),
    ({'file': 'nowhere.onnx'}, 'are missing'),
])
def test_what_is_not_as_the_manifest_says_is_refused(tmp_path, changes, words):
    manifest = written(tmp_path, 'GraspScorerNetwork', **changes)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        make_planner(GraspParams(), 'mine', manifest, 'cpu')


def test_damaged_weights_are_refused(tmp_path):
    manifest = Path(written(tmp_path, 'GraspScorerNetwork'))
    file = tmp_path / 'GraspScorerNetwork.onnx'
    file.write_bytes(file.read_bytes()[:500])
    entry = yaml.safe_load(manifest.read_text())
    entry['models'][0]['sha256'] = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest.write_text(yaml.safe_dump(entry))
    with pytest.raises(ValueError, match='onnxruntime cannot load'):
        make_planner(GraspParams(), 'mine', str(manifest), 'cpu')


def test_a_model_for_another_task_is_refused():
    with pytest.raises(ValueError, match='a model for grasping is needed'):
        make_planner(GraspParams(), 'sim_scene_detector')


def test_a_scorer_is_no_fallback():
    with pytest.raises(ValueError, match='name one that finds them'):
        make_planner(GraspParams(), device='cpu', fallback_model='grasp_scorer')


def test_summits_are_the_highest_of_their_neighbourhood():
    quality = np.zeros((20, 30), np.float32)
    quality[4, 5], quality[4, 6], quality[15, 20] = 3.0, 2.0, 1.0
    lines, columns = summits(quality, 2)
    assert list(zip(lines.tolist(), columns.tolist(), strict=True)) == [(4, 5), (15, 20)]
