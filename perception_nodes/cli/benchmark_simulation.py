"""
Measure what simulating costs: physics, pictures of both renderers, a robot at work, truth.

Milliseconds are CPU time of all threads for one picture of 320x240, the median over views of
several rooms; renderers take turns on the same views. OpenGL gets depth and masks from one pass,
so both figures are that pass. A robot at work delivers 10 pictures with depth, 10 scans and 50
odometry readings per simulated second, with noise, from the renderer that 'auto' takes; its real
time factor is simulated time over CPU time, which is that of one core nobody else uses. Where ROS
is installed, ``one_core_...`` says how fast simulated time really runs in one process with a
working detector that is held on one core.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
import importlib.util
import logging
import math
import time

import numpy as np
from perception_nodes.cli.arguments import count, result_file
from perception_nodes.cli.progress import progress
from perception_nodes.core.types import CameraIntrinsics, VelocityCommand
from perception_nodes.evaluation.results import write_results
from perception_nodes.sim.engine import mujoco
from perception_nodes.sim.model import build, start_pose
from perception_nodes.sim.rendering import EglRenderer, probe_egl, RayRenderer, View
from perception_nodes.sim.robot import mounts
from perception_nodes.sim.simulator import CAMERA, Simulator, SimulatorParams
from perception_nodes.sim.worlds import make_scene

log = logging.getLogger(__name__)

_LENS = CameraIntrinsics.from_fov(320, 240, 69.0)
_REPEATS = 5
_TICK_S = 0.02
_TICKS_PER_PICTURE = 5
_COMMAND = VelocityCommand(0.2, 0.5)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument('--scenes', type=count, default=6, metavar='N',
                        help='rooms to measure in (default: %(default)s)')
    parser.add_argument('--seconds', type=count, default=10, metavar='N',
                        help='simulated seconds in each (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, metavar='N',
                        help='another seed, other rooms (default: %(default)s)')
    parser.add_argument('--out', type=result_file, default='out/bench/simulation.json',
                        metavar='FILE', help='where the figures go (default: %(default)s)')


def run(arguments: Namespace) -> int:
    """Measure, say the figures, write them."""
    begun = time.monotonic()
    egl = probe_egl()
    if not egl.works:
        log.info('OpenGL does not work here (%s): its figures stay empty', egl.what)
    seeds = range(arguments.seed, arguments.seed + arguments.scenes)
    _warm_up(egl.works)
    rows = []
    with progress(len(seeds), 'room') as bar:
        for seed in seeds:
            rows.append({**_pictures(seed, egl.works), **_at_work(seed, arguments.seconds)})
            bar.update(1)
    values = {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
    if importlib.util.find_spec('rclpy') is not None:
        from perception_nodes.cli.benchmark_pipeline import on_one_core, settings
        for tried in settings(egl.works):
            values.update(on_one_core(tried, arguments.seconds))
    width = max(map(len, values))
    for name, value in values.items():
        print(f'{name:{width}}  {value:10.3f}')
    write_results(
        arguments.out, {**values, 'egl_device': egl.what}, seed=arguments.seed,
        n=arguments.scenes, wall_s=time.monotonic() - begun)
    log.info('wrote %s', arguments.out)
    return 0


def _pictures(seed: int, with_egl: bool) -> dict[str, float]:
    """Return what one picture costs, and how well the renderers agree."""
    scene = make_scene('room', seed)
    model = build(scene)
    data = mujoco.MjData(model.mj)
    mujoco.mj_forward(model.mj, data)
    assert scene.robot is not None
    base_from_camera = mounts(scene.robot.footprint, math.radians(15.0)).base_from_camera
    view = View(start_pose(scene).matrix @ base_from_camera, _LENS)
    rays, shadowed = RayRenderer(model), RayRenderer(model, shadows=True)
    actions: dict[str, Callable[[], object]] = {
        'ray_all_ms': lambda: rays.picture(data, view),
        'ray_depth_masks_ms': lambda: rays.cast(data, view),
        'ray_all_shadows_ms': lambda: shadowed.picture(data, view)}
    names = ('egl_rgb_ms', 'egl_depth_ms', 'egl_masks_ms', 'egl_same_things', 'egl_depth_2mm')
    values = dict.fromkeys(names, math.nan)
    if not with_egl:
        return {**values, **_timed(actions)}
    egl = EglRenderer(model)
    try:
        actions['egl_rgb_ms'] = lambda: egl.rgb(data, view)
        actions['egl_depth_ms'] = lambda: egl.layers(data, view)
        values.update(_timed(actions))
        values['egl_masks_ms'] = values['egl_depth_ms']
        ours, theirs = rays.layers(data, view), egl.layers(data, view)
    finally:
        egl.close()
    both = np.isfinite(ours.depth_m) & np.isfinite(theirs.depth_m)
    error = np.abs(ours.depth_m[both] - theirs.depth_m[both])
    values['egl_same_things'] = float((ours.things == theirs.things).mean())
    values['egl_depth_2mm'] = float((error < 0.002).mean())
    return values


def _at_work(seed: int, seconds: int) -> dict[str, float]:
    """Return how fast time passes, and how many cores real time needs."""
    params = SimulatorParams(world='room')
    before = time.process_time()
    sim = Simulator(params, seed)
    reset_ms = (time.process_time() - before) * 1e3
    try:
        before = time.process_time()
        sim.step(_COMMAND, float(seconds))
        physics_cpu_s = time.process_time() - before
        wall, before = time.perf_counter(), time.process_time()
        for tick in range(round(seconds / _TICK_S)):
            sim.step(replace(_COMMAND, angular_rps=-0.5), _TICK_S)
            if tick % _TICKS_PER_PICTURE == 0:
                sim.frame(CAMERA)
                sim.scan()
        work_wall_s, work_cpu_s = time.perf_counter() - wall, time.process_time() - before
        before = time.process_time()
        sim.truth(CAMERA)
        truth_ms = (time.process_time() - before) * 1e3
    finally:
        sim.close()
    return {
        'real_time_factor': seconds / work_cpu_s, 'cpu_cores': work_cpu_s / seconds,
        'real_time_factor_wall': seconds / work_wall_s,
        'physics_real_time_factor': seconds / physics_cpu_s, 'reset_ms': reset_ms,
        'truth_ms': truth_ms}


def _timed(actions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median CPU time of each action, milliseconds; they take turns."""
    samples: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(_REPEATS + 1):
        for name, action in actions.items():
            before = time.process_time()
            action()
            samples[name].append((time.process_time() - before) * 1e3)
    return {name: float(np.median(found[1:])) for name, found in samples.items()}


def _warm_up(with_egl: bool) -> None:
    """Compile and load whatever is compiled and loaded on first use."""
    _pictures(0, with_egl)
    _at_work(0, 1)
