"""Small bags whose answers are known."""

import numpy as np
from perception_nodes.core.types import CameraIntrinsics, ClassScores, Detections
from perception_nodes.evaluation.bag_writer import BagWriter
import pytest

FRAME = 'camera_color_optical_frame'
PERIOD_NS = 100_000_000
LENS = CameraIntrinsics.from_fov(64, 48, 60.0)
TRUTH = '/simulation/ground_truth'


class SmallBag:
    """
    Writes messages into a bag; stamps are nanoseconds from 1 s on.

    :param delay_ns: How much later than its stamp a message is recorded.
    """

    def __init__(self, path, storage='mcap'):
        from perception_nodes.conversions import encode, encode_robot
        self.encode, self.encode_robot = encode, encode_robot
        self.path = path
        self._writer = BagWriter(path, storage)
        self._known = set()

    def put(self, topic, msg, stamp_ns, delay_ns=0):
        from rclpy.serialization import serialize_message
        kind = type(msg)
        if topic not in self._known:
            self._known.add(topic)
            self._writer.add_topic(
                topic, f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}')
        self._writer.write(topic, stamp_ns + delay_ns, bytes(serialize_message(msg)))

    def put_unknown(self, topic, stamp_ns):
        """Write a message of a type that is defined nowhere on this machine."""
        self._writer._writer.add_connection(
            topic, 'vendor_msgs/msg/Status', msgdef='', rihs01='unknown')
        connection = self._writer._writer.connections[-1]
        self._writer._writer.write(connection, stamp_ns, b'\0\1\0\0')

    def header(self, stamp_ns, frame_id=FRAME):
        return self.encode.header_to_msg(stamp_ns, frame_id)

    def image(self, stamp_ns, rgb, topic='/camera/color/image_raw'):
        self.put(topic, self.encode.image_to_msg(rgb, 'rgb8', self.header(stamp_ns)), stamp_ns)

    def depth(self, stamp_ns, depth_m):
        self.put('/camera/aligned_depth_to_color/image_raw',
                 self.encode.image_to_msg(depth_m, '32FC1', self.header(stamp_ns)), stamp_ns)

    def info(self, stamp_ns, lens=LENS, topic='/camera/color/camera_info'):
        self.put(topic, self.encode.intrinsics_to_msg(lens, self.header(stamp_ns)), stamp_ns)

    def mask(self, stamp_ns, ids, topic=f'{TRUTH}/mask'):
        self.put(topic, self.encode.image_to_msg(ids, 'mono8', self.header(stamp_ns)), stamp_ns)

    def boxes(self, stamp_ns, found, topic=f'{TRUTH}/detections', delay_ns=0):
        self.put(topic, self.encode.detections_to_msg(found, self.header(stamp_ns)), stamp_ns,
                 delay_ns)

    def classification(self, stamp_ns, class_id, topic=f'{TRUTH}/classification'):
        answer = ClassScores(np.array([class_id]), np.ones(1, np.float32))
        self.put(topic, self.encode.classification_to_msg(answer, self.header(stamp_ns)),
                 stamp_ns)

    def labels(self, class_names, topic=f'{TRUTH}/label_info'):
        self.put(topic, self.encode.label_info_to_msg(class_names, 0.0, self.header(0)),
                 1_000_000_000)

    def close(self):
        self._writer.close()
        return self.path


@pytest.fixture
def small_bag(tmp_path):
    """Return a maker of bags in a folder of the test's own."""
    pytest.importorskip('vision_msgs', reason='the ROS message packages are not installed')
    pytest.importorskip('rclpy', reason='rclpy is not installed')
    return lambda name='bag', storage='mcap': SmallBag(tmp_path / name, storage)


def boxes(rows, object_ids=None):
    """Return detections from rows of left, top, right, bottom, score and class id."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32), table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int64),
        None if object_ids is None else np.array(object_ids, np.int64))


@pytest.fixture(name='boxes')
def boxes_fixture():
    return boxes
