"""From CPU times and latencies to the figures of ``perception benchmark graph``."""

from collections.abc import Mapping
import math
import time

import numpy as np
import numpy.typing as npt
from perception_nodes.cli.benchmark_processes import BEST_EFFORT, HD, picture, VARIANTS, VGA
from perception_nodes.evaluation.metrics import scores_with_intervals
from perception_nodes.evaluation.results import percentiles

# figure: the most that it may be
GOALS = {
    'detection_overhead_cpu_ms_720p': 1.5,
    'one_process_over_four_default_cpu_ratio': 0.2,
    'one_process_over_four_tuned_cpu_ratio': 0.4,
    'best_effort_vga_lost': 0.0,
}

# by variant: CPU time per image; and per consumer and image the latency, NaN where it was lost
CpuTimes = dict[str, npt.NDArray[np.float64]]
Latencies = dict[str, npt.NDArray[np.float64]]


def memcpy_ms(frames: int) -> dict[str, float]:
    """Time copies of the images, the least that any hop costs."""
    values: dict[str, float] = {}
    for name, size in (('vga', VGA), ('720p', HD)):
        source = picture(*size)
        target = source.copy()
        samples_ms = []
        for _ in range(frames):
            start_ns = time.thread_time_ns()
            np.copyto(target, source)
            samples_ms.append((time.thread_time_ns() - start_ns) * 1e-6)
        values[f'memcpy_{name}_cpu_ms'] = float(np.mean(samples_ms))
    return values


def per_variant(cpu_times_ms: CpuTimes, latencies_ms: Latencies) -> dict[str, float]:
    """Return CPU time and the lost share per image, and the latency until the last consumer."""
    values: dict[str, float] = {}
    for variant in VARIANTS:
        last_ms = latencies_ms[variant.name].max(axis=0)  # NaN if any consumer lost it
        values[f'{variant.name}_cpu_ms'] = float(cpu_times_ms[variant.name].mean())
        values[f'{variant.name}_lost'] = float(np.isnan(latencies_ms[variant.name]).mean())
        values |= percentiles(
            f'{variant.name}_latency_ms', last_ms[np.isfinite(last_ms)].tolist(), (50, 95, 99))
    return values


def figures(
    cpu_times_ms: CpuTimes, latencies_ms: Latencies, seed: int
) -> dict[str, float]:
    """Return the differences and ratios, with their 95 % intervals over rounds."""
    last_ms = {name: values.max(axis=0) for name, values in latencies_ms.items()}
    rounds = len(cpu_times_ms['empty'])

    def score(weights: npt.NDArray[np.int64]) -> dict[str, float]:
        cpu = {name: float(np.average(ms, weights=weights)) for name, ms in cpu_times_ms.items()}

        def latency_ratio(name: str) -> float:
            return float(np.nanmedian(np.repeat(last_ms[name], weights))
                         / np.nanmedian(np.repeat(last_ms[f'{name}_default'], weights)))

        return {
            'detection_overhead_cpu_ms_vga': cpu['detection_vga'] - cpu['bare_vga'],
            'detection_overhead_cpu_ms_720p': cpu['detection_720p'] - cpu['bare_720p'],
            'tuned_over_default_latency_ratio': latency_ratio('bare_vga'),
            'tuned_over_default_latency_ratio_720p': latency_ratio('bare_720p'),
            'one_process_over_four_default_cpu_ratio':
                cpu['container'] / cpu['four_processes_default'],
            'one_process_over_four_tuned_cpu_ratio':
                cpu['container'] / cpu['four_processes_tuned'],
        }

    return scores_with_intervals(score, np.arange(rounds), seed)


def losses(latencies_ms: Latencies) -> dict[str, float]:
    """Return the lost share of the images that were sent best effort, with Wilson's interval."""
    values: dict[str, float] = {}
    for variant in BEST_EFFORT:
        lost = np.isnan(latencies_ms[variant.name])
        low, high = wilson_interval(int(lost.sum()), lost.size)
        values |= {f'{variant.name}_lost': float(lost.mean()),
                   f'{variant.name}_lost_ci_low': low, f'{variant.name}_lost_ci_high': high}
    return values


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """
    Return the 95 % interval of a share of which ``hits`` of ``n`` were seen.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    z = 1.959964
    share = hits / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def print_tables(values: Mapping[str, float]) -> None:
    """Print what was measured per variant, then the figures beside their goals."""
    width = max(len(variant.name) for variant in VARIANTS)
    print(f'{"per image":{width}}   CPU ms   latency ms: p50     p95     p99    lost')
    for name in ('memcpy_vga', 'memcpy_720p'):
        print(f'{name:{width}} {values[f"{name}_cpu_ms"]:8.3f}')
    for variant in VARIANTS:
        latency = ''.join(f'{values[f"{variant.name}_latency_ms_p{rank}"]:8.2f}'
                          for rank in (50, 95, 99))
        print(f'{variant.name:{width}} {values[f"{variant.name}_cpu_ms"]:8.3f}        {latency}'
              f'{values[f"{variant.name}_lost"]:8.1%}')
    names = [name for name in values if f'{name}_ci_low' in values]
    width = max(map(len, names))
    print(f'\n{"figure":{width}}   value  (95 % interval)    goal')
    for name in names:
        goal = ''
        if name in GOALS:
            met = 'met' if values[name] <= GOALS[name] else 'MISSED'
            goal = f'at most {GOALS[name]:g}: {met}'
        print(f'{name:{width}} {values[name]:7.3f}  '
              f'({values[f"{name}_ci_low"]:.3f} to {values[f"{name}_ci_high"]:.3f})   {goal}')
