"""Pictures of worlds and of the ways that were driven through them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.evaluation.navigation import Drive
from perception_nodes.sim.navigation_worlds import NavigationWorld

_PIXELS_PER_M = 24
_COLUMNS = 8
_MOST_WORLDS = 16
_WALL, _PERSON, _GOAL = (60, 60, 60), (200, 120, 220), (60, 170, 60)
# BGR, one a policy
_COLOURS = ((200, 90, 20), (20, 110, 220), (150, 150, 150), (160, 40, 160), (60, 150, 60),
            (30, 190, 220))
_HIT = (0, 0, 230)


def write_trajectories(
    path: Path, worlds: Sequence[NavigationWorld], drives: Mapping[str, Sequence[Drive]]
) -> None:
    """
    Write one picture with a tile for each of up to 16 worlds, spread over all of them.

    Each policy has its colour, named in the first tile; a red cross is a collision, a ring the
    goal, a dot the end of a way that led nowhere.

    :param drives: Episodes by the name of their policy; the first in each world is drawn.
    :raises OSError: If the picture cannot be written.
    """
    shown = np.unique(np.linspace(0, len(worlds) - 1, _MOST_WORLDS).round().astype(int)).tolist()
    sizes = [_size(worlds[i]) for i in shown]
    width, height = np.max(sizes, axis=0).tolist()
    across = min(_COLUMNS, len(shown))
    rows = []
    for first in range(0, len(shown), across):
        tiles = [_tile(worlds[i], i, drives, (width, height))
                 for i in shown[first:first + across]]
        tiles += [np.full_like(tiles[0], 255)] * (across - len(tiles))
        rows.append(np.concatenate(tiles, axis=1))
    picture = np.concatenate(rows)
    for k, name in enumerate(drives):
        cv2.putText(picture, name.rstrip('_') or 'learned', (4, height - 6 - 14 * k),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.42, _COLOURS[k % len(_COLOURS)], 1, cv2.LINE_AA)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), picture):
        raise OSError(f'{path} could not be written')


def _size(world: NavigationWorld) -> tuple[int, int]:
    x0, y0, x1, y1 = world.corners_m
    return int((x1 - x0) * _PIXELS_PER_M) + 1, int((y1 - y0) * _PIXELS_PER_M) + 1


def _tile(
    world: NavigationWorld, index: int, drives: Mapping[str, Sequence[Drive]],
    size: tuple[int, int],
) -> npt.NDArray[np.uint8]:
    image = np.full((size[1], size[0], 3), 255, np.uint8)

    def pixel(x: float, y: float) -> tuple[int, int]:
        return (round((x - world.corners_m[0]) * _PIXELS_PER_M),
                round((world.corners_m[3] - y) * _PIXELS_PER_M))

    for x, y, radius in world.posts.tolist():
        cv2.circle(image, pixel(x, y), max(1, round(radius * _PIXELS_PER_M)), _WALL, -1)
    for x0, y0, x1, y1 in world.walls.tolist():
        cv2.line(image, pixel(x0, y0), pixel(x1, y1), _WALL, 2)
    for person in world.people:
        cv2.line(image, pixel(*person.from_xy_m), pixel(*person.to_xy_m), _PERSON, 1, cv2.LINE_AA)
        cv2.circle(image, pixel(*person.from_xy_m), round(person.radius_m * _PIXELS_PER_M),
                   _PERSON, 1, cv2.LINE_AA)
    cv2.circle(image, pixel(*world.goal_xy_m), round(world.tolerance_m * _PIXELS_PER_M), _GOAL, 1,
               cv2.LINE_AA)
    for k, found in enumerate(drives.values()):
        drive = next((d for d in found if d.world == index), None)
        if drive is None:
            continue
        colour = _COLOURS[k % len(_COLOURS)]
        line = np.array([pixel(x, y) for x, y, _ in drive.poses.tolist()])
        cv2.polylines(image, [line], False, colour, 1, cv2.LINE_AA)
        if drive.collided:
            cv2.drawMarker(image, line[-1].tolist(), _HIT, cv2.MARKER_TILTED_CROSS, 10, 2)
        elif not drive.reached:
            cv2.circle(image, line[-1].tolist(), 3, colour, -1)
    cv2.putText(image, world.name, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1,
                cv2.LINE_AA)
    return image
