"""Masks and points with classes to ROS messages."""

from array import array

import numpy as np
import numpy.typing as npt
from perception_nodes.conversions.encode import image_to_msg
from perception_nodes.core.types import Ids
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

# as PCL's PointXYZL begins; two bytes fill up the last four
_LABELLED_POINT = np.dtype({
    'names': ['x', 'y', 'z', 'label'], 'formats': ['<f4', '<f4', '<f4', '<u2'],
    'offsets': [0, 4, 8, 12], 'itemsize': 16})
_FIELDS = [
    *(PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
      for i, name in enumerate('xyz')),
    PointField(name='label', offset=12, datatype=PointField.UINT16, count=1)]


def mask_to_msg(ids: Ids, header: Header) -> Image:
    """
    Convert a mask to ``sensor_msgs/Image`` in mono8, or in mono16 where ids have 16 bits.

    :param ids: (H, W) uint8 or uint16 class ids.
    """
    return image_to_msg(ids, 'mono8' if ids.dtype == np.uint8 else 'mono16', header)


def labelled_points_to_msg(
    points: npt.NDArray[np.float32], labels: npt.NDArray[np.uint16], header: Header
) -> PointCloud2:
    """
    Convert points to an unordered ``sensor_msgs/PointCloud2`` of x, y, z (float32) and label.

    :param points: (N, 3) metres, in the frame of the header.
    :param labels: (N,) uint16 class ids.
    """
    table = np.zeros(len(points), _LABELLED_POINT)
    for i, name in enumerate('xyz'):
        table[name] = points[:, i]
    table['label'] = labels
    data = array('B')
    data.frombytes(table.view(np.uint8).data)
    return PointCloud2(
        header=header, height=1, width=len(table), fields=_FIELDS, is_bigendian=False,
        point_step=table.itemsize, row_step=table.nbytes, data=data, is_dense=True)
