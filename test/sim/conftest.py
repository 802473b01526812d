"""Scenes so simple that the answers are known."""

import pytest

pytest.importorskip('mujoco')

from perception_nodes.core.types import CameraIntrinsics  # noqa: E402
from perception_nodes.sim.classes import class_id  # noqa: E402
from perception_nodes.sim.poses import Pose  # noqa: E402
from perception_nodes.sim.scene import (  # noqa: E402
    Light,
    RobotStart,
    Scene,
    Shape,
    Surface,
    Thing,
)

GREY = Surface((0.5, 0.5, 0.5))


@pytest.fixture
def thing():
    """Return a maker of things of one shape."""
    def make(kind, size_m, at, name='thing', label='box', **more):
        shape = Shape(kind, tuple(map(float, size_m)), more.pop('surface', GREY))
        pose = at if isinstance(at, Pose) else Pose.at(*at)
        return Thing(name, name, class_id(label), (shape,), pose, **more)
    return make


@pytest.fixture
def scene(thing):
    """Return a maker of scenes: a floor, a lamp, a robot at the origin, and what is given."""
    def make(*things, robot=RobotStart(0.0, 0.0, 0.0), **more):  # noqa: B008
        floor = thing('plane', (0, 0, 0), (0, 0, 0), 'floor', 'floor')
        return Scene(
            'plain', more.pop('seed', 0), 'train', (floor, *things),
            (Light((0.0, 0.0, 2.5), (0.0, 0.0, -1.0), (0.6, 0.6, 0.6)),), (0.3, 0.3, 0.3),
            (0.1, 0.1, 0.1), ((0.5, 0.7, 1.0), (0.9, 0.9, 1.0)), (-5.0, -5.0, 5.0, 5.0),
            robot=robot, **more)
    return make


@pytest.fixture
def lens():
    return CameraIntrinsics.from_fov(160, 120, 70.0)
