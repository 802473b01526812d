"""
Results drawn onto pictures: what debug images, the viewer and the report all look like.

Everything is RGB, takes read-only arrays and returns new ones.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.instances import instance_image
from perception_nodes.core.keypoints import skeleton
from perception_nodes.core.types import BACKGROUND, Detections, Ids

Colour = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]

# Okabe and Ito's seven colours (jfly.uni-koeln.de/color), then the farthest remaining ones in
# CIELAB as normal, protan, deutan and tritan eyes see them (Machado et al. 2009)
_PALETTE: npt.NDArray[np.uint8] = np.array([
    (0, 114, 178), (230, 159, 0), (86, 180, 233), (213, 94, 0), (0, 158, 115), (240, 228, 66),
    (204, 121, 167), (135, 15, 255), (195, 240, 180), (225, 0, 75), (0, 255, 240),
    (150, 120, 255), (180, 195, 105), (150, 75, 120), (105, 75, 225), (210, 0, 180),
    (135, 195, 135), (150, 255, 120), (255, 165, 195), (120, 165, 60), (120, 150, 240),
    (165, 75, 30), (60, 120, 75), (0, 210, 45)], np.uint8)
_VOID = 255  # what a mask holds where there is no class
_LEAST_SHARE = 0.003  # of the picture that a class covers whose name is written on it
_UNKNOWN = 170  # shade of cells of a map that nobody has seen
_NO_READING: Colour = (96, 96, 96)  # no colour of the depth scale is grey
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_UNICODE_FONT = int(cv2.__version__.split('.')[0]) >= 5


def colour_of(class_id: int) -> Colour:
    """
    Return the colour of a class, the same in every picture.

    Neighbouring ids differ clearly for colour-blind people too; every 24th id looks the same.

    :return: Red, green and blue, 0 to 255.
    """
    red, green, blue = _PALETTE[class_id % len(_PALETTE)].tolist()
    return red, green, blue


def draw_occupancy(cells: npt.NDArray[np.int8]) -> Pixels:
    """
    Draw a map as seen from above, x to the right and y up.

    :param cells: (H, W) int8: 0 free is white, 100 occupied is black, -1 unknown is grey.
    :return: (H, W, 3) uint8.
    """
    shade = np.where(cells < 0, _UNKNOWN, 255 - np.minimum(cells, 100) * 2.55).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(shade[::-1, :, None], 3, axis=2))


def draw_detections(
    rgb: Pixels, detections: Detections, class_names: Mapping[int, str]
) -> Pixels:
    """
    Draw boxes with name, object number and score; the best ones come to lie on top.

    Masks are laid under them, each object's in a colour of its own; key points that are seen come
    to lie over them, joined where COCO joins them. Lines and letters grow with the image. Boxes
    outside the image, or with a side that is not a number, are left out; of the others the
    visible part is drawn.

    :param rgb: (H, W, 3) uint8.
    :param class_names: Class id to name; an id without a name is shown as its number.
    :return: A new (H, W, 3) uint8 picture.
    """
    picture = rgb.copy()
    if detections.masks is not None:
        ids = instance_image(detections.masks, detections.scores)
        picture = blend_mask(rgb, ids, transparent=0)
    visible = detections[_visible(detections.boxes_xyxy, *rgb.shape[:2])]
    visible = visible[np.argsort(visible.scores, kind='stable')]
    corners = _pixel_corners(visible.boxes_xyxy, *rgb.shape[:2])
    class_ids = visible.class_ids.tolist()
    width = max(1, round(min(rgb.shape[:2]) / 240))
    for box in corners:
        # a dark seam keeps the box visible on a background of its own colour
        _draw_frame(picture, box, width + 2, (0, 0, 0))
    for box, class_id in zip(corners, class_ids, strict=True):
        _draw_frame(picture, box, width, colour_of(class_id))
    numbers = [''] * len(visible)
    if visible.object_ids is not None:
        numbers = [f' #{number}' for number in visible.object_ids.tolist()]
    for box, class_id, number, score in zip(
            corners, class_ids, numbers, visible.scores.tolist(), strict=True):
        name = _printable(class_names.get(class_id, f'id {class_id}'))
        _draw_label(picture, name, f'{number} {score:.2f}', box[:2], colour_of(class_id))
    if visible.keypoints is not None:
        for i, points in enumerate(visible.keypoints):
            _draw_keypoints(picture, points, width, colour_of(i))
    return picture


def colourise_mask(ids: Ids, transparent: int = _VOID) -> Pixels:
    """
    Paint a mask in the colours of its classes.

    :param ids: (H, W) uint8 or uint16 class or instance ids.
    :param transparent: The id that stays black.
    :return: (H, W, 3) uint8.
    """
    table = np.resize(_PALETTE, (np.iinfo(ids.dtype).max + 1, 3))
    table[transparent] = 0
    return np.take(table, ids, axis=0)


def blend_mask(
    rgb: Pixels, ids: Ids, transparent: int = _VOID, opacity: float = 0.45
) -> Pixels:
    """
    Lay a mask over its picture as translucent colour.

    :param rgb: (H, W, 3) uint8.
    :param ids: (H', W') uint8 or uint16 ids of the same view, stretched where sizes differ.
    :param transparent: The id that leaves the picture as it is.
    :param opacity: 0 shows only the picture, 1 only the mask.
    :return: A new (H, W, 3) uint8 picture.
    """
    height, width = rgb.shape[:2]
    colours = colourise_mask(ids, transparent)
    void = (ids == transparent).view(np.uint8)
    if ids.shape != (height, width):
        colours, void = (np.asarray(cv2.resize(
            layer, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
            for layer in (colours, void))
    mixed = np.asarray(cv2.addWeighted(rgb, 1.0 - opacity, colours, opacity, 0.0), np.uint8)
    cv2.copyTo(rgb, void, mixed)
    return mixed


def draw_mask(rgb: Pixels, ids: Ids, class_names: Mapping[int, str]) -> Pixels:
    """
    Lay a mask over its picture, and write each class where it is widest.

    Void and a class called ``background`` leave the picture as it is.

    :param rgb: (H, W, 3) uint8.
    :param ids: (H, W) uint8 or uint16 class ids.
    :param class_names: Class id to name; an id without a name is shown as its number.
    :return: A new (H, W, 3) uint8 picture.
    """
    void = int(np.iinfo(ids.dtype).max)
    background = [i for i, name in class_names.items() if name == BACKGROUND]
    shown = np.where(np.isin(ids, background), ids.dtype.type(void), ids) if background else ids
    picture = blend_mask(rgb, shown, void)
    counts = np.bincount(shown.ravel(), minlength=void + 1)[:void]
    for class_id in np.flatnonzero(counts >= _LEAST_SHARE * shown.size).tolist():
        inside = cv2.copyMakeBorder(
            (shown == class_id).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        _, _, _, (x, y) = cv2.minMaxLoc(cv2.distanceTransform(inside, cv2.DIST_L2, 3))
        name = _printable(class_names.get(class_id, f'id {class_id}'))
        _draw_label(picture, name, '', (x - 1, y - 1), colour_of(class_id))
    return picture


def colourise_depth(depth_m: npt.NDArray[np.float32], near_m: float, far_m: float) -> Pixels:
    """
    Paint depth from yellow (near) over green to violet (far), and grey for no reading.

    :param depth_m: (H, W) float32 metres; NaN no reading, +inf beyond range, -inf too near.
    :param near_m: Depth of the near end of the scale; what is nearer looks the same.
    :param far_m: Depth of the far end.
    :return: (H, W, 3) uint8.
    :raises ValueError: If the far end is not beyond the near end.
    """
    if not near_m < far_m:
        raise ValueError(f'depth scale runs from {near_m} m to {far_m} m; far must exceed near')
    unknown = np.isnan(depth_m)
    nearness = (np.clip(depth_m, near_m, far_m) - far_m) * (255.0 / (near_m - far_m))
    nearness[unknown] = 0.0
    # viridis grows evenly in brightness, so colour-blind people and printers keep the order
    bgr = cv2.applyColorMap(np.rint(nearness).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    rgb[unknown] = _NO_READING
    return np.asarray(rgb, np.uint8)


def _visible(boxes: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the (N,) boxes that are finite and reach into the image."""
    left, top, right, bottom = boxes.T
    inside = (right >= 0) & (bottom >= 0) & (left < width) & (top < height)
    return np.asarray(np.isfinite(boxes).all(axis=1) & inside)


def _pixel_corners(
    boxes: npt.NDArray[np.float32], height: int, width: int
) -> list[list[int]]:
    """Return the boxes in whole pixels inside the image."""
    limits = (width - 1, height - 1, width - 1, height - 1)
    return [[round(x) for x in box] for box in np.clip(boxes, 0, limits).tolist()]


def _draw_frame(picture: Pixels, box: Sequence[int], width: int, colour: Colour) -> None:
    """Draw lines exactly ``width`` pixels wide, which cv2.rectangle does not promise."""
    left, top, right, bottom = (max(0, edge - (width - 1) // 2) for edge in box)
    picture[top:top + width, left:right + width] = colour
    picture[bottom:bottom + width, left:right + width] = colour
    picture[top:bottom + width, left:left + width] = colour
    picture[top:bottom + width, right:right + width] = colour


def _draw_keypoints(
    picture: Pixels, points: npt.NDArray[np.float32], width: int, colour: Colour
) -> None:
    """Draw the points of one object, (K, 3) x, y and score, that lie in the image."""
    height, image_width = picture.shape[:2]
    with np.errstate(invalid='ignore'):
        inside = (points[:, :2] >= 0) & (points[:, :2] < (image_width, height))
    seen = np.asarray(inside.all(axis=1))
    places = np.floor(np.where(seen[:, None], points[:, :2], 0)).astype(int).tolist()
    for one, other in skeleton(len(points)):
        if seen[one] and seen[other]:
            cv2.line(picture, places[one], places[other], (0, 0, 0), width + 2, cv2.LINE_AA)
            cv2.line(picture, places[one], places[other], colour, width, cv2.LINE_AA)
    for k in np.flatnonzero(seen).tolist():
        cv2.circle(picture, places[k], 2 * width, (0, 0, 0), cv2.FILLED, cv2.LINE_AA)
        cv2.circle(picture, places[k], 2 * width - 1, colour, cv2.FILLED, cv2.LINE_AA)


def _draw_label(
    picture: Pixels, name: str, figures: str, corner: Sequence[int], colour: Colour
) -> None:
    """Write on a filled plate upon the corner, or under it at the top of the image."""
    height, width = picture.shape[:2]
    short_side = min(height, width)
    scale = 0.42 * max(1.0, short_side / 240) ** 0.5
    weight = 1 if short_side < 700 else 2
    (_, letter_height), _ = cv2.getTextSize('Hg', _FONT, scale, weight)
    pad = max(2, letter_height // 4)
    plate_height = letter_height + 3 * pad
    text, text_width = _fitted(name, figures, scale, weight, width - 2 * pad)
    left, top = corner
    left = max(0, min(left, width - text_width - 2 * pad))
    upper = top - plate_height if top >= plate_height else top
    upper = max(0, min(upper, height - plate_height))
    right, lower = left + text_width + 2 * pad - 1, upper + plate_height - 1
    cv2.rectangle(picture, (left, upper), (right, lower), colour, cv2.FILLED)
    ink = (0, 0, 0) if _is_bright(colour) else (255, 255, 255)
    baseline = (left + pad, upper + pad + letter_height)
    cv2.putText(picture, text, baseline, _FONT, scale, ink, weight, cv2.LINE_AA)


def _fitted(name: str, figures: str, scale: float, weight: int, room: int) -> tuple[str, int]:
    """Return the label, its name cut where it is wider than ``room`` pixels, and its width."""
    def width_of(text: str) -> int:
        (text_width, _), _ = cv2.getTextSize(text, _FONT, scale, weight)
        return text_width

    text, kept = name + figures, name
    while width_of(text) > room and kept:
        kept = kept[:-1]
        text = f'{kept}..{figures}'
    return text, width_of(text)


def _is_bright(colour: Colour) -> bool:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue > 140


def _printable(name: str) -> str:
    """Return the name in one line of characters that this OpenCV can draw."""
    line = ' '.join(name.split())
    charset = 'utf-8' if _UNICODE_FONT else 'ascii'
    return line.encode(charset, 'replace').decode(charset)
