"""The obstacle map over a real graph: what it publishes, and what it survives."""

import math
import time

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Quaternion
from nav_msgs.msg import OccupancyGrid
import numpy as np
from perception_nodes.conversions.decode import stamp_ns_from_msg
from perception_nodes.conversions.encode import (
    header_to_msg,
    image_to_msg,
    intrinsics_to_msg,
    label_info_to_msg,
    laser_scan_to_msg,
)
from perception_nodes.conversions.encode_robot import transforms_to_msg
from perception_nodes.core.geometry import quaternion_xyzw
from perception_nodes.core.types import CameraIntrinsics, LaserRanges
from perception_nodes.evaluation.depth_scenes import pose, render, Scene, Solid
from perception_nodes.ros.inference_node import LATCHED
import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import qos_profile_sensor_data, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, Imu, LaserScan, PointCloud2
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import LabelInfo

pytestmark = pytest.mark.graph

SMALL = CameraIntrinsics(320, 240, 262.5, 262.5, 159.5, 119.5)
OPTICAL = 'camera_color_optical_frame'
BASE_FROM_CAMERA = pose(0.1, 0.0, 0.6, pitch=math.radians(15.0))
BOX = Solid(2.02, 0.0, 0.3, 0.3, 0.4)
START_S = 1_700_000_000


def robot_at(x=0.0, y=0.0, yaw=0.0):
    odom_from_base = np.eye(4)
    odom_from_base[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    odom_from_base[:2, 3] = x, y
    return odom_from_base


class Camera:
    """A simulated depth camera on the graph; nobody waits for its colour image."""

    def __init__(self, graph, name='', frame_id=OPTICAL, base_from_camera=BASE_FROM_CAMERA):
        prefix = f'/{name}' if name else ''
        self.frame_id, self.base_from_camera = frame_id, base_from_camera
        self.info = graph.publisher(CameraInfo, f'{prefix}/camera_info', qos_profile_sensor_data)
        self.depth = graph.publisher(Image, f'{prefix}/depth', qos_profile_sensor_data)

    def show(self, stamp_ns, solids=(BOX,), robot=None, depth=None, info=None):
        """Publish what the camera sees of a scene, or a depth image as it is."""
        if depth is None:
            robot = np.eye(4) if robot is None else robot
            depth, _ = render(Scene(solids), robot @ self.base_from_camera, SMALL)
        header = header_to_msg(stamp_ns, self.frame_id)
        self.info.publish(info or intrinsics_to_msg(SMALL, header))
        self.depth.publish(image_to_msg(depth, '32FC1', header))


class Robot:
    """Transforms of a robot, and the map that the node makes."""

    def __init__(self, graph):
        self.graph = graph
        self.tf = graph.publisher(TFMessage, '/tf', QoSProfile(depth=100))
        self.static = graph.publisher(TFMessage, '/tf_static', LATCHED)
        self.maps = graph.collect(OccupancyGrid, '/obstacle_map/map', LATCHED)
        self.arrays = graph.collect(DiagnosticArray, '/diagnostics')
        self.now_ns = START_S * 1_000_000_000

    def has_cameras(self, **base_from_camera):
        """Publish where the cameras are."""
        self.static.publish(transforms_to_msg(
            [('base_link', frame, place) for frame, place in base_from_camera.items()], 0))

    def is_at(self, odom_from_base, stamp_ns=None):
        """Publish where the robot is now."""
        self.tf.publish(transforms_to_msg(
            [('odom', 'base_link', odom_from_base)], stamp_ns or self.now_ns))

    def frames_until(self, done, *cameras, robot=None, places=None, **shown):
        """Show a scene, frame after frame, until it has an effect."""
        robot = np.eye(4) if robot is None else robot
        for _ in range(200):
            self.now_ns += 100_000_000
            self.is_at(robot)
            for camera in cameras:
                camera.show(self.now_ns, robot=robot, **shown)
            deadline = time.monotonic() + 0.3
            while time.monotonic() < deadline:
                if value := done():
                    return value
                time.sleep(0.01)
        raise AssertionError('200 frames had no effect')

    def says(self, sentence):
        """Return the first status whose message contains a sentence."""
        return next((s for a in self.arrays for s in a.status if sentence in s.message), None)

    def map_where(self, condition):
        """Return the newest map if it meets a condition."""
        return self.maps[-1] if self.maps and condition(self.maps[-1]) else None


def at(grid, x, y):
    """Return the value of the cell at a place."""
    cells = np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)
    corner = grid.info.origin.position
    return cells[math.floor((y - corner.y) / grid.info.resolution),
                 math.floor((x - corner.x) / grid.info.resolution)]


def points(cloud):
    return np.frombuffer(cloud.data, np.float32).reshape(-1, 3)


@pytest.fixture
def robot(graph, start_node):
    """Start the node for a robot with one camera."""
    def start(*args):
        node = start_node('obstacle_map_node', *(w for a in args for w in ('-p', a)))
        robot = Robot(graph)
        robot.node = node
        return robot
    return start


def test_a_box_comes_out_as_grid_clouds_and_scan(graph, robot):
    """Every output: content, stamp and frame; the grid also for who comes late."""
    robot = robot()
    clouds = {name: graph.collect(PointCloud2, f'/obstacle_map/{name}', qos_profile_sensor_data)
              for name in ('obstacles', 'clearing')}
    scans = graph.collect(LaserScan, '/obstacle_map/scan', qos_profile_sensor_data)
    camera = Camera(graph)
    robot.has_cameras(**{OPTICAL: BASE_FROM_CAMERA})
    grid = robot.frames_until(
        lambda: all(clouds.values()) and scans and robot.map_where(
            lambda g: at(g, 1.88, 0.02) == 100), camera)
    assert grid.header.frame_id == 'odom'
    assert START_S <= grid.header.stamp.sec <= robot.now_ns // 1_000_000_000
    assert (grid.info.width, grid.info.height) == (200, 200)
    assert grid.info.resolution == pytest.approx(0.05)
    assert at(grid, 1.5, 0.02) == 0
    assert at(grid, 2.5, 0.02) == -1
    obstacles, clearing = points(clouds['obstacles'][-1]), points(clouds['clearing'][-1])
    assert clouds['obstacles'][-1].header.frame_id == OPTICAL
    seen = obstacles @ BASE_FROM_CAMERA[:3, :3].T + BASE_FROM_CAMERA[:3, 3]
    assert len(seen) > 100
    assert np.abs(seen[:, 0].min() - 1.87) < 0.02
    assert ((seen[:, 2] > 0.02) & (seen[:, 2] < 0.41)).all()
    floor = clearing @ BASE_FROM_CAMERA[:3, :3].T + BASE_FROM_CAMERA[:3, 3]
    assert (np.abs(floor[:, 2]) < 0.01).mean() > 0.3
    assert (clearing[:, 2] == 10.0).any()
    scan = scans[-1]
    assert scan.header.frame_id == 'base_link'
    ranges = np.array(scan.ranges)
    assert ranges[359:361] == pytest.approx(1.87, abs=0.03)
    assert np.isinf(ranges[405])
    assert np.isnan(ranges[0])
    late = graph.collect(OccupancyGrid, '/obstacle_map/map', LATCHED)
    graph.wait_for(lambda: late, 'the latched map')
    assert at(late[0], 1.88, 0.02) == 100


def test_two_cameras_make_one_map(graph, robot):
    """Front and rear with a transform each; one without a transform does not stop the other."""
    robot = robot("cameras:=['front', 'rear']")
    back = pose(-0.1, 0.0, 0.5, yaw=math.pi, pitch=math.radians(15.0))
    front = Camera(graph, 'front', 'front_optical')
    rear = Camera(graph, 'rear', 'rear_optical', back)
    solids = (BOX, Solid(-2.02, 0.5, 0.3, 0.3, 0.4))
    robot.has_cameras(front_optical=BASE_FROM_CAMERA)
    robot.frames_until(
        lambda: robot.map_where(lambda g: at(g, 1.88, 0.02) == 100), front, rear, solids=solids)
    status = robot.graph.wait_for(
        lambda: robot.says("nobody publishes frame 'rear_optical'"), 'the complaint')
    assert status.name.endswith(': rear')
    robot.has_cameras(front_optical=BASE_FROM_CAMERA, rear_optical=back)
    grid = robot.frames_until(
        lambda: robot.map_where(lambda g: at(g, -1.88, 0.52) == 100), front, rear, solids=solids)
    assert at(grid, 1.88, 0.02) == 100


def test_a_camera_in_the_hand_needs_no_robot(graph, robot):
    """odom -> camera is all there is: the map follows the camera."""
    robot = robot("base_frame:=''")
    camera = Camera(graph)
    place = pose(3.1, 1.0, 1.2, pitch=math.radians(35.0))

    def seen():
        depth, _ = render(Scene((Solid(4.82, 1.0, 0.3, 0.3, 0.4),)), place, SMALL)
        robot.tf.publish(transforms_to_msg([('odom', OPTICAL, place)], robot.now_ns))
        camera.show(robot.now_ns, depth=depth)
        return robot.map_where(lambda g: at(g, 4.68, 1.02) == 100)

    for _ in range(600):
        robot.now_ns += 100_000_000
        if grid := seen():
            break
        time.sleep(0.1)
    assert grid.info.origin.position.x == pytest.approx(3.1 - 5.0, abs=0.06)


def scan(stamp_ns, frame_id='laser', **fields):
    """Return a scan that meets something 1.52 m behind the robot, and nothing elsewhere."""
    ranges = np.full(360, np.inf, np.float32)
    ranges[:5] = ranges[-5:] = 1.52
    msg = laser_scan_to_msg(LaserRanges(
        ranges, -math.pi, math.radians(1.0), 0.05, 8.0, stamp_ns, frame_id))
    for name, value in fields.items():
        setattr(msg, name, value)
    return msg


BASE_FROM_LASER = np.array(
    [[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0.24], [0, 0, 0, 1.0]])


def test_a_laser_scan_goes_into_the_same_map(graph, robot):
    """What the camera cannot see the laser marks, by its own stamp and transform."""
    robot = robot('use_scan:=true')
    camera = Camera(graph)
    scans = graph.publisher(LaserScan, '/scan', qos_profile_sensor_data)
    robot.has_cameras(**{OPTICAL: BASE_FROM_CAMERA, 'laser': BASE_FROM_LASER})

    def both_seen():
        scans.publish(scan(robot.now_ns - 50_000_000))
        return robot.map_where(
            lambda g: at(g, 1.88, 0.02) == 100 and at(g, -1.52, 0.02) == 100)

    grid = robot.frames_until(both_seen, camera)
    assert at(grid, -1.0, 0.02) == 0
    assert at(grid, -2.0, 0.02) == -1
    assert at(grid, 0.02, 3.0) == 0


def test_bad_scans_are_explained_and_the_camera_goes_on(graph, robot):
    """No transform, no beams, degrees for radians: a sentence each, and maps all the while."""
    robot = robot('use_scan:=true', 'transform_timeout_ms:=300.0')
    camera = Camera(graph)
    scans = graph.publisher(LaserScan, '/scan', qos_profile_sensor_data)
    robot.has_cameras(**{OPTICAL: BASE_FROM_CAMERA})
    for fields, sentence in (
            ({}, "nobody publishes frame 'laser'"),
            ({'ranges': []}, 'the laser scan has no ranges'),
            ({'angle_increment': 1.0}, 'does the driver give degrees?'),
            ({'range_max': 0.0}, 'range_max 0 m')):
        def said(fields=fields, sentence=sentence):
            scans.publish(scan(robot.now_ns, **fields))
            return robot.says(sentence)
        status = robot.frames_until(said, camera)
        assert status.name == '/obstacle_map: laser scan'
        assert {v.key: v.value for v in status.values}['processed'] == '0'
        assert robot.node.running
    assert at(robot.maps[-1], 1.88, 0.02) == 100


def test_silence_of_the_laser_is_said(graph, robot):
    robot = robot('use_scan:=true')
    status = graph.wait_for(
        lambda: robot.says("nothing arrives on '/scan': no node publishes it"), 'the reason')
    assert status.name == '/obstacle_map: laser scan'


def test_a_camera_without_a_transform_does_not_hold_up_the_others(graph, robot):
    """Its frames are lost, not counted as processed, and waited for only now and then."""
    robot = robot("cameras:=['front', 'rear']", 'transform_timeout_ms:=5000.0')
    front = Camera(graph, 'front', 'front_optical')
    rear = Camera(graph, 'rear', 'rear_optical')
    robot.has_cameras(front_optical=BASE_FROM_CAMERA)
    robot.frames_until(lambda: robot.maps, front, rear)
    robot.frames_until(lambda: robot.says("nobody publishes frame 'rear_optical'"), front, rear)
    begin = len(robot.maps)
    started = time.monotonic()
    for _ in range(7):
        seen = len(robot.maps)
        robot.frames_until(lambda seen=seen: len(robot.maps) > seen, front, rear)
    assert len(robot.maps) - begin >= 7
    assert time.monotonic() - started < 25.0  # seven waits were 35 seconds

    def rear_values():
        statuses = (s for a in reversed(robot.arrays) for s in a.status)
        last = next(s for s in statuses if s.name.endswith(': rear'))
        return {v.key: v.value for v in last.values}

    robot.frames_until(lambda: int(rear_values()['failed']) >= 7, front, rear)
    assert rear_values()['processed'] == '0'


def bad_frames():
    depth, _ = render(Scene((BOX,)), BASE_FROM_CAMERA, SMALL)
    other = intrinsics_to_msg(
        CameraIntrinsics(640, 480, 525.0, 525.0, 319.5, 239.5), header_to_msg(0, OPTICAL))
    zero = intrinsics_to_msg(SMALL, header_to_msg(0, OPTICAL))
    zero.k = [0.0] * 9
    return [({'depth': np.full_like(depth, np.nan)}, 'holds no reading'),
            ({'depth': depth * 1000}, 'which no camera sees: 32FC1 must hold metres'),
            ({'info': other}, 'camera_info is for 640x480 pixels'),
            ({'info': zero}, 'camera intrinsics have fx=0.0')]


def test_bad_frames_are_counted_and_explained_and_the_map_stays(graph, robot):
    """No transform, then every kind of nonsense: a sentence each; then work goes on."""
    robot = robot('transform_timeout_ms:=5.0')
    camera = Camera(graph)
    robot.frames_until(lambda: robot.says(f"nobody publishes frame '{OPTICAL}'"), camera)
    robot.has_cameras(**{OPTICAL: BASE_FROM_CAMERA})
    robot.frames_until(lambda: robot.map_where(lambda g: at(g, 1.88, 0.02) == 100), camera)
    for shown, sentence in bad_frames():
        robot.frames_until(lambda s=sentence: robot.says(s), camera, **shown)
        assert robot.node.running
    seen = len(robot.maps)
    grid = robot.frames_until(lambda: len(robot.maps) > seen and robot.maps[-1], camera)
    assert at(grid, 1.88, 0.02) == 100


def test_a_frame_without_a_transform_of_its_time_is_refused(graph, robot):
    """The robot's pose stops coming: frames are dropped, not mapped at an old place."""
    robot = robot('transform_timeout_ms:=5.0')
    camera = Camera(graph)
    robot.has_cameras(**{OPTICAL: BASE_FROM_CAMERA})
    robot.frames_until(lambda: robot.maps, camera)
    last_known_ns = robot.now_ns
    for _ in range(600):
        robot.now_ns += 100_000_000
        camera.show(robot.now_ns)
        if robot.says("the newest of 'odom' is"):
            break
        time.sleep(0.1)
    assert robot.says('is its publisher late?')
    assert all(stamp_ns_from_msg(grid.header.stamp) <= last_known_ns for grid in robot.maps)


def test_a_robot_that_is_put_elsewhere_starts_a_new_map(graph, robot):
    """Odometry jumps by 3 m between two frames: the box that was seen is not kept."""
    robot = robot()
    camera = Camera(graph)
    robot.has_cameras(**{OPTICAL: BASE_FROM_CAMERA})
    robot.frames_until(lambda: robot.map_where(lambda g: at(g, 1.88, 0.02) == 100), camera)
    robot.frames_until(
        lambda: robot.map_where(lambda g: at(g, 1.88, 0.02) == -1), camera,
        robot=robot_at(0.0, 3.0, math.pi / 2), solids=())
    graph.wait_for(lambda: 'the map starts again' in robot.node.output, 'the word about it')


def test_time_that_jumps_back_starts_a_new_map(graph, robot):
    """A bag that starts again: the map of its end is not that of its beginning."""
    robot = robot()
    camera = Camera(graph)
    robot.has_cameras(**{OPTICAL: BASE_FROM_CAMERA})
    robot.now_ns += 60_000_000_000
    robot.frames_until(lambda: robot.map_where(lambda g: at(g, 1.88, 0.02) == 100), camera)
    robot.now_ns -= 60_000_000_000
    blind = np.full((240, 320), np.nan, np.float32)
    blind[0, 0] = 1.0
    robot.frames_until(
        lambda: robot.map_where(lambda g: at(g, 1.88, 0.02) == -1), camera, depth=blind)
    graph.wait_for(lambda: 'time jumped back' in robot.node.output, 'the word about it')


def test_silence_names_the_depth_topic(graph, robot):
    """The node waits for depth alone, and says so."""
    robot = robot()
    graph.wait_for(lambda: robot.says("nothing arrives on '/depth': no node publishes it"),
                   'the reason')


def test_masks_that_come_later_tell_what_things_are(graph, robot):
    """A segmentation answers two frames late: its mask is used for the depth of its moment."""
    robot = robot('use_mask:=true', "class_rules:=['person cost=60 margin_m=0.3']")
    classes = graph.collect(OccupancyGrid, '/obstacle_map/class_map', LATCHED)
    masks = graph.publisher(Image, '/mask', qos_profile_sensor_data)
    labels = graph.publisher(LabelInfo, '/label_info', LATCHED)
    labels.publish(label_info_to_msg({0: 'floor', 7: 'person'}, 0.0, header_to_msg(0, '')))
    camera = Camera(graph)
    robot.has_cameras(**{OPTICAL: BASE_FROM_CAMERA})
    _, what = render(Scene((BOX,)), BASE_FROM_CAMERA, SMALL)
    mask = np.array([7, 255, 0], np.uint8)[what]

    def answered():
        late = header_to_msg(robot.now_ns - 200_000_000, OPTICAL)
        masks.publish(image_to_msg(mask, 'mono8', late))
        return classes and at(classes[-1], 1.88, 0.02) == 7 and robot.map_where(
            lambda g: at(g, 1.88, 0.02) == 60)

    grid = robot.frames_until(answered, camera)
    assert at(grid, 1.65, 0.02) == 60
    assert at(classes[-1], 1.5, 0.5) == 0
    assert at(classes[-1], -1.0, 0.0) == -1
    assert classes[-1].header.frame_id == 'odom'
    rules = ParameterValue(
        type=ParameterType.PARAMETER_STRING_ARRAY, string_array_value=['person cost=40'])
    answer = graph.call(SetParameters, '/obstacle_map/set_parameters', SetParameters.Request(
        parameters=[Parameter(name='class_rules', value=rules)]))
    assert answer.results[0].reason == ''
    robot.frames_until(lambda: robot.map_where(lambda g: at(g, 1.88, 0.02) == 40), camera)


class Boat:
    """A boat whose odometry is planar, with an IMU, a camera without depth and a segmentation."""

    def __init__(self, graph, robot):
        self.robot = robot
        sensor = qos_profile_sensor_data
        self.info = graph.publisher(CameraInfo, '/camera_info', sensor)
        self.image = graph.publisher(Image, '/image', sensor)
        self.masks = graph.publisher(Image, '/mask', sensor)
        self.imu = graph.publisher(Imu, '/imu', sensor)
        self.labels = graph.publisher(LabelInfo, '/label_info', LATCHED)
        self.solids = (BOX,)

    def has_labels(self):
        """Publish which class is water."""
        self.labels.publish(label_info_to_msg({0: 'water', 8: 'buoy'}, 0.0, header_to_msg(0, '')))

    def sail(self, *, roll_deg=15.0, orientation=True):
        """Publish one moment of a boat that lists."""
        now_ns = self.robot.now_ns
        turn = pose(0.0, 0.0, 0.0, 0.0, 0.0, math.radians(roll_deg))[:3, :3] @ np.linalg.inv(
            pose(0.0, 0.0, 0.0)[:3, :3])
        level_from_imu = np.eye(4)
        level_from_imu[:3, :3] = turn
        place = level_from_imu @ BASE_FROM_CAMERA
        _, what = render(Scene(self.solids), place, SMALL, range_m=1e6)
        mask = np.array([*[8] * len(self.solids), 8, 0], np.uint8)[what]
        header = header_to_msg(now_ns, OPTICAL)
        imu = Imu(header=header_to_msg(now_ns, 'imu_link'))
        x, y, z, w = quaternion_xyzw(turn)
        imu.orientation = Quaternion(x=x, y=y, z=z, w=w)
        imu.orientation_covariance[0] = 0.0 if orientation else -1.0
        self.imu.publish(imu)
        self.robot.is_at(np.eye(4))
        self.info.publish(intrinsics_to_msg(SMALL, header))
        self.image.publish(image_to_msg(np.zeros((240, 320, 3), np.uint8), 'rgb8', header))
        self.masks.publish(image_to_msg(mask, 'mono8', header))

    def sails_until(self, done, **how):
        """Sail on until it has an effect."""
        def moment():
            self.sail(**how)
            return done()
        return self.robot.frames_until(moment)


def test_a_boat_maps_what_floats_from_masks_and_an_imu(graph, robot):
    """No depth, a list of 15 degrees that odom does not know; first every reason to refuse."""
    robot = robot('surface:=water', 'use_mask:=true', 'use_imu:=true', 'use_depth:=false')
    boat = Boat(graph, robot)
    classes = graph.collect(OccupancyGrid, '/obstacle_map/class_map', LATCHED)
    robot.has_cameras(**{OPTICAL: BASE_FROM_CAMERA, 'imu_link': np.eye(4)})
    boat.sails_until(lambda: robot.says('the IMU in frame'), orientation=False)
    boat.sails_until(lambda: robot.says('which class is water (water) is not known'))
    assert not robot.maps
    boat.has_labels()
    grid = boat.sails_until(lambda: robot.map_where(lambda g: (np.array(g.data) == 100).sum() > 3))
    rows, columns = np.nonzero(np.array(grid.data).reshape(200, 200) == 100)
    x, y = columns * 0.05 - 4.975, rows * 0.05 - 4.975
    assert (np.abs(x - 2.02) < 0.3).all()
    assert (np.abs(y) < 0.3).all()
    assert at(grid, 1.5, 0.02) == 0
    graph.wait_for(lambda: classes, 'the classes')
    assert {int(v) for v in np.unique(classes[-1].data)} >= {-1, 0, 8}
    boat.solids = ()
    boat.sails_until(lambda: robot.map_where(lambda g: (np.array(g.data) <= 0).all()))
