"""Pictures of a bag that are read again when somebody looks at them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from perception_nodes.conversions import decode
from perception_nodes.core.types import Ids
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.bag_frames import COMPRESSED
from perception_nodes.evaluation.datasets import ClassifiedImage, LabelledImage
from perception_nodes.evaluation.mask_datasets import MaskedImage


@dataclass(frozen=True)
class BagPictures:
    """The colour images of one topic of a bag."""

    bag: Path
    topic: str

    def rgb(self, stamp_ns: int, received_ns: int) -> npt.NDArray[np.uint8]:
        """
        Read one picture.

        :param received_ns: When the recorder got it, or a little later.
        :return: (H, W, 3) uint8.
        :raises ValueError: If the bag has no such picture.
        """
        with Bag(self.bag) as bag:
            for raw in bag.raw([self.topic], received_ns - 2_000_000_000):
                msg = bag.decoded(raw)
                if decode.stamp_ns_from_msg(msg.header.stamp) == stamp_ns:
                    if raw.type_name == COMPRESSED:
                        return decode.rgb_from_compressed_msg(msg)
                    return decode.rgb_from_msg(msg)
        raise ValueError(f'bag {self.bag} has no picture of {stamp_ns} ns on {self.topic}')


@dataclass(frozen=True, eq=False)
class LabelledFrame(LabelledImage):
    """A frame of a bag with its true boxes."""

    read: Callable[[], npt.NDArray[np.uint8]] = field(kw_only=True)

    def rgb(self) -> npt.NDArray[np.uint8]:
        """Read the picture, (H, W, 3) uint8."""
        return self.read()


@dataclass(frozen=True, eq=False)
class MaskedFrame(MaskedImage):
    """A frame of a bag with its true mask."""

    read: Callable[[], npt.NDArray[np.uint8]] = field(kw_only=True)
    read_mask: Callable[[], npt.NDArray[np.uint8]] = field(kw_only=True)

    def rgb(self) -> npt.NDArray[np.uint8]:
        """Read the picture, (H, W, 3) uint8."""
        return self.read()

    def mask(self) -> npt.NDArray[np.uint8]:
        """Read the classes, (H, W) uint8, 255 void."""
        return self.read_mask()


@dataclass(frozen=True, eq=False)
class ClassifiedFrame(ClassifiedImage):
    """A frame of a bag and what it shows."""

    read: Callable[[], npt.NDArray[np.uint8]] = field(kw_only=True)

    def rgb(self) -> npt.NDArray[np.uint8]:
        """Read the picture, (H, W, 3) uint8."""
        return self.read()


class UnpackedMasks(Sequence[Ids]):
    """Masks that are unpacked one at a time."""

    def __init__(self, reads: Sequence[Callable[[], Ids]]) -> None:
        self._reads = reads

    def __len__(self) -> int:
        return len(self._reads)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._reads[index]()
