"""The robots that a navigation policy learns with, as stable-baselines3 takes them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from perception_nodes.core.navigation import NavigationParams
from perception_nodes.core.navigation_rules import policy_input
from perception_nodes.sim import navigation_kernels as kernels
from perception_nodes.sim.navigation_env import NavigationEnvParams, NavigationVectorEnv
from perception_nodes.sim.navigation_worlds import FILLS
from stable_baselines3.common.vec_env import VecEnv
import torch

Array = npt.NDArray[Any]

SECRETS = 8  # numbers that only the critic sees
REWARD_SCALE = 0.2

_CELLULAR_ROBOTS: dict[str, Any] = {'footprint_share': 0.1}
_INDOORS = ('clutter', 'room', 'people')
_WIDE_LIDAR = {'beams': 135, 'field_of_view_deg': 270.0}
_FULL_LIDAR = {'beams': 180, 'field_of_view_deg': 360.0}
_DEPTH = {'sensor': 'depth', 'beams': 87}
# robots of rooms differ more than those of BARN, and stop nearer to the goal
INDOOR_ROBOTS: dict[str, Any] = {'footprint_share': 0.25, 'round_share': 0.5, 'limits_share': 0.4}
INDOOR_TOLERANCE_M = 0.35
_EASY_FILLS = FILLS[:2]

# share of the robots, kinds of worlds, range finder, whether the safety layer acts: a policy must
# drive well with the layer, and must not rely on it
_GROUPS: tuple[tuple[float, tuple[str, ...], dict[str, Any], bool], ...] = (
    (0.30, ('cellular',), _WIDE_LIDAR, True),
    (0.22, ('cellular',), _WIDE_LIDAR, False),
    (0.18, _INDOORS, _FULL_LIDAR, True),
    (0.12, _INDOORS, _FULL_LIDAR, False),
    (0.10, _INDOORS, _WIDE_LIDAR, True),
    (0.08, _INDOORS, _DEPTH, True),
)


class TrainingRobots(VecEnv):
    """
    Robots of :class:`NavigationVectorEnv` with several sensors and kinds of worlds.

    An observation is a policy's input (:func:`policy_input`), and behind it ``SECRETS`` numbers
    that no robot knows, for the critic: the way left, cosine and sine of where it leads, the room
    around the robot, the time, latency and lag, and whether the safety layer acts. Rewards are a
    fifth of the environment's. An info of an episode's end has ``outcome`` and
    ``TimeLimit.truncated``.

    :param count: Of robots.
    :param robot: What they are.
    :param worlds: Of each kind, in each group.
    :param seed: Of the episodes.
    :param innate: Whether observations hold the innate rule's action.
    """

    def __init__(self, count: int, robot: NavigationParams, worlds: int, seed: int,
                 *, innate: bool = False) -> None:
        self._robot, self._innate = robot, innate
        self._groups: list[NavigationVectorEnv] = []
        counts = _counts(count, [group[0] for group in _GROUPS])
        for number, (of_group, group) in enumerate(zip(counts, _GROUPS, strict=True)):
            _, kinds, sensor, guarded = group
            params = NavigationEnvParams(
                kinds=kinds, guarded=guarded, worlds=worlds, first_seed=number * worlds,
                **(_CELLULAR_ROBOTS if kinds == ('cellular',) else
                   {**INDOOR_ROBOTS, 'tolerance_m': INDOOR_TOLERANCE_M}), **sensor)
            env = NavigationVectorEnv(of_group, params, robot)
            env.reset(seed=seed * 1_000_003 + 1000 * number)
            self._groups.append(env)
        ends = np.cumsum([env.num_envs for env in self._groups])
        self._slices = [slice(end - env.num_envs, end)
                        for end, env in zip(ends.tolist(), self._groups, strict=True)]
        self._last_actions = np.zeros((count, 2), np.float32)
        self._actions = self._last_actions
        size = self._observations(self._vectors()).shape[1]
        super().__init__(
            count, gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32),
            gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32))

    def set_stage(self, collision_cost: float, *, easy: bool) -> None:
        """Say what a collision costs from now on, and whether new episodes are in easy worlds."""
        for env in self._groups:
            env.params = replace(env.params, collision_cost=collision_cost)
            rows = np.arange(len(env.batch.worlds))
            if easy and env.params.kinds == ('cellular',):
                # a world's fill goes by its seed
                fills = (rows + env.params.first_seed) % len(FILLS)
                rows = rows[fills < len(_EASY_FILLS)]
            env.drawn_worlds = rows

    def reset(self) -> Array:
        """Return what the robots see; episodes that are under way go on."""
        return self._observations(self._vectors())

    def step_async(self, actions: Array) -> None:
        """Take the (N, 2) actions of the next step."""
        self._actions = actions.astype(np.float32)

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        """Drive one period."""
        vectors, rewards, dones, outcomes = [], [], [], []
        for env, rows in zip(self._groups, self._slices, strict=True):
            seen, reward, terminated, truncated, infos = env.step(self._actions[rows])
            vectors.append(seen)
            rewards.append(reward)
            dones.append(terminated | truncated)
            outcomes.append(infos['outcome'])
        done = np.concatenate(dones)
        self._last_actions = np.where(done[:, None], np.float32(0.0), self._actions)
        infos_of: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        outcome = np.concatenate(outcomes)
        for row in np.flatnonzero(done).tolist():
            infos_of[row] = {'outcome': int(outcome[row]),
                             'TimeLimit.truncated': outcome[row] == kernels.TIMED_OUT}
        return (self._observations(np.concatenate(vectors)),
                REWARD_SCALE * np.concatenate(rewards), done, infos_of)

    def state(self) -> list[torch.Tensor]:
        """Return copies of everything that changes, for a checkpoint."""
        return [torch.from_numpy(array.copy()) for array in self._arrays()]

    def set_state(self, state: Sequence[torch.Tensor]) -> None:
        """Go on from what :meth:`state` gave."""
        for array, saved in zip(self._arrays(), state, strict=True):
            array[...] = saved.numpy()

    def close(self) -> None:
        """Nothing is held."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute, the same for all robots."""
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse: robots have no attributes of their own."""
        raise AttributeError(f'{attr_name} cannot be set for single robots')

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **named: Any) -> Any:
        """Refuse: robots have no methods of their own."""
        raise AttributeError(f'{method_name} cannot be called on single robots')

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Return that nothing is wrapped."""
        return [False] * self.num_envs

    def _arrays(self) -> list[Array]:
        return [self._last_actions, *(a for env in self._groups for a in env.arrays())]

    def _vectors(self) -> Array:
        return np.concatenate([env.batch.observations() for env in self._groups])

    def _observations(self, vectors: Array) -> Array:
        secrets = np.concatenate([_secrets(env) for env in self._groups])
        inputs = policy_input(vectors, self._last_actions, self._robot.reach_m, self._innate)
        return np.concatenate([inputs, secrets], axis=1)


def _counts(total: int, shares: Sequence[float]) -> list[int]:
    """Return positive whole numbers with this sum, about in these shares."""
    edges = np.round(np.cumsum(shares) / sum(shares) * total).astype(int)
    counts = np.diff(edges, prepend=0)
    while counts.min() < 1:
        counts[counts.argmin()] += 1
        counts[counts.argmax()] -= 1
    return counts.tolist()


def _secrets(env: NavigationVectorEnv) -> npt.NDArray[np.float32]:
    batch = env.batch
    robots = batch.robots
    left_m = batch.remaining_m(np.arange(env.num_envs))
    return np.column_stack([
        np.minimum(left_m, 25.0) / 10.0, batch.ways(), np.clip(batch.room_m(), -0.1, 1.0),
        robots.time_s / env.params.longest_s, robots.delays_s * 5.0,
        np.full(env.num_envs, float(env.params.guarded))]).astype(np.float32)
