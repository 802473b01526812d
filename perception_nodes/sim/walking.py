"""People who walk to and fro, and wait where the robot stands in their way."""

import math

import numpy as np
import numpy.typing as npt
from perception_nodes.sim.scene import Thing

_TURN_RPS = 2.5
_PATIENCE_M = 0.75  # how near they come to the robot


class Walker:
    """One walking person; the path is followed to its end and back."""

    def __init__(self, thing: Thing, mocap: int) -> None:
        self.thing = thing
        self.mocap = mocap  # index among MuJoCo's scripted bodies
        self.velocity_mps = np.zeros(2)  # in map
        self._path = np.array(thing.path_xy_m)
        self._place = self._path[0].copy()
        self._goal = 1
        self._yaw = self._heading()

    def step(self, dt_s: float, robot_xy_m: npt.NDArray[np.float64] | None) -> None:
        """Turn towards the next point, then walk; ``robot_xy_m`` is kept clear of."""
        self.velocity_mps = np.zeros(2)
        error = (self._heading() - self._yaw + math.pi) % (2.0 * math.pi) - math.pi
        self._yaw += min(_TURN_RPS * dt_s, max(-_TURN_RPS * dt_s, error))
        ahead = np.array([math.cos(self._yaw), math.sin(self._yaw)])
        if abs(error) > 0.3 or (robot_xy_m is not None and self._is_blocked(robot_xy_m, ahead)):
            return
        way = self._path[self._goal] - self._place
        left = float(np.hypot(*way))
        stride = self.thing.speed_mps * dt_s
        if left <= stride:
            self._place = self._path[self._goal].copy()
            self._goal = self._goal + 1
            if self._goal == len(self._path):
                self._path = self._path[::-1].copy()
                self._goal = 1
            return
        self.velocity_mps = way / left * self.thing.speed_mps
        self._place = self._place + self.velocity_mps * dt_s

    def pose(self) -> tuple[tuple[float, float, float], tuple[float, float, float, float]]:
        """Return position and quaternion (w, x, y, z) in map."""
        x, y = self._place.tolist()
        return (x, y, 0.0), (math.cos(self._yaw / 2.0), 0.0, 0.0, math.sin(self._yaw / 2.0))

    def _heading(self) -> float:
        dx, dy = (self._path[self._goal] - self._place).tolist()
        return math.atan2(dy, dx)

    def _is_blocked(self, robot_xy_m: npt.NDArray[np.float64],
                    ahead: npt.NDArray[np.float64]) -> bool:
        to_robot = robot_xy_m - self._place
        return float(np.hypot(*to_robot)) < _PATIENCE_M and float(to_robot @ ahead) > 0.0
