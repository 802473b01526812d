"""Counts and durations of a node."""

from perception_nodes.core.health import NodeHealth
from perception_nodes.core.latency import LatencyWindow
import pytest


def test_window_keeps_the_newest_samples():
    """Percentiles are of the last samples only."""
    window = LatencyWindow(size=101)
    for value in (1e6, *range(101)):
        window.add(float(value))
    assert window.summary() == pytest.approx({'p50_ms': 50.0, 'p95_ms': 95.0, 'p99_ms': 99.0})
    assert LatencyWindow().summary() == {}


def test_every_frame_is_accounted_for():
    """What arrived is processed, failed or dropped with a reason."""
    health = NodeHealth()
    for _ in range(4):
        health.received()
    health.dropped('superseded')
    health.failed('too dark')
    health.processed(age_ms=12.0, compute_ms=10.0)
    health.processed(age_ms=14.0, compute_ms=10.0)
    values = health.values()
    assert values['received'] == '4'
    assert values['processed'] == '2'
    assert values['failed'] == '1'
    assert values['dropped_superseded'] == '1'
    assert values['last_failure'] == 'too dark'
    assert values['age_p50_ms'] == '13.00'
    assert values['compute_p99_ms'] == '10.00'
    assert health.recent_failure() == 'too dark'


def test_rate_covers_the_time_since_the_last_call():
    """Frames of an earlier call are not counted again."""
    health = NodeHealth()
    health.processed(1.0, 1.0)
    assert float(health.values()['rate_hz']) > 0.0
    assert float(health.values()['rate_hz']) == 0.0


def test_idle_time_runs_from_the_last_frame(monkeypatch):
    """It starts with the health itself and again with each frame."""
    now = [100.0]
    monkeypatch.setattr('perception_nodes.core.health.time.monotonic', lambda: now[0])
    health = NodeHealth()
    now[0] = 103.0
    assert health.idle_s() == 3.0
    health.received()
    assert health.idle_s() == 3.0
    health.completed()
    assert health.idle_s() == 0.0
    health.failed('broken')
    assert health.recent_failure() == 'broken'
    now[0] = 110.0
    assert health.recent_failure() == ''


def test_an_old_drop_does_not_explain_silence(monkeypatch):
    """While images come, why they are dropped counts; then, that none come."""
    now = [100.0]
    monkeypatch.setattr('perception_nodes.core.health.time.monotonic', lambda: now[0])
    health = NodeHealth()
    health.received()
    health.dropped('no_depth')
    now[0] = 104.0
    assert health.last_drop() == 'no_depth'
    now[0] = 105.0
    assert health.last_drop() == ''
    health.received()
    assert health.last_drop() == 'no_depth'
