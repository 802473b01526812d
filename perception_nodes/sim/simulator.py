"""One running scene: physics, the robot, its sensors, and what is true."""

from collections import deque
from dataclasses import dataclass
import logging
import math
from typing import cast

import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import inverse
from perception_nodes.core.params import param, Params
from perception_nodes.core.types import (
    CameraIntrinsics,
    LaserRanges,
    OccupancyMap,
    RgbdFrame,
    VelocityCommand,
)
from perception_nodes.sim import sensors
from perception_nodes.sim.base import approached, Base, Limits
from perception_nodes.sim.engine import mujoco
from perception_nodes.sim.gripper import GraspOutcome, Gripper
from perception_nodes.sim.model import (
    build,
    GROUND_GROUP,
    ROBOT_GROUP,
    start_pose,
    THING_GROUP,
)
from perception_nodes.sim.poses import Matrix, planar, yaw_of
from perception_nodes.sim.rendering import (
    chosen_renderer,
    Layers,
    make_renderer,
    RayRenderer,
    Renderer,
    Silhouettes,
    View,
)
from perception_nodes.sim.robot import CLIMB_M, HEIGHT_M, Mounts, mounts
from perception_nodes.sim.scene import occupancy, ROUND_ROBOT, Scene, Split, SPLITS
from perception_nodes.sim.truth import GroundTruth, instance_id, look, states, ThingState
from perception_nodes.sim.walking import Walker
from perception_nodes.sim.waves import Waves
from perception_nodes.sim.worlds import make_scene

log = logging.getLogger(__name__)

CAMERA, TABLE_CAMERA = 'camera', 'table_camera'
OPTICAL_FRAMES = {CAMERA: 'camera_color_optical_frame',
                  TABLE_CAMERA: 'table_camera_color_optical_frame'}
_COLOUR, _DEPTH, _SCAN, _ODOMETRY = range(4)  # streams of noise
_HIT_MPS = 0.01  # slower touches are rest, not impact
_REST_S = 0.3  # after a grasp
_ASIDE_M = 50.0
_HERDING_PER_S2 = 150.0
_REST_MPS = 0.02  # slower is settled
_APART_NS = 200_000_000  # a touch after a shorter pause is still the same one


@dataclass(frozen=True, kw_only=True)
class SimulatorParams(Params):
    """Parameters of the simulator, in its node, the data set maker and the benchmarks."""

    world: str = param('room', 'Kind of world: room, tabletop_packed, tabletop_pile, corridor '
                       'or water.')
    split: str = param('train', "Which object families and textures occur: 'test' has held-out "
                       'ones.', choices=SPLITS)
    renderer: str = param('auto', "What draws: 'egl' (OpenGL), 'rays' (no OpenGL needed) or "
                          "'auto' (EGL where a graphics card does it).",
                          choices=('auto', 'egl', 'rays'))
    shadows: bool = param(False, 'Whether lamps cast shadows; slower.')
    noise: bool = param(True, 'Whether sensors and odometry err as real ones do.')
    camera_width: int = param(320, 'Width of the pictures.', unit='pixels', ge=16, le=1280)
    camera_height: int = param(240, 'Height of the pictures.', unit='pixels', ge=16, le=960)
    camera_fov_deg: float = param(
        69.0, 'Horizontal field of view of both cameras.', unit='degrees', ge=20.0, le=140.0)
    camera_pitch_deg: float = param(
        15.0, 'How far the forward camera looks down.', unit='degrees', ge=-45.0, le=80.0)
    depth_min_m: float = param(0.15, 'Nearest depth.', unit='m', ge=0.0)
    depth_max_m: float = param(8.0, 'Farthest depth.', unit='m', ge=0.1)
    laser_beams: int = param(360, 'Beams of the lidar, all around.', ge=4, le=4096)
    laser_range_min_m: float = param(0.05, 'Nearest range of the lidar.', unit='m', ge=0.0)
    laser_range_max_m: float = param(12.0, 'Farthest range of the lidar.', unit='m', ge=0.1)
    max_linear_mps: float = param(1.0, 'Speed at which the wheels end.', unit='m/s', ge=0.0)
    max_angular_rps: float = param(2.0, 'Turn at which the wheels end.', unit='rad/s', ge=0.0)
    max_linear_mps2: float = param(1.5, 'Acceleration of the base.', unit='m/s^2', ge=0.0)
    max_angular_rps2: float = param(
        5.0, 'Angular acceleration of the base.', unit='rad/s^2', ge=0.0)
    command_latency_ms: float = param(
        0.0, 'How late a velocity command takes effect.', unit='ms', ge=0.0, le=2000.0)


@dataclass(frozen=True)
class Contact:
    """The moment the robot ran into something, or something into it."""

    stamp_ns: int
    instance_id: int  # 0 for walls and other structure
    class_id: int
    name: str
    impact_mps: float  # speed at which the two closed in
    map_xyz_m: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A state of physics."""

    steps: int
    state: npt.NDArray[np.float64]


class Simulator:
    """
    A scene in motion. Everything is a function of the parameters, the seed and the steps taken.

    :param params: How to simulate.
    :param scene: The seed of a scene of ``params.world``, or a scene.

    The noise of a sensor depends on the seed, the sensor and the time, not on what else was
    asked for. Use it from one thread.

    :raises ValueError: If there is no such world.
    :raises OSError: If the renderer does not work on this machine.
    """

    def __init__(self, params: SimulatorParams, scene: int | Scene = 0) -> None:
        self.params = params
        self._drawn_by = chosen_renderer(params.renderer)
        self._limits = Limits(params.max_linear_mps, params.max_angular_rps,
                              params.max_linear_mps2, params.max_angular_rps2)
        self._renderer: Renderer | None = None
        if isinstance(scene, Scene):
            self.load(scene)
        else:
            self.reset(scene)

    def reset(self, seed: int) -> None:
        """Draw the scene of a seed and start it at time 0."""
        self.load(make_scene(
            self.params.world, seed, cast(Split, self.params.split)))

    def load(self, scene: Scene) -> None:
        """Start a given scene at time 0."""
        self.scene = scene
        self._model = build(scene, textured=self._drawn_by == 'egl')
        self.close()
        self._renderer = make_renderer(self._drawn_by, self._model, self.params.shadows)
        self._rays = (self._renderer if isinstance(self._renderer, RayRenderer)
                      else RayRenderer(self._model))
        mj = self._model.mj
        self._data = mujoco.MjData(mj)
        self._dt_ns = round(mj.opt.timestep * 1e9)
        self._steps = 0
        footprint = scene.robot.footprint if scene.robot else ROUND_ROBOT
        self.mounts: Mounts = mounts(footprint, math.radians(self.params.camera_pitch_deg))
        self._robot = Base(self._model, self._data) if scene.robot else None
        self._waves = Waves.drawn(scene.seed, scene.wave_height_m)
        self._walkers = [
            Walker(thing, int(mj.body_mocapid[self._model.body_of_thing[i]]))
            for i, thing in enumerate(scene.things) if thing.motion == 'walks']
        self._floats = [
            (thing, int(mj.body_mocapid[self._model.body_of_thing[i]]))
            for i, thing in enumerate(scene.things) if thing.motion == 'floats']
        rng = np.random.default_rng([scene.seed, _ODOMETRY])
        drift = sensors.Drift.drawn(rng) if self.params.noise else sensors.NO_DRIFT
        self._odometry = sensors.Odometry(drift, rng)
        self._waiting: deque[tuple[int, VelocityCommand]] = deque()
        self._wanted = self._driven = VelocityCommand()
        self._touched_ns: dict[int, int] = {}
        self._contacts: list[Contact] = []
        self._pictures: dict[str, tuple[int, npt.NDArray[np.uint8] | None, Silhouettes]] = {}
        self._is_free = np.array([thing.motion == 'free' for thing in scene.things])
        self._gripper = (Gripper(self._model, self._data, self._step_once)
                         if scene.has_gripper else None)
        self._settle()

    def close(self) -> None:
        """Give back what the renderer holds."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def step(self, command: VelocityCommand, duration_s: float) -> None:
        """
        Let time pass.

        :param command: What the base is asked to do from now on; one that is not finite stops
            it, which is logged.
        :param duration_s: Rounded to whole steps of physics, at least one.
        """
        if not command.is_finite:
            log.warning('velocity command %s is not finite; the robot stops', command)
            command = VelocityCommand()
        self._waiting.append(
            (self.stamp_ns + round(self.params.command_latency_ms * 1e6), command))
        for _ in range(max(1, round(duration_s * 1e9 / self._dt_ns))):
            self._step_once()
        # bodies are where they got to, not where they were when the last step began
        mujoco.mj_kinematics(self._model.mj, self._data)

    @property
    def stamp_ns(self) -> int:
        """Return simulated time, nanoseconds since reset."""
        return self._steps * self._dt_ns

    @property
    def map_from_base(self) -> Matrix:
        """Return the true (4, 4) pose of base_link; the origin in a world without robot."""
        return self._robot.pose() if self._robot else np.eye(4)

    @property
    def odom_from_base(self) -> Matrix:
        """Return the (4, 4) pose of base_link as odometry tells it; it starts at the origin."""
        return self._odometry.odom_from_base.copy()

    @property
    def map_from_odom(self) -> Matrix:
        """Return the (4, 4) correction that makes odometry true, in the plane."""
        pose = self.map_from_base
        flat = planar(float(pose[0, 3]), float(pose[1, 3]), yaw_of(pose))
        return flat @ inverse(self._odometry.odom_from_base)

    @property
    def twist(self) -> VelocityCommand:
        """Return how fast the base truly moves, in base_link."""
        return self._robot.twist() if self._robot else VelocityCommand()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Return the names of the cameras of this scene."""
        ahead = (CAMERA,) if self.scene.robot else ()
        return (*ahead, TABLE_CAMERA) if self.scene.workspace else ahead

    @property
    def intrinsics(self) -> CameraIntrinsics:
        """Return the lens of both cameras."""
        p = self.params
        return CameraIntrinsics.from_fov(p.camera_width, p.camera_height, p.camera_fov_deg)

    def view(self, camera: str) -> View:
        """
        Return where a camera is.

        :raises ValueError: If the scene has no such camera.
        """
        if camera not in self.cameras:
            known = ', '.join(self.cameras) or 'none'
            raise ValueError(
                f"world '{self.scene.world}' has no camera '{camera}'; there is {known}")
        if camera == TABLE_CAMERA and self.scene.workspace is not None:
            return View(self.scene.workspace.camera_pose, self.intrinsics)
        return View(self.map_from_base @ self.mounts.base_from_camera, self.intrinsics)

    def rgb(self, camera: str) -> npt.NDArray[np.uint8]:
        """Return the (H, W, 3) colours of a camera, with noise if it is on."""
        assert self._renderer is not None
        if self._renderer is self._rays:
            rgb = self._traced(camera, with_rgb=True)[0]
            assert rgb is not None
        else:
            rgb = self._renderer.rgb(self._data, self.view(camera))
        return (sensors.photographed(rgb, self._noise(_COLOUR, camera))
                if self.params.noise else rgb)

    def ideal_depth(self, camera: str) -> npt.NDArray[np.float32]:
        """Return (H, W) float32 metres without noise: +inf too far, -inf too near."""
        assert self._renderer is not None
        if self._renderer is self._rays:
            depth_m = self._traced(camera)[1].layers.depth_m
        else:
            depth_m = self._renderer.layers(self._data, self.view(camera)).depth_m
        return sensors.limited(depth_m, self.params.depth_min_m, self.params.depth_max_m)

    def depth(self, camera: str) -> npt.NDArray[np.float32]:
        """Return (H, W) float32 metres; with noise on, NaN wherever a real sensor fails."""
        ideal = self.ideal_depth(camera)
        return (sensors.measured_depth(ideal, self._noise(_DEPTH, camera))
                if self.params.noise else ideal)

    def frame(self, camera: str) -> RgbdFrame:
        """Return colours and depth of a camera, read-only."""
        rgb, depth_m = self.rgb(camera), self.depth(camera)
        for array in (rgb, depth_m):
            array.flags.writeable = False
        return RgbdFrame(rgb, self.stamp_ns, OPTICAL_FRAMES[camera], depth_m, self.intrinsics)

    def truth(self, camera: str) -> GroundTruth:
        """Return what a camera should find."""
        return look(self.scene, self._traced(camera)[1], self.view(camera), self.poses(),
                    self.stamp_ns)

    def look_from(self, view: View) -> tuple[npt.NDArray[np.uint8], GroundTruth]:
        """Return ideal colours and truth of any view, as data sets need them."""
        assert self._renderer is not None
        if self._renderer is self._rays:
            rgb, found = self._rays.picture(self._data, view)
        else:
            rgb, found = self._renderer.rgb(self._data, view), self._rays.cast(self._data, view)
        return rgb, look(self.scene, found, view, self.poses(), self.stamp_ns)

    def layers_from(self, view: View) -> Layers:
        """Return the exact depth and things of any view."""
        return self._rays.layers(self._data, view)

    def scan(self) -> LaserRanges:
        """Return one sweep of the lidar, in frame ``laser``."""
        p = self.params
        map_from_laser = self.map_from_base @ self.mounts.base_from_laser
        step = 2.0 * math.pi / p.laser_beams
        angles = -math.pi + step * np.arange(p.laser_beams)
        rays = np.stack([np.cos(angles), np.sin(angles), np.zeros(p.laser_beams)], axis=1)
        ranges = self._cast(map_from_laser[:3, 3], rays @ map_from_laser[:3, :3].T,
                            p.laser_range_max_m)
        ranges[ranges < p.laser_range_min_m] = -np.inf
        if p.noise:
            ranges = sensors.measured_ranges(
                ranges, p.laser_range_max_m, self._noise(_SCAN, 'laser'))
        return LaserRanges(ranges, -math.pi, step, p.laser_range_min_m, p.laser_range_max_m,
                           self.stamp_ns, 'laser')

    def poses(self) -> list[Matrix]:
        """Return map_from_thing of every thing of the scene."""
        out = np.tile(np.eye(4), (len(self.scene.things), 1, 1))
        bodies = self._model.body_of_thing
        out[:, :3, :3] = self._data.xmat[bodies].reshape(-1, 3, 3)
        out[:, :3, 3] = self._data.xpos[bodies]
        return list(out)

    def pose_of(self, name: str) -> Matrix:
        """Return the (4, 4) map_from_thing of one thing; an unknown name raises KeyError."""
        body = self._model.mj.body(name).id
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = self._data.xmat[body].reshape(3, 3), self._data.xpos[body]
        return out

    def states(self) -> tuple[ThingState, ...]:
        """Return where every object, person and piece of furniture is."""
        return states(self.scene, self.poses())

    def occupancy(self, resolution_m: float = 0.05) -> OccupancyMap:
        """Return where the robot's body cannot be now, in map, from the exact shapes."""
        return occupancy(self.scene, CLIMB_M, HEIGHT_M, resolution_m, self.poses())

    def take_contacts(self) -> tuple[Contact, ...]:
        """Return what touched the robot since the last call, in order."""
        out = tuple(self._contacts)
        self._contacts.clear()
        return out

    def execute_grasp(self, map_from_grasp: Matrix, opening_m: float) -> GraspOutcome:
        """
        Let the gripper try a grasp: approach, close, lift.

        What it lifts is put aside; whatever happened, the hand is away and things are at rest
        afterwards.

        :param map_from_grasp: (4, 4); origin midway between the closed fingertips, z along the
            approach, y along the closing direction.
        :param opening_m: Distance of the fingers on the approach.
        :raises ValueError: If the scene has no gripper, or the pose is not finite.
        """
        if self._gripper is None:
            raise ValueError(f"world '{self.scene.world}' has no gripper; take a tabletop world")
        if not np.isfinite(map_from_grasp).all() or not math.isfinite(opening_m):
            raise ValueError('the grasp is not finite; a pose and an opening in metres are needed')
        outcome = self._gripper.execute(map_from_grasp, opening_m)
        if outcome.lifted:
            self._put_aside(outcome.thing)
        self._gripper.park()
        for _ in range(round(_REST_S * 1e9 / self._dt_ns)):
            self._step_once()
        mujoco.mj_kinematics(self._model.mj, self._data)
        return outcome

    def remove(self, instance: int) -> None:
        """
        Put an object aside, far from everything.

        :raises ValueError: If it is not an object that can move.
        """
        index = instance - 1
        things = self.scene.things
        if not 0 <= index < len(things) or things[index].motion != 'free':
            raise ValueError(f'instance {instance} is no movable object of this scene')
        self._put_aside(index)
        mujoco.mj_kinematics(self._model.mj, self._data)

    def reachable(self) -> tuple[ThingState, ...]:
        """Return the movable objects whose middle is over the workspace."""
        space = self.scene.workspace
        if space is None:
            return ()
        movable = {t.name for t in self.scene.things if t.motion == 'free'}
        return tuple(
            state for state in self.states() if state.name in movable
            and abs(state.box_3d.map_from_box[0, 3] - space.centre_m[0]) < space.half_size_m[0]
            and abs(state.box_3d.map_from_box[1, 3] - space.centre_m[1]) < space.half_size_m[1]
            and state.box_3d.map_from_box[2, 3] > space.centre_m[2] - 0.02)

    def snapshot(self) -> Snapshot:
        """Return the state of physics, to come back to it with :meth:`restore`."""
        mj, data = self._model.mj, self._data
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        state = np.empty(mujoco.mj_stateSize(mj, kind))
        mujoco.mj_getState(mj, data, state, kind)
        return Snapshot(self._steps, state)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to an earlier state of the same scene; people and odometry do not follow."""
        mj, data = self._model.mj, self._data
        mujoco.mj_setState(mj, data, snapshot.state, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(mj, data)
        self._steps = snapshot.steps
        self._pictures.clear()

    def _put_aside(self, index: int) -> None:
        joint = self._model.mj.joint(self.scene.things[index].name)
        at, speed = int(joint.qposadr[0]), int(joint.dofadr[0])
        self._data.qpos[at:at + 7] = (_ASIDE_M + index, _ASIDE_M, 0.3, 1.0, 0.0, 0.0, 0.0)
        self._data.qvel[speed:speed + 6] = 0.0
        self._pictures.clear()

    def _settle(self) -> None:
        mj, data = self._model.mj, self._data
        if self._robot:
            self._robot.place(start_pose(self.scene).matrix)
        self._move_scripted(0.0)
        steps = round(self.scene.settle_s / mj.opt.timestep)
        for k in range(2 * steps):
            if self.scene.is_herded:
                self._herd(strong=k < steps)
            mujoco.mj_step(mj, data)
            if k >= steps and k % 50 == 0 and np.abs(data.qvel).max() < _REST_MPS:
                break
        if self._robot:  # whatever leant on it meanwhile
            self._robot.place(start_pose(self.scene).matrix)
        mujoco.mj_forward(mj, data)
        self._steps = 0

    def _herd(self, strong: bool) -> None:
        """Push what rolls off the workspace back to it, as the rim of a tray would."""
        space = self.scene.workspace
        assert space is not None
        bodies = self._model.body_of_thing[self._is_free]
        self._data.xfrc_applied[bodies] = 0.0
        if strong:
            away = self._data.xpos[bodies, :2] - space.centre_m[:2]
            excess = np.maximum(np.abs(away) - 0.65 * np.array(space.half_size_m), 0.0)
            pull = -np.sign(away) * excess * self._model.mj.body_mass[bodies, None]
            self._data.xfrc_applied[bodies, :2] = _HERDING_PER_S2 * pull

    def _step_once(self) -> None:
        dt = self._dt_ns / 1e9
        while self._waiting and self._waiting[0][0] <= self.stamp_ns:
            self._wanted = self._waiting.popleft()[1]
        self._move_scripted(dt)
        if self._robot is None:
            mujoco.mj_step(self._model.mj, self._data)
        else:
            self._driven = approached(
                self._driven, self._wanted, self._limits, dt)
            before, velocity = self._robot.place_and_velocity()
            self._robot.drive(self._driven)
            if self.scene.wave_height_m > 0.0:
                x, y, yaw = before.tolist()
                self._robot.float_to(*self._waves.tilt(x, y, yaw, self.stamp_ns / 1e9))
            mujoco.mj_step(self._model.mj, self._data)
            self._note_contacts(velocity)
            self._odometry.add(*self._robot.moved_since(before))
        self._steps += 1

    def _move_scripted(self, dt_s: float) -> None:
        data = self._data
        robot = self.map_from_base[:2, 3] if self._robot else None
        for walker in self._walkers:
            walker.step(dt_s, robot)
            data.mocap_pos[walker.mocap], data.mocap_quat[walker.mocap] = walker.pose()
        for thing, mocap in self._floats:
            pose = self._waves.lifted(thing.pose, self.stamp_ns / 1e9)
            data.mocap_pos[mocap], data.mocap_quat[mocap] = pose.xyz_m, pose.quat_wxyz

    def _note_contacts(self, velocity: npt.NDArray[np.float64]) -> None:
        """Keep each first touch of the robot; ``velocity`` is the base's before the step."""
        data = self._data
        if not data.ncon:
            return
        owners = self._model.thing_of_geom[data.contact.geom[:data.ncon]]
        for k in np.flatnonzero((owners < 0).any(axis=1)).tolist():
            index = int(owners[k].max())
            last = self._touched_ns.get(index)
            self._touched_ns[index] = self.stamp_ns
            if last is None or self.stamp_ns - last > _APART_NS:
                self._note(index, k, velocity)

    def _note(self, index: int, contact: int, velocity: npt.NDArray[np.float64]) -> None:
        thing, found = self.scene.things[index], self._data.contact[contact]
        normal, point = found.frame[:3], found.pos
        turn, place = float(velocity[2]), self.map_from_base[:2, 3]
        arm = point[:2] - place
        here = np.array([velocity[0] - turn * arm[1], velocity[1] + turn * arm[0]])
        walker = next((w for w in self._walkers if w.thing is thing), None)
        there = walker.velocity_mps if walker else np.zeros(2)
        impact = abs(float(normal[:2] @ (here - there)))
        if impact < _HIT_MPS:
            return
        x, y, z = point.tolist()
        self._contacts.append(Contact(
            self.stamp_ns, instance_id(index) if thing.is_object else 0, thing.class_id,
            thing.name, impact, (x, y, z)))

    def _traced(
        self, camera: str, with_rgb: bool = False
    ) -> tuple[npt.NDArray[np.uint8] | None, Silhouettes]:
        """Cast the rays of a camera once per instant, whoever asks."""
        kept = self._pictures.get(camera)
        if kept is not None and kept[0] == self._steps and (kept[1] is not None or not with_rgb):
            return kept[1], kept[2]
        view = self.view(camera)
        rgb, found = (self._rays.picture(self._data, view) if with_rgb
                      else (None, self._rays.cast(self._data, view)))
        self._pictures[camera] = (self._steps, rgb, found)
        return rgb, found

    def _cast(self, origin_m: npt.NDArray[np.float64], rays: npt.NDArray[np.float64],
              farthest_m: float) -> npt.NDArray[np.float32]:
        """Return (N,) distances along unit rays; the robot and the ground are transparent."""
        count = len(rays)
        groups = np.zeros(6, np.uint8)
        groups[THING_GROUP] = 1
        groups[GROUND_GROUP] = groups[ROBOT_GROUP] = 0
        geoms, distances = np.empty(count, np.int32), np.empty(count)
        mujoco.mj_multiRay(
            self._model.mj, self._data, np.ascontiguousarray(origin_m), rays.ravel(), groups, 1,
            -1, geoms, distances, None, count, farthest_m)
        return np.where(geoms >= 0, distances, np.inf).astype(np.float32)

    def _noise(self, stream: int, sensor: str) -> np.random.Generator:
        place = [*OPTICAL_FRAMES, 'laser'].index(sensor)
        return np.random.default_rng([self.scene.seed, stream, place, self.stamp_ns])
