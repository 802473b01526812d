"""Driving to goals in the simulator's furnished rooms, with its physics and sensors, judged."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from perception_nodes.core.navigation import NavigationState, Navigator
from perception_nodes.core.protocols import NavigationPolicy
from perception_nodes.evaluation.metrics import scores_with_intervals
from perception_nodes.sim.navigation_mujoco import HARD_MPS, SimulatorNavigationEnv

ROOMS = 20  # of one trial, each furnished anew
FIRST_SEED = 1000  # those before it were looked at
_LONGEST_S = 60.0


@dataclass(frozen=True)
class RoomDrive:
    """How one drive in a room went."""

    reached: bool
    impact_mps: float  # of the hardest contact, 0 without any
    time_s: float
    reason: str  # of the last decision

    @property
    def collided(self) -> bool:
        """Return whether there was a contact that counts."""
        return self.impact_mps > HARD_MPS


def drive_room(
    env: SimulatorNavigationEnv, policy: NavigationPolicy, seed: int, *, guarded: bool = True
) -> RoomDrive:
    """
    Let a policy drive to the goal of one room; a contact that counts ends it.

    :param seed: Of the room, of what is in it and of the noise.
    :param guarded: Whether the safety layer acts.
    """
    env.reset(seed=seed)
    navigator = Navigator(policy, env.robot, guarded=guarded)
    period_s, time_s, impact_mps = env.robot.period_ms / 1e3, 0.0, 0.0
    observation = env.observe()
    while True:
        step = navigator.step(observation, time_s)
        is_over = step.state is not NavigationState.MOVING or time_s >= _LONGEST_S
        if is_over or impact_mps > HARD_MPS:
            return RoomDrive(step.state is NavigationState.REACHED and impact_mps <= HARD_MPS,
                             impact_mps, time_s, step.reason)
        impact_mps = max(impact_mps, env.drive(step.command))
        time_s += period_s
        observation = env.observe()


def room_rows(
    policies: Mapping[str, NavigationPolicy], trials: int, seed: int, *, rooms: int = ROOMS
) -> dict[str, float]:
    """
    Return success and collision shares in rooms, with their intervals over rooms.

    The robot sees by lidar and depth camera in one obstacle map, as a lidar alone misses what
    lies on the floor, feet of chairs and table tops.

    :param policies: By the prefix of their figures; ``nosafety_`` drives without safety layer.
    :param trials: How many times ``rooms`` rooms, each of them new.
    :param seed: Other seeds give other rooms.
    :return: ``PREFIXroom_success`` and ``PREFIXroom_collision`` with ``_ci_low``, ``_ci_high``.
    """
    tables: dict[str, npt.NDArray[np.float64]] = {}
    env = SimulatorNavigationEnv(longest_s=_LONGEST_S, sensor='both')
    try:
        seeds = _usable(env, FIRST_SEED + seed * 1000, trials * rooms)
        for prefix, policy in policies.items():
            guarded = not prefix.startswith('nosafety')
            drives = [drive_room(env, policy, room, guarded=guarded) for room in seeds]
            tables[prefix] = np.array([(d.reached, d.collided) for d in drives], np.float64)
    finally:
        env.close()

    def score(weights: npt.NDArray[np.int64]) -> dict[str, float]:
        values: dict[str, float] = {}
        for prefix, table in tables.items():
            success, collision = (weights @ table / weights.sum()).tolist()
            values |= {f'{prefix}room_success': success, f'{prefix}room_collision': collision}
        return values

    return scores_with_intervals(score, np.arange(len(seeds)), seed)


def _usable(env: SimulatorNavigationEnv, first: int, count: int) -> list[int]:
    """Return seeds of rooms in which there is somewhere to go, from one on."""
    seeds: list[int] = []
    seed = first
    while len(seeds) < count:
        try:
            env.reset(seed=seed)
            seeds.append(seed)
        except ValueError:  # too crowded for a goal
            pass
        seed += 1
    return seeds
