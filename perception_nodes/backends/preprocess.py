"""Images to network input, and boxes back: every resize here can be undone exactly."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.manifest import ModelInput

LETTERBOX_GREY = 114  # what the YOLO families are trained with


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
        if spec.resize == 'center_crop':
            scale = max(spec.width / width, spec.height / height) / spec.crop_fraction
            size = (round(width * scale), round(height * scale))
            # rounded as torchvision rounds it
            offset = (-round((size[0] - spec.width) / 2), -round((size[1] - spec.height) / 2))
            return cls((size[0] / width, size[1] / height), offset)
        # whole pixels, as the image is placed, so that undoing it is exact
        size = _size_inside(width, height, spec)
        offset = ((spec.width - size[0]) // 2, (spec.height - size[1]) // 2)
        if spec.resize == 'letterbox_top_left':
            offset = (0, 0)
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
    placed = _placed(rgb, spec, resize)
    if spec.layout == 'NHWC':
        ordered = cv2.cvtColor(placed, cv2.COLOR_RGB2BGR) if spec.color == 'bgr' else placed
        return _normalised(np.asarray(ordered, np.uint8), spec, (1, 1, 3)), resize
    # OpenCV takes colours apart five times as fast as a transpose does
    planes = cv2.split(placed)
    ordered = np.stack(planes[::-1] if spec.color == 'bgr' else planes)
    return _normalised(np.asarray(ordered, np.uint8), spec, (3, 1, 1)), resize


def smallest_letterbox(width: int, height: int, spec: ModelInput, stride: int) -> ModelInput:
    """
    Return ``spec`` without the bars that a network free in its input size can do without.

    :param width: Width of the image, pixels.
    :param height: Height of the image, pixels.
    :param stride: What both sides of the input must be a multiple of, pixels.
    """
    if spec.resize == 'stretch':
        return spec
    size = _size_inside(width, height, spec)
    whole = [-(-side // stride) * stride for side in size]
    return replace(spec, width=min(spec.width, whole[0]), height=min(spec.height, whole[1]))


def _size_inside(width: int, height: int, spec: ModelInput) -> tuple[int, int]:
    """Return the size of an image scaled to fit, in whole pixels and at least one of each."""
    scale = min(spec.width / width, spec.height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _placed(
    rgb: npt.NDArray[np.uint8], spec: ModelInput, resize: Resize
) -> npt.NDArray[np.uint8]:
    """Return the image at the size and place in the network's input that ``resize`` says."""
    height, width = rgb.shape[:2]
    size = (round(width * resize.scale_xy[0]), round(height * resize.scale_xy[1]))
    if spec.resize == 'center_crop':
        return _cropped(rgb, spec, size, resize.offset_xy)
    inside = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
    if size == (spec.width, spec.height):
        return np.asarray(inside, np.uint8)
    left, top = (int(o) for o in resize.offset_xy)
    return np.asarray(cv2.copyMakeBorder(
        inside, top, spec.height - size[1] - top, left, spec.width - size[0] - left,
        cv2.BORDER_CONSTANT, value=(LETTERBOX_GREY,) * 3), np.uint8)


def _cropped(
    rgb: npt.NDArray[np.uint8], spec: ModelInput, size: tuple[int, int],
    offset_xy: tuple[float, float],
) -> npt.NDArray[np.uint8]:
    """Return the middle of an image that is scaled to ``size``."""
    # classifiers are trained on pictures shrunk without aliasing
    shrinks = size[0] < rgb.shape[1]
    scaled = cv2.resize(
        rgb, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    left, top = (int(-o) for o in offset_xy)
    return np.asarray(scaled[top:top + spec.height, left:left + spec.width], np.uint8)


def _normalised(
    pixels: npt.NDArray[np.uint8], spec: ModelInput, per_colour: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    values = pixels.astype(np.float32)
    if any(spec.mean):
        values -= np.array(spec.mean, np.float32).reshape(per_colour)
    if spec.std != (1.0, 1.0, 1.0):
        values /= np.array(spec.std, np.float32).reshape(per_colour)
    return values
