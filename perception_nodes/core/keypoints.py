"""Key points of objects: what COCO calls them, and where in space they are."""

import numpy as np
import numpy.typing as npt
from perception_nodes.core.detection_3d import Detection3DParams
from perception_nodes.core.geometry import check_size, undistort
from perception_nodes.core.types import RgbdFrame

# a person's, as COCO numbers them (cocodataset.org/#keypoints-2020)
COCO_KEYPOINTS = (
    'nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder', 'right_shoulder',
    'left_elbow', 'right_elbow', 'left_wrist', 'right_wrist', 'left_hip', 'right_hip',
    'left_knee', 'right_knee', 'left_ankle', 'right_ankle')
_COCO_SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6))
_WINDOW = 2  # pixels to each side of a key point whose depth counts


def keypoint_names(count: int) -> tuple[str, ...]:
    """Return the names of key points: COCO's where there are 17, else their numbers."""
    if count == len(COCO_KEYPOINTS):
        return COCO_KEYPOINTS
    return tuple(f'keypoint_{i}' for i in range(count))


def skeleton(count: int) -> tuple[tuple[int, int], ...]:
    """Return which key points are joined; without names there is nothing to know it from."""
    return _COCO_SKELETON if count == len(COCO_KEYPOINTS) else ()


def locate_keypoints(
    keypoints: npt.NDArray[np.float32], frame: RgbdFrame, params: Detection3DParams
) -> npt.NDArray[np.float64]:
    """
    Find where in space key points are, from the median depth of the 5 x 5 pixels around each.

    What is found lies on the surface that the camera sees, not at the joint within.

    :param keypoints: (N, K, 3) x and y in the boxes' pixels, NaN where one is not seen; score.
    :param frame: With depth registered to the image, and intrinsics.
    :return: (N, K, 3) metres in the camera's optical frame; NaN without a reading.
    :raises ValueError: If the frame has no depth or no intrinsics, or sizes disagree.
    """
    if frame.depth_m is None or frame.intrinsics is None:
        missing = 'depth image' if frame.depth_m is None else 'camera_info'
        raise ValueError(f"key points in space need a {missing}, and the frame of "
                         f"'{frame.frame_id}' has none: connect it")
    check_size(frame.depth_m, frame.intrinsics)
    places = keypoints[..., :2].reshape(-1, 2).astype(np.float64)
    points = np.full((len(places), 3), np.nan)
    seen = np.flatnonzero(np.isfinite(places).all(axis=1))
    depths_m = np.array([
        _depth_m(frame.depth_m, x, y, params) for x, y in np.floor(places[seen]).tolist()])
    # a box's pixel 0 reaches from 0 to 1, the middle of a lens' pixel 0 lies at 0
    points[seen, :2] = undistort(places[seen] - 0.5, frame.intrinsics) * depths_m[:, None]
    points[seen, 2] = depths_m
    return points.reshape(*keypoints.shape[:2], 3)


def _depth_m(
    depth_m: npt.NDArray[np.float32], column: float, row: float, params: Detection3DParams
) -> float:
    """Return the depth around a pixel; NaN where there is none in range."""
    top, left = max(int(row) - _WINDOW, 0), max(int(column) - _WINDOW, 0)
    around = depth_m[top:max(int(row) + _WINDOW + 1, 0), left:max(int(column) + _WINDOW + 1, 0)]
    valid = around[(around >= params.min_depth_m) & (around <= params.max_depth_m)]
    return float(np.median(valid)) if valid.size else np.nan
