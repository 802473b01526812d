"""Plain data that flows through the package: frozen, checked once, numpy inside."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
import math
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]  # of classes or instances, one per pixel
BACKGROUND = 'background'  # name of the class of pixels that are none of a model's things


@dataclass(frozen=True)
class CameraIntrinsics:
    """
    Pinhole intrinsics in pixels, with the distortion of the image they belong to.

    Pixel centres lie at integer coordinates, as in OpenCV and ``sensor_msgs/CameraInfo``.

    :raises ValueError: If the size or a focal length is not positive, or a number is not finite.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()  # OpenCV order k1, k2, p1, p2, k3, ...; empty: none

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(
                f'camera intrinsics are for an image of {self.width}x{self.height} pixels; '
                'both must be positive: is camera_info filled in by the driver?')
        focal = (self.fx, self.fy)
        if not all(math.isfinite(f) and f > 0.0 for f in focal):
            raise ValueError(
                f'camera intrinsics have fx={self.fx}, fy={self.fy}; both must be positive '
                'pixels: calibrate the camera or fill in K of camera_info')
        if not all(map(math.isfinite, (self.cx, self.cy, *self.distortion))):
            raise ValueError(
                f'camera intrinsics have cx={self.cx}, cy={self.cy} and the distortion '
                f'{self.distortion}; all must be finite: calibrate the camera again')

    @classmethod
    def from_fov(cls, width: int, height: int, horizontal_fov_deg: float) -> 'CameraIntrinsics':
        """
        Guess an undistorted camera with square pixels from its field of view.

        :param horizontal_fov_deg: Angle across the image's width, degrees in (0, 180).
        :raises ValueError: If the angle is out of range.
        """
        if not 0.0 < horizontal_fov_deg < 180.0:
            raise ValueError(
                f'horizontal field of view is {horizontal_fov_deg} degrees; '
                'it must lie between 0 and 180')
        focal = 0.5 * width / math.tan(math.radians(horizontal_fov_deg) / 2.0)
        return cls(width, height, focal, focal, (width - 1) / 2.0, (height - 1) / 2.0)

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """Return the (3, 3) float64 camera matrix K."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class RgbdFrame:
    """
    One observation of one camera, in its optical frame (REP 103: x right, y down, z ahead).

    The arrays are read-only, because every node of a process sees the same ones.

    :raises ValueError: If an array has another shape or dtype than stated here.
    """

    rgb: npt.NDArray[np.uint8]  # (H, W, 3), black where only depth was asked for
    stamp_ns: int  # ROS time of the exposure, nanoseconds
    frame_id: str  # the camera's optical frame
    depth_m: npt.NDArray[np.float32] | None = None  # (H, W), NaN no reading, +inf beyond range
    intrinsics: CameraIntrinsics | None = None

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8:
            raise ValueError(
                f'colour image is {self.rgb.shape} {self.rgb.dtype}; expected (H, W, 3) uint8')
        if self.depth_m is None:
            return
        if self.depth_m.shape != self.rgb.shape[:2] or self.depth_m.dtype != np.float32:
            raise ValueError(
                f'depth image is {self.depth_m.shape} {self.depth_m.dtype}; '
                f'expected {self.rgb.shape[:2]} float32, registered to the colour image')


@dataclass(frozen=True, eq=False)
class Masks:
    """
    The pixels of N objects of one image, each kept as the part that holds it; they may overlap.

    :raises ValueError: If a part does not lie inside the image, or the arrays disagree in length.
    """

    parts: tuple[npt.NDArray[np.bool_], ...]  # N times (h, w), each of its own size
    corners: npt.NDArray[np.int64]  # (N, 2) row and column of each part's first pixel
    image_shape: tuple[int, int]  # height and width of the image

    def __post_init__(self) -> None:
        if self.corners.shape != (len(self.parts), 2):
            raise ValueError(
                f'{len(self.parts)} masks have corners of shape {self.corners.shape}')
        sizes = np.array([part.shape for part in self.parts], np.int64).reshape(-1, 2)
        if (self.corners < 0).any() or (self.corners + sizes > self.image_shape).any():
            raise ValueError(
                f'masks of sizes {sizes.tolist()} at {self.corners.tolist()} reach out of an '
                f'image of {self.image_shape}')

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, keep: Any) -> 'Masks':
        rows = np.arange(len(self))[keep]
        return Masks(
            tuple(self.parts[i] for i in rows.tolist()), self.corners[rows], self.image_shape)

    def place(self, i: int) -> tuple[slice, slice]:
        """Return the rows and columns of the image that part ``i`` covers."""
        (row, column), (height, width) = self.corners[i].tolist(), self.parts[i].shape
        return slice(row, row + height), slice(column, column + width)


@dataclass(frozen=True, eq=False)
class Detections:
    """
    N axis-aligned boxes in one image, best first, and what else a model knows of each.

    Their pixel 0 reaches from 0 to 1; :class:`CameraIntrinsics` have its middle at 0.

    Indexing with anything numpy takes is filtering: ``found[found.scores > 0.5]``.

    :raises ValueError: If the arrays disagree in length or shape.
    """

    boxes_xyxy: npt.NDArray[np.float32]  # (N, 4) pixels: left, top, right, bottom
    scores: npt.NDArray[np.float32]  # (N,) in [0, 1]
    class_ids: npt.NDArray[np.int64]  # (N,) ids that the model's class_names resolves
    object_ids: npt.NDArray[np.int64] | None = None  # (N,) tracks, or instances of ground truth
    masks: Masks | None = None  # N
    # (N, K, 3): x and y in the boxes' pixels, NaN where it is not seen; score in [0, 1]
    keypoints: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        n = len(self.boxes_xyxy)
        shapes = (self.boxes_xyxy.shape, self.scores.shape, self.class_ids.shape)
        if shapes != ((n, 4), (n,), (n,)):
            raise ValueError(
                'boxes, scores and class ids have shapes {}, {} and {}; '
                'expected (N, 4), (N,) and (N,)'.format(*shapes))
        if self.object_ids is not None and self.object_ids.shape != (n,):
            raise ValueError(f'{n} boxes have object ids of shape {self.object_ids.shape}')
        if self.masks is not None and len(self.masks) != n:
            raise ValueError(f'{n} boxes have {len(self.masks)} masks')
        points = self.keypoints
        if points is not None and (points.ndim != 3 or points.shape[::2] != (n, 3)):
            raise ValueError(
                f'{n} boxes have key points of shape {points.shape}; expected ({n}, K, 3)')

    @classmethod
    def empty(cls) -> 'Detections':
        """Return no detections at all."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, keep: Any) -> 'Detections':
        return Detections(
            self.boxes_xyxy[keep], self.scores[keep], self.class_ids[keep],
            None if self.object_ids is None else self.object_ids[keep],
            None if self.masks is None else self.masks[keep],
            None if self.keypoints is None else self.keypoints[keep])


@dataclass(frozen=True, eq=False)
class SegmentationMask:
    """
    The class of every pixel of one image.

    :raises ValueError: If an array has another shape or dtype than stated here.
    """

    ids: Ids  # (H, W), class ids
    confidence: npt.NDArray[np.float32] | None = None  # (H, W) in [0, 1]: probability of the class

    def __post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f'mask is {self.ids.shape} {self.ids.dtype}; expected (H, W) uint8 or uint16')
        if self.confidence is None:
            return
        if self.confidence.shape != self.ids.shape or self.confidence.dtype != np.float32:
            raise ValueError(
                f'confidence is {self.confidence.shape} {self.confidence.dtype}; '
                f'expected {self.ids.shape} float32')


@dataclass(frozen=True, eq=False)
class ClassScores:
    """
    What one picture shows, best first.

    :raises ValueError: If the arrays disagree in length or shape.
    """

    class_ids: npt.NDArray[np.int64]  # (N,) ids that the model's class_names resolves
    scores: npt.NDArray[np.float32]  # (N,) in [0, 1], descending

    def __post_init__(self) -> None:
        if self.class_ids.ndim != 1 or self.class_ids.shape != self.scores.shape:
            raise ValueError(
                f'class ids and scores have shapes {self.class_ids.shape} and '
                f'{self.scores.shape}; expected (N,) and (N,)')


@dataclass(frozen=True)
class VelocityCommand:
    """What a differential drive is asked to do, in its base_link frame (REP 103)."""

    linear_mps: float = 0.0  # along x, ahead
    angular_rps: float = 0.0  # about z, counter-clockwise

    @property
    def is_finite(self) -> bool:
        """Return whether both numbers can be driven at all."""
        return math.isfinite(self.linear_mps) and math.isfinite(self.angular_rps)


@dataclass(frozen=True, eq=False)
class LaserRanges:
    """
    One sweep of a planar range finder, in its own frame: beam 0 at ``angle_min_rad`` from x.

    :raises ValueError: If the ranges are not one row of float32.
    """

    ranges_m: npt.NDArray[np.float32]  # (N,), NaN no reading, +inf beyond range
    angle_min_rad: float
    angle_increment_rad: float
    range_min_m: float
    range_max_m: float
    stamp_ns: int  # ROS time of the sweep, nanoseconds
    frame_id: str

    def __post_init__(self) -> None:
        if self.ranges_m.ndim != 1 or self.ranges_m.dtype != np.float32:
            raise ValueError(
                f'ranges are {self.ranges_m.shape} {self.ranges_m.dtype}; expected (N,) float32')

    @property
    def angles_rad(self) -> npt.NDArray[np.float64]:
        """Return the (N,) direction of each beam, radians from x."""
        steps = np.arange(len(self.ranges_m), dtype=np.float64)
        return self.angle_min_rad + self.angle_increment_rad * steps


@dataclass(frozen=True, eq=False)
class OccupancyMap:
    """
    A grid over the ground, its axes along those of ``frame_id``.

    :raises ValueError: If the cells are not a plane of int8.
    """

    # (rows along y, columns along x): 0 free, 100 occupied, -1 unknown, between them a cost
    cells: npt.NDArray[np.int8]
    resolution_m: float
    origin_xy_m: tuple[float, float]  # outer corner of cell (0, 0)
    frame_id: str

    def __post_init__(self) -> None:
        if self.cells.ndim != 2 or self.cells.dtype != np.int8:
            raise ValueError(
                f'cells are {self.cells.shape} {self.cells.dtype}; expected (H, W) int8')


@dataclass(frozen=True)
class StampedTransform:
    """
    Where frame ``child`` was in frame ``parent`` at one moment.

    The quaternion is normalised on construction; a leading slash of a frame's name is dropped.

    :raises ValueError: If a frame has no name, both are the same, or the numbers are no pose.
    """

    parent: str
    child: str
    stamp_ns: int  # ROS time, nanoseconds
    translation_m: tuple[float, float, float]
    quaternion_xyzw: tuple[float, float, float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, 'parent', self.parent.lstrip('/'))
        object.__setattr__(self, 'child', self.child.lstrip('/'))
        if not self.parent or not self.child or self.parent == self.child:
            raise ValueError(
                f"a transform goes from frame '{self.child}' to '{self.parent}'; it needs two "
                'different names')
        norm = math.hypot(*self.quaternion_xyzw)
        if not all(map(math.isfinite, self.translation_m)) or not 0.5 < norm < 2.0:
            raise ValueError(
                f"the transform from frame '{self.child}' to '{self.parent}' has translation "
                f'{self.translation_m} and quaternion {self.quaternion_xyzw}; all must be finite, '
                'and the quaternion of length 1')
        x, y, z, w = (component / norm for component in self.quaternion_xyzw)
        object.__setattr__(self, 'quaternion_xyzw', (x, y, z, w))


@dataclass(frozen=True, eq=False)
class Detections3D:
    """
    N boxes in space, in the frame that the caller names, and why other detections have none.

    :raises ValueError: If the arrays disagree in length or shape.
    """

    centers_m: npt.NDArray[np.float64]  # (N, 3)
    rotations: npt.NDArray[np.float64]  # (N, 3, 3) frame_from_box
    sizes_m: npt.NDArray[np.float64]  # (N, 3) along the box's own axes
    covariances: npt.NDArray[np.float64]  # (N, 6, 6) of centre (m^2) and small turns (rad^2)
    scores: npt.NDArray[np.float32]  # (N,) in [0, 1]
    class_ids: npt.NDArray[np.int64]  # (N,)
    sources: npt.NDArray[np.int64]  # (N,) row of the 2D detection
    methods: tuple[str, ...]  # 'depth', 'mask_depth' or 'ground_contact'
    object_ids: npt.NDArray[np.int64] | None = None  # (N,) tracks, or instances of ground truth
    rejected: tuple[tuple[int, str], ...] = ()  # row of the 2D detection, and the sentence why not
    # (N, 3) standard deviations of the sizes; None where they are not known
    size_stds_m: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        n = len(self.methods)
        arrays = (self.centers_m, self.rotations, self.sizes_m, self.covariances, self.scores,
                  self.class_ids, self.sources)
        expected = ((n, 3), (n, 3, 3), (n, 3), (n, 6, 6), (n,), (n,), (n,))
        shapes = tuple(array.shape for array in arrays)
        if shapes != expected:
            raise ValueError(f'boxes in space have arrays of shapes {shapes}; expected {expected}')
        if self.object_ids is not None and self.object_ids.shape != (n,):
            raise ValueError(f'{n} boxes have object ids of shape {self.object_ids.shape}')
        if self.size_stds_m is not None and self.size_stds_m.shape != (n, 3):
            raise ValueError(
                f'{n} boxes have deviations of their sizes of shape {self.size_stds_m.shape}')

    @classmethod
    def empty(cls) -> 'Detections3D':
        """Return no boxes at all."""
        return cls(
            np.empty((0, 3)), np.empty((0, 3, 3)), np.empty((0, 3)), np.empty((0, 6, 6)),
            np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64), ())

    def __len__(self) -> int:
        return len(self.methods)

    def transformed(self, target_from_frame: npt.NDArray[np.float64]) -> 'Detections3D':
        """
        Return the same boxes in another frame; sizes stay along the boxes' own axes.

        :param target_from_frame: (4, 4) rigid transform.
        """
        turn = target_from_frame[:3, :3]
        both = np.zeros((6, 6))
        both[:3, :3] = both[3:, 3:] = turn
        return replace(
            self, centers_m=self.centers_m @ turn.T + target_from_frame[:3, 3],
            rotations=turn @ self.rotations, covariances=both @ self.covariances @ both.T)


@dataclass(frozen=True, eq=False)
class GraspCandidates:
    """
    N ways to hold something with a parallel gripper, best first, in one camera's frame.

    The grasp frame has its origin midway between the closed fingertips, z along the approach
    and y along the closing direction.

    :raises ValueError: If the arrays disagree in length or shape.
    """

    camera_from_grasp: npt.NDArray[np.float64]  # (N, 4, 4)
    openings_m: npt.NDArray[np.float32]  # (N,) between the fingers on the approach
    scores: npt.NDArray[np.float32]  # (N,) in [0, 1]
    class_ids: npt.NDArray[np.int64]  # (N,) of what is held, -1 unknown
    why_none: str = ''  # the sentence, where there are none
    # by the reason why not: (M, 3) places in the camera's frame; only where they were asked for
    rejected_m: Mapping[str, npt.NDArray[np.float64]] | None = None
    # what stands on the support, graspable or not; only where it was asked for and a support seen
    objects: Detections | None = None
    objects_3d: Detections3D | None = None  # in the camera's frame

    def __post_init__(self) -> None:
        n = len(self.scores)
        arrays = (self.camera_from_grasp, self.openings_m, self.scores, self.class_ids)
        shapes = tuple(array.shape for array in arrays)
        if shapes != ((n, 4, 4), (n,), (n,), (n,)):
            raise ValueError(
                f'grasps have arrays of shapes {shapes}; expected (N, 4, 4) and three (N,)')

    @classmethod
    def none(cls, why: str) -> 'GraspCandidates':
        """Return no grasps, and why."""
        return cls(np.empty((0, 4, 4)), np.empty(0, np.float32), np.empty(0, np.float32),
                   np.empty(0, np.int64), why)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, keep: Any) -> 'GraspCandidates':
        return replace(
            self, camera_from_grasp=self.camera_from_grasp[keep],
            openings_m=self.openings_m[keep], scores=self.scores[keep],
            class_ids=self.class_ids[keep])
