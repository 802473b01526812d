"""A running graph as a doctor sees it: looked at for some seconds, without getting in its way."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
import math
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from perception_nodes.cli.diagnosis.checks import base_of, is_camera_topic, is_depth_topic
from perception_nodes.cli.diagnosis.machine import (
    frames_wanted,
    machine_facts,
    need_of,
    PARAMETERS,
)
from perception_nodes.cli.diagnosis.snapshot import (
    CAMERA_INFO,
    CameraFacts,
    COMPRESSED,
    Endpoint,
    IMAGE,
    ImageFacts,
    Level,
    NeedFacts,
    NodeFacts,
    Profile,
    SENSOR_TYPES,
    Snapshot,
    Status,
    Topic,
)
from perception_nodes.cli.diagnosis.watch import (
    Arrivals,
    camera_facts,
    ClockWatch,
    image_facts,
    TransformWatch,
)
from perception_nodes.conversions.decode import stamp_ns_from_msg, transform_from_msg
from perception_nodes.evaluation.bag import header_stamp_ns
from perception_nodes.ros.session import message_class, qos_for_all, Session
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

_TRANSFORMS, _CLOCK = 'tf2_msgs/msg/TFMessage', 'rosgraph_msgs/msg/Clock'
_DIAGNOSTICS = 'diagnostic_msgs/msg/DiagnosticArray'
_ANSWER_S = 3.0  # for parameters
_MEET_S = 6.0  # greetings get lost, and are repeated only after three seconds
_LOOK_S = 0.1
_PATIENCE_S = 1.0  # before a topic that was just found is called silent
_DEPTH = 20
_FOREVER_NS = 2**63 - 1
_LEVELS: Mapping[bytes, Level] = {
    DiagnosticStatus.OK: 'info', DiagnosticStatus.WARN: 'warning',
    DiagnosticStatus.ERROR: 'error', DiagnosticStatus.STALE: 'error'}


def graph_snapshot(
    session: Session, seconds: float, needs: Sequence[NeedFacts],
    expected_hz: Mapping[str, float],
) -> Snapshot:
    """
    Watch a graph.

    :param seconds: For how long.
    :param needs: Of nodes by a parameter file; those of running nodes are found out.
    :param expected_hz: Topics whose rate is known.
    """
    watch = _Watch(session, expected_hz)
    watch.meet()
    nodes, found = _ask_nodes(session)
    known = {need.node for need in found}
    needs = [*found, *(need for need in needs if need.node not in known)]
    watch.want(frames_wanted(needs))
    watch.run(seconds)
    return watch.snapshot(nodes, needs)


class _Watch:
    """Everything that is received while the doctor listens."""

    def __init__(self, session: Session, expected_hz: Mapping[str, float]) -> None:
        self._session, self._node, self._expected_hz = session, session.node, expected_hz
        self._lock = threading.Lock()  # callbacks come in the session's thread
        self._subscriptions: dict[str, Subscription] = {}
        self._arrivals: defaultdict[str, Arrivals] = defaultdict(Arrivals)
        self._samples: dict[str, bytes] = {}  # the newest message of images
        self._frame_ids: dict[str, str] = {}
        self._cameras: dict[str, CameraFacts] = {}
        self._statuses: dict[str, Status] = {}
        self._clock, self._ros_ns = ClockWatch(), 0
        self._transforms = TransformWatch({})
        self._latched: set[str] = set()  # topics that bring at once what was said before
        self._since_s: dict[str, float] = {}  # when listening to a topic began

    def want(self, frames: Mapping[str, float]) -> None:
        """Ask for these frames from now on, and count afresh what takes time to be met."""
        with self._lock:
            self._transforms.want(frames)
            for name in self._arrivals.keys() - self._latched:
                del self._arrivals[name]

    def meet(self) -> None:
        """Wait until somebody is there, and nobody has come for a while."""
        end_s = time.monotonic() + _MEET_S
        known: list[str] = []
        while time.monotonic() < end_s:
            before, known = known, other_nodes(self._session)
            if known and known == before:
                return
            self.run(_PATIENCE_S)

    def run(self, seconds: float) -> None:
        """Listen, also to what appears meanwhile."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._follow()
            with self._lock:
                self._transforms.look(time.monotonic())
            time.sleep(_LOOK_S)

    def snapshot(self, nodes: tuple[NodeFacts, ...], needs: Sequence[NeedFacts]) -> Snapshot:
        """Sum up, and stop listening."""
        topics = {name: self._topic(name)
                  for name, _ in sorted(self._node.get_topic_names_and_types())}
        for subscription in self._subscriptions.values():
            self._session.unsubscribe(subscription)
        with self._lock:
            return Snapshot(
                topics={name: t for name, t in topics.items() if t.publishers or t.subscribers},
                nodes=nodes, images=self._images(topics), cameras=dict(self._cameras),
                frames=dict(self._transforms.frames),
                transforms=self._transforms.facts(time.monotonic()), clock=self._clock.facts(),
                needs=tuple(needs), machine=machine_facts(),
                statuses=tuple(self._statuses.values()), expected_hz=self._expected_hz)

    def _topic(self, name: str) -> Topic:
        own = self._node.get_name()
        ends = [tuple(_endpoint(info) for info in infos if info.node_name != own) for infos in (
            self._node.get_publishers_info_by_topic(name),
            self._node.get_subscriptions_info_by_topic(name))]
        with self._lock:
            now_ns = time.monotonic_ns()
            patient = now_ns * 1e-9 - self._since_s.get(name, math.inf) > _PATIENCE_S
            traffic = self._arrivals[name].traffic(now_ns) if ends[0] and (
                patient or name in self._arrivals) else None
        return Topic(name, ends[0], ends[1], traffic)

    def _follow(self) -> None:
        for name, kinds in self._node.get_topic_names_and_types():
            if name in self._subscriptions or not self._is_wanted(name, kinds[0]):
                continue
            publishers = self._node.get_publishers_info_by_topic(name)
            if not publishers or len(kinds) != 1:
                continue
            try:
                message = message_class(kinds[0])
            except ImportError:  # a type of somebody else
                continue
            self._since_s[name] = time.monotonic()
            qos = qos_for_all(publishers, _DEPTH)
            if qos.durability == DurabilityPolicy.TRANSIENT_LOCAL:
                self._latched.add(name)
            self._subscriptions[name] = self._node.create_subscription(
                message, name, partial(self._receive, name, kinds[0]), qos, raw=True)

    def _is_wanted(self, name: str, kind: str) -> bool:
        """Return whether to listen: not where that makes a node compute, or send twice."""
        if name in self._expected_hz or kind in (_TRANSFORMS, _DIAGNOSTICS):
            return True
        if kind in (IMAGE, COMPRESSED):
            return is_camera_topic(name) and (
                base_of(name) == name or not self._node.count_publishers(base_of(name)))
        return name == '/clock' or (
            kind in SENSOR_TYPES and kind != 'sensor_msgs/msg/PointCloud2')

    def _receive(self, name: str, kind: str, cdr: bytes) -> None:
        now_ns = time.monotonic_ns()
        with self._lock:
            stamp_ns = header_stamp_ns(cdr) if kind in SENSOR_TYPES else None
            lag_ns = None if stamp_ns is None else (self._ros_ns or time.time_ns()) - stamp_ns
            self._arrivals[name].add(now_ns, len(cdr), lag_ns)
            if kind in (IMAGE, COMPRESSED):
                self._samples[name] = cdr
                if name not in self._frame_ids:
                    self._frame_ids[name] = _read(cdr, kind).header.frame_id
                self._transforms.image(
                    name, self._frame_ids[name], stamp_ns or 0, now_ns * 1e-9)
            elif kind == _CLOCK:
                self._ros_ns = stamp_ns_from_msg(_read(cdr, kind).clock)
                self._clock.add(now_ns, self._ros_ns)
            elif kind == CAMERA_INFO and name not in self._cameras:
                self._cameras[name] = camera_facts(_read(cdr, kind), name)
            elif kind == _TRANSFORMS:
                self._take_transforms(_read(cdr, kind), static=name.endswith('tf_static'))
            elif kind == _DIAGNOSTICS:
                for status in _read(cdr, kind).status:
                    self._statuses[status.name] = Status(
                        status.name, _LEVELS.get(status.level, 'error'), status.message)

    def _take_transforms(self, msg: Any, *, static: bool) -> None:
        found = []
        for transform in msg.transforms:
            try:
                found.append(transform_from_msg(transform))
            except ValueError as error:
                self._transforms.refuse(transform.child_frame_id.lstrip('/'), str(error))
                self._statuses['/tf'] = Status('/tf', 'warning', str(error))
        self._transforms.add(found, static=static)

    def _images(self, topics: Mapping[str, Topic]) -> dict[str, ImageFacts]:
        return {
            name: image_facts(
                _read(cdr, kind), is_compressed=kind == COMPRESSED, is_depth=is_depth_topic(name))
            for name, cdr in self._samples.items() if is_camera_topic(name)
            for kind in topics[name].types[:1]}


def _read(cdr: bytes, kind: str) -> Any:
    return deserialize_message(cdr, message_class(kind))


def _endpoint(info: TopicEndpointInfo) -> Endpoint:
    qos = info.qos_profile
    return Endpoint(
        f'{info.node_namespace.rstrip("/")}/{info.node_name}', info.topic_type, Profile(
            'best_effort' if qos.reliability == ReliabilityPolicy.BEST_EFFORT else 'reliable',
            'transient_local' if qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
            else 'volatile', _seconds(qos.deadline),
            'manual_by_topic' if qos.liveliness == LivelinessPolicy.MANUAL_BY_TOPIC
            else 'automatic', _seconds(qos.liveliness_lease_duration)))


def _seconds(duration: Any) -> float:
    return float('inf') if duration.nanoseconds >= _FOREVER_NS else duration.nanoseconds * 1e-9


def other_nodes(session: Session) -> list[str]:
    """Return the full names of all nodes but the session's own and hidden ones."""
    return sorted(_count_others(session))


def _count_others(session: Session) -> Counter[str]:
    own = session.node.get_name()
    return Counter(f'{space.rstrip("/")}/{name}'
                   for name, space in session.node.get_node_names_and_namespaces()
                   if name != own and not name.startswith('_'))


def _ask_nodes(session: Session) -> tuple[tuple[NodeFacts, ...], list[NeedFacts]]:
    """Return every other node, and what those of this suite need."""
    counts = _count_others(session)
    names = sorted(counts)
    times = _call(session, GetParameters, 'get_parameters', {
        name: GetParameters.Request(names=['use_sim_time']) for name in names})
    lists = _call(session, ListParameters, 'list_parameters', {
        name: ListParameters.Request() for name in times})
    ours = {name: [p for p in PARAMETERS if p in answer.result.names]
            for name, answer in lists.items()}
    values = _call(session, GetParameters, 'get_parameters', {
        name: GetParameters.Request(names=wanted) for name, wanted in ours.items() if wanted})
    nodes = tuple(NodeFacts(
        name, times[name].values[0].bool_value if name in times and times[name].values else None,
        counts[name]) for name in names)
    return nodes, [
        need_of(name, {key: parameter_value_to_python(value) for key, value in zip(
            ours[name], answer.values, strict=True)}) for name, answer in values.items()]


def _call(
    session: Session, kind: Any, service: str, requests: Mapping[str, Any]
) -> dict[str, Any]:
    """Ask many nodes at once; return the answers of those who gave one in time."""
    def offered() -> set[str]:
        there = {name for name, _ in session.node.get_service_names_and_types()}
        return {name for name in requests if f'{name}/{service}' in there}

    session.wait_for(lambda: len(offered()) == len(requests), _ANSWER_S)
    clients = {name: session.node.create_client(kind, f'{name}/{service}') for name in offered()}
    session.wait_for(lambda: all(c.service_is_ready() for c in clients.values()), _ANSWER_S)
    answers = {name: client.call_async(requests[name]) for name, client in clients.items()
               if client.service_is_ready()}
    session.wait_for(lambda: all(answer.done() for answer in answers.values()), _ANSWER_S)
    return {name: answer.result() for name, answer in answers.items() if answer.done()}
