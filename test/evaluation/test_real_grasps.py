"""Grasps of real household objects on a table, seen aslant and without transforms."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
from perception_nodes.backends.grasp_planner import make_planner
from perception_nodes.conversions import decode
from perception_nodes.core.geometry import deproject, inverse, project, transform_points
from perception_nodes.core.grasping import GraspParams
from perception_nodes.core.height_map import find_support, smoothed
from perception_nodes.core.types import RgbdFrame
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.grasp_overlay import draw_grasps
import pytest

pytestmark = pytest.mark.data

# a hand that opens 12 cm, with fingers of 7 cm
HAND = GraspParams(max_opening_m=0.12, finger_depth_m=0.07, palm_length_m=0.15, max_grasps=80)
OUT = Path(os.environ.get('PERCEPTION_NODES_OUT', 'out')) / 'grasp'


@pytest.fixture(scope='module')
def frames(data_dir):
    """Return the bag's frames and the named objects in each."""
    parts = {}
    with Bag(data_dir / 'bags' / 'tabletop') as bag:
        for message in bag.messages():
            part = parts.setdefault(message.stamp_ns, {})
            if message.topic.endswith('compressed'):
                part['rgb'] = decode.rgb_from_compressed_msg(message.content)
            elif message.topic.endswith('camera_info'):
                part['intrinsics'] = decode.intrinsics_from_msg(message.content)
            else:
                part['depth_m'] = decode.depth_m_from_msg(message.content)
    named = json.loads((data_dir / 'bags' / 'tabletop.objects.json').read_text())
    objects = {one['stamp_ns']: one['objects'] for one in named}
    return [(RgbdFrame(stamp_ns=stamp, frame_id='camera', **part), objects[stamp])
            for stamp, part in parts.items()]


@pytest.fixture(scope='module', params=['', 'grasp_scorer'])
def grasps(frames, request):
    """Return the grasps of each frame, by the geometry alone or scored, and leave pictures."""
    planner = make_planner(HAND, request.param, device='cpu')
    found = [planner.propose(frame) for frame, _ in frames]
    OUT.mkdir(parents=True, exist_ok=True)
    for number, ((frame, _), some) in enumerate(zip(frames, found, strict=True)):
        drawn = draw_grasps(frame.rgb, some, frame.intrinsics, HAND.finger_depth_m)
        cv2.imwrite(str(OUT / f'tabletop_{number}{request.param}.png'), drawn[:, :, ::-1])
    return found


def test_most_named_objects_have_a_grasp(frames, grasps):
    """In each frame at least 6 of the 9 or 10 objects have one within 40 pixels."""
    for (frame, objects), found in zip(frames, grasps, strict=True):
        pixels = project(found.camera_from_grasp[:, :3, 3], frame.intrinsics)
        near = [one['name'] for one in objects
                if np.linalg.norm(pixels - one['center_px'], axis=1).min() < 40.0]
        assert len(near) >= 6, near


def test_something_stands_between_the_fingers(frames, grasps):
    """None is on bare table: readings at least 1 cm over it are between the fingers."""
    for (frame, _), found in zip(frames, grasps, strict=True):
        points, heights = cloud(frame)
        for pose, opening_m in zip(found.camera_from_grasp, found.openings_m, strict=True):
            local = transform_points(inverse(pose), points)
            between = ((np.abs(local[:, 0]) < HAND.finger_width_m / 2)
                       & (np.abs(local[:, 1]) < opening_m / 2)
                       & (local[:, 2] < 0.0) & (local[:, 2] > -HAND.finger_depth_m))
            assert (between & (heights > 0.01)).any()


def test_open_hands_do_not_touch_the_cloud(frames, grasps):
    """Hardly any reading lies inside a finger or the palm of any grasp."""
    thick = HAND.finger_thickness_m
    for (frame, _), found in zip(frames, grasps, strict=True):
        points, _ = cloud(frame)
        for pose, opening_m in zip(found.camera_from_grasp, found.openings_m, strict=True):
            x, y, z = transform_points(inverse(pose), points).T
            aside = np.abs(y) - opening_m / 2
            fingers = ((np.abs(x) < HAND.finger_width_m / 2) & (aside > 0.0) & (aside < thick)
                       & (z < 0.0) & (z > -HAND.finger_depth_m))
            palm = ((np.abs(x) < HAND.palm_width_m / 2) & (np.abs(y) < HAND.palm_length_m / 2)
                    & (z < -HAND.finger_depth_m) & (z > -HAND.finger_depth_m - 0.04))
            assert np.count_nonzero(fingers) <= 1
            assert np.count_nonzero(palm) <= 1


def cloud(frame):
    """Return a quarter of the readings, without single ones, and their heights over the table."""
    support = find_support(frame.depth_m, frame.intrinsics)
    points = deproject(smoothed(frame.depth_m, support), frame.intrinsics)[::2, ::2].reshape(-1, 3)
    points = points[np.isfinite(points).all(axis=1)]
    return points, support.plane.heights_m(points)
