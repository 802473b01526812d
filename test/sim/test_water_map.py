"""The simulator's lake, seen from a boat that rolls: what the map of it holds."""

import numpy as np
import pytest

pytest.importorskip('mujoco')

from perception_nodes.core.geometry import deproject, transform_points  # noqa: E402
from perception_nodes.core.mapping import MappingParams, ObstacleMapper  # noqa: E402
from perception_nodes.core.types import VelocityCommand  # noqa: E402
from perception_nodes.core.water_surface import WaterPlane  # noqa: E402
from perception_nodes.sim.classes import class_id  # noqa: E402
from perception_nodes.sim.simulator import CAMERA, Simulator, SimulatorParams  # noqa: E402

WATER = class_id('floor')
RANGE_M = 4.0
ERROR_M = 0.3  # within which things stand on the map, up to RANGE_M
MOMENTS = 12


def lake(seed):
    return Simulator(SimulatorParams(world='water', renderer='rays', noise=False), seed)


def test_water_ends_at_the_horizon():
    """Rendered masks against the line that roll and pitch of a moving hull give."""
    simulator = lake(1)
    tilts = []
    for _ in range(4):
        simulator.step(VelocityCommand(), 0.4)
        truth = simulator.truth(CAMERA)
        up = truth.view.map_from_camera[2, :3].copy()
        tilts.append(np.degrees(np.arctan2(up[0], -up[1])))
        line = WaterPlane(up, float(truth.view.map_from_camera[2, 3])).horizon(
            truth.view.intrinsics)
        rows, columns = np.nonzero((truth.class_mask == WATER) | (truth.class_mask == 255))
        signed = line[0] * columns + line[1] * rows + line[2]
        is_water = truth.class_mask[rows, columns] == WATER
        assert is_water[signed < -1.0].all()
        assert not is_water[signed > 1.0].any()
    assert np.ptp(tilts) > 0.5


@pytest.mark.parametrize('seed', [3, 5, 8])
def test_floating_things_are_on_the_map_and_open_water_is_free(seed):
    """From masks alone: near things within 30 cm, and not one occupied cell farther off any."""
    simulator = lake(seed)
    mapper = ObstacleMapper(MappingParams(
        map_frame='map', base_frame='', surface='water', use_mask=True, max_depth_m=RANGE_M,
        water_classes=(str(WATER),)))
    seen = []
    for _ in range(MOMENTS):
        simulator.step(VelocityCommand(), 0.25)
        truth = simulator.truth(CAMERA)
        view = truth.view
        under = np.eye(4)
        under[:2, 3] = view.map_from_camera[:2, 3]
        mapper.move(under, truth.stamp_ns)
        mapper.integrate(mapper.view_water(
            truth.class_mask, view.intrinsics, view.map_from_camera, under))
        points = transform_points(
            view.map_from_camera, deproject(truth.depth_m, view.intrinsics))
        is_near = (truth.depth_m < RANGE_M) & (points[..., 2] > 0.05) & (points[..., 2] < 1.8)
        seen.append({o.name: points[is_near & (truth.instance_mask == o.instance_id)]
                     for o in truth.objects})
        others = points[is_near & (truth.instance_mask == 0) & (truth.class_mask != WATER)]
        seen[-1]['shore'] = others[np.isfinite(others[:, 0])]
    grid = mapper.occupancy()
    rows, columns = np.nonzero(grid.cells == 100)
    cells = np.stack([columns, rows], 1) * grid.resolution_m + grid.origin_xy_m + 0.025
    surfaces = np.concatenate([p for moment in seen for p in moment.values()])[:, :2]
    nearest = np.array([np.hypot(*(surfaces - cell).T).min() for cell in cells])
    assert (nearest < ERROR_M).all(), nearest.max()
    for name, points in seen[-1].items():
        if len(points) > 60:
            off = np.hypot(*(cells[:, None] - points[None, ::5, :2]).transpose(2, 0, 1))
            assert off.min() < 0.1, name
    assert (grid.cells == 0).sum() > 1000
