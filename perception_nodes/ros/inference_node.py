"""The life of a perception node, written once: take the newest frames, publish, report."""

from collections.abc import Callable, Iterable, Mapping
from threading import Event, Thread
import time
from typing import Any, Generic, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State
from perception_nodes.conversions.decode import stamp_ns_from_msg
from perception_nodes.core.health import NodeHealth, STALE_AFTER_S, Verdict
from perception_nodes.core.latest import LatestSlots
from perception_nodes.core.node_params import NodeParams
from perception_nodes.core.params import Params
from perception_nodes.core.stamp_pairs import StampPairs
from perception_nodes.core.transforms import TransformBuffer
from perception_nodes.core.types import LaserRanges, RgbdFrame
from perception_nodes.ros import parameters
from perception_nodes.ros.bond import form_bond
from perception_nodes.ros.diagnostics import diagnostics_msg
from perception_nodes.ros.sources import (
    Arrived,
    CameraHub,
    CameraSource,
    CameraTopics,
    Observation,
    ScanSource,
    ScanTopic,
)
from rclpy.clock import Clock, JumpThreshold, TimeJump
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, qos_profile_sensor_data, QoSProfile

P = TypeVar('P', bound=Params)
C = TypeVar('C')
T = TypeVar('T')
ParameterKinds = tuple[type[Params], ...]
Taken = Observation | Arrived[LaserRanges]

RELIABLE = QoSProfile(depth=10)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_WAITING_FRAMES = 30  # for messages about them, which another node is still making
SCAN = 'laser scan'  # name of that input; no camera can have it, as topics have no spaces


class CameraInput:
    """
    One camera of a node: where its frames wait, and how they fare.

    :param partner: Topic whose message of the same stamp a frame waits for; empty: none.
    """

    def __init__(
        self, name: str, slots: LatestSlots[Taken], time_jumped: Callable[[], None],
        partner: str = '',
    ) -> None:
        self.name = name
        self.health = NodeHealth()
        self.source: CameraSource | ScanSource | None = None
        self.time_jumped = time_jumped
        self.pairs: StampPairs[Taken, Any] = StampPairs(
            _WAITING_FRAMES, lambda: self.dropped(self._without_partner))
        self._slots = slots
        self._partner = partner
        self._without_partner = f'no_{partner.rpartition("/")[2]}'

    def received(self) -> None:
        """Hear that an image arrived."""
        self.health.received()

    def dropped(self, reason: str) -> None:
        """Hear that an image could not be made part of a frame."""
        self.health.dropped(reason)

    def deliver(self, observation: Taken) -> None:
        """Put a complete frame where the worker takes the newest from."""
        if self._partner:
            self._proceed(self.pairs.add_first(observation.stamp_ns, observation))
        else:
            self._proceed(observation)

    def partner_arrived(self, msg: Any) -> None:
        """Take the message that the frame of its stamp waits for."""
        self._proceed(self.pairs.add_second(stamp_ns_from_msg(msg.header.stamp), msg))

    def _proceed(self, observation: Taken | None) -> None:
        if observation is None:
            return
        self.health.completed()
        if self._slots.put(self.name, observation):
            self.health.dropped('superseded')

    def concern(self) -> str:
        """Return what is wrong with this camera now; empty when nothing is."""
        if failure := self.health.recent_failure():
            return failure
        if self.source is None or self.health.idle_s() < STALE_AFTER_S:
            return ''
        if self.health.last_drop() == self._without_partner:
            return (f"nothing on '{self._partner}' has the stamp of one of the last "
                    f'{_WAITING_FRAMES} frames: start the node that publishes it on the same '
                    'camera, or remap the topic')
        return self.source.why_silent(self.health.last_drop())


class InferenceNode(LifecycleNode, Generic[P, C]):
    """
    Base of the nodes that run a model on camera frames.

    A concrete node names its ``Params``, builds its core object in :meth:`load` and uses it in
    :meth:`process`; the rest is the same for all of them and happens here.

    - configure: read the parameters, load the model, create the publishers
    - activate: publish what is latched, start the worker, subscribe
    - deactivate: unsubscribe, stop the worker; the model stays loaded
    - cleanup: free the model and the publishers
    """

    Params: type[P]
    params: P
    core: C

    def __init__(self, name: str, *, hub: CameraHub | None = None, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._hub = hub or CameraHub(self)
        self._failure = ''
        self._partner = ''
        self._outputs: list[Any] = []
        self._extra_inputs: list[Any] = []
        self._inputs: dict[str, CameraInput] = {}
        self._lost: set[str] = set()  # inputs whose frame of this round came to nothing
        self._jumped = Event()
        self._bond: Any = None
        kinds = self.parameter_kinds()
        self._unknown = parameters.declare(self, kinds)
        for sentence in self._unknown:
            self.get_logger().warning(sentence)
        parameters.follow(self, kinds, self._why_locked, self._adopt, self._examine)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', RELIABLE)
        # by the steady clock: a paused simulation is a thing to report, not to wait for
        self.create_timer(
            1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False),
            post_callback=self._on_clock_jump)

    @classmethod
    def parameter_kinds(cls) -> ParameterKinds:
        """Return every parameter set that a node of this class declares."""
        return NodeParams, cls.Params

    def load(self) -> C:
        """
        Create the outputs, and build the core object from ``self.params``.

        The model runs once, so that the first frame is not the slow one.
        """
        raise NotImplementedError

    def announce(self) -> None:
        """Publish what is latched."""

    def check(self, params: P) -> None:
        """Raise ValueError if ``params``, though valid in themselves, do not suit the model."""

    def adopt(self) -> None:
        """Take over dynamic parameters that changed in ``self.params``."""

    def reset(self) -> None:
        """Forget what was learned from earlier frames, because time jumped back."""

    def process(self, frames: Mapping[str, RgbdFrame]) -> None:
        """
        Run the model on the newest frame of each camera, and publish the results.

        :param frames: Frames by the camera's name, which is empty for a single camera.
        """
        raise NotImplementedError

    def process_scan(self, scan: LaserRanges) -> None:
        """Use the newest laser scan; only for nodes that want scans."""
        raise NotImplementedError

    def wants_scan(self) -> bool:
        """Return whether the topic ``scan`` is an input, too."""
        return False

    def extra_inputs(self) -> frozenset[str]:
        """Return which of ``depth``, ``camera_info``, ``transforms`` the parameters ask for."""
        return frozenset()

    def depth_is_optional(self) -> bool:
        """Return whether frames whose depth does not come are worked on without it."""
        return False

    def needs_colour(self) -> bool:
        """Return whether the colour image is wanted; without it, depth alone makes a frame."""
        return True

    def create_output(self, msg_type: Any, topic: str, qos: QoSProfile = RELIABLE) -> Any:
        """Create a publisher that is silent while the node is inactive and goes at cleanup."""
        self._outputs.append(self.create_lifecycle_publisher(msg_type, topic, qos))
        return self._outputs[-1]

    def create_input(
        self, msg_type: Any, topic: str, callback: Callable[[Any], None], qos: QoSProfile
    ) -> None:
        """Subscribe to something beside the cameras, until cleanup."""
        self._extra_inputs.append(self.create_subscription(msg_type, topic, callback, qos))

    def pair_frames_with(self, msg_type: Any, topic: str) -> None:
        """Let each frame wait for the message of its stamp on ``topic``; see :meth:`partner`."""
        self._partner = topic
        for camera in self._cameras():
            def hand_on(msg: Any, camera: str = camera) -> None:
                if camera in self._inputs:
                    self._inputs[camera].partner_arrived(msg)
            self.create_input(
                msg_type, f'{camera}/{topic}'.lstrip('/'), hand_on, qos_profile_sensor_data)

    def partner(self, camera: str, frame: RgbdFrame) -> Any:
        """Return the message that a frame waited for."""
        return self._inputs[camera].pairs.take_second(frame.stamp_ns)

    def create_camera_outputs(
        self, msg_type: Any, name: str, qos: QoSProfile = RELIABLE
    ) -> dict[str, Any]:
        """Create the publisher ``~/name``, or ``~/CAMERA/name`` for each of several cameras."""
        return {camera: self.create_output(msg_type, f'~/{camera}/{name}'.replace('//', '/'), qos)
                for camera in self._cameras()}

    @property
    def transforms(self) -> TransformBuffer:
        """Return the transforms of this process."""
        return self._hub.listen_to_transforms()

    @property
    def transform_timeout_s(self) -> float:
        """Return how long a frame may wait for its transform."""
        return self._node_params.transform_timeout_ms * 1e-3

    def start(self) -> None:
        """Configure and activate, unless the parameter ``autostart`` says otherwise."""
        if self.get_parameter('autostart').value is False:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def halt(self) -> None:
        """Stop listening and working; a frame in work is finished first."""
        if not self._inputs:
            return
        for camera in self._inputs.values():
            if camera.source is not None:
                self._hub.leave(camera.source, camera)
        self._slots.close()
        self._worker.join()
        self._inputs = {}

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load everything, or say why not and stay unconfigured."""
        try:
            self._node_params = parameters.read(self, NodeParams)
            self.params = parameters.read(self, self.Params)
            self.core = self.load()
        except Exception as error:  # whatever a vendor raises, the node can be configured again
            self._failure = f'cannot configure: {error or type(error).__name__}'
            self.get_logger().error(self._failure)
            self._release()
            return TransitionCallbackReturn.FAILURE
        self._failure = ''
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to publish, to work and to listen, or say why not and stay inactive."""
        result = super().on_activate(state)
        try:
            self._begin()
        except Exception as error:  # rclpy would swallow it without a word
            self._failure = f'cannot activate: {error or type(error).__name__}'
            self.get_logger().error(self._failure)
            self._end()
            super().on_deactivate(state)
            return TransitionCallbackReturn.FAILURE
        self._failure = ''
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, keeping the model."""
        self._end()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        result = super().on_cleanup(state)
        self._release()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, whatever the node was doing."""
        self._end()
        result = super().on_shutdown(state)
        self._release()
        return result

    def _begin(self) -> None:
        """Publish, work and listen, in this order, so that no result is lost."""
        if not self._node_params.autostart:
            self._bond = form_bond(self)
        self.announce()
        self._slots: LatestSlots[Taken] = LatestSlots()
        topics: dict[str, CameraTopics | ScanTopic] = {
            name: self._topics(name) for name in self._cameras()}
        if self.wants_scan():
            topics[SCAN] = ScanTopic(
                self.resolve_topic_name('scan'), self._node_params.input_reliability)
        self._inputs = {
            name: CameraInput(
                name, self._slots, self._on_time_jump,
                '' if name == SCAN else self._partner_topic(name))
            for name in topics}
        self._worker = Thread(target=self._work, name=f'{self.get_name()}-worker', daemon=True)
        self._worker.start()
        if 'transforms' in self.extra_inputs():
            self._hub.listen_to_transforms()
        for name, camera in self._inputs.items():
            camera.source = self._hub.listen(topics[name], camera)
        heard = [t.topic if isinstance(t, ScanTopic) else t.image or t.depth
                 for t in topics.values()]
        self.get_logger().info(f"active, listening to {', '.join(heard)}")

    def _end(self) -> None:
        self.halt()
        if self._bond is not None:
            self._bond.shutdown()
            self._bond = None

    def _release(self) -> None:
        self.__dict__.pop('core', None)  # a load that failed half-way left none
        for publisher in self._outputs:
            self.destroy_lifecycle_publisher(publisher)
        self._outputs.clear()
        for subscription in self._extra_inputs:
            self.destroy_subscription(subscription)
        self._extra_inputs.clear()
        self._partner = ''

    def _cameras(self) -> tuple[str, ...]:
        return self._node_params.cameras or ('',)

    def _partner_topic(self, camera: str) -> str:
        name = f'{camera}/{self._partner}'.lstrip('/')
        return self.resolve_topic_name(name) if self._partner else ''

    def _topics(self, camera: str) -> CameraTopics:
        p, wanted = self._node_params, self.extra_inputs()

        def resolved(name: str) -> str:
            return self.resolve_topic_name(f'{camera}/{name}' if camera else name)

        return CameraTopics(
            image=resolved('image') if self.needs_colour() else '',
            depth=resolved('depth') if 'depth' in wanted else '',
            camera_info=resolved('camera_info') if 'camera_info' in wanted else '',
            depth_camera_info=resolved('depth_camera_info') if 'depth' in wanted else '',
            image_transport=p.image_transport, depth_image_transport=p.depth_image_transport,
            depth_is_optional='depth' in wanted and self.depth_is_optional(),
            reliability=p.input_reliability, tolerance_ms=p.sync_tolerance_ms,
            transform_timeout_ms=p.transform_timeout_ms,
            zero_depth_means='unknown' if p.zero_depth_means == 'unknown' else 'beyond_range')

    def _is_active(self) -> bool:
        return bool(self._state_machine.current_state[0] == State.PRIMARY_STATE_ACTIVE)

    def _why_locked(self) -> str:
        return '' if not self._is_active() else (
            'is read when the node is configured: deactivate and clean up the node first, then '
            'configure it again')

    def _examine(self, proposed: Any) -> None:
        if self._is_active() and isinstance(proposed, self.Params):
            self.check(proposed)

    def _adopt(self) -> None:
        if self._is_active():
            self.params = parameters.read(self, self.Params)
            self.adopt()

    def _on_clock_jump(self, jump: TimeJump) -> None:
        self._on_time_jump()

    def _on_time_jump(self) -> None:
        if not self._inputs:
            return
        for name in self._slots.clear():
            self._inputs[name].health.dropped('time_jump')
        for camera in self._inputs.values():
            camera.pairs.clear()
        self._jumped.set()  # the worker is the one to reset what it works with
        self.get_logger().warning(
            'time jumped back: forgetting what was seen before', throttle_duration_sec=5.0)

    def _work(self) -> None:
        while taken := self._slots.take():
            started_ns = time.monotonic_ns()
            if self._jumped.is_set():
                self._jumped.clear()
                self.reset()
            self._lost.clear()
            decoded = self._decoded(taken)
            frames = {n: frame for n, frame in decoded.items() if isinstance(frame, RgbdFrame)}
            scan = decoded.get(SCAN)
            if frames:
                self._attempt(self.process, frames, frames)
            if isinstance(scan, LaserRanges):
                self._attempt(self.process_scan, scan, (SCAN,))
            done_ns = time.monotonic_ns()
            for name in decoded.keys() - self._lost:
                self._inputs[name].health.processed(
                    (done_ns - taken[name].received_ns) * 1e-6, (done_ns - started_ns) * 1e-6)

    def _attempt(self, work: Callable[[T], None], what: T, names: Iterable[str]) -> None:
        try:
            work(what)
        except Exception as error:  # one bad frame must not end the node
            for name in names if self.context.ok() else ():  # else there is nobody to tell
                self.lose(name, error)

    def _decoded(self, taken: dict[str, Taken]) -> dict[str, RgbdFrame | LaserRanges]:
        decoded: dict[str, RgbdFrame | LaserRanges] = {}
        for name, item in taken.items():
            try:
                decoded[name] = item.frame() if isinstance(item, Observation) else item.value()
                if isinstance(item, Observation) and item.depth_problem:
                    self.fail(name, ValueError(item.depth_problem), 'no depth for a frame')
            except Exception as error:
                self.fail(name, error)
        return decoded

    def lose(self, camera: str, error: Exception) -> None:
        """Count a frame that came to nothing, and say why; it does not count as processed."""
        self._lost.add(camera)
        self.fail(camera, error)

    def fail(self, camera: str, error: Exception, what: str = 'dropped a frame') -> None:
        """Count a frame, or a part of its result, that could not be made, and say why."""
        sentence = f'{what}: {str(error) or type(error).__name__}'
        self._inputs[camera].health.failed(sentence)
        self.get_logger().error(sentence, throttle_duration_sec=5.0)

    def _report(self) -> None:
        # before activation there is no camera to tell about, but the node itself is
        for camera in self._inputs.values() or [None]:
            self._diagnostics.publish(diagnostics_msg(
                self, camera.name if camera else '', self._verdict(camera),
                camera.health.values() if camera else {}))

    def _verdict(self, camera: CameraInput | None) -> Verdict:
        if self._failure:
            return Verdict('error', self._failure)
        if camera is None:
            return Verdict('ok', str(self._state_machine.current_state[1]))
        concerns = [*self._unknown, *filter(None, [camera.concern()])]
        return Verdict('warn', '; '.join(concerns)) if concerns else Verdict('ok', 'active')
