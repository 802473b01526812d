"""A worker on a virtual clock: what it gets to, and when."""

from perception_nodes.evaluation.newest_frame import NewestFrameWorker


def run(arrivals, took_ns):
    """Offer items at moments; return what was done, and what was superseded."""
    done, lost = [], []
    worker = NewestFrameWorker(lambda item: took_ns[item], done.append, lost.append)
    for item, at_ns in enumerate(arrivals):
        worker.offer(item, at_ns)
    worker.finish()
    return [(d.item, d.arrived_ns, d.finished_ns) for d in done], lost


def test_a_fast_worker_does_everything_at_once():
    done, lost = run([0, 100, 200], [30, 30, 30])
    assert done == [(0, 0, 30), (1, 100, 130), (2, 200, 230)]
    assert lost == []


def test_a_slow_worker_takes_the_newest():
    """Busy from 0 to 250 it leaves out what came at 100, and begins what came at 200 at 250."""
    done, lost = run([0, 100, 200, 300, 400], [250, 1, 250, 1, 1])
    assert done == [(0, 0, 250), (2, 200, 500), (4, 400, 501)]
    assert lost == [1, 3]


def test_a_frame_that_comes_as_work_ends_does_not_wait():
    done, lost = run([0, 100], [100, 10])
    assert done == [(0, 0, 100), (1, 100, 110)]
    assert lost == []


def test_what_waits_goes_before_what_comes_as_work_ends():
    """At 100 the waiting frame begins; the one of that moment waits for it."""
    done, lost = run([0, 50, 100], [100, 20, 5])
    assert done == [(0, 0, 100), (1, 50, 120), (2, 100, 125)]
    assert lost == []


def test_age_is_from_arrival_to_result():
    done = []
    worker = NewestFrameWorker(lambda item: 3_000_000, done.append, lambda item: None)
    worker.offer('a', 0)
    worker.offer('b', 1_000_000)
    worker.finish()
    assert [d.age_ms for d in done] == [3.0, 5.0]
