"""What was measured on bags, as one HTML page that needs nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perception_nodes.evaluation.model_page import (
    Chart,
    ConfusionTable,
    Evaluation,
    Table,
    write_charted,
)
from perception_nodes.evaluation.report import Legend, Moment


@dataclass(frozen=True, eq=False)
class PageSection:
    """One subject of an evaluation; what is empty is not shown."""

    title: str
    note: str = ''
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    confusion: ConfusionTable | None = None
    moments: Sequence[Moment] = ()
    moments_title: str = 'Worst frames'
    moments_note: str = ''
    legends: Sequence[Legend] = ()

    @classmethod
    def of_evaluation(
        cls, title: str, note: str, evaluation: Evaluation, legends: Sequence[Legend]
    ) -> 'PageSection':
        """Return a section that shows everything known about one model's answers."""
        return cls(
            title, note, evaluation.tables, evaluation.charts, evaluation.confusion,
            evaluation.worst, moments_note=evaluation.worst_note, legends=legends)


@dataclass
class Findings:
    """What was found out about one subject."""

    values: dict[str, float | int | str] = field(default_factory=dict)  # for the JSON file
    sections: list[PageSection] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)  # that a reader must know


@dataclass
class BagEvaluation:
    """Everything that is known about one parameter set on one bag."""

    name: str  # of the bag and the parameter set
    findings: Findings
    frames: int
    wall_s: float


@dataclass(frozen=True, eq=False)
class BagPage:
    """Everything that stands on the page."""

    title: str
    headline: str
    lead: str
    overview: Table
    evaluations: Sequence[BagEvaluation]
    verdicts: Sequence[tuple[bool, str]]  # whether each requirement is met, and what it says
    commands: Sequence[tuple[str, str]]  # (what it does, what to type)
    facts: Sequence[tuple[str, str]]


def write_bag_page(path: Path, page: BagPage) -> None:
    """
    Write the page.

    :param path: The HTML file to write.
    :raises OSError: If it cannot be written.
    """
    write_charted(path, 'bag_page.html', page)
