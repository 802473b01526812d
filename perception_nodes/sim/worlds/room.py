"""Furnished rooms: walls with doorways, furniture along them, clutter, people."""

from dataclasses import replace
import math

import cv2
import numpy as np
from perception_nodes.sim import furniture
from perception_nodes.sim.classes import class_id
from perception_nodes.sim.families import draw_family
from perception_nodes.sim.furniture import Piece, Support
from perception_nodes.sim.parts import box, moved, Paint, Parts
from perception_nodes.sim.placing import Ground, half_size, Spot
from perception_nodes.sim.poses import looking_at, Pose
from perception_nodes.sim.scene import (
    bounds,
    Light,
    occupancy,
    RobotStart,
    Scene,
    Shape,
    Split,
    Surface,
    Thing,
    Workspace,
)
from perception_nodes.sim.worlds.lighting import tinted

WALL_M = 0.1  # thickness
DOOR_HEIGHT_M = 2.0
_ORIGIN = Pose()
_MAKERS = {
    'table': furniture.table, 'chair': furniture.chair, 'shelf': furniture.shelf,
    'sofa': furniture.sofa, 'bin': furniture.bin_, 'plant': furniture.plant,
    'person': furniture.person}


def make_room(seed: int, split: Split) -> Scene:
    """
    Draw a furnished room; the same seed gives the same room.

    :param split: Which families and textures it may contain.
    """
    # a crowded draw may leave the robot no way; the next draw of the same seed is as good
    for attempt in range(20):
        scene = _Room(seed, split, np.random.default_rng([seed, attempt])).scene()
        if scene is not None:
            return scene
    raise RuntimeError(f'no room of seed {seed} has space for the robot')


class _Room:
    """A room while it is being furnished."""

    def __init__(self, seed: int, split: Split, rng: np.random.Generator) -> None:
        self.seed, self.split, self.rng = seed, split, rng
        self.paint = Paint(rng, split)
        self.half_x, self.half_y = self.paint.uniform(2.0, 4.2), self.paint.uniform(2.0, 4.2)
        self.height = self.paint.uniform(2.3, 3.0)
        self.things: list[Thing] = []
        self.ground = Ground()
        self.workspace: Workspace | None = None

    def scene(self) -> Scene | None:
        self._build_shell()
        self._furnish()
        self._add_people()
        self._litter()
        free = self._free_places()
        if free is None:
            return None
        x, y = free[int(self.rng.integers(len(free)))]
        far = free[np.hypot(*(free - (x, y)).T) > 1.5]
        goal = far[int(self.rng.integers(len(far)))] if len(far) else free[0]
        yaw = math.atan2(-y, -x) + self.paint.uniform(-0.9, 0.9)
        bright = self.paint.uniform(0.75, 1.35)
        return Scene(
            'room', self.seed, self.split, tuple(self.things), self._lights(bright),
            ambient=tinted(self.rng, self.paint.uniform(0.28, 0.45) * bright),
            headlight=tinted(self.rng, self.paint.uniform(0.05, 0.25) * bright),
            sky=((0.55, 0.7, 0.95), (0.85, 0.9, 0.97)),
            bounds_xy_m=(-self.half_x - 3.0, -self.half_y - 3.0,
                         self.half_x + 3.0, self.half_y + 3.0),
            interior_xy_m=(-self.half_x, -self.half_y, self.half_x, self.half_y),
            robot=RobotStart(float(x), float(y), yaw), goal_xy_m=(float(goal[0]), float(goal[1])),
            workspace=self.workspace, settle_s=0.3)

    def _add(self, kind: str, family: str, parts: Parts, pose: Pose = _ORIGIN) -> None:
        self.things.append(Thing(
            f'{family}_{len(self.things)}', family, class_id(kind), parts, pose))

    def _build_shell(self) -> None:
        paint, hx, hy = self.paint, self.half_x, self.half_y
        floor = paint.textured(
            str(self.rng.choice(['planks', 'tiles', 'carpet', 'wood', 'checker', 'marble'])),
            paint.pale() if self.rng.random() < 0.6 else paint.colour(),
            paint.uniform(0.4, 1.2))
        self._add('floor', 'floor', (Shape('plane', (0.0, 0.0, 0.0), floor),))
        if self.rng.random() < 0.5:
            size = (paint.uniform(0.6, 1.4), paint.uniform(0.5, 1.0), 0.004)
            rug = box(size, (paint.uniform(-0.3, 0.3) * hx, paint.uniform(-0.3, 0.3) * hy, 0.0),
                      paint.any_of(('carpet', 'weave', 'stripes', 'checker'), 1.5),
                      yaw=paint.uniform(0, 1.6))
            self._add('floor', 'rug', (replace(rug, collides=False),))
        self.wall = paint.any_of(('plaster', 'plaster', 'stripes', 'bricks', 'dots', ''), 1.0)
        self.wall = replace(self.wall, rgb=paint.pale(), specular=0.05)
        if self.rng.random() < 0.8:
            ceiling = paint.plain((0.95, 0.95, 0.93), 0.0)
            self._add('wall', 'ceiling', (box((hx, hy, 0.05), (0, 0, self.height + 0.05),
                                              ceiling),))
        doors = set(self.rng.choice(4, size=int(self.rng.integers(1, 3)), replace=False).tolist())
        frames = paint.wood()
        for side in range(4):
            half = hy if side % 2 == 0 else hx
            away = hx if side % 2 == 0 else hy
            to_room = Pose.at(0, 0, 0, yaw_rad=side * math.pi / 2)
            self._build_wall(half, away, to_room, frames if side in doors else None)
        if self.rng.random() < 0.6:  # what is seen through the doorways
            self._add('wall', 'hall', tuple(
                box(half, at, self.wall) for half, at in (
                    ((WALL_M / 2, hy + 3, self.height / 2), (hx + 2.8, 0, self.height / 2)),
                    ((WALL_M / 2, hy + 3, self.height / 2), (-hx - 2.8, 0, self.height / 2)),
                    ((hx + 3, WALL_M / 2, self.height / 2), (0, hy + 2.8, self.height / 2)),
                    ((hx + 3, WALL_M / 2, self.height / 2), (0, -hy - 2.8, self.height / 2)))))

    def _build_wall(self, half: float, away: float, to_room: Pose,
                    frame: Surface | None) -> None:
        """Raise the wall at x = away of its own frame, from y = -half to half."""
        paint, x, high = self.paint, away + WALL_M / 2, self.height
        if frame is None:
            self._add_wall(((-half - WALL_M, half + WALL_M, 0.0, high),), x, to_room)
            self._decorate(half, away, to_room)
            return
        wide = paint.uniform(0.8, 1.1)
        door = paint.uniform(-0.6, 0.6) * (half - wide)
        left, right = door - wide / 2, door + wide / 2
        self._add_wall(((-half - WALL_M, left, 0.0, high), (right, half + WALL_M, 0.0, high),
                        (left, right, DOOR_HEIGHT_M, high)), x, to_room)
        thick = paint.uniform(0.03, 0.05)
        deep = WALL_M / 2 + 0.015
        parts = [
            box((deep, thick, DOOR_HEIGHT_M / 2), (x, left, DOOR_HEIGHT_M / 2), frame),
            box((deep, thick, DOOR_HEIGHT_M / 2), (x, right, DOOR_HEIGHT_M / 2), frame),
            box((deep, wide / 2 + thick, thick), (x, door, DOOR_HEIGHT_M), frame)]
        if self.rng.random() < 0.5:  # a door that stands open, outwards
            swing, reach = paint.uniform(1.2, 1.7), wide / 2 - 0.05
            leaf = (x + 0.03 + reach * math.sin(swing), left + 0.05 + reach * math.cos(swing),
                    DOOR_HEIGHT_M / 2)
            parts.append(box((reach, 0.02, DOOR_HEIGHT_M / 2 - 0.03), leaf, frame,
                             yaw=math.pi / 2 - swing))
        self._add('door_frame', 'door_frame', moved(tuple(parts), to_room))
        keep_free = to_room.matrix @ np.array([away - 0.4, door, 0.0, 1.0])
        self.ground.take(Spot(float(keep_free[0]), float(keep_free[1]),
                              0.0, 0.5, 0.5))

    def _add_wall(self, pieces: tuple, x: float, to_room: Pose) -> None:
        # local z of a slab points into the room, so that its texture lies on the broad side
        slabs = tuple(
            Shape('box', ((y1 - y0) / 2, (z1 - z0) / 2, WALL_M / 2), self.wall,
                  Pose.from_matrix(_facing(x, (y0 + y1) / 2, (z0 + z1) / 2)))
            for y0, y1, z0, z1 in pieces)
        self._add('wall', 'wall', moved(slabs, to_room))

    def _decorate(self, half: float, away: float, to_room: Pose) -> None:
        """Hang pictures and windows, which belong to the wall."""
        paint, parts = self.paint, []
        for _ in range(int(self.rng.integers(0, 3))):
            y, z = paint.uniform(-0.8, 0.8) * half, paint.uniform(1.3, 1.7)
            if self.rng.random() < 0.4:
                glass = paint.plain((0.75, 0.87, 0.98), 0.3)
                wide, tall = paint.uniform(0.35, 0.7), paint.uniform(0.35, 0.6)
                bars = paint.plain((0.95, 0.95, 0.95))
                parts += [box((0.006, wide, tall), (away, y, z), glass),
                          box((0.014, 0.02, tall), (away, y, z), bars),
                          *(box((0.016, wide + 0.03, 0.025), (away, y, z + s * tall), bars)
                            for s in (-1, 1)),
                          *(box((0.016, 0.025, tall), (away, y + s * wide, z), bars)
                            for s in (-1, 1))]
            else:
                wide, tall = paint.uniform(0.15, 0.4), paint.uniform(0.15, 0.35)
                parts += [box((0.01, wide + 0.02, tall + 0.02), (away, y, z), paint.wood()),
                          box((0.014, wide, tall), (away, y, z),
                              paint.any_of(('label', 'marble', 'peel', 'cover')))]
        if self.rng.random() < 0.6:
            parts.append(box((0.012, half, 0.04), (away, 0, 0.04), paint.wood()))
        if parts:
            self._add('wall', 'decoration', moved(tuple(parts), to_room))

    def _furnish(self) -> None:
        rng = self.rng
        for kind, low, high in (('sofa', 1, 2), ('shelf', 1, 3)):
            for _ in range(int(rng.integers(low, high + 1))):
                self._place_by_wall(kind)
        for _ in range(int(rng.integers(1, 4))):
            self._place_table()
        for kind, low, high in (('plant', 0, 2), ('bin', 0, 3), ('chair', 0, 2)):
            for _ in range(int(rng.integers(low, high + 1))):
                if rng.random() < 0.6:
                    self._place_by_wall(kind)
                else:
                    self._place_freely(kind)

    def _place_by_wall(self, kind: str) -> None:
        piece = _MAKERS[kind](self.paint)
        half_x, half_y = half_size(piece.parts)
        for _ in range(8):
            side = int(self.rng.integers(4))
            half, away = ((self.half_y, self.half_x) if side % 2 == 0
                          else (self.half_x, self.half_y))
            if half <= half_y + 0.05:
                continue
            yaw = side * math.pi / 2
            gap = self.paint.uniform(0.03, 0.15)
            aside = self.paint.uniform(-1, 1) * (half - half_y - 0.03)
            local = Pose.at(away - half_x - gap, aside)
            x, y, _ = (Pose.at(0, 0, 0, yaw).matrix @ local.matrix)[:3, 3].tolist()
            spot = Spot(x, y, yaw + math.pi, half_x, half_y)
            if self.ground.is_free(spot, 0.03):
                self._put(kind, piece, spot)
                return

    def _place_freely(self, kind: str, margin_m: float = 0.15) -> Spot | None:
        piece = _MAKERS[kind](self.paint)
        half_x, half_y = half_size(piece.parts)
        for _ in range(8):
            reach = math.hypot(half_x, half_y)
            if min(self.half_x, self.half_y) <= reach + 0.1:
                return None
            spot = Spot(self.paint.uniform(-1, 1) * (self.half_x - reach - 0.05),
                        self.paint.uniform(-1, 1) * (self.half_y - reach - 0.05),
                        self.paint.uniform(-math.pi, math.pi), half_x, half_y)
            if self.ground.is_free(spot, margin_m):
                self._put(kind, piece, spot)
                return spot
        return None

    def _place_table(self) -> None:
        spot = self._place_freely('table', 0.35)
        if spot is None:
            return
        if self.workspace is None:
            self.workspace = self._over(spot, self.things_top)
        count = int(self.rng.integers(0, 5))
        for _ in range(count):
            piece = furniture.chair(self.paint)
            half_x, half_y = half_size(piece.parts)
            side = int(self.rng.integers(4))
            along, across = ((spot.half_x_m, spot.half_y_m) if side % 2 == 0
                             else (spot.half_y_m, spot.half_x_m))
            turn = spot.yaw_rad + side * math.pi / 2
            ahead = along + half_x + self.paint.uniform(0.0, 0.2)
            aside = self.paint.uniform(-0.5, 0.5) * across
            x = spot.x_m + ahead * math.cos(turn) - aside * math.sin(turn)
            y = spot.y_m + ahead * math.sin(turn) + aside * math.cos(turn)
            seat = Spot(x, y, turn + math.pi + self.paint.uniform(-0.4, 0.4), half_x, half_y)
            inside = np.abs(seat.corners()) < (self.half_x, self.half_y)
            if inside.all() and self.ground.is_free(seat, 0.01):
                self._put('chair', piece, seat)

    def _over(self, spot: Spot, top_m: float) -> Workspace:
        """Hang the second camera over a table."""
        angle, away = self.paint.uniform(-math.pi, math.pi), self.paint.uniform(0.25, 0.5)
        centre = (spot.x_m, spot.y_m, top_m)
        eye = (spot.x_m + away * math.cos(angle), spot.y_m + away * math.sin(angle),
               top_m + self.paint.uniform(0.7, 0.95))
        return Workspace(
            centre, (min(0.3, spot.half_x_m), min(0.3, spot.half_y_m)),
            tuple(tuple(row) for row in looking_at(eye, centre).tolist()))

    def _put(self, kind: str, piece: Piece, spot: Spot) -> None:
        pose = Pose.at(spot.x_m, spot.y_m, 0.0, spot.yaw_rad)
        self._add(kind, kind, piece.parts, pose)
        self.ground.take(spot)
        self.things_top = float(bounds(piece.parts)[1][2])
        for support in piece.supports:
            self._clutter(support, pose, dense=kind == 'table')

    def _clutter(self, support: Support, pose: Pose, dense: bool) -> None:
        """Set small things on a surface, each on ground of its own."""
        ground = Ground()
        area = 4.0 * support.half_x_m * support.half_y_m
        most = 3 + min(9, round(area * (14 if dense else 10)))
        for _ in range(int(self.rng.integers(2 if dense else 0, most))):
            family = draw_family(self.paint, self.split)
            parts = family.build(self.paint)
            half_x, half_y = half_size(parts)
            if bounds(parts)[1][2] > support.headroom_m:
                continue
            for _ in range(4):
                yaw = self.paint.uniform(-math.pi, math.pi)
                reach = math.hypot(half_x, half_y)
                if reach > min(support.half_x_m, support.half_y_m):
                    break
                spot = Spot(
                    support.x_m + self.paint.uniform(-1, 1) * (support.half_x_m - reach),
                    self.paint.uniform(-1, 1) * (support.half_y_m - reach), yaw, half_x, half_y)
                if ground.is_free(spot, 0.006):
                    ground.take(spot)
                    at = pose.matrix @ Pose.at(
                        spot.x_m, spot.y_m, support.z_m + 0.0005, yaw).matrix
                    self._add_object(family.name, parts, Pose.from_matrix(at),
                                     family.class_id, family.density_kgpm3)
                    break

    def _add_object(self, family: str, parts: Parts, pose: Pose, label: int,
                    density_kgpm3: float) -> None:
        self.things.append(Thing(f'{family}_{len(self.things)}', family, label, parts, pose,
                                 motion='free', density_kgpm3=density_kgpm3))

    def _litter(self) -> None:
        """Leave a few small things on the floor."""
        for _ in range(int(self.rng.integers(0, 4))):
            family = draw_family(self.paint, self.split)
            parts = family.build(self.paint)
            half_x, half_y = half_size(parts)
            spot = Spot(self.paint.uniform(-0.9, 0.9) * self.half_x,
                        self.paint.uniform(-0.9, 0.9) * self.half_y,
                        self.paint.uniform(-math.pi, math.pi), half_x, half_y)
            if self.ground.is_free(spot, 0.02):
                self.ground.take(spot)
                self._add_object(family.name, parts, Pose.at(spot.x_m, spot.y_m, 0.0005,
                                                             spot.yaw_rad),
                                 family.class_id, family.density_kgpm3)

    def _add_people(self) -> None:
        for _ in range(int(self.rng.integers(0, 4))):
            walks = self.rng.random() < 0.5
            spot = self._place_freely('person', 0.2)
            if spot is None or not walks:
                continue
            path = self._path_from(spot)
            if len(path) > 1:
                # a thing that walks is where its path says; its own turn is that of its steps
                self.things[-1] = replace(
                    self.things[-1], motion='walks', path_xy_m=path,
                    speed_mps=self.paint.uniform(0.3, 1.0))

    def _path_from(self, start: Spot) -> tuple[tuple[float, float], ...]:
        """Find a few points that straight free ways connect."""
        others = [spot for spot in self.ground.taken if spot is not start]
        path = [(start.x_m, start.y_m)]
        for _ in range(12):
            x = self.paint.uniform(-1, 1) * (self.half_x - 0.4)
            y = self.paint.uniform(-1, 1) * (self.half_y - 0.4)
            dx, dy = x - path[-1][0], y - path[-1][1]
            length = math.hypot(dx, dy)
            way = Spot(path[-1][0] + dx / 2, path[-1][1] + dy / 2, math.atan2(dy, dx),
                       length / 2 + 0.35, 0.35)
            if length > 0.8 and not any(way.overlaps(other) for other in others):
                path.append((x, y))
            if len(path) == 4:
                break
        return tuple(path)

    def _free_places(self) -> np.ndarray | None:
        """Return (N, 2) places of the largest connected area the robot fits in; None if small."""
        draft = Scene(
            'room', self.seed, self.split, tuple(self.things), (), (0, 0, 0), (0, 0, 0),
            ((0, 0, 0), (0, 0, 0)), (-self.half_x, -self.half_y, self.half_x, self.half_y))
        grid = occupancy(draft, 0.02, 1.0)
        blocked = cv2.copyMakeBorder((grid.cells > 0).astype(np.uint8), 1, 1, 1, 1,
                                     cv2.BORDER_CONSTANT, value=1)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))
        free = (cv2.dilate(blocked, kernel) == 0).astype(np.uint8)[1:-1, 1:-1]
        count, areas, stats, _ = cv2.connectedComponentsWithStats(free)
        if count < 2:
            return None
        best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        rows, columns = np.nonzero(areas == best)
        if len(rows) * grid.resolution_m ** 2 < 1.0:
            return None
        return np.column_stack([columns + 0.5, rows + 0.5]) * grid.resolution_m + grid.origin_xy_m

    def _lights(self, bright: float) -> tuple[Light, ...]:
        count = int(self.rng.integers(1, 4))
        return tuple(Light(
            (self.paint.uniform(-0.7, 0.7) * self.half_x,
             self.paint.uniform(-0.7, 0.7) * self.half_y, self.height - 0.1),
            (0.0, 0.0, -1.0),
            tinted(self.rng, bright * self.paint.uniform(0.35, 0.75) / math.sqrt(count)))
            for _ in range(count))


def _facing(x: float, y: float, z: float) -> np.ndarray:
    """Return a frame whose z points along -x, x along y and y up."""
    return np.array([[0.0, 0.0, -1.0, x], [-1.0, 0.0, 0.0, y], [0.0, 1.0, 0.0, z],
                     [0.0, 0.0, 0.0, 1.0]])
