"""What is said of simulated scenes is what physics and the camera show."""

import numpy as np
from perception_nodes.core.geometry import inverse
from perception_nodes.core.scene_relations import DescriptionParams, find_relations
from perception_nodes.core.types import Detections3D
from perception_nodes.sim.classes import CLASS_NAMES
from perception_nodes.sim.simulator import CAMERA, Simulator, SimulatorParams
import pytest

pytestmark = pytest.mark.slow
PARAMS = DescriptionParams()


def boxes(things):
    """Return boxes in map of what has a true one."""
    n = len(things)
    poses = np.array([thing.box_3d.map_from_box for thing in things]).reshape(n, 4, 4)
    return Detections3D(
        poses[:, :3, 3], poses[:, :3, :3],
        np.array([thing.box_3d.size_m for thing in things]).reshape(n, 3), np.zeros((n, 6, 6)),
        np.ones(n, np.float32), np.array([thing.class_id for thing in things], np.int64),
        np.arange(n), ('ground_truth',) * n)


def relations(sim, things):
    kinds = [CLASS_NAMES[thing.class_id] for thing in things]
    seen_by_robot = boxes(things).transformed(inverse(sim.map_from_base))
    return find_relations(seen_by_robot, kinds, PARAMS)


@pytest.mark.parametrize('seed', range(3))
def test_what_was_dropped_on_a_table_is_on_it(seed):
    """Physics let every thing come to rest on the surface; nothing else is said to be on it."""
    sim = Simulator(SimulatorParams(world='tabletop_packed', renderer='rays'), seed)
    things = sim.states()
    [table] = [i for i, thing in enumerate(things) if CLASS_NAMES[thing.class_id] == 'table']
    resting = {thing.name for thing in sim.reachable()}
    sim.close()
    assert len(resting) >= 3
    on_table = {things[r.subject].name for r in relations(sim, things)
                if (r.kind, r.reference) == ('on', table)}
    assert on_table == resting


def test_sides_are_those_of_the_picture():
    """Left is left in the image of the robot's camera, and what is behind has larger depth."""
    checked = {'left of': 0, 'right of': 0, 'behind': 0, 'in front of': 0}
    for seed in range(12):
        sim = Simulator(SimulatorParams(world='room', renderer='rays', noise=False), seed)
        truth = sim.truth(CAMERA)
        sim.close()
        seen = [o for o in truth.objects if not o.ignore and o.inside_fraction > 0.7]
        columns = [o.box_xyxy[[0, 2]].mean() for o in seen]
        depths = [np.median(truth.depth_m[truth.instance_mask == o.instance_id]) for o in seen]
        for r in relations(sim, seen):
            if r.kind not in checked:
                continue
            checked[r.kind] += 1
            i, j = r.subject, r.reference
            told = f'seed {seed}: {seen[i].name} {r.kind} {seen[j].name}'
            if r.kind in ('left of', 'right of'):
                assert (columns[i] < columns[j]) == (r.kind == 'left of'), told
            else:
                assert (depths[i] > depths[j]) == (r.kind == 'behind'), told
    assert min(checked.values()) >= 2, f'too few to tell: {checked}'
