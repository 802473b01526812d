"""What the detector is taught, on a grid small enough to know the answer."""

import pytest

torch = pytest.importorskip('torch')
from perception_nodes.backends.networks.scene import BINS, BoxGrid  # noqa: E402
from perception_nodes.training.detection_loss import (  # noqa: E402
    assign,
    BoxTargets,
    detection_loss,
)

pytestmark = pytest.mark.slow

SIDE = 8  # cells of the finest grid, of stride 8: a picture of 64 x 64 pixels


def grid_of(scores=0.01, side=2.0, classes=2):
    """
    Return an 8 x 8, a 4 x 4 and a 2 x 2 grid.

    :param scores: Of every cell and class.
    :param side: How far every cell says its four sides are away, in cells.
    """
    centers, strides = [], []
    for stride in (8, 16, 32):
        n = 64 // stride
        y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing='ij')
        centers.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((n * n,), float(stride)))
    cells = torch.cat(strides)
    logits = torch.full((1, len(cells), classes), float(torch.tensor(scores).logit()))
    return BoxGrid(logits, side_logits_of(torch.full((1, len(cells), 4), side)),
                   torch.cat(centers), cells)


def side_logits_of(sides):
    """Return logits whose expected value is each of the given distances."""
    low = sides.floor().long().clamp(0, BINS - 2)
    above = sides - low
    logits = torch.full((*sides.shape, BINS), -40.0)
    logits.scatter_(-1, low[..., None], (1.0 - above).clamp(1e-9).log()[..., None])
    logits.scatter_(-1, low[..., None] + 1, above.clamp(1e-9).log()[..., None])
    return logits


def targets(boxes, columns, ignored=()):
    n = len(boxes)
    is_ignored = torch.tensor([[k in ignored for k in range(n)]])
    return BoxTargets(torch.tensor([boxes], dtype=torch.float32), torch.tensor([columns]),
                      ~is_ignored, is_ignored)


def test_sides_are_expected_values():
    grid = grid_of(side=2.25)
    torch.testing.assert_close(grid.boxes()[0, 0], torch.tensor([-14.0, -14.0, 22.0, 22.0]))
    torch.testing.assert_close(grid.boxes()[0, 64], torch.tensor([-28.0, -28.0, 44.0, 44.0]))


def test_the_cells_that_fit_answer():
    """A 32 pixel box around a corner of four cells: the fine grid's middle cells overlap best."""
    grid = grid_of(side=2.0)  # every fine cell says 32 x 32 around itself
    assigned = assign(grid, grid.boxes(), targets([[16.0, 16.0, 48.0, 48.0]], [1]))
    chosen = assigned.positive[0].nonzero()[:, 0].tolist()
    assert len(chosen) == 10
    middle = [row * SIDE + column for row in (3, 4) for column in (3, 4)]
    assert set(middle) <= set(chosen)
    inside = (grid.centers[chosen] >= 16.0) & (grid.centers[chosen] <= 48.0)
    assert inside.all()
    # the best cell's target is its overlap: 32 x 32 against itself moved by 4 in x and y
    overlap = 28.0**2 / (2.0 * 32.0**2 - 28.0**2)
    assert assigned.scores[0, middle, 1].tolist() == pytest.approx([overlap] * 4, abs=1e-5)
    assert (assigned.scores[..., 0] == 0.0).all()
    assert assigned.scores[0, :, 1].count_nonzero() == 10


def test_a_cell_answers_for_one_box_only():
    """Of two boxes, one inside the other, a cell takes the one it overlaps more."""
    grid = grid_of(side=1.0)  # fine cells say 16 x 16
    both = targets([[8.0, 8.0, 56.0, 56.0], [24.0, 24.0, 40.0, 40.0]], [0, 1])
    assigned = assign(grid, grid.boxes(), both)
    middle = [row * SIDE + column for row in (3, 4) for column in (3, 4)]
    assert assigned.owners[0, middle].tolist() == [1, 1, 1, 1]
    assert (assigned.scores[0].count_nonzero(dim=1) <= 1).all()
    assert (assigned.owners[0][assigned.positive[0]] == 0).any(), 'the large box keeps some'


def test_a_box_smaller_than_a_cell_still_gets_some():
    """Cells count whose middle is within half a fine cell: (20, 20), and the coarsest (16, 16)."""
    grid = grid_of(side=0.5)
    assigned = assign(grid, grid.boxes(), targets([[18.0, 18.0, 21.0, 21.0]], [0]))
    assert assigned.positive[0].nonzero()[:, 0].tolist() == [2 * SIDE + 2, 64 + 16]


def test_perfect_answers_cost_almost_nothing():
    box = torch.tensor([16.0, 16.0, 48.0, 48.0])
    empty = grid_of()
    sides = torch.stack([empty.centers[:, 0] - box[0], empty.centers[:, 1] - box[1],
                         box[2] - empty.centers[:, 0], box[3] - empty.centers[:, 1]], -1)
    sides = (sides / empty.strides[:, None]).clamp(0.0, BINS - 1.01)
    is_inside = ((empty.centers > 16.0) & (empty.centers < 48.0)).all(-1)
    fine = is_inside & (empty.strides == 8.0)
    logits = torch.full_like(empty.logits, -12.0)
    # ten of the sixteen cells inside are taught: those that already say so most surely
    rows = fine.nonzero()[:10, 0]
    logits[0, rows, 1] = 12.0
    perfect = empty._replace(side_logits=side_logits_of(sides[None]), logits=logits)
    goal = targets([box.tolist()], [1])
    loss = detection_loss(perfect, goal)
    assert loss['boxes'] < 1e-3
    assert loss['scores'] < 0.05
    wrong = detection_loss(grid_of(side=4.0), goal)
    assert wrong['boxes'] > 0.5 and wrong['scores'] > 10.0 * loss['scores']
    # whole cells apart, the nearest bins are sure; in between, half and half costs ln 2
    assert loss['sides'] < 0.5 * 0.70


def test_an_ignored_box_costs_nothing():
    """What is said of an ignored box's class inside it is free, elsewhere it is not."""
    grid = grid_of(scores=0.02)
    ignored = targets([[0.0, 0.0, 32.0, 64.0]], [1], ignored=[0])
    before = detection_loss(grid, ignored)
    loud = grid.logits.clone()
    inside = (grid.centers[:, 0] < 32.0)
    loud[0, inside, 1] = 5.0
    assert detection_loss(grid._replace(logits=loud), ignored)['scores'] == before['scores']
    assert before['boxes'] == 0.0 and before['sides'] == 0.0
    loud[0, inside, 0] = 5.0
    assert detection_loss(grid._replace(logits=loud), ignored)['scores'] > before['scores'] + 10
    loud = grid.logits.clone()
    loud[0, ~inside, 1] = 5.0
    assert detection_loss(grid._replace(logits=loud), ignored)['scores'] > before['scores'] + 10


def test_a_picture_without_boxes_has_finite_gradients():
    grid = grid_of()
    logits = grid.logits.clone().requires_grad_()
    filling = BoxTargets(torch.zeros(1, 1, 4), torch.zeros(1, 1, dtype=torch.int64),
                         torch.zeros(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.bool))
    sum(detection_loss(grid._replace(logits=logits), filling).values()).backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad > 0.0).all(), 'every score is to fall'


def test_following_the_gradient_finds_the_box():
    """Free cells, taught for a while, end on the box."""
    grid = grid_of(side=3.0)
    logits = grid.logits.clone().requires_grad_()
    sides = torch.zeros_like(grid.side_logits).requires_grad_()
    goal = targets([[12.0, 20.0, 50.0, 44.0]], [0])
    optimizer = torch.optim.Adam([logits, sides], 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        taught = grid._replace(logits=logits, side_logits=sides)
        sum(detection_loss(taught, goal).values()).backward()
        optimizer.step()
    scores = taught.logits.sigmoid()[0, :, 0]
    assert scores.max() > 0.9
    found = taught.boxes()[0, scores.argmax()]
    torch.testing.assert_close(found, goal.boxes_xyxy[0, 0], atol=0.5, rtol=0.0)
