"""Grasps drawn into the picture they were planned on."""

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import project, transform_points
from perception_nodes.core.types import CameraIntrinsics, GraspCandidates


def draw_grasps(
    rgb: npt.NDArray[np.uint8], grasps: GraspCandidates, intrinsics: CameraIntrinsics,
    finger_depth_m: float = 0.045,
) -> npt.NDArray[np.uint8]:
    """
    Draw each grasp as an open hand: the best ones green, poor ones red, the best drawn last.

    :param rgb: (H, W, 3) picture; it is not changed.
    :return: (H, W, 3) uint8 RGB.
    """
    picture = rgb.copy()
    for n in reversed(range(len(grasps))):
        pixels = project(_hand(grasps, n, finger_depth_m), intrinsics)
        if not np.isfinite(pixels).all():
            continue
        share = float(grasps.scores[n] / max(grasps.scores[0], 1e-6))
        color = (int(255 * (1.0 - share)), int(220 * share), 40)
        line = np.round(pixels).astype(np.int32)
        cv2.polylines(picture, [line[:4]], False, color, 2, cv2.LINE_AA)
        cv2.line(picture, line[4].tolist(), line[5].tolist(), color, 2, cv2.LINE_AA)
        cv2.circle(picture, line[6].tolist(), 2, color, -1, cv2.LINE_AA)
    return picture


def _hand(grasps: GraspCandidates, n: int, depth_m: float) -> npt.NDArray[np.float64]:
    """Return tip, knuckle, knuckle, tip, both ends of the wrist and the grasp's place."""
    half = float(grasps.openings_m[n]) / 2.0
    points = np.array([
        (0.0, -half, 0.0), (0.0, -half, -depth_m), (0.0, half, -depth_m), (0.0, half, 0.0),
        (0.0, 0.0, -depth_m), (0.0, 0.0, -1.6 * depth_m), (0.0, 0.0, 0.0)])
    return np.asarray(transform_points(grasps.camera_from_grasp[n], points), np.float64)
