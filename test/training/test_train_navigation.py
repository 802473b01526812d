"""Learning to drive: what robots show, what a rollout becomes, and that a killed run goes on."""

import json

import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('stable_baselines3')
import gymnasium  # noqa: E402
from perception_nodes.backends.networks.navigation import NavigationNetwork  # noqa: E402
from perception_nodes.backends.registry import load_model  # noqa: E402
from perception_nodes.cli.main import main  # noqa: E402
from perception_nodes.core.manifest import find_model  # noqa: E402
from perception_nodes.core.navigation import NavigationParams  # noqa: E402
from perception_nodes.training import navigation  # noqa: E402
from perception_nodes.training.navigation import (  # noqa: E402
    fit_policy,
    NavigationTraining,
    new_network,
)
from perception_nodes.training.navigation_ppo import (  # noqa: E402
    _pilot,
    CHUNK,
    RecurrentBuffer,
)
from perception_nodes.training.navigation_robots import (  # noqa: E402
    SECRETS,
    TrainingRobots,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROBOT = NavigationParams()
SMALL = NavigationTraining(
    steps=8 * CHUNK * 4, robots=8, rollout=CHUNK, worlds=1, validations=2, validation_worlds=3,
    device='cpu')


@pytest.fixture(autouse=True)
def short_validations(monkeypatch):
    """Let no robot that has learned nothing stand about for a minute."""
    monkeypatch.setattr(navigation, '_VALIDATION_LONGEST_S', 3.0)


@pytest.fixture(scope='module')
def robots():
    return TrainingRobots(8, ROBOT, 1, seed=3, innate=True)


def test_robots_show_what_a_policy_may_see_and_secrets(robots):
    """Before the secrets stand the sensor's vector, the last action and the innate one."""
    before = robots.reset()
    assert before.shape == (8, ROBOT.sectors + 14 + 2 + 2 + SECRETS)
    assert before.dtype == np.float32
    actions = np.tile(np.float32([[0.5, -0.25]]), (8, 1))
    after, rewards, dones, infos = robots.step(actions)
    last = after[~dones, ROBOT.sectors + 14:ROBOT.sectors + 16]
    assert last == pytest.approx(np.tile([[0.5, -0.25]], (len(last), 1)))
    assert rewards.shape == (8,)
    assert all(('outcome' in info) == done for info, done in zip(infos, dones, strict=True))
    way = after[:, -SECRETS + 1:-SECRETS + 3]
    assert np.hypot(*way.T) == pytest.approx(np.ones(8), abs=1e-5)


def test_robots_go_on_where_they_were(robots):
    """From a saved state the same actions lead to the same numbers, through ends of episodes."""
    saved = robots.state()
    rng = np.random.default_rng(5)
    actions = rng.uniform(-1.0, 1.0, (150, 8, 2)).astype(np.float32)
    first = [robots.step(a)[:3] for a in actions]
    robots.set_state(saved)
    for a, (seen, rewards, dones) in zip(actions, first, strict=True):
        again = robots.step(a)
        assert np.array_equal(seen, again[0])
        assert np.array_equal(rewards, again[1])
        assert np.array_equal(dones, again[2])
    assert any(dones.any() for _, _, dones in first)


def test_a_rollout_comes_back_in_sequences():
    """Time runs along each sequence, and what belongs to a later episode does not count."""
    robots, steps = 3, 2 * CHUNK
    box = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    buffer = RecurrentBuffer(steps, box, box, n_envs=robots, gamma=0.9, gae_lambda=1.0)
    buffer.reset()
    for t in range(steps):
        if t % CHUNK == 0:
            buffer.states.append(torch.tensor([[10.0 * t + i] for i in range(robots)]))
        seen = np.array([[t, i] for i in range(robots)], np.float32)
        starts = np.array([t == 0, t == 5, t == CHUNK], np.float32)
        buffer.add(seen, seen, np.ones(robots), starts, torch.zeros(robots), torch.zeros(robots))
    buffer.compute_returns_and_advantage(torch.zeros(robots), np.ones(robots))
    torch.manual_seed(0)
    found = {}
    for batch in buffer.get_sequences(2):
        for k in range(batch.states.shape[0]):
            begun, robot = batch.observations[0, k].tolist()
            found[begun, robot] = batch.valid[:, k].tolist()
            assert batch.observations[:, k, 0].tolist() == list(
                range(int(begun), int(begun) + CHUNK))
            assert batch.states[k].item() == 10.0 * begun + robot
    assert len(found) == 2 * robots
    assert found[0, 1] == [1.0] * 5 + [0.0] * (CHUNK - 5)
    assert all(sum(valid) == CHUNK for key, valid in found.items() if key != (0, 1))


def test_the_pilot_follows_the_way():
    """Ahead he drives fast and straight, aside he stands and turns there."""
    actions = _pilot(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    assert actions[0].tolist() == pytest.approx([0.95, 0.0])
    assert actions[1].tolist() == pytest.approx([-0.55, 1.0], abs=1e-6)
    assert actions[2].tolist() == pytest.approx([-0.55, -1.0], abs=1e-6)


def test_what_is_unseen_is_not_near():
    """A network tells 'nothing looks there' from 'something is there'."""
    torch.manual_seed(0)
    network = NavigationNetwork(12, 5.0)
    inputs = torch.zeros(3, network.input_size)
    inputs[:, :12] = torch.tensor([[-1.0], [0.0], [1.0]])
    actions, state = network(inputs, torch.zeros(3, network.memory))
    assert state.shape == (3, network.memory)
    assert (actions[0] - actions[1]).abs().max() > 1e-6
    assert (actions[0] - actions[2]).abs().max() > 1e-6


def test_a_killed_run_ends_with_the_same_weights(tmp_path, monkeypatch):
    """It is stopped in the middle of its second half; the second start goes on from the first."""
    whole = new_network(ROBOT, SMALL)
    best = fit_policy(whole, ROBOT, SMALL, tmp_path / 'whole')
    steps = [0]
    step_wait = TrainingRobots.step_wait

    def killing(self):
        steps[0] += 1
        if steps[0] == 3 * CHUNK + 7:
            raise KeyboardInterrupt
        return step_wait(self)

    monkeypatch.setattr(TrainingRobots, 'step_wait', killing)
    killed = tmp_path / 'killed'
    with pytest.raises(KeyboardInterrupt):
        fit_policy(new_network(ROBOT, SMALL), ROBOT, SMALL, killed)
    resumed = new_network(ROBOT, SMALL)
    found = fit_policy(resumed, ROBOT, SMALL, killed)
    assert steps[0] == 5 * CHUNK + 7  # half of the training was not repeated
    for name, weights in whole.state_dict().items():
        assert torch.allclose(weights, resumed.state_dict()[name], atol=1e-6), name
    assert {**found, 'cpu_s': 0} == pytest.approx({**best, 'cpu_s': 0})
    rows = [json.loads(line) for line in (killed / 'history.jsonl').open()]
    assert [row['epoch'] for row in rows] == [1, 2]
    assert (killed / 'curves.png').stat().st_size > 1000
    assert fit_policy(resumed, ROBOT, SMALL, killed) == found  # a finished one is left alone
    other = NavigationTraining(**{**SMALL.__dict__, 'discount': 0.5})
    with pytest.raises(ValueError, match='other settings'):
        fit_policy(resumed, ROBOT, other, killed)


def test_a_policy_from_the_command_line(tmp_path):
    """Two seeds become two policies and the better of both, which nodes load by name."""
    assert main(['train', 'navigation', '--out', str(tmp_path), '--seeds', '0', '4', '--steps',
                 '512', '--robots', '8', '--rollout', '32', '--worlds', '1', '--validations', '1',
                 '--validation-worlds', '3', '--innate', '--device', 'cpu']) == 0
    entry = find_model('navigation_policy', 'navigation', str(tmp_path / 'manifest.yaml'))
    assert entry.training['seed'] in (0, 4)
    assert entry.path.stat().st_size < 1_000_000
    policy = load_model(entry, 'cpu')
    assert policy.facts.innate
    policy.check(ROBOT)
    card = (tmp_path / 'navigation_policy.md').read_text()
    assert 'cellular_success' in card
    assert (tmp_path / 'seed_4/manifest.yaml').is_file()


def test_wrong_settings_are_a_sentence(tmp_path):
    with pytest.raises(ValueError, match='rollout is 40; it must be a multiple of 32'):
        NavigationTraining(rollout=40)
    assert main(['train', 'navigation', '--out', str(tmp_path), '--robots', '1']) == 1
