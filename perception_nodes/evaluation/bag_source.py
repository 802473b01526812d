"""A bag as nodes see it: the frames of one camera, transforms, scans, and what is known beside."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perception_nodes.core.node_params import NodeParams
from perception_nodes.core.types import LaserRanges
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.bag_frames import (
    BagFrame,
    BagTransforms,
    find_camera,
    FrameReader,
)
from perception_nodes.evaluation.bag_nodes import Surroundings
from perception_nodes.evaluation.bag_notes import BagNotes, read_notes, TRUTH
from perception_nodes.evaluation.bag_pictures import BagPictures


@dataclass(frozen=True)
class TopicNames:
    """Where things are in a bag; empty for the camera's usual topics."""

    camera: str = '/camera'
    image: str = ''
    depth: str = ''
    camera_info: str = ''
    truth: str = TRUTH  # prefix
    recorded: tuple[str, ...] = ()  # results to score


class BagSource:
    """
    Reads what a bag says beside its pictures, and hands out frames.

    :param is_simulated: Whether the camera is known to be simulated; else the bag may tell.
    :raises ValueError: If the bag is empty, or lacks what was named.
    """

    def __init__(
        self, bag: Bag, names: TopicNames, inputs: NodeParams, *, is_simulated: bool = False
    ) -> None:
        if not bag.count:
            raise ValueError(
                f'bag {bag.path} is empty: it has {len(bag.topics)} topic(s), and not one message')
        self.topics = find_camera(
            bag, names.camera, names.image, names.depth, names.camera_info)
        self.total = bag.topics[self.topics.first].count
        self.notes = read_notes(bag, self.topics, names.truth, names.recorded)
        self.transforms = BagTransforms(self.notes.transforms, self.notes.static_transforms)
        self.pictures = BagPictures(bag.path, self.topics.first)
        self._scans = _Scans(self.notes)
        self.surroundings = Surroundings(
            self.transforms.buffer, self._scans.take,
            is_simulated or '/clock' in bag.topics or bool(self.notes.truth))
        self._reader = FrameReader(
            bag, self.topics, inputs, self.notes.intrinsics, self.transforms,
            self.notes.depth_intrinsics)
        self._path = bag.path

    @property
    def lost(self) -> list[str]:
        """Return a sentence for each message that could not be used so far."""
        return self._reader.lost

    def frames(self) -> Iterator[BagFrame]:
        """
        Yield every frame, once.

        :raises ValueError: If not one could be used.
        """
        count = 0
        for seen in self._reader:
            self._scans.until_ns = seen.received_ns
            count += 1
            yield seen
        if not count:
            why = f': {self.lost[0]}' if self.lost else ''
            raise ValueError(
                f'bag {self._path} has no frame on {self.topics.first} that can be used{why}')


class _Scans:
    """Hands out the laser scans of a bag as time goes on."""

    def __init__(self, notes: BagNotes) -> None:
        self.until_ns = 0
        self._scans, self._next = notes.scans, 0

    def take(self) -> Sequence[LaserRanges]:
        """Return the scans recorded since the last call."""
        first = self._next
        while self._next < len(self._scans) and self._scans[self._next][0] <= self.until_ns:
            self._next += 1
        return [scan for _, scan in self._scans[first:self._next]]
