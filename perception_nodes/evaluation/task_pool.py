"""The same work on many things, one after the other or in several processes."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
from typing import TypeVar

T = TypeVar('T')
R = TypeVar('R')

_SAID = (ValueError, OSError, ImportError)  # what is said in a sentence


def run_tasks(
    work: Callable[[T], R], tasks: Sequence[T], jobs: int = 1, cluster: str = ''
) -> list[R | str]:
    """
    Do all tasks; one that fails with a sentence does not keep the others from being done.

    :param work: A function of a module, so that another process can find it.
    :param jobs: How many processes; 1 stays in this one.
    :param cluster: Address of a Ray cluster that does it instead, such as ``auto``.
    :return: Result or sentence of each task, in order.
    :raises ImportError: If a cluster is named, and Ray is not installed.
    """
    if cluster:
        return _on_cluster(work, tasks, cluster)
    if jobs == 1 or len(tasks) == 1:
        return [_attempt(work, task) for task in tasks]
    # a forked process would inherit the threads of a network runtime half alive
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context) as pool:
        futures = [pool.submit(_attempt, work, task) for task in tasks]
        return [future.result() for future in futures]


def _on_cluster(work: Callable[[T], R], tasks: Sequence[T], address: str) -> list[R | str]:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ImportError('a Ray cluster needs the package ray: pip install ray') from error
    ray.init(address=address, log_to_driver=False)
    try:
        attempt = ray.remote(_attempt)
        done: list[R | str] = ray.get([attempt.remote(work, task) for task in tasks])
        return done
    finally:
        ray.shutdown()


def _attempt(work: Callable[[T], R], task: T) -> R | str:
    try:
        return work(task)
    except _SAID as error:
        return str(error)
