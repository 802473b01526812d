"""What a training leaves behind while it runs: a line per epoch, a picture, TensorBoard."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

from perception_nodes.core.whole_file import whole_file


class Curves:
    """
    The history of one training.

    :param folder: Where ``history.jsonl`` and ``curves.png`` are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / 'history.jsonl'
        self._rows: list[dict[str, float]] = []
        self._board = _tensorboard(folder)

    def begin(self) -> None:
        """Start anew."""
        self._file.write_text('')

    def go_on(self, epoch: int) -> None:
        """Forget what was written after ``epoch``: it is trained again."""
        lines = self._file.read_text().splitlines() if self._file.is_file() else []
        # the last line may be cut off, but then its epoch is trained again
        rows = [json.loads(line) for line in lines if line.endswith('}')]
        self._rows = [row for row in rows if row['epoch'] <= epoch]
        with whole_file(self._file) as draft:
            draft.write_text(''.join(f'{json.dumps(row)}\n' for row in self._rows))

    def add(self, row: Mapping[str, float]) -> None:
        """Write one epoch's numbers, and draw all of them anew."""
        self._rows.append(dict(row))
        with self._file.open('a') as file:
            file.write(f'{json.dumps(dict(row))}\n')
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, int(row['epoch']))
            self._board.flush()
        draw_curves(self._rows, self._folder / 'curves.png')

    def total(self, name: str) -> float:
        """Return the sum of a number over all epochs."""
        return sum(row.get(name, 0.0) for row in self._rows)


def draw_curves(rows: list[dict[str, float]], file: Path) -> None:
    """
    Draw losses over epochs on the left, and what validation says on the right.

    :param rows: One per epoch; names that begin with ``loss_`` are losses.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure((9.0, 3.4), layout='constrained')
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(1, 2)
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        if name in ('epoch', 'wall_s', 'cpu_s'):
            continue
        points = [(row['epoch'], row[name]) for row in rows if name in row]
        axes = losses if name.startswith('loss') else scores
        axes.plot(*zip(*points, strict=True), marker='.', label=name)
    for axes, title in ((losses, 'training losses'), (scores, 'validation')):
        axes.set_xlabel('epoch')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(title)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize='small')
    figure.savefig(file, dpi=110)


def _tensorboard(folder: Path) -> Any | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:  # an optional extra
        return None
    return SummaryWriter(str(folder / 'tensorboard'))  # type: ignore[no-untyped-call]
