"""
``perception fetch-model``: download the weights of a manifest entry, once and on purpose.

Nothing else in the package downloads. What arrives is checked before it gets its name, so a file
in the model folder is whole; an interrupted download is continued the next time.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
import errno
import fcntl
from http.client import HTTPException
from io import BufferedRandom
import logging
import os
from pathlib import Path
import shutil
import socket
from typing import Any
import urllib.error
import urllib.request

from perception_nodes.core.manifest import (
    file_sha256,
    find_model,
    known_models,
    model_folder,
    ModelEntry,
)
from tqdm import tqdm

log = logging.getLogger(__name__)

_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 18
_ATTEMPTS = 4  # as long as each brings something new


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument('name', nargs='?', help='name of a model in the manifest')
    parser.add_argument(
        '--manifest', default='', metavar='FILE',
        help='your own manifest.yaml, searched before the shipped one')
    parser.add_argument(
        '--list', action='store_true', help='list the models and whether their weights are here')


def run(arguments: argparse.Namespace) -> int:
    """Fetch one model, or list them all."""
    if arguments.list:
        _print_models(known_models(arguments.manifest))
        return 0
    if not arguments.name:
        raise ValueError('name a model to fetch; perception fetch-model --list lists them')
    entry = find_model(arguments.name, manifest=arguments.manifest)
    if entry.path.is_file():
        entry.verified_path()
        log.info('%s is already there', entry.path)
        return 0
    fetch(entry)
    log.info('wrote %s (sha256 %s; licence of the weights: %s)',
             entry.path, file_sha256(entry.path), entry.licence)
    return 0


def fetch(entry: ModelEntry) -> None:
    """
    Download, check and put in place the weights of an entry.

    :raises ValueError: If the entry has no url, or what is there is not what it describes.
    :raises OSError: If there is no network or no space, with what to do.
    """
    if not entry.url:
        raise ValueError(
            f"model '{entry.name}' has no url in {entry.manifest}; its file belongs at "
            f'{entry.path}')
    entry.path.parent.mkdir(parents=True, exist_ok=True)
    part = entry.path.with_name(entry.path.name + '.part')
    with _only_one(part) as file:
        try:
            _download(entry, file)
        except (OSError, HTTPException) as error:
            if part.stat().st_size == 0:
                part.unlink()
            raise OSError(_explained(error, entry)) from error
        file.flush()
        found = file_sha256(part)
        if not found.startswith(entry.sha256):
            part.unlink()
            raise ValueError(
                f'{entry.url} is not the file of the manifest: its sha256 is {found[:12]}..., '
                f'expected {entry.sha256[:12]}...; it was deleted, nothing was installed')
        part.replace(entry.path)


@contextmanager
def _only_one(part: Path) -> Iterator[BufferedRandom]:
    """Open the unfinished file, unless another process is writing it."""
    with part.open('a+b') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f'{part} is being written by another perception fetch-model; wait for its end'
            ) from error
        if not part.exists() or not os.path.samestat(
                part.stat(), os.fstat(file.fileno())):  # it was put in place meanwhile
            raise BlockingIOError(
                f'{part} was written by another perception fetch-model until now; run this again')
        yield file


def _download(entry: ModelEntry, file: BufferedRandom) -> None:
    """Append to ``file`` until it is as long as the server says."""
    for _ in range(_ATTEMPTS):
        had = file.seek(0, 2)
        total = _download_rest(entry, file)
        have = file.seek(0, 2)
        if total is None or have >= total:
            return
        if have <= had:
            break
    raise ConnectionError(
        f'{entry.url}: the connection ended after {have} of {total} bytes; run the same command '
        'again to go on from there')


def _download_rest(entry: ModelEntry, file: BufferedRandom) -> int | None:
    """Append what one connection brings; return the whole length, None if that is unknown."""
    had = file.tell()
    headers = {'User-Agent': 'perception-nodes'}
    if had:
        headers['Range'] = f'bytes={had}-'
    try:
        response = _opener().open(
            urllib.request.Request(entry.url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not had:
            raise
        return had  # nothing is left to send: the sha256 decides
    with response:
        if had and response.status != 206:  # it sends the whole file again
            file.truncate(0)
            had = 0
        length = response.headers.get('Content-Length')
        total = had + int(length) if length else None
        _check_space(entry, file, had, total)
        with tqdm(desc=entry.path.name, total=total, initial=had, unit='B', unit_scale=True,
                  disable=None) as bar:
            try:
                while chunk := response.read(_CHUNK_BYTES):
                    file.write(chunk)
                    bar.update(len(chunk))
            except (ConnectionError, TimeoutError, HTTPException):
                if total is None:
                    raise
        file.flush()
    return total


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but not from https to a protocol that anybody on the way can change."""

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str,
                         headers: Any, newurl: str) -> urllib.request.Request | None:
        if req.full_url.startswith('https:') and not newurl.startswith('https:'):
            raise urllib.error.URLError(f'it redirects to {newurl}, which is not https')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoDowngrade)


def _check_space(
    entry: ModelEntry, file: BufferedRandom, had: int, total: int | None
) -> None:
    """
    Look before downloading.

    :raises ValueError: If the server offers a file of another size than the manifest's.
    :raises OSError: If it does not fit on the disk.
    """
    if total is None:
        return
    if entry.size_bytes is not None and total != entry.size_bytes:
        file.truncate(0)
        raise ValueError(
            f'{entry.url} offers {total} bytes, but the manifest says {entry.size_bytes}; '
            'nothing was downloaded')
    free = shutil.disk_usage(entry.path.parent).free
    if free < total - had:
        raise OSError(
            errno.ENOSPC, f'{(total - had) / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free')


def _explained(error: OSError | HTTPException, entry: ModelEntry) -> str:
    """Return a sentence that a user can act on."""
    by_hand = f'a copy of the file can also be put at {entry.path} by hand'
    reason = getattr(error, 'reason', error)
    if getattr(error, 'errno', None) == errno.ENOSPC:
        return (f'the disk of {entry.path.parent} is full ({error}); make room, or set '
                'PERCEPTION_NODES_MODELS to a folder on another disk')
    if isinstance(error, urllib.error.HTTPError):
        return f'{entry.url}: the server answers {error.code} {reason}; has the file moved?'
    if isinstance(reason, socket.gaierror):
        return (f'{entry.url}: the server cannot be found ({reason.strerror}): is there a '
                f'network, is the address right? {by_hand}')
    if isinstance(error, urllib.error.URLError | TimeoutError):
        return (f'{entry.url} cannot be reached ({reason}): is there a network, does it need a '
                f'proxy (https_proxy)? {by_hand}')
    if isinstance(error, HTTPException):
        return f'{entry.url}: what answers is no web server ({error!r})'
    return str(error)


def _print_models(entries: dict[str, ModelEntry]) -> None:
    """Print a line per model, and where fetched ones are kept."""
    width = max(len(name) for name in entries)
    for entry in entries.values():
        size = f'{entry.size_bytes / 1e6:6.1f} MB' if entry.size_bytes else ' ' * 9
        state = ('here' if entry.path.is_file() else
                 'to fetch' if entry.url else 'missing')
        print(f'{entry.name:{width}}  {entry.task:14}  {entry.backend:11}  {entry.domain:10}  '
              f'{size}  {state:8}  {entry.licence}')
    print(f'fetched weights are kept in {model_folder()}')
