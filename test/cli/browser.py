"""Headless Chromium for tests, driven over its DevTools protocol."""

import asyncio
import base64
from pathlib import Path
import shutil
import signal
import subprocess
import tempfile
import time

import aiohttp
import cv2
import numpy as np

WAIT_S = 90.0
_FLAGS = (
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--remote-debugging-port=0', '--hide-scrollbars', '--disable-dev-shm-usage')


def find_chromium():
    """Return the path of a Chromium, or None."""
    return next(filter(None, map(shutil.which, ('chromium', 'chromium-browser'))), None)


class Browser:
    """One browser with one page."""

    def __init__(self, width=1000, height=900):
        self._size = (width, height)

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = subprocess.Popen(
            [find_chromium(), *_FLAGS, f'--user-data-dir={self._folder.name}',
             '--window-size={},{}'.format(*self._size), 'about:blank'],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True)
        self._loop = asyncio.new_event_loop()
        self._number = 0
        self._loop.run_until_complete(self._connect())
        return self

    def __exit__(self, kind, error, traceback):
        self._loop.run_until_complete(self._client.close())
        self._loop.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    async def _connect(self):
        port_file = Path(self._folder.name) / 'DevToolsActivePort'
        deadline = time.monotonic() + WAIT_S
        while not port_file.is_file() or '\n' not in port_file.read_text():
            assert time.monotonic() < deadline, 'Chromium does not start'
            await asyncio.sleep(0.05)
        port = port_file.read_text().split()[0]
        self._client = aiohttp.ClientSession()
        while not (pages := await self._pages(port)):  # it listens before it has a page
            assert time.monotonic() < deadline, 'Chromium opens no page'
            await asyncio.sleep(0.05)
        self._socket = await self._client.ws_connect(
            pages[0]['webSocketDebuggerUrl'], max_msg_size=0)

    async def _pages(self, port):
        async with self._client.get(f'http://127.0.0.1:{port}/json/list') as answer:
            return [target for target in await answer.json() if target['type'] == 'page']

    def call(self, method, **params):
        """Call a DevTools method and return its result."""
        answer = self._loop.run_until_complete(self._call(method, params))
        assert 'error' not in answer, answer
        return answer['result']

    async def _call(self, method, params):
        self._number += 1
        await self._socket.send_json({'id': self._number, 'method': method, 'params': params})
        while True:
            answer = await asyncio.wait_for(self._socket.receive_json(), WAIT_S)
            if answer.get('id') == self._number:
                return answer

    def open(self, url):
        """Load a page."""
        self.call('Page.navigate', url=url)
        loaded = f"location.href.startsWith('{url}') && document.readyState === 'complete'"
        deadline = time.monotonic() + WAIT_S
        # between two pages there is none that could answer
        while not self._loop.run_until_complete(self._call(
                'Runtime.evaluate', {'expression': loaded, 'returnByValue': True})).get(
                    'result', {}).get('result', {}).get('value'):
            assert time.monotonic() < deadline, f'waited {WAIT_S} s for {url}'
            time.sleep(0.05)

    def evaluate(self, expression):
        """Return the value of a JavaScript expression in the page."""
        answer = self.call('Runtime.evaluate', expression=expression, returnByValue=True)
        assert 'exceptionDetails' not in answer, answer
        return answer['result'].get('value')

    def wait_for(self, expression, timeout_s=WAIT_S):
        """Return the expression's value as soon as it is true."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, (
                f'waited {timeout_s} s for {expression}; the page says: '
                + str(self.evaluate('document.body?.innerText')))
            time.sleep(0.05)
        return value

    def screenshot(self):
        """Return what the window shows as (H, W, 3) uint8 RGB."""
        png = base64.b64decode(self.call('Page.captureScreenshot', format='png')['data'])
        bgr = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
