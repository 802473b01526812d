"""A correlation filter in the simulator: the robot looks away from what it follows, and back."""

from perception_nodes.core.boxes import iou_matrix
from perception_nodes.core.correlation_tracking import CorrelationTracker, TrackParams
from perception_nodes.core.types import VelocityCommand
from perception_nodes.sim.simulator import CAMERA, Simulator, SimulatorParams
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def turns():
    """Return, for each image of a turn away and back: is it followed, overlap, share in sight."""
    sim = Simulator(SimulatorParams(world='room', renderer='rays'), 4)
    tracker, rows = None, []
    for n in range(34):
        truth, rgb = sim.truth(CAMERA), sim.rgb(CAMERA)
        bins = [o for o in truth.objects if o.name == 'bin_60']
        if tracker is None:
            tracker = CorrelationTracker(rgb, bins[0].box_xyxy, TrackParams())
        target = tracker.step(rgb)
        overlap = float(iou_matrix(target.box_xyxy[None], bins[0].box_xyxy[None])[0, 0]) \
            if target and bins else 0.0
        share = bins[0].visible_fraction * bins[0].inside_fraction if bins else 0.0
        rows.append((target is not None, overlap, share))
        rate = 0.0 if 15 <= n < 18 else 0.6 if n < 15 else -0.6
        sim.step(VelocityCommand(0.0, rate), 0.1)
    sim.close()
    return rows


def test_it_is_followed_as_long_as_it_is_in_sight(turns):
    before = turns[:next(i for i, (_, _, share) in enumerate(turns) if share < 0.95)]
    assert len(before) >= 4
    assert all(followed and overlap > 0.7 for followed, overlap, _ in before)


def test_out_of_sight_it_is_lost(turns):
    gone = [followed for followed, _, share in turns if share == 0.0]
    assert len(gone) >= 3
    assert not any(gone)


def test_back_in_sight_it_is_found(turns):
    followed, overlap, share = turns[-1]
    assert share > 0.95
    assert followed
    assert overlap > 0.6
