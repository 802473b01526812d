"""The pictures of the demo: photos inside installed packages, and frames of recorded bags."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from perception_nodes.conversions.decode import rgb_from_compressed_msg, rgb_from_msg
from perception_nodes.core.share import share_folder
from perception_nodes.evaluation.bag import Bag
from perception_nodes.evaluation.datasets import read_rgb

DATA_VARIABLE = 'PERCEPTION_NODES_DATA'

# package, path in it, title, credit
_PHOTOS = (
    ('ultralytics', 'assets/bus.jpg', 'Bus stop', 'ultralytics package, AGPL-3.0'),
    ('ultralytics', 'assets/zidane.jpg', 'Touchline', 'ultralytics package, AGPL-3.0'),
    ('skimage', 'data/motorcycle_left.png', 'Motorcycle',
     'D. Scharstein et al., Middlebury 2014; scikit-image package'),
    ('skimage', 'data/coffee.png', 'Coffee', 'R. Michetti, public domain; scikit-image package'),
    ('skimage', 'data/chelsea.png', 'Chelsea the cat',
     'S. van der Walt, CC0; scikit-image package'),
    ('skimage', 'data/astronaut.png', 'Eileen Collins',
     'NASA, public domain; scikit-image package'),
    ('matplotlib', 'mpl-data/sample_data/grace_hopper.jpg', 'Grace Hopper',
     'US Navy, public domain; matplotlib package'),
)
# bag, colour topic, title, credit
_BAGS = (
    ('dining_room', '/camera/color/image_raw', 'Dining room',
     'recorded bag; X. Gao, slambook2, MIT'),
    ('tabletop', '/camera/color/image_raw/compressed', 'Tabletop',
     'recorded bag; NVlabs UnseenObjectClustering, non-commercial'),
)


@dataclass(frozen=True, eq=False)
class DemoPicture:
    """One picture and what the report says about it."""

    title: str
    credit: str
    rgb: npt.NDArray[np.uint8]  # (H, W, 3)


def demo_pictures() -> Iterator[DemoPicture]:
    """Yield what is there on this machine; packages and bags that are not are left out."""
    for package, relative, title, credit in _PHOTOS:
        path = _package_folder(package) / relative
        if path.is_file():
            yield DemoPicture(title, credit, read_rgb(path))
    for bag, topic, title, credit in _BAGS:
        path = data_folder() / 'bags' / bag
        if path.is_dir():
            yield from _frames(path, topic, title, credit)


def data_folder() -> Path:
    """Return where the optional data is, which may not exist."""
    beside = share_folder().parent / 'shared' / 'data'
    return Path(os.environ.get(DATA_VARIABLE) or beside)


def _package_folder(package: str) -> Path:
    # finding a package does not import it
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else Path('no such package')


def _frames(path: Path, topic: str, title: str, credit: str) -> Iterator[DemoPicture]:
    decode = rgb_from_compressed_msg if topic.endswith('/compressed') else rgb_from_msg
    with Bag(path) as bag:
        for number, message in enumerate(bag.messages([topic]), start=1):
            yield DemoPicture(f'{title} {number}', credit, decode(message.content))
