"""What is said of GPUs is what the records say, and says when the code has changed since."""

import json
from pathlib import Path

from perception_nodes.core.share import share_folder
from perception_nodes.evaluation import gpu_record
import pytest

RECORD = {
    'device': 'cuda:0', 'gpu': 'NVIDIA X1', 'commit': 'abc123', 'date': '2026-11-20',
    'driver': '590.1', 'torch': '2.15.0', 'checks_failed': 0, 'fp16_metric_drop_max': 0.00123,
    'rate_of_bare_min': 0.931, 'memory_left_mb_max': 4.0}


def write(folder, name, **changes):
    record = {**RECORD, 'backends_sha256': gpu_record.backends_sha256(), **changes}
    (folder / f'{name}.json').write_text(json.dumps(record))


def test_without_records_nothing_is_claimed(tmp_path):
    assert gpu_record.last_verified(tmp_path) == 'never verified'
    assert gpu_record.table([]) == 'Never verified.\n'


def test_the_newest_run_without_failure_counts(tmp_path):
    write(tmp_path, 'b')
    write(tmp_path, 'a', gpu='NVIDIA X2', date='2026-11-21', commit='def456')
    write(tmp_path, 'c', gpu='NVIDIA X3', date='2026-11-22', checks_failed=2)
    assert gpu_record.last_verified(tmp_path) == (
        'last verified at def456 on NVIDIA X2, 2026-11-21')
    rows = gpu_record.table(gpu_record.read_records(tmp_path)).splitlines()[2:]
    assert [row.split(' | ')[0] for row in rows] == [
        '| NVIDIA X1', '| NVIDIA X2', '| NVIDIA X3']
    assert rows[0].endswith('| unchanged | 590.1 | 2.15.0 | 0 | 0.00123 | 0.931 | 4 |')


def test_a_row_is_stale_when_the_backends_have_changed(tmp_path):
    write(tmp_path, 'a', backends_sha256='0' * 64)
    record, = gpu_record.read_records(tmp_path)
    assert '| changed: stale |' in gpu_record.table([record])
    assert gpu_record.last_verified(tmp_path).endswith('; the backends have changed since')


def test_any_change_of_the_source_is_seen(tmp_path):
    (tmp_path / 'networks').mkdir()
    (tmp_path / 'networks' / 'a.py').write_text('x = 1\n')
    before = gpu_record.backends_sha256(tmp_path)
    (tmp_path / 'notes.txt').write_text('no source')
    assert gpu_record.backends_sha256(tmp_path) == before
    (tmp_path / 'networks' / 'a.py').write_text('x = 2\n')
    changed = gpu_record.backends_sha256(tmp_path)
    (tmp_path / 'networks' / 'a.py').rename(tmp_path / 'networks' / 'b.py')
    assert len({before, changed, gpu_record.backends_sha256(tmp_path)}) == 3


@pytest.mark.parametrize(('text', 'sentence'), [
    ('{', 'is no record of a GPU'), ('[]', 'is no record of a GPU'),
    (json.dumps({**RECORD, 'device': 'cpu'}), 'wrote on a CUDA device belong there')])
def test_what_is_no_record_is_refused(tmp_path, text, sentence):
    (tmp_path / 'x.json').write_text(text)
    with pytest.raises(ValueError, match=sentence) as caught:
        gpu_record.last_verified(tmp_path)
    assert 'x.json' in str(caught.value)


def test_the_docs_say_what_the_records_say():
    page = Path(share_folder()) / 'docs' / 'gpu.md'
    if not page.is_file():
        pytest.skip('the docs are not installed, only in a checkout')
    assert gpu_record.table(gpu_record.read_records()) in page.read_text(), (
        'the table in docs/gpu.md is not that of docs/gpu/*.json, or stale: put this there\n'
        + gpu_record.table(gpu_record.read_records()))
