"""The other processes of a verb: started with a log, watched, stopped in any case."""

from collections.abc import Callable, Sequence
import os
from pathlib import Path
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_nodes.ros.session import Session

_LAST_LINES = 12
_PATIENCE_S = 10.0
# of util-linux: a verb that is killed cannot stop its children any more
_ENDS_WITH_ITS_PARENT = ('setpriv', '--pdeathsig', 'TERM') if shutil.which('setpriv') else ()
_claim: socket.socket | None = None  # of the private graph


class Child:
    """
    One child process. What it writes goes to a file, whose end is told if it fails.

        with Child('detection_node', ['perception_nodes.detection_node'], log=folder / 'log'):
            ...

    :param name: What to call it when it is spoken of.
    :param module: A Python module and its arguments, run as ``python -m``.
    :param log: File for its standard output and error.
    """

    def __init__(self, name: str, module: Sequence[str], log: Path) -> None:
        self.name = name
        self._command = [*_ENDS_WITH_ITS_PARENT, sys.executable, '-m', *module]
        self._log = log

    def __enter__(self) -> 'Child':
        with self._log.open('wb') as log:
            # a session of its own: Ctrl-C reaches it through stop(), after its readers are done
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def check(self) -> None:
        """
        Do nothing while it runs.

        :raises OSError: If it has ended, with its last lines.
        """
        code = self._process.poll()
        if code is not None:
            raise OSError(self._obituary(f'ended with {_ending(code)}'))

    def stop(self) -> None:
        """
        Interrupt it and wait for its end.

        :raises OSError: If it does not end well, with its last lines.
        """
        self.check()
        code = self._stop()
        if code != 0:
            raise OSError(self._obituary(f'ended with {_ending(code)} when it was stopped'))

    def wait(self, timeout_s: float) -> bool:
        """
        Wait for it to finish by itself; return whether it has.

        :raises OSError: If it fails, with its last lines.
        """
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        if code != 0:
            raise OSError(self._obituary(f'ended with {_ending(code)}'))
        return True

    def wait_for_end(self, timeout_s: float) -> int:
        """
        Wait for it to end, well or not; return its exit code.

        :raises TimeoutError: If it goes on.
        """
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f'{self.name} goes on; its last lines:\n{self.last_lines()}') \
                from None

    def last_lines(self) -> str:
        """Return the end of what it has written, indented."""
        lines = self._log.read_text(errors='replace').splitlines()[-_LAST_LINES:]
        return '\n'.join(f'    {line}' for line in lines) or '    (it wrote nothing)'

    def _stop(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                self._process.send_signal(number)
            try:
                return self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                continue
        raise TimeoutError(f'{self.name} (process {self._process.pid}) cannot be stopped')

    def _obituary(self, what: str) -> str:
        return f'{self.name} {what}; its last lines:\n{self.last_lines()}'


def await_nodes(
    session: 'Session', children: Sequence[Child], ready: Callable[[], bool], timeout_s: float
) -> None:
    """
    Wait until ``ready`` while the children run.

    :raises OSError: If a child ends, a node reports an error on ``/diagnostics``, or nothing
        happens in time; with the last lines of the children.
    """
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus

    errors: list[str] = []

    def keep_errors(msg: DiagnosticArray) -> None:
        errors.extend(f'{status.name.lstrip("/")} {status.message}' for status in msg.status
                      if status.level == DiagnosticStatus.ERROR)

    subscription = session.node.create_subscription(
        DiagnosticArray, '/diagnostics', keep_errors, 10)
    end_s = time.monotonic() + timeout_s
    while not ready():
        for child in children:
            child.check()
        if errors:
            raise OSError(errors[0])
        if time.monotonic() > end_s:
            lines = '\n'.join(f'  {child.name}:\n{child.last_lines()}' for child in children)
            raise TimeoutError(f'not everybody was ready within {timeout_s:g} s:\n{lines}')
        time.sleep(0.02)
    session.unsubscribe(subscription)


def use_private_graph() -> int:
    """
    Give this process and its children a ROS graph that no other program of this machine is on.

    It is this process's until it ends or asks for another one.

    :return: The ROS domain id, also set in the environment.
    :raises OSError: If every domain id is in use.
    """
    global _claim
    if _claim is not None:
        _claim.close()
    ids = list(range(1, 102))  # the ports of larger ids are those of outgoing connections
    random.SystemRandom().shuffle(ids)  # programs with the same seed go separate ways, too
    for domain_id in ids:
        _claim = _claimed(domain_id)
        if _claim is not None:
            os.environ['ROS_DOMAIN_ID'] = str(domain_id)
            os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
            return domain_id
    raise OSError('all ROS domain ids from 1 to 101 are in use on this machine; stop some nodes')


def _claimed(domain_id: int) -> socket.socket | None:
    """
    Return what keeps a graph for this process while it is open; None where it is in use.

    A name among the abstract sockets of Linux is a lock that the kernel takes back, and that is
    shared by those who share ports. It keeps a graph on which nobody listens yet.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            claim.bind(f'\0perception_nodes/graph/{domain_id}')
            probe.bind(('', 7400 + 250 * domain_id))  # where DDS participants listen
        except OSError:
            claim.close()
            return None
    return claim


def _ending(code: int) -> str:
    return f'exit code {code}' if code >= 0 else f'signal {signal.Signals(-code).name}'
