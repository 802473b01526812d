"""The node's sense of balance: which way is up, by an IMU."""

import numpy as np
import numpy.typing as npt
from perception_nodes.conversions.decode import attitude_from_msg
from perception_nodes.core.geometry import up_in_camera
from perception_nodes.core.transforms import TransformBuffer, TransformError
from sensor_msgs.msg import Imu

_LEVEL = 'level'  # the frame that an IMU tells its attitude in


class Attitude:
    """
    Keeps the orientations of one IMU, and answers for any moment between two of them.

    :param topic: Resolved name of what :meth:`receive` gets, for its sentences.
    """

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._buffer = TransformBuffer()
        self._frame = ''
        self._problem = f"nothing has come on '{topic}'"

    def receive(self, msg: Imu) -> None:
        """Keep what a message says."""
        try:
            attitude = attitude_from_msg(msg, _LEVEL)
        except ValueError as error:
            self._problem = str(error)
            return
        self._buffer.add([attitude])
        self._frame = attitude.child

    def reset(self) -> None:
        """Forget everything, because time jumped."""
        self._buffer.reset()

    def up_in(
        self, frame: str, stamp_ns: int, transforms: TransformBuffer, timeout_s: float
    ) -> npt.NDArray[np.float64]:
        """
        Return the (3,) direction against gravity in a frame that is fixed to the IMU.

        :param timeout_s: How long to wait for what may still come.
        :raises ValueError: If the IMU tells nothing about that moment.
        :raises TransformError: If it is not known how the IMU is mounted.
        """
        if not self._frame:
            raise ValueError(f'which way is up is not known: {self._problem}')
        imu_from_frame = transforms.lookup(self._frame, frame, stamp_ns, timeout_s)
        try:
            level_from_imu = self._buffer.lookup(_LEVEL, self._frame, stamp_ns, timeout_s)
        except TransformError as error:
            raise ValueError(f"topic '{self._topic}': {error}") from None
        return up_in_camera(level_from_imu @ imu_from_frame)
