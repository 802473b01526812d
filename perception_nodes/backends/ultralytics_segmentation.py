"""YOLO checkpoints of ultralytics as segmenters: semantic ones, and the masks of instances."""

from dataclasses import replace

from perception_nodes.backends import heads
from perception_nodes.backends.torch_segmenter import TorchSegmenter
from perception_nodes.backends.ultralytics_backend import open_network
from perception_nodes.backends.ultralytics_instances import UltralyticsInstances
from perception_nodes.core.manifest import ModelEntry
from perception_nodes.core.protocols import SegmenterModel
from perception_nodes.core.segmentation import PaintedInstances
from perception_nodes.core.types import BACKGROUND

_SEMANTIC = 'SemanticSegmentationModel'  # of ultralytics 8.4 and newer
_KINDS = (_SEMANTIC, 'SegmentationModel')


def load_segmenter(entry: ModelEntry, device: str, half_precision: bool) -> SegmenterModel:
    """Load a segmentation model; see :func:`perception_nodes.backends.registry.load_model`."""
    network, place = open_network(entry, device, half_precision, _KINDS, check_classes=False)
    try:
        if type(network).__name__ == _SEMANTIC:
            heads.ScoreColumns(entry.class_names).ids(len(network.names))
            return TorchSegmenter(
                network, entry, place, half_precision, stride=int(network.stride.max()))
        things = {i: name for i, name in entry.class_names.items() if name != BACKGROUND}
        heads.ScoreColumns(things).ids(len(network.names))
    except ValueError as error:
        raise ValueError(f"model '{entry.name}': {error}") from error
    return PaintedInstances(
        UltralyticsInstances(
            network, replace(entry, class_names=things), place, half_precision),
        entry.class_names)
