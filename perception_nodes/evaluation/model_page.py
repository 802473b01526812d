"""How good a model is, as one HTML page that needs nothing else: figures, curves, worst cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from perception_nodes.core.overlay import Colour
from perception_nodes.evaluation.report import Legend, Moment, template, Tile

# inside of a chart's frame, in units of its own
PLOT_WIDTH, PLOT_HEIGHT = 300.0, 200.0


@dataclass(frozen=True, eq=False)
class Curve:
    """One line of a chart; among several the one without a colour stands out."""

    name: str
    x: npt.NDArray[np.float64]  # (N,)
    y: npt.NDArray[np.float64]  # (N,)
    colour: Colour | None = None


@dataclass(frozen=True, eq=False)
class Chart:
    """Curves over axes from 0; what lies beyond ``x_max`` or ``y_max`` is cut off."""

    title: str
    note: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    x_max: float = 1.0
    y_max: float = 1.0

    def points(self, curve: Curve) -> str:
        """Return a curve as an SVG polyline without points that cannot be told apart."""
        known = np.isfinite(curve.x) & np.isfinite(curve.y) & (curve.x <= self.x_max)
        heights = np.clip(curve.y[known] / self.y_max, 0.0, 1.0)
        places = np.rint(np.column_stack([
            PLOT_WIDTH * curve.x[known] / self.x_max, PLOT_HEIGHT * (1.0 - heights)]))
        moved = np.ones(len(places), np.bool_)
        moved[1:] = (places[1:] != places[:-1]).any(axis=1)
        return ' '.join(f'{x:g},{y:g}' for x, y in places[moved].tolist())


@dataclass(frozen=True, eq=False)
class ConfusionTable:
    """How often which class was found where which was true."""

    note: str
    rows: Sequence[str]  # true classes
    columns: Sequence[str]  # found classes
    counts: npt.NDArray[np.int64]  # (rows, columns)

    def shares(self) -> list[list[float]]:
        """Return each count as a share of its row; 0 in an empty one."""
        total = np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        shares: list[list[float]] = (self.counts / total).tolist()
        return shares


@dataclass(frozen=True)
class Table:
    """A table of words and numbers; the first column is words."""

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float]]]

    @staticmethod
    def shown(value: float) -> str:
        """Return a number as the table shows it; whole ones are counts."""
        if isinstance(value, int):
            return str(value)
        return '–' if math.isnan(value) else f'{value:.3f}'


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is known about a model on a data set."""

    values: Mapping[str, float]  # the figures, as the JSON file names them
    tables: Sequence[Table]
    charts: Sequence[Chart]
    confusion: ConfusionTable
    worst: Sequence[Moment]  # pictures with the worst answers, the very worst first
    worst_note: str


@dataclass(frozen=True, eq=False)
class ModelPage:
    """Everything that stands on the page."""

    title: str
    headline: str
    lead: str
    tiles: Sequence[Tile]
    evaluation: Evaluation
    legends: Sequence[Legend]
    corruptions: Table | None
    occlusions: Sequence[Moment]
    commands: Sequence[tuple[str, str]]  # (what it does, what to type)
    facts: Sequence[tuple[str, str]]


def write_page(path: Path, page: ModelPage) -> None:
    """
    Write the page.

    :param path: The HTML file to write.
    :raises OSError: If it cannot be written.
    """
    write_charted(path, 'model_page.html', page)


def write_charted(path: Path, name: str, page: object) -> None:
    """
    Write a page that may have charts.

    :param name: Of the template.
    :raises OSError: If it cannot be written.
    """
    html = template(name).render(page=page, plot_width=PLOT_WIDTH, plot_height=PLOT_HEIGHT)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(html, encoding='utf-8')
