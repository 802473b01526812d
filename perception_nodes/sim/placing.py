"""Finding room on the floor and on shelves: outlines that must not touch."""

from dataclasses import dataclass, field
import math

import numpy as np
import numpy.typing as npt
from perception_nodes.sim.parts import Parts
from perception_nodes.sim.scene import bounds


@dataclass(frozen=True)
class Spot:
    """A rectangle on the ground, in any frame."""

    x_m: float
    y_m: float
    yaw_rad: float
    half_x_m: float
    half_y_m: float

    def corners(self) -> npt.NDArray[np.float64]:
        """Return the (4, 2) corners, metres."""
        c, s = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        turn = np.array([[c, -s], [s, c]])
        half = np.array([self.half_x_m, self.half_y_m])
        signs = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
        return (signs * half) @ turn.T + (self.x_m, self.y_m)

    def grown(self, margin_m: float) -> 'Spot':
        """Return it with a margin on every side."""
        return Spot(self.x_m, self.y_m, self.yaw_rad,
                    self.half_x_m + margin_m, self.half_y_m + margin_m)

    def overlaps(self, other: 'Spot') -> bool:
        """Return whether the two share any ground (separating axes)."""
        reach = math.hypot(self.half_x_m, self.half_y_m) + math.hypot(
            other.half_x_m, other.half_y_m)
        if math.hypot(self.x_m - other.x_m, self.y_m - other.y_m) > reach:
            return False
        mine, theirs = self.corners(), other.corners()
        for yaw in (self.yaw_rad, self.yaw_rad + math.pi / 2, other.yaw_rad,
                    other.yaw_rad + math.pi / 2):
            axis = np.array([math.cos(yaw), math.sin(yaw)])
            a, b = mine @ axis, theirs @ axis
            if a.max() <= b.min() or b.max() <= a.min():
                return False
        return True


def half_size(parts: Parts) -> tuple[float, float]:
    """Return half the extent along x and y of parts that are centred on the origin."""
    low, high = bounds(parts)
    reach = np.maximum(-low, high)
    return float(reach[0]), float(reach[1])


@dataclass
class Ground:
    """Ground that fills up."""

    taken: list[Spot] = field(default_factory=list)

    def is_free(self, spot: Spot, margin_m: float = 0.0) -> bool:
        """Return whether nothing taken comes nearer than a margin."""
        wide = spot.grown(margin_m)
        return not any(wide.overlaps(other) for other in self.taken)

    def take(self, spot: Spot) -> None:
        """Mark ground as used."""
        self.taken.append(spot)
