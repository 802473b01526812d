"""
The simulated part of ``perception demo``: a robot drives through a room and is recorded.

One process holds the simulator and the nodes that see, map, drive and grasp, another the recorder;
this one sends goals. What the report shows is read back from the bags.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
import logging
import math
from pathlib import Path
import tempfile
import time
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.cli import demo_table
from perception_nodes.cli.demo_health import await_reports, Health, node_figures, reported
from perception_nodes.cli.demo_table import read_table, record_table, TableLook
from perception_nodes.cli.processes import await_nodes, Child, use_private_graph
from perception_nodes.conversions.decode import (
    class_names_from_msg,
    depth_m_from_msg,
    detections_from_msg,
    ids_from_msg,
    occupancy_from_msg,
    rgb_from_msg,
    stamp_ns_from_msg,
)
from perception_nodes.core.detection import DetectionParams
from perception_nodes.core.overlay import (
    blend_mask,
    colour_of,
    colourise_depth,
    draw_detections,
    draw_mask,
    draw_occupancy,
    Pixels,
)
from perception_nodes.core.params import Params
from perception_nodes.core.share import share_file
from perception_nodes.core.types import Detections, OccupancyMap
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.report import Legend, Moment, Panel, Section, Step, Tile
from tqdm import tqdm
import yaml

log = logging.getLogger(__name__)

DETECTOR, SEGMENTER = 'sim_scene_detector', 'sim_scene_segmenter'
WORLD, SEED = 'room', 8
# free places of that room, in map; at the last one a shelf and a person are near
GOALS = ((0.4, 2.1), (1.8, 0.3), (1.6, -2.6), (-0.5, -3.0))
_WORKING = ('detection', 'segmentation', 'obstacle_map', 'navigation')  # during the drive
_COLOUR = '/camera/color/image_raw'
_DEPTH = '/camera/aligned_depth_to_color/image_raw'
_INFO = '/camera/color/camera_info'
_DETECTIONS, _LABEL_INFO = '/detection/detections', '/detection/label_info'
_MASK, _MASK_LABEL_INFO = '/segmentation/mask', '/segmentation/label_info'
_MAP, _MAP_SCAN = '/obstacle_map/map', '/obstacle_map/scan'
_STATUS = '/navigation/status'
_TRUE_DETECTIONS = '/simulation/ground_truth/detections'
_TRUE_MASK = '/simulation/ground_truth/mask'
_TRUE_LABEL_INFO = '/simulation/ground_truth/label_info'
_TRUE_ODOM = '/simulation/ground_truth/odom'
_CONTACT = '/simulation/ground_truth/contact'
_TOPICS = (
    _COLOUR, _DEPTH, _INFO, _DETECTIONS, _LABEL_INFO, _MASK, _MASK_LABEL_INFO, _MAP,
    '/obstacle_map/class_map', _TRUE_DETECTIONS, _TRUE_MASK, _TRUE_LABEL_INFO, _TRUE_ODOM,
    *(f'/simulation/ground_truth/{name}' for name in ('instances', 'detections_3d', 'map')),
    _CONTACT, '/odom', '/scan', _MAP_SCAN, '/tf', '/tf_static', '/cmd_vel', '/goal_pose', _STATUS,
    '/clock', '/diagnostics')
_START_TIMEOUT_S = _DRIVE_TIMEOUT_S = 480.0  # on a machine with much else to do
_MOMENTS = 5
_FAR_M = 6.0  # far end of the depth scale
_SMALLEST_PX = 8.0  # true boxes with a shorter side are not drawn
_ENLARGED = 2  # so that letters are legible
_ANIMATED, DRIVE_PERIOD_MS = 80, 150  # pictures of the animation


def why_not() -> str:
    """Return why this machine cannot simulate, or nothing."""
    if find_spec('mujoco'):
        return ''
    return 'MuJoCo is not installed: pip install mujoco, then run perception demo again'


@dataclass
class Drive:
    """What was driven, and what the bag holds of it; everything by simulated stamp_ns."""

    renderer: str
    goals: int = 0
    goals_reached: int = 0
    start_ns: int = 0
    simulated_s: float = 0.0
    wall_s: float = 0.0
    colours: dict[int, Pixels] = field(default_factory=dict)
    depths_m: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)
    true_masks: dict[int, Any] = field(default_factory=dict)  # (H, W) class ids
    masks: dict[int, Any] = field(default_factory=dict)  # (H, W) the segmenter's ids
    maps: dict[int, OccupancyMap] = field(default_factory=dict)
    found: dict[int, Detections] = field(default_factory=dict)
    true: dict[int, Detections] = field(default_factory=dict)
    class_names: dict[int, str] = field(default_factory=dict)  # the detector's
    mask_names: dict[int, str] = field(default_factory=dict)  # the segmenter's
    true_names: dict[int, str] = field(default_factory=dict)
    map_xy_m: dict[int, tuple[float, float]] = field(default_factory=dict)
    impacts_mps: list[float] = field(default_factory=list)
    health: Health = field(default_factory=dict)
    parameters: str = ''  # the container's file
    table: TableLook = field(default_factory=TableLook)
    messages: int = 0

    def stamps_ns(self) -> list[int]:
        """Return the stamps of the drive for which everything was recorded, in order."""
        everywhere = set(self.colours).intersection(
            self.depths_m, self.true_masks, self.masks, self.maps, self.found, self.true)
        return sorted(stamp_ns for stamp_ns in everywhere if stamp_ns >= self.start_ns)

    def distance_m(self) -> float:
        """Return the length of the way, from true positions."""
        way = np.array([self.map_xy_m[stamp_ns] for stamp_ns in sorted(self.map_xy_m)])
        steps = np.diff(way.reshape(-1, 2), axis=0)
        return float(np.hypot(*steps.T).sum())


def simulate(params: DetectionParams, bag: Path, table_bag: Path) -> Drive:
    """
    Let the robot drive, look at a table, record it, and read it back.

    :param params: For the detection node that looks through the robot's camera.
    :param bag: Folder of the bag of the drive; an earlier bag there is replaced.
    :param table_bag: Folder of the bag of the look at the table.
    :raises OSError: If a process fails or does not get ready.
    :raises ValueError: If the bag lacks what the report shows.
    """
    from perception_nodes.sim.rendering import chosen_renderer

    drive = Drive(chosen_renderer('auto'))
    drive.parameters = _parameters(params, drive.renderer)
    _record(bag, table_bag, drive)
    drive.table = read_table(table_bag)
    with Bag(bag) as recorded:
        for message in recorded.messages():
            drive.messages += 1
            _take(drive, message.topic, message.content)
    if not drive.stamps_ns():
        raise ValueError(f'{bag} holds no moment of the drive with every kind of picture: '
                         'was the disk too slow?')
    return drive


def _record(bag: Path, table_bag: Path, drive: Drive) -> None:
    from nav_msgs.msg import OccupancyGrid
    from perception_nodes.cli.driver import Driver
    from perception_nodes.ros.session import Session
    from sensor_msgs.msg import Image
    from vision_msgs.msg import Detection2DArray

    log.info('starting simulator, perception, navigation and recorder on ROS_DOMAIN_ID %d; '
             'drawing with %s', use_private_graph(), drive.renderer)
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (logs / 'params.yaml').write_text(drive.parameters)
        container = stack.enter_context(Child('the container', [
            'perception_nodes.ros.container', '--ros-args', '--params-file',
            str(logs / 'params.yaml'), '-r', f'grasp:depth:={demo_table.DEPTH}',
            '-r', f'grasp:camera_info:={demo_table.INFO}', '-r', f'image:={_COLOUR}',
            '-r', f'depth:={_DEPTH}', '-r', f'camera_info:={_INFO}', '-r', f'mask:={_MASK}',
            '-r', f'label_info:={_MASK_LABEL_INFO}', '-r', f'navigation:scan:={_MAP_SCAN}'],
            logs / 'container'))
        recorder = stack.enter_context(Child('the recorder', [
            'perception_nodes.cli', 'record', str(bag), '--overwrite', '--topics', *_TOPICS],
            logs / 'recorder'))
        session = stack.enter_context(Session('perception_demo'))
        driver = Driver(session, GOALS, {
            _DETECTIONS: Detection2DArray, _MASK: Image, _MAP: OccupancyGrid})

        def is_everybody_there() -> bool:
            recorded = (_COLOUR, _DEPTH, _MASK, _MAP, _TRUE_DETECTIONS, _TRUE_MASK, _CONTACT)
            return driver.is_ready() and all(map(session.node.count_subscribers, recorded))

        await_nodes(session, [container, recorder], is_everybody_there, _START_TIMEOUT_S)
        _watch(driver, [container, recorder])
        await_reports(session, [container, recorder], _WORKING)
        recorder.stop()
        record_table(session, container, table_bag, logs / 'table_recorder')
        container.stop()
    drive.start_ns = driver.start_ns
    drive.simulated_s, drive.wall_s = driver.simulated_s, driver.wall_s
    drive.goals, drive.goals_reached = len(driver.goals), driver.reached


def _watch(driver: Any, children: Sequence[Child]) -> None:
    """Drive to the last goal, with a bar of goals."""
    driver.start()
    end_s = time.monotonic() + _DRIVE_TIMEOUT_S
    with tqdm(desc='driving', total=len(driver.goals), unit='goal', disable=None,
              leave=False) as bar:
        while not driver.has_arrived():
            for child in children:
                child.check()
            if time.monotonic() > end_s:
                raise TimeoutError(
                    f'the robot was done with {driver.done} of {len(driver.goals)} goals after '
                    f'{_DRIVE_TIMEOUT_S:g} s, {driver.simulated_s:.1f} simulated ones: this '
                    'machine is too busy')
            bar.update(driver.done - bar.n)
            time.sleep(0.05)


def _parameters(params: DetectionParams, renderer: str) -> str:
    """Return the parameter file of the container; what is not in it is the nodes' default."""
    robot = yaml.safe_load(share_file('config/simulation.yaml').read_text(encoding='utf-8'))
    blocks = {
        '/**': {'use_sim_time': True},
        'perception_container': {
            'nodes': ['simulation', *_WORKING, 'grasp']},
        'simulation': {'world': WORLD, 'seed': SEED, 'renderer': renderer},
        'detection': {**_changed(params), 'track': True},
        'segmentation': {'model': SEGMENTER, 'manifest': params.manifest, 'device': params.device},
        'obstacle_map': {'use_mask': True, 'use_scan': True},
        # without a map, which these goals do not need
        'navigation': robot['navigation']['ros__parameters'] | {'policy': 'model'},
        'grasp': {'autostart': False}}
    return yaml.safe_dump(
        {name: {'ros__parameters': block} for name, block in blocks.items() if block})


def _changed(params: Params) -> dict[str, Any]:
    values = {f.name: getattr(params, f.name) for f in fields(params)
              if getattr(params, f.name) != f.default}
    return {name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()}


def _take(drive: Drive, topic: str, msg: Any) -> None:
    if topic == _LABEL_INFO:
        drive.class_names = class_names_from_msg(msg)
    elif topic == _MASK_LABEL_INFO:
        drive.mask_names = class_names_from_msg(msg)
    elif topic == _TRUE_LABEL_INFO:
        drive.true_names = class_names_from_msg(msg)
    elif topic == '/diagnostics':
        drive.health |= reported(msg)
    elif topic == _CONTACT:
        drive.impacts_mps.append(msg.vector.x)
    elif topic == _TRUE_ODOM:
        at = msg.pose.pose.position
        drive.map_xy_m[stamp_ns_from_msg(msg.header.stamp)] = (at.x, at.y)
    else:
        _take_picture(drive, topic, msg)


def _take_picture(drive: Drive, topic: str, msg: Any) -> None:
    decoders: dict[str, tuple[dict[int, Any], Any]] = {
        _COLOUR: (drive.colours, rgb_from_msg),
        _DEPTH: (drive.depths_m, depth_m_from_msg),
        _TRUE_MASK: (drive.true_masks, ids_from_msg),
        _MASK: (drive.masks, ids_from_msg),
        _MAP: (drive.maps, occupancy_from_msg),
        _DETECTIONS: (drive.found, detections_from_msg),
        _TRUE_DETECTIONS: (drive.true, detections_from_msg)}
    if topic in decoders:
        kept, decode = decoders[topic]
        kept[stamp_ns_from_msg(msg.header.stamp)] = decode(msg)


def simulation_values(drive: Drive, bag: Path) -> dict[str, Any]:
    """Return the figures of the drive for metrics.json."""
    return {
        'simulation_real_time_factor': drive.simulated_s / max(drive.wall_s, 1e-9),
        'simulation_frames': len(drive.colours),
        'simulation_results': len(drive.found),
        'goals': drive.goals,
        'goals_reached': drive.goals_reached,
        'collisions': len(drive.impacts_mps),
        'simulation_distance_m': drive.distance_m(),
        'simulation_drive_s': drive.simulated_s,
        'simulation_detections': sum(map(len, drive.found.values())),
        'grasp_candidates': drive.table.candidates,
        'simulation_true_objects': sum(map(len, drive.true.values())),
        'simulation_bag_messages': drive.messages,
        'simulation_bag_bytes': sum(file.stat().st_size for file in bag.iterdir()),
        'simulation_renderer': drive.renderer,
        'simulation_seed': SEED,
        # the other nodes have gone on while the table was looked at
        **{name: value for node, health in (drive.table.health | drive.health).items()
           for name, value in node_figures(node, health).items()},
    }


def skipped_section(reason: str) -> Section:
    """Return the section of a machine that cannot simulate."""
    return Section('A simulated robot', f'Left out: {reason}.')


def simulation_section(drive: Drive, values: dict[str, Any]) -> Section:
    """Return the section of the report that shows the drive."""
    height, width = next(iter(drive.colours.values())).shape[:2]
    collisions = values['collisions']
    return Section(
        title='A simulated robot',
        lead='A robot drove to goals in a furnished room by what its own lidar and depth camera '
             'show, while detection and segmentation worked on its pictures in the same process. '
             'Beside what they find stands the truth, which the simulator knows exactly.',
        note=f'{DETECTOR} and {SEGMENTER} were trained in other rooms of this simulator; '
             'on a real camera the nodes refuse them.',
        steps=[
            Step('goals', '/goal_pose'), Step('navigation', '/cmd_vel'),
            Step(f'simulation ({WORLD}, seed {SEED})', _COLOUR),
            Step(f'detection ({DETECTOR})', _DETECTIONS),
            Step(f'segmentation ({SEGMENTER})', _MASK),
            Step('obstacle map', f'{_MAP}, {_MAP_SCAN}'),
            Step('grasp', 'on the table camera, after the drive'),
            Step('recorder', f'simulation_bag/, {values["simulation_bag_messages"]} messages, '
                             f'{values["simulation_bag_bytes"] / 1e6:.1f} MB'),
            Step('evaluation', 'evaluation/report.html')],
        tiles=[
            Tile(f'{values["simulation_real_time_factor"]:.2f} ×', 'real time',
                 f'over {values["simulation_drive_s"]:.0f} simulated s; 1.00 is asked for'),
            Tile(str(values['simulation_frames']), 'frames',
                 f'{width} × {height}, {_RENDERERS[drive.renderer]}'),
            Tile(f'{values["goals_reached"]} of {values["goals"]}', 'goals reached',
                 f'in {values["simulation_drive_s"]:.0f} simulated s'),
            Tile(f'{values["simulation_distance_m"]:.1f} m', 'driven',
                 'no collision' if not collisions else
                 f'{collisions} collision{"s" if collisions > 1 else ""}'),
            Tile(f'{_figure(values, "age_p50_ms_detection"):.0f} ms', 'median age',
                 f'of detections; p95 {_figure(values, "age_p95_ms_detection"):.0f} ms'),
            Tile(f'{_figure(values, "detection_AP50"):.2f}', 'AP50', 'of the boxes of the drive'),
            Tile(f'{_figure(values, "segmentation_mIoU"):.2f}', 'mIoU', 'of its masks; '
                 f'{_figure(values, "segmentation_pixel_accuracy"):.0%} of the pixels are right'),
            Tile(f'{_figure(values, "map_f1"):.2f}', 'F1', 'of its obstacle map'),
            Tile(str(values['grasp_candidates']), 'grasps', 'on the table, in the median')],
        moments=[*_moments(drive), *filter(None, [drive.table.moment()])],
        legends=_legends(drive))


_RENDERERS = {'egl': 'OpenGL', 'rays': 'ray camera'}


def _figure(values: Mapping[str, Any], name: str) -> float:
    return float(values.get(name, math.nan))


def _chosen(drive: Drive) -> Iterator[int]:
    """Yield the middle stamp of each equal part of the drive."""
    for part in np.array_split(np.array(drive.stamps_ns(), np.int64), _MOMENTS):
        if len(part):
            yield int(part[len(part) // 2])


def _moments(drive: Drive) -> Iterator[Moment]:
    for stamp_ns in _chosen(drive):
        true, found = _large(drive.true[stamp_ns]), drive.found[stamp_ns]
        rgb = _enlarged(drive.colours[stamp_ns])
        since_s = (stamp_ns - drive.start_ns) * 1e-9
        yield Moment(f'{since_s:.1f} s', [
            Panel('true objects', f'{len(true)} of {_SMALLEST_PX:g} pixels or more',
                  draw_detections(rgb, _scaled(true), drive.true_names)),
            Panel('detection', f'{len(found)} found',
                  draw_detections(rgb, _scaled(found), drive.class_names)),
            Panel('depth', f'yellow 0 m, violet {_FAR_M:g} m, grey unknown', _enlarged(
                colourise_depth(drive.depths_m[stamp_ns], 0.0, _FAR_M))),
            Panel('true classes', '', blend_mask(rgb, drive.true_masks[stamp_ns], opacity=0.6)),
            Panel('segmentation', '', draw_mask(
                rgb, _stretched(drive.masks[stamp_ns], rgb), drive.mask_names)),
            Panel('obstacle map', 'seen from above, the robot in the middle',
                  _drawn_map(drive.maps[stamp_ns], rgb.shape[0]))])


def drive_pictures(drive: Drive) -> list[Pixels]:
    """Return (H, W, 3) pictures for an animation: boxes, classes and map side by side."""
    stamps = drive.stamps_ns()
    shown = stamps[::math.ceil(len(stamps) / _ANIMATED)]
    pictures = []
    for stamp_ns in shown:
        rgb = drive.colours[stamp_ns]
        panels = [draw_detections(rgb, drive.found[stamp_ns], drive.class_names),
                  draw_mask(rgb, drive.masks[stamp_ns], drive.mask_names),
                  _drawn_map(drive.maps[stamp_ns], rgb.shape[0])]
        pictures.append(np.concatenate(panels, axis=1))
    return pictures


def _drawn_map(grid: OccupancyMap, size_px: int) -> Pixels:
    """Return a map as a picture with the robot, which is where the map has its middle."""
    drawn = cv2.resize(draw_occupancy(grid.cells), (size_px, size_px),
                       interpolation=cv2.INTER_NEAREST)
    middle, radius_m = (size_px // 2, size_px // 2), 0.2
    cv2.circle(drawn, middle, max(2, round(
        radius_m / grid.resolution_m * size_px / len(grid.cells))), colour_of(0), -1, cv2.LINE_AA)
    return np.asarray(drawn, np.uint8)


def _stretched(ids: Any, rgb: Pixels) -> Any:
    return cv2.resize(ids, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST)


def _legends(drive: Drive) -> list[Legend]:
    """Return the colours of every class that the chosen masks show."""
    shown = {int(i) for stamp_ns in _chosen(drive) for i in np.unique(drive.true_masks[stamp_ns])}
    return [Legend(drive.true_names[i], colour_of(i))
            for i in sorted(shown) if i in drive.true_names]


def _large(true: Detections) -> Detections:
    """Return the boxes that are worth drawing, without their instance numbers."""
    sides = true.boxes_xyxy[:, 2:] - true.boxes_xyxy[:, :2]
    return replace(true[sides.min(axis=1, initial=np.inf) >= _SMALLEST_PX], object_ids=None)


def _scaled(found: Detections) -> Detections:
    return replace(found, boxes_xyxy=found.boxes_xyxy * np.float32(_ENLARGED))


def _enlarged(rgb: Pixels) -> Pixels:
    return np.asarray(cv2.resize(
        rgb, None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_LINEAR), np.uint8)
