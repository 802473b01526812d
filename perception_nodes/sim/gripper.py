"""Judging a grasp by executing it: approach, close, lift."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from perception_nodes.sim import hand
from perception_nodes.sim.engine import mujoco
from perception_nodes.sim.model import Model
from perception_nodes.sim.poses import Matrix, Pose

Reason = Literal['lifted', 'collision', 'nothing_held', 'slipped']

APPROACH_M = 0.10
LIFT_M = 0.15
_APPROACH_MPS = 0.4
_CLOSE_MPS = 0.12  # of each finger: hands that shut faster run light things through
_SQUEEZE_S = 0.1
_CLOSED_CTRL_M = -0.02  # beyond closed: a position servo needs an error to push
_LIFT_MPS = 0.4
_REST_S = 0.1
_TOUCH_N = 5.0  # an approach that pushes harder than this is a collision
_CLOSED_M = 0.0015  # what is left between fingers that hold nothing


@dataclass(frozen=True)
class GraspOutcome:
    """
    How an execution ended.

    ``reason`` is 'lifted'; 'collision' when the open hand ran into something on its way;
    'nothing_held' when the fingers closed on nothing; 'slipped' when what they held did not
    come along.
    """

    reason: Reason
    thing: int  # index into scene.things of what was lifted, or run into; -1 for nothing
    opening_m: float  # between the fingers at the end

    @property
    def lifted(self) -> bool:
        """Return whether an object is in the hand, above where it was."""
        return self.reason == 'lifted'


class Gripper:
    """The hand of one model; ``advance`` takes one step of physics."""

    def __init__(self, model: Model, data: mujoco.MjData, advance: Callable[[], None]) -> None:
        mj = model.mj
        self._mj, self._data, self._advance = mj, data, advance
        self._dt_s = mj.opt.timestep
        self._guide = int(mj.body_mocapid[mj.body(hand.GUIDE).id])
        root = mj.joint(hand.HAND)
        self._at, self._speed = int(root.qposadr[0]), int(root.dofadr[0])
        fingers = [mj.joint(name) for name in hand.FINGERS]
        self._slides = [int(joint.qposadr[0]) for joint in fingers]
        self._slide_speeds = [int(joint.dofadr[0]) for joint in fingers]
        self._servos = [mj.actuator(name).id for name in hand.FINGERS]
        bodies = [mj.body(name).id for name in (hand.HAND, *hand.FINGERS)]
        self._is_hand = np.isin(mj.geom_bodyid, bodies)
        self._finger_of_geom = np.array([
            bodies[1:].index(body) if body in bodies[1:] else -1 for body in mj.geom_bodyid])
        self._thing_of_geom = model.thing_of_geom
        self._bodies = model.body_of_thing
        self._is_free = np.array([thing.motion == 'free' for thing in model.scene.things])
        self.park()

    def park(self) -> None:
        """Take the hand away, open."""
        self._teleport(Pose(hand.PARKED_M).matrix, hand.MAX_OPENING_M)

    def execute(self, map_from_grasp: Matrix, opening_m: float) -> GraspOutcome:
        """
        Approach along z, close, lift straight up.

        :param map_from_grasp: (4, 4) grasp frame in map.
        :param opening_m: Distance of the fingers on the approach; what the hand cannot do is
            taken as its largest opening.
        """
        away = map_from_grasp.copy()
        away[:3, 3] -= APPROACH_M * map_from_grasp[:3, 2]
        self._teleport(away, min(max(opening_m, 0.0), hand.MAX_OPENING_M))
        mujoco.mj_forward(self._mj, self._data)
        hit = self._pushed_against()
        if hit is None:
            hit = self._move(away[:3, 3], map_from_grasp[:3, 3], _APPROACH_MPS, watch=True)
        if hit is not None:
            return GraspOutcome('collision', hit, self._opening_m())
        self._close()
        if self._opening_m() < _CLOSED_M:
            return GraspOutcome('nothing_held', -1, self._opening_m())
        heights = self._data.xpos[self._bodies, 2].copy()
        up = map_from_grasp[:3, 3] + (0.0, 0.0, LIFT_M)
        self._move(map_from_grasp[:3, 3], up, _LIFT_MPS, watch=False)
        self._wait(_REST_S)
        raised = self._data.xpos[self._bodies, 2] - heights > LIFT_M / 2.0
        held = np.flatnonzero(raised & self._is_free & self._held())
        if len(held) == 0:
            return GraspOutcome('slipped', -1, self._opening_m())
        return GraspOutcome('lifted', int(held[0]), self._opening_m())

    def _teleport(self, map_from_hand: Matrix, opening_m: float) -> None:
        pose = Pose.from_matrix(map_from_hand)
        data = self._data
        data.mocap_pos[self._guide], data.mocap_quat[self._guide] = pose.xyz_m, pose.quat_wxyz
        data.qpos[self._at:self._at + 7] = (*pose.xyz_m, *pose.quat_wxyz)
        data.qvel[self._speed:self._speed + 6] = 0.0
        data.qpos[self._slides] = opening_m / 2.0
        data.qvel[self._slide_speeds] = 0.0
        data.ctrl[self._servos] = opening_m / 2.0

    def _move(self, start_m: npt.NDArray[np.float64], end_m: npt.NDArray[np.float64],
              speed_mps: float, watch: bool) -> int | None:
        """Carry the guide along a line; return what the hand pushed against, if watched."""
        steps = max(1, round(float(np.linalg.norm(end_m - start_m)) / speed_mps / self._dt_s))
        for k in range(1, steps + 1):
            share = k / steps
            # slow at both ends, so that nothing is thrown
            eased = share * share * (3.0 - 2.0 * share)
            self._data.mocap_pos[self._guide] = start_m + eased * (end_m - start_m)
            self._advance()
            if watch:
                hit = self._pushed_against()
                if hit is not None:
                    return hit
        return None

    def _close(self) -> None:
        """Bring the fingers together until they push with all their force."""
        target_m = float(self._data.ctrl[self._servos].max())
        while target_m > _CLOSED_CTRL_M:
            target_m -= _CLOSE_MPS * self._dt_s
            self._data.ctrl[self._servos] = target_m
            self._advance()
        self._wait(_SQUEEZE_S)

    def _wait(self, duration_s: float) -> None:
        for _ in range(round(duration_s / self._dt_s)):
            self._advance()

    def _opening_m(self) -> float:
        return float(self._data.qpos[self._slides].sum())

    def _pushed_against(self) -> int | None:
        """Return the thing the hand pushes hardest, if that is more than a touch."""
        worst, thing = _TOUCH_N, None
        force = np.zeros(6)
        for k in self._hand_contacts():
            mujoco.mj_contactForce(self._mj, self._data, k, force)
            if force[0] > worst:
                pair = self._data.contact.geom[k]
                worst, thing = float(force[0]), int(self._thing_of_geom[pair].max())
        return thing

    def _held(self) -> npt.NDArray[np.bool_]:
        """Return which things touch both fingers."""
        touches = np.zeros((2, len(self._bodies)), np.bool_)
        for k in self._hand_contacts():
            pair = self._data.contact.geom[k]
            finger, thing = int(self._finger_of_geom[pair].max()), int(
                self._thing_of_geom[pair].max())
            if finger >= 0 and thing >= 0:
                touches[finger, thing] = True
        return np.asarray(touches.all(axis=0), np.bool_)

    def _hand_contacts(self) -> list[int]:
        data = self._data
        if not data.ncon:
            return []
        found: list[int] = np.flatnonzero(
            self._is_hand[data.contact.geom[:data.ncon]].any(axis=1)).tolist()
        return found
