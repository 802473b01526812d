"""A node that runs a model on camera frames: take the newest ones, publish."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Event, Thread
import time
from typing import Any, TypeVar

from perception_nodes.core.health import Verdict
from perception_nodes.core.latency import working_ns
from perception_nodes.core.latest import LatestSlots
from perception_nodes.core.node_params import NodeParams
from perception_nodes.core.types import LaserRanges, RgbdFrame
from perception_nodes.ros import parameters
from perception_nodes.ros.camera_input import CameraInput, Taken
from perception_nodes.ros.lifecycle_node import (
    C,
    LATCHED,
    ManagedNode,
    P,
    ParameterKinds,
    RELIABLE,
    Report,
)
from perception_nodes.ros.sources import CameraTopics, Observation, ScanTopic
from rclpy.qos import qos_profile_sensor_data, QoSProfile

__all__ = ['InferenceNode', 'LATCHED', 'RELIABLE', 'SCAN']

T = TypeVar('T')

SCAN = 'laser scan'  # name of that input; no camera can have it, as topics have no spaces


class InferenceNode(ManagedNode[P, C]):
    """
    Base of the nodes that run a model on camera frames.

    A concrete node names its ``Params``, builds its core object in :meth:`load` and uses it in
    :meth:`process`; the rest is the same for all of them and happens here. Once active, it
    publishes what is latched, starts the worker, and subscribes.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        self._inputs: dict[str, CameraInput] = {}
        self._lost: set[str] = set()  # inputs whose frame of this round came to nothing
        self._jumped = Event()
        super().__init__(name, **kwargs)

    @classmethod
    def parameter_kinds(cls) -> ParameterKinds:
        """Return every parameter set that a node of this class declares."""
        return NodeParams, cls.Params

    def read_parameters(self) -> None:
        """Take over the present values of all parameters."""
        self._node_params = parameters.read(self, NodeParams)
        self._partner = ''  # load says whether there is one
        super().read_parameters()

    def announce(self) -> None:
        """Publish what is latched."""

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
        """
        Return the message that a frame waited for.

        :raises ValueError: If newer ones have taken its place, or time jumped.
        """
        return self._inputs[camera].pairs.take_second(frame.stamp_ns)

    def create_camera_outputs(
        self, msg_type: Any, name: str, qos: QoSProfile = RELIABLE
    ) -> dict[str, Any]:
        """Create the publisher ``~/name``, or ``~/CAMERA/name`` for each of several cameras."""
        return {camera: self.create_output(msg_type, f'~/{camera}/{name}'.replace('//', '/'), qos)
                for camera in self._cameras()}

    @property
    def transform_timeout_s(self) -> float:
        """Return how long a frame may wait for its transform."""
        return self._node_params.transform_timeout_ms * 1e-3

    def begin(self) -> None:
        """Publish, work and listen, in this order, so that no result is lost."""
        self.announce()
        self._slots: LatestSlots[Taken] = LatestSlots()
        topics: dict[str, CameraTopics | ScanTopic] = {
            name: self._topics(name) for name in self._cameras()}
        if self.wants_scan():
            topics[SCAN] = ScanTopic(
                self.resolve_topic_name('scan'), self._node_params.input_reliability)
        self._inputs = {
            name: CameraInput(
                name, self._slots, self.time_jumped,
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

    def time_jumped(self) -> None:
        """Forget waiting frames, and have the worker forget what it learned."""
        if not self._inputs:
            return
        for name in self._slots.clear():
            self._inputs[name].health.dropped('time_jump')
        for camera in self._inputs.values():
            camera.pairs.clear()
        self._jumped.set()  # the worker is the one to reset what it works with
        self.get_logger().warning(
            'time jumped back: forgetting what was seen before', throttle_duration_sec=5.0)

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

    def _work(self) -> None:
        while taken := self._slots.take():
            started_ns = working_ns()
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
            done_ns, worked_ns = time.monotonic_ns(), working_ns() - started_ns
            for name in decoded.keys() - self._lost:
                self._inputs[name].health.processed(
                    (done_ns - taken[name].received_ns) * 1e-6, worked_ns * 1e-6)

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

    def reports(self) -> Iterator[Report]:
        """Yield how each camera fares, and the laser scan."""
        for camera in self._inputs.values():
            concern = camera.concern()
            yield (camera.name, Verdict('warn', concern) if concern else Verdict('ok', 'active'),
                   camera.health.values())
