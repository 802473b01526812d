"""Grasps of things whose size is known, on a table whose height is known."""

from dataclasses import replace
import math

import numpy as np
from perception_nodes.core.geometry import deproject, inverse, transform_points
from perception_nodes.core.grasping import (
    block_on_table,
    GraspContext,
    GraspParams,
    GraspPlanner,
)
from perception_nodes.core.height_map import approach_frame, find_support, NoSupportError
from perception_nodes.core.types import CameraIntrinsics, Detections, RgbdFrame
import pytest

CAMERA = CameraIntrinsics.from_fov(320, 240, 60.0)
HEIGHT_M = 0.6


def level_from_camera(pitch_deg):
    """Return the pose of a camera that looks at the origin of the table from HEIGHT_M above."""
    pitch = math.radians(pitch_deg)
    ahead = np.array([math.cos(pitch), 0.0, -math.sin(pitch)])
    right = np.array([0.0, -1.0, 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([right, np.cross(ahead, right), ahead])
    pose[:3, 3] = -ahead * HEIGHT_M / math.sin(pitch)
    return pose


def table_with(boxes, pitch_deg=90.0):
    """
    Return the exact depth of boxes on a table.

    :param boxes: (x, y, yaw, length along x, width along y, height) of each, metres.
    """
    pose = level_from_camera(pitch_deg)
    ones = np.ones((CAMERA.height, CAMERA.width), np.float32)
    rays = deproject(ones, CAMERA).reshape(-1, 3).astype(float) @ pose[:3, :3].T
    eye = pose[:3, 3]
    depth = np.where(rays[:, 2] < 0.0, -eye[2] / np.minimum(rays[:, 2], -1e-9), np.inf)
    for x, y, yaw, *size in boxes:
        half = np.array(size) / 2.0
        turn = np.array([[math.cos(yaw), math.sin(yaw), 0.0],
                         [-math.sin(yaw), math.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
        start, along = turn @ (eye - (x, y, half[2])), rays @ turn.T
        with np.errstate(divide='ignore', invalid='ignore'):
            ends = np.sort([(-half - start) / along, (half - start) / along], axis=0)
        near, far = ends[0].max(axis=1), ends[1].min(axis=1)
        depth = np.where((near < far) & (near < depth), near, depth)
    return depth.reshape(CAMERA.height, CAMERA.width).astype(np.float32), pose


def frame_of(depth_m):
    return RgbdFrame(
        np.zeros((*depth_m.shape, 3), np.uint8), 1, 'camera', depth_m, CAMERA)


def context_of(pose, **more):
    return replace(GraspContext.of_pose(pose, 0.0), **more)


def propose(depth_m, pose, params=None, **more):
    return GraspPlanner(params or GraspParams()).propose(
        frame_of(depth_m), context_of(pose, **more))


@pytest.mark.parametrize(('pitch_deg', 'off_m'), [(90.0, 0.02), (60.0, 0.02), (40.0, 0.045)])
def test_a_block_is_held_across_its_width(pitch_deg, off_m):
    """The best grasp is near its middle (or its near end), turned as it is, wider than it."""
    yaw = 0.5
    depth_m, pose = table_with([(0.02, -0.03, yaw, 0.12, 0.04, 0.06)], pitch_deg)
    found = propose(depth_m, pose)
    assert len(found) > 0
    assert found.why_none == ''
    best = pose @ found.camera_from_grasp[0]
    assert np.linalg.norm(best[:2, 3] - (0.02, -0.03)) < off_m
    assert 0.003 < best[2, 3] < 0.05
    assert best[2, 2] == pytest.approx(-1.0, abs=1e-3)  # it comes from above
    closing = np.array([-math.sin(yaw), math.cos(yaw), 0.0])
    assert abs(best[:3, 1] @ closing) > math.cos(math.radians(12))
    assert 0.045 < found.openings_m[0] <= 0.08
    assert np.linalg.det(best[:3, :3]) == pytest.approx(1.0)
    assert (np.diff(found.scores) <= 0.0).all()


def test_a_gabled_block_is_held_along_its_ridge():
    """Both slopes are too steep to hold; the gables are upright, however low the roof there."""
    roof = [(0.0, 0.0, 0.0, 0.06, 0.068 - 0.008 * step, 0.06 + 0.006 * step) for step in range(8)]
    depth_m, pose = table_with(roof)
    found = propose(depth_m, pose, GraspParams(finger_depth_m=0.03))
    assert len(found) > 2
    best = pose @ found.camera_from_grasp[0]
    assert abs(best[0, 1]) > math.cos(math.radians(12))  # it closes along x, as the ridge runs


def test_grasps_do_not_run_into_a_neighbour():
    """With another block close to one side, the fingers go where there is room."""
    depth_m, pose = table_with([
        (0.0, 0.0, 0.0, 0.05, 0.04, 0.06), (0.0, 0.05, 0.0, 0.05, 0.04, 0.06)])
    found = propose(depth_m, pose, GraspParams(max_grasps=200))
    assert len(found) > 0
    for camera_from_grasp, opening_m in zip(
            found.camera_from_grasp, found.openings_m, strict=True):
        grasp = pose @ camera_from_grasp
        for side in (-1.0, 1.0):
            finger = grasp[:3, 3] + side * (opening_m / 2 + 0.005) * grasp[:3, 1]
            for y in (0.0, 0.05):
                inside = np.abs(finger[:2] - (0.0, y)) < (0.025, 0.02)
                assert not inside.all(), 'a fingertip is inside a block'


@pytest.mark.parametrize(('boxes', 'reason'), [
    ([(0.0, 0.0, 0.0, 0.15, 0.11, 0.06)], 'too_wide'),
    ([(0.0, 0.0, 0.0, 0.05, 0.04, 0.005)], 'nothing on the support plane'),
    ([], 'nothing on the support plane'),
])
def test_what_cannot_be_held_is_named(boxes, reason):
    depth_m, pose = table_with(boxes)
    found = propose(depth_m, pose)
    assert len(found) == 0
    assert reason in found.why_none


def test_a_wider_hand_holds_it():
    depth_m, pose = table_with([(0.0, 0.0, 0.0, 0.15, 0.11, 0.06)])
    found = propose(depth_m, pose, GraspParams(max_opening_m=0.14, palm_length_m=0.17))
    assert len(found) > 0
    assert found.openings_m[0] > 0.11


@pytest.mark.parametrize(('spoil', 'words'), [
    (lambda depth_m: np.full_like(depth_m, np.nan), 'readings are valid'),
    (lambda depth_m: np.zeros_like(depth_m), 'readings are valid'),
    (lambda depth_m: depth_m * np.float32(1000.0), 'millimetres'),
    (lambda depth_m: depth_m * np.float32(0.001), 'millimetres'),
    (lambda depth_m: np.random.default_rng(0).uniform(0.3, 4.0, depth_m.shape).astype(
        np.float32), 'level plane'),
])
def test_depth_that_makes_no_sense_is_refused(spoil, words):
    """Unreadable depth, another unit, no plane: no grasp, and the reason in words."""
    depth_m, pose = table_with([(0.0, 0.0, 0.0, 0.1, 0.04, 0.06)])
    found = propose(spoil(depth_m), pose)
    assert len(found) == 0
    assert words in found.why_none


def test_holes_cost_little():
    """A tenth of the readings missing, in spots, leaves the block graspable."""
    depth_m, pose = table_with([(0.0, 0.0, 0.3, 0.12, 0.04, 0.06)])
    rng = np.random.default_rng(1)
    for row, column in rng.integers((0, 0), (236, 316), (480, 2)):
        depth_m[row:row + 4, column:column + 4] = np.nan
    found = propose(depth_m, pose)
    assert len(found) > 0
    assert np.linalg.norm((pose @ found.camera_from_grasp[0])[:2, 3]) < 0.03


def test_depth_scale_follows_the_known_height():
    """Depth that is 5 % too long still gives the place and the width of the block."""
    depth_m, pose = table_with([(0.03, 0.02, 0.0, 0.12, 0.05, 0.06)])
    support = find_support(
        depth_m * np.float32(1.05), CAMERA, pose[2, :3].copy(), HEIGHT_M)
    assert support.scale == pytest.approx(1.0 / 1.05, abs=1e-3)
    found = propose(depth_m * np.float32(1.05), pose)
    assert np.linalg.norm((pose @ found.camera_from_grasp[0])[:2, 3] - (0.03, 0.02)) < 0.015


def test_only_the_window_is_planned_on():
    """Of two blocks, the one inside the window of the image is held."""
    depth_m, pose = table_with([
        (0.0, -0.1, 0.0, 0.06, 0.04, 0.06), (0.0, 0.1, 0.0, 0.06, 0.04, 0.06)])
    # y points to the camera's left
    found = propose(depth_m, pose, window_xyxy=(160, 0, 320, 240))
    places = (pose @ found.camera_from_grasp)[:, 1, 3]
    assert len(places) > 0
    assert (places < 0.0).all()
    empty = propose(depth_m, pose, window_xyxy=(0, 0, 20, 20))
    assert 'region' in empty.why_none
    # a region comes from outside: of one that reaches out of the image the rest is ignored
    beyond = propose(depth_m, pose, window_xyxy=(160, -5, 4_000_000_000, 4_000_000_000))
    assert (beyond.camera_from_grasp == found.camera_from_grasp).all()
    outside = propose(depth_m, pose, window_xyxy=(400, 300, 500, 400))
    assert 'region' in outside.why_none


def test_the_class_is_that_of_the_smallest_box_about_the_grasp():
    depth_m, pose = table_with([(0.0, 0.0, 0.0, 0.1, 0.05, 0.06)])
    boxes = np.array([[0, 0, 320, 240], [120, 80, 200, 160], [0, 0, 40, 40]], np.float32)
    detections = Detections(boxes, np.ones(3, np.float32), np.array([1, 3, 5]))
    found = propose(depth_m, pose, detections=detections)
    assert set(found.class_ids.tolist()) == {3}
    assert set(propose(depth_m, pose).class_ids.tolist()) == {-1}


def test_unseen_space_behind_a_block_is_not_free():
    """Behind a tall block a slanting camera sees nothing: the map says how high that may be."""
    depth_m, pose = table_with([(0.0, 0.0, 0.0, 0.04, 0.2, 0.12)], 45.0)
    plan = GraspPlanner(GraspParams()).plans(frame_of(depth_m), context_of(pose))[0]
    map_from_level = inverse(plan.heights.camera_from_map) @ inverse(pose)
    behind, before = transform_points(
        map_from_level, np.array([[0.04, 0.0, 0.0], [-0.04, 0.0, 0.0]]))

    def cell(place):
        column, row = np.floor((place[:2] - plan.heights.origin_m) / plan.heights.cell_m)
        return int(row), int(column)
    assert not plan.heights.known[cell(behind)]
    assert plan.heights.upper_m[cell(behind)] == pytest.approx(0.10, abs=0.012)
    assert plan.heights.known[cell(before)]
    assert plan.heights.top_m[cell(before)] == pytest.approx(0.0, abs=0.003)


def test_tilted_approaches_lean_as_asked():
    """What is too wide from above is held aslant, by the angle of the parameter."""
    slab = (0.0, 0.0, 0.0, 0.16, 0.1, 0.05)
    depth_m, pose = table_with([slab], 60.0)
    assert 'too_wide' in propose(depth_m, pose).why_none
    plans = GraspPlanner(GraspParams(tilt_deg=40.0)).plans(frame_of(depth_m), context_of(pose))
    assert len(plans) == 9
    leaning = [plan for plan in plans[1:] if len(plan.usable)]
    assert leaning
    for plan in leaning:
        approach = (pose[:3, :3] @ plan.poses(plan.usable[:1])[0, :3, :3])[:, 2]
        assert -approach[2] == pytest.approx(math.cos(math.radians(40.0)), abs=0.01)


def test_every_rejected_candidate_has_a_reason():
    depth_m, pose = table_with([(0.0, 0.0, 0.0, 0.1, 0.1, 0.06)])
    plan = GraspPlanner(GraspParams()).plans(frame_of(depth_m), context_of(pose))[0]
    counts = plan.rejections()
    rejected = GraspPlanner(GraspParams()).propose(
        frame_of(depth_m), context_of(pose), with_rejected=True).rejected_m
    assert {reason: len(places) for reason, places in rejected.items()} == counts
    assert counts.keys() <= {'too_wide', 'not_opposed', 'too_shallow', 'leaning',
                             'finger_collision', 'palm_collision'}
    assert sum(counts.values()) + len(plan.usable) == len(plan.rows)


def test_a_wall_is_no_support():
    """With up known, an upright plane is not taken for a table."""
    wall = np.full((CAMERA.height, CAMERA.width), 1.0, np.float32)
    with pytest.raises(NoSupportError, match='level plane'):
        find_support(wall, CAMERA, np.array([0.0, -1.0, 0.0]))
    assert find_support(wall, CAMERA).plane.offset_m == pytest.approx(-1.0, abs=1e-3)


def test_approach_frames_are_rigid():
    depth_m, _ = table_with([])
    support = find_support(depth_m, CAMERA)
    frame = approach_frame(support, 0.4, 1.0)
    assert frame[:3, :3] @ frame[:3, :3].T == pytest.approx(np.eye(3), abs=1e-9)
    assert frame[:3, 2] @ support.plane.normal == pytest.approx(math.cos(0.4))


def test_planning_twice_gives_the_same():
    depth_m, pose = table_with([(0.0, 0.0, 0.3, 0.1, 0.05, 0.06)])
    first, second = propose(depth_m, pose), propose(depth_m, pose)
    assert np.array_equal(first.camera_from_grasp, second.camera_from_grasp)


def test_what_a_scene_offers_stays_what_it_was():
    """Three blocks seen aslant give the candidates that they gave before the loops were tuned."""
    depth_m, pose = table_with([
        (0.0, 0.02, 0.4, 0.12, 0.05, 0.06), (0.06, -0.07, 0.0, 0.05, 0.04, 0.08),
        (-0.09, -0.05, 1.0, 0.15, 0.11, 0.05)], 55.0)
    plan = GraspPlanner(GraspParams()).plans(frame_of(depth_m), context_of(pose))[0]
    counts = {**plan.rejections(), 'usable': len(plan.usable)}
    assert counts == pytest.approx({
        'not_opposed': 921, 'too_wide': 363, 'too_shallow': 345, 'finger_collision': 87,
        'palm_collision': 72, 'leaning': 10, 'usable': 258}, rel=0.02, abs=2)


@pytest.mark.parametrize('opening_m', [0.04, 0.08, 0.14])
def test_what_planning_is_warmed_up_on_has_a_grasp_and_an_object(opening_m):
    """A view without them would leave half of the loops to be compiled in the first frame."""
    params = GraspParams(max_opening_m=opening_m)
    found = GraspPlanner(params).propose(block_on_table(params), with_objects=True)
    assert len(found) > 0
    assert len(found.objects_3d) == 1
