"""
The robot's body: a differential drive with a lidar and a camera that looks ahead.

It moves in the plane by a velocity servo of limited force, so it is stopped by what it runs into
and pushes what is light, but never tips, slips or jitters; wheels are drawn, not simulated.
"""

from dataclasses import dataclass
import math

from perception_nodes.sim.parts import box, cylinder, Parts
from perception_nodes.sim.poses import Matrix, MOUNT_FROM_OPTICAL, Pose
from perception_nodes.sim.scene import Footprint, Surface

HEIGHT_M = 0.62  # what it drives under; what is lower than CLIMB_M it rolls over
CLIMB_M = 0.02
MASS_KG = 18.0
MAX_FORCE_N = 60.0
MAX_TORQUE_NM = 20.0

_DARK, _BODY = Surface((0.1, 0.1, 0.11)), Surface((0.35, 0.37, 0.42))
_ACCENT = Surface((0.9, 0.45, 0.1))


@dataclass(frozen=True)
class Mounts:
    """Where the sensors sit on base_link, whose origin is on the floor."""

    base_from_laser: Matrix
    base_from_camera_link: Matrix  # x ahead, y left, z up

    @property
    def base_from_camera(self) -> Matrix:
        """Return the (4, 4) pose of the optical frame on base_link."""
        return self.base_from_camera_link @ MOUNT_FROM_OPTICAL


def mounts(footprint: Footprint, camera_pitch_rad: float) -> Mounts:
    """
    Return where the sensors of a robot sit.

    :param camera_pitch_rad: Downward tilt of the camera.
    """
    front = footprint.radius_m or footprint.length_m / 2.0
    # a glance down must not show the robot's own front, so the camera sits over its edge
    return Mounts(Pose.at(0.0, 0.0, 0.24).matrix,
                  Pose.at(front - 0.02, 0.0, 0.56, pitch_rad=camera_pitch_rad).matrix)


def robot_parts(footprint: Footprint) -> Parts:
    """Return the body in base_link, its outline being the footprint."""
    if footprint.radius_m:
        radius = footprint.radius_m
        hull: Parts = (cylinder(radius, 0.085, (0, 0, 0.105), _BODY),
                       cylinder(radius * 0.9, 0.006, (0, 0, 0.196), _ACCENT))
        axle, wheel = radius * 0.85, 0.07
        wheels = [(0.0, s * axle) for s in (-1, 1)]
    else:
        half_x, half_y = footprint.length_m / 2.0, footprint.width_m / 2.0
        hull = (box((half_x, half_y * 0.8, 0.06), (0, 0, 0.14), _BODY),
                box((half_x, half_y, 0.03), (0, 0, 0.17), _BODY))
        wheel = 0.098
        wheels = [(x * half_x * 0.55, s * half_y * 0.9) for x in (-1, 1) for s in (-1, 1)]
    front = footprint.radius_m or footprint.length_m / 2.0
    return (*hull,
            *(cylinder(wheel, 0.018, (x, y, wheel), _DARK, roll=math.pi / 2) for x, y in wheels),
            cylinder(0.015, 0.15, (front - 0.07, 0, 0.35), _DARK),
            box((0.02, 0.015, 0.025), (front - 0.07, 0, 0.52), _DARK),
            box((0.014, 0.05, 0.014), (front - 0.07, 0, 0.56), _DARK),
            cylinder(0.035, 0.025, (0, 0, 0.227), _DARK))
