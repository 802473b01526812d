"""Images to network input, and boxes back: every resize here can be undone exactly."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.manifest import ModelInput

_LETTERBOX_GREY = 114  # what the YOLO families are trained with


@dataclass(frozen=True)
class Resize:
    """The affine step from image to network pixels: ``network = image * scale + offset``."""

    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]

    @classmethod
    def between(cls, width: int, height: int, spec: ModelInput) -> 'Resize':
        """Return the step from an image of ``width`` x ``height`` into the network's input."""
        if spec.resize == 'stretch':
            return cls((spec.width / width, spec.height / height), (0.0, 0.0))
        scale = min(spec.width / width, spec.height / height)
        # whole pixels, as the image is placed, so that undoing it is exact
        size = (round(width * scale), round(height * scale))
        offset = ((spec.width - size[0]) // 2, (spec.height - size[1]) // 2)
        return cls((size[0] / width, size[1] / height), offset)

    def undo(self, boxes_xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Map (N, 4) boxes from network pixels to image pixels."""
        offset = np.array(self.offset_xy * 2, np.float32)
        scale = np.array(self.scale_xy * 2, np.float32)
        return (boxes_xyxy - offset) / scale


def network_input(
    rgb: npt.NDArray[np.uint8], spec: ModelInput
) -> tuple[npt.NDArray[np.float32], Resize]:
    """
    Resize and normalise one image.

    :param rgb: (H, W, 3) uint8 RGB.
    :return: (3, h, w) or (h, w, 3) float32 as ``spec.layout`` says, and the resize it went
        through.
    """
    height, width = rgb.shape[:2]
    resize = Resize.between(width, height, spec)
    size = (round(width * resize.scale_xy[0]), round(height * resize.scale_xy[1]))
    placed = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
    if spec.resize == 'letterbox':
        left, top = (int(o) for o in resize.offset_xy)
        placed = cv2.copyMakeBorder(
            placed, top, spec.height - size[1] - top, left, spec.width - size[0] - left,
            cv2.BORDER_CONSTANT, value=(_LETTERBOX_GREY,) * 3)
    if spec.color == 'bgr':
        placed = cv2.cvtColor(placed, cv2.COLOR_RGB2BGR)
    pixels = placed.astype(np.float32)
    if any(spec.mean) or spec.std != (1.0, 1.0, 1.0):
        pixels -= np.array(spec.mean, np.float32)
        pixels /= np.array(spec.std, np.float32)
    if spec.layout == 'NCHW':
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return pixels, resize
