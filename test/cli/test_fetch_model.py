"""Fetching weights from a server on this machine, with everything that can go wrong."""

import errno
import fcntl
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import logging
from pathlib import Path
import re
import shutil
import threading
from types import SimpleNamespace
import urllib.error
import urllib.request

from perception_nodes.cli import fetch_model
from perception_nodes.cli.main import main
from perception_nodes.core.manifest import find_model
import pytest

BODY = bytes(range(256)) * 4000
ENTRY = """
models:
  - name: mine
    task: detection
    backend: torchvision
    architecture: fcos_resnet50_fpn
    domain: real
    url: {url}
    sha256: {sha256}
    licence: MIT
    classes: {{1: cat}}
    input: {{width: 30, height: 20}}
"""


class Server(ThreadingHTTPServer):
    """Serves one body, and misbehaves on request."""

    daemon_threads = True
    body = BODY
    ranges = True
    lengths = True
    cuts = ()  # after how many bytes each of the next connections ends

    def handle_error(self, request, client_address):
        """Leave out the traceback of a client that went away."""


class Handler(BaseHTTPRequestHandler):
    """Answers GET, with Range if the server does."""

    protocol_version = 'HTTP/1.0'

    def do_GET(self):  # noqa: N802
        """Send the body or a part of it."""
        server = self.server
        server.requests.append((self.path, self.headers.get('Range')))
        if self.path == '/missing.pth':
            self.send_error(404)
            return
        if self.path == '/moved.pth':
            self.send_response(302)
            self.send_header('Location', '/weights.pth')
            self.end_headers()
            return
        first, body = 0, server.body
        wanted = self.headers.get('Range')
        if wanted and server.ranges:
            first = int(wanted.removeprefix('bytes=').rstrip('-'))
            if first >= len(body):
                self.send_error(416)
                return
        self.send_response(206 if first else 200)
        if server.lengths:
            self.send_header('Content-Length', str(len(body) - first))
        self.end_headers()
        cuts = list(server.cuts)
        end = first + cuts.pop(0) if cuts else len(body)
        server.cuts = cuts
        self.wfile.write(body[first:end])

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server():
    """Run a server on a free port."""
    with Server(('127.0.0.1', 0), Handler) as server:
        server.requests = []
        server.url = f'http://127.0.0.1:{server.server_port}'
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the user's model folder, which does not exist yet."""
    folder = tmp_path / 'cache' / 'models'
    monkeypatch.setenv('PERCEPTION_NODES_MODELS', str(folder))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    return folder


@pytest.fixture
def fetch(tmp_path, folder, capsys, caplog):
    """Return a function that runs the verb and returns its exit code and what it said."""
    def run(url, sha256=None, more='', words=('mine',)):
        manifest = tmp_path / 'manifest.yaml'
        manifest.write_text(ENTRY.format(
            url=url, sha256=sha256 or hashlib.sha256(BODY).hexdigest()) + more)
        caplog.set_level(logging.INFO, 'perception_nodes')
        caplog.clear()
        code = main(['fetch-model', *words, '--manifest', str(manifest)])
        shown = capsys.readouterr()
        assert 'Traceback' not in shown.err
        assert '|' not in shown.err  # no progress bar where nobody looks
        return SimpleNamespace(code=code, said=caplog.text + shown.out + shown.err)

    return run


def files(folder):
    """Return what is in the folder."""
    return sorted(path.name for path in folder.glob('*'))


def test_a_model_is_fetched_checked_and_found_afterwards(server, folder, fetch, tmp_path):
    """Nothing but the whole file is left, and a second run has nothing to do."""
    done = fetch(f'{server.url}/weights.pth')
    assert done.code == 0
    assert f'wrote {folder / "weights.pth"}' in done.said
    assert hashlib.sha256(BODY).hexdigest() in done.said
    assert 'licence of the weights: MIT' in done.said
    assert files(folder) == ['weights.pth']
    entry = find_model('mine', 'detection', str(tmp_path / 'manifest.yaml'))
    assert entry.verified_path().read_bytes() == BODY
    again = fetch(f'{server.url}/weights.pth')
    assert again.code == 0 and 'is already there' in again.said
    assert len(server.requests) == 1


def test_a_redirect_is_followed(server, folder, fetch):
    """The file keeps the name of the manifest's url."""
    assert fetch(f'{server.url}/moved.pth').code == 0
    assert (folder / 'moved.pth').read_bytes() == BODY


def test_a_redirect_to_an_open_protocol_is_not_followed():
    """What came over https may be checked by a few digits only."""
    request = urllib.request.Request('https://example.org/weights.pth')
    handler = fetch_model._NoDowngrade()
    with pytest.raises(urllib.error.URLError, match='http://example.org/w, which is not https'):
        handler.redirect_request(request, None, 302, 'moved', {}, 'http://example.org/w')


def test_a_cut_connection_is_continued_where_it_ended(server, folder, fetch):
    """In the same run, as long as something comes."""
    server.cuts = (300_000, 200_000)
    assert fetch(f'{server.url}/weights.pth').code == 0
    assert [r for _, r in server.requests] == [None, 'bytes=300000-', 'bytes=500000-']
    assert (folder / 'weights.pth').read_bytes() == BODY


def test_what_was_fetched_is_kept_for_the_next_run(server, folder, fetch):
    """After too many cuts the user is told to run it again, which goes on from there."""
    server.cuts = (100_000, 0)
    done = fetch(f'{server.url}/weights.pth')
    assert done.code == 1
    assert 'the connection ended after 100000 of 1024000 bytes; run the same command' in done.said
    assert files(folder) == ['weights.pth.part']
    assert fetch(f'{server.url}/weights.pth').code == 0
    assert server.requests[-1][1] == 'bytes=100000-'
    assert files(folder) == ['weights.pth']


def test_a_server_that_cannot_continue_sends_all_of_it_again(server, folder, fetch):
    """The beginning is not written twice."""
    server.ranges, server.cuts = False, (100_000,)
    assert fetch(f'{server.url}/weights.pth').code == 0
    assert (folder / 'weights.pth').read_bytes() == BODY


def test_a_length_that_is_not_told_is_no_hindrance(server, folder, fetch):
    """The sha256 decides whether it is complete."""
    server.lengths = False
    assert fetch(f'{server.url}/weights.pth').code == 0
    (folder / 'weights.pth').rename(folder / 'weights.pth.part')
    assert fetch(f'{server.url}/weights.pth').code == 0  # nothing was left to send
    server.cuts = (100_000,)
    (folder / 'weights.pth').unlink()
    done = fetch(f'{server.url}/weights.pth')
    assert done.code == 1 and 'is not the file of the manifest' in done.said


@pytest.mark.parametrize('body', [b'<html>please log in</html>', BODY[:-1] + b'x'])
def test_another_file_is_deleted_and_not_installed(server, folder, fetch, body):
    """A login page or changed weights."""
    server.body = body
    done = fetch(f'{server.url}/weights.pth')
    assert done.code == 1
    assert 'is not the file of the manifest: its sha256 is' in done.said
    assert files(folder) == []


def test_a_wrong_size_is_seen_before_the_download(server, folder, fetch):
    """Where the manifest tells the size."""
    done = fetch(f'{server.url}/weights.pth', more='    size_bytes: 5\n')
    assert done.code == 1
    assert 'offers 1024000 bytes, but the manifest says 5; nothing was downloaded' in done.said


def test_a_file_that_is_there_but_wrong_is_not_overwritten(server, folder, fetch):
    """The user decides."""
    folder.mkdir(parents=True)
    (folder / 'weights.pth').write_bytes(b'mine, changed')
    done = fetch(f'{server.url}/weights.pth')
    assert done.code == 1
    assert 'are not the ones of the manifest' in done.said
    assert 'delete it and run: perception fetch-model mine --manifest' in done.said
    assert (folder / 'weights.pth').read_bytes() == b'mine, changed'
    assert server.requests == []


@pytest.mark.parametrize(('url', 'sentence'), [
    ('http://no-such-host.invalid/weights.pth', 'cannot be found .*: is there a network'),
    ('http://127.0.0.1:9/weights.pth', r'cannot be reached \(.*refused\): is there a network'),
])
def test_no_network_is_a_plain_sentence(folder, fetch, monkeypatch, url, sentence):
    """With the way around it, and without anything left behind."""
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    done = fetch(url)
    assert done.code == 1
    assert re.search(sentence, done.said)
    assert f'put at {folder / "weights.pth"} by hand' in done.said
    assert files(folder) == []


def test_a_missing_file_on_the_server(server, folder, fetch):
    """The server's own words."""
    done = fetch(f'{server.url}/missing.pth')
    assert done.code == 1
    assert 'the server answers 404 Not Found; has the file moved?' in done.said
    assert files(folder) == []


def test_a_full_disk_is_told_before_and_during_the_download(server, folder, fetch, monkeypatch):
    """With the variable that moves the folder."""
    usage = shutil.disk_usage('/')
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage._replace(free=1000))
    done = fetch(f'{server.url}/weights.pth')
    assert done.code == 1
    assert 'is full' in done.said and '1 MB are needed, 0 MB are free' in done.said
    assert 'set PERCEPTION_NODES_MODELS' in done.said
    monkeypatch.undo()

    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setenv('PERCEPTION_NODES_MODELS', str(folder))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(fetch_model, '_check_space', full)
    done = fetch(f'{server.url}/weights.pth')
    assert done.code == 1 and 'No space left on device' in done.said


def test_two_at_once_do_not_write_one_file(server, folder, fetch):
    """The second is told."""
    folder.mkdir(parents=True)
    with (folder / 'weights.pth.part').open('ab') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = fetch(f'{server.url}/weights.pth')
    assert done.code == 1
    assert 'is being written by another perception fetch-model' in done.said


def test_two_one_after_the_other_do_not_write_what_is_in_place(
    server, folder, fetch, monkeypatch
):
    """Between opening the file and locking it the other one has finished."""
    folder.mkdir(parents=True)
    part = folder / 'weights.pth.part'
    part.write_bytes(b'whole')
    lock = fcntl.flock

    def after_the_other(file, operation):
        part.rename(folder / 'weights.pth')
        lock(file, operation)

    monkeypatch.setattr(fcntl, 'flock', after_the_other)
    done = fetch(f'{server.url}/weights.pth')
    assert done.code == 1
    assert 'was written by another perception fetch-model until now' in done.said
    assert (folder / 'weights.pth').read_bytes() == b'whole'


def test_unknown_names_and_models_without_url(fetch):
    """Sentences with what there is."""
    done = fetch('http://127.0.0.1:9/w.pth', words=('min',))
    assert done.code == 1 and "there is no model 'min' in the manifest; did you mean" in done.said
    done = fetch('http://127.0.0.1:9/w.pth', words=())
    assert done.code == 1 and 'perception fetch-model --list' in done.said
    done = fetch('http://127.0.0.1:9/w.pth', words=('coco_ssdlite_mobilenet_v2',))
    assert done.code == 0 and 'is already there' in done.said
    done = fetch('ftp://127.0.0.1/w.pth')
    assert done.code == 1 and "url is 'ftp://127.0.0.1/w.pth'; it must begin with" in done.said


def test_a_file_without_url_is_not_fetched(fetch):
    """It has to be put in its place by hand."""
    done = fetch("''\n    file: mine.pth")
    assert done.code == 1
    assert "model 'mine' has no url" in done.said and 'mine.pth' in done.said


def test_the_list_says_what_is_here(server, folder, fetch):
    """One line per model."""
    lines = fetch(f'{server.url}/weights.pth', words=('--list',)).said.splitlines()
    mine, = (line.split() for line in lines if line.startswith('mine '))
    assert mine == ['mine', 'detection', 'torchvision', 'real', 'to', 'fetch', 'MIT']
    default, = (line for line in lines if line.startswith('coco_ssdlite_mobilenet_v2 '))
    assert '9.1 MB' in default and ' here ' in default
    assert lines[-1] == f'fetched weights are kept in {folder}'
    fetch(f'{server.url}/weights.pth')
    lines = fetch(f'{server.url}/weights.pth', words=('--list',)).said.splitlines()
    assert any(line.startswith('mine ') and ' here ' in line for line in lines)


def test_a_folder_that_cannot_be_made_is_named(server, fetch, tmp_path, monkeypatch):
    """A file is in its way."""
    (tmp_path / 'file').touch()
    monkeypatch.setenv('PERCEPTION_NODES_MODELS', str(tmp_path / 'file' / 'models'))
    done = fetch(f'{server.url}/weights.pth')
    assert done.code == 1
    assert str(Path(tmp_path / 'file')) in done.said
