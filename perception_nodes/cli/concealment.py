"""Serialised images without the objects of chosen classes, for recordings."""

from typing import Any

import cv2
import numpy as np
from perception_nodes.backends.registry import load_model
from perception_nodes.conversions import decode
from perception_nodes.conversions.encode import image_to_msg
from perception_nodes.core.anonymisation import AnonymisationParams, Anonymiser
from perception_nodes.ros.session import message_class
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

IMAGE, COMPRESSED_IMAGE = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
# pictures that nothing here can look into
_VIDEOS = ('ffmpeg_image_transport_msgs/msg/FFMPEGPacket', 'foxglove_msgs/msg/CompressedVideo',
           'theora_image_transport/msg/Packet')


class Concealer:
    """
    Turns serialised messages into ones that can be kept.

    :raises ValueError: If there is no such model, or it does not know a class.
    :raises OSError: If its file is not there, or another one.
    """

    def __init__(self, params: AnonymisationParams) -> None:
        self._anonymiser = Anonymiser(
            load_model(params.entry('detection', use_sim_time=False), params.device), params)
        self._anonymiser.find([np.zeros((240, 320, 3), np.uint8)])  # slow the first time

    def check(self, type_name: str, message: Any) -> None:
        """
        Check that messages of a type can be kept.

        :param message: The class of ``type_name``.
        :raises ValueError: If they hold pictures in another form.
        """
        plain = type_name in (IMAGE, COMPRESSED_IMAGE)
        # markers have a field for a texture, which is no view of a camera
        plain |= type_name.startswith('visualization_msgs/')
        if type_name in _VIDEOS or not plain and _holds_images(message):
            raise ValueError(f'{type_name} holds pictures that cannot be anonymised')

    def conceal(self, type_name: str, cdr: bytes) -> bytes:
        """
        Return the message with what is to be hidden gone; depth and all else as it is.

        :raises ValueError: If it cannot be looked into, and so must not be kept. The model and
            the decoding of pictures raise others.
        """
        if type_name == IMAGE:
            return self._raw(cdr)
        if type_name == COMPRESSED_IMAGE:
            return self._compressed(cdr)
        if type_name == 'sensor_msgs/msg/PointCloud2' and {'rgb', 'rgba'} & {
                field.name for field in deserialize_message(cdr, PointCloud2).fields}:
            raise ValueError('the colours of a point cloud cannot be anonymised')
        return cdr

    def _raw(self, cdr: bytes) -> bytes:
        msg = deserialize_message(cdr, Image)
        if decode.is_depth(msg.encoding):
            return cdr
        samples = decode.samples_from_msg(msg)
        [regions] = self._anonymiser.find([decode.rgb_from_msg(msg)])
        if not regions:
            return cdr
        hidden = self._anonymiser.hide(samples, regions)
        return serialize_message(image_to_msg(hidden, msg.encoding, msg.header))

    def _compressed(self, cdr: bytes) -> bytes:
        msg = deserialize_message(cdr, CompressedImage)
        if decode.is_depth(msg.format.partition(';')[0].strip()):
            return cdr
        rgb = decode.rgb_from_compressed_msg(msg)
        [regions] = self._anonymiser.find([rgb])
        if not regions:
            return cdr
        hidden = cv2.cvtColor(self._anonymiser.hide(rgb, regions), cv2.COLOR_RGB2BGR)
        suffix = '.png' if 'png' in msg.format.lower() else '.jpg'
        msg.data = cv2.imencode(suffix, hidden)[1].tobytes()
        return serialize_message(msg)


def _holds_images(message: Any) -> bool:
    """Return whether a message type has an image in a field, at any depth."""
    for kind in message.get_fields_and_field_types().values():
        name = kind.removeprefix('sequence<').partition('[')[0].partition(',')[0].rstrip('>')
        if name in ('sensor_msgs/Image', 'sensor_msgs/CompressedImage'):
            return True
        if '/' in name and _holds_images(message_class(name)):
            return True
    return False
