"""From a scene description to MuJoCo: one body per thing, in the scene's order."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
import numpy.typing as npt
from perception_nodes.sim import hand
from perception_nodes.sim.engine import mujoco
from perception_nodes.sim.poses import Pose
from perception_nodes.sim.robot import MASS_KG, MAX_FORCE_N, MAX_TORQUE_NM, robot_parts
from perception_nodes.sim.scene import Light, RobotStart, Scene, Shape, Surface, Thing
from perception_nodes.sim.textures import picture, SIZE

_KINDS = {
    'plane': mujoco.mjtGeom.mjGEOM_PLANE, 'sphere': mujoco.mjtGeom.mjGEOM_SPHERE,
    'capsule': mujoco.mjtGeom.mjGEOM_CAPSULE, 'ellipsoid': mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    'cylinder': mujoco.mjtGeom.mjGEOM_CYLINDER, 'box': mujoco.mjtGeom.mjGEOM_BOX}
# who touches whom: things one another and the robot, the robot things but not the ground
_THING_BITS, _GROUND_BITS, _ROBOT_BITS = (1, 3), (1, 1), (2, 0)
VIEW_CAMERA = 'view'  # the one camera of a model; renderers put it where they look from
ROBOT_GROUP, THING_GROUP, GROUND_GROUP = 1, 0, 2
MAX_PICTURE = (1280, 960)
_FLOATING_FORCE = 800.0


@dataclass(frozen=True, eq=False)
class Model:
    """A compiled scene."""

    scene: Scene
    mj: mujoco.MjModel
    thing_of_geom: npt.NDArray[np.int32]  # (G,) index into scene.things, -1 the robot
    surfaces: tuple[Surface, ...]  # of each geom
    body_of_thing: npt.NDArray[np.int32]
    has_base: bool


def build(scene: Scene, textured: bool = True) -> Model:
    """
    Compile a scene.

    :param textured: Whether OpenGL is going to draw it; the rays keep textures of their own.
    """
    spec = mujoco.MjSpec()
    _set_options(spec, scene)
    materials = _Materials(spec, textured)
    owners: list[int] = []
    surfaces: list[Surface] = []
    for i, thing in enumerate(scene.things):
        _add_thing(spec, thing, materials)
        owners += [i] * len(thing.shapes)
        surfaces += [shape.surface for shape in thing.shapes]
    if scene.robot is not None:
        parts = robot_parts(scene.robot.footprint)
        _add_robot(spec, scene.robot, parts, scene.wave_height_m > 0.0, materials)
        owners += [-1] * len(parts)
        surfaces += [part.surface for part in parts]
    if scene.has_gripper:
        parts = _add_gripper(spec)
        owners += [-1] * len(parts)
        surfaces += [part.surface for part in parts]
    for light in scene.lights:
        _add_light(spec, light)
    spec.worldbody.add_camera(name=VIEW_CAMERA, fovy=60.0)
    mj = spec.compile()
    bodies = np.array([mj.body(thing.name).id for thing in scene.things], np.int32)
    return Model(scene, mj, np.array(owners, np.int32), tuple(surfaces), bodies,
                 scene.robot is not None)


def _add_gripper(spec: mujoco.MjSpec) -> tuple[Shape, ...]:
    """
    Add the hand, which follows a scripted frame, and its two fingers, which servos close.

    :return: What it consists of, in the order of its geoms.
    """
    palm, finger = hand.palm_shapes(), hand.finger_shape()
    materials = _Materials(spec, textured=False, prefix='hand')
    spec.worldbody.add_body(name=hand.GUIDE, mocap=True, pos=hand.PARKED_M)
    body = spec.worldbody.add_body(name=hand.HAND, pos=hand.PARKED_M, gravcomp=1.0)
    body.add_freejoint(name=hand.HAND)
    fingers = []
    for shape in palm:
        _add_hand_shape(body, shape, 1500.0, materials)
    for name, side in zip(hand.FINGERS, (1.0, -1.0), strict=True):
        held = body.add_body(name=name, pos=(0.0, side * hand.FINGER_THICKNESS_M / 2.0, 0.0),
                             gravcomp=1.0)
        held.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=(0.0, side, 0.0),
                       range=(0.0, hand.MAX_OPENING_M / 2.0), limited=True, damping=[5.0, 0, 0],
                       armature=0.02, solref_limit=(0.005, 1.0),
                       solimp_limit=(0.98, 0.999, 0.001, 0.5, 2.0))
        _add_hand_shape(held, finger, 2500.0, materials)
        fingers.append(finger)
        servo = spec.add_actuator(
            name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, forcelimited=True,
            forcerange=(-hand.CLOSING_FORCE_N, hand.CLOSING_FORCE_N))
        servo.set_to_position(kp=800.0)
    weld = spec.add_equality(type=mujoco.mjtEq.mjEQ_WELD, objtype=mujoco.mjtObj.mjOBJ_BODY,
                             name1=hand.GUIDE, name2=hand.HAND)
    weld.solref = (0.01, 1.0)
    weld.data[:10] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)  # anchor, place, turn
    weld.data[10] = 1.0  # weigh turning as much as moving
    return (*palm, *fingers)


def _add_hand_shape(body: mujoco.MjsBody, shape: Shape, density_kgpm3: float,
                    materials: '_Materials') -> None:
    geom = _add_shape(body, shape, materials)
    geom.group = ROBOT_GROUP
    geom.contype, geom.conaffinity = _ROBOT_BITS
    geom.density, geom.condim, geom.friction = density_kgpm3, 4, (0.9, 0.01, 0.0002)
    # stiff against what is light: by default 20 N press fingers 4 cm into a ball of 10 g
    geom.solref, geom.solimp, geom.solmix = (0.006, 1.0), (0.98, 0.999, 0.001, 0.5, 2.0), 100.0


def _set_options(spec: mujoco.MjSpec, scene: Scene) -> None:
    fine = scene.has_gripper
    spec.option.timestep = 0.002 if fine else 0.004
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = (mujoco.mjtCone.mjCONE_ELLIPTIC if fine
                        else mujoco.mjtCone.mjCONE_PYRAMIDAL)
    spec.option.impratio = 10.0 if fine else 1.0
    if not fine:  # objects at rest cost nothing until they are touched
        spec.option.enableflags |= mujoco.mjtEnableBit.mjENBL_SLEEP
        spec.option.sleep_tolerance = 1e-2
    spec.visual.headlight.ambient = scene.ambient
    spec.visual.headlight.diffuse = scene.headlight
    spec.visual.headlight.specular = (0.0, 0.0, 0.0)
    spec.visual.global_.offwidth, spec.visual.global_.offheight = MAX_PICTURE
    spec.visual.quality.shadowsize = 1024
    spec.visual.quality.offsamples = 0  # several samples double the time without a GPU
    spec.stat.extent = 1.0  # so that clipping distances are metres
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 60.0
    sky = spec.add_texture(name='sky', type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, width=64,
                           height=64 * 6, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT)
    sky.rgb1, sky.rgb2 = scene.sky


def _add_light(spec: mujoco.MjSpec, light: Light) -> None:
    made = spec.worldbody.add_light()
    made.type = (mujoco.mjtLightType.mjLIGHT_DIRECTIONAL if light.directional
                 else mujoco.mjtLightType.mjLIGHT_SPOT)
    made.pos, made.dir = light.position_m, light.direction
    made.diffuse, made.specular, made.ambient = light.diffuse, light.specular, (0.0, 0.0, 0.0)
    made.cutoff, made.exponent = 180.0, 0.0  # degrees: to all sides


def _add_thing(spec: mujoco.MjSpec, thing: Thing, materials: '_Materials') -> None:
    body = spec.worldbody.add_body(
        name=thing.name, pos=thing.pose.xyz_m, quat=thing.pose.quat_wxyz,
        mocap=thing.motion in ('walks', 'floats'))
    if thing.motion == 'free':
        body.add_freejoint(name=thing.name)
    for shape in thing.shapes:
        geom = _add_shape(body, shape, materials)
        is_ground = shape.kind == 'plane'
        geom.group = GROUND_GROUP if is_ground else THING_GROUP
        bits = _GROUND_BITS if is_ground else _THING_BITS
        geom.contype, geom.conaffinity = bits if shape.collides else (0, 0)
        geom.density = thing.density_kgpm3
        geom.friction = (0.6, 0.005, 0.0002)
        geom.condim = 4 if thing.motion == 'free' else 3
        if thing.motion == 'free' and shape.kind in ('sphere', 'ellipsoid', 'capsule', 'cylinder'):
            geom.condim = 6  # what is round must come to rest by rolling friction
            geom.friction = (0.6, 0.005, 0.002)


def _add_shape(body: mujoco.MjsBody, shape: Shape, materials: '_Materials') -> mujoco.MjsGeom:
    size = shape.size_m if shape.kind != 'plane' else (shape.size_m[0], shape.size_m[1], 1.0)
    return body.add_geom(
        type=_KINDS[shape.kind], size=size, pos=shape.pose.xyz_m, quat=shape.pose.quat_wxyz,
        material=materials.name_of(shape.surface))


def _add_robot(spec: mujoco.MjSpec, start: RobotStart, parts: Sequence[Shape], floats: bool,
               materials: '_Materials') -> None:
    base = spec.worldbody.add_body(name='base')
    slide, hinge = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
    joints = [('base_x', slide, (1, 0, 0)), ('base_y', slide, (0, 1, 0)),
              ('base_yaw', hinge, (0, 0, 1))]
    if floats:
        joints += [('base_heave', slide, (0, 0, 1)), ('base_pitch', hinge, (0, 1, 0)),
                   ('base_roll', hinge, (1, 0, 0))]
    for name, kind, axis in joints:
        base.add_joint(name=name, type=kind, axis=axis)
    reach = start.footprint.reach_m
    base.explicitinertial = True
    base.mass, base.ipos = MASS_KG, (0.0, 0.0, 0.1)
    base.inertia = tuple(MASS_KG * reach ** 2 * k for k in (0.3, 0.3, 0.5))
    for part in parts:
        geom = _add_shape(base, part, materials)
        geom.group = ROBOT_GROUP
        geom.contype, geom.conaffinity = _ROBOT_BITS
        geom.condim, geom.priority = 1, 1  # it slides along walls instead of sticking to them
    for name, gain, limit in (('base_x', 1500.0, MAX_FORCE_N), ('base_y', 1500.0, MAX_FORCE_N),
                              ('base_yaw', 100.0, MAX_TORQUE_NM)):
        servo = spec.add_actuator(
            name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, forcelimited=True,
            forcerange=(-limit, limit))
        servo.set_to_velocity(kv=gain)
    for name in ('base_heave', 'base_pitch', 'base_roll') if floats else ():
        servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=_FLOATING_FORCE, kv=2.0 * math.sqrt(_FLOATING_FORCE * MASS_KG))
        base.gravcomp = 1.0


class _Materials:
    """One material per distinct surface, one texture per picture and way of laying it on."""

    def __init__(self, spec: mujoco.MjSpec, textured: bool, prefix: str = 'surface') -> None:
        self._spec = spec
        self._textured = textured
        self._prefix = prefix
        self._names: dict[Surface, str] = {}
        self._textures: set[str] = set()

    def name_of(self, surface: Surface) -> str:
        if surface not in self._names:
            self._names[surface] = f'{self._prefix}_{len(self._names)}'
            self._add(self._names[surface], surface)
        return self._names[surface]

    def _add(self, name: str, surface: Surface) -> None:
        material = self._spec.add_material(
            name=name, rgba=(*surface.rgb, 1.0), specular=surface.specular,
            shininess=surface.shininess)
        if not (surface.texture and self._textured):
            return
        flat = surface.repeats_per_m > 0.0
        texture = f'{surface.texture}_{"flat" if flat else "cube"}'
        if texture not in self._textures:
            self._textures.add(texture)
            image = picture(surface.texture)
            pixels = image if flat else np.concatenate([image] * 6)
            made = self._spec.add_texture(
                name=texture, nchannel=3, width=SIZE, height=len(pixels),
                type=mujoco.mjtTexture.mjTEXTURE_2D if flat else mujoco.mjtTexture.mjTEXTURE_CUBE)
            made.data = pixels.tobytes()
        textures = list(material.textures)
        textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = texture
        material.textures = textures
        if flat:
            material.texuniform = True
            repeats = 2.0 * surface.repeats_per_m  # MuJoCo counts them over two metres
            material.texrepeat = (repeats, repeats)


def start_pose(scene: Scene) -> Pose:
    """Return where the robot starts, in map; the origin in a world without robot."""
    start = scene.robot
    return Pose() if start is None else Pose.at(start.x_m, start.y_m, 0.0, start.yaw_rad)
