"""
Objects followed from image to image: each keeps its number while seen, and for a while after.

The association is ByteTrack's (Zhang et al., ECCV 2022): boxes the detector is sure of are matched
first, then weak boxes continue tracks that would otherwise end, so that a person half hidden
keeps their number. Overlap is taken of boxes grown on all sides, as in C-BIoU (Yang et al., WACV
2023), because a turning robot moves everything in its image. Places are predicted by a Kalman
filter of velocities in pixels that fade, by the stamps of the images: frames may come at any rate.

The assignment is SciPy's. Tracking libraries that pip installs did not fit: they are AGPL, ask
for NumPy 1 alone, have been left since 2021, or bring a second OpenCV that needs a display.
"""

from dataclasses import dataclass, replace
import math

import numpy as np
import numpy.typing as npt
from perception_nodes.core.boxes import iou_matrix
from perception_nodes.core.params import param, Params
from perception_nodes.core.types import Detections

_GROWTH = 0.3  # of width and height, added on each side before overlap is taken
_LEAST_OVERLAP = 0.3  # IoU of grown boxes for a match with a confident box
_LEAST_OVERLAP_WEAK = 0.5  # and with a weak one
# standard deviations, in sizes of the object (root of width times height)
_MEASUREMENT = 0.05
_FIRST_VELOCITY_PER_S = 2.0
_ACCELERATION_PER_S = 1.0  # velocity gained at random in one second
_VELOCITY_LASTS_S = 1.0  # people stop and robots turn: unseen, a velocity fades
_SIZE_GAIN = 0.5  # share of a new box in the size


@dataclass(frozen=True, kw_only=True)
class TrackingParams(Params):
    """Parameters of following objects from image to image."""

    track: bool = param(
        False, 'Give every object a number that it keeps from image to image, as the id of its '
        'detections.')
    track_memory_s: float = param(
        1.0, 'How long an object that is not seen keeps its number.', unit='s', ge=0.0, le=60.0)
    track_weak_score: float = param(
        0.3, 'Lowest score of boxes that are published only where they continue the track of an '
        'object; 1 for none.', ge=0.0, le=1.0)


class ObjectTracker:
    """
    Numbers the objects of one camera, from 1 on; a number is never given to another object.

    Objects of different classes are never the same. The result depends on the calls alone.
    """

    def __init__(self, params: TrackingParams) -> None:
        # half a second and 50 MB, for those who track
        from scipy.optimize import linear_sum_assignment
        self._assign = linear_sum_assignment
        self._memory_ns = round(params.track_memory_s * 1e9)
        self._next_id = 1
        self._stamp_ns = 0
        self.reset()

    def reset(self) -> None:
        """Forget every object, because time jumped; numbers go on."""
        self._tracks = _Tracks.begin(Detections.empty(), np.empty(0, np.int64), 0)

    def step(
        self, found: Detections, stamp_ns: int, confident: npt.NDArray[np.bool_] | None = None
    ) -> Detections:
        """
        Assign ids to what was found in one image. Call this for images without objects, too.

        A stamp that lies more than ``track_memory_s`` before the last one is a jump of time.

        :param found: Boxes of one image.
        :param stamp_ns: ROS time of the image, nanoseconds.
        :param confident: (N,) whether a box is published in any case and may begin a track; None
            for all. The others come back only where they continue one.
        :return: What is to be published, with ``object_ids``, in the given order.
        """
        if self._stamp_ns - stamp_ns > self._memory_ns:
            self.reset()
        dt_s = max(0, stamp_ns - self._stamp_ns) * 1e-9
        self._stamp_ns = stamp_ns
        if confident is None:
            confident = np.ones(len(found), np.bool_)
        tracks = self._tracks
        tracks = tracks[stamp_ns - tracks.seen_ns <= self._memory_ns].predicted(dt_s)
        ids = np.zeros(len(found), np.int64)  # 0: none yet
        updated = np.zeros(len(tracks), np.bool_)
        for wanted, allowed, least in (
                (confident, np.ones(len(tracks), np.bool_), _LEAST_OVERLAP),
                (~confident, tracks.is_followed, _LEAST_OVERLAP_WEAK)):
            rows, columns = self._match(found, tracks, wanted, allowed & ~updated, least)
            ids[rows] = tracks.ids[columns]
            updated[columns] = True
            tracks.update(columns, found.boxes_xyxy[rows], stamp_ns)
        # what was seen in a single image is not worth remembering
        tracks.is_followed &= updated
        tracks = tracks[updated | tracks.is_proven]
        new = np.flatnonzero(confident & (ids == 0))
        ids[new] = self._next_id + np.arange(len(new))
        self._next_id += len(new)
        self._tracks = tracks.joined(_Tracks.begin(found[new], ids[new], stamp_ns))
        kept = ids > 0
        return replace(found[kept], object_ids=ids[kept])

    def _match(
        self, found: Detections, tracks: '_Tracks', wanted: npt.NDArray[np.bool_],
        allowed: npt.NDArray[np.bool_], least: float,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return rows of boxes, and rows of the tracks they belong to."""
        rows, columns = np.flatnonzero(wanted), np.flatnonzero(allowed)
        if not len(rows) or not len(columns):
            return rows[:0], columns[:0]
        overlap = iou_matrix(_grown(found.boxes_xyxy[rows]), _grown(tracks.boxes_xyxy()[columns]))
        overlap[found.class_ids[rows][:, None] != tracks.class_ids[columns]] = 0.0
        overlap[overlap < least] = 0.0
        i, j = self._assign(overlap, maximize=True)
        real = overlap[i, j] > 0.0
        return rows[i[real]], columns[j[real]]


@dataclass(eq=False)
class _Tracks:
    """
    N objects as they are expected.

    The two coordinates of a centre have the same uncertainty, so that one 2 x 2 covariance of
    place and velocity does for both.
    """

    ids: npt.NDArray[np.int64]  # (N,)
    class_ids: npt.NDArray[np.int64]  # (N,)
    seen_ns: npt.NDArray[np.int64]  # (N,) stamp of the last box
    is_proven: npt.NDArray[np.bool_]  # (N,) whether it was seen twice
    is_followed: npt.NDArray[np.bool_]  # (N,) whether it was seen in the last image
    centers: npt.NDArray[np.float64]  # (N, 2) pixels
    velocities: npt.NDArray[np.float64]  # (N, 2) pixels per second
    sizes: npt.NDArray[np.float64]  # (N, 2) pixels
    covariances: npt.NDArray[np.float64]  # (N, 2, 2)

    @classmethod
    def begin(
        cls, found: Detections, ids: npt.NDArray[np.int64], stamp_ns: int
    ) -> '_Tracks':
        """Start a track at each box."""
        n = len(found)
        centers, sizes = _centers_and_sizes(found.boxes_xyxy)
        deviations = _scales(sizes)[:, None] * (_MEASUREMENT, _FIRST_VELOCITY_PER_S)
        return cls(
            ids, found.class_ids, np.full(n, stamp_ns), np.zeros(n, np.bool_),
            np.ones(n, np.bool_), centers, np.zeros((n, 2)), sizes,
            np.eye(2) * deviations[:, None] ** 2)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, keep: npt.NDArray[np.bool_]) -> '_Tracks':
        return _Tracks(*(array[keep] for array in vars(self).values()))

    def joined(self, other: '_Tracks') -> '_Tracks':
        """Return these tracks and the other ones."""
        return _Tracks(*map(np.concatenate, zip(
            vars(self).values(), vars(other).values(), strict=True)))

    def boxes_xyxy(self) -> npt.NDArray[np.float32]:
        """Return (N, 4) pixels."""
        half = 0.5 * self.sizes
        return np.hstack([self.centers - half, self.centers + half]).astype(np.float32)

    def predicted(self, dt_s: float) -> '_Tracks':
        """Return where everything is expected ``dt_s`` later."""
        left = math.exp(-dt_s / _VELOCITY_LASTS_S)
        moved_s = _VELOCITY_LASTS_S * (1.0 - left)
        motion = np.array([[1.0, moved_s], [0.0, left]])
        noise = np.array([[dt_s**3 / 3.0, dt_s**2 / 2.0], [dt_s**2 / 2.0, dt_s]])
        strength = (_ACCELERATION_PER_S * _scales(self.sizes)) ** 2
        return replace(
            self, centers=self.centers + moved_s * self.velocities,
            velocities=left * self.velocities,
            covariances=motion @ self.covariances @ motion.T + strength[:, None, None] * noise)

    def update(
        self, rows: npt.NDArray[np.int64], boxes_xyxy: npt.NDArray[np.float32], stamp_ns: int
    ) -> None:
        """Correct some tracks, each by its box."""
        centers, sizes = _centers_and_sizes(boxes_xyxy)
        covariances = self.covariances[rows]
        variance = (_MEASUREMENT * _scales(sizes)) ** 2
        gains = covariances[:, :, 0] / (covariances[:, 0, 0] + variance)[:, None]
        errors = centers - self.centers[rows]
        self.centers[rows] += gains[:, :1] * errors
        self.velocities[rows] += gains[:, 1:] * errors
        self.covariances[rows] -= gains[:, :, None] * covariances[:, None, 0]
        self.sizes[rows] += _SIZE_GAIN * (sizes - self.sizes[rows])
        self.seen_ns[rows] = stamp_ns
        self.is_proven[rows] = self.is_followed[rows] = True


def _centers_and_sizes(
    boxes_xyxy: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    low, high = boxes_xyxy[:, :2].astype(np.float64), boxes_xyxy[:, 2:].astype(np.float64)
    return 0.5 * (low + high), high - low


def _scales(sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (N,) root of width times height, of one pixel at least."""
    return np.sqrt(np.maximum(sizes.prod(axis=1), 1.0))


def _grown(boxes_xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the boxes grown on every side."""
    margin = np.float32(_GROWTH) * (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2])
    return np.hstack([boxes_xyxy[:, :2] - margin, boxes_xyxy[:, 2:] + margin])
