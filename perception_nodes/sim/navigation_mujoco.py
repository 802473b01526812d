"""The navigation task with the simulated robot of MuJoCo, to see whether policies transfer."""

from typing import Any

import cv2
import gymnasium
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import inverse
from perception_nodes.core.mapping import MappingParams, ObstacleMapper
from perception_nodes.core.navigation import (
    NavigationObservation,
    NavigationParams,
    ObservationBuilder,
)
from perception_nodes.core.navigation_rules import commands_of
from perception_nodes.core.types import LaserRanges, VelocityCommand
from perception_nodes.sim.navigation_env import observation_space
from perception_nodes.sim.poses import yaw_of
from perception_nodes.sim.robot import CLIMB_M, HEIGHT_M
from perception_nodes.sim.scene import ROUND_ROBOT
from perception_nodes.sim.simulator import CAMERA, Simulator, SimulatorParams

HARD_MPS = 0.1  # a slower touch is no collision
_RADIUS_M = ROUND_ROBOT.radius_m
_SPARE_M = 0.15  # room around a goal, beside the robot itself
_NEAREST_GOAL_M = 2.0
# what is a little too high to roll over must not be lost in the noise of its height
_MAP = MappingParams(min_height_m=CLIMB_M - 0.005, max_height_m=HEIGHT_M + 0.1)

# a narrower camera, or one less tilted, never sees low things beside a robot that turns
_FOV_DEG, _PITCH_DEG = 87.0, 30.0

# the round robot of the rooms
ROOM_ROBOT = NavigationParams(
    footprint_front_m=_RADIUS_M, footprint_rear_m=_RADIUS_M, footprint_half_width_m=_RADIUS_M,
    footprint_corner_m=_RADIUS_M, max_linear_mps=0.8, max_linear_mps2=1.5,
    max_reverse_mps=0.08, goal_tolerance_m=0.3)


class SimulatorNavigationEnv(gymnasium.Env):
    """
    One robot in rooms of the simulator, with its physics, its lidar and its odometry.

    Observations and actions are those of
    :class:`perception_nodes.sim.navigation_env.NavigationVectorEnv`. The goal is a free place in
    the same room, at least 2 m away, that the robot can get to, given in odom. The reward is 1 at
    the goal and -1 at a contact harder than 0.1 m/s, which both end the episode. Infos:
    ``impact_mps``, the hardest contact of the step.

    :param params: Of the simulator; by default small depth images, and none with a lidar alone.
    :param robot: Footprint, limits, period and what is observed.
    :param longest_s: Time after which an episode is cut off.
    :param sensor: What shows obstacles: ``lidar``, whose plane misses feet, fruit on the floor and
        table tops; ``depth``, the scan that the obstacle map makes of the depth camera; or
        ``both`` in that map.
    """

    metadata = {'render_modes': []}

    def __init__(self, params: SimulatorParams | None = None,
                 robot: NavigationParams = ROOM_ROBOT, longest_s: float = 60.0,
                 sensor: str = 'lidar') -> None:
        self.robot, self._sensor = robot, sensor
        self.observation_space = observation_space(robot)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._longest_s = longest_s
        self._next_seed = 0
        self._builder = ObservationBuilder(robot)
        self._mapper = ObstacleMapper(_MAP)
        self.simulator = Simulator(params or SimulatorParams(
            split='test', renderer='rays', camera_width=160, camera_height=120,
            camera_fov_deg=_FOV_DEG, camera_pitch_deg=_PITCH_DEG))
        self._goal = np.zeros(4)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Begin in the room of a seed; without one, in the next room."""
        super().reset(seed=seed)
        seed = self._next_seed if seed is None else seed
        self._next_seed = seed + 1
        self.simulator.reset(seed)
        x, y = self._free_goal(np.random.default_rng(seed))
        self._goal = inverse(self.simulator.map_from_odom) @ (x, y, 0.0, 1.0)
        self._builder.reset()
        self._mapper.reset()
        return self.observe().vector(), {}

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Drive one period."""
        v, w = commands_of(np.asarray(action, np.float64)[None], self.robot.limits)[0].tolist()
        impact_mps = self.drive(VelocityCommand(v, w))
        observation = self.observe()
        reached = observation.goal_distance_m <= self.robot.goal_tolerance_m
        hit = impact_mps > HARD_MPS
        return (observation.vector(), float(reached and not hit) - float(hit), reached or hit,
                self.simulator.stamp_ns >= self._longest_s * 1e9, {'impact_mps': impact_mps})

    def drive(self, command: VelocityCommand) -> float:
        """Drive one period with a command, and return the hardest contact, m/s."""
        self.simulator.step(command, self.robot.period_ms / 1e3)
        return max((c.impact_mps for c in self.simulator.take_contacts()), default=0.0)

    def observe(self) -> NavigationObservation:
        """Look around, once in a period."""
        sim = self.simulator
        if self._sensor == 'lidar':
            self._builder.add(sim.scan(), sim.mounts.base_from_laser)
        else:
            self._builder.add(self._swept(), np.eye(4))
        x, y = (inverse(sim.odom_from_base) @ self._goal)[:2].tolist()
        pose = sim.odom_from_base
        return self._builder.observe(
            (x, y), sim.twist, (float(pose[0, 3]), float(pose[1, 3]), yaw_of(pose)))

    def _swept(self) -> LaserRanges:
        """Return the scan that the obstacle map makes of what the sensors see now."""
        sim, mapper = self.simulator, self._mapper
        odom_from_base = sim.odom_from_base
        mapper.move(odom_from_base, sim.stamp_ns)
        if self._sensor == 'both':
            mapper.integrate_scan(
                sim.scan(), odom_from_base @ sim.mounts.base_from_laser, odom_from_base)
        view = mapper.view(sim.depth(CAMERA), sim.intrinsics,
                           odom_from_base @ sim.mounts.base_from_camera, odom_from_base)
        mapper.integrate(view)
        return mapper.sweep([view], odom_from_base, sim.stamp_ns)

    def close(self) -> None:
        """Give back what the simulator holds."""
        self.simulator.close()

    def _free_goal(self, rng: np.random.Generator) -> tuple[float, float]:
        """Return a place in map that the robot can get to, and stand at."""
        grid = self.simulator.occupancy()
        step = grid.resolution_m
        room = cv2.distanceTransform((grid.cells == 0).astype(np.uint8), cv2.DIST_L2, 5) * step
        labels = cv2.connectedComponents((room > _RADIUS_M + 0.05).astype(np.uint8))[1]
        here = self.simulator.map_from_base[:2, 3]
        column, row = np.floor((here - grid.origin_xy_m) / step).astype(int).tolist()
        rows, columns = np.nonzero(
            (labels == labels[row, column]) & (room > _RADIUS_M + _SPARE_M))
        places = (np.stack([columns, rows], axis=1) + 0.5) * step + grid.origin_xy_m
        low, high = np.split(np.array(self.simulator.scene.interior_xy_m), 2)
        places = places[((places > low) & (places < high)).all(axis=1)]
        far = places[np.hypot(*(places - here).T) >= _NEAREST_GOAL_M]
        if not len(far):
            raise ValueError(
                f"no place in world '{self.simulator.scene.world}' with seed "
                f'{self.simulator.scene.seed} is {_NEAREST_GOAL_M} m from the start and free; '
                'take another seed')
        x, y = far[rng.integers(len(far))].tolist()
        return x, y
