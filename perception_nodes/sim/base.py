"""The robot's base in physics: driven, moved by waves, pushed back by what it meets."""

from dataclasses import dataclass
import math

import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import VelocityCommand
from perception_nodes.sim.engine import mujoco
from perception_nodes.sim.model import Model
from perception_nodes.sim.poses import Matrix, Pose, yaw_of


@dataclass(frozen=True)
class Limits:
    """What the wheels can do."""

    linear_mps: float
    angular_rps: float
    linear_mps2: float
    angular_rps2: float


def approached(
    driven: VelocityCommand, wanted: VelocityCommand, limits: Limits, dt_s: float
) -> VelocityCommand:
    """Return the velocity after a moment, on the way from the driven to the wanted one."""
    return VelocityCommand(
        _nearer(driven.linear_mps, wanted.linear_mps, limits.linear_mps,
                limits.linear_mps2 * dt_s),
        _nearer(driven.angular_rps, wanted.angular_rps, limits.angular_rps,
                limits.angular_rps2 * dt_s))


def _nearer(value: float, goal: float, limit: float, step: float) -> float:
    goal = min(limit, max(-limit, goal))
    return value + min(step, max(-step, goal - value))


class Base:
    """The joints and servos of the base, in map."""

    def __init__(self, model: Model, data: mujoco.MjData) -> None:
        mj = model.mj
        self._data = data
        self._at = [int(mj.joint(name).qposadr[0]) for name in ('base_x', 'base_y', 'base_yaw')]
        self._speed = [int(mj.joint(name).dofadr[0]) for name in ('base_x', 'base_y', 'base_yaw')]
        self._servos = [mj.actuator(name).id for name in ('base_x', 'base_y', 'base_yaw')]
        self._floating = []
        if model.scene.wave_height_m > 0.0:
            self._floating = [
                (mj.actuator(name).id, int(mj.joint(name).qposadr[0]))
                for name in ('base_heave', 'base_pitch', 'base_roll')]

    def place(self, map_from_base: Matrix) -> None:
        """Put it somewhere, at rest."""
        self._data.qpos[self._at] = (
            map_from_base[0, 3], map_from_base[1, 3], yaw_of(map_from_base))
        self._data.qvel[self._speed] = 0.0

    def pose(self) -> Matrix:
        """Return the (4, 4) map_from_base."""
        x, y, yaw = self._data.qpos[self._at].tolist()
        z, pitch, roll = ([float(self._data.qpos[i]) for _, i in self._floating]
                          or (0.0, 0.0, 0.0))
        return Pose.at(x, y, z, yaw, pitch, roll).matrix

    def twist(self) -> VelocityCommand:
        """Return the velocity in base_link; what it slides sideways is left out."""
        vx, vy, turn = self._data.qvel[self._speed].tolist()
        yaw = float(self._data.qpos[self._at[2]])
        return VelocityCommand(vx * math.cos(yaw) + vy * math.sin(yaw), turn)

    def place_and_velocity(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return (3,) x, y, yaw and (3,) their rates, in map."""
        return self._data.qpos[self._at].copy(), self._data.qvel[self._speed].copy()

    def drive(self, command: VelocityCommand) -> None:
        """Set the servos."""
        yaw = float(self._data.qpos[self._at[2]])
        self._data.ctrl[self._servos] = (
            command.linear_mps * math.cos(yaw), command.linear_mps * math.sin(yaw),
            command.angular_rps)

    def float_to(self, heave_m: float, pitch_rad: float, roll_rad: float) -> None:
        """Set what the water asks for."""
        for (servo, _), value in zip(self._floating, (heave_m, pitch_rad, roll_rad), strict=True):
            self._data.ctrl[servo] = value

    def moved_since(self, before: npt.NDArray[np.float64]) -> tuple[float, float, float]:
        """Return the step ahead, aside and turned since an earlier x, y, yaw, in base_link."""
        dx, dy, turn = (self._data.qpos[self._at] - before).tolist()
        middle = float(before[2]) + turn / 2.0
        c, s = math.cos(middle), math.sin(middle)
        return c * dx + s * dy, c * dy - s * dx, turn
