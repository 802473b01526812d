"""
Corridors full of posts, grown by cellular automata as those of the BARN challenge.

D. Perille, A. Truong, X. Xiao and P. Stone, "Benchmarking Metric Ground Navigation" (2020):
cells of 15 cm are filled at random and smoothed by their neighbours; a filled cell is a post of
7.5 cm radius.
"""

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.sim.classes import class_id
from perception_nodes.sim.parts import box, cylinder, Paint
from perception_nodes.sim.poses import Pose
from perception_nodes.sim.scene import Light, LONG_ROBOT, RobotStart, Scene, Shape, Split, Thing
from perception_nodes.sim.worlds.lighting import tinted

CELLS = 30
CELL_M = 0.15
FILLS = (0.15, 0.20, 0.25, 0.30)
SMOOTHINGS = (2, 3, 4)
POST_RADIUS_M = 0.075
FIRST_POST_M = (-4.425, 5.175)  # cell (0, 0); rows along x, columns along y
START = (-2.25, 3.0, np.pi / 2)
GOAL_M = (-2.25, 13.0)
_WIDTH_CELLS = 4  # a robot of 0.43 m and some air


def make_corridor(seed: int, split: Split) -> Scene:
    """Draw a corridor through which some way leads; every stratum is equally likely."""
    rng = np.random.default_rng(seed)
    fill, smoothing = float(rng.choice(FILLS)), int(rng.choice(SMOOTHINGS))
    while not is_passable(cells := grown_cells(rng, fill, smoothing)):
        pass  # drawn again from the same stratum: hard strata must not become rare
    return corridor_scene(cells, seed, split)


def grown_cells(rng: np.random.Generator, fill: float,
                smoothing: int) -> npt.NDArray[np.bool_]:
    """
    Grow one field.

    :param fill: Share of cells that are filled at first.
    :param smoothing: How often a cell is filled by five or more of its neighbours and emptied
        by one or none.
    :return: (CELLS, CELLS), rows along x, columns along y.
    """
    cells = (rng.random((CELLS, CELLS)) < fill).astype(np.float32)
    kernel = np.ones((3, 3), np.float32)
    kernel[1, 1] = 0.0
    for _ in range(smoothing):
        around = np.round(cv2.filter2D(cells, -1, kernel, borderType=cv2.BORDER_CONSTANT))
        cells = np.where(around >= 5, 1.0, np.where(around <= 1, 0.0, cells)).astype(np.float32)
    cells[[0, -1]] = 1.0  # the sides
    return cells > 0.5


def is_passable(cells: npt.NDArray[np.bool_]) -> bool:
    """Return whether a robot of four cells' width can get from one end to the other."""
    size = _WIDTH_CELLS
    padded = np.pad(cells.astype(np.uint8), ((0, 0), (6, 6)))
    free = (cv2.dilate(padded, np.ones((size, size), np.uint8)) == 0).astype(np.uint8)
    _, areas = cv2.connectedComponents(free, connectivity=4)
    return bool(set(areas[free[:, 0] > 0, 0]) & set(areas[free[:, -1] > 0, -1]))


def corridor_scene(cells: npt.NDArray[np.bool_], seed: int = 0,
                   split: Split = 'test') -> Scene:
    """
    Build the world of a grid, for example one of the BARN data set.

    :param cells: (30, 30), nonzero where a post stands.
    """
    rng = np.random.default_rng([seed, 1])
    paint = Paint(rng, split)
    floor = paint.any_of(('planks', 'tiles', 'carpet', 'checker', 'plaster'), 0.8)
    high = paint.uniform(0.5, 1.0)
    post = paint.any_of(('', 'stripes', 'wood', 'plaster'))
    wall = paint.any_of(('plaster', 'bricks', 'wood', 'stripes'), 1.0)
    posts = tuple(
        cylinder(POST_RADIUS_M, high / 2,
                 (FIRST_POST_M[0] + CELL_M * r, FIRST_POST_M[1] + CELL_M * c, high / 2), post)
        for r, c in np.argwhere(cells).tolist())
    left, right, front, back = -4.5, 0.0, 1.0, 5.1
    middle = (front + back) / 2
    walls = (
        box((0.05, (back - front) / 2, high / 2), (left - 0.05, middle, high / 2), wall),
        box((0.05, (back - front) / 2, high / 2), (right + 0.05, middle, high / 2), wall),
        box(((right - left) / 2, 0.05, high / 2), ((left + right) / 2, front - 0.05, high / 2),
            wall))
    things = [Thing('floor', 'floor', class_id('floor'),
                    (Shape('plane', (0.0, 0.0, 0.0), floor),), Pose()),
              Thing('walls', 'wall', class_id('wall'), walls, Pose())]
    if posts:
        things.append(Thing('posts', 'wall', class_id('wall'), posts, Pose()))
    bright = paint.uniform(0.75, 1.3)
    lamps = tuple(Light((paint.uniform(-6, 2), y, 4.0), (0.0, 0.0, -1.0),
                        tinted(rng, 0.5 * bright)) for y in (3.0, 9.0))
    return Scene(
        'corridor', seed, split, tuple(things), lamps, ambient=tinted(rng, 0.35 * bright),
        headlight=tinted(rng, 0.15 * bright), sky=((0.5, 0.65, 0.95), (0.85, 0.9, 0.97)),
        bounds_xy_m=(-6.0, 0.0, 1.5, 15.0), robot=RobotStart(*START, LONG_ROBOT),
        goal_xy_m=GOAL_M)
