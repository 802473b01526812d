"""
Clutter removal in the simulator, judged by physics.

The protocol is that of VGN (Breyer et al., 2020) and GIGA (Jiang et al., 2021): five objects, one
view with noise, the best grasp is executed and what it lifts is taken away; a round ends when
nothing is left, nothing is found, or two grasps in a row have failed.
"""

from dataclasses import dataclass
import time

import numpy as np
import numpy.typing as npt
from perception_nodes.core.grasping import GraspContext
from perception_nodes.core.protocols import GraspProposer
from perception_nodes.core.types import GraspCandidates, RgbdFrame
from perception_nodes.sim.gripper import GraspOutcome
from perception_nodes.sim.scene import Split
from perception_nodes.sim.sensors import benchmark_depth
from perception_nodes.sim.simulator import Simulator, SimulatorParams
from perception_nodes.sim.truth import instance_id
from perception_nodes.sim.worlds.tabletop import make_tabletop

CAMERA = 'table_camera'
OBJECTS = 5
_MOST_FAILURES = 2


@dataclass(frozen=True, eq=False)
class View:
    """What a planner gets to see, and where from."""

    frame: RgbdFrame
    context: GraspContext
    map_from_camera: npt.NDArray[np.float64]  # (4, 4)


@dataclass(frozen=True, eq=False)
class Attempt:
    """One executed grasp."""

    view: View
    grasps: GraspCandidates  # the first of which was executed
    outcome: GraspOutcome


@dataclass(frozen=True, eq=False)
class Round:
    """How one scene went."""

    objects: int  # that could be reached at the start
    attempts: tuple[Attempt, ...]
    plan_cpu_ms: tuple[float, ...]
    why_ended: str  # what the planner said when it found nothing

    @property
    def lifted(self) -> int:
        """Return how many objects were taken away."""
        return sum(attempt.outcome.lifted for attempt in self.attempts)


def make_simulator() -> Simulator:
    """Return a simulator whose table camera has 640 x 480 pixels."""
    return Simulator(SimulatorParams(
        world='tabletop_packed', renderer='rays', noise=False, camera_width=640,
        camera_height=480))


def look(sim: Simulator, rng: np.random.Generator) -> View:
    """
    Take a depth image with GIGA's noise from the scene's table camera.

    :raises ValueError: If the scene has none.
    """
    space = sim.scene.workspace
    if space is None:
        raise ValueError(f"world '{sim.scene.world}' has no table camera; take a tabletop world")
    pose = sim.view(CAMERA).map_from_camera
    depth_m = benchmark_depth(sim.ideal_depth(CAMERA), rng)
    depth_m.flags.writeable = False
    frame = RgbdFrame(
        np.zeros((*depth_m.shape, 3), np.uint8), sim.stamp_ns, CAMERA, depth_m, sim.intrinsics)
    context = GraspContext(
        up=pose[2, :3].copy(), camera_height_m=float(pose[2, 3] - space.centre_m[2]))
    return View(frame, context, pose)


def clear(
    sim: Simulator, proposer: GraspProposer, seed: int, *, pile: bool, split: Split,
    families: tuple[str, ...] = (),
) -> Round:
    """
    Clear the scene of a seed as far as the proposer can.

    :param families: Names of the families to draw from; empty takes those of the split.
    """
    sim.load(make_tabletop(seed, split, pile, OBJECTS, families))
    rng = np.random.default_rng([seed, int(pile), 1])
    remove_unreachable(sim)
    objects = len(sim.reachable())
    attempts: list[Attempt] = []
    cpu_ms: list[float] = []
    failures, why = 0, ''
    while sim.reachable() and failures < _MOST_FAILURES:
        view = look(sim, rng)
        started = time.thread_time()
        grasps = proposer.propose(view.frame, view.context)
        cpu_ms.append(1e3 * (time.thread_time() - started))
        if len(grasps) == 0:
            why = grasps.why_none
            break
        outcome = sim.execute_grasp(
            view.map_from_camera @ grasps.camera_from_grasp[0], float(grasps.openings_m[0]))
        attempts.append(Attempt(view, grasps, outcome))
        failures = 0 if outcome.lifted else failures + 1
        remove_unreachable(sim)
    return Round(objects, tuple(attempts), tuple(cpu_ms), why)


def remove_unreachable(sim: Simulator) -> None:
    """Take away what fell off the workspace, as the protocol does."""
    reachable = {state.name for state in sim.reachable()}
    for index, thing in enumerate(sim.scene.things):
        if thing.motion == 'free' and thing.name not in reachable:
            sim.remove(instance_id(index))
