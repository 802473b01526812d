"""Water that moves: a sum of three waves, and what floats on it."""

from dataclasses import dataclass
import math

import numpy as np
from perception_nodes.sim.poses import Pose

_GRAVITY = 9.81


@dataclass(frozen=True)
class Waves:
    """Waves in deep water, in map; the surface itself is drawn flat."""

    # height (m), direction (rad), wave number (rad/m), phase (rad)
    parts: tuple[tuple[float, float, float, float], ...]

    @classmethod
    def drawn(cls, seed: int, height_m: float) -> 'Waves':
        """Draw three waves whose heights add up to ``height_m``; none where that is 0."""
        if height_m <= 0.0:
            return cls(())
        rng = np.random.default_rng(seed)
        shares = rng.dirichlet((2.0, 2.0, 2.0)) * height_m
        rows = zip(shares.tolist(), rng.uniform(-math.pi, math.pi, 3).tolist(),
                   rng.uniform(0.8, 2.5, 3).tolist(), rng.uniform(0.0, 2 * math.pi, 3).tolist(),
                   strict=True)
        return cls(tuple(rows))

    def surface(self, x_m: float, y_m: float, time_s: float) -> tuple[float, float, float]:
        """Return the height above calm water and its slopes along x and y."""
        height = slope_x = slope_y = 0.0
        for high, direction, number, phase in self.parts:
            c, s = math.cos(direction), math.sin(direction)
            at = number * (c * x_m + s * y_m) - math.sqrt(_GRAVITY * number) * time_s + phase
            height += high * math.sin(at)
            slope = high * number * math.cos(at)
            slope_x, slope_y = slope_x + slope * c, slope_y + slope * s
        return height, slope_x, slope_y

    def tilt(self, x_m: float, y_m: float, yaw_rad: float,
             time_s: float) -> tuple[float, float, float]:
        """Return heave (m), pitch and roll (rad) of a hull that lies on the water."""
        height, slope_x, slope_y = self.surface(x_m, y_m, time_s)
        c, s = math.cos(yaw_rad), math.sin(yaw_rad)
        ahead, aside = c * slope_x + s * slope_y, c * slope_y - s * slope_x
        return height, -math.atan(ahead), math.atan(aside)

    def lifted(self, pose: Pose, time_s: float) -> Pose:
        """Return where something that floats at ``pose`` on calm water is now."""
        x, y, z = pose.xyz_m
        yaw = 2.0 * math.atan2(pose.quat_wxyz[3], pose.quat_wxyz[0])
        height, pitch, roll = self.tilt(x, y, yaw, time_s)
        return Pose.at(x, y, z + height, yaw, pitch, roll)
