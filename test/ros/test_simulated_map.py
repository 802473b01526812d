"""Simulator and obstacle map in one process: the map of a room against the true one."""

import math

import cv2
from nav_msgs.msg import OccupancyGrid
import numpy as np
from perception_nodes.ros.inference_node import LATCHED
from perception_nodes.ros.transforms import TransformListener
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import PointCloud2

pytest.importorskip('mujoco', reason='mujoco is not installed: the simulator needs it')
pytestmark = pytest.mark.graph

RANGE_M = 3.0
HALF_VIEW = math.radians(30.0)  # a little less than the camera's


def occupied_at(grid, x, y, reach=1):
    """Return whether cells are occupied at some places, or within some cells of them."""
    cells = (np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width) == 100)
    size = 2 * reach + 1
    wide = cv2.dilate(cells.astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    corner = grid.info.origin.position
    row = np.floor((y - corner.y) / grid.info.resolution).astype(int)
    column = np.floor((x - corner.x) / grid.info.resolution).astype(int)
    return wide[np.clip(row, 0, len(cells) - 1), np.clip(column, 0, cells.shape[1] - 1)]


def first_hits(truth, origin, yaw):
    """Return where rays in the camera's field of view first meet something, in 2D."""
    distances = np.arange(0.4, RANGE_M, 0.02)
    for angle in yaw + np.arange(-HALF_VIEW, HALF_VIEW, math.radians(0.5)):
        x, y = origin[0] + distances * math.cos(angle), origin[1] + distances * math.sin(angle)
        hit = np.flatnonzero(occupied_at(truth, x, y, reach=0))
        if hit.size:
            yield x[hit[0]], y[hit[0]]


def test_the_map_agrees_with_the_room(graph, start_node, tmp_path):
    """Camera and lidar: precision and recall within 3 m, ± 1 cell, are at least 0.97."""
    (tmp_path / 'params.yaml').write_text(
        'perception_container: {ros__parameters: {nodes: [simulation, obstacle_map]}}\n'
        'simulation: {ros__parameters: {renderer: rays, noise: false, seed: 3, '
        'camera_rate_hz: 5.0}}\n'
        'obstacle_map: {ros__parameters: {map_frame: map, max_height_m: 0.7, use_scan: true}}\n')
    start_node('ros.container', '--params-file', f'{tmp_path}/params.yaml',
               '-p', 'use_sim_time:=true', '-r', 'image:=/camera/color/image_raw',
               '-r', 'depth:=/camera/aligned_depth_to_color/image_raw',
               '-r', 'camera_info:=/camera/color/camera_info')
    maps = graph.collect(OccupancyGrid, '/obstacle_map/map', LATCHED)
    truths = graph.collect(OccupancyGrid, '/simulation/ground_truth/map', LATCHED)
    transforms = TransformListener(graph.node).buffer
    clouds = graph.collect(PointCloud2, '/obstacle_map/clearing', qos_profile_sensor_data)
    graph.wait_for(lambda: truths and len(clouds) >= 4 and maps, 'maps')
    grid, truth = maps[-1], truths[-1]
    stamp_ns = grid.header.stamp.sec * 10**9 + grid.header.stamp.nanosec
    map_from_camera = transforms.lookup('map', 'camera_color_optical_frame', stamp_ns, 60.0)
    cells = np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)
    rows, columns = np.nonzero(cells == 100)
    x = grid.info.origin.position.x + (columns + 0.5) * grid.info.resolution
    y = grid.info.origin.position.y + (rows + 0.5) * grid.info.resolution
    near = np.hypot(x - map_from_camera[0, 3], y - map_from_camera[1, 3]) < RANGE_M
    right = occupied_at(truth, x[near], y[near])
    yaw = math.atan2(map_from_camera[1, 2], map_from_camera[0, 2])
    hits = np.array(list(first_hits(truth, map_from_camera[:2, 3], yaw)))
    found = occupied_at(grid, hits[:, 0], hits[:, 1])
    assert near.sum() > 50
    assert right.mean() >= 0.97
    assert len(hits) > 50
    assert found.mean() >= 0.97
    assert (cells == 0).sum() > 1000
