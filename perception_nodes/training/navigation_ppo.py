"""
Proximal policy optimisation of a recurrent network, on stable-baselines3's classes.

Schulman et al., "Proximal Policy Optimization Algorithms", 2017. The critic sees more than the
actor (Pinto et al., "Asymmetric Actor Critic", 2017). Two further terms are learned from what only
the simulator knows: the direction of the way to the goal, and at first the action of a pilot who
follows that way.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast, NamedTuple

import numpy as np
from perception_nodes.backends.networks.navigation import NavigationNetwork
from perception_nodes.training.navigation_robots import SECRETS
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
import torch
from torch import nn
from torch.nn.functional import mse_loss

CHUNK = 32  # steps that gradients flow back through

_FIRST_LOG_STD, _LEAST_LOG_STD = -0.8, -1.9
_WAY = slice(-SECRETS + 1, -SECRETS + 3)  # cosine and sine of where the way to the goal leads
_WAY_WEIGHT = 0.1
_PILOT_TURN = 1.2  # of a full turn command, for each radian off the way


class RecurrentPolicy(ActorCriticPolicy):
    """
    Actor, critic and the head that points along the way.

    :param make_network: Gives the actor, which is what ships.
    """

    def __init__(
        self, *arguments: Any, make_network: Callable[[], NavigationNetwork], **named: Any
    ) -> None:
        self._make_network = make_network
        super().__init__(*arguments, **named)

    def _build(self, lr_schedule: Any) -> None:
        """Make the layers and their optimizer; stable-baselines3 calls this."""
        self.network = self._make_network()
        features = self.network.output_features
        self.critic = nn.Sequential(
            nn.Linear(features + SECRETS, 128), nn.ReLU(), nn.Linear(128, 1))
        self.way = nn.Linear(features, 2)
        self.log_std = nn.Parameter(torch.full((2,), _FIRST_LOG_STD))
        self.optimizer = torch.optim.Adam(self.parameters(), lr_schedule(1.0), eps=1e-5)

    def judged(
        self, encoded: torch.Tensor, observations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the (..., 2) mean actions and the (...) values."""
        inputs, secrets = observations[..., :-SECRETS], observations[..., -SECRETS:]
        values = self.critic(torch.cat([encoded, secrets], dim=-1))[..., 0]
        return self.network.decide(encoded, inputs), values

    def act(
        self, observations: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return drawn actions, values, log likelihoods and the next state, of N robots."""
        encoded, state = self.network.encode(observations[None, :, :-SECRETS], state)
        means, values = self.judged(encoded[0], observations)
        drawn = self.distribution(means)
        actions = drawn.get_actions()
        return actions, values, drawn.log_prob(actions), state

    def distribution(self, means: torch.Tensor) -> DiagGaussianDistribution:
        """Return from what actions are drawn around (N, 2) means."""
        gaussian = cast(DiagGaussianDistribution, self.action_dist)
        return gaussian.proba_distribution(means, self.log_std)


class Sequences(NamedTuple):
    """A batch of N sequences of ``CHUNK`` steps, time first."""

    observations: torch.Tensor  # (L, N, D)
    actions: torch.Tensor  # (L, N, 2)
    log_likelihoods: torch.Tensor  # (L, N)
    advantages: torch.Tensor  # (L, N)
    returns: torch.Tensor  # (L, N)
    valid: torch.Tensor  # (L, N) 0 where a sequence has gone on into another episode
    states: torch.Tensor  # (N, H) before the first step


class RecurrentBuffer(RolloutBuffer):
    """A rollout that is given back in sequences, with the network's state at their beginnings."""

    def reset(self) -> None:
        """Forget the rollout."""
        super().reset()
        self.states: list[torch.Tensor] = []

    def get_sequences(self, batches: int) -> Iterator[Sequences]:
        """Yield the rollout once, in an order drawn from torch's generator."""
        episodes = np.cumsum(self._chunked(self.episode_starts).swapaxes(0, 1), axis=0)
        begun = self._chunked(self.episode_starts)[:, 0][None]
        table = [self._chunked(array).swapaxes(0, 1) for array in (
            self.observations, self.actions, self.log_probs, self.advantages, self.returns)]
        valid = (episodes == begun).astype(np.float32)
        states = torch.cat(self.states)
        tensors = [torch.from_numpy(np.ascontiguousarray(a)) for a in (*table, valid)]
        for rows in torch.randperm(len(states)).chunk(batches):
            parts = [*(tensor[:, rows] for tensor in tensors), states[rows]]
            yield Sequences(*(part.to(self.device) for part in parts))

    def _chunked(self, array: np.ndarray) -> np.ndarray:
        """Return (T, N, ...) as (T / L * N, L, ...)."""
        steps, robots = array.shape[:2]
        chunks = array.reshape(steps // CHUNK, CHUNK, robots, *array.shape[2:])
        return chunks.swapaxes(1, 2).reshape(-1, CHUNK, *array.shape[2:])


class RecurrentPPO(PPO):
    """
    PPO whose policy remembers, and whose robots are a hundred or more.

    :param pilot_share: Share of the training in which the pilot is imitated, less and less.
    :param batches: Gradient steps in one pass over a rollout.
    """

    policy: RecurrentPolicy
    rollout_buffer: RecurrentBuffer

    def __init__(self, network: NavigationNetwork, env: VecEnv, *, pilot_share: float,
                 batches: int, **named: Any) -> None:
        self._pilot_share, self._batches = pilot_share, batches
        self.losses: dict[str, float] = {}
        self.outcomes: list[int] = []  # of the episodes that ended in the last rollout
        super().__init__(
            RecurrentPolicy, env, rollout_buffer_class=RecurrentBuffer,
            policy_kwargs={'make_network': lambda: network}, **named)
        self.state = torch.zeros(env.num_envs, network.memory, device=self.device)

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Drive all robots for some steps; see the class that this overrides."""
        seen = cast(np.ndarray, self._last_obs)
        starts = cast(np.ndarray, self._last_episode_starts)
        buffer = cast(RecurrentBuffer, rollout_buffer)
        self.policy.set_training_mode(False)
        buffer.reset()
        callback.on_rollout_start()
        self.outcomes = []
        for step in range(n_rollout_steps):
            if step % CHUNK == 0:
                buffer.states.append(self.state.clone())
            observations = torch.from_numpy(seen).to(self.device)
            with torch.no_grad():
                actions, values, log_likelihoods, self.state = self.policy.act(
                    observations, self.state)
            driven = actions.cpu().numpy()
            after, rewards, dones, infos = env.step(driven)
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            ended = np.flatnonzero(dones)
            self.outcomes += [infos[row]['outcome'] for row in ended]
            for row in ended:
                if infos[row]['TimeLimit.truncated']:
                    # a tenth of a second earlier the value was all but the same
                    rewards[row] += self.gamma * float(values[row])
            buffer.add(seen, driven, rewards, starts, values, log_likelihoods)
            seen, starts = cast(np.ndarray, after), dones
            if len(ended):
                self.state[torch.from_numpy(ended).to(self.device)] = 0.0
        self._last_obs, self._last_episode_starts = seen, starts
        with torch.no_grad():
            observations = torch.from_numpy(seen).to(self.device)
            _, values, _, _ = self.policy.act(observations, self.state)
        buffer.compute_returns_and_advantage(values, dones)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """Learn from the rollout."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        progress = 1.0 - self._current_progress_remaining
        pilot_weight = max(0.0, 1.0 - progress / self._pilot_share) if self._pilot_share else 0.0
        advantages = self.rollout_buffer.advantages
        self.rollout_buffer.advantages = (
            (advantages - advantages.mean()) / (advantages.std() + 1e-8))
        sums: dict[str, float] = {}
        for _ in range(self.n_epochs):
            for batch in self.rollout_buffer.get_sequences(self._batches):
                terms = self._losses(batch, pilot_weight)
                self.policy.optimizer.zero_grad()
                torch.stack(list(terms.values())).sum().backward()
                nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                self.policy.optimizer.step()
                with torch.no_grad():
                    self.policy.log_std.clamp_(_LEAST_LOG_STD, 0.0)
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value.item()
        count = self.n_epochs * self._batches
        self.losses = {f'loss_{name}': value / count for name, value in sums.items()}
        self._n_updates += self.n_epochs

    def _losses(self, batch: Sequences, pilot_weight: float) -> dict[str, torch.Tensor]:
        """Return the terms whose sum is to become small."""
        policy = self.policy
        encoded, _ = policy.network.encode(batch.observations[..., :-SECRETS], batch.states)
        means, values = policy.judged(encoded, batch.observations)
        weights = batch.valid / batch.valid.sum()
        likely = policy.distribution(means.flatten(0, 1)).log_prob(batch.actions.flatten(0, 1))
        ratio = (likely.view_as(batch.log_likelihoods) - batch.log_likelihoods).exp()
        clip = cast(Any, self.clip_range)(self._current_progress_remaining)
        gain = torch.minimum(
            ratio * batch.advantages, ratio.clamp(1.0 - clip, 1.0 + clip) * batch.advantages)
        way = batch.observations[..., _WAY]
        off_way = (policy.way(encoded) - way).square().mean(dim=-1)
        terms = {
            'policy': -(gain * weights).sum(),
            'value': self.vf_coef * ((values - batch.returns).square() * weights).sum(),
            # policies become sure of themselves as the training comes to its end
            'entropy': -self.ent_coef * self._current_progress_remaining * policy.log_std.sum(),
            'way': _WAY_WEIGHT * (off_way * weights).sum()}
        if pilot_weight > 0.0:
            off_pilot = mse_loss(means, _pilot(way), reduction='none').mean(dim=-1)
            terms['pilot'] = pilot_weight * (off_pilot * weights).sum()
        return terms


def _pilot(way: torch.Tensor) -> torch.Tensor:
    """Return the (..., 2) actions of one who follows the way: fast where it leads ahead."""
    bearing = torch.atan2(way[..., 1], way[..., 0])
    ahead = torch.cos(bearing).clamp(min=0.0).square()
    return torch.stack([1.5 * ahead - 0.55, (_PILOT_TURN * bearing).clamp(-1.0, 1.0)], dim=-1)
