"""People who walk to and fro in the simulator, followed by the boxes the truth gives."""

import numpy as np
from perception_nodes.core.tracking import ObjectTracker, TrackingParams
from perception_nodes.core.types import Detections, VelocityCommand
from perception_nodes.sim.simulator import CAMERA, Simulator, SimulatorParams
import pytest

PERSON = (0.2, 0.25, 1.7)  # half of each side; the lower half is under the floor


@pytest.mark.slow
def test_people_who_pass_each_other_before_a_turning_robot_keep_their_ids(scene, thing):
    """Boxes of people half hidden are left out, as a detector would."""
    people = [
        thing('box', PERSON, (x, y, 0.0), name, 'person', motion='walks', speed_mps=0.8,
              path_xy_m=((x, y), (x, -y)))
        for name, x, y in (('near', 2.5, 1.5), ('far', 4.0, -2.0))]
    params = SimulatorParams(renderer='rays', camera_width=160, camera_height=120, noise=False)
    simulator = Simulator(params, scene(*people))
    tracker = ObjectTracker(TrackingParams(track=True))
    ids, seen_alone = {}, 0
    for k in range(40):
        simulator.step(VelocityCommand(0.0, 0.3 * np.sin(k * 0.3)), 0.1)
        seen = [s for s in simulator.truth(CAMERA).objects
                if s.name in ('near', 'far') and s.visible_fraction > 0.4]
        n = len(seen)
        seen_alone += n == 1
        found = tracker.step(Detections(
            np.array([s.box_xyxy for s in seen], np.float32).reshape(-1, 4),
            np.ones(n, np.float32), np.full(n, 7)), simulator.stamp_ns)
        for s, track in zip(seen, found.object_ids.tolist(), strict=True):
            ids.setdefault(s.name, set()).add(track)
    simulator.close()
    assert seen_alone > 2  # one hid the other
    assert {name: len(tracks) for name, tracks in ids.items()} == {'near': 1, 'far': 1}
    assert ids['near'] != ids['far']
