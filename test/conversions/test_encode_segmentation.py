"""Masks and points with classes as messages, read back byte by byte."""

import numpy as np
from perception_nodes.conversions.decode import ids_from_msg
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
from perception_nodes.conversions.encode import header_to_msg  # noqa: E402
from perception_nodes.conversions.encode_segmentation import (  # noqa: E402
    labelled_points_to_msg,
    mask_to_msg,
)
from sensor_msgs.msg import PointField  # noqa: E402

HEADER = header_to_msg(1_000_000_007, 'camera')


@pytest.mark.parametrize(('dtype', 'encoding'), [(np.uint8, 'mono8'), (np.uint16, 'mono16')])
def test_masks_come_back_as_they_were(dtype, encoding):
    """Both widths, up to the largest id."""
    ids = np.array([[0, 7, 9], [1, 2, np.iinfo(dtype).max]], dtype)
    msg = mask_to_msg(ids, HEADER)
    assert (msg.encoding, msg.header, msg.step) == (encoding, HEADER, 3 * ids.itemsize)
    found = ids_from_msg(msg)
    assert found.dtype == dtype
    assert (found == ids).all()


def test_points_carry_their_classes():
    """Fields lie where the message says, and hold what was put in."""
    points = np.array([[1.5, -2.0, 3.25], [0.0, 0.5, 7.0]], np.float32)
    msg = labelled_points_to_msg(points, np.array([3, 65535], np.uint16), HEADER)
    assert (msg.header, msg.height, msg.width, msg.is_dense) == (HEADER, 1, 2, True)
    assert len(msg.data) == msg.row_step == 2 * msg.point_step
    kinds = {PointField.FLOAT32: '<f4', PointField.UINT16: '<u2'}
    rows = np.array(msg.data, np.uint8).reshape(2, msg.point_step)
    values = {f.name: rows[:, f.offset:].copy().view(kinds[f.datatype])[:, 0].tolist()
              for f in msg.fields}
    assert values == {'x': [1.5, 0.0], 'y': [-2.0, 0.5], 'z': [3.25, 7.0], 'label': [3, 65535]}


def test_no_points_are_an_empty_cloud():
    """Depth without a single reading is published, too."""
    msg = labelled_points_to_msg(np.empty((0, 3), np.float32), np.empty(0, np.uint16), HEADER)
    assert (msg.width, len(msg.data), len(msg.fields)) == (0, 0, 4)
