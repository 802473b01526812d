"""What the makers of objects and furniture share: primitives in few words, and paint."""

from collections.abc import Sequence
from dataclasses import replace
import math

import numpy as np
from perception_nodes.sim.poses import Pose
from perception_nodes.sim.scene import bounds, Rgb, Shape, Split, Surface
from perception_nodes.sim.textures import names

Parts = tuple[Shape, ...]

STEEL: Rgb = (0.72, 0.73, 0.75)
WOODS: tuple[Rgb, ...] = (
    (0.80, 0.60, 0.40), (0.62, 0.42, 0.26), (0.45, 0.29, 0.18), (0.90, 0.78, 0.60),
    (0.30, 0.19, 0.13), (0.93, 0.92, 0.90), (0.20, 0.20, 0.21))


class Paint:
    """Draws surfaces for one scene, from the textures of its split."""

    def __init__(self, rng: np.random.Generator, split: Split) -> None:
        self.rng = rng
        self.split = split

    def colour(self) -> Rgb:
        """Return any colour: one in four is nearly grey."""
        saturation = self.rng.uniform(0.0, 0.15) if self.rng.random() < 0.25 else (
            self.rng.uniform(0.3, 1.0))
        return _hsv(self.rng.uniform(), saturation, self.rng.uniform(0.15, 1.0))

    def pale(self) -> Rgb:
        """Return a colour walls are painted in."""
        return _hsv(self.rng.uniform(), self.rng.uniform(0.0, 0.3), self.rng.uniform(0.6, 0.98))

    def plain(self, rgb: Rgb | None = None, specular: float | None = None) -> Surface:
        """Return a surface of one colour."""
        shine = float(self.rng.uniform(0.0, 0.5)) if specular is None else specular
        return Surface(rgb or self.colour(), specular=shine,
                       shininess=float(self.rng.uniform(0.1, 0.8)))

    def textured(self, kind: str, rgb: Rgb | None = None, repeats_per_m: float = 0.0) -> Surface:
        """Return a surface with any texture of a kind, tinted."""
        surface = self.plain(rgb)
        return replace(surface, texture=str(self.rng.choice(names(kind, self.split))),
                       repeats_per_m=repeats_per_m)

    def any_of(self, kinds: Sequence[str], repeats_per_m: float = 0.0) -> Surface:
        """Return a surface with a texture of one of the kinds; '' is plain."""
        kind = str(self.rng.choice(list(kinds)))
        return self.textured(kind, None, repeats_per_m) if kind else self.plain()

    def wood(self, repeats_per_m: float = 0.0) -> Surface:
        """Return the surface of wooden furniture, painted at times."""
        rgb = WOODS[int(self.rng.integers(len(WOODS)))] if self.rng.random() < 0.8 else (
            self.colour())
        if self.rng.random() < 0.25:
            return self.plain(rgb)
        return self.textured('wood', rgb, repeats_per_m)

    def label(self) -> Surface:
        """Return printed packaging, untinted."""
        return self.textured('label', (1.0, 1.0, 1.0))

    def uniform(self, low: float, high: float) -> float:
        """Return a number between the two."""
        return float(self.rng.uniform(low, high))


def box(half_m: tuple[float, float, float], at_m: tuple[float, float, float], surface: Surface,
        yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Shape:
    """Return a box by its half edges."""
    return Shape('box', half_m, surface, Pose.at(*at_m, yaw, pitch, roll))


def cylinder(radius_m: float, half_m: float, at_m: tuple[float, float, float], surface: Surface,
             yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Shape:
    """Return a cylinder along z before it is turned."""
    return Shape('cylinder', (radius_m, half_m, 0.0), surface, Pose.at(*at_m, yaw, pitch, roll))


def ball(radius_m: float, at_m: tuple[float, float, float], surface: Surface) -> Shape:
    """Return a sphere."""
    return Shape('sphere', (radius_m, 0.0, 0.0), surface, Pose.at(*at_m))


def ellipsoid(radii_m: tuple[float, float, float], at_m: tuple[float, float, float],
              surface: Surface, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Shape:
    """Return an ellipsoid by its radii."""
    return Shape('ellipsoid', radii_m, surface, Pose.at(*at_m, yaw, pitch, roll))


def rod(radius_m: float, start_m: Sequence[float], end_m: Sequence[float],
        surface: Surface) -> Shape:
    """Return a capsule whose axis runs between two points."""
    start, end = np.asarray(start_m, np.float64), np.asarray(end_m, np.float64)
    along = end - start
    length = float(np.linalg.norm(along))
    yaw, pitch = math.atan2(along[1], along[0]), math.acos(along[2] / length)
    x, y, z = ((start + end) / 2.0).tolist()
    return Shape('capsule', (radius_m, length / 2.0, 0.0), surface, Pose.at(x, y, z, yaw, pitch))


def ring(radius_m: float, wall_m: float, half_m: float, z_m: float, surface: Surface,
         flare: float = 0.0, count: int = 12) -> Parts:
    """
    Return a hollow round wall made of boxes.

    :param radius_m: Outer radius at half height.
    :param flare: Angle by which the wall opens upwards, radians.
    """
    middle = radius_m - wall_m / 2.0
    half_width = (radius_m + half_m * math.sin(max(flare, 0.0))) * math.tan(math.pi / count)
    return tuple(
        box((wall_m / 2.0, half_width, half_m),
            (middle * math.cos(a), middle * math.sin(a), z_m), surface, yaw=a, pitch=flare)
        for a in 2.0 * math.pi * np.arange(count) / count)


def on_ground(parts: Parts) -> Parts:
    """Move the parts so that their bounding box stands centred on the origin."""
    low, high = bounds(parts)
    shift = np.array([(low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0, low[2]])
    return moved(parts, Pose.at(*(-shift)))


def moved(parts: Parts, pose: Pose) -> Parts:
    """Return the parts carried by a pose."""
    return tuple(
        replace(part, pose=Pose.from_matrix(pose.matrix @ part.pose.matrix)) for part in parts)


def _hsv(hue: float, saturation: float, value: float) -> Rgb:
    wheel = [min(1.0, max(0.0, abs((hue * 6.0 + k) % 6.0 - 3.0) - 1.0)) for k in (0.0, 4.0, 2.0)]
    r, g, b = (float(value * (1.0 - saturation * (1.0 - w))) for w in wheel)
    return r, g, b
