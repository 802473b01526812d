"""From messages to the picture a person sees. Nothing here needs ROS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from perception_nodes.conversions.decode import (
    depth_m_from_compressed_msg,
    depth_m_from_msg,
    detections_from_msg,
    ids_from_msg,
    rgb_from_compressed_msg,
    rgb_from_msg,
)
from perception_nodes.core.overlay import (
    blend_mask,
    colour_of,
    colourise_depth,
    colourise_mask,
    draw_detections,
)

Kind = Literal['boxes', 'mask', 'instances']

_SCALE_ENDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_TRANSPARENT: Mapping[Kind, int] = {'mask': 255, 'instances': 0}  # void, no object


@dataclass(frozen=True, eq=False)
class Layer:
    """One result message to draw, and what its ids mean."""

    topic: str
    kind: Kind
    msg: Any
    class_names: Mapping[int, str]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture ready to be shown, with what a caption should say about it."""

    rgb: npt.NDArray[np.uint8]  # (H, W, 3)
    encoding: str  # of the message
    legend: Sequence[tuple[str, str]] = ()  # (colour as #rrggbb, what has it)
    note: str = ''
    failure: str = ''  # why a result could not be drawn


@dataclass
class Painter:
    """Draws the images of one topic; remembers the depth scale, so that it does not flicker."""

    topic: str
    kind: Kind | None = None  # mask, instances, or None for any other image
    class_names: Mapping[int, str] = field(default_factory=dict)
    _scale_end: float = _SCALE_ENDS[0]

    def paint(self, msg: Any, layers: Sequence[Layer]) -> Picture:
        """
        Draw one image and the results that belong to it.

        A result that cannot be decoded is left out and said in ``failure``.

        :raises ValueError: If the image cannot be decoded, with the sentence why.
        """
        picture = self._base(msg)
        # masks first: their colour must not cover a box
        for layer in sorted(layers, key=lambda layer: layer.kind == 'boxes'):
            if picture.note and layer.kind != 'boxes':
                continue  # depth has colours of its own
            try:
                picture = _draw_layer(picture, layer)
            except ValueError as error:
                picture = replace(picture, failure=f'{layer.topic}: {error}')
        return picture

    def _base(self, msg: Any) -> Picture:
        if hasattr(msg, 'format'):
            if 'compressedDepth' in msg.format:
                return self._depth(depth_m_from_compressed_msg(msg), msg.format)
            return Picture(rgb_from_compressed_msg(msg), msg.format)
        if self.kind is not None:
            ids = ids_from_msg(msg)
            return Picture(
                colourise_mask(ids, _TRANSPARENT[self.kind]), msg.encoding,
                _mask_legend(self.kind, ids, self.class_names))
        if msg.encoding in ('32FC1', '16UC1'):
            return self._depth(depth_m_from_msg(msg), msg.encoding)
        return Picture(rgb_from_msg(msg), msg.encoding)

    def _depth(self, depth_m: npt.NDArray[np.float32], encoding: str) -> Picture:
        sample = depth_m[::8, ::8]
        sample = sample[np.isfinite(sample)]
        farthest = float(np.percentile(sample, 95)) if sample.size else self._scale_end
        if not self._scale_end / 4 < farthest <= self._scale_end:
            self._scale_end = next((end for end in _SCALE_ENDS if farthest <= end), 200.0)
        # other images of floating-point numbers, such as a confidence, have no unit
        unit = ' m' if 'depth' in self.topic or '16UC1' in encoding else ''
        note = f'yellow 0{unit} to violet {self._scale_end:g}{unit}, grey: no reading'
        return Picture(colourise_depth(depth_m, 0.0, self._scale_end), encoding, note=note)


def _draw_layer(picture: Picture, layer: Layer) -> Picture:
    if layer.kind == 'boxes':
        found = detections_from_msg(layer.msg)
        rgb = draw_detections(picture.rgb, found, layer.class_names)
        legend = _legend(found.class_ids, layer.class_names, counted=True)
    else:
        ids = ids_from_msg(layer.msg)
        rgb = blend_mask(picture.rgb, ids, _TRANSPARENT[layer.kind])
        legend = _mask_legend(layer.kind, ids, layer.class_names)
    return replace(picture, rgb=rgb, legend=[*picture.legend, *legend])


def _mask_legend(
    kind: Kind, ids: npt.NDArray[Any], class_names: Mapping[int, str]
) -> list[tuple[str, str]]:
    if kind == 'instances':  # every object has a colour of its own, and its box a name
        return []
    sample = ids[::4, ::4]  # every 16th pixel is enough to say what is there
    return _legend(sample[sample != _TRANSPARENT[kind]], class_names, counted=False)


def _legend(
    class_ids: npt.NDArray[Any], class_names: Mapping[int, str], *, counted: bool
) -> list[tuple[str, str]]:
    found, counts = np.unique(class_ids, return_counts=True)
    entries = []
    for class_id, count in zip(found.tolist(), counts.tolist(), strict=True):
        name = class_names.get(class_id, f'id {class_id}')
        text = f'{count} × {name}' if counted else name
        entries.append(('#{:02x}{:02x}{:02x}'.format(*colour_of(class_id)), text))
    return entries
