"""Benchmarks: the figures from known times, and one real run of the smallest size."""

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import numpy as np
from perception_nodes.cli.main import main
from perception_nodes.core.detection import DetectionParams, ObjectDetector
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
from perception_nodes.cli import benchmark_figures, benchmark_graph  # noqa: E402
from perception_nodes.cli.benchmark_processes import (  # noqa: E402
    BEST_EFFORT,
    BOXES,
    picture,
    StubDetector,
    VARIANTS,
    VGA,
)


@pytest.fixture
def known():
    """Return CPU times and latencies per variant: 1 ms for all but a few."""
    cpu_ms = {variant.name: np.full(10, 1.0) for variant in VARIANTS}
    cpu_ms |= {'detection_720p': np.full(10, 2.25), 'four_processes_default': np.full(10, 8.0),
               'four_processes_tuned': np.full(10, 4.0), 'container': np.full(10, 1.6)}
    latencies_ms = {variant.name: np.full((variant.processes * variant.nodes, 10), 4.0)
                    for variant in (*VARIANTS, *BEST_EFFORT)}
    latencies_ms['bare_vga'] = np.full((1, 10), 1.0)
    return cpu_ms, latencies_ms


def test_figures_are_differences_and_ratios(known):
    values = benchmark_figures.figures(*known, seed=0)
    assert values['detection_overhead_cpu_ms_vga'] == 0.0
    assert values['detection_overhead_cpu_ms_720p'] == 1.25
    assert values['tuned_over_default_latency_ratio'] == 0.25
    assert values['one_process_over_four_default_cpu_ratio'] == pytest.approx(0.2)
    assert values['one_process_over_four_tuned_cpu_ratio'] == pytest.approx(0.4)
    assert values['detection_overhead_cpu_ms_720p_ci_low'] == 1.25


def test_intervals_hold_the_spread_between_rounds(known):
    cpu_ms, latencies_ms = known
    cpu_ms['detection_vga'] = np.tile([1.0, 3.0], 5)
    values = benchmark_figures.figures(cpu_ms, latencies_ms, seed=0)
    low, middle, high = (
        values[f'detection_overhead_cpu_ms_vga{end}'] for end in ('_ci_low', '', '_ci_high'))
    assert 0.2 < low < middle == 1.0 < high < 1.8


def test_latency_is_that_of_the_last_consumer(known):
    cpu_ms, latencies_ms = known
    latencies_ms['four_processes_tuned'][2] = np.arange(4.0, 14.0)
    latencies_ms['four_processes_tuned'][1, 0] = np.nan
    values = benchmark_figures.per_variant(cpu_ms, latencies_ms)
    assert values['four_processes_tuned_latency_ms_p50'] == 9.0  # of 5 to 13
    assert values['four_processes_tuned_lost'] == 1 / 40
    assert values['empty_latency_ms_p99'] == 4.0


def test_lost_images_are_a_share_with_an_interval(known):
    _, latencies_ms = known
    latencies_ms['best_effort_vga_default'][0, :5] = np.nan
    values = benchmark_figures.losses(latencies_ms)
    assert values['best_effort_vga_lost'] == 0.0
    assert values['best_effort_vga_lost_ci_high'] == pytest.approx(0.2775, abs=1e-4)
    assert values['best_effort_vga_default_lost'] == 0.5
    assert values['best_effort_vga_default_lost_ci_low'] == pytest.approx(0.2366, abs=1e-4)


def test_a_missed_goal_is_printed(known, capsys):
    cpu_ms, latencies_ms = known
    cpu_ms['container'] *= 1.5
    values = {**benchmark_figures.memcpy_ms(2), **benchmark_figures.losses(latencies_ms),
              **benchmark_figures.per_variant(cpu_ms, latencies_ms),
              **benchmark_figures.figures(cpu_ms, latencies_ms, seed=0)}
    benchmark_figures.print_tables(values)
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines['one_process_over_four_tuned_cpu_ratio'].endswith('at most 0.4: MISSED')
    assert lines['detection_overhead_cpu_ms_720p'].endswith('at most 1.5: met')


def test_cpu_time_counts_every_thread_also_those_that_have_ended():
    script = ('import hashlib, threading, time\n'
              'work = lambda: [hashlib.sha256(bytes(10**7)).digest() for _ in range(5)]\n'
              'threads = [threading.Thread(target=work) for _ in range(2)]\n'
              '[t.start() for t in threads]; [t.join() for t in threads]\n'
              'print(time.process_time() * 1e3, flush=True); input()')
    child = subprocess.Popen([sys.executable, '-c', script], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    spent_ms = float(child.stdout.readline())
    measured_ms = benchmark_graph.cpu_ms([child.pid])
    child.communicate('\n')
    # what the child had when it looked, and a little more for its looking
    assert 0.0 <= measured_ms - spent_ms < 0.2 * spent_ms


def test_the_stub_is_a_detector_whose_boxes_are_all_kept():
    found, = ObjectDetector(StubDetector(), DetectionParams()).detect([picture(*VGA)])
    assert len(found) == BOXES


def test_wrong_usage_says_what_there_is(capsys):
    for words, sentence in ((['nonesuch'], 'graph'), (['graph', '--frames', '0'], "'0' must be")):
        with pytest.raises(SystemExit) as ended:
            main(['benchmark', *words])
        assert ended.value.code == 2
        assert sentence in capsys.readouterr().err


def test_help_of_a_benchmark_is_its_own(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['benchmark', 'graph', '--help'])
    assert ended.value.code == 0
    assert '--frames' in capsys.readouterr().out


def run_benchmark(folder, *flags):
    """Start the benchmark with its sockets in ``folder``, by which its processes are known."""
    return subprocess.Popen(
        [sys.executable, '-m', 'perception_nodes.cli', 'benchmark', 'graph', '--out',
         str(folder / 'bench.json'), *flags],
        env=os.environ | {'TMPDIR': str(folder)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def processes_of(folder):
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            words = path.read_bytes()
        except OSError:  # it has just ended
            continue
        if b'benchmark_processes' in words and str(folder).encode() in words:
            found.append(int(path.parent.name))
    return found


@pytest.mark.graph
@pytest.mark.timeout(900)
def test_a_short_run_measures_everything(tmp_path):
    said, complaints = run_benchmark(tmp_path, '--frames', '4').communicate()
    result = json.loads((tmp_path / 'bench.json').read_text())
    assert result['n'] == 4, complaints
    assert {'seed', 'commit', 'wall_s', *benchmark_figures.GOALS} <= result.keys()
    assert all(value is not None for value in result.values())
    # every image reaches every consumer, and costs more than its floors
    assert all(result[f'{variant.name}_lost'] == 0.0 for variant in VARIANTS)
    assert result['memcpy_720p_cpu_ms'] < result['empty_cpu_ms'] < result['bare_720p_cpu_ms']
    assert result['container_cpu_ms'] < result['four_processes_default_cpu_ms']
    assert result['detection_720p_latency_ms_p50'] < result['model_vga_latency_ms_p50']
    assert 'goal' in said
    assert not processes_of(tmp_path)


@pytest.mark.graph
@pytest.mark.timeout(900)
def test_an_interrupted_run_leaves_nothing(tmp_path):
    run = run_benchmark(tmp_path)
    while not processes_of(tmp_path):
        assert run.poll() is None
        time.sleep(0.1)
    time.sleep(1.0)
    run.send_signal(signal.SIGINT)
    _, complaints = run.communicate()
    assert run.returncode == 0, complaints
    assert 'Traceback' not in complaints
    end_s = time.monotonic() + 30.0
    while processes_of(tmp_path):  # one that had only begun is ended by the end of its parent
        assert time.monotonic() < end_s
        time.sleep(0.1)
    assert not (tmp_path / 'bench.json').exists()


@pytest.mark.graph
@pytest.mark.timeout(900)
def test_a_consumer_that_dies_is_told(tmp_path):
    run = run_benchmark(tmp_path, '--frames', '1')
    while len(pids := processes_of(tmp_path)) < 2 + sum(v.processes for v in VARIANTS):
        assert run.poll() is None
        time.sleep(0.1)
    os.kill(max(pids), signal.SIGKILL)
    _, complaints = run.communicate()
    assert run.returncode == 1
    assert 'ended with signal SIGKILL' in complaints
    assert 'Traceback' not in complaints
    assert not processes_of(tmp_path)
