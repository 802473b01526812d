"""What a learned navigation policy is given beside its observation, and what its actions mean."""

import numpy as np
import numpy.typing as npt
from perception_nodes.core.navigation import STATE_SIZE
from perception_nodes.core.safety import VelocityLimits

_PUSH_FROM_M = 1.2  # obstacles farther away do not push
_PUSH = 0.06
_TURN_GAIN = 2.0  # rad/s for each radian
_SLOW_WITHIN_M = 0.8  # of an obstacle ahead


def commands_of(
    actions: npt.NDArray[np.float64], limits: VelocityLimits
) -> npt.NDArray[np.float64]:
    """
    Return speeds ahead and turns of actions.

    :param actions: (N, 2) in [-1, 1]; what is beyond is cut off.
    :return: (N, 2) m/s and rad/s.
    """
    actions = np.clip(actions, -1.0, 1.0)
    span = limits.ahead_mps + limits.back_mps
    return np.stack([(actions[:, 0] + 1.0) / 2.0 * span - limits.back_mps,
                     actions[:, 1] * limits.turn_rps], axis=1)


def innate_actions(
    vectors: npt.NDArray[np.float32], reach_m: float
) -> npt.NDArray[np.float32]:
    """
    Return what the goal's pull and the obstacles' push together want.

    Khatib, "Real-Time Obstacle Avoidance for Manipulators and Mobile Robots", 1986: the robot
    turns along the sum of both forces, and drives slower the less the sum points ahead and the
    nearer something stands there. It remembers nothing and gets caught in dead ends.

    :param vectors: (N, S + 14) observations as
        :func:`perception_nodes.core.navigation.observation_vectors` orders them, of one scan.
    :return: (N, 2) actions, as :func:`commands_of` takes them.
    """
    shares, state = vectors[:, :-STATE_SIZE], vectors[:, -STATE_SIZE:]
    count = shares.shape[1]
    angles = (np.arange(count) + 0.5) / count * 2.0 * np.pi - np.pi
    seen_m = np.where(shares < 0.0, np.inf, np.maximum(shares * reach_m, 0.05))
    push = np.maximum(1.0 / seen_m - 1.0 / _PUSH_FROM_M, 0.0) * (_PUSH * 120.0 / count)
    x = state[:, 1] - push @ np.cos(angles)
    y = state[:, 2] - push @ np.sin(angles)
    heading = np.arctan2(y, x)
    beside = seen_m * np.abs(np.sin(angles)) < state[:, 7, None] + 0.05
    ahead_m = np.where(beside & (np.cos(angles) > 0.0), seen_m * np.cos(angles), np.inf)
    room_m = np.maximum(ahead_m.min(axis=1) - state[:, 5], 0.0)
    ahead_mps, back_mps, turn_rps = state[:, 9], state[:, 10], state[:, 11]
    speed = ahead_mps * np.maximum(np.cos(heading), 0.0) ** 2 * np.minimum(
        room_m / _SLOW_WITHIN_M, 1.0)
    return np.stack([2.0 * (speed + back_mps) / (ahead_mps + back_mps) - 1.0,
                     np.clip(_TURN_GAIN * heading / turn_rps, -1.0, 1.0)],
                    axis=1).astype(np.float32)


def policy_input(
    vectors: npt.NDArray[np.float32], last_actions: npt.NDArray[np.float32], reach_m: float,
    innate: bool,
) -> npt.NDArray[np.float32]:
    """
    Return what a learned policy takes: the observation, its last action, the innate action.

    :param vectors: (N, S + 14) observations.
    :param last_actions: (N, 2), zero at the start.
    :param innate: Whether the policy corrects the innate rule.
    :return: (N, S + 16), or (N, S + 18) with the innate action at the end.
    """
    parts = [vectors, np.clip(last_actions, -1.0, 1.0)]
    if innate:
        parts.append(innate_actions(vectors, reach_m))
    return np.concatenate(parts, axis=1).astype(np.float32, copy=False)
