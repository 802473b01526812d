"""
``perception view``: image topics in a browser, with boxes, masks and what they are doing.

What needs the graph is imported once the arguments are right.
"""

import argparse
import logging
import os
import socket
import threading
from typing import TYPE_CHECKING

from perception_nodes.cli.arguments import positive, result_folder
from perception_nodes.cli.viewer.server import listen, PageServer

if TYPE_CHECKING:
    from perception_nodes.cli.viewer.watcher import Watcher

log = logging.getLogger(__name__)

RATE_HZ = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``perception view`` takes."""
    parser.add_argument(
        'topics', nargs='*', metavar='TOPIC',
        help='image topics to show, and detections or masks to draw on them (default: all, '
        'also those that appear later)')
    add_page_arguments(parser)
    parser.add_argument(
        '--rate', type=positive, default=RATE_HZ, metavar='R',
        help='show at most R pictures per second and topic (default: %(default)g)')
    parser.add_argument(
        '--save', type=result_folder, metavar='DIR',
        help='write every picture shown to DIR/TOPIC/STAMP_NS.jpg, also without a browser')


def add_page_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where and how long the page is served."""
    parser.add_argument(
        '--port', type=_port, default=8080, metavar='P',
        help='port of the page; 0 takes any free one (default: 8080)')
    parser.add_argument(
        '--host', default='127.0.0.1', metavar='H',
        help='address to serve on; 0.0.0.0 lets the whole network look, without a password '
        '(default: 127.0.0.1)')
    parser.add_argument(
        '--duration', type=positive, metavar='S', help='stop after S seconds')


def run(arguments: argparse.Namespace) -> int:
    """Serve the page until interrupted."""
    with listen(arguments.host, arguments.port) as listener:
        if arguments.save is not None:
            arguments.save.mkdir(parents=True, exist_ok=True)
        from perception_nodes.cli.viewer.watcher import Watcher
        from perception_nodes.ros.session import Session
        with Session('perception_view') as session:
            watcher = Watcher(session, arguments.topics, arguments.rate, arguments.save)
            try:
                # the watcher ends first: it must not draw for a page that is gone
                with PageServer(listener, watcher), watcher:
                    announce(listener)
                    threading.Event().wait(arguments.duration)
            finally:
                if arguments.save is not None:
                    log.info('saved %d picture(s) in %s', watcher.saved, arguments.save)
        return _exit_code(watcher, arguments)


def announce(listener: socket.socket) -> None:
    """Say where the page is, and how to see it from another machine."""
    host, port = listener.getsockname()[:2]
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


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port; take 0 to 65535")
    return int(text)
