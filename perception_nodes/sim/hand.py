"""
The gripper's shape: two parallel jaws under a palm.

The grasp frame has its origin midway between the closed fingertips, z along the approach, y along
the closing direction.
"""

from perception_nodes.sim.parts import box
from perception_nodes.sim.scene import Shape, Surface

GUIDE, HAND, FINGERS = 'guide', 'hand', ('left_finger', 'right_finger')
PARKED_M = (0.0, 0.0, 5.0)  # out of every camera's sight

MAX_OPENING_M = 0.08
FINGER_WIDTH_M = 0.02  # along x
FINGER_THICKNESS_M = 0.01  # along y
FINGER_DEPTH_M = 0.045  # from the palm to the tips
CLOSING_FORCE_N = 20.0

_STEEL, _RUBBER = Surface((0.75, 0.75, 0.78)), Surface((0.12, 0.12, 0.12))


def finger_shape() -> Shape:
    """Return one finger, its tip in the plane z = 0."""
    return box((FINGER_WIDTH_M / 2.0, FINGER_THICKNESS_M / 2.0, FINGER_DEPTH_M / 2.0),
               (0.0, 0.0, -FINGER_DEPTH_M / 2.0), _RUBBER)


def palm_shapes() -> tuple[Shape, ...]:
    """Return what the fingers slide on, and the wrist."""
    return (box((0.018, 0.055, 0.02), (0.0, 0.0, -FINGER_DEPTH_M - 0.02), _STEEL),
            box((0.03, 0.03, 0.05), (0.0, 0.0, -FINGER_DEPTH_M - 0.09), _STEEL))
