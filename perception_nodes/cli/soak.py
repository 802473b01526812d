"""
``perception soak``: nodes at work for minutes while everything about them goes wrong.

One container maps and detects all the time, a node beside it is killed and restarted, a recorder
meets a full disk. After each fault the time is taken until every output follows its input again.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
import logging
import math
import os
from pathlib import Path
import resource
import shutil
import signal
import tempfile
import time
from typing import Any, TYPE_CHECKING

import numpy as np
from perception_nodes.cli.arguments import positive, result_file, whole_number
from perception_nodes.cli.processes import await_nodes, Child, use_private_graph
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.results import percentiles, Value, write_results

if TYPE_CHECKING:
    from perception_nodes.cli.soak_robot import Fault, Robot
    from perception_nodes.ros.session import Session

log = logging.getLogger(__name__)

_PARAMETERS = """\
/**: {ros__parameters: {use_sim_time: true}}
perception_container: {ros__parameters: {nodes: [detection, obstacle_map]}}
detection: {ros__parameters: {
  model: sim_scene_detector, track: true, boxes_3d: depth, target_frame: odom}}
obstacle_map: {ros__parameters: {map_frame: odom, base_frame: base_link}}
victim: {ros__parameters: {model: sim_scene_detector}}
"""
_FRAME_FAULTS: tuple['Fault', ...] = (
    'frames_dropped', 'frames_truncated', 'frames_late', 'wrong_encoding', 'transforms_lost')
FAULTS = (*_FRAME_FAULTS, 'time_back', 'time_ahead', 'node_killed', 'disk_full')
_RECORDED = ('/camera/color/image_raw', '/camera/aligned_depth_to_color/image_raw', '/tf',
             '/detection/detections', '/obstacle_map/map')
_JUMP_S = 30.0
_READY_S, _PATIENCE_S = 240.0, 120.0
_LONGEST_PHASE_S, _SHORTEST_PHASE_S = 5.0, 0.5
_PHASES = 60.0  # of the whole time, one phase is this part
_WARM_UP = 0.2  # share of the time in which the heap settles: memory is looked at afterwards
# one lost frame in a hundred and fifty would be 1 MB a minute
_FLAT_MB_PER_MIN, _JUDGED_S = 1.0, 300.0
_DISK_LEFT_BYTES = 1 << 20
# of the process alone; and with others: what they write into its mapping of their DDS segments
_MEMORY = ('own', 'shared')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``perception soak`` takes."""
    parser.add_argument(
        '--minutes', type=positive, default=10.0, metavar='M',
        help='for how long; each fault comes at least once (default: %(default)g)')
    parser.add_argument(
        '--faults', nargs='+', choices=FAULTS, default=FAULTS, metavar='FAULT',
        help=f'only these: {", ".join(FAULTS)} (default: all)')
    parser.add_argument('--seed', type=whole_number, default=0, metavar='N',
                        help='seed of pictures and losses (default: %(default)d)')
    parser.add_argument('--out', type=result_file, default='out/bench/soak.json', metavar='FILE',
                        help='where the figures go (default: %(default)s)')


def run(arguments: argparse.Namespace) -> int:
    """Soak, print and write the figures; return 1 if something did not come back, or grows."""
    from perception_nodes.cli.soak_robot import Robot
    from perception_nodes.ros.session import Session
    begin_s = time.monotonic()
    log.info('on ROS_DOMAIN_ID %d', use_private_graph())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        session = stack.enter_context(Session('perception_soak'))
        robot = stack.enter_context(Robot(session, arguments.seed))
        soak = stack.enter_context(_Soak(folder, session, robot, arguments.faults))
        soak.start()
        soak.work(arguments.minutes * 60.0)
        soak.stop()
    values = soak.values()
    write_results(arguments.out, values, seed=arguments.seed, n=soak.faults,
                  wall_s=time.monotonic() - begin_s)
    print(soak.summary())
    for sentence in soak.complaints():
        log.error('%s', sentence)
    return 1 if soak.complaints() else 0


class _Soak(ExitStack):
    """The nodes, what is done to them, and what became of it."""

    def __init__(
        self, folder: Path, session: 'Session', robot: 'Robot', faults: Sequence[str]
    ) -> None:
        super().__init__()
        self._faults = faults
        self.recoveries_s: dict[str, list[float]] = {}
        self._folder, self._session, self._robot = folder, session, robot
        self._results: dict[str, int] = {}  # messages by topic
        self._newest: dict[str, tuple[int, float]] = {}  # stamp, and when it came
        self._memory: list[tuple[float, ...]] = []  # seconds, MB of its own, MB shared
        self._lost: list[str] = []
        self._bag_messages: list[int] = []
        self._bags = 0
        self._watched_s = 0.0
        self._begin_s = time.monotonic()

    @property
    def faults(self) -> int:
        """Return how many faults there were."""
        return sum(map(len, self.recoveries_s.values())) + len(self._lost)

    def start(self) -> None:
        """
        Start everybody, and wait for the first results.

        :raises OSError: If they do not come.
        """
        from nav_msgs.msg import OccupancyGrid
        from vision_msgs.msg import Detection2DArray, Detection3DArray
        self._params = self._folder / 'params.yaml'
        self._params.write_text(_PARAMETERS)
        outputs = {
            '/detection/detections': Detection2DArray,
            '/detection/detections_3d': Detection3DArray, '/obstacle_map/map': OccupancyGrid}
        if 'node_killed' in self._faults:
            outputs['/victim/detections'] = Detection2DArray
        for topic, kind in outputs.items():
            self._results[topic] = 0
            self._session.node.create_subscription(kind, topic, partial(self._note, topic), 10)
        self._container = self.enter_context(self._child('container', 'ros.container'))
        if 'node_killed' in self._faults:
            self._victim = self.enter_context(self._child('victim', 'detection_node'))
        self._recorder = self.enter_context(self._new_recorder())
        await_nodes(self._session, self._children(),
                    lambda: len(self._newest) == len(outputs) and self._is_recording(), _READY_S)

    def work(self, duration_s: float) -> None:
        """Let one fault after the other happen, again and again until the time is over."""
        phase_s = min(max(duration_s / _PHASES, _SHORTEST_PHASE_S), _LONGEST_PHASE_S)
        faults: dict[str, Callable[[], None]] = {
            name: partial(self._spoil_frames, name, phase_s) for name in _FRAME_FAULTS}
        faults |= {  # together FAULTS
            'time_back': partial(self._robot.jump, -_JUMP_S),
            'time_ahead': partial(self._robot.jump, _JUMP_S),
            'node_killed': self._kill, 'disk_full': self._fill_disk}
        self._begin_s = time.monotonic()
        while not self.faults or time.monotonic() - self._begin_s < duration_s:
            for name in self._faults:
                faults[name]()
                self._await_recovery(name)
                self._wait(phase_s)

    def stop(self) -> None:
        """
        End all nodes as a user would.

        :raises OSError: If one does not end well.
        """
        self._watched_s = time.monotonic() - self._begin_s
        for child in self._children():
            child.stop()

    def values(self) -> dict[str, Value]:
        """Return the figures by name."""
        values: dict[str, Value] = {
            'minutes': self._watched_s / 60.0, 'crashes': 0, 'faults': self.faults,
            'not_recovered': len(self._lost), 'frames_sent': self._robot.frames_sent,
            'bag_messages_at_full_disk_min': min(self._bag_messages, default=0)}
        for name, (slope, begin, end) in self._memory_lines().items():
            values |= {f'rss_{name}_mb_begin': begin, f'rss_{name}_mb_end': end,
                       f'rss_{name}_slope_mb_per_min': slope}
        for topic, count in self._results.items():
            values[f'results_{topic.strip("/").replace("/", "_")}'] = count
        for name, samples in self.recoveries_s.items():
            values |= percentiles(f'recovery_{name}_s', samples, (50, 100))
        return values

    def summary(self) -> str:
        """Return the figures for people."""
        rows = [f'{"fault":18} times  recovery s: median  longest']
        rows += [f'{name:18} {len(samples):5}  {np.median(samples):18.2f}  {max(samples):7.2f}'
                 for name, samples in self.recoveries_s.items()]
        rows += [f'{name} memory of the container: {begin:.1f} MB to {end:.1f} MB, slope '
                 f'{slope:+.2f} MB/min' for name, (slope, begin, end)
                 in self._memory_lines().items()]
        return '\n'.join([*rows, f'{self._watched_s / 60.0:.1f} min, no node crashed'])

    def complaints(self) -> list[str]:
        """Return what is not as it should be."""
        found = [f'nothing of {topics} within {_PATIENCE_S:g} s' for topics in self._lost]
        slope = self._memory_lines()['own'][0]
        if self._watched_s >= _JUDGED_S and slope > _FLAT_MB_PER_MIN:
            found.append(f'the container grows by {slope:.1f} MB a minute')
        return found

    def _memory_lines(self) -> dict[str, tuple[float, float, float]]:
        """Return MB per minute, and MB at both ends, by lines through what was measured."""
        samples = np.array(self._memory[int(len(self._memory) * _WARM_UP):])
        if len(samples) < 2:
            return dict.fromkeys(_MEMORY, (math.nan,) * 3)
        minutes = (samples[:, 0] - samples[0, 0]) / 60.0
        lines = (np.polyfit(minutes, samples[:, i], 1) for i in (1, 2))
        return {name: (float(slope), float(begin), float(begin + slope * minutes[-1]))
                for name, (slope, begin) in zip(_MEMORY, lines, strict=True)}

    def _children(self) -> list[Child]:
        """Return the processes that are to live now; the recorder ends first."""
        victims = [self._victim] if 'node_killed' in self._faults else []
        return [self._recorder, *victims, self._container]

    def _child(self, name: str, module: str) -> Child:
        words = [f'perception_nodes.{module}', '--ros-args', '--params-file', str(self._params)]
        for topic, remapped in (('image', 'color/image_raw'), ('camera_info', 'color/camera_info'),
                                ('depth', 'aligned_depth_to_color/image_raw')):
            words += ['-r', f'{topic}:=/camera/{remapped}']
        if name == 'victim':
            words += ['-r', '__node:=victim']
        return Child(name, words, self._folder / f'{name}.log')

    def _new_recorder(self) -> Child:
        self._bags += 1
        self._bag = self._folder / f'bag_{self._bags}'
        return Child('recorder', [
            'perception_nodes.cli', 'record', str(self._bag), '--topics', *_RECORDED],
            self._folder / 'recorder.log')

    def _is_recording(self) -> bool:
        """Return whether the recorder has begun: before, it cannot be stopped in good order."""
        return any(self._bag.glob('*.mcap'))

    def _note(self, topic: str, msg: Any) -> None:
        from perception_nodes.conversions.decode import stamp_ns_from_msg
        self._results[topic] += 1
        self._newest[topic] = (stamp_ns_from_msg(msg.header.stamp), time.monotonic())

    def _spoil_frames(self, fault: 'Fault', phase_s: float) -> None:
        self._robot.fault = fault
        self._wait(phase_s)
        self._robot.fault = ''

    def _kill(self) -> None:
        os.kill(self._victim.pid, signal.SIGKILL)
        self._victim.wait_for_end(_READY_S)
        self._victim = self.enter_context(self._child('victim', 'detection_node'))

    def _fill_disk(self) -> None:
        """Let the recorder's files grow no further, see what is left, and start another one."""
        written = sum(path.stat().st_size for path in self._bag.glob('*.mcap'))
        limit = written + _DISK_LEFT_BYTES
        resource.prlimit(self._recorder.pid, resource.RLIMIT_FSIZE, (limit, limit))
        if self._recorder.wait_for_end(_READY_S) != 1:
            raise OSError(f'the recorder on a full disk:\n{self._recorder.last_lines()}')
        with Bag(self._bag) as bag:
            self._bag_messages.append(bag.count)
        shutil.rmtree(self._bag)
        self._recorder = self.enter_context(self._new_recorder())

    def _await_recovery(self, name: str) -> None:
        """Take the time until every output answers an input from after the fault."""
        end_s, end_ns = time.monotonic(), self._robot.now_ns()

        def missing() -> list[str]:
            # after a jump back, old results have stamps of the future
            late = [topic for topic, (stamp_ns, came_s) in self._newest.items()
                    if came_s < end_s or not end_ns <= stamp_ns <= self._robot.now_ns()]
            return late if self._is_recording() else [*late, 'the recorder']

        while missing():
            if time.monotonic() - end_s > _PATIENCE_S:
                self._lost.append(f'{", ".join(missing())} after {name}')
                return
            self._look()
        self.recoveries_s.setdefault(name, []).append(time.monotonic() - end_s)

    def _wait(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self._look()

    def _look(self) -> None:
        """See to it that everybody lives, and note the memory once a second."""
        for child in self._children():
            child.check()
        now_s = time.monotonic()
        if not self._memory or now_s - self._memory[-1][0] >= 1.0:
            self._memory.append((now_s, *_resident_mb(self._container.pid)))
        time.sleep(0.02)


def _resident_mb(pid: int) -> tuple[float, float]:
    """Return the memory that a process has of its own, and that which it shares, megabytes."""
    lines = (line.split() for line in Path(f'/proc/{pid}/status').read_text().splitlines())
    kb = {words[0]: int(words[1]) for words in lines if words[0] in ('RssAnon:', 'RssShmem:')}
    return kb['RssAnon:'] * 1.024e-3, kb['RssShmem:'] * 1.024e-3
