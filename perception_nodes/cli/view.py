"""
``perception view``: image topics in a browser, with boxes, masks and what they are doing.

What needs the graph is imported once the arguments are right.
"""

import argparse
import logging
import os
from pathlib import Path
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_nodes.cli.viewer.watcher import Watcher

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``perception view`` takes."""
    parser.add_argument(
        'topics', nargs='*', metavar='TOPIC',
        help='image topics to show, and detections or masks to draw on them (default: all, '
        'also those that appear later)')
    add_page_arguments(parser)
    parser.add_argument(
        '--rate', type=_positive, default=15.0, metavar='R',
        help='show at most R pictures per second and topic (default: 15)')
    parser.add_argument(
        '--save', type=Path, metavar='DIR',
        help='write every picture shown to DIR/TOPIC/STAMP_NS.jpg, also without a browser')
    parser.add_argument(
        '--duration', type=_positive, metavar='S', help='stop after S seconds')


def add_page_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where the page is served."""
    parser.add_argument(
        '--port', type=_port, default=8080, metavar='P', help='port of the page (default: 8080)')
    parser.add_argument(
        '--host', default='127.0.0.1', metavar='H',
        help='address to serve on; 0.0.0.0 lets the whole network look, without a password '
        '(default: 127.0.0.1)')


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until interrupted."""
    from perception_nodes.cli.viewer.server import listen, PageServer
    with listen(arguments.host, arguments.port) as listener:
        if arguments.save is not None:
            arguments.save.mkdir(parents=True, exist_ok=True)
        from perception_nodes.cli.viewer.watcher import Watcher
        from perception_nodes.ros.session import Session
        with Session('perception_view') as session:
            topics = [session.topic(name) for name in arguments.topics]
            watcher = Watcher(session, topics, arguments.rate, arguments.save)
            # the watcher ends first: it must not draw for a page that is gone
            with PageServer(listener, watcher), watcher:
                _announce(*listener.getsockname()[:2])
                try:
                    threading.Event().wait(arguments.duration)
                finally:
                    if arguments.save is not None:
                        log.info('saved %d picture(s) in %s', watcher.saved, arguments.save)
                return _exit_code(watcher, arguments)


def _announce(host: str, port: int) -> None:
    """Say where the page is, and how to see it from another machine."""
    local = host in ('127.0.0.1', '::1')
    name = 'localhost' if local else socket.gethostname()
    log.info('open http://%s:%d in a browser; Ctrl-C stops', name, port)
    if local:
        user = os.environ.get('USER', 'USER')
        log.info('from another machine first run there: ssh -L %d:%s:%d %s@%s',
                 port, host, port, user, socket.gethostname())
    else:
        log.warning('everybody who reaches %s port %d can look; there is no password', host, port)


def _exit_code(watcher: 'Watcher', arguments: argparse.Namespace) -> int:
    """Return 1 if pictures were to be saved and were not."""
    if arguments.save is None or (watcher.saved and not watcher.saving_failure):
        return 0
    for sentence in watcher.complaints():
        log.error(sentence)
    return 1


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} must be positive')
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f'{text} must lie between 0 (any free port) and 65535')
    return value
