"""
What can be said of results without ground truth: whether they agree with themselves.

Results that flicker, objects that lose their number, boxes in space that do not lie in their 2D
boxes, and classes that end where no surface does are wrong, whatever is right.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
import math

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.boxes import iou_matrix
from perception_nodes.core.geometry import project
from perception_nodes.core.segmentation import class_edges
from perception_nodes.core.types import CameraIntrinsics, Detections, Detections3D, Ids
from perception_nodes.evaluation.results import percentiles

_CONSECUTIVE_NS = 500_000_000  # frames farther apart show something else
_SAME_IOU = 0.5
_SAME_PLACE_IOU = 0.3  # of an object before and after it was lost
_LOST_NS = 1_000_000_000
_EDGE_PX = 3  # how far an edge of one kind may lie from one of the other
# a surface ends where the inverse of depth leaves a line by this share of itself
_BEND, _SPAN_PX = 0.1, 2
_NEAREST_INVERSE = 1e3  # of a millimetre; more is no reading
_HOLE_PX = 9  # wider holes than half of this are unknown
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


@dataclass
class _Track:
    """One object as long as it was followed."""

    class_id: int
    first_ns: int
    last_ns: int
    box: npt.NDArray[np.float32]
    first_box: npt.NDArray[np.float32]


@dataclass
class BoxConsistency:
    """
    Boxes from frame to frame.

    **Flicker** is the share of objects, seen in one frame and in the one after the next, that the
    frame between lacks. A **fragment** is a track that begins within a second where one of the
    same class has ended. Tracks are the detector's own, by object id, or boxes that overlap from
    frame to frame.
    """

    _frames: list[tuple[int, Detections]] = field(default_factory=list)  # the last three
    _steady: int = 0
    _gaps: int = 0
    _tracks: dict[int, _Track] = field(default_factory=dict)
    _ended: list[_Track] = field(default_factory=list)
    _next_id: int = -1  # of tracks that are not the detector's
    _links: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    is_tracked: bool = False  # by the detector

    def add(self, stamp_ns: int, found: Detections) -> int:
        """
        Take the boxes of the next frame.

        :return: How many objects the frame before it lacks, which those around it have.
        """
        self._follow(stamp_ns, found)
        self._frames = [*self._frames, (stamp_ns, found)][-3:]
        if len(self._frames) < 3 or not _are_consecutive([at for at, _ in self._frames]):
            return 0
        before, between, after = (boxes for _, boxes in self._frames)
        stays = _same(before, after).any(axis=1)
        is_there = _same(before, between, 0.5 * _SAME_IOU).any(axis=1)
        gaps = int(np.count_nonzero(stays & ~is_there))
        self._steady += int(np.count_nonzero(stays))
        self._gaps += gaps
        return gaps

    def values(self) -> dict[str, float]:
        """Return the figures; NaN where frames are too far apart to tell."""
        tracks = [*self._ended, *self._tracks.values()]
        lengths_s = [(track.last_ns - track.first_ns) * 1e-9 for track in tracks]
        return {
            'box_flicker': self._gaps / self._steady if self._steady else math.nan,
            'tracks': float(len(tracks)), 'track_fragments': float(_fragments(tracks)),
            **percentiles('track_length_s', lengths_s, (50, 90))}

    def _follow(self, stamp_ns: int, found: Detections) -> None:
        ids = found.object_ids
        if ids is not None and len(found):
            self.is_tracked = True
        if ids is None:
            ids = self._linked(stamp_ns, found)
        for i, number in enumerate(ids.tolist()):
            box, track = found.boxes_xyxy[i], self._tracks.get(number)
            if track is None:
                self._tracks[number] = _Track(
                    int(found.class_ids[i]), stamp_ns, stamp_ns, box, box)
            else:
                track.last_ns, track.box = stamp_ns, box
        for number in [n for n, t in self._tracks.items() if stamp_ns - t.last_ns > _LOST_NS]:
            self._ended.append(self._tracks.pop(number))
        self._links = ids

    def _linked(self, stamp_ns: int, found: Detections) -> npt.NDArray[np.int64]:
        """Return numbers for boxes: that of the box they overlap most in the frame before."""
        ids = np.zeros(len(found), np.int64)
        if self._frames and _are_consecutive([self._frames[-1][0], stamp_ns]):
            overlap = iou_matrix(found.boxes_xyxy, self._frames[-1][1].boxes_xyxy)
            overlap[~_same(found, self._frames[-1][1], _SAME_PLACE_IOU)] = 0.0
            while overlap.size and overlap.max() > 0.0:
                i, j = np.unravel_index(int(np.argmax(overlap)), overlap.shape)
                ids[i] = self._links[j]
                overlap[i], overlap[:, j] = 0.0, 0.0
        for i in np.flatnonzero(ids == 0):
            ids[i] = self._next_id
            self._next_id -= 1
        return ids


@dataclass
class MaskConsistency:
    """
    Masks from frame to frame, and against depth.

    **Flicker** is the share of pixels whose class differs from the one that the frames before and
    after it agree on; so what moves through the picture does not count.
    """

    _frames: list[tuple[int, Ids]] = field(default_factory=list)  # the last three
    _flicker: list[float] = field(default_factory=list)
    _on_depth: list[float] = field(default_factory=list)
    _on_mask: list[float] = field(default_factory=list)

    def add(self, stamp_ns: int, ids: Ids, depth_m: npt.NDArray[np.float32] | None) -> float:
        """
        Take the mask of the next frame.

        :return: The share of its class edges that lie on depth edges; NaN where there are none.
        """
        self._frames = [*self._frames, (stamp_ns, ids)][-3:]
        if (len(self._frames) == 3 and _are_consecutive([at for at, _ in self._frames])
                and len({mask.shape for _, mask in self._frames}) == 1):
            before, between, after = (mask for _, mask in self._frames)
            self._flicker.append(float(np.mean((before == after) & (between != before))))
        if depth_m is None or depth_m.shape != ids.shape:
            return math.nan
        on_depth, on_mask = edge_agreement(ids, depth_m)
        self._on_depth += [on_depth] if math.isfinite(on_depth) else []
        self._on_mask += [on_mask] if math.isfinite(on_mask) else []
        return on_depth

    def values(self) -> dict[str, float]:
        """Return the figures; NaN where there was nothing to compare."""
        return {'mask_flicker': _mean(self._flicker),
                'mask_edges_on_depth_edges': _mean(self._on_depth),
                'depth_edges_on_mask_edges': _mean(self._on_mask)}


def edge_agreement(
    ids: Ids, depth_m: npt.NDArray[np.float32]
) -> tuple[float, float]:
    """
    Compare where classes meet with where depth jumps.

    Classes also meet where depth does not jump, as a wall meets the floor, and depth jumps within
    a class; so neither share is 1 for a perfect mask. Both are for comparing models on one bag.

    :param ids: (H, W) class ids.
    :param depth_m: (H, W) metres of the same pixels; edges without readings about them are left
        out.
    :return: The share of class edges within 3 pixels of a jump, and of jumps within 3 pixels of
        a class edge; NaN where there are none.
    """
    jumps, known = _depth_edges(depth_m)
    classes = (class_edges(ids) > 0) & known
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _EDGE_PX + 1,) * 2)

    def share(edges: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_]) -> float:
        near = cv2.dilate(others.view(np.uint8), disk).view(np.bool_)
        total = np.count_nonzero(edges)
        return float(np.count_nonzero(edges & near) / total) if total else math.nan

    return share(classes, jumps), share(jumps, classes)


def projected_boxes(
    boxes: Detections3D, intrinsics: CameraIntrinsics
) -> npt.NDArray[np.float32]:
    """
    Return the box in the image about the projected corners of each box in space.

    :param boxes: In the camera's optical frame.
    :return: (N, 4) pixels within the image: left, top, right, bottom; NaN where a corner is not
        ahead of the camera.
    """
    projected = np.full((len(boxes), 4), np.nan, np.float32)
    limits = np.array([intrinsics.width, intrinsics.height], np.float64)
    for i in range(len(boxes)):
        corners = (_CORNERS * boxes.sizes_m[i]) @ boxes.rotations[i].T + boxes.centers_m[i]
        # edges of boxes lie between pixels, whose middles are whole numbers
        pixels = np.clip(project(corners, intrinsics) + 0.5, 0.0, limits)
        projected[i] = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])
    return projected


def reprojection_iou(
    found: Detections, boxes: Detections3D, projected: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """
    Compare each box in space with the 2D box it was made of.

    :param projected: What :func:`projected_boxes` returns.
    :return: (len(boxes),) intersection over union; 0 where a box does not project.
    """
    overlaps = [iou_matrix(box[None], found.boxes_xyxy[source][None])[0, 0]
                for box, source in zip(projected, boxes.sources.tolist(), strict=True)]
    return np.nan_to_num(np.array(overlaps, np.float32))


def _depth_edges(
    depth_m: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """
    Return where a surface ends, and where that is known.

    The inverse of depth is linear over the pixels of a plane, however it leans; where it is not,
    the surface ends or bends. Holes, which sensors have beside edges, are what is behind.
    """
    with np.errstate(divide='ignore', invalid='ignore'):
        inverse_depth = np.where(depth_m > 0.0, 1.0 / depth_m, np.nan).astype(np.float32)
    hole = np.isnan(inverse_depth)
    behind = cv2.erode(np.where(hole, np.float32(np.inf), inverse_depth),
                       np.ones((_HOLE_PX, _HOLE_PX), np.uint8))
    filled = np.where(hole, behind, inverse_depth)
    known = filled < _NEAREST_INVERSE
    filled[~known] = 0.0
    edges = np.zeros(depth_m.shape, np.bool_)
    for axis in (0, 1):
        before, here, after = (
            np.moveaxis(filled, axis, 0)[start:end] for start, end in (
                (None, -2 * _SPAN_PX), (_SPAN_PX, -_SPAN_PX), (2 * _SPAN_PX, None)))
        bend = np.abs(before - 2.0 * here + after)
        np.moveaxis(edges, axis, 0)[_SPAN_PX:-_SPAN_PX] |= bend > _BEND * np.maximum(
            np.maximum(before, after), here)
    inside = cv2.erode(known.view(np.uint8), np.ones((5, 5), np.uint8)).view(np.bool_)
    return edges & inside, inside


def _same(
    a: Detections, b: Detections, least: float = _SAME_IOU
) -> npt.NDArray[np.bool_]:
    """Return (N, M) whether boxes are of one class and overlap."""
    return np.asarray((iou_matrix(a.boxes_xyxy, b.boxes_xyxy) >= least)
                      & (a.class_ids[:, None] == b.class_ids[None, :]))


def _fragments(tracks: Sequence[_Track]) -> int:
    """Return how many tracks begin soon after, and where, another of their class has ended."""
    ordered = sorted(tracks, key=lambda track: track.first_ns)
    return sum(
        any(other.class_id == track.class_id
            and 0 < track.first_ns - other.last_ns <= _LOST_NS
            and iou_matrix(other.box[None], track.first_box[None])[0, 0] >= _SAME_PLACE_IOU
            for other in ordered) for track in ordered)


def _are_consecutive(stamps_ns: Sequence[int]) -> bool:
    return all(0 < b - a <= _CONSECUTIVE_NS
               for a, b in zip(stamps_ns[:-1], stamps_ns[1:], strict=True))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
