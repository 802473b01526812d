"""What :mod:`perception_nodes.evaluation.gpu_check` measures of each network, and what passes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, UTC
import gc
import math
from pathlib import Path
import platform
import re
import subprocess
import sys
import time
from typing import Any
import warnings

import cv2
import numpy as np
from perception_nodes.backends.device_network import DeviceNetwork
from perception_nodes.backends.sharing import SharedModel
from perception_nodes.backends.torch_runtime import choose_device, inference
from perception_nodes.evaluation.gpu_frames import LabelledFrame, read_frames
from perception_nodes.evaluation.gpu_record import backends_sha256, read_records, table
from perception_nodes.evaluation.gpu_subjects import Frame, Loaded, Subject, subjects
from perception_nodes.evaluation.results import percentiles, Value, write_results
import torch
from torch.backends import cudnn
import torchvision

EXIT_NO_GPU = 3
_SEED = 0
_CAMERA = (640, 480)  # size of the frames that are timed
_BATCHES = (1, 2, 4, 8)
_THREADS = 4
_WARM_UPS = 5
# what passes: differences of the largest value, a drop of the metric, memory that stays
_LARGEST_DIFFERENCE = {False: 0.02, True: 0.1}  # in 32 bits (of which TF32 uses 19), and in 16
_LARGEST_DROP = 0.005
_LEFT_MB = 50.0

Values = dict[str, Value]


@dataclass(frozen=True)
class Variant:
    """A way to run a network."""

    name: str
    half_precision: bool = False
    graph: bool = False


_ON_CPU = (Variant('fp32'),)
_ON_CUDA = (Variant('fp32'), Variant('fp32_graph', graph=True), Variant('fp16', True),
            Variant('fp16_graph', True, True))


def check(
    out: Path, device: str, *, frames: int, repeats: int, only: Sequence[str] = ()
) -> int:
    """
    Check networks, write the record, and print what is wrong.

    What is known after each network is in GPU.unfinished, which becomes GPU.json, the record, once
    every network was checked.

    :param out: Folder for the record.
    :param device: ``auto``, ``cpu``, ``cuda:N``, or ``meta``, which has no numbers.
    :param frames: Labelled frames for the metrics.
    :param repeats: Runs behind each time.
    :param only: Names of the networks; empty: all, else there is no record.
    :return: The exit code.
    """
    start_s = time.monotonic()
    known = {subject.name: subject for subject in subjects()}
    unknown = sorted(set(only) - set(known))
    try:
        place = 'meta' if device == 'meta' else str(choose_device(device, False))
        if unknown:
            raise ValueError(
                f"there is no network '{unknown[0]}'; choose from {', '.join(known)}")
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    facts = _facts(place)
    path = out / f'{_file_name(str(facts["gpu"]))}.json'
    # not the record of last time itself: the commit would be called changed then
    draft = path.with_suffix('.unfinished')
    machine = _Machine(place, read_frames(frames), repeats)
    waiting = [name for name in known if not only or name in only]
    while waiting:
        print(f'{time.monotonic() - start_s:4.0f} s  {waiting[0]}', flush=True)
        machine.check(known[waiting.pop(0)])
        # whole after each: who stops it, or a time limit, loses only what was not reached
        failed = [*machine.failed, *(f'{name} was not reached' for name in waiting)]
        write_results(draft, {
            **facts, 'checks_failed': len(failed), 'failures': '; '.join(failed),
            **_summary(machine.values), **machine.values}, seed=_SEED, n=machine.frames,
            wall_s=time.monotonic() - start_s)
    if only:
        print(f'wrote {draft}, which is no record: the other networks were not checked')
    else:
        draft.replace(path)
        print(f'wrote {path}')
    for sentence in failed:
        print(f'FAILED {sentence}')
    if not place.startswith('cuda'):
        print(f'no GPU was checked: this ran on {place}')
        return EXIT_NO_GPU
    print(f'{len(failed)} checks failed' if failed else 'all checks passed')
    if not only:
        _print_table(out)
    return 1 if failed else 0


def _print_table(folder: Path) -> None:
    try:
        print(f'the table for docs/gpu.md:\n{table(read_records(folder))}')
    except ValueError as error:  # of another file there
        print(error, file=sys.stderr)


class _Machine:
    """A device, and what networks are tried with there."""

    def __init__(self, device: str, frames: Sequence[LabelledFrame], repeats: int) -> None:
        self._device = device
        self._frames = frames
        self._rgb = [frame.rgb for frame in frames]
        self._camera: list[Frame] = [
            np.asarray(cv2.resize(self._rgb[i % len(frames)], _CAMERA), np.uint8)
            for i in range(max(_BATCHES))]
        self._repeats = repeats
        self.values: Values = {}
        self.failed: list[str] = []

    @property
    def frames(self) -> int:
        """Return how many labelled frames there are."""
        return len(self._frames)

    def check(self, subject: Subject) -> None:
        """Add the figures of a network, and what is wrong with them."""
        torch.manual_seed(_SEED)
        with self._noted(f'{subject.name} on the CPU'):
            on_cpu = subject.load('cpu', False)
            if self._device == 'meta':
                self.values |= _on_meta(subject.name, on_cpu, self._camera[0])
                return
            expected = on_cpu.predict(self._rgb)
            for variant in _ON_CUDA if self._device.startswith('cuda') else _ON_CPU:
                name = f'{subject.name}_{variant.name}'
                with self._noted(name):
                    found = self._check(subject, variant, on_cpu, expected)
                    self.failed += _failures(name, found, variant, subject.is_steady)
                    self.values |= {f'{name}_{what}': value for what, value in found.items()}

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        """Note an error instead of raising it: what comes after is worth knowing."""
        try:
            yield
        except Exception as error:  # whatever a library raises
            first_line = str(error).partition('\n')[0] or type(error).__name__
            self.failed.append(f'{name} stopped: {first_line}')

    def _check(
        self, subject: Subject, variant: Variant, on_cpu: Loaded, expected: Any
    ) -> Values:
        loaded = _load(subject, self._device, variant)
        found = {'difference_share': self._difference(on_cpu, loaded, variant, subject.is_steady)}
        if subject.score is not None:
            of_cpu = subject.score(self._frames, expected, expected)
            found |= {
                'metric_cpu': of_cpu,
                'metric_drop': of_cpu - subject.score(
                    self._frames, loaded.predict(self._rgb), expected),
                'threads_metric_drop': of_cpu - subject.score(
                    self._frames, _by_threads(loaded, self._rgb), expected)}
        found |= self._times(loaded, variant)
        if not self._device.startswith('cuda'):
            return dict(found)
        found |= {'hidden_syncs': self._hidden_syncs(loaded),
                  'graphs': float(loaded.network.graphs)}
        del loaded
        return {**found, **self._memory(subject, variant)}

    def _memory(self, subject: Subject, variant: Variant) -> Values:
        """Load once more: what libraries keep for themselves, they have by now."""
        gc.collect()
        torch.cuda.empty_cache()
        before_mb = self._reserved_mb()
        loaded = _load(subject, self._device, variant)
        for count in _BATCHES:
            loaded.predict(self._camera[:count])
        held_mb = self._reserved_mb() - before_mb
        del loaded
        gc.collect()
        return {'memory_loaded_mb': held_mb, 'memory_left_mb': self._reserved_mb() - before_mb}

    def _difference(
        self, on_cpu: Loaded, loaded: Loaded, variant: Variant, is_steady: bool
    ) -> float:
        """
        Return by how much answers to the same numbers differ, as a share of the largest.

        It is the largest difference, in the precision of a node. Of networks that are not steady
        it is the median, and 32 bits are 32 bits then.
        """
        with inference(torch.device('cpu'), False):
            images = on_cpu.network.prepared(self._rgb[:2], on_cpu.input)
            expected = on_cpu.network.forward(images)
        precise = nullcontext() if is_steady else cudnn.flags(enabled=True, allow_tf32=False)
        with precise, inference(loaded.network.device, variant.half_precision):
            found = loaded.network.forward(images.to(loaded.network.device))
        of_all = torch.amax if is_steady else torch.median
        share = max(float(of_all((a.float().cpu() - b).abs()) / b.abs().max())
                    for a, b in zip(found, expected, strict=True))
        loaded.network.records = False  # a graph keeps the precision it was recorded in
        loaded.network.records = variant.graph
        return share

    def _times(self, loaded: Loaded, variant: Variant) -> dict[str, float]:
        """Time frames of a camera: from uint8 on the host to answers on the host."""
        times_ms = self._timed(lambda: loaded.predict(self._camera[:1]))
        values = percentiles('latency_ms', times_ms, (50, 99))
        with inference(loaded.network.device, variant.half_precision):
            images = loaded.network.prepared(self._camera[:1], loaded.input)

            def bare() -> None:
                loaded.network.forward(images)
                self._synchronize()

            bare_ms = float(np.median(self._timed(bare)))
            if not variant.graph:
                loaded.network.network.to(memory_format=torch.contiguous_format)
                images = images.contiguous()
                values['bare_not_channels_last_ms'] = float(np.median(self._timed(bare)))
                loaded.network.network.to(memory_format=torch.channels_last)
        values |= {'bare_ms': bare_ms, 'rate_of_bare': bare_ms / values['latency_ms_p50']}
        for count in _BATCHES:
            batch = self._camera[:count]
            batch_ms = self._timed(lambda batch=batch: loaded.predict(batch))  # type: ignore[misc]
            values[f'batch{count}_hz'] = 1e3 * count / float(np.median(batch_ms))
        by_threads_ms = self._timed(lambda: _by_threads(loaded, self._camera))
        values['threads_hz'] = 1e3 * len(self._camera) / float(np.median(by_threads_ms))
        return values

    def _timed(self, function: Callable[[], Any]) -> list[float]:
        for _ in range(min(_WARM_UPS, self._repeats)):
            function()
        times = []
        for _ in range(self._repeats):
            self._synchronize()
            start = time.perf_counter()
            function()  # ends when the answers are on the host
            times.append(1e3 * (time.perf_counter() - start))
        return times

    def _synchronize(self) -> None:
        if self._device.startswith('cuda'):
            torch.cuda.synchronize(self._device)

    def _hidden_syncs(self, loaded: Loaded) -> float:
        """Return how often a frame makes the host wait, beside once for its answers."""
        loaded.predict(self._camera[:1])
        with _counted_syncs() as of_frame:
            loaded.predict(self._camera[:1])
        with _counted_syncs() as of_waiting:
            loaded.network.to_host([])
        return float(len(of_frame) - len(of_waiting))

    def _reserved_mb(self) -> float:
        return torch.cuda.memory_reserved(self._device) / 1e6


def _load(subject: Subject, device: str, variant: Variant) -> Loaded:
    loaded = subject.load(device, variant.half_precision)
    loaded.network.records = variant.graph
    return loaded


def _by_threads(loaded: Loaded, frames: Sequence[Frame]) -> list[Any]:
    """Answer frames one by one from several threads, as the nodes of a container do."""
    shared = SharedModel(loaded)
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda frame: shared.predict([frame])[0], frames))


def _on_meta(name: str, loaded: Loaded, frame: Frame) -> Values:
    """Run a network without numbers, where every hidden copy to the host is an error."""
    meta = torch.device('meta')
    module = loaded.network.network.to('meta')
    answers = DeviceNetwork(module, meta, False, loaded.network.forward_of).run(
        [frame], loaded.input)
    return {f'{name}_meta_answers': ' '.join(str(tuple(a.shape)) for a in answers)}


@contextmanager
def _counted_syncs() -> Iterator[list[Any]]:
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter('ignore')
            warnings.filterwarnings('always', message='.*synchronizing')
            yield seen
    finally:
        torch.cuda.set_sync_debug_mode('default')


def _failures(
    name: str, found: Mapping[str, Any], variant: Variant, is_steady: bool = True
) -> list[str]:
    """Return a sentence for everything that is not as it should be."""
    # numbers they must be in any case
    largest = _LARGEST_DIFFERENCE[variant.half_precision]
    limits = {'difference_share':
              largest if is_steady or not variant.half_precision else math.inf,
              'metric_drop': _LARGEST_DROP, 'threads_metric_drop': _LARGEST_DROP,
              'memory_left_mb': _LEFT_MB, 'hidden_syncs': 0.0}
    wrong = [f'{name}_{what} is {found[what]:.4g}, at most {limit:g} is allowed'
             for what, limit in limits.items()
             # a metric of nothing is no metric; an answer that is no number is wrong
             if what in found and not found[what] <= limit
             and not (what.endswith('metric_drop') and math.isnan(found['metric_cpu']))]
    if variant.graph and not found['graphs']:
        wrong.append(f'{name} could not be recorded as a CUDA graph')
    return wrong


def _summary(values: Values) -> Values:
    """Return the worst of what the table in the docs shows."""
    def worst(pattern: str, choose: Callable[[list[float]], float]) -> float:
        numbers = [float(v) for k, v in values.items() if re.search(pattern, k)]
        return choose(numbers) if numbers else math.nan

    return {'fp16_metric_drop_max': worst(r'_fp16\w*_metric_drop$', max),
            'rate_of_bare_min': worst('_rate_of_bare$', min),
            'memory_left_mb_max': worst('_memory_left_mb$', max)}


def _facts(device: str) -> Values:
    facts: Values = {
        'device': device, 'gpu': device, 'driver': '', 'torch': torch.__version__,
        'torchvision': torchvision.__version__, 'python': platform.python_version(),
        'cuda': str(torch.version.cuda), 'backends_sha256': backends_sha256(),
        'date': datetime.now(UTC).date().isoformat()}
    if device.startswith('cuda'):
        gpu = torch.cuda.get_device_properties(device)
        facts |= {'gpu': gpu.name, 'driver': _driver(), 'cudnn': str(cudnn.version()),
                  'compute_capability': f'{gpu.major}.{gpu.minor}',
                  'memory_total_mb': gpu.total_memory / 1e6}
    return facts


def _driver() -> str:
    command = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ''
    return done.stdout.strip().partition('\n')[0]


def _file_name(gpu: str) -> str:
    return re.sub('[^a-z0-9]+', '_', gpu.lower()).strip('_')
