"""
Measure what it costs to bring images to their consumers, and what the nodes add to that.

One camera process per transport publishes on command. Each variant has consumers of its own, in
processes of their own. Time is cut into slots of one period at 30 Hz; in each, one variant gets
one image, in an order drawn anew for every round, so that whatever else the machine does falls on
all variants alike. CPU time is what the scheduler counts for all threads of the variant's
processes, and of the camera, during its slot. Latency ends where a consumer has touched the
image, or where the detections are received by another process.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import ExitStack
import json
import logging
import math
from multiprocessing.connection import Client
from pathlib import Path
import tempfile
import time
from typing import Any

import numpy as np
from perception_nodes.cli.arguments import count, result_file
from perception_nodes.cli.benchmark_figures import (
    CpuTimes,
    figures,
    Latencies,
    losses,
    memcpy_ms,
    per_variant,
    print_tables,
)
from perception_nodes.cli.benchmark_processes import BEST_EFFORT, Receipts, Variant, VARIANTS
from perception_nodes.cli.processes import await_nodes, Child, use_private_graph
from perception_nodes.conversions.decode import stamp_ns_from_msg
from perception_nodes.evaluation.results import write_results
from perception_nodes.ros.inference_node import RELIABLE
from perception_nodes.ros.session import Session
from tqdm import tqdm
from vision_msgs.msg import Detection2DArray

log = logging.getLogger(__name__)

PERIOD_S = 1.0 / 30.0
_QUIET_S = 0.004
_WARM_UP = 15
_START_TIMEOUT_S, _PATIENCE_S = 90.0, 5.0
_MODULE = 'perception_nodes.cli.benchmark_processes'
_CPUCLOCK_SCHED = 2  # how Linux numbers the clock of a process, whose bits hold ~pid


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument(
        '--frames', type=count, default=200, metavar='N',
        help='images per variant (default 200, about two minutes)')
    parser.add_argument(
        '--out', type=result_file, default='out/bench/bench.json', metavar='FILE.json',
        help='result file to write (default %(default)s)')
    parser.add_argument(
        '--seed', type=int, default=0, help='of the order of the variants (default 0)')


def run(arguments: Namespace) -> int:
    """Measure, write the result file and print a table."""
    start_s = time.monotonic()
    use_private_graph()
    with tempfile.TemporaryDirectory() as folder, Session('perception_benchmark') as session:
        bench = _Bench(session, Path(folder))
        with bench:
            cpu_times_ms = bench.interleave(arguments.frames, arguments.seed)
            bench.stream(arguments.frames)
        latencies_ms = bench.latencies_ms()
    values = {
        **memcpy_ms(arguments.frames),
        **per_variant(cpu_times_ms, latencies_ms),
        **figures(cpu_times_ms, latencies_ms, arguments.seed),
        **losses(latencies_ms),
    }
    write_results(arguments.out, values, seed=arguments.seed, n=arguments.frames,
                  wall_s=time.monotonic() - start_s)
    print_tables(values)
    log.info('wrote %s', arguments.out)
    return 0


class _Bench:
    """The processes, and what was published to whom."""

    def __init__(self, session: Session, folder: Path) -> None:
        self._session = session
        self._folder = folder
        self._processes = ExitStack()
        self._cameras: dict[str, _Camera] = {}
        self._consumers: dict[str, list[Child]] = {}
        self._stamps_ns: dict[str, list[int]] = {v.name: [] for v in (*VARIANTS, *BEST_EFFORT)}
        self._answers: dict[str, Receipts] = {}

    def __enter__(self) -> '_Bench':
        with self._processes:  # ends them if one does not start
            for name in ('tuned', 'default'):
                self._cameras[name] = _Camera(name, self._folder, self._processes)
            for variant in (*VARIANTS, *BEST_EFFORT):
                self._listen(variant)
                self._consumers[variant.name] = [
                    self._start(variant, i) for i in range(variant.processes)]
            for camera in self._cameras.values():
                camera.connect()
            children = [child for some in self._consumers.values() for child in some]
            await_nodes(self._session, children, self._all_matched, _START_TIMEOUT_S)
            self._processes = self._processes.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: Any) -> None:
        with self._processes:
            for child in (c for some in self._consumers.values() for c in some if kind is None):
                child.stop()

    def interleave(self, frames: int, seed: int) -> CpuTimes:
        """
        Give every variant ``frames`` images, one per slot.

        :return: (frames,) float64 by variant: CPU milliseconds of its processes and the camera.
        """
        order = np.random.default_rng(seed)
        for variant in np.repeat(np.array(VARIANTS, object), _WARM_UP):
            self._slot(variant)
        for stamps_ns in self._stamps_ns.values():
            stamps_ns.clear()
        times_ms = {variant.name: np.zeros(frames) for variant in VARIANTS}
        for i in tqdm(range(frames), 'variants in turn', unit='round', disable=None):
            for k in order.permutation(len(VARIANTS)):
                times_ms[VARIANTS[k].name][i] = self._slot(VARIANTS[k])
        return times_ms

    def stream(self, frames: int) -> None:
        """Send ``frames`` images at 30 Hz to each of those that may lose some."""
        due_s = time.monotonic()
        for _ in tqdm(range(frames), 'best effort', unit='image', disable=None):
            for variant in BEST_EFFORT:
                self._publish(variant)
                due_s += PERIOD_S / len(BEST_EFFORT)
                time.sleep(max(0.0, due_s - time.monotonic()))
        time.sleep(1.0)

    def latencies_ms(self) -> Latencies:
        """Return (consumers, images) float64 milliseconds by variant, NaN for a lost image."""
        latencies_ms = {}
        for name, stamps_ns in self._stamps_ns.items():
            received = [self._answers[name]] if name in self._answers else [
                dict(pairs) for i in range(len(self._consumers[name]))
                for pairs in json.loads(self._file(name, i).read_text())]
            latencies_ms[name] = np.array(
                [[(times.get(stamp, math.nan) - stamp) * 1e-6 for stamp in stamps_ns]
                 for times in received])
        return latencies_ms

    def _start(self, variant: Variant, index: int) -> Child:
        file = self._file(variant.name, index)
        return self._processes.enter_context(Child(
            f'a consumer of {variant.name}', [_MODULE, variant.consumer, variant.name, str(file)],
            file.with_suffix('.log')))

    def _file(self, name: str, index: int) -> Path:
        return self._folder / f'{name}_{index}.json'

    def _listen(self, variant: Variant) -> None:
        if variant.consumer not in ('detection', 'model'):
            return
        answers = self._answers.setdefault(variant.name, {})

        def on_answer(msg: Any) -> None:
            answers[stamp_ns_from_msg(msg.header.stamp)] = time.monotonic_ns()

        self._session.node.create_subscription(
            Detection2DArray, f'/{variant.name}/detections', on_answer, RELIABLE)

    def _all_matched(self) -> bool:
        return all(self._cameras[v.transport].ask('matched', v.topic) == v.subscriptions
                   for v in (*VARIANTS, *BEST_EFFORT))

    def _publish(self, variant: Variant) -> None:
        self._stamps_ns[variant.name].append(
            self._cameras[variant.transport].ask('publish', variant.topic))

    def _slot(self, variant: Variant) -> float:
        """Give one variant one image; return the CPU milliseconds that it cost."""
        pids = [child.pid for child in self._consumers[variant.name]]
        pids.append(self._cameras[variant.transport].pid)
        end_s = time.monotonic() + PERIOD_S
        before = now = cpu_ms(pids)
        self._publish(variant)
        time.sleep(max(0.0, end_s - _QUIET_S - time.monotonic()))
        last = math.nan
        # on a busy machine the work may outlast the slot
        while not now - last < 0.1 and time.monotonic() < end_s + _PATIENCE_S:
            time.sleep(_QUIET_S)
            last, now = now, cpu_ms(pids)
        return now - before


class _Camera:
    """The process that publishes, at the other end of a socket."""

    def __init__(self, transport: str, folder: Path, processes: ExitStack) -> None:
        self._socket = folder / f'{transport}.socket'
        self._processes = processes
        self._child = processes.enter_context(Child(
            f'the {transport} camera', [_MODULE, 'camera', transport, str(self._socket)],
            folder / f'{transport}.log'))

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._child.pid

    def connect(self) -> None:
        """
        Wait for the process, and connect to it.

        :raises OSError: If it ends instead.
        """
        while not self._socket.exists():
            self._child.check()
            time.sleep(0.02)
        self._commands = self._processes.enter_context(Client(str(self._socket)))

    def ask(self, command: str, topic: str) -> int:
        """
        Send a command and return the answer.

        :raises OSError: If the process has ended.
        """
        try:
            self._commands.send_bytes(f'{command} {topic}'.encode())
            return int(self._commands.recv_bytes())
        except (EOFError, ConnectionError) as error:
            self._child.wait(_PATIENCE_S)
            raise OSError(f'{self._child.name} does not answer any more') from error


def cpu_ms(pids: Sequence[int]) -> float:
    """
    Return the CPU time that all threads of the processes have had, milliseconds.

    Threads that have ended count as well, which /proc/PID/task forgets.
    """
    return 1e3 * sum(time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED) for pid in pids)
