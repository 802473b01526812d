"""Same seed, same bytes: of every message the simulator's sensors and truth become."""

import pytest

pytest.importorskip('mujoco', reason='mujoco is not installed: the simulator needs it')

from perception_nodes.conversions import encode, encode_robot  # noqa: E402
from perception_nodes.core.types import VelocityCommand  # noqa: E402
from perception_nodes.evaluation.message_types import MessageTypes  # noqa: E402
from perception_nodes.sim.sensors import as_millimetres  # noqa: E402
from perception_nodes.sim.simulator import OPTICAL_FRAMES, Simulator, SimulatorParams  # noqa: E402
from perception_nodes.simulation_node import true_boxes_in_space, true_detections  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402

COMMANDS = [VelocityCommand(0.5, 0.0), VelocityCommand(0.2, 1.5), VelocityCommand(0.0, -1.0)]
TYPES = MessageTypes()
SMALL = {'renderer': 'rays', 'camera_width': 80, 'camera_height': 60}


def drive(world, seed):
    """Return the content of each kind of message, after each command of a fresh simulator."""
    simulator = Simulator(SimulatorParams(world=world, **SMALL), seed)
    moments = []
    for command in COMMANDS:
        simulator.step(command, 0.3)
        messages = motion_messages(simulator)
        for camera in simulator.cameras:
            messages |= camera_messages(simulator, camera)
        moments.append({name: content(msg) for name, msg in messages.items()})
    simulator.close()
    return moments


def content(msg):
    """
    Return the message's fields, read back from its bytes.

    The bytes themselves differ even between two serialisations of one message: Fast CDR leaves
    what it skips to align the next field as it was in memory.
    """
    name = f'{type(msg).__module__.split(".")[0]}/msg/{type(msg).__name__}'
    return plain(TYPES.deserialize(serialize_message(msg), name))


def plain(value):
    """Return nested tuples and bytes of a message that rosbags has read."""
    if hasattr(value, 'tobytes'):
        return value.tobytes()
    if isinstance(value, list):
        return tuple(map(plain, value))
    if hasattr(value, '__dataclass_fields__'):
        return tuple(plain(getattr(value, name)) for name in value.__dataclass_fields__)
    return value


def motion_messages(simulator):
    stamp_ns = simulator.stamp_ns
    links = [('map', 'odom', simulator.map_from_odom),
             ('odom', 'base_link', simulator.odom_from_base)]
    return {
        'tf': encode_robot.transforms_to_msg(links, stamp_ns),
        'odom': encode_robot.odometry_to_msg(
            simulator.odom_from_base, simulator.twist, encode.header_to_msg(stamp_ns, 'odom')),
        'true odom': encode_robot.odometry_to_msg(
            simulator.map_from_base, simulator.twist, encode.header_to_msg(stamp_ns, 'map')),
        'scan': encode.laser_scan_to_msg(simulator.scan()),
        'map': encode.occupancy_to_msg(simulator.occupancy(), stamp_ns)}


def camera_messages(simulator, camera):
    header = encode.header_to_msg(simulator.stamp_ns, OPTICAL_FRAMES[camera])
    depth_m, truth = simulator.depth(camera), simulator.truth(camera)
    messages = {
        'colour': encode.image_to_msg(simulator.rgb(camera), 'rgb8', header),
        'camera_info': encode.intrinsics_to_msg(simulator.intrinsics, header),
        'depth in mm': encode.image_to_msg(as_millimetres(depth_m), '16UC1', header),
        'depth in m': encode.image_to_msg(depth_m, '32FC1', header),
        'detections': encode.detections_to_msg(true_detections(truth), header),
        'detections_3d': encode.detections_3d_to_msg(true_boxes_in_space(truth), header),
        'mask': encode.image_to_msg(truth.class_mask, 'mono8', header),
        'instances': encode.image_to_msg(truth.instance_mask, 'mono16', header)}
    return {f'{camera} {name}': msg for name, msg in messages.items()}


@pytest.mark.parametrize('world', ['room', 'tabletop_packed', 'water'])
def test_the_same_seed_gives_the_same_bytes(world):
    """Two fresh simulators, noise on, driven alike."""
    first, second = drive(world, 4), drive(world, 4)
    for moment, again in zip(first, second, strict=True):
        assert [name for name in moment if moment[name] != again[name]] == []


def test_another_seed_gives_other_bytes():
    """Of everything but the lenses, which belong to the parameters."""
    moment, other = drive('room', 4)[-1], drive('room', 5)[-1]
    alike = [name for name in moment if moment[name] == other[name]]
    assert alike == ['camera camera_info', 'table_camera camera_info']


def test_time_and_motion_change_the_bytes():
    """A simulator that stood still would be reproducible too."""
    first, *_, last = drive('room', 4)
    assert [name for name in first if first[name] == last[name]] == []
