"""
The nodes of a parameter set over the frames of a bag: one after the other, or in real time.

Lock-step works on every frame, so that the same bag gives the same results. Real time is that of
a virtual clock (:mod:`newest_frame`): frames arrive when the recorder got them, work takes as
long as it was measured to take here, and what counts at a frame's arrival is what was there by
then, as in M. Li et al., "Towards Streaming Perception", ECCV 2020.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
import time

from perception_nodes.core.transforms import TransformError
from perception_nodes.evaluation.bag_frames import BagFrame, JUMP_BACK_NS
from perception_nodes.evaluation.bag_nodes import Answers, BagNode
from perception_nodes.evaluation.newest_frame import Done, NewestFrameWorker
from perception_nodes.evaluation.result_hash import content_digest

# what a node of a kind adds to the answers
_PARTS = {'detection': ('detections', 'located'), 'segmentation': ('mask', 'mask_names'),
          'classification': ('classification',), 'obstacle_map': ('occupancy',),
          'grasp': ('grasps',)}
_PROVIDERS = {'detections': 'detection', 'mask': 'segmentation'}


@dataclass
class NodeLog:
    """What became of the frames that one node was shown, and how long its work took."""

    received: int = 0
    processed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # by the reason why
    problems: Counter[str] = field(default_factory=Counter)  # sentences
    failed: int = 0
    compute_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)  # of all threads
    age_ms: list[float] = field(default_factory=list)  # from the complete frame to the result


@dataclass(frozen=True, eq=False)
class Job:
    """One frame on its way through the nodes."""

    seen: BagFrame
    answers: Answers
    done: set[str] = field(default_factory=set)  # kinds of nodes that have worked on it


@dataclass(frozen=True, eq=False)
class Moment:
    """One frame, and what was known when it counted."""

    seen: BagFrame
    answers: Answers


class BagRun:
    """
    Shows frames to nodes.

    :param nodes: In an order in which each can use the answers of those before it.
    :param clock_ns: What their work is measured by.
    """

    def __init__(
        self, nodes: Sequence[BagNode], clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.nodes = nodes
        self._clock_ns = clock_ns
        self.logs = {node.name: NodeLog() for node in nodes}
        self.digests: list[tuple[int, str, bytes]] = []  # stamp_ns, topic, content
        self._last_ns = 0

    def lockstep(self, frames: Iterable[BagFrame]) -> Iterator[Moment]:
        """Yield every frame with what all nodes found in it."""
        for seen in frames:
            self._notice_jump(seen)
            job, age_ns = Job(seen, Answers()), round(seen.decode_ms * 1e6)
            for node in self.nodes:
                log = self.logs[node.name]
                log.received += 1
                processed = log.processed
                age_ns += self._work(node, job)
                if log.processed > processed:
                    log.age_ms.append(age_ns * 1e-6)
            yield Moment(seen, job.answers)

    def realtime(self, frames: Iterable[BagFrame]) -> Iterator[Moment]:
        """Yield every frame with the newest results that were there when it arrived."""
        stations: dict[str, _Station] = {}
        for node in self.nodes:
            stations[node.kind] = _Station(self, node)
        for station in stations.values():
            for need, kind in _PROVIDERS.items():
                if need in station.node.needs | station.node.wants and kind in stations:
                    stations[kind].followers.append(station)
                    station.follows = need
        for seen in frames:
            self._notice_jump(seen)
            now_ns, job = seen.received_ns, Job(seen, Answers())
            for station in stations.values():
                station.worker.advance(now_ns)
            shown = Answers()
            for kind, station in stations.items():
                newest = station.newest(now_ns)
                if newest is not None:
                    for part in _PARTS[kind]:
                        setattr(shown, part, getattr(newest.answers, part))
            for station in stations.values():
                self.logs[station.node.name].received += 1
                if not station.follows:
                    station.worker.offer(job, now_ns)
            yield Moment(seen, shown)
        for station in stations.values():
            station.worker.finish()

    def _notice_jump(self, seen: BagFrame) -> None:
        if seen.rgbd.stamp_ns < self._last_ns - JUMP_BACK_NS:
            for node in self.nodes:
                node.reset()
        self._last_ns = seen.rgbd.stamp_ns

    def _work(self, node: BagNode, job: Job) -> int:
        """Let a node work on a frame; return how many nanoseconds it took."""
        log, seen = self.logs[node.name], job.seen
        missing = _missing(node, job)
        if missing:
            log.dropped[f'no_{missing}'] += 1
            if seen.problem:
                log.problems[seen.problem] += 1
            return 0
        before = set(job.answers.results)
        problems = len(job.answers.problems)
        cpu_ns, start_ns = time.process_time_ns(), self._clock_ns()
        try:
            node.answer(seen.rgbd, job.answers)
        except (ValueError, TransformError) as error:  # one bad frame, not the end of the bag
            log.failed += 1
            log.problems[str(error)] += 1
            return self._clock_ns() - start_ns
        took_ns = self._clock_ns() - start_ns
        log.cpu_ms.append((time.process_time_ns() - cpu_ns) * 1e-6)
        log.compute_ms.append(took_ns * 1e-6)
        log.processed += 1
        log.problems.update(job.answers.problems[problems:])
        job.done.add(node.kind)
        self.digests += [
            (seen.rgbd.stamp_ns, topic, content_digest(content))
            for topic, content in job.answers.results.items() if topic not in before]
        return took_ns


class _Station:
    """One node at work in real time, and those that wait for its results."""

    def __init__(self, run: BagRun, node: BagNode) -> None:
        self.node, self.followers = node, list[_Station]()
        self.follows = ''  # what it waits for, if frames come from the node that gives that
        self.worker: NewestFrameWorker[Job] = NewestFrameWorker(
            lambda job: run._work(node, job), self._done, self._superseded)
        self._log, self._logs = run.logs[node.name], run.logs
        self._results: deque[Done[Job]] = deque()
        self._newest: Job | None = None

    def newest(self, now_ns: int) -> Job | None:
        """Return the newest frame whose result was there at a moment; moments never go back."""
        while self._results and self._results[0].finished_ns <= now_ns:
            self._newest = self._results.popleft().item
        return self._newest

    def _done(self, done: Done[Job]) -> None:
        if self.node.kind not in done.item.done:
            self._let_down()
            return
        self._log.age_ms.append((done.finished_ns - done.item.seen.received_ns) * 1e-6)
        self._results.append(done)
        for station in self.followers:
            station.worker.offer(done.item, done.finished_ns)

    def _superseded(self, job: Job) -> None:
        self._log.dropped['superseded'] += 1
        self._let_down()

    def _let_down(self) -> None:
        """Count a frame that those who wait for this node's result will not get."""
        for station in self.followers:
            self._logs[station.node.name].dropped[f'no_{station.follows}'] += 1


def _missing(node: BagNode, job: Job) -> str:
    """Return what a node needs and a frame lacks."""
    frame = job.seen.rgbd
    present = {
        'image': job.seen.has_colour, 'depth': frame.depth_m is not None,
        'camera_info': frame.intrinsics is not None,
        'detections': job.answers.detections is not None, 'mask': job.answers.mask is not None}
    return next((need for need in sorted(node.needs) if not present[need]), '')
