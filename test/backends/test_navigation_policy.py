"""Learned policies in files: what they decide, what they remember, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

onnx = pytest.importorskip('onnx')
torch = pytest.importorskip('torch')
from perception_nodes.backends.networks.navigation import NavigationNetwork  # noqa: E402
from perception_nodes.backends.registry import load_model  # noqa: E402
from perception_nodes.core.navigation import (  # noqa: E402
    NavigationObservation,
    NavigationParams,
)
from perception_nodes.core.navigation_rules import (  # noqa: E402
    commands_of,
    innate_actions,
    policy_input,
)
from perception_nodes.core.types import VelocityCommand  # noqa: E402
from perception_nodes.training.navigation_export import export_policy  # noqa: E402

PARAMS = NavigationParams(sectors=12)
LIMITS = PARAMS.limits


def observed(ranges_m=5.0, bearing=0.3, params=PARAMS):
    ranges = np.full((1, params.sectors), ranges_m, np.float32)
    return NavigationObservation(
        ranges, params.reach_m, 4.0, bearing, VelocityCommand(0.2, -0.1), params.footprint,
        params.limits, np.empty((0, 2)), (0.0, 0.0, 0.0))


@pytest.fixture(params=[False, True], ids=['alone', 'correcting'])
def exported(request, tmp_path):
    """Return a small network and its file."""
    torch.manual_seed(7)
    network = NavigationNetwork(12, 5.0, innate=request.param, memory=16)
    with torch.no_grad():
        network.action.weight.mul_(20.0)
    file = tmp_path / 'policy.onnx'
    assert export_policy(network, 100.0, file) < 1e-3
    return network, file


def load(file, make_entry):
    return load_model(make_entry(file, 'onnxruntime', task='navigation'), 'cpu')


def test_the_file_decides_as_the_network_does(exported, make_entry):
    """Over a sequence, with memory and last action handed on."""
    network, file = exported
    policy = load(file, make_entry)
    rng = np.random.default_rng(2)
    state, hidden, last = None, torch.zeros(1, 16), np.zeros((1, 2), np.float32)
    for _ in range(20):
        observation = observed(rng.uniform(0.2, 5.0), rng.uniform(-3.0, 3.0))
        command, state = policy.act(observation, state)
        inputs = policy_input(observation.vector()[None], last, 5.0, network.innate)
        with torch.inference_mode():
            action, hidden = network(torch.from_numpy(inputs), hidden)
        last = action.numpy()
        v, w = commands_of(last.astype(np.float64), LIMITS)[0]
        assert command.linear_mps == pytest.approx(v, abs=2e-3)
        assert command.angular_rps == pytest.approx(w, abs=2e-3)
        assert -LIMITS.back_mps <= command.linear_mps <= LIMITS.ahead_mps
        assert abs(command.angular_rps) <= LIMITS.turn_rps


def test_it_remembers_and_forgets(exported, make_entry):
    policy = load(exported[1], make_entry)
    first, state = policy.act(observed(), None)
    second, _ = policy.act(observed(), state)
    assert second != first
    assert policy.act(observed(), None)[0] == first


def test_other_robots_are_refused(exported, make_entry):
    policy = load(exported[1], make_entry)
    policy.check(PARAMS)
    for other in ({'sectors': 60}, {'reach_m': 4.0}, {'stacked_scans': 2}, {'decision_ms': 50.0}):
        with pytest.raises(ValueError, match='the policy was trained with'):
            policy.check(replace(PARAMS, **other))


def test_damaged_and_foreign_files_are_a_sentence(exported, make_entry, tmp_path):
    file = tmp_path / 'broken.onnx'
    file.write_bytes(exported[1].read_bytes()[:2000])
    with pytest.raises(ValueError, match=r'broken\.onnx'):
        load(file, make_entry)
    model = onnx.load(str(exported[1]))
    onnx.helper.set_model_props(model, {'navigation': '{"sectors": 12}'})
    onnx.save(model, str(file))
    with pytest.raises(ValueError, match='is no navigation policy'):
        load(file, make_entry)
    onnx.helper.set_model_props(model, {
        'navigation': '{"sectors": 15, "reach_m": 5, "period_ms": 100, "innate": false, '
                      '"memory": 16}'})
    onnx.save(model, str(file))
    with pytest.raises(ValueError, match='is no navigation policy'):
        load(file, make_entry)


def test_the_innate_rule():
    """It drives at the goal where nothing is, turns away from a post, and stops at a wall."""
    params = NavigationParams(sectors=120)

    def action(ranges, bearing=0.0):
        one = observed(params=params, bearing=bearing)
        return innate_actions(replace(one, ranges_m=ranges[None]).vector()[None], 5.0)[0]

    free = np.full(120, 5.0, np.float32)
    assert action(free) == pytest.approx([1.0, 0.0], abs=1e-5)
    assert action(free, bearing=0.5)[1] == pytest.approx(0.5)  # 2 rad/s for each radian, of 2
    post = free.copy()
    post[60:66] = 0.6  # to the left
    assert action(post)[1] < -0.01
    wall = free.copy()
    angles = (np.arange(120) + 0.5) / 120 * 2.0 * np.pi - np.pi
    ahead = np.abs(angles) < 1.2
    wall[ahead] = 0.3 / np.cos(angles[ahead])
    standing = 2.0 * params.max_reverse_mps / (params.max_linear_mps + params.max_reverse_mps) - 1
    assert action(wall)[0] == pytest.approx(standing, abs=0.15)
    unseen = np.full(120, np.nan, np.float32)
    assert np.isfinite(action(unseen)).all()
