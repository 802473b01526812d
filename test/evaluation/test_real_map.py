"""The obstacle map of real frames: a dining room, hand-held, with no robot in its transforms."""

import cv2
import numpy as np
from perception_nodes.conversions import decode
from perception_nodes.core.geometry import deproject, transform_points
from perception_nodes.core.mapping import MappingParams, ObstacleMapper
from perception_nodes.core.transforms import TransformBuffer
from perception_nodes.evaluation.bag import Bag
import pytest

pytestmark = pytest.mark.data

COLOR = '/camera/color'
DEPTH = '/camera/aligned_depth_to_color/image_raw'


@pytest.fixture(scope='module')
def room(data_dir):
    """Map the bag; return the map, and the points within 4 m as the transforms place them."""
    transforms, depths, intrinsics = TransformBuffer(), [], None
    with Bag(data_dir / 'bags' / 'dining_room') as bag:
        for message in bag.messages():
            if message.topic == '/tf':
                transforms.add(map(decode.transform_from_msg, message.content.transforms))
            elif message.topic == f'{COLOR}/camera_info':
                intrinsics = decode.intrinsics_from_msg(message.content)
            elif message.topic == DEPTH:
                depths.append(message.content)
    mapper, points = ObstacleMapper(MappingParams(base_frame='')), []
    for msg in depths:
        depth_m = decode.depth_m_from_msg(msg)
        stamp_ns = decode.stamp_ns_from_msg(msg.header.stamp)
        odom_from_camera = transforms.lookup('odom', msg.header.frame_id, stamp_ns)
        under_camera = np.eye(4)
        under_camera[:2, 3] = odom_from_camera[:2, 3]
        view = mapper.view(depth_m, intrinsics, odom_from_camera, under_camera)
        assert not mapper.move(under_camera, stamp_ns)
        mapper.integrate(view)
        seen = deproject(depth_m, intrinsics).reshape(-1, 3)
        points.append(transform_points(odom_from_camera, seen[seen[:, 2] < 4.0]))
    return mapper.occupancy(), np.concatenate(points)


def cells_with(occupancy, points, least):
    """Return the (N, N) cells in which there are at least so many of the points."""
    at = np.floor((points[:, :2] - occupancy.origin_xy_m) / occupancy.resolution_m).astype(int)
    at = at[((at >= 0) & (at < occupancy.cells.shape[0])).all(axis=1)]
    counts = np.zeros(occupancy.cells.shape, int)
    np.add.at(counts, (at[:, 1], at[:, 0]), 1)
    return counts >= least


def near(cells):
    return cv2.dilate(cells.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


@pytest.mark.parametrize(('heights_m', 'least_cells'), [
    ((0.70, 0.80), 300), ((0.85, 1.2), 200), ((0.12, 1.7), 1000)],
    ids=['table top', 'chairs and cabinet', 'everything'])
def test_furniture_is_occupied(room, heights_m, least_cells):
    """Where many points are at its height, the map has an obstacle, a cell more or less."""
    occupancy, points = room
    inside = (points[:, 2] > heights_m[0]) & (points[:, 2] < heights_m[1])
    furniture = cells_with(occupancy, points[inside], 20)
    assert furniture.sum() > least_cells
    found = furniture & near(occupancy.cells == 100)
    assert found.sum() > 0.95 * furniture.sum()


def test_the_floor_is_free(room):
    """Cells with points of the floor and none over it are free, and hardly one is occupied."""
    occupancy, points = room
    floor = cells_with(occupancy, points[np.abs(points[:, 2]) < 0.05], 5)
    floor &= ~near(cells_with(occupancy, points[(points[:, 2] > 0.12) & (points[:, 2] < 1.7)], 1))
    assert floor.sum() > 1500
    assert (occupancy.cells[floor] == 0).mean() > 0.95
    assert (occupancy.cells[floor] == 100).mean() < 0.01
