"""Training a navigation policy by reinforcement: curriculum, validation, checkpoints."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
import json
import logging
from pathlib import Path
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from perception_nodes.backends.networks.navigation import NavigationNetwork
from perception_nodes.backends.torch_runtime import choose_device
from perception_nodes.core.navigation import NavigationParams
from perception_nodes.core.navigation_rules import commands_of, policy_input
from perception_nodes.core.params import param, Params
from perception_nodes.sim import navigation_kernels as kernels
from perception_nodes.sim.navigation_batch import RobotBatch, SensorParams
from perception_nodes.sim.navigation_worlds import make_navigation_world
from perception_nodes.training.curves import Curves
from perception_nodes.training.loop import load_whole, other_settings, save_whole, told
from perception_nodes.training.navigation_ppo import CHUNK, RecurrentPPO
from perception_nodes.training.navigation_robots import (
    INDOOR_ROBOTS,
    INDOOR_TOLERANCE_M,
    TrainingRobots,
)
from stable_baselines3.common.callbacks import BaseCallback
import torch

log = logging.getLogger(__name__)

_CHECKPOINT, _BEST = 'checkpoint.pt', 'best.pt'
_FIRST_COLLISION_COST = 4.0
_COSTLIER_UNTIL = 0.6  # share of the training after which a collision costs its full price
_LAST_RATE = 0.1  # share of the learning rate that is left at the end
_VALIDATION_LONGEST_S = 60.0
_INDOORS = ('clutter', 'room', 'people')
_CELLULAR_WEIGHT = 2.0 / 3.0  # of the score that chooses a checkpoint


@dataclass(frozen=True, kw_only=True)
class NavigationTraining(Params):
    """How a navigation policy is trained."""

    steps: int = param(8_000_000, 'Decisions of all robots together.', ge=1)
    robots: int = param(256, 'Robots that learn side by side.', ge=8, le=65536)
    rollout: int = param(
        64, f'Decisions of each robot from one update to the next, a multiple of {CHUNK}.',
        ge=CHUNK)
    worlds: int = param(120, 'Worlds of each kind, for each group of robots.', ge=1)
    innate: bool = param(
        False, 'Whether the network corrects the innate rule (pull of the goal, push of '
        'obstacles) instead of deciding alone.')
    learning_rate: float = param(6e-4, 'Largest step size.', ge=0.0)
    epochs: int = param(3, 'How often each rollout is gone through.', ge=1)
    batches: int = param(4, 'Gradient steps in one pass over a rollout.', ge=1)
    discount: float = param(0.99, 'Worth of a reward a decision later.', ge=0.0, le=1.0)
    entropy: float = param(0.004, 'Worth of drawing actions widely, at first.', ge=0.0)
    collision_cost: float = param(12.0, 'Of a collision, at last; at first it is 4.', ge=0.0)
    pilot_share: float = param(
        0.1, "Share of the training in which the simulator's pilot, who knows the way, is "
        'imitated less and less; 0: never.', ge=0.0, le=1.0)
    easy_share: float = param(
        0.1, 'Share of the training in which cellular worlds are sparse ones.', ge=0.0, le=1.0)
    validations: int = param(10, 'How often the policy is validated.', ge=1)
    validation_worlds: int = param(
        120, 'Cellular worlds of a validation; half as many are rooms and clutter.', ge=3)
    seed: int = param(0, 'Of everything random.', ge=0)
    device: str = param('auto', "Where to learn: 'auto' (a GPU where there is one), 'cpu', "
                        "'cuda:N'.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rollout % CHUNK:
            raise ValueError(f'rollout is {self.rollout}; it must be a multiple of {CHUNK}')


def new_network(robot: NavigationParams, params: NavigationTraining) -> NavigationNetwork:
    """Return a network with weights drawn from the seed."""
    torch.manual_seed(params.seed)
    return NavigationNetwork(robot.sectors, robot.reach_m, innate=params.innate)


def fit_policy(
    network: NavigationNetwork, robot: NavigationParams, params: NavigationTraining, folder: Path
) -> dict[str, float]:
    """
    Train, and leave the weights that did best in validation worlds in the network.

    ``folder`` gets ``history.jsonl`` (a line per validation), ``curves.png``, ``checkpoint.pt``
    to go on from and ``best.pt``. A run that is killed and started again ends with the weights
    of one that was left alone (on a CPU).

    :return: The best validation, with its ``epoch`` and the CPU time of all, ``cpu_s``.
    :raises ValueError: If the folder holds a run of other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.dumps(asdict(params), sort_keys=True)
    saved = _saved(folder, settings)
    curves = Curves(folder)
    if saved is None:
        curves.begin()
    else:
        curves.go_on(saved['epoch'])
    if saved is None or saved['steps'] < params.steps:
        best = _learn(network, robot, params, _Folder(folder, settings, curves), saved)
    else:
        best = saved['best']
    network.load_state_dict(load_whole(folder / _BEST)['network'])
    network.cpu().eval()
    log.info('best of %d validations: %s', params.validations, told(best))
    return {**best, 'cpu_s': curves.total('cpu_s')}


@dataclass(frozen=True)
class _Folder:
    """Where a training is kept."""

    path: Path
    settings: str
    curves: Curves


def _saved(folder: Path, settings: str) -> dict[str, Any] | None:
    """Return the checkpoint of a folder, if it has one."""
    if not (folder / _CHECKPOINT).is_file():
        return None
    saved = load_whole(folder / _CHECKPOINT)
    if saved['settings'] != settings:
        raise ValueError(other_settings(folder, saved['settings'], settings))
    return saved


def _learn(
    network: NavigationNetwork, robot: NavigationParams, params: NavigationTraining,
    folder: _Folder, saved: dict[str, Any] | None,
) -> dict[str, float]:
    """Train to the end, from a checkpoint if there is one; return the best validation."""
    robots = TrainingRobots(
        params.robots, robot, params.worlds, params.seed, innate=params.innate)
    learner = RecurrentPPO(
        network, robots, pilot_share=params.pilot_share, batches=params.batches,
        n_steps=params.rollout, n_epochs=params.epochs, gamma=params.discount,
        ent_coef=params.entropy, batch_size=params.robots * params.rollout // params.batches,
        learning_rate=lambda left: params.learning_rate * (_LAST_RATE + (1.0 - _LAST_RATE) * left),
        seed=params.seed, device=choose_device(params.device, False))
    run = _Run(learner, robots, Validation(robot, params.validation_worlds, params.seed), params,
               folder)
    if saved is not None:
        run.restore(saved)
    learner.learn(params.steps - learner.num_timesteps, run, log_interval=sys.maxsize,
                  reset_num_timesteps=False)
    return run.best


class Validation:
    """
    Worlds of the validation split, driven through once behind the safety layer.

    :param robot: What drives.
    :param count: Of cellular worlds; half as many are rooms, clutter and rooms with people.
    :param seed: Of what goes wrong.
    """

    def __init__(self, robot: NavigationParams, count: int, seed: int) -> None:
        self._robot, self._seed = robot, seed
        indoors = max(1, count // 2 // len(_INDOORS))
        lidar = SensorParams(beams=270, field_of_view_deg=270.0)
        self._batches = {
            'cellular': self._batch(['cellular'], count, lidar),
            'indoor': self._batch(_INDOORS, indoors, replace(
                lidar, field_of_view_deg=360.0, **INDOOR_ROBOTS), INDOOR_TOLERANCE_M)}

    def _batch(self, kinds: Sequence[str], count: int, sensor: SensorParams,
               tolerance_m: float | None = None) -> RobotBatch:
        worlds = [make_navigation_world(kind, 'validation', seed)
                  for seed in range(count) for kind in kinds]
        if tolerance_m is not None:
            worlds = [replace(world, tolerance_m=tolerance_m) for world in worlds]
        return RobotBatch(worlds, self._robot, sensor, len(worlds), _VALIDATION_LONGEST_S)

    def scores(self, network: NavigationNetwork) -> dict[str, float]:
        """Return shares of success and collision, and the score that chooses a checkpoint."""
        values: dict[str, float] = {}
        for name, batch in self._batches.items():
            outcomes = self._outcomes(network, batch)
            values[f'{name}_success'] = float((outcomes == kernels.REACHED).mean())
            values[f'{name}_collision'] = float((outcomes == kernels.COLLIDED).mean())
        better = {name: values[f'{name}_success'] - values[f'{name}_collision']
                  for name in self._batches}
        values['score'] = (_CELLULAR_WEIGHT * better['cellular']
                           + (1.0 - _CELLULAR_WEIGHT) * better['indoor'])
        return values

    def _outcomes(
        self, network: NavigationNetwork, batch: RobotBatch
    ) -> npt.NDArray[np.int64]:
        count = len(batch.worlds)
        for row in range(count):
            batch.place(row, row, np.random.default_rng([self._seed, row]))
        device = next(network.parameters()).device
        state = torch.zeros(count, network.memory, device=device)
        actions = np.zeros((count, 2), np.float32)
        while len(live := np.flatnonzero(batch.outcomes == kernels.RUNNING)):
            inputs = policy_input(batch.observations()[live], actions[live],
                                  self._robot.reach_m, network.innate)
            with torch.inference_mode():
                decided, after = network(torch.from_numpy(inputs).to(device), state[live])
            state[live] = after
            actions[live] = decided.cpu().numpy()
            commands = commands_of(actions.astype(np.float64), self._robot.limits)
            batch.advance(live, batch.guard(live, commands))
        return batch.outcomes


class _Run(BaseCallback):
    """A training and how far it has come: stages, validations, checkpoints."""

    model: RecurrentPPO

    def __init__(self, learner: RecurrentPPO, robots: TrainingRobots, validation: Validation,
                 params: NavigationTraining, folder: _Folder) -> None:
        super().__init__()
        self._learner, self._robots, self._validation = learner, robots, validation
        self._params, self._folder = params, folder
        self._sums: dict[str, float] = {}
        self._rollouts = 0
        self._outcomes: list[int] = []
        self._begun = time.monotonic(), time.process_time()
        self.epoch = 0
        self.best: dict[str, float] = {}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        learner = self._learner
        learner.policy.load_state_dict(saved['policy'])
        learner.policy.optimizer.load_state_dict(saved['optimizer'])
        learner.num_timesteps = saved['steps']
        learner.state = saved['memory'].to(learner.device)
        self._robots.set_state(saved['robots'])
        learner._last_obs = saved['seen'].numpy()
        learner._last_episode_starts = saved['starts'].numpy()
        torch.set_rng_state(saved['random'])
        self.epoch, self.best = saved['epoch'], saved['best']
        log.info('going on after %d of %d steps', learner.num_timesteps, self._params.steps)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        """Note what was learned since the last call, and set the stage for the next rollout."""
        self._note()
        progress = self._learner.num_timesteps / self._params.steps
        cost = self._params.collision_cost
        first = min(_FIRST_COLLISION_COST, cost)
        self._robots.set_stage(
            first + (cost - first) * min(1.0, progress / _COSTLIER_UNTIL),
            easy=progress < self._params.easy_share)

    def _on_training_end(self) -> None:
        self._note()

    def _note(self) -> None:
        """Take in the figures of an update; validate and save where an epoch has ended."""
        if not self._learner.losses:
            return
        for name, value in self._learner.losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._learner.losses = {}
        self._rollouts += 1
        self._outcomes += self._learner.outcomes
        done = self._learner.num_timesteps * self._params.validations / self._params.steps
        if done < self.epoch + 1:
            return
        self.epoch = int(done)
        row = {'epoch': float(self.epoch),
               **{name: value / self._rollouts for name, value in self._sums.items()},
               **self._driven(), **self._validated()}
        row['wall_s'] = time.monotonic() - self._begun[0]
        row['cpu_s'] = time.process_time() - self._begun[1]
        self._begun = time.monotonic(), time.process_time()
        self._sums, self._rollouts, self._outcomes = {}, 0, []
        self._folder.curves.add(row)
        self._save()
        log.info('%s', told(row))

    def _driven(self) -> dict[str, float]:
        """Return how the episodes of the training ended."""
        count = max(1, len(self._outcomes))
        return {'training_success': self._outcomes.count(kernels.REACHED) / count,
                'training_collision': self._outcomes.count(kernels.COLLIDED) / count,
                'std': float(self._learner.policy.log_std.detach().exp().mean())}

    def _validated(self) -> dict[str, float]:
        network = self._learner.policy.network
        scores = self._validation.scores(network)
        if not self.best or scores['score'] > self.best['score']:
            self.best = {'epoch': self.epoch, **scores}
            save_whole(self._folder.path / _BEST, {'network': network.state_dict()})
        return scores

    def _save(self) -> None:
        learner = self._learner
        assert learner._last_obs is not None and learner._last_episode_starts is not None
        save_whole(self._folder.path / _CHECKPOINT, {
            'settings': self._folder.settings, 'epoch': self.epoch, 'best': self.best,
            'policy': learner.policy.state_dict(),
            'optimizer': learner.policy.optimizer.state_dict(),
            'steps': learner.num_timesteps, 'memory': learner.state,
            'robots': self._robots.state(), 'random': torch.get_rng_state(),
            'seen': torch.from_numpy(learner._last_obs),
            'starts': torch.from_numpy(np.asarray(learner._last_episode_starts))})
