"""Publish what a simulated robot senses, drive it by cmd_vel, and tell the truth beside it."""

from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
import threading
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Twist, TwistStamped, Vector3, Vector3Stamped
from nav_msgs.msg import OccupancyGrid, Odometry
import numpy as np
from perception_nodes.conversions import encode, encode_robot
from perception_nodes.conversions.decode import metres_from_mm, velocity_from_msg
from perception_nodes.core.health import Verdict
from perception_nodes.core.pacing import Pacer
from perception_nodes.core.params import param, Params
from perception_nodes.core.types import Detections, Detections3D, VelocityCommand
from perception_nodes.ros import parameters
from perception_nodes.ros.diagnostics import diagnostics_msg
from perception_nodes.ros.inference_node import LATCHED, RELIABLE
from perception_nodes.ros.process import run
from perception_nodes.ros.sources import Arrived, CameraHub
from perception_nodes.sim.classes import CLASS_NAMES, FIRST_OBJECT
from perception_nodes.sim.poses import MOUNT_FROM_OPTICAL
from perception_nodes.sim.sensors import as_millimetres
from perception_nodes.sim.simulator import (
    CAMERA,
    OPTICAL_FRAMES,
    Simulator,
    SimulatorParams,
    TABLE_CAMERA,
)
from perception_nodes.sim.truth import GroundTruth, SeenObject
from rclpy.clock import Clock as SteadyClock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, LaserScan
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray, LabelInfo

STEP_S = 0.008  # between two messages on /clock
RESET_TIMEOUT_S = 30.0


@dataclass(frozen=True, kw_only=True)
class SimulationParams(SimulatorParams):
    """Parameters of the simulation node."""

    seed: int = param(0, 'Which scene and which noise; read at start and at every reset.',
                      ge=0, dynamic=True)
    real_time_factor: float = param(
        1.0, 'Simulated seconds for each real one; 0 for as fast as possible.', ge=0.0)
    camera_rate_hz: float = param(10.0, 'Rate of the cameras.', unit='Hz', ge=0.1, le=100.0)
    camera_latency_ms: float = param(
        0.0, 'How long after its stamp a picture is published.', unit='ms', ge=0.0, le=2000.0)
    scan_rate_hz: float = param(10.0, 'Rate of the lidar.', unit='Hz', ge=0.1, le=100.0)
    odometry_rate_hz: float = param(
        50.0, 'Rate of odometry and transforms.', unit='Hz', ge=0.1, le=100.0)
    depth_encoding: str = param(
        '16UC1', 'How depth is sent: millimetres, or metres with +inf beyond range.',
        choices=('16UC1', '32FC1'))
    cmd_vel_stamped: bool = param(True, 'Whether cmd_vel is TwistStamped or Twist.')
    cmd_vel_timeout_ms: float = param(
        500.0, 'The robot stops when no command came for this long.', unit='ms', ge=10.0)


class SimulationNode(Node):
    """
    Runs the simulator in a thread of its own, which alone touches it.

    Callbacks leave commands and requests there; the thread publishes. Pictures and ground truth
    are made only while somebody subscribes.
    """

    def __init__(
        self, name: str = 'simulation', hub: CameraHub | None = None, **kwargs: Any
    ) -> None:
        super().__init__(name, **kwargs)
        self._hub = hub or CameraHub(self)
        for sentence in parameters.declare(self, (SimulationParams,)):
            self.get_logger().warning(sentence)
        self.params = parameters.read(self, SimulationParams)
        parameters.follow(self, (SimulationParams,), self._why_locked, self._adopt)
        self._failure = ''
        self._command = VelocityCommand()
        self._stamp_ns, self._commanded_ns = 0, -1
        # pictures and when they arrive, nanoseconds of simulated time
        self._on_their_way: deque[tuple[int, Callable[[], None]]] = deque()
        self._stopping, self._wants_reset = threading.Event(), threading.Event()
        self._reset_done = threading.Event()
        self._create_outputs()
        self.create_subscription(
            TwistStamped if self.params.cmd_vel_stamped else Twist, 'cmd_vel',
            self._on_command, RELIABLE)
        self.create_service(Trigger, '/reset', self._on_reset)
        self.create_timer(
            1.0, self._report, clock=SteadyClock(clock_type=ClockType.STEADY_TIME))
        self._pacer = Pacer(self.params.real_time_factor)
        self._thread = threading.Thread(target=self._run, name='simulator', daemon=True)

    @classmethod
    def parameter_kinds(cls) -> tuple[type[Params], ...]:
        """Return every parameter set that a node of this class declares."""
        return (SimulationParams,)

    def start(self) -> None:
        """Let time run."""
        self._thread.start()

    def halt(self) -> None:
        """Stop time, and wait until nothing is published any more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _create_outputs(self) -> None:
        def publisher(kind: Any, topic: str, qos: Any = qos_profile_sensor_data) -> Any:
            return self.create_publisher(kind, topic, qos)

        self._diagnostics = publisher(DiagnosticArray, '/diagnostics', RELIABLE)
        self._time = publisher(Clock, '/clock', RELIABLE)
        self._tf = publisher(TFMessage, '/tf', RELIABLE)
        self._tf_static = publisher(TFMessage, '/tf_static', LATCHED)
        self._odom = publisher(Odometry, '/odom')
        self._scan = publisher(LaserScan, '/scan')
        self._images = {
            camera: {'color': publisher(Image, f'/{camera}/color/image_raw'),
                     'depth': publisher(Image, f'/{camera}/aligned_depth_to_color/image_raw'),
                     'info': publisher(CameraInfo, f'/{camera}/color/camera_info')}
            for camera in (CAMERA, TABLE_CAMERA)}
        for outputs in self._images.values():
            for output in outputs.values():
                self._hub.provide(output.topic_name)
        self._truth = {
            CAMERA: self._truth_outputs('~/ground_truth', publisher),
            TABLE_CAMERA: self._truth_outputs('~/ground_truth/table_camera', publisher)}
        self._true_odom = publisher(Odometry, '~/ground_truth/odom', RELIABLE)
        self._true_map = publisher(OccupancyGrid, '~/ground_truth/map', LATCHED)
        self._contact = publisher(Vector3Stamped, '~/ground_truth/contact', RELIABLE)
        self._labels = publisher(LabelInfo, '~/ground_truth/label_info', LATCHED)

    @staticmethod
    def _truth_outputs(prefix: str, publisher: Callable[..., Any]) -> dict[str, Any]:
        return {'detections': publisher(Detection2DArray, f'{prefix}/detections', RELIABLE),
                'detections_3d': publisher(Detection3DArray, f'{prefix}/detections_3d', RELIABLE),
                'mask': publisher(Image, f'{prefix}/mask', RELIABLE),
                'instances': publisher(Image, f'{prefix}/instances', RELIABLE)}

    @staticmethod
    def _why_locked() -> str:
        return 'is read when the node starts: start it again with the other value'

    def _adopt(self) -> None:
        self.params = parameters.read(self, SimulationParams)

    def _on_command(self, msg: Any) -> None:
        # by simulated time, which stands still while nobody could drive
        self._command, self._commanded_ns = velocity_from_msg(msg), self._stamp_ns

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if not self._failure:
            self._reset_done.clear()
            self._wants_reset.set()
        response.success = self._reset_done.wait(RESET_TIMEOUT_S) and not self._failure
        response.message = self._failure or f'seed {self.params.seed}, time 0'
        return response

    def _run(self) -> None:
        try:
            with closing(Simulator(self.params, self.params.seed)) as simulator:
                self._simulate(simulator)
        except Exception as error:  # whatever physics and drivers raise, the node says it
            if self.context.ok():  # else told to stop: nothing can be published any more
                self._failure = f'cannot simulate: {error or type(error).__name__}'
                self.get_logger().error(self._failure)
        self._reset_done.set()

    def _simulate(self, simulator: Simulator) -> None:
        self._begin(simulator)
        while not self._stopping.is_set():
            if self._wants_reset.is_set():
                self._wants_reset.clear()
                simulator.reset(self.params.seed)
                self._begin(simulator)
                self._reset_done.set()
            before_ns = simulator.stamp_ns
            simulator.step(self._live_command(), STEP_S)
            self._stamp_ns = simulator.stamp_ns
            if self.context.ok():
                self._publish(simulator)
            self._pacer.wait((self._stamp_ns - before_ns) * 1e-9)  # whole steps of physics

    def _live_command(self) -> VelocityCommand:
        """Return the last command, or a stop when it is too old to be meant."""
        age_ms = (self._stamp_ns - self._commanded_ns) * 1e-6
        is_live = self._commanded_ns >= 0 and age_ms <= self.params.cmd_vel_timeout_ms
        if is_live and not self._command.is_finite:
            self.get_logger().error(
                f'cmd_vel is {self._command}, which is not finite: the robot stops',
                throttle_duration_sec=5.0)
            return VelocityCommand()
        return self._command if is_live else VelocityCommand()

    def _begin(self, simulator: Simulator) -> None:
        """Publish what holds for the whole scene."""
        self._stamp_ns, self._commanded_ns = simulator.stamp_ns, -1
        self._due = dict.fromkeys(('odometry', 'scan', 'camera'), 0)
        self._on_their_way.clear()
        mounts = simulator.mounts
        links = [('base_link', 'laser', mounts.base_from_laser),
                 ('base_link', 'camera_link', mounts.base_from_camera_link),
                 ('camera_link', OPTICAL_FRAMES[CAMERA], MOUNT_FROM_OPTICAL)]
        if TABLE_CAMERA in simulator.cameras:
            view = simulator.view(TABLE_CAMERA)
            links.append(('map', OPTICAL_FRAMES[TABLE_CAMERA], view.map_from_camera))
        self._tf_static.publish(encode_robot.transforms_to_msg(links, 0))
        self._true_map.publish(encode.occupancy_to_msg(simulator.occupancy(), 0))
        self._labels.publish(encode.label_info_to_msg(
            CLASS_NAMES, 0.0, encode.header_to_msg(0, '')))

    def _publish(self, simulator: Simulator) -> None:
        """Publish everything that is due now."""
        stamp_ns = simulator.stamp_ns
        self._time.publish(Clock(clock=encode.header_to_msg(stamp_ns, '').stamp))
        if self._is_due('odometry', self.params.odometry_rate_hz):
            self._publish_motion(simulator)
        if self._is_due('scan', self.params.scan_rate_hz) \
                and self._scan.get_subscription_count():
            self._scan.publish(encode.laser_scan_to_msg(simulator.scan()))
        if self._is_due('camera', self.params.camera_rate_hz):
            for camera in simulator.cameras:
                self._publish_camera(simulator, camera)
                self._publish_truth(simulator, camera)
        while self._on_their_way and self._on_their_way[0][0] <= stamp_ns:
            self._on_their_way.popleft()[1]()

    def _is_due(self, stream: str, rate_hz: float) -> bool:
        if self._stamp_ns < self._due[stream]:
            return False
        self._due[stream] += round(1e9 / rate_hz)
        return True

    def _publish_motion(self, simulator: Simulator) -> None:
        stamp_ns, twist = simulator.stamp_ns, simulator.twist
        self._tf.publish(encode_robot.transforms_to_msg(
            [('map', 'odom', simulator.map_from_odom),
             ('odom', 'base_link', simulator.odom_from_base)], stamp_ns))
        self._odom.publish(encode_robot.odometry_to_msg(
            simulator.odom_from_base, twist, encode.header_to_msg(stamp_ns, 'odom')))
        self._true_odom.publish(encode_robot.odometry_to_msg(
            simulator.map_from_base, twist, encode.header_to_msg(stamp_ns, 'map')))
        for contact in simulator.take_contacts():
            self._contact.publish(Vector3Stamped(
                header=encode.header_to_msg(contact.stamp_ns, 'map'),
                vector=Vector3(x=contact.impact_mps)))

    def _publish_camera(self, simulator: Simulator, camera: str) -> None:
        outputs = self._images[camera]
        # camera_info and depth first: they are there when the image comes
        self._send(simulator, camera, outputs['info'], lambda: simulator.intrinsics,
                   encode.intrinsics_to_msg)
        if self.params.depth_encoding == '32FC1':
            self._send(simulator, camera, outputs['depth'], lambda: simulator.depth(camera),
                       lambda depth_m, header: encode.image_to_msg(depth_m, '32FC1', header))
        else:
            self._send(simulator, camera, outputs['depth'],
                       lambda: as_millimetres(simulator.depth(camera)),
                       lambda mm, header: encode.image_to_msg(mm, '16UC1', header),
                       metres_from_mm)
        self._send(simulator, camera, outputs['color'], lambda: simulator.rgb(camera),
                   lambda rgb, header: encode.image_to_msg(rgb, 'rgb8', header))

    def _send(
        self, simulator: Simulator, camera: str, output: Any, sense: Callable[[], Any],
        to_msg: Callable[[Any, Header], Any], to_array: Callable[[Any], Any] = lambda x: x,
    ) -> None:
        """Sense once for whoever wants it: nodes of this process get arrays, others messages."""
        topic, stamp_ns, frame = output.topic_name, simulator.stamp_ns, OPTICAL_FRAMES[camera]
        is_wanted, count = self._hub.is_wanted(topic), output.get_subscription_count()
        if not is_wanted and not count:
            return
        sensed = sense()

        def deliver() -> None:
            if is_wanted:
                self._hub.hand_over(topic, Arrived.decoded(to_array(sensed), stamp_ns, frame))
            if count:
                output.publish(to_msg(sensed, encode.header_to_msg(stamp_ns, frame)))

        self._on_their_way.append(
            (stamp_ns + round(self.params.camera_latency_ms * 1e6), deliver))

    def _publish_truth(self, simulator: Simulator, camera: str) -> None:
        outputs = self._truth[camera]
        wanted = {name for name, out in outputs.items() if out.get_subscription_count()}
        if not wanted:
            return
        truth = simulator.truth(camera)
        header = encode.header_to_msg(truth.stamp_ns, OPTICAL_FRAMES[camera])
        found = true_detections(truth)
        messages = {
            'detections': lambda: encode.detections_to_msg(found, header),
            'detections_3d': lambda: encode.detections_3d_to_msg(
                true_boxes_in_space(truth), encode.header_to_msg(truth.stamp_ns, 'map')),
            'mask': lambda: encode.image_to_msg(truth.class_mask, 'mono8', header),
            'instances': lambda: encode.image_to_msg(truth.instance_mask, 'mono16', header)}
        for name in wanted:
            outputs[name].publish(messages[name]())

    def _report(self) -> None:
        factor = self._pacer.real_time_factor()
        wanted = self.params.real_time_factor
        verdict = Verdict('ok', 'active')
        if self._failure:
            verdict = Verdict('error', self._failure)
        elif wanted and factor < 0.9 * wanted:
            verdict = Verdict(
                'warn', f'simulated time runs {factor:.2f} times as fast as real time, not '
                f'{wanted:.2f}: lower camera_rate_hz or the size of the pictures')
        self._diagnostics.publish(diagnostics_msg(
            self, '', verdict, {'real_time_factor': f'{factor:.3f}', 'seed': str(self.params.seed),
                                'world': self.params.world}))


def true_detections(truth: GroundTruth) -> Detections:
    """
    Return what a detector should find: tight boxes of the visible pixels.

    Scores are ``visible_fraction``, object ids the instances.
    """
    seen = _detectable(truth)
    return Detections(
        np.array([s.box_xyxy for s in seen], np.float32).reshape(-1, 4),
        np.array([s.visible_fraction for s in seen], np.float32),
        np.array([s.class_id for s in seen], np.int64),
        np.array([s.instance_id for s in seen], np.int64))


def true_boxes_in_space(truth: GroundTruth) -> Detections3D:
    """Return the boxes of the same objects in ``map``, known exactly."""
    seen = _detectable(truth)
    n = len(seen)
    poses = np.array([s.box_3d.map_from_box for s in seen]).reshape(n, 4, 4)
    found = true_detections(truth)
    return Detections3D(
        poses[:, :3, 3], poses[:, :3, :3], np.array([s.box_3d.size_m for s in seen]).reshape(n, 3),
        np.zeros((n, 6, 6)), found.scores, found.class_ids, np.arange(n), ('ground_truth',) * n,
        found.object_ids)


def _detectable(truth: GroundTruth) -> list[SeenObject]:
    return [s for s in truth.objects if s.class_id >= FIRST_OBJECT]


def main() -> None:
    """Run the simulation node."""
    run(lambda: [SimulationNode()])


if __name__ == '__main__':
    main()
