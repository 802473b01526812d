"""The same work on many things, one after the other or in several processes."""

from collections.abc import Callable, Sequence
import multiprocessing
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
import signal
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
    :raises OSError: If a process of ours was killed.
    """
    if cluster:
        return _on_cluster(work, tasks, cluster)
    if jobs == 1 or len(tasks) == 1:
        return [_attempt(work, task) for task in tasks]
    return _in_processes(work, tasks, jobs)


def _in_processes(work: Callable[[T], R], tasks: Sequence[T], jobs: int) -> list[R | str]:
    """Give each task a process of its own, so many at a time; none outlives this call."""
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    done: dict[int, R | str] = {}
    try:
        for n, task in enumerate(tasks):
            if len(running) == jobs:
                _collect(running, done)
            _start(work, task, n, running)
        while running:
            _collect(running, done)
    finally:
        for _, process in running.values():  # nobody waits for what they are at any more
            process.terminate()
        for _, process in running.values():
            process.join()
    return [done[n] for n in range(len(tasks))]


def _start(
    work: Callable[[T], R], task: T, n: int, running: dict[Connection, tuple[int, BaseProcess]]
) -> None:
    # a forked process would inherit the threads of a network runtime half alive
    context = multiprocessing.get_context('spawn')
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(writer, work, task))
    # it keeps this mask: the terminal's Ctrl-C is for our process, which ends the others
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
        running[reader] = n, process
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    writer.close()  # else the end of the process would not be seen


def _collect(
    running: dict[Connection, tuple[int, BaseProcess]], done: dict[int, R | str]
) -> None:
    """Wait for an answer or more."""
    for reader in wait(list(running)):
        assert isinstance(reader, Connection)
        n, process = running[reader]
        try:
            done[n] = reader.recv()
        except EOFError as error:
            process.join()
            raise OSError(
                f'a process at work ended with {process.exitcode} and no answer, perhaps for lack '
                'of memory; fewer at a time need less') from error
        process.join()
        del running[reader]


def _answer(writer: Connection, work: Callable[[T], R], task: T) -> None:
    writer.send(_attempt(work, task))


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
