"""Rooms of the simulator as courses: what is counted, with policies whose end is known."""

from perception_nodes.core.dynamic_window import DynamicWindow
from perception_nodes.core.types import VelocityCommand
import pytest

pytest.importorskip('mujoco')

from perception_nodes.evaluation.navigation_rooms import drive_room, room_rows  # noqa: E402
from perception_nodes.sim.navigation_mujoco import SimulatorNavigationEnv  # noqa: E402


class FullSpeed:
    """Wants straight ahead, whatever is there."""

    def act(self, observation, state):
        return VelocityCommand(5.0, 0.0), None


@pytest.mark.slow
def test_full_speed_without_the_safety_layer_hits_in_every_room():
    rows = room_rows({'nosafety_': FullSpeed()}, 1, 0, rooms=2)
    assert rows['nosafety_room_collision'] == 1.0
    assert rows['nosafety_room_success'] == 0.0
    assert rows['nosafety_room_collision_ci_low'] == 1.0


@pytest.mark.slow
def test_the_dynamic_window_arrives_in_an_easy_room():
    """Nothing stands between start and goal of this room."""
    env = SimulatorNavigationEnv()
    drive = drive_room(env, DynamicWindow(), 5)
    env.close()
    assert drive.reached
    assert not drive.collided
    assert 4.0 < drive.time_s < 20.0
