"""
Two cameras for one scene: exact rays on the processor, and OpenGL through EGL.

Both see the same depth and things, to within what a triangle mesh of 28 slices differs from a
round body. Ground truth always comes from the rays, whatever draws the colours.
"""

from dataclasses import dataclass
from functools import lru_cache
import os
import subprocess
import sys
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.types import CameraIntrinsics
from perception_nodes.sim import rays
from perception_nodes.sim.engine import mujoco
from perception_nodes.sim.model import MAX_PICTURE, Model, VIEW_CAMERA
from perception_nodes.sim.poses import looking_at, Matrix
from perception_nodes.sim.textures import picture, SIZE

RENDERERS = ('auto', 'egl', 'rays')
_SHADOW_SIDE = 384
_SHADOW_FOV_DEG = 145.0
_LEVELS = 5


@dataclass(frozen=True, eq=False)
class View:
    """Where a picture is taken from, and through which lens."""

    map_from_camera: Matrix  # (4, 4), optical frame
    intrinsics: CameraIntrinsics


@dataclass(frozen=True, eq=False)
class Layers:
    """What each pixel of a view meets, without any limit of a sensor."""

    depth_m: npt.NDArray[np.float32]  # (H, W) along z, +inf where there is nothing
    things: npt.NDArray[np.int32]  # (H, W) index into scene.things; -1 nothing or the robot


@dataclass(frozen=True, eq=False)
class Silhouettes:
    """Layers, and what of each thing lies inside the image, hidden or not."""

    layers: Layers
    pixels: npt.NDArray[np.int64]  # (T,) of the whole silhouette
    boxes_xyxy: npt.NDArray[np.int64]  # (T, 4) pixels around it, right and bottom exclusive


class Renderer(Protocol):
    """Takes pictures of the present state of one compiled scene."""

    name: str

    def rgb(self, data: mujoco.MjData, view: View) -> npt.NDArray[np.uint8]:
        """Return the (H, W, 3) colours of a view."""
        ...

    def layers(self, data: mujoco.MjData, view: View) -> Layers:
        """Return depth and things of a view."""
        ...

    def close(self) -> None:
        """Give back what it holds; it cannot be used any more."""
        ...


def chosen_renderer(name: str) -> str:
    """
    Return which of 'egl' and 'rays' a name stands for on this machine.

    :param name: 'egl', 'rays', or 'auto' for EGL where a graphics card draws.
    :raises ValueError: If there is no such renderer.
    :raises OSError: If EGL is asked for and does not work here, with what it says.
    """
    if name not in RENDERERS:
        raise ValueError(f"renderer is '{name}'; choose one of {', '.join(RENDERERS)}")
    if name == 'rays':
        return name
    egl = probe_egl()
    if name == 'auto':
        return 'egl' if egl.is_fast else 'rays'
    if not egl.works:
        raise OSError(
            f'OpenGL does not work on this machine ({egl.what}); install libegl1 and libgl1, '
            "or set renderer to 'rays', which needs neither")
    return name


def make_renderer(name: str, model: Model, shadows: bool = False) -> Renderer:
    """
    Return a renderer.

    :param name: One that :func:`chosen_renderer` returns.
    :param shadows: Whether lamps cast shadows: prettier, and slower.
    """
    return (EglRenderer if name == 'egl' else RayRenderer)(model, shadows)


@dataclass(frozen=True)
class Egl:
    """What OpenGL through EGL is worth on this machine."""

    works: bool
    what: str  # the device that draws, or why nothing does

    @property
    def is_fast(self) -> bool:
        """Return whether a graphics card draws: software is slower than the rays."""
        return self.works and not any(word in self.what for word in ('llvmpipe', 'softpipe'))


@lru_cache(maxsize=1)
def probe_egl() -> Egl:
    """
    Return what EGL can do here.

    Tried once, in a process of its own: a broken driver may end the process that asks.
    """
    try:
        done = subprocess.run(
            [sys.executable, '-c', _PROBE], capture_output=True, text=True, timeout=60,
            env={**os.environ, 'PYOPENGL_PLATFORM': 'egl', 'MUJOCO_GL': 'egl'})
    except (OSError, subprocess.TimeoutExpired) as error:
        return Egl(False, str(error))
    said = done.stdout if done.returncode == 0 else done.stderr
    lines = [line for line in said.splitlines() if line.strip()]
    what = lines[-1] if lines else f'its process ended with {done.returncode}'
    return Egl(done.returncode == 0, what)


_PROBE = """
import mujoco
from mujoco.egl import GLContext
context = GLContext(64, 64)
context.make_current()
model = mujoco.MjModel.from_xml_string('<mujoco/>')
mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
from OpenGL import GL
print(GL.glGetString(GL.GL_RENDERER).decode())
"""


class RayRenderer:
    """Draws with :mod:`perception_nodes.sim.rays`."""

    name = 'rays'

    def __init__(self, model: Model, shadows: bool = False) -> None:
        self._model = model
        self._shadows = shadows
        mj, scene = model.mj, model.scene
        self._kinds = mj.geom_type.astype(np.int32)
        self._sizes = mj.geom_size.copy()
        self._textures, self._levels, self._starts = _used_textures(model)
        self._looks = np.array(
            [(*s.rgb, s.specular, s.shininess, s.repeats_per_m) for s in model.surfaces])
        self._lamps = np.array([
            (*(light.position_m if not light.directional
               else tuple(-x for x in light.direction)), float(light.directional),
             *light.diffuse, *light.specular)
            for light in scene.lights]).reshape(-1, 10)
        self._surround = np.array([scene.ambient, scene.headlight])
        self._sky = np.array(scene.sky)

    def cast(self, data: mujoco.MjData, view: View) -> Silhouettes:
        """Return depth, things and silhouettes of a view."""
        depth, geoms, outlines = self._cast(data, view)
        pixels, boxes = outlines[:, 0], outlines[:, 1:]
        return Silhouettes(Layers(depth, self._things(geoms)), pixels, boxes)

    def rgb(self, data: mujoco.MjData, view: View) -> npt.NDArray[np.uint8]:
        """Return the (H, W, 3) colours of a view."""
        return self.picture(data, view)[0]

    def picture(
        self, data: mujoco.MjData, view: View
    ) -> tuple[npt.NDArray[np.uint8], Silhouettes]:
        """Return colours and everything else of a view, from the same rays."""
        depth, geoms, outlines = self._cast(data, view)
        lens = view.intrinsics
        turns, places = _placed(data)
        shadows, lamp_views, focal = self._shadow_maps(data)
        rgb = rays.shade(
            depth, geoms, self._kinds, self._sizes, turns, places, self._looks, self._textures,
            self._levels, self._starts, np.ascontiguousarray(view.map_from_camera),
            (lens.fx, lens.fy), (lens.cx, lens.cy), self._lamps, self._surround, self._sky,
            shadows, lamp_views, focal)
        found = Silhouettes(Layers(depth, self._things(geoms)), outlines[:, 0], outlines[:, 1:])
        return rays.soften_edges(rgb, geoms), found

    def layers(self, data: mujoco.MjData, view: View) -> Layers:
        """Return depth and things of a view."""
        return self.cast(data, view).layers

    def close(self) -> None:
        """Do nothing: it holds no more than memory."""

    def _things(self, geoms: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        return np.append(self._model.thing_of_geom, np.int32(-1))[geoms]

    def _cast(self, data: mujoco.MjData, view: View):  # type: ignore[no-untyped-def]
        lens = view.intrinsics
        turns, places = _placed(data)
        return rays.cast(
            self._kinds, self._sizes, turns, places, self._model.thing_of_geom,
            len(self._model.scene.things), np.ascontiguousarray(view.map_from_camera),
            (lens.fx, lens.fy), (lens.cx, lens.cy), (lens.height, lens.width))

    def _shadow_maps(
        self, data: mujoco.MjData
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], float]:
        lens = CameraIntrinsics.from_fov(_SHADOW_SIDE, _SHADOW_SIDE, _SHADOW_FOV_DEG)
        lights = self._model.scene.lights if self._shadows else ()
        views = np.empty((len(lights), 4, 4))
        depths = np.empty((len(lights), _SHADOW_SIDE, _SHADOW_SIDE), np.float32)
        for i, light in enumerate(lights):
            place = np.array(light.position_m)
            views[i] = looking_at(place, place + light.direction)
            depths[i] = self._cast(data, View(views[i], lens))[0]
        return depths, views, lens.fx


class EglRenderer:
    """Draws with OpenGL. Use it from one thread."""

    name = 'egl'

    def __init__(self, model: Model, shadows: bool = False) -> None:
        _make_current()
        self._mj = model.mj
        self._thing_of_geom = np.append(model.thing_of_geom, np.int32(-1))
        self._shadows = shadows
        self._context = mujoco.MjrContext(model.mj, mujoco.mjtFontScale.mjFONTSCALE_100)
        # 0 is far: floats are dense where depth is large
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model.mj, maxgeom=model.mj.ngeom + 64)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.mj.camera(VIEW_CAMERA).id
        self._option = mujoco.MjvOption()

    def rgb(self, data: mujoco.MjData, view: View) -> npt.NDArray[np.uint8]:
        """Return the (H, W, 3) colours of a view."""
        rect = self._look(data, view)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = self._shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = False
        mujoco.mjr_render(rect, self._scene, self._context)
        out = np.empty((rect.height, rect.width, 3), np.uint8)
        mujoco.mjr_readPixels(out, None, rect, self._context)
        return np.ascontiguousarray(out[::-1])

    def layers(self, data: mujoco.MjData, view: View) -> Layers:
        """Return depth and things of a view, from one pass."""
        rect = self._look(data, view)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = True
        self._scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True
        mujoco.mjr_render(rect, self._scene, self._context)
        colours = np.empty((rect.height, rect.width, 3), np.uint8)
        buffer = np.empty((rect.height, rect.width), np.float32)
        mujoco.mjr_readPixels(colours, buffer, rect, self._context)
        ids = colours[::-1].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        return Layers(self._metres(buffer[::-1]), self._thing_of_geom[self._geoms()[ids]])

    def close(self) -> None:
        """Give back the memory of the graphics card."""
        _make_current()
        self._context.free()

    def _look(self, data: mujoco.MjData, view: View) -> 'mujoco.MjrRect':
        lens = view.intrinsics
        if lens.width > MAX_PICTURE[0] or lens.height > MAX_PICTURE[1]:
            raise ValueError(
                f'a picture of {lens.width}x{lens.height} is asked for; '
                f'at most {MAX_PICTURE[0]}x{MAX_PICTURE[1]} can be drawn')
        _make_current()
        number = self._camera.fixedcamid
        data.cam_xpos[number] = view.map_from_camera[:3, 3]
        # OpenGL's camera looks along -z, with y up
        data.cam_xmat[number] = (view.map_from_camera[:3, :3] * (1.0, -1.0, -1.0)).ravel()
        self._mj.cam_fovy[number] = np.rad2deg(2.0 * np.arctan(0.5 * lens.height / lens.fy))
        mujoco.mjv_updateScene(self._mj, data, self._option, None, self._camera,
                               mujoco.mjtCatBit.mjCAT_ALL, self._scene)
        return mujoco.MjrRect(0, 0, lens.width, lens.height)

    def _geoms(self) -> npt.NDArray[np.int32]:
        """Return the geom of each colour id; 0 is the background."""
        out = np.full(self._scene.ngeom + 1, -1, np.int32)
        kind = int(mujoco.mjtObj.mjOBJ_GEOM)
        for drawn in self._scene.geoms[:self._scene.ngeom]:
            if drawn.segid >= 0 and drawn.objtype == kind:
                out[drawn.segid + 1] = drawn.objid
        return out

    def _metres(self, buffer: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Undo the reversed perspective depth of the buffer: 1 is near, 0 is far."""
        extent = self._mj.stat.extent
        near, far = self._mj.vis.map.znear * extent, self._mj.vis.map.zfar * extent
        depth = near * far / (near + buffer.astype(np.float64) * (far - near))
        depth[buffer <= 0.0] = np.inf
        return depth.astype(np.float32)


@lru_cache(maxsize=1)
def _gl_context():  # type: ignore[no-untyped-def]
    """Return the one OpenGL context of this process."""
    from mujoco.egl import GLContext  # only where EGL was found to work
    return GLContext(*MAX_PICTURE)


def _make_current() -> None:
    _gl_context().make_current()


def _placed(
    data: mujoco.MjData
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return data.geom_xmat.reshape(-1, 3, 3), data.geom_xpos


def _used_textures(model: Model) -> tuple[
        npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """
    Return each geom's texture, -1 for none, and the textures.

    :return: (G,) indices; (T, N, 3) pictures followed by their halves, quarters, ...; where
        each of these begins.
    """
    used = sorted({s.texture for s in model.surfaces if s.texture})
    index = {name: i for i, name in enumerate(used)}
    numbers = np.array([index.get(s.texture, -1) for s in model.surfaces], np.int32)
    sides = [SIZE >> level for level in range(_LEVELS)]
    starts = np.cumsum([0, *(side * side for side in sides[:-1])]).astype(np.int64)
    blank = np.zeros((sum(side * side for side in sides), 3), np.uint8)
    return numbers, np.stack([_with_levels(name) for name in used] or [blank]), starts


@lru_cache(maxsize=256)
def _with_levels(name: str) -> npt.NDArray[np.uint8]:
    image = picture(name)
    sides = [SIZE >> level for level in range(_LEVELS)]
    return np.concatenate([
        cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).reshape(-1, 3)
        for side in sides])
