"""Results as one HTML page that needs nothing else: pictures, numbers, how they came about."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import jinja2
import numpy as np
import numpy.typing as npt
from perception_nodes.core.overlay import Colour, colour_of, draw_detections
from perception_nodes.core.types import Detections

_LONGEST_PX = 800
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class Tile:
    """One figure of the page's head."""

    value: str
    label: str
    note: str = ''


@dataclass(frozen=True)
class Step:
    """One station on the way of the data."""

    name: str
    detail: str


@dataclass(frozen=True, eq=False)
class Shot:
    """One picture and what was found in it."""

    title: str
    credit: str  # where the picture is from, and its licence
    rgb: npt.NDArray[np.uint8]  # (H, W, 3)
    found: Detections
    age_ms: float  # from the picture's stamp to the recorded result

    def overlay(self, class_names: Mapping[int, str]) -> npt.NDArray[np.uint8]:
        """Return the picture with its boxes, (H, W, 3) uint8 RGB with sides of 800 at most."""
        height, width = self.rgb.shape[:2]
        scale = min(1.0, _LONGEST_PX / max(height, width))
        # drawn after shrinking, so that lines and letters stay legible
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgb = np.asarray(cv2.resize(self.rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        factors = np.array([size[0] / width, size[1] / height] * 2, np.float32)
        found = replace(self.found, boxes_xyxy=self.found.boxes_xyxy * factors)
        return draw_detections(rgb, found, class_names)


@dataclass(frozen=True, eq=False)
class Panel:
    """One of several pictures of the same moment."""

    name: str
    note: str
    rgb: npt.NDArray[np.uint8]  # (H, W, 3)


@dataclass(frozen=True, eq=False)
class Moment:
    """Pictures that stand side by side."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Legend:
    """What a colour means."""

    name: str
    colour: Colour


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the page with moments; what is empty is not shown."""

    title: str
    lead: str
    note: str = ''  # what a reader must know to judge the pictures
    steps: Sequence[Step] = ()
    tiles: Sequence[Tile] = ()
    moments: Sequence[Moment] = ()
    legends: Sequence[Legend] = ()


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that stands on the page."""

    title: str
    headline: str
    lead: str
    steps: Sequence[Step]
    tiles: Sequence[Tile]
    shots: Sequence[Shot]
    class_names: Mapping[int, str]
    commands: Sequence[tuple[str, str]]  # (what it does, what to type)
    facts: Sequence[tuple[str, str]]  # versions and settings
    sections: Sequence[Section] = ()

    def counts(self) -> list[tuple[int, int]]:
        """Return each class id that was found and how often, the most frequent first."""
        found = Counter(i for shot in self.shots for i in shot.found.class_ids.tolist())
        return found.most_common()


def write_report(path: Path, report: Report) -> None:
    """
    Write the page.

    :param path: The HTML file to write.
    :raises OSError: If it cannot be written.
    """
    ages_ms = [shot.age_ms for shot in report.shots]
    page = template('report.html').render(
        report=report, longest_ms=max(ages_ms, default=0.0),
        median_ms=float(np.median(ages_ms)) if ages_ms else 0.0)
    path.write_text(page, encoding='utf-8')


def template(name: str) -> jinja2.Template:
    """Return a page of this folder, with the filters that embed pictures and colours."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {'colour': _colour, 'css': _css, 'jpeg': _embedded,
                            'picture': _picture, 'zip': zip}
    return environment.get_template(name)


def jpeg(rgb: npt.NDArray[np.uint8]) -> bytes:
    """Compress an (H, W, 3) uint8 picture."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1])


def _picture(shot: Shot, class_names: Mapping[int, str]) -> str:
    return _embedded(shot.overlay(class_names))


def _embedded(rgb: npt.NDArray[np.uint8]) -> str:
    return f'data:image/jpeg;base64,{base64.b64encode(jpeg(rgb)).decode()}'


def _colour(class_id: int) -> str:
    return _css(colour_of(class_id))


def _css(colour: Colour) -> str:
    return 'rgb({}, {}, {})'.format(*colour)
