"""One process of the suite: tuned transport, nodes on one executor, a clean end."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
import signal
import socket
import sys
import threading
from typing import Protocol, runtime_checkable

import cv2
from perception_nodes.ros import transport
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import uninstall_signal_handlers
from rclpy.utilities import ok, remove_ros_args, try_shutdown


@runtime_checkable
class Worker(Protocol):
    """A node with a thread of its own."""

    def start(self) -> None:
        """Begin to work."""

    def halt(self) -> None:
        """Stop, and wait until nothing is published any more."""


@runtime_checkable
class Mover(Protocol):
    """A node that moves something."""

    def stop_robot(self) -> None:
        """Publish a stop, and nothing after it."""


def run(make_nodes: Callable[[], Sequence[Node]], args: list[str] | None = None) -> None:
    """
    Spin nodes until the process is told to stop. The body of every ``main``.

    :param make_nodes: Called once the graph can be joined.
    :param args: Command line with ROS arguments, ``sys.argv`` when left out.
    """
    with suppress(KeyboardInterrupt):  # which comes before rclpy has its handlers
        _spin_until_told(make_nodes, list(sys.argv if args is None else args))


def _spin_until_told(make_nodes: Callable[[], Sequence[Node]], args: list[str]) -> None:
    try:
        transport.tune()
        _refuse_other_words(args)
        rclpy.init(args=args)
    except (ValueError, RuntimeError) as error:  # rclpy's RCLError is no public name
        where = ', at '  # of rcl's own source
        what = 'unknown ROS arguments ' if type(error).__name__ == 'UnknownROSArgsError' else ''
        sys.exit(f'perception_nodes: cannot start: {what}{str(error).partition(where)[0]}')
    # OpenCV's pool spins while it waits: for images it doubles the cost and gains little
    cv2.setNumThreads(1)
    nodes: Sequence[Node] = ()
    try:
        nodes = make_nodes()
        executor = SingleThreadedExecutor()
        for node in nodes:
            executor.add_node(node)
        movers = [node for node in nodes if isinstance(node, Mover)]
        if movers:
            _stop_before_shutdown(movers)
        for worker in _workers(nodes):
            worker.start()
        # timers that run out together wake the executor once, which costs more than they do
        for timer in (timer for node in nodes for timer in node.timers):
            timer.reset()
        spin(executor)
    except KeyboardInterrupt:
        pass
    except (ImportError, ValueError) as error:
        if ok():
            sys.exit(f'perception_nodes: cannot start: {error}')
    except Exception:
        if ok():  # else told to stop while it started, when nothing can be published any more
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second one must not break the clean end
        # the signal has ended the context: transitions could not be published any more
        for worker in _workers(nodes):
            worker.halt()
        for node in nodes:
            node.destroy_node()
        try_shutdown()


def _refuse_other_words(args: list[str]) -> None:
    """End the program for words that ROS passes over, such as ``-p`` without ``--ros-args``."""
    words = remove_ros_args(args)  # none where a caller gives ROS arguments only
    if len(words) < 2:
        return
    program, *others = words
    name = Path(program).stem
    usage = (
        f'{name} --ros-args [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO]; '
        f"'perception parameters {name.removesuffix('_node')}' lists the parameters")
    if {'-h', '--help'} & set(others):
        sys.stdout.write(f'usage: {usage}\n')
        sys.exit()
    sys.exit(f"perception_nodes: cannot start: '{others[0]}' is no ROS argument; write {usage}")


def spin(executor: SingleThreadedExecutor) -> None:
    """Run callbacks until shutdown; one that throws, such as a wrong transition, is logged."""
    while ok():
        try:
            executor.spin_once()
        except ExternalShutdownException:
            return
        except Exception as error:
            if ok():  # else it could not publish any more
                get_logger('perception_nodes').error(
                    f'a callback failed: {error}', throttle_duration_sec=5.0)


def _stop_before_shutdown(movers: Sequence[Mover]) -> None:
    """
    Let robots be stopped when the process is told to end, while that can still be published.

    The handlers of rclpy end the context at once; in their place a thread hears of the signal.
    """
    uninstall_signal_handlers()
    hear, tell = socket.socketpair()
    tell.setblocking(False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: None)  # else it would not be told
    signal.set_wakeup_fd(tell.fileno())

    def end() -> None:
        with tell:  # it lives as long as the thread
            hear.recv(1)
            for mover in movers:
                mover.stop_robot()
            try_shutdown()

    threading.Thread(target=end, name='end', daemon=True).start()


def _workers(nodes: Sequence[Node]) -> list[Worker]:
    return [node for node in nodes if isinstance(node, Worker)]
