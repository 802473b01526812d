"""Simulated time keeps pace with real time, and catches up with what a picture cost."""

from perception_nodes.core import pacing
from perception_nodes.core.pacing import Pacer
import pytest


class Time:
    """A clock that only sleeping and working move."""

    def __init__(self):
        self.now_s = 100.0

    def monotonic(self):
        return self.now_s

    def sleep(self, duration_s):
        self.now_s += duration_s


@pytest.fixture
def clock(monkeypatch):
    clock = Time()
    monkeypatch.setattr(pacing, 'time', clock)
    return clock


def run(pacer, clock, work_s):
    """Do steps of 10 simulated ms that cost what ``work_s`` says; return the real time taken."""
    began_s = clock.now_s
    for cost_s in work_s:
        clock.now_s += cost_s
        pacer.wait(0.01)
    return clock.now_s - began_s


@pytest.mark.parametrize(('factor', 'took_s'), [(1.0, 1.0), (2.0, 0.5), (0.5, 2.0)])
def test_cheap_steps_take_their_time(clock, factor, took_s):
    assert run(Pacer(factor), clock, [0.001] * 100) == pytest.approx(took_s)


def test_a_slow_step_in_ten_is_caught_up_with(clock):
    pacer = Pacer(1.0)
    assert run(pacer, clock, ([0.05] + [0.001] * 9) * 10) == pytest.approx(1.0, abs=0.01)
    assert pacer.real_time_factor() == pytest.approx(1.0, abs=0.01)


def test_what_is_lost_for_long_is_not_hurried_after(clock):
    pacer = Pacer(1.0)
    run(pacer, clock, [0.02] * 100)  # twice too slow: one second behind
    assert pacer.real_time_factor() == pytest.approx(0.5, abs=0.01)
    # a fifth of a second is caught up with, then steps take their time again
    assert run(pacer, clock, [0.0] * 100) == pytest.approx(0.8, abs=0.02)


def test_no_pace_is_as_fast_as_possible(clock):
    assert run(Pacer(0.0), clock, [0.001] * 100) == pytest.approx(0.1)
