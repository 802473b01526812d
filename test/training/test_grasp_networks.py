"""What learns of grasps: examples made of views, what is to be learned, and what is learned."""

from dataclasses import replace
import math
from pathlib import Path
import sys

import numpy as np
from perception_nodes.core import grasp_kernels as kernels
from perception_nodes.core.grasp_patches import FEATURES
from perception_nodes.core.grasping import GraspParams, GraspPlanner
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed')
pytest.importorskip('mujoco', reason='mujoco is not installed: labels come from the simulator')
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

sys.path.insert(0, str(Path(__file__).parent))
from labelled_boxes import labelled_box, TALL_M  # noqa: E402
from perception_nodes.training import grasp, grasp_search  # noqa: E402
from perception_nodes.training.loop import fit, LoopParams  # noqa: E402

LOOP = LoopParams(epochs=4, batch_size=24, learning_rate=8e-3, average=0.5, device='cpu')


@pytest.fixture(scope='module')
def boxes():
    rng = np.random.default_rng(5)
    return [labelled_box(rng, scene) for scene in range(12)]


def candidates_as_labels(views):
    """Let a rule that is easy to learn judge candidates of the geometry: narrow ones lift."""
    labelled = []
    for view, plan in grasp.planned(views, 'boxes'):
        some = plan.usable[::max(1, len(plan.usable) // 12)]
        labelled.append(replace(
            view, map_from_grasp=view.map_from_camera @ plan.poses(some),
            opening_m=plan.openings_m(some), family=np.array(['box'] * len(some)),
            success=plan.rows[some, kernels.TIP] < 0.025))
    return labelled


def test_labels_are_found_again_among_the_candidates(boxes):
    """Each labelled candidate comes back once, with its own label."""
    views = candidates_as_labels(boxes)
    examples = grasp.scorer_examples(views, 'boxes')
    assert len(examples) == sum(len(view.success) for view in views)
    np.testing.assert_array_equal(
        examples.success, np.concatenate([view.success for view in views]))
    assert examples.features.shape == (len(examples), FEATURES)
    assert np.isfinite(examples.features).all() and np.isfinite(examples.patches).all()


def test_grasps_that_the_geometry_does_not_find_are_left_out(boxes):
    poses = np.stack([np.eye(4)] * 2)
    poses[1, 0, 3] = 0.02
    openings_m = np.array([0.05, 0.05], np.float32)
    grasps, found = grasp.same_grasps(poses, openings_m, poses[1:], openings_m[1:])
    assert (grasps.tolist(), found.tolist()) == ([1], [0])
    wider_m = openings_m[1:] + np.float32(0.02)
    assert len(grasp.same_grasps(poses, openings_m, poses[1:], wider_m)[0]) == 0
    turned = poses[1:].copy()
    turned[0, :3, :2] = [[0.0, -1.0], [1.0, 0.0], [0.0, 0.0]]
    assert len(grasp.same_grasps(poses, openings_m, turned, openings_m[1:])[0]) == 0
    # a hand is the same after half a turn
    turned[0, :3, :2] = [[-1.0, 0.0], [0.0, -1.0], [0.0, 0.0]]
    assert len(grasp.same_grasps(poses, openings_m, turned, openings_m[1:])[0]) == 1


def test_the_scorer_learns_and_goes_on(boxes, tmp_path):
    """The loss falls, candidates that lift are told; a run in two parts ends like one in one."""
    examples = grasp.scorer_examples(candidates_as_labels(boxes), 'boxes')
    best = fit(grasp.GraspScorerTask(examples, examples, 1), LOOP, tmp_path / 'one')
    assert best['AUC'] > 0.9

    class StopError(Exception):
        pass

    class Interrupted(grasp.GraspScorerTask):
        def batches(self, epoch, batch_size, rng):
            if epoch == 2:
                raise StopError
            return super().batches(epoch, batch_size, rng)

    with pytest.raises(StopError):
        fit(Interrupted(examples, examples, 1), LOOP, tmp_path / 'two')
    task = grasp.GraspScorerTask(examples, examples, 1)
    assert fit(task, LOOP, tmp_path / 'two')['choice'] == best['choice']
    whole = torch.load(tmp_path / 'one' / 'best.pt', weights_only=True)['network']
    for name, value in task.network.state_dict().items():
        torch.testing.assert_close(value, whole[name], rtol=0.0, atol=0.0)


def test_a_mirrored_scene_has_the_same_score():
    """Fingers may change sides, and the hand may be seen from the other side."""
    from perception_nodes.backends.networks.grasp import GraspScorerNetwork
    torch.manual_seed(0)
    network = GraspScorerNetwork().eval()
    patches = torch.randn(3, 2, 32, 32)
    features = torch.randn(3, FEATURES)
    with torch.inference_mode():
        logits = network(patches, features)
        for axes in ((2,), (3,), (2, 3)):
            torch.testing.assert_close(
                network(patches.flip(axes), features), logits, rtol=1e-4, atol=1e-5)
        assert (network(patches.transpose(2, 3), features) - logits).abs().max() > 1e-3


def test_the_cascade_learns_to_tell_middles_from_ends(boxes, tmp_path):
    """With an auto-encoder before it, whose pictures become better."""
    examples = grasp_search.rectangle_examples(boxes, 'boxes', 0)
    assert examples.tried.sum() == 72 and not examples.success[~examples.tried].any()
    task = grasp_search.CascadeTask(examples, examples, 0)
    encoder = grasp_search.AutoEncoderTask(task)
    before = encoder.validate(task.network, torch.device('cpu'))['likeness']
    after = fit(encoder, LOOP, tmp_path / 'encoder')['likeness']
    assert after > before
    best = fit(task, LOOP, tmp_path / 'cascade')
    assert best['AUC'] > 0.8 and best['AUC_small'] > 0.7


def test_a_map_learns_what_was_tried(boxes):
    """Marks lie where the grasps are, with their direction; far from the box is nothing."""
    example = grasp_search.map_examples(boxes[:1], 'boxes')[0]
    view = boxes[0]
    for (x, y, _, opening_m), pose in zip(example.grasps, view.map_from_grasp, strict=True):
        column, line = int(x), int(y)
        if abs(pose[0, 3]) < 0.05:
            assert example.pixels[0, line, column] == pytest.approx(TALL_M / 0.1, abs=0.1)
        assert opening_m == pytest.approx(0.06)
    assert example.hopeless[0, 0] == 1.0
    middle = example.grasps[1]
    assert example.hopeless[int(middle[1]), int(middle[0])] == 0.0


def test_turning_a_map_turns_its_grasps(boxes):
    """Wherever a map is turned to, the grasp across the box's middle stays across it."""
    example = grasp_search.map_examples(boxes[:1], 'boxes')[0]
    rng = np.random.default_rng(3)
    for _ in range(5):
        turned = grasp_search._turned(example, rng)
        x, y, angle, _ = turned.grasps[1]
        height = turned.pixels[0]
        for reach_px, inside in ((2.0, True), (7.0, False)):
            for side in (-1.0, 1.0):
                i = int(y + side * reach_px * math.sin(angle))
                j = int(x + side * reach_px * math.cos(angle))
                assert (height[i, j] > 0.3) == inside
        targets = grasp_search._targets(turned)
        at = targets[:, int(y), int(x)]
        assert at[:2].tolist() == [1.0, 1.0]
        assert math.cos(2.0 * angle) == pytest.approx(at[2], abs=1e-5)


def test_the_map_network_finds_the_middle_of_boxes(boxes, tmp_path):
    """A short training makes its losses smaller."""
    import json
    examples = grasp_search.map_examples(boxes, 'boxes')
    fit(grasp_search.MapTask(examples, examples, 0), LOOP, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / 'history.jsonl').read_text().splitlines()]
    for name in ('loss_quality', 'loss_turn', 'loss_opening'):
        assert rows[-1][name] < rows[0][name]


def test_scores_know_their_extremes():
    success = np.array([True, True, False, False])
    assert grasp.area_under_roc(np.array([3.0, 2.0, 1.0, 0.0]), success) == 1.0
    assert grasp.area_under_roc(np.array([0.0, 1.0, 2.0, 3.0]), success) == 0.0
    assert grasp.area_under_roc(np.ones(4), success) == 0.5
    assert grasp.area_under_roc(np.ones(2), np.ones(2, np.bool_)) == 0.5
    assert grasp.log_loss(np.array([50.0, -50.0]), np.array([True, False])) < 1e-6


def test_a_planner_of_the_geometry_is_there_without_networks():
    from perception_nodes.backends.grasp_planner import make_planner
    planner = make_planner(GraspParams())
    assert isinstance(planner, GraspPlanner)
    assert planner.scorer is None and planner.finder is None
