"""
Measure the runtimes that can run the shipped ONNX networks on a CPU, beside each other.

Every runtime gets the same pictures in turns, on one thread; what counts is CPU time, from the
picture to the network's answers. Goal: the default within 1.2 times the best.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from importlib.util import find_spec
import logging
import time

import numpy as np
from perception_nodes.backends.onnxruntime_backend import (
    ImageNetwork,
    OnnxNetwork,
    open_network,
    open_session,
)
from perception_nodes.backends.runtime_choice import choose_runtime
from perception_nodes.cli.arguments import count, result_file
from perception_nodes.core.manifest import known_models, ModelEntry
from perception_nodes.evaluation.results import percentiles, Value, write_results
from tqdm import tqdm

log = logging.getLogger(__name__)

GOAL = 1.2
_TASKS = ('detection', 'segmentation', 'classification')
_SIZE = (480, 640, 3)  # of the pictures
_WARM_UPS = 3


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument(
        '--rounds', type=count, default=60, metavar='N',
        help='pictures per network and runtime (default %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of the pictures and of the turns')
    parser.add_argument(
        '--out', type=result_file, default='out/bench/backends.json', metavar='FILE.json',
        help='result file to write (default %(default)s)')


def run(arguments: Namespace) -> int:
    """Measure every shipped network, write the result file and print the figures."""
    start_s = time.monotonic()
    values: dict[str, Value] = {}
    default = choose_runtime('onnxruntime', 'cpu').runtime
    worst = 0.0
    for entry in shipped():
        found = measured(entry, arguments.rounds, arguments.seed)
        medians = {name: float(np.median(cpu_ms)) for name, cpu_ms in found.items()}
        for name, cpu_ms in found.items():
            values |= percentiles(f'{entry.name}_{name}_cpu_ms', cpu_ms)
        ratio = medians[default] / min(medians.values())
        values[f'{entry.name}_default_over_best'] = ratio
        worst = max(worst, ratio)
        print(f'{entry.name:28}' + ''.join(f'{n} {ms:.1f} ms  ' for n, ms in medians.items())
              + f'default/best {ratio:.2f}')
    values |= {'default': default, 'default_over_best_max': worst}
    write_results(arguments.out, values, seed=arguments.seed, n=arguments.rounds,
                  wall_s=time.monotonic() - start_s)
    print(f'{default} takes at most {worst:.2f} times the best; the goal is {GOAL}')
    log.info('wrote %s', arguments.out)
    return 0


def shipped() -> list[ModelEntry]:
    """Return the ONNX networks on pictures whose files are here."""
    return [entry for entry in known_models().values()
            if entry.backend == 'onnxruntime' and entry.task in _TASKS and entry.path.is_file()]


def measured(entry: ModelEntry, rounds: int, seed: int) -> dict[str, list[float]]:
    """Return the CPU time per picture of each runtime, milliseconds."""
    rng = np.random.default_rng(seed)
    networks = opened(entry)
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    picture = coarse.repeat(_SIZE[0] // 6, 0).repeat(_SIZE[1] // 8, 1)
    for network in networks.values():
        for _ in range(_WARM_UPS):
            network.run([picture])
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in tqdm(range(rounds), entry.name, unit='round', disable=None, leave=False):
        for name in rng.permutation(list(networks)).tolist():
            start_s = time.process_time()
            networks[name].run([picture])
            times[name].append(1e3 * (time.process_time() - start_s))
    return times


def opened(entry: ModelEntry) -> dict[str, ImageNetwork]:
    """Return a network in every runtime that is installed."""
    networks: dict[str, ImageNetwork] = {
        'onnxruntime': OnnxNetwork(open_session(entry, 'cpu', False), entry)}
    if find_spec('torch'):
        from perception_nodes.backends.onnx_device import OnnxInTorch
        networks['torch'] = OnnxInTorch(entry, 'cpu', False)
    if find_spec('openvino'):
        networks['openvino'] = open_network(replace(entry, backend='openvino'), 'cpu', False)
    else:
        log.warning('openvino is not installed and not measured: pip install openvino')
    return networks
