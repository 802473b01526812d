"""
On which GPUs the networks have been seen to work: docs/gpu/*.json, and what is said of them.

The files come from :mod:`perception_nodes.evaluation.gpu_check`, one for each kind of GPU.
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
from pathlib import Path
from typing import Any

from perception_nodes.core.share import share_folder

NEVER = 'never verified'
_RECORDS = 'docs/gpu'
_BACKENDS = Path(__file__).resolve().parents[1] / 'backends'
_HEAD = """\
| GPU | date | commit | backends since | driver | torch | checks failed | metric drop by fp16 \
| rate of the bare network | memory left, MB |
|---|---|---|---|---|---|---|---|---|---|
"""


def last_verified(folder: Path | None = None) -> str:
    """
    Return ``last verified at COMMIT on GPU, DATE``, or ``never verified``.

    A run in which a check failed verified nothing.

    :param folder: Where the records are; None: those that come with the package.
    :raises ValueError: If a record is damaged.
    """
    passed = [record for record in read_records(folder) if record['checks_failed'] == 0]
    if not passed:
        return NEVER
    last = passed[-1]
    since = '' if is_current(last) else '; the backends have changed since'
    return f'last verified at {last["commit"]} on {last["gpu"]}, {last["date"]}{since}'


def read_records(folder: Path | None = None) -> list[Mapping[str, Any]]:
    """
    Return the records of CUDA devices, oldest first.

    :param folder: Where they are; None: those that come with the package.
    :raises ValueError: If one is no record of a GPU, naming the file.
    """
    if folder is None:
        folder = share_folder() / _RECORDS
    found = []
    for path in sorted(folder.glob('*.json')):
        try:
            record = json.loads(path.read_text(encoding='utf-8'))
            complete = record['device'].startswith('cuda') and all(
                name in record for name in ('gpu', 'commit', 'date', 'checks_failed'))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{path} is no record of a GPU: {error!r}') from error
        if not complete:
            raise ValueError(
                f'{path} is no record of a GPU; only files that '
                'perception_nodes.evaluation.gpu_check wrote on a CUDA device belong there')
        found.append(record)
    return sorted(found, key=lambda record: str(record['date']))


def is_current(record: Mapping[str, Any]) -> bool:
    """Return whether the backends are those that were checked."""
    return bool(record.get('backends_sha256') == backends_sha256())


def backends_sha256(folder: Path = _BACKENDS) -> str:
    """Return the sha256 of the source that a record is about, whatever git knows of it."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*.py')):
        digest.update(path.relative_to(folder).as_posix().encode() + b'\0')
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the records as a table in Markdown; ``never verified`` without any."""
    if not records:
        return f'{NEVER[0].upper()}{NEVER[1:]}.\n'
    return _HEAD + ''.join(
        f'| {r["gpu"]} | {r["date"]} | {r["commit"]} | '
        f'{"unchanged" if is_current(r) else "changed: stale"} | {r.get("driver", "")} | '
        f'{r.get("torch", "")} | {r["checks_failed"]} | {_number(r, "fp16_metric_drop_max")} | '
        f'{_number(r, "rate_of_bare_min")} | {_number(r, "memory_left_mb_max")} |\n'
        for r in records)


def _number(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return '' if value is None else f'{value:.3g}'
