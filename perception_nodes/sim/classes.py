"""What the pixels and objects of the simulator are called."""

from types import MappingProxyType

import numpy as np
import numpy.typing as npt

CLASS_NAMES = MappingProxyType(dict(enumerate((
    'floor', 'wall', 'door_frame', 'table', 'chair', 'shelf', 'sofa', 'person', 'box', 'can',
    'bottle', 'mug', 'bowl', 'ball', 'plate', 'book', 'tool', 'jar', 'fruit', 'tube', 'bin',
    'plant'))))
VOID = 255  # sky, and the robot itself
FIRST_OBJECT = 3  # detection uses the classes from here on; those before are structure
FIRST_SMALL = 8  # segmentation tells those before, and takes these together as one 'object'
SEGMENTED_AS = MappingProxyType({
    name: name if i < FIRST_SMALL else 'object' for i, name in CLASS_NAMES.items()})
SEGMENTED_NAMES = MappingProxyType(dict(enumerate(dict.fromkeys(SEGMENTED_AS.values()))))

_IDS = {name: i for i, name in CLASS_NAMES.items()}


def class_id(name: str) -> int:
    """Return the id of a class; a name that does not exist raises KeyError."""
    return _IDS[name]


def segmented(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a mask of any shape in the ids of ``SEGMENTED_NAMES``; void stays void."""
    return np.where((ids >= FIRST_SMALL) & (ids != VOID), FIRST_SMALL, ids).astype(np.uint8)
