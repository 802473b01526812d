"""The navigation task with the robot of MuJoCo: the same numbers, its own physics."""

import numpy as np
from perception_nodes.core.navigation import NavigationParams, Navigator
from perception_nodes.core.types import VelocityCommand
from perception_nodes.sim.navigation_env import NavigationEnvParams, NavigationVectorEnv
from perception_nodes.sim.navigation_mujoco import HARD_MPS, SimulatorNavigationEnv
import pytest

pytest.importorskip('mujoco')


class FullSpeed:
    """Wants straight ahead, whatever is there."""

    def act(self, observation, state):
        return VelocityCommand(5.0, 0.0), None


@pytest.fixture(scope='module')
def env():
    env = SimulatorNavigationEnv()
    yield env
    env.close()


def test_spaces_are_those_of_training(env):
    robot = NavigationParams()
    trained = NavigationVectorEnv(1, NavigationEnvParams(kinds=('room',), worlds=1), robot)
    assert env.observation_space == trained.single_observation_space
    assert env.action_space == trained.single_action_space
    first, _ = env.reset(seed=3)
    assert env.observation_space.contains(first)
    assert np.array_equal(env.reset(seed=3)[0], first)


@pytest.mark.slow
def test_driving_ahead_hits_unless_guarded(env):
    """The same room, nobody in the way: full speed hits, behind the safety layer nothing does."""
    env.reset(seed=1)
    done, impacts = False, []
    for _ in range(100):
        _, reward, done, _, infos = env.step(np.array([1.0, 0.0], np.float32))
        impacts.append(infos['impact_mps'])
        if done:
            break
    assert done
    assert reward == -1.0
    assert impacts[-1] > HARD_MPS
    env.reset(seed=1)
    navigator = Navigator(FullSpeed(), env.robot)
    observation, hardest = env.observe(), 0.0
    for k in range(60):
        step = navigator.step(observation, 0.1 * k)
        hardest = max(hardest, env.drive(step.command))
        observation = env.observe()
    assert hardest == 0.0
