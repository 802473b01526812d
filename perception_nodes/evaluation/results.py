"""
The JSON files that measurements leave: one flat object of names and numbers.

A name is ``<variant_>quantity_unit<_stat>``; rates and scores are fractions of one and come with
``_ci_low`` and ``_ci_high``.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
import json
import math
from pathlib import Path
import subprocess

import numpy as np
import perception_nodes

Value = float | int | str


def write_results(
    path: Path, values: Mapping[str, Value], *, seed: int, n: int, wall_s: float
) -> None:
    """
    Write a result file; what is not a number becomes null.

    :param values: Names and numbers.
    :param seed: Seed of everything that was drawn.
    :param n: Number of samples behind the main figure.
    :param wall_s: How long the measurement took, seconds.
    :raises OSError: If the file cannot be written.
    """
    content: dict[str, Value] = {
        **values, 'seed': seed, 'n': n, 'commit': commit(), 'wall_s': round(wall_s, 3)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({k: _jsonable(v) for k, v in content.items()}, indent=2) + '\n')


def percentiles(
    name: str, samples: Sequence[float], ranks: Sequence[int] = (50, 95)
) -> dict[str, float]:
    """Return ``<name>_p50``, ``<name>_p95`` and so on of the samples; NaN without any."""
    values = np.percentile(samples, ranks) if len(samples) else [math.nan] * len(ranks)
    return {f'{name}_p{rank}': float(value) for rank, value in zip(ranks, values, strict=True)}


def commit() -> str:
    """
    Return the commit of this package's source, with ``-dirty`` after it where files changed.

    Outside a checkout it is the version of the installed package, or none in a mere copy.
    """
    folder = Path(perception_nodes.__file__).resolve().parent
    # an installed copy may lie in a checkout of something else, which does not track it
    if _git(folder, 'ls-files', '--error-unmatch', '__init__.py') is None:
        try:
            return f'perception_nodes {version("perception_nodes")}'
        except PackageNotFoundError:
            return 'perception_nodes, a copy without its commit'
    return _git(folder, 'describe', '--always', '--dirty', '--exclude=*', '--abbrev=12') or ''


def _git(folder: Path, *command: str) -> str | None:
    """Return what git prints, or None if it refuses or is not installed."""
    # in a container the checkout often belongs to another user, which git would refuse to read
    trusting = ('-c', 'safe.directory=*')
    try:
        done = subprocess.run(['git', *trusting, '-C', str(folder), *command],
                              capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _jsonable(value: Value) -> Value | None:
    if not isinstance(value, float):
        return value
    return round(value, 6) if math.isfinite(value) else None
