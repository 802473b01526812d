"""The same work on many things, one after the other or in several processes."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
from typing import TypeVar

T = TypeVar('T')
R = TypeVar('R')

_SAID = (ValueError, OSError, ImportError)  # what is said in a sentence


def run_tasks(work: Callable[[T], R], tasks: Sequence[T], jobs: int = 1) -> list[R | str]:
    """
    Do all tasks; one that fails with a sentence does not keep the others from being done.

    :param work: A function of a module, so that another process can find it.
    :param jobs: How many processes; 1 stays in this one.
    :return: Result or sentence of each task, in order.
    """
    if jobs == 1 or len(tasks) == 1:
        return [_attempt(work, task) for task in tasks]
    # a forked process would inherit the threads of a network runtime half alive
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context) as pool:
        futures = [pool.submit(_attempt, work, task) for task in tasks]
        return [future.result() for future in futures]


def _attempt(work: Callable[[T], R], task: T) -> R | str:
    try:
        return work(task)
    except _SAID as error:
        return str(error)
