"""
Labelled pictures of many scenes, in the layout that trainers read, written by scenes.

A scene's pictures come first and its record last, under its final name in one step; whatever is
interrupted goes on where records are missing, and ends with the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
import json
import math
from pathlib import Path
import shutil
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import CameraIntrinsics
from perception_nodes.core.whole_file import draft_of, whole_file
from perception_nodes.sim import sensors
from perception_nodes.sim.classes import CLASS_NAMES, FIRST_OBJECT
from perception_nodes.sim.families import families
from perception_nodes.sim.poses import looking_at, Matrix, MOUNT_FROM_OPTICAL, Pose
from perception_nodes.sim.rendering import View
from perception_nodes.sim.robot import mounts
from perception_nodes.sim.scene import occupancy, ROUND_ROBOT, Scene, Split, SPLITS, Thing
from perception_nodes.sim.simulator import Simulator, SimulatorParams
from perception_nodes.sim.truth import GroundTruth
from perception_nodes.sim.worlds import make_scene, WORLDS

VERSION = 1
FOLDERS = ('images', 'masks', 'instances', 'depth')
DEFAULT_WORLDS = ('room', 'room', 'room', 'tabletop_packed', 'tabletop_pile')
_SEEDS_PER_SPLIT = 1_000_000
_BEYOND_RANGE = 65535
_TRIES = 6
_FAR_M = 6.0  # from where the robot starts, in worlds without walls
_SHOWN = 0.01  # of the pixels, objects
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)


@dataclass(frozen=True)
class DatasetPlan:
    """
    What a data set consists of; the same plan gives the same files.

    :raises ValueError: If a number or a name is not allowed.
    """

    frames: Mapping[Split, int]
    worlds: tuple[str, ...] = DEFAULT_WORLDS  # drawn by turns: name one twice for twice as many
    seed: int = 0
    width: int = 320
    height: int = 240
    frames_per_scene: int = 6
    noise: bool = True
    shadows: float = 0.5  # share of the scenes whose lamps cast them
    renderer: str = 'rays'
    depth_min_m: float = 0.15
    depth_max_m: float = 8.0
    robot_views: float = 0.0  # share of the views among furniture that are the robot's own

    def __post_init__(self) -> None:
        for world in self.worlds:
            if world not in WORLDS:
                raise ValueError(
                    f"there is no world '{world}'; choose from {', '.join(WORLDS)}")
        if not self.worlds or sum(self.frames.values()) == 0:
            raise ValueError('the data set is empty; ask for frames of at least one split')
        for what, share in (('scenes with shadows', self.shadows),
                            ("views that are the robot's own", self.robot_views)):
            if not 0.0 <= share <= 1.0:
                raise ValueError(
                    f'the share of {what} is {share}; it must lie between 0 and 1')
        for split, count in self.frames.items():
            if split not in SPLITS or count < 0:
                raise ValueError(f'{count} frames of split {split} are no data set')

    def scenes(self) -> list['SceneTask']:
        """Return every scene, in the order of its frames."""
        tasks = []
        for split in SPLITS:
            wanted = self.frames.get(split, 0)
            for i, first in enumerate(range(0, wanted, self.frames_per_scene)):
                tasks.append(SceneTask(
                    split, i, self.worlds[i % len(self.worlds)], scene_seed(self.seed, split, i),
                    first, min(self.frames_per_scene, wanted - first)))
        return tasks


@dataclass(frozen=True)
class SceneTask:
    """One scene and the frames taken in it."""

    split: Split
    index: int
    world: str
    seed: int
    first_frame: int
    count: int


def scene_seed(seed: int, split: Split, index: int) -> int:
    """Return a seed that no other split and no other scene has."""
    return (seed * len(SPLITS) + SPLITS.index(split)) * _SEEDS_PER_SPLIT + index


def begin(root: Path, plan: DatasetPlan, command: str) -> list[SceneTask]:
    """
    Open a folder for a plan.

    :return: The scenes that are still missing.
    :raises ValueError: If the folder holds another data set, or something else.
    """
    file = root / 'dataset.json'
    said = _description(plan, command)
    if file.is_file():
        found = json.loads(file.read_text())
        if found.get('plan') != said['plan']:
            raise ValueError(
                f'{root} holds a data set of other settings; '
                'give the settings it was begun with, or another folder')
        if found.get('complete'):
            shutil.rmtree(root / 'records', ignore_errors=True)  # it ended while deleting them
            return []
    elif root.exists() and {path.name for path in root.iterdir()} - {draft_of(file).name}:
        raise ValueError(f'{root} is not empty and holds no data set; give another folder')
    root.mkdir(parents=True, exist_ok=True)
    _write_whole(file, said)  # first, so that a folder begun and left at once is known again
    for task in plan.scenes():
        for name in FOLDERS:
            (root / task.split / name).mkdir(parents=True, exist_ok=True)
        _record(root, task).parent.mkdir(parents=True, exist_ok=True)
    return [task for task in plan.scenes() if not _record(root, task).is_file()]


def make_frames(root: Path, plan: DatasetPlan, task: SceneTask) -> None:
    """Draw one scene, take its pictures, and record them."""
    rng = np.random.default_rng([task.seed, VERSION])
    params = SimulatorParams(
        world=task.world, split=task.split, renderer=plan.renderer,
        shadows=bool(rng.random() < plan.shadows),
        noise=False, camera_width=plan.width, camera_height=plan.height,
        depth_min_m=plan.depth_min_m, depth_max_m=plan.depth_max_m)
    scene = make_scene(task.world, task.seed, task.split)
    # the robot's own body is in nobody's way, and not to be learned
    sim = Simulator(params, replace(scene, robot=None))
    try:
        photographer = _Photographer(sim, scene, plan, rng)
        frames = [photographer.take(root / task.split, task, task.first_frame + k)
                  for k in range(task.count)]
    finally:
        sim.close()
    _write_whole(_record(root, task), frames)


def finish(root: Path, plan: DatasetPlan, command: str) -> None:
    """Join the records into instances.json and frames.jsonl of each split."""
    for split in SPLITS:
        tasks = [task for task in plan.scenes() if task.split == split]
        frames = [frame for task in tasks for frame in json.loads(
            _record(root, task).read_text())]
        if frames:
            _write_split(root / split, frames)
    _write_whole(root / 'dataset.json', {**_description(plan, command), 'complete': True})
    shutil.rmtree(root / 'records')


class _Photographer:
    """Chooses views of one scene and writes what they show."""

    def __init__(self, sim: Simulator, scene: Scene, plan: DatasetPlan,
                 rng: np.random.Generator) -> None:
        self._sim, self._plan, self._rng = sim, plan, rng
        self._places = _free_places(scene)
        self._is_object = np.array([*(thing.is_object for thing in scene.things), False])

    def take(self, folder: Path, task: SceneTask, number: int) -> dict[str, Any]:
        """Write frame ``number``; return its record."""
        view = self._choose_view()
        rgb, truth = self._sim.look_from(view)
        plan = self._plan
        depth_m = sensors.limited(truth.depth_m, plan.depth_min_m, plan.depth_max_m)
        if plan.noise:
            rgb = sensors.photographed(rgb, self._rng)
            beyond = np.isposinf(depth_m)
            depth_m = sensors.measured_depth(depth_m, self._rng)
            depth_m[beyond] = np.inf
        ids, annotations = _numbered(truth)
        name = f'{number:06d}.png'
        for kind, image in (('images', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)),
                            ('masks', truth.class_mask), ('instances', ids),
                            ('depth', depth_image(depth_m))):
            if not cv2.imwrite(str(folder / kind / name), image, _PNG):
                raise OSError(f'{folder / kind / name} could not be written')
        lens = view.intrinsics
        return {
            'file': name, 'world': task.world, 'scene_seed': task.seed,
            'stamp_ns': truth.stamp_ns + (number - task.first_frame) * 1_000_000_000,
            'intrinsics': {k: v for k, v in asdict(lens).items() if k != 'distortion'},
            'map_from_camera': np.round(view.map_from_camera, 6).tolist(),
            'annotations': annotations}

    def _choose_view(self) -> View:
        """Return a view that shows something and is not blocked right before the lens."""
        share = self._plan.robot_views  # without any, nothing is drawn for it
        if share and len(self._places) and self._rng.random() < share:
            return self._robots_view()
        view = self._any_view()
        for _ in range(_TRIES):
            found = self._sim.layers_from(view)
            shown = self._is_object[found.things].mean()
            if np.mean(found.depth_m < 0.3) < 0.25 and shown > _SHOWN:
                break
            view = self._any_view()
        return view

    def _robots_view(self) -> View:
        """Return what the camera of a robot sees from where it may stand, be it a bare wall."""
        rng, lens = self._rng, self._lens()
        x, y = self._places[int(rng.integers(len(self._places)))]
        height_m = mounts(ROUND_ROBOT, 0.0).base_from_camera[2, 3] + rng.uniform(-0.15, 0.15)
        pose = Pose.at(x, y, height_m,
                       pitch_rad=math.radians(rng.uniform(0.0, 35.0)),
                       yaw_rad=rng.uniform(-math.pi, math.pi))
        return View(pose.matrix @ MOUNT_FROM_OPTICAL, lens)

    def _lens(self) -> CameraIntrinsics:
        return CameraIntrinsics.from_fov(
            self._plan.width, self._plan.height, float(self._rng.uniform(52.0, 80.0)))

    def _any_view(self) -> View:
        rng, scene, lens = self._rng, self._sim.scene, self._lens()
        roll = float(rng.normal(0.0, math.radians(2.0)))
        objects = [thing for thing in scene.things if thing.is_object]
        small = [thing for thing in objects if thing.motion == 'free']
        if small and (len(self._places) == 0 or rng.random() < 0.35):
            target = self._sim.pose_of(self._one_of(small).name)[:3, 3]
            around, up = rng.uniform(-math.pi, math.pi), rng.uniform(0.25, 1.3)
            away = rng.uniform(0.35, 1.1)
            eye = target + away * np.array([
                math.cos(around) * math.cos(up), math.sin(around) * math.cos(up), math.sin(up)])
            return View(looking_at(eye, target + rng.normal(0.0, 0.05, 3), roll), lens)
        x, y = self._places[int(rng.integers(len(self._places)))]
        eye = np.array([x, y, rng.uniform(0.35, 1.7)])
        if objects and rng.random() < 0.7:
            target = self._sim.pose_of(self._one_of(objects).name)[:3, 3]
            target = target + (0.0, 0.0, rng.uniform(0.0, 0.7))
        else:
            yaw = rng.uniform(-math.pi, math.pi)
            target = eye + (math.cos(yaw), math.sin(yaw), -rng.uniform(-0.1, 0.5))
        flat = math.hypot(*(target - eye)[:2])
        if flat < 0.3:  # not straight down onto a thing at one's feet
            target = eye + (0.5, 0.0, -0.3)
        return View(looking_at(eye, target, roll), lens)

    def _one_of(self, things: Sequence[Thing]) -> Thing:
        """Return one thing: rare classes are looked at as often as common ones."""
        labels = sorted({thing.class_id for thing in things})
        label = labels[int(self._rng.integers(len(labels)))]
        choice = [thing for thing in things if thing.class_id == label]
        return choice[int(self._rng.integers(len(choice)))]


def depth_image(depth_m: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """Return (H, W) millimetres as data sets keep them: 0 none, 65535 beyond range."""
    out = sensors.as_millimetres(depth_m)
    out[np.isposinf(depth_m)] = _BEYOND_RANGE
    return out


def _free_places(scene: Scene) -> npt.NDArray[np.float64]:
    """Return (N, 2) places in map where a camera can stand among the furniture."""
    if scene.has_gripper:
        return np.empty((0, 2))
    grid = occupancy(scene, 0.1, 1.8)
    size = round(0.5 / grid.resolution_m)
    blocked = cv2.dilate((grid.cells > 0).astype(np.uint8), np.ones((size, size), np.uint8))
    _, areas = cv2.connectedComponents((blocked == 0).astype(np.uint8), connectivity=4)
    robot = scene.robot
    assert robot is not None
    start = np.array([robot.x_m, robot.y_m])
    column, row = ((start - grid.origin_xy_m) / grid.resolution_m).astype(int)
    rows, columns = np.nonzero((areas == areas[row, column]) & (blocked == 0))
    places = np.column_stack([columns + 0.5, rows + 0.5]) * grid.resolution_m + grid.origin_xy_m
    if scene.interior_xy_m is not None:
        low, high = scene.interior_xy_m[:2], scene.interior_xy_m[2:]
        inside = ((places > low) & (places < high)).all(axis=1)
    else:
        inside = np.hypot(*(places - start).T) < _FAR_M
    return places[inside] if inside.any() else start[None]


def _numbered(truth: GroundTruth) -> tuple[npt.NDArray[np.uint16], list[dict[str, Any]]]:
    """Return instances counted from 1 within the frame, and their annotations."""
    numbers = np.zeros(int(truth.instance_mask.max()) + 1, np.uint16)
    annotations = []
    for k, found in enumerate(truth.objects, start=1):
        numbers[found.instance_id] = k
        left, top, right, bottom = found.box_xyxy.tolist()
        annotations.append({
            'instance_id': k, 'category_id': found.class_id, 'family': found.family,
            'bbox': [left, top, right - left, bottom - top], 'area': found.area_px,
            'visible_fraction': round(found.visible_fraction, 4),
            'inside_fraction': round(found.inside_fraction, 4), 'ignore': int(found.ignore),
            'iscrowd': 0, 'size_m': np.round(found.box_3d.size_m, 4).tolist(),
            'map_from_box': _rounded(found.box_3d.map_from_box)})
    return numbers[truth.instance_mask], annotations


def _rounded(matrix: Matrix) -> list[list[float]]:
    rows: list[list[float]] = np.round(matrix, 5).tolist()
    return rows


def _write_split(folder: Path, frames: Sequence[Mapping[str, Any]]) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    lines: list[str] = []
    for i, frame in enumerate(frames, start=1):
        lens = frame['intrinsics']
        images.append({'id': i, 'file_name': frame['file'], 'width': lens['width'],
                       'height': lens['height']})
        for found in frame['annotations']:
            annotations.append({'id': len(annotations) + 1, 'image_id': i, **found})
        lines.append(json.dumps({k: v for k, v in frame.items() if k != 'annotations'}))
    categories = [{'id': i, 'name': name} for i, name in CLASS_NAMES.items()
                  if i >= FIRST_OBJECT]
    _write_whole(folder / 'instances.json', {
        'images': images, 'annotations': annotations, 'categories': categories})
    _write_text(folder / 'frames.jsonl', '\n'.join(lines) + '\n')


def _description(plan: DatasetPlan, command: str) -> dict[str, Any]:
    seeds = {split: [task.seed for task in plan.scenes() if task.split == split]
             for split in SPLITS}
    return {
        'version': VERSION, 'complete': False, 'command': command,
        'plan': json.loads(json.dumps(asdict(plan))),
        'classes': {str(i): name for i, name in CLASS_NAMES.items()},
        'splits': {
            split: {'frames': plan.frames.get(split, 0),
                    'seeds': [min(found), max(found)] if found else [],
                    'families': [family.name for family in families(split)]}
            for split, found in seeds.items()}}


def _record(root: Path, task: SceneTask) -> Path:
    return root / 'records' / task.split / f'{task.index:06d}.json'


def _write_whole(file: Path, content: Any) -> None:
    _write_text(file, json.dumps(content) + '\n')


def _write_text(file: Path, text: str) -> None:
    """Write a file that is either there whole or not there."""
    with whole_file(file) as draft:
        draft.write_text(text)
