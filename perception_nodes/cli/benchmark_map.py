"""
Measure obstacle maps: what they find, what they invent, what they keep too long, what they cost.

Scenes of boxes, poles, tables and walls are rendered with exact depth, spoilt as a stereo camera
spoils it, and mapped by this package and by the rules of Nav2's voxel layer, of the
spatio-temporal voxel layer and of a depth-image-to-scan slice. All see the same images. The cost
of a frame is that of the node's whole process, which receives images over ROS and publishes.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
import logging
import math
from pathlib import Path
import tempfile
import time

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.cli.arguments import count, result_file
from perception_nodes.cli.benchmark_figures import wilson_interval
from perception_nodes.cli.benchmark_map_node import node_cpu_ms
from perception_nodes.core.mapping import MappingParams, ObstacleMapper
from perception_nodes.evaluation import mapping_scenarios as scenarios
from perception_nodes.evaluation.depth_scenes import noisy, render
from perception_nodes.evaluation.mapping_baselines import OurRule, RULES
from perception_nodes.evaluation.mapping_reference import ReferenceMapper
from perception_nodes.evaluation.mapping_scenarios import CellScore, MakeMapper
from perception_nodes.evaluation.results import write_results
from tqdm import tqdm

log = logging.getLogger(__name__)

PITCH_ERROR_DEG = 3.0
FRAMES_PER_SCENE = 3
_TIMED_FRAMES = 60
_REFERENCE_FRAMES = 8
_RESAMPLINGS = 1000
_PIXELS_PER_CELL = 3


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what the benchmark takes."""
    parser.add_argument(
        '--scenes', type=count, default=100, metavar='N',
        help='scenes of each kind for our map (default 100)')
    parser.add_argument(
        '--baseline-scenes', type=count, default=20, metavar='N',
        help='scenes of each kind for the other rules (default 20)')
    parser.add_argument(
        '--frames', type=count, default=150, metavar='N',
        help='frames at 15 Hz that the node is measured with (default 150)')
    parser.add_argument(
        '--out', type=result_file, default='out/bench/map.json', metavar='FILE.json',
        help='result file to write, with pictures beside it (default %(default)s)')
    parser.add_argument(
        '--seed', type=int, default=50_000,
        help='of the first scene (default %(default)s; below 20000 is for development)')


def run(arguments: Namespace) -> int:
    """Measure, write the result file and pictures, and print the figures."""
    start_s = time.monotonic()
    params = MappingParams()
    values = timings(params, arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        values |= node_cpu_ms(arguments.frames, Path(folder))
    for prefix, rule in RULES.items():
        scenes = arguments.baseline_scenes if prefix else arguments.scenes
        seeds = range(arguments.seed, arguments.seed + scenes)
        values |= {prefix + name: value
                   for name, value in quality(rule, params, seeds, prefix or 'ours').items()}
    write_pictures(arguments.out.parent / 'map', params, arguments.seed)
    write_results(arguments.out, values, seed=arguments.seed, n=arguments.scenes,
                  wall_s=time.monotonic() - start_s)
    for name, value in values.items():
        print(f'{name:40} {value:.4g}')
    log.info('wrote %s', arguments.out)
    return 0


def timings(params: MappingParams, seed: int) -> dict[str, float]:
    """Return the CPU time of an update, ours and in numpy, on the images of a drive."""
    rng = np.random.default_rng(seed)
    shots = scenarios.draw_shots(rng)
    depth_m, _ = render(shots.scene, shots.map_from_camera, scenarios.CAMERA)
    images = [noisy(depth_m, rng) for _ in range(6)]
    ours, reference = ObstacleMapper(params), ReferenceMapper(params)
    ours_ms, reference_ms = [], []
    for frame in range(_TIMED_FRAMES):
        map_from_base = np.eye(4)
        map_from_base[0, 3] = 0.02 * frame  # the map scrolls, as on a robot at 0.3 m/s
        started = time.thread_time()
        view = ours.view(images[frame % 6], scenarios.CAMERA, shots.believed, map_from_base)
        found = time.thread_time()
        ours.move(map_from_base, frame * scenarios.FRAME_NS)
        ours.integrate(view)
        done = time.thread_time()
        ours_ms.append(1e3 * (done - started))
        if frame < _REFERENCE_FRAMES:
            # both get the same view: only what differs is compared
            begun = time.thread_time()
            reference.move(map_from_base, frame * scenarios.FRAME_NS)
            reference.integrate(view)
            reference_ms.append(1e3 * (time.thread_time() - begun + found - started))
    update_ms = float(np.median(ours_ms[_REFERENCE_FRAMES:]))
    return {'update_cpu_ms': update_ms,
            'update_cpu_ms_p95': float(np.percentile(ours_ms[_REFERENCE_FRAMES:], 95)),
            'numpy_update_cpu_ms': float(np.median(reference_ms)),
            'speedup_over_numpy': float(np.median(reference_ms)) / update_ms}


def quality(
    rule: MakeMapper, params: MappingParams, seeds: Sequence[int], name: str
) -> dict[str, float]:
    """Return what a rule finds, invents and keeps, over the scenes of some seeds."""
    scores, tilted, ghosts = [], [], {True: list[int](), False: list[int]()}
    distances_m = (1.0, 2.0, 3.0)
    seen = dict.fromkeys(distances_m, 0)
    for seed in tqdm(seeds, name, unit='scene', disable=None):
        scores.append(_scored(rule, params, seed, 0.0, FRAMES_PER_SCENE))
        error_deg = PITCH_ERROR_DEG if seed % 2 else -PITCH_ERROR_DEG
        tilted.append(_scored(rule, params, seed, error_deg, 1))
        for distance_m in distances_m:
            rng = np.random.default_rng(seed)
            shots = scenarios.draw_cube_shots(rng, distance_m, error_deg)
            seen[distance_m] += scenarios.cube_is_seen(rule(params), shots, rng, params)
        for with_wall, found in ghosts.items():
            rng = np.random.default_rng(seed)
            removal = scenarios.draw_removal(rng, with_wall)
            frames = scenarios.ghost_frames(rule(params), removal, rng, params)
            if frames is not None:
                found.append(frames)
    both = ghosts[True] + ghosts[False]
    values = {
        **_share('precision', [s.right for s in scores], [s.right + s.false for s in scores]),
        **_share('recall', [s.found for s in scores], [s.there for s in scores]),
        'false_cells_per_frame': float(np.mean([s.false for s in tilted])),
        'false_cells_per_frame_p95': float(np.percentile([s.false for s in tilted], 95)),
        'ghost_scenes': len(both),
        'ghost_worst_frames': max(both, default=math.nan),
        'ghost_median_frames': float(np.median(both)) if both else math.nan,
        'ghost_worst_frames_wall_behind': max(ghosts[True], default=math.nan),
        'ghost_worst_frames_nothing_behind': max(ghosts[False], default=math.nan)}
    for distance_m, hits in seen.items():
        low, high = wilson_interval(hits, len(seeds))
        key = f'small_obstacle_recall_{distance_m:.0f}m'
        values |= {key: hits / len(seeds), f'{key}_ci_low': low, f'{key}_ci_high': high}
    return values


def _scored(
    rule: MakeMapper, params: MappingParams, seed: int, pitch_error_deg: float, frames: int
) -> CellScore:
    rng = np.random.default_rng(seed)
    shots = scenarios.draw_shots(rng, pitch_error_deg)
    mapper = rule(params)
    scenarios.map_shots(mapper, shots, rng, frames)
    return scenarios.score_cells(mapper.occupied(), shots, params)


def _share(name: str, hits: list[int], of: list[int]) -> dict[str, float]:
    """Return a share over all scenes, with the interval from drawing scenes again."""
    pairs = np.array([hits, of], float)
    draws = np.random.default_rng(0).integers(0, len(of), (_RESAMPLINGS, len(of)))
    sums = pairs[:, draws].sum(axis=2)
    shares = sums[0] / np.maximum(sums[1], 1.0)
    low, high = np.percentile(shares, [2.5, 97.5])
    return {name: float(pairs[0].sum() / max(pairs[1].sum(), 1.0)),
            f'{name}_ci_low': float(low), f'{name}_ci_high': float(high)}


def write_pictures(folder: Path, params: MappingParams, seed: int) -> None:
    """Write what each rule makes of a few scenes, with the pitch wrong by 3 degrees."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(4):
        panels = []
        for rule in RULES.values():
            rng = np.random.default_rng(seed + number)
            shots = scenarios.draw_shots(rng, PITCH_ERROR_DEG)
            mapper = rule(params)
            scenarios.map_shots(mapper, shots, rng, FRAMES_PER_SCENE)
            cells = mapper.mapper.occupancy().cells if isinstance(mapper, OurRule) \
                else np.where(mapper.occupied(), 100, -1)
            panels.append(_drawn(cells, shots, params))
        cv2.imwrite(str(folder / f'scene_{number}.png'), np.hstack(panels))


def _drawn(
    cells: npt.NDArray[np.integer], shots: scenarios.Shots, params: MappingParams
) -> npt.NDArray[np.uint8]:
    """Draw the front of a map: surfaces green where found and red where not, inventions pink."""
    surfaces = scenarios.surface_cells(scenarios.visible_points(shots, params), params)
    occupied = cells == 100
    picture = np.full((*cells.shape, 3), 170, np.uint8)
    picture[cells == 0] = 255
    picture[occupied] = 40, 40, 40
    picture[surfaces & occupied] = 60, 160, 60
    picture[surfaces & ~scenarios.grown(occupied)] = 40, 40, 230
    picture[occupied & ~scenarios.grown(surfaces)] = 220, 60, 220
    front = picture[::-1, params.cells // 2 - 10:]
    drawn = cv2.resize(front, None, fx=_PIXELS_PER_CELL, fy=_PIXELS_PER_CELL,
                       interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.copyMakeBorder(
        drawn, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=(0, 0, 0)), np.uint8)
