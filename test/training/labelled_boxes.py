"""Boxes on a table whose best grasps are known, as views in which grasps were tried."""

import math

import numpy as np
from perception_nodes.core.geometry import deproject
from perception_nodes.core.types import CameraIntrinsics
from perception_nodes.training.grasp_labels import LabelledView

CAMERA = CameraIntrinsics.from_fov(160, 120, 50.0)
HEIGHT_M, LENGTH_M, WIDTH_M, TALL_M = 0.5, 0.12, 0.04, 0.06


def map_from_camera():
    """Return the pose of a camera that looks straight down."""
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[2, 3] = HEIGHT_M
    return pose


def depth_of_box(x, y, yaw):
    """Return (H, W) metres of a box of LENGTH_M x WIDTH_M x TALL_M on the table, exactly."""
    rays = deproject(np.ones((CAMERA.height, CAMERA.width), np.float32), CAMERA)
    depth_m = np.full(rays.shape[:2], HEIGHT_M, np.float32)
    near_m = HEIGHT_M - TALL_M
    east, north = rays[..., 0] * near_m - x, -rays[..., 1] * near_m - y
    along = east * math.cos(yaw) + north * math.sin(yaw)
    across = north * math.cos(yaw) - east * math.sin(yaw)
    depth_m[(np.abs(along) < LENGTH_M / 2) & (np.abs(across) < WIDTH_M / 2)] = near_m
    return depth_m


def grasp_pose(x, y, closing):
    """Return map_from_grasp from above, closing along an angle, tips 2 cm over the table."""
    c, s = math.cos(closing), math.sin(closing)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = (s, -c, 0.0), (c, s, 0.0), (0.0, 0.0, -1.0)
    pose[:3, 3] = (x, y, 0.02)
    return pose


def labelled_box(rng, scene=0):
    """Return a box somewhere, held across its middle; near its ends and off it nothing lifts."""
    x, y = rng.uniform(-0.04, 0.04, 2)
    yaw = rng.uniform(-math.pi, math.pi)
    poses, success = [], []
    for along, lifts in ((-0.01, True), (0.0, True), (0.01, True), (0.05, False),
                         (-0.05, False), (0.075, False)):
        poses.append(grasp_pose(x + along * math.cos(yaw), y + along * math.sin(yaw),
                                yaw + math.pi / 2))
        success.append(lifts)
    return LabelledView(
        depth_of_box(x, y, yaw), CAMERA, map_from_camera(), 0.0, np.array(poses),
        np.full(len(poses), 0.06, np.float32), np.array(success),
        np.array(['box'] * len(poses)), scene)
