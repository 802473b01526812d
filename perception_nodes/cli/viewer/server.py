"""
Serves the page and its pictures to browsers; aiohttp's loop runs in a thread of its own.

Over the page's websocket a browser names the topics in sight (``want``) and asks for each next
picture of one (``next``), so a slow browser or tunnel gets fewer pictures, never old ones. It
receives the state as text twice a second, and pictures as a line of JSON followed by a JPEG.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
import errno
import ipaddress
import json
from pathlib import Path
import socket
import threading
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiohttp import web, WSMsgType
from perception_nodes.cli.viewer.scene import Drawn

PAGE = Path(__file__).resolve().parents[1] / 'view_page'

_STATE_PERIOD_S = 0.5
_LARGEST_REQUEST = 1 << 16
_HEADERS = {
    # nothing from elsewhere: the page must work, and stay private, without the internet
    'Content-Security-Policy': "default-src 'self'; img-src 'self' blob: data:",
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
}


class Source(Protocol):
    """What the page shows, and who is told what it shows."""

    def state(self) -> dict[str, Any]: ...

    def look_at(self, topics: frozenset[str] | None) -> None: ...

    def deliver_to(self, show: Callable[[Drawn], None]) -> None: ...


@dataclass(eq=False)
class _Browser:
    socket: web.WebSocketResponse
    wanted: frozenset[str] = frozenset()  # topics in sight
    ready: set[str] = field(default_factory=set)  # of these, whose next picture it awaits
    sent: dict[str, int] = field(default_factory=dict)  # number of the last picture it got
    news: asyncio.Event = field(default_factory=asyncio.Event)


class PageServer:
    """
    The viewer's web server, while the ``with`` block runs.

    :param listener: A listening socket; closed at the end.
    """

    def __init__(self, listener: socket.socket, source: Source) -> None:
        self._listener = listener
        self._is_local = ipaddress.ip_address(listener.getsockname()[0]).is_loopback
        self._source = source
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, name='page')
        self._browsers: set[_Browser] = set()
        self._pictures: dict[str, tuple[int, bytes]] = {}  # number and message, by topic
        self._number = 0

    def __enter__(self) -> 'PageServer':
        self._thread.start()
        self._started.result()
        self._source.deliver_to(self.show)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def show(self, drawn: Drawn) -> None:
        """Offer a new picture to the browsers. May be called from any thread."""
        picture = drawn.picture
        about = {'topic': drawn.topic, 'legend': picture.legend, 'note': picture.note}
        self._loop.call_soon_threadsafe(
            self._offer, drawn.topic, json.dumps(about).encode() + b'\n' + drawn.jpeg)

    def _serve(self) -> None:
        try:
            self._loop.run_until_complete(self._serve_until_stopped())
        except Exception as error:
            if self._started.done():
                raise
            self._started.set_exception(error)
        finally:
            self._loop.close()

    async def _serve_until_stopped(self) -> None:
        application = web.Application(middlewares=[self._guard])
        application.router.add_get('/', self._page)
        application.router.add_get('/live', self._live)
        application.router.add_static('/', PAGE)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.SockSite(runner, self._listener).start()
        self._started.set_result(None)
        await self._stopping.wait()
        for browser in list(self._browsers):
            await browser.socket.close(code=1001, message=b'the viewer ends')
        await runner.cleanup()

    def _offer(self, topic: str, message: bytes) -> None:
        self._number += 1
        self._pictures[topic] = (self._number, message)
        for browser in self._browsers:
            browser.news.set()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if not self._is_own(request):
            raise web.HTTPForbidden(
                text=f'open this page as http://localhost:{self._listener.getsockname()[1]}, if '
                'need be through ssh -L; other names need --host')
        response: web.StreamResponse = await handler(request)
        if not response.prepared:
            response.headers.update(_HEADERS)
        return response

    def _is_own(self, request: web.Request) -> bool:
        """
        Return whether the request comes from our page and not from another web site.

        Any site may open a websocket to this machine, or point its own name at 127.0.0.1.
        """
        origin = request.headers.get('Origin')
        if origin is not None and urlsplit(origin).netloc != request.host:
            return False
        name = urlsplit(f'//{request.host}').hostname
        return not self._is_local or name in ('localhost', '127.0.0.1', '::1')

    async def _page(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE / 'index.html')

    async def _live(self, request: web.Request) -> web.WebSocketResponse:
        # JPEG does not get smaller by compression
        stream = web.WebSocketResponse(
            compress=False, heartbeat=15.0, max_msg_size=_LARGEST_REQUEST)
        await stream.prepare(request)
        browser = _Browser(stream)
        self._browsers.add(browser)
        self._tell_source()
        sending = [asyncio.create_task(self._send_pictures(browser)),
                   asyncio.create_task(self._send_state(browser))]
        try:
            async for message in stream:
                if message.type == WSMsgType.TEXT:
                    self._obey(browser, json.loads(message.data))
        except (ValueError, KeyError, TypeError, AttributeError):
            await stream.close(code=1003, message=b'not understood')
        finally:
            for task in sending:
                task.cancel()
            self._browsers.discard(browser)
            self._tell_source()
        return stream

    def _obey(self, browser: _Browser, request: dict[str, Any]) -> None:
        if 'want' in request:
            browser.wanted = frozenset(request['want'])
            browser.ready &= browser.wanted
            self._tell_source()
        else:
            browser.ready.add(str(request['next']))
            browser.news.set()

    def _tell_source(self) -> None:
        wanted = frozenset().union(*(browser.wanted for browser in self._browsers))
        for topic in self._pictures.keys() - wanted:
            del self._pictures[topic]  # it would be old when somebody looks again
        self._source.look_at(wanted if self._browsers else None)

    async def _send_pictures(self, browser: _Browser) -> None:
        while True:
            await browser.news.wait()
            browser.news.clear()
            for topic in sorted(browser.ready):
                number, message = self._pictures.get(topic, (0, b''))
                if number > browser.sent.get(topic, 0):
                    browser.ready.discard(topic)
                    browser.sent[topic] = number
                    await _send(browser.socket.send_bytes(message))

    async def _send_state(self, browser: _Browser) -> None:
        while True:
            await _send(browser.socket.send_str(json.dumps(self._source.state())))
            await asyncio.sleep(_STATE_PERIOD_S)


async def _send(sending: Awaitable[None]) -> None:
    # a browser that has gone is noticed by its reader
    with suppress(ConnectionError):
        await sending


def listen(host: str, port: int) -> socket.socket:
    """
    Open the port that browsers connect to.

    :param host: Address of this machine; 127.0.0.1 is seen by this machine only.
    :param port: 0 takes any free one.
    :raises OSError: If that cannot be, with the port that can.
    """
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if (error.errno or 0) < 0:  # a name that cannot be looked up
            raise OSError(f"'{host}' is no host: take 127.0.0.1, or 0.0.0.0 for all addresses "
                          'of this machine') from error
        if error.errno == errno.EADDRINUSE:
            free = _free_port(host, port, family)
            raise OSError(
                f'port {port} is in use on {host}; a free one: --port {free}') from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise OSError(f'{host} is no address of this machine: take 127.0.0.1, or 0.0.0.0 '
                          'for all its addresses') from error
        if error.errno == errno.EACCES:
            raise OSError(f'port {port} is reserved for the system: take one from 1024 to 65535'
                          ) from error
        raise


def _free_port(host: str, taken: int, family: int) -> int:
    for port in range(taken + 1, 65536):
        with socket.socket(family) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    return 0  # the system chooses
