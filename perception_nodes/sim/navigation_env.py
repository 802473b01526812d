"""The navigation task as a Gymnasium environment, for one robot and for many."""

from dataclasses import dataclass, replace
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
import numpy as np
import numpy.typing as npt
from perception_nodes.core.navigation import covers_behind, NavigationParams, observation_size
from perception_nodes.core.navigation_rules import commands_of
from perception_nodes.core.params import param
from perception_nodes.sim import navigation_kernels as kernels
from perception_nodes.sim.navigation_batch import RobotBatch, SensorParams
from perception_nodes.sim.navigation_worlds import (
    KINDS,
    make_navigation_world,
    NAVIGATION_SPLITS,
)

Array = npt.NDArray[Any]

_LARGEST_STATE = 50.0  # no parameter of a robot may be larger
_MOST_TRIES = 100  # to find a place to start
_NEAREST_START_M, _FARTHEST_START_M = 1.5, 22.0  # ways to the goal
_FARTHEST_STEP_M = 0.3  # a jump of the way left, at a corner of the cells, is cut off here


@dataclass(frozen=True, kw_only=True)
class NavigationEnvParams(SensorParams):
    """Which worlds, where episodes begin, and what is rewarded; beside what the sensors do."""

    kinds: tuple[str, ...] = param(
        tuple(KINDS), 'Kinds of worlds, equally often.', choices=tuple(KINDS))
    split: str = param('train', 'Worlds to draw from.', choices=NAVIGATION_SPLITS)
    worlds: int = param(96, 'How many worlds of each kind.', ge=1, le=100000)
    first_seed: int = param(0, 'Seed of the first world of each kind.', ge=0)
    anywhere: float = param(
        0.5, "Share of episodes that begin anywhere in the world, not at the world's start.",
        ge=0.0, le=1.0)
    guarded: bool = param(False, 'Whether the safety layer acts on actions.')
    tolerance_m: float = param(
        0.0, 'Distance from the goal at which it is reached; 0: as the world says.', unit='m',
        ge=0.0, le=10.0)
    longest_s: float = param(60.0, 'Time after which an episode is cut off.', unit='s', ge=1.0)
    progress_reward: float = param(2.0, 'For each metre nearer to the goal.', ge=0.0)
    shaping: str = param(
        'geodesic', "What is nearer: 'geodesic' around obstacles, or 'straight'.",
        choices=('geodesic', 'straight'))
    second_cost: float = param(0.2, 'Of each second.', ge=0.0)
    near_cost: float = param(
        1.0, 'Of each second at an obstacle; none farther than near_m.', ge=0.0)
    near_m: float = param(
        0.15, 'Room around the footprint that is left free of cost.', unit='m', ge=0.01, le=1.0)
    turn_cost: float = param(0.01, 'Of each change of the turn by 1 rad/s.', ge=0.0)
    stopped_cost: float = param(
        1.0, 'Of each second in which the safety layer takes away the full speed.', ge=0.0)
    goal_reward: float = param(10.0, 'For reaching the goal.', ge=0.0)
    collision_cost: float = param(10.0, 'Of touching anything.', ge=0.0)


class NavigationVectorEnv(VectorEnv):
    """
    N robots on their way to goals, as a Gymnasium vector environment.

    **Observation**: (N, K * S + 14) float32, in the order that
    :func:`perception_nodes.core.navigation.observation_vectors` states: ranges by sectors around
    base_link, the goal as distance, cosine and sine, the velocity, the footprint and the limits.
    The goal is where odometry believes it to be. Nothing in it tells what a real robot would not
    know; distances around obstacles go into rewards only.

    **Action**: (N, 2) float32 in [-1, 1]: speed ahead, from the fastest back (-1) to the fastest
    ahead (1), and turn, from right (-1) to left (1). These are the limits of ``robot``, also
    where ``limits_share`` draws others for an episode: those bound what it accelerates, and what
    the safety layer lets through. What is beyond is cut off, and nothing backs off where the scan
    does not cover what is behind. With ``guarded`` the safety layer acts on the action, as it
    does on a robot.

    **Dynamics**: a differential drive follows commands late (latency) and slowly (lag, limited
    acceleration), in steps of at most 20 ms. Obstacles are exact circles and segments, people
    are circles that walk on lines and wait where the robot stands in their way. The robot is a
    rectangle; touching anything with it is a collision. Scans have noise and lose beams,
    odometry drifts. :class:`NavigationEnvParams` names and bounds all of it; every episode draws
    its own values within the bounds.

    **Reward** of a step: ``progress_reward`` times the way gained (metres, at most 0.3 either
    way), less ``second_cost`` times the period, less ``near_cost`` times the period times how
    deep the nearest seen range is inside ``near_m`` around the footprint (0 to 1), less
    ``turn_cost`` times the change of the turn command, less ``stopped_cost`` times the period
    times the share of the full speed that the safety layer takes away, plus ``goal_reward`` or
    less ``collision_cost`` at the end.

    **End**: terminated at the goal (``tolerance_m``) or on a collision; truncated after
    ``longest_s``. With ``AutoresetMode.SAME_STEP`` the next episode begins in the same step: the
    observation is already its first, ``infos['final_obs']`` has the last one. With ``DISABLED``
    nothing begins until ``reset``, whose option ``reset_mask`` (N,) bool names whom.

    **Infos**: ``outcome`` (N,) int64: 0 under way, 1 reached, 2 collided, 3 out of time;
    ``remaining_m`` (N,), the way left to the goal around obstacles, for a critic that may know.

    **Seeds**: ``reset(seed=s)`` gives robot i the seed s + i; episode k of a seed is the same,
    bit for bit, whatever N is and whatever the other robots do. Splits share no world.

    :param count: N.
    :param params: Worlds, sensors and rewards.
    :param robot: Footprint, limits, period and what is observed.
    :param autoreset: What follows the end of an episode.
    """

    def __init__(self, count: int, params: NavigationEnvParams | None = None,
                 robot: NavigationParams | None = None,
                 autoreset: AutoresetMode = AutoresetMode.SAME_STEP) -> None:
        self.metadata = {'autoreset_mode': autoreset}
        self.params = params or NavigationEnvParams()
        self.robot = robot or NavigationParams()
        p = self.params
        self.num_envs = count
        # kinds take turns, so that a run of worlds holds all of them equally often
        worlds = [make_navigation_world(kind, p.split, p.first_seed + i)
                  for i in range(p.worlds) for kind in p.kinds]
        if p.tolerance_m:
            worlds = [replace(world, tolerance_m=p.tolerance_m) for world in worlds]
        self.batch = RobotBatch(worlds, self.robot, p, count, p.longest_s)
        self.single_observation_space = observation_space(self.robot)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)
        # rows of the batch's worlds that new episodes are drawn from: a curriculum narrows it
        self.drawn_worlds = np.arange(len(worlds))
        self._live = np.arange(count)
        self._seeds = np.zeros(count, np.int64)
        self._episodes = np.zeros(count, np.int64)
        self._left_m = np.zeros(count)
        self.reset(seed=0)

    def reset(
        self, *, seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """
        Begin new episodes, everywhere or where ``options['reset_mask']`` says.

        :param seed: Of robot 0, or one for each; without one, a robot goes on to its next episode.
        """
        rows = np.flatnonzero((options or {}).get('reset_mask', np.ones(self.num_envs, bool)))
        given = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        for row in rows.tolist():
            own = None if given is None else given[row]
            if own is not None:
                self._seeds[row], self._episodes[row] = own, 0
            self._begin(row)
        return self.batch.observations(), self._infos()

    def step(
        self, actions: Array
    ) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Drive one period: observations, rewards, terminations, truncations and infos."""
        commands = commands_of(np.asarray(actions, np.float64), self.robot.limits)
        is_blind = ~covers_behind(self.batch.sectors_m[:, 0])
        commands[is_blind, 0] = np.maximum(commands[is_blind, 0], 0.0)
        before = self.batch.robots.sent[:, 0].copy()
        taken = np.zeros(self.num_envs)
        if self.params.guarded:
            wanted_mps = commands[:, 0]
            commands = self.batch.guard(self._live, commands)
            taken = self._taken(wanted_mps, before[:, 0], commands[:, 0])
        self.batch.advance(self._live, commands)
        outcomes = self.batch.outcomes.copy()
        rewards = self._rewards(commands[:, 1] - before[:, 1], taken, outcomes)
        terminated = (outcomes == kernels.REACHED) | (outcomes == kernels.COLLIDED)
        truncated = outcomes == kernels.TIMED_OUT
        observations = self.batch.observations()
        infos = self._infos()
        done = terminated | truncated
        if done.any() and self.metadata['autoreset_mode'] is AutoresetMode.SAME_STEP:
            last = np.full(self.num_envs, None, object)
            for row in np.flatnonzero(done).tolist():
                last[row] = observations[row].copy()
                self._begin(row)
            infos |= {'final_obs': last, '_final_obs': done}
            observations = self.batch.observations()
        return observations, rewards, terminated, truncated, infos

    def arrays(self) -> list[Array]:
        """Return all that changes as episodes go on; writing into the arrays sets the state."""
        return [*self.batch.arrays(), self._seeds, self._episodes, self._left_m]

    def _begin(self, row: int) -> None:
        """Draw the next episode of one robot."""
        rng = np.random.default_rng([int(self._seeds[row]), int(self._episodes[row])])
        self._episodes[row] += 1
        world = int(self.drawn_worlds[rng.integers(len(self.drawn_worlds))])
        self.batch.place(row, world, rng)
        if rng.random() < self.params.anywhere:
            self._place_anywhere(row, world, rng)
        self._left_m[row] = self._ways_left(np.array([row]))[0]

    def _place_anywhere(self, row: int, world: int, rng: np.random.Generator) -> None:
        """Start somewhere else, if a free place with a way to the goal is found."""
        packed, robots = self.batch.packed, self.batch.robots
        low, high = np.split(np.array(self.batch.worlds[world].corners_m), 2)
        body = robots.body[row] + 0.1
        for _ in range(_MOST_TRIES):
            x, y, yaw = rng.uniform((*low, -np.pi), (*high, np.pi)).tolist()
            if kernels.collides(packed, world, x, y, yaw, body):
                continue
            robots.pose[row] = (x, y, yaw)
            left_m = self.batch.remaining_m(np.array([row]))[0]
            if _NEAREST_START_M < left_m < _FARTHEST_START_M:
                self.batch.place(row, world, rng, start=(x, y, yaw))
                return
        self.batch.place(row, world, rng)

    def _taken(self, wanted_mps: Array, before_mps: Array, driven_mps: Array) -> Array:
        """Return the (N,) shares of the full speed that more than the limits took away."""
        limits = self.robot.limits
        step_mps = limits.acceleration_mps2 * self.robot.period_ms / 1e3
        possible = np.clip(wanted_mps, before_mps - step_mps, before_mps + step_mps)
        return np.asarray(np.abs(possible - driven_mps) / limits.ahead_mps)

    def _rewards(self, turned_rps: Array, taken: Array, outcomes: Array) -> Array:
        p, period_s = self.params, self.robot.period_ms / 1e3
        left_m = self._ways_left(self._live)
        gained_m = np.clip(self._left_m - left_m, -_FARTHEST_STEP_M, _FARTHEST_STEP_M)
        self._left_m = left_m
        near = np.clip(1.0 - self.batch.room_m() / p.near_m, 0.0, 1.0)
        return np.asarray(
            p.progress_reward * gained_m
            - period_s * (p.second_cost + p.near_cost * near + p.stopped_cost * taken)
            - p.turn_cost * np.abs(turned_rps) + p.goal_reward * (outcomes == kernels.REACHED)
            - p.collision_cost * (outcomes == kernels.COLLIDED))

    def _ways_left(self, rows: Array) -> Array:
        if self.params.shaping == 'geodesic':
            return self.batch.remaining_m(rows)
        robots = self.batch.robots
        to = self.batch.packed.goals[robots.world[rows], :2] - robots.pose[rows, :2]
        return np.asarray(np.hypot(to[:, 0], to[:, 1]))

    def _infos(self) -> dict[str, Any]:
        return {'outcome': self.batch.outcomes.copy(),
                'remaining_m': self.batch.remaining_m(self._live)}


class NavigationEnv(gymnasium.Env):
    """One robot of :class:`NavigationVectorEnv`, whose docstring says what happens."""

    metadata = {'render_modes': []}

    def __init__(self, params: NavigationEnvParams | None = None,
                 robot: NavigationParams | None = None) -> None:
        self.many = NavigationVectorEnv(1, params, robot, AutoresetMode.DISABLED)
        self.observation_space = self.many.single_observation_space
        self.action_space = self.many.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin an episode; without a seed, the next one."""
        super().reset(seed=seed)
        observations, infos = self.many.reset(seed=seed)
        return observations[0], {name: values[0] for name, values in infos.items()}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Drive one period."""
        observations, rewards, terminated, truncated, infos = self.many.step(
            np.asarray(action)[None])
        return (observations[0], float(rewards[0]), bool(terminated[0]),
                bool(truncated[0]), {name: values[0] for name, values in infos.items()})


def observation_space(robot: NavigationParams) -> gymnasium.spaces.Box:
    """Return the space of a robot's observations."""
    high = np.full(observation_size(robot), _LARGEST_STATE, np.float32)
    high[:robot.stacked_scans * robot.sectors] = 1.0
    return gymnasium.spaces.Box(-high, high)
