"""Results to markers, for people to look at."""

from collections.abc import Mapping

from geometry_msgs.msg import Point
import numpy as np
import numpy.typing as npt
from perception_nodes.core.geometry import quaternion_xyzw
from perception_nodes.core.keypoints import keypoint_names, skeleton
from perception_nodes.core.overlay import colour_of
from perception_nodes.core.types import Detections3D
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

_POINT_M, _LINE_M, _LETTER_M = 0.04, 0.015, 0.06


def keypoints_to_msg(points: npt.NDArray[np.float64], header: Header) -> MarkerArray:
    """
    Convert key points in space to spheres, joined by lines where COCO joins them.

    Each sphere's ``ns`` is the name of the key point and its ``id`` the row of the object, so
    that programs can read them too; those that are not known are left out.

    :param points: (N, K, 3) metres in the header's frame, NaN where one is not known.
    """
    names, joined = keypoint_names(points.shape[1]), skeleton(points.shape[1])
    markers = [_clearing(header)]
    for i, person in enumerate(points):
        known = np.isfinite(person).all(axis=1)
        for k in np.flatnonzero(known).tolist():
            marker = _marker(header, names[k], i, Marker.SPHERE, colour_of(i))
            marker.scale.x = marker.scale.y = marker.scale.z = _POINT_M
            marker.pose.position = _point(person[k])
            markers.append(marker)
        ends = [k for pair in joined if known[list(pair)].all() for k in pair]
        if ends:
            marker = _marker(header, 'skeleton', i, Marker.LINE_LIST, colour_of(i))
            marker.scale.x = _LINE_M
            marker.points = [_point(person[k]) for k in ends]
            markers.append(marker)
    return MarkerArray(markers=markers)


def boxes_to_markers_msg(
    boxes: Detections3D, class_names: Mapping[int, str], header: Header
) -> MarkerArray:
    """
    Convert boxes in space to translucent cubes, each with its name and its measured size.

    The text reads ``can #7 0.066±0.002 x 0.066±0.003 x 0.122±0.001 m``: length, width and height,
    each with its standard deviation where that is known. A marker's ``id`` is that of the object,
    or its row where objects have none.
    """
    markers = [_clearing(header)]
    deviations = boxes.size_stds_m
    tracked = boxes.object_ids is not None
    ids = range(len(boxes)) if boxes.object_ids is None else boxes.object_ids.tolist()
    for i, (center, rotation, size, class_id, number) in enumerate(zip(
            boxes.centers_m, boxes.rotations, boxes.sizes_m, boxes.class_ids.tolist(), ids,
            strict=True)):
        cube = _marker(header, 'boxes', number, Marker.CUBE, colour_of(class_id), opacity=0.35)
        cube.pose.position = _point(center)
        o = cube.pose.orientation
        o.x, o.y, o.z, o.w = quaternion_xyzw(rotation)
        cube.scale.x, cube.scale.y, cube.scale.z = size.tolist()
        text = _marker(header, 'sizes', number, Marker.TEXT_VIEW_FACING, colour_of(class_id))
        text.pose.position = _point(center)
        text.scale.z = _LETTER_M
        name = class_names.get(class_id, class_id)
        text.text = (f'{name} #{number} ' if tracked else f'{name} ') + ' x '.join(
            f'{side:.3f}' if deviations is None else f'{side:.3f}±{deviations[i, k]:.3f}'
            for k, side in enumerate(size.tolist())) + ' m'
        markers += [cube, text]
    return MarkerArray(markers=markers)


def _clearing(header: Header) -> Marker:
    """Return what takes the markers of the frame before away."""
    return Marker(header=header, action=Marker.DELETEALL)


def _marker(
    header: Header, namespace: str, marker_id: int, kind: int, colour: tuple[int, int, int],
    opacity: float = 1.0,
) -> Marker:
    marker = Marker(header=header, ns=namespace, id=marker_id, type=kind, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    red, green, blue = (value / 255.0 for value in colour)
    marker.color = ColorRGBA(r=red, g=green, b=blue, a=opacity)
    return marker


def _point(place_m: npt.NDArray[np.float64]) -> Point:
    x, y, z = place_m.tolist()
    return Point(x=x, y=y, z=z)
