"""The life of a node of the suite, written once: configure, activate, report, and back again."""

from collections.abc import Callable, Iterator, Mapping
import threading
from typing import Any, Generic, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import ChangeState
from perception_nodes.core.health import Verdict
from perception_nodes.core.node_params import LifecycleParams
from perception_nodes.core.params import Params
from perception_nodes.core.transforms import TransformBuffer
from perception_nodes.ros import parameters
from perception_nodes.ros.bond import form_bond
from perception_nodes.ros.diagnostics import diagnostics_msg
from perception_nodes.ros.sources import CameraHub
from rclpy.clock import Clock, JumpThreshold, TimeJump
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile

P = TypeVar('P', bound=Params)
C = TypeVar('C')
ParameterKinds = tuple[type[Params], ...]
Report = tuple[str, Verdict, Mapping[str, str]]  # input, how it is, its figures

RELIABLE = QoSProfile(depth=10)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_SAID_AFTER_S = 3.0


class ManagedNode(LifecycleNode, Generic[P, C]):
    """
    Base of every node with a lifecycle.

    A concrete node names its ``Params``, builds its core object in :meth:`load`, works from
    :meth:`begin` to :meth:`halt`, and says in :meth:`reports` how it is.

    - configure: read the parameters, load the core object, create the publishers
    - activate: begin to work
    - deactivate: stop to work; what is loaded stays
    - cleanup: free the core object and the publishers
    """

    Params: type[P]
    params: P
    core: C

    def __init__(self, name: str, *, hub: CameraHub | None = None, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._answer_wrong_transitions()
        self._hub = hub or CameraHub(self)
        self._failure = ''
        self._outputs: list[Any] = []
        self._extra_inputs: list[Any] = []
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
        return LifecycleParams, cls.Params

    def read_parameters(self) -> None:
        """Take over the present values of all parameters."""
        self.params = parameters.read(self, self.Params)

    def load(self) -> C:
        """
        Create the outputs, and build the core object from ``self.params``.

        What is slow the first time is done once here.
        """
        raise NotImplementedError

    def begin(self) -> None:
        """Start to work and to listen; :meth:`halt` ends it, also when this failed half-way."""
        raise NotImplementedError

    def halt(self) -> None:
        """Stop to listen and to work, and wait until nothing is published any more."""
        raise NotImplementedError

    def reports(self) -> Iterator[Report]:
        """Yield how each input fares; nothing while the node does not work."""
        raise NotImplementedError

    def time_jumped(self) -> None:
        """Hear that time went back: what was seen before is of another time."""

    def check(self, params: P) -> None:
        """Raise ValueError if ``params``, though valid in themselves, do not suit the model."""

    def adopt(self) -> None:
        """Take over dynamic parameters that changed in ``self.params``."""

    def create_output(self, msg_type: Any, topic: str, qos: QoSProfile = RELIABLE) -> Any:
        """Create a publisher that is silent while the node is inactive and goes at cleanup."""
        self._outputs.append(self.create_lifecycle_publisher(msg_type, topic, qos))
        return self._outputs[-1]

    def create_input(
        self, msg_type: Any, topic: str, callback: Callable[[Any], None], qos: QoSProfile
    ) -> None:
        """Subscribe to something beside what the hub shares, until cleanup."""
        self._extra_inputs.append(self.create_subscription(msg_type, topic, callback, qos))

    @property
    def transforms(self) -> TransformBuffer:
        """Return the transforms of this process."""
        return self._hub.listen_to_transforms()

    def start(self) -> None:
        """Configure and activate, unless the parameter ``autostart`` says otherwise."""
        if not self._starts_by_itself():
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load everything, or say why not and stay unconfigured."""
        still = threading.Timer(_SAID_AFTER_S, self.get_logger().info, [
            'still configuring: the first start on a machine compiles kernels, and keeps them; '
            'large models take their time'])
        still.start()
        try:
            self.read_parameters()
            self.core = self.load()
        except Exception as error:  # whatever a vendor raises, the node can be configured again
            self._failure = f'cannot configure: {error or type(error).__name__}'
            if self.context.ok():  # else it is told to stop while it starts
                self.get_logger().error(self._failure)
            self._release()
            return TransitionCallbackReturn.FAILURE
        finally:
            still.cancel()
        self._failure = ''
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start to publish, to work and to listen, or say why not and stay inactive."""
        result = super().on_activate(state)
        try:
            if not self._starts_by_itself():
                self._bond = form_bond(self)
            self.begin()
        except Exception as error:  # rclpy would swallow it without a word
            self._failure = f'cannot activate: {error or type(error).__name__}'
            self.get_logger().error(self._failure)
            self._end()
            super().on_deactivate(state)
            return TransitionCallbackReturn.FAILURE
        self._failure = ''
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, keeping what is loaded."""
        self._end()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free what is loaded, and the publishers."""
        result = super().on_cleanup(state)
        self._release()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free everything, whatever the node was doing."""
        self._end()
        result = super().on_shutdown(state)
        self._release()
        return result

    def _answer_wrong_transitions(self) -> None:
        """Refuse transitions that the state does not have; rclpy leaves the caller waiting."""
        service = next(s for s in self.services if s.srv_type is ChangeState)
        change = service.callback

        def answer(
            request: ChangeState.Request, response: ChangeState.Response
        ) -> ChangeState.Response:
            try:
                return change(request, response)
            except RuntimeError as error:  # rclpy's RCLError is no public name
                asked, state = request.transition, self._state_machine.current_state[1]
                why = str(error).partition(', at ')[0]  # of rcl's own source
                if self.context.ok():  # else it is told to stop meanwhile
                    self.get_logger().warning(
                        f"no transition {asked.label or asked.id} from state '{state}': {why}")
                response.success = False
                return response

        service.callback = answer

    def _starts_by_itself(self) -> bool:
        return self.get_parameter('autostart').value is not False

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

    def _is_active(self) -> bool:
        return bool(self._state_machine.current_state[0] == State.PRIMARY_STATE_ACTIVE)

    def _is_configured(self) -> bool:
        return self._state_machine.current_state[0] in (
            State.PRIMARY_STATE_INACTIVE, State.PRIMARY_STATE_ACTIVE)

    def _why_locked(self) -> str:
        return '' if not self._is_configured() else (
            'is read when the node is configured: deactivate and clean up the node first, then '
            'configure it again')

    def _examine(self, proposed: Any) -> None:
        if self._is_configured() and isinstance(proposed, self.Params):
            self.check(proposed)

    def _adopt(self) -> None:
        if self._is_configured():
            self.params = parameters.read(self, self.Params)
            self.adopt()

    def _on_clock_jump(self, jump: TimeJump) -> None:
        self.time_jumped()

    def _report(self) -> None:
        # before activation there is no input to tell about, but the node itself is
        for name, verdict, values in list(self.reports()) or [('', self._own_verdict(), {})]:
            self._diagnostics.publish(diagnostics_msg(self, name, self._judged(verdict), values))

    def _judged(self, verdict: Verdict) -> Verdict:
        """Return a verdict on an input, with what is wrong with the node itself."""
        if self._failure:
            return Verdict('error', self._failure)
        if not self._unknown:
            return verdict
        fine = verdict.level == 'ok'
        return Verdict('warn' if fine else verdict.level, '; '.join(
            [*self._unknown, *([] if fine else [verdict.message])]))

    def _own_verdict(self) -> Verdict:
        return Verdict('ok', str(self._state_machine.current_state[1]))
