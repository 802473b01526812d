"""Boxes in space in the frame they are asked in, with gravity as the transforms tell it."""

import numpy as np
import numpy.typing as npt
from perception_nodes.core.detection_3d import Detection3DParams, lift, lift_on_ground
from perception_nodes.core.geometry import up_in_camera, up_of_pitched_camera
from perception_nodes.core.transforms import TransformBuffer
from perception_nodes.core.types import (
    CameraIntrinsics,
    Detections,
    Detections3D,
    RgbdFrame,
)


def locate(
    detections: Detections, frame: RgbdFrame, transforms: TransformBuffer, timeout_s: float,
    params: Detection3DParams,
) -> tuple[Detections3D, str]:
    """
    Find the box in space of each detection.

    :param transforms: Asked at the frame's stamp, and only where ``params`` name a frame.
    :param timeout_s: How long to wait for a transform that may still come, seconds.
    :return: The boxes, and the frame they are in.
    :raises ValueError: If the frame lacks depth or camera_info, or the camera height is unknown.
    :raises TransformError: If a transform is missing.
    """
    def into(target: str) -> npt.NDArray[np.float64]:
        return transforms.lookup(target, frame.frame_id, frame.stamp_ns, timeout_s)

    gravity_frame = params.gravity_frame or params.target_frame
    declared_height = params.boxes_3d == 'ground' and params.camera_height_m > 0.0
    up, height_m = None, params.camera_height_m
    if declared_height:
        up = up_of_pitched_camera(params.camera_pitch_deg)
    elif gravity_frame:
        level_from_camera = into(gravity_frame)
        up, height_m = up_in_camera(level_from_camera), float(level_from_camera[2, 3])
    if params.boxes_3d == 'depth':
        boxes = lift(detections, frame, up, params)
    else:
        if up is None or frame.intrinsics is None:
            missing = 'camera_info' if frame.intrinsics is None else (
                'camera_height_m or a gravity_frame')
            raise ValueError(f"boxes_3d 'ground' needs {missing}")
        boxes = lift_on_ground(detections, frame.intrinsics, up, height_m, params)
    if not params.target_frame:
        return boxes, frame.frame_id
    return boxes.transformed(into(params.target_frame)), params.target_frame


def warm_up(params: Detection3DParams) -> None:
    """Compile what boxes from depth need, on a box before a wall: no frame shall wait for it."""
    camera = CameraIntrinsics.from_fov(64, 48, 60.0)
    depth_m = np.full((48, 64), 3.0, np.float32)
    depth_m[12:36, 20:44] = 2.0
    frame = RgbdFrame(np.zeros((48, 64, 3), np.uint8), 0, 'camera', depth_m, camera)
    one = Detections(
        np.array([[19, 11, 45, 37]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64))
    for up in (None, np.array([0.0, -1.0, 0.0])):
        lift(one, frame, up, params)
