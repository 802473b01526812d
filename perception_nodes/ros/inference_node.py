"""The life of a perception node, written once: take the newest frame, publish, report."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
import time
from typing import Any, Generic, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State
from perception_nodes.core.health import NodeHealth, STALE_AFTER_S, Verdict
from perception_nodes.core.latest import LatestSlot
from perception_nodes.core.params import param, Params
from perception_nodes.core.types import RgbdFrame
from perception_nodes.ros import parameters, transport
from perception_nodes.ros.diagnostics import diagnostics_msg
from perception_nodes.ros.sources import CameraSource, Observation
import rclpy
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.utilities import ok, try_shutdown

P = TypeVar('P', bound=Params)
C = TypeVar('C')

RELIABLE = QoSProfile(depth=10)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True, kw_only=True)
class NodeParams(Params):
    """Parameters that every node has."""

    autostart: bool = param(
        True, 'Configure and activate at once; set false under a lifecycle manager.')


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

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **kwargs)
        self.health = NodeHealth()
        self._failure = ''
        self._outputs: list[Any] = []
        self._source: CameraSource | None = None
        kinds = (NodeParams, self.Params)
        self._unknown = parameters.declare(self, kinds)
        for sentence in self._unknown:
            self.get_logger().warning(sentence)
        parameters.follow(self, kinds, self._is_active, self._adopt)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', RELIABLE)
        # by the steady clock: a paused simulation is a thing to report, not to wait for
        self.create_timer(
            1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def load(self) -> C:
        """
        Create the outputs, and build the core object from ``self.params``.

        The model runs once, so that the first frame is not the slow one.
        """
        raise NotImplementedError

    def announce(self) -> None:
        """Publish what is latched."""

    def adopt(self) -> None:
        """Take over dynamic parameters that changed in ``self.params``."""

    def process(self, frame: RgbdFrame) -> None:
        """Run the model on one frame and publish the result, stamped as the frame was."""
        raise NotImplementedError

    def create_output(self, msg_type: Any, topic: str, qos: QoSProfile = RELIABLE) -> Any:
        """Create a publisher that is silent while the node is inactive and goes at cleanup."""
        self._outputs.append(self.create_lifecycle_publisher(msg_type, topic, qos))
        return self._outputs[-1]

    def start(self) -> None:
        """Configure and activate, unless the parameter ``autostart`` says otherwise."""
        if self.get_parameter('autostart').value is False:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def halt(self) -> None:
        """Stop listening and working; a frame in work is finished first."""
        if self._source is not None:
            self._source.close()
            self._source = None
            self._slot.close()
            self._worker.join()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load everything, or say why not and stay unconfigured."""
        try:
            parameters.read(self, NodeParams)
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
        """Start to publish, to work and to listen, in this order, so that no result is lost."""
        result = super().on_activate(state)
        self.announce()
        self.health.listening()
        self._slot: LatestSlot[Observation] = LatestSlot()
        self._worker = Thread(target=self._work, name=f'{self.get_name()}-worker', daemon=True)
        self._worker.start()
        self._source = CameraSource(self, self._receive)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, keeping the model."""
        self.halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and the publishers."""
        result = super().on_cleanup(state)
        self._release()
        return result

    def _release(self) -> None:
        self.__dict__.pop('core', None)  # a load that failed half-way left none
        for publisher in self._outputs:
            self.destroy_lifecycle_publisher(publisher)
        self._outputs.clear()

    def _is_active(self) -> bool:
        return bool(self._state_machine.current_state[0] == State.PRIMARY_STATE_ACTIVE)

    def _adopt(self) -> None:
        if self._is_active():
            self.params = parameters.read(self, self.Params)
            self.adopt()

    def _receive(self, observation: Observation) -> None:
        self.health.received()
        if self._slot.put(observation) is not None:
            self.health.dropped('superseded')

    def _work(self) -> None:
        while (observation := self._slot.take()) is not None:
            started_ns = time.monotonic_ns()
            try:
                self.process(observation.frame())
            except Exception as error:  # one bad frame must not end the node
                if not self.context.ok():  # told to stop: there is nobody to publish to
                    return
                sentence = str(error) or type(error).__name__
                self.health.failed(sentence)
                self.get_logger().error(
                    f'dropped a frame: {sentence}', throttle_duration_sec=5.0)
                continue
            done_ns = time.monotonic_ns()
            self.health.processed(
                (done_ns - observation.received_ns) * 1e-6, (done_ns - started_ns) * 1e-6)

    def _report(self) -> None:
        self._diagnostics.publish(diagnostics_msg(self, self._verdict(), self.health))

    def _verdict(self) -> Verdict:
        if self._failure:
            return Verdict('error', self._failure)
        if not self._is_active():
            return Verdict('ok', str(self._state_machine.current_state[1]))
        concerns = list(self._unknown)
        if failure := self.health.recent_failure():
            concerns.append(f'dropped a frame: {failure}')
        elif self._source is not None and self.health.idle_s() > STALE_AFTER_S:
            concerns.append(self._source.why_silent())
        return Verdict('warn', '; '.join(concerns)) if concerns else Verdict('ok', 'active')


def run(make_node: Callable[[], InferenceNode[Any, Any]]) -> None:
    """Spin one node until it is told to stop. The body of every ``main``."""
    transport.tune()
    rclpy.init()
    node = make_node()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        node.start()
        spin(executor)
    except KeyboardInterrupt:
        pass
    finally:
        # the signal has ended the context: transitions could not be published any more
        node.halt()
        node.destroy_node()
        try_shutdown()


def spin(executor: SingleThreadedExecutor) -> None:
    """Run callbacks until shutdown; one that throws, such as a wrong transition, is logged."""
    while ok():
        try:
            executor.spin_once()
        except ExternalShutdownException:
            return
        except Exception as error:
            rclpy.logging.get_logger('perception_nodes').error(
                f'a callback failed: {error}', throttle_duration_sec=5.0)
