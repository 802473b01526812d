"""Boxes in space and maps of a bag against its truth, where the answers are known."""

import numpy as np
from perception_nodes.core.transforms import TransformBuffer
from perception_nodes.core.types import (
    CameraIntrinsics,
    Detections,
    Detections3D,
    OccupancyMap,
    RgbdFrame,
    StampedTransform,
)
from perception_nodes.evaluation.bag_frames import BagFrame
from perception_nodes.evaluation.bag_nodes import Answers, Located
from perception_nodes.evaluation.bag_notes import Truth
from perception_nodes.evaluation.bag_run import Moment
from perception_nodes.evaluation.bag_scores import Place
from perception_nodes.evaluation.bag_space import MapPart, PositionPart
from perception_nodes.evaluation.bag_truth import BoxTruth
import pytest

LENS = CameraIntrinsics.from_fov(320, 240, 70.0)
FRAME = RgbdFrame(np.zeros((240, 320, 3), np.uint8), 0, 'camera', None, LENS)
PLACE = Place(0, 0, 0, FRAME)


@pytest.fixture
def transforms():
    """The camera is 1 m over the origin of the map and looks along its x axis."""
    buffer = TransformBuffer()
    buffer.add([StampedTransform('map', 'camera', 0, (0.0, 0.0, 1.0), (-0.5, 0.5, -0.5, 0.5)),
                StampedTransform('map', 'odom', 0, (0.5, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))],
               static=True)
    return buffer


def solids(centres, sizes, object_ids=None):
    n = len(centres)
    return Detections3D(
        np.array(centres, np.float64), np.tile(np.eye(3), (n, 1, 1)), np.array(sizes, np.float64),
        np.zeros((n, 6, 6)), np.ones(n, np.float32), np.full(n, 4), np.arange(n), ('depth',) * n,
        None if object_ids is None else np.array(object_ids))


def seen(answers):
    return Moment(BagFrame(FRAME, 0, True), answers)


def test_errors_of_positions_by_distance(transforms):
    """One chair 1.5 m ahead is placed 0.1 m off and twice as large, one at 3 m 0.3 m off."""
    boxes = np.array([(10, 10, 60, 60), (200, 100, 260, 160)], np.float32)
    found = Detections(boxes, np.ones(2, np.float32), np.full(2, 4))
    truth = Truth({4: 'chair'}, {0: Detections(
        boxes, np.ones(2, np.float32), np.full(2, 4), np.array([7, 8]))})
    # ahead of the camera is along x of the map
    truth.boxes_3d[0] = solids(
        [(3.0, 0.0, 1.0), (1.5, 0.0, 1.0)], [(1, 1, 1)] * 2, [8, 7]), 'map'
    located = Located(solids([(0.0, 0.0, 1.6), (0.3, 0.0, 3.0)], [(2, 2, 2), (1, 1, 1)]), 'camera')
    part = PositionPart('detection', truth, BoxTruth(truth, {4: 4}, transforms, 0), transforms)
    part.add(PLACE, seen(Answers(detections=found, located=located)))
    found = part.finish(0)
    assert found.values['detection_position_pairs'] == 2
    assert found.values['detection_position_error_1_2m_m_p50'] == pytest.approx(0.1)
    assert found.values['detection_position_error_2_4m_m_p50'] == pytest.approx(0.3)
    assert found.values['detection_position_error_m_p50'] == pytest.approx(0.2)
    (_, every), (_, near), (_, far) = found.sections[0].tables[0].rows
    assert (every[-1], near[-1], far[-1]) == pytest.approx((0.5, 1.0, 0.0))


def test_a_map_in_another_frame(transforms):
    """A wall 2 m ahead, found where it is, in a map whose frame lies half a metre further on."""
    truth_cells, cells = np.zeros((2, 80, 80), np.int8)
    truth_cells[:, 60:62], cells[:, 55:57] = 100, 100
    room = OccupancyMap(truth_cells, 0.1, (-4.0, -4.0), 'map')
    part = MapPart('obstacle_map', Truth(), room, transforms)
    part.add(PLACE, seen(Answers(occupancy=OccupancyMap(cells, 0.1, (-4.0, -4.0), 'odom'))))
    values = part.finish(0).values
    assert values['obstacle_map_f1'] == values['obstacle_map_precision'] == 1.0
    assert values['obstacle_map_maps_scored'] == 1
    assert values['obstacle_map_ghost_cells'] == 0


def test_a_map_without_a_transform_is_said(transforms):
    grid = OccupancyMap(np.zeros((8, 8), np.int8), 0.1, (0.0, 0.0), 'elsewhere')
    part = MapPart('obstacle_map', Truth(), OccupancyMap(
        np.zeros((8, 8), np.int8), 0.1, (0.0, 0.0), 'map'), transforms)
    part.add(PLACE, seen(Answers(occupancy=grid)))
    found = part.finish(0)
    assert not found.values
    assert "'elsewhere'" in found.sentences[0]
