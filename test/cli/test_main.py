"""The command itself: verbs, sentences and exit codes."""

import importlib.metadata
import os
import signal
import subprocess
import sys
import time

from perception_nodes.cli import main as command
import pytest

VERB = """
import argparse, ctypes, errno, os, time

def add_arguments(parser):
    parser.add_argument('action', nargs='?')
    parser.add_argument('--delay', type=float)

def run(arguments):
    match arguments.action:
        case 'value': raise ValueError('rate is 0; it must be positive')
        case 'file': open('/nonexistent/file')
        case 'import': import nonexistent_package
        case 'bug': {}['missing']
        case 'wait':
            try:
                print('waiting', flush=True)
                time.sleep(30)
            finally:
                time.sleep(0.5)
                print('closed', flush=True)
        case 'callback':
            @ctypes.CFUNCTYPE(None)
            def swallow():
                print('waiting', flush=True)
                time.sleep(120)
            try:
                swallow()
                time.sleep(120)
            finally:
                print('closed', flush=True)
    return 0
"""


@pytest.fixture
def verb(tmp_path, monkeypatch):
    (tmp_path / 'fake_verb.py').write_text(VERB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(command.VERBS, 'fake', ('fake_verb', 'nothing'))
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_overview_lists_every_verb(capsys):
    assert command.main(['--help']) == 0
    shown = capsys.readouterr().out
    assert all(f'\n  {name} ' in shown for name in command.VERBS)


def test_no_verb_is_wrong_usage():
    assert command.main([]) == 2


def test_overview_needs_neither_ros_nor_opencv():
    script = ("import sys; sys.argv[1:] = ['--help']; import perception_nodes.cli.main as m; "
              "m.main(); print(sorted({'rclpy', 'cv2', 'numpy', 'torch'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == '[]', done.stderr


@pytest.mark.parametrize(('word', 'hint'), [
    ('plya', "did you mean 'play'?"), ('xyzzy', f'there are {", ".join(command.VERBS)}')])
def test_unknown_verb_names_what_was_meant(capsys, word, hint):
    assert command.main([word]) == 2
    assert capsys.readouterr().err == f"perception: there is no verb '{word}'; {hint}\n"


@pytest.mark.parametrize(('action', 'sentence'), [
    ('value', 'rate is 0; it must be positive'),
    ('file', '/nonexistent/file: No such file or directory'),
    ('import', "No module named 'nonexistent_package'"),
])
def test_failure_is_a_sentence(verb, capsys, action, sentence):
    assert command.main(['fake', action]) == 1
    assert capsys.readouterr().err == f'perception fake: {sentence}\n'


def test_a_bug_is_not_hidden(verb):
    with pytest.raises(KeyError):
        command.main(['fake', 'bug'])


@pytest.mark.parametrize(('words', 'sentence'), [
    (['--dealy=3'], "there is no argument '--dealy'; did you mean --delay?"),
    (['--nonsense', '3'],
     "there is no argument '--nonsense'; perception fake --help lists all"),
    (['value', 'other'], "there is no argument 'other'; perception fake --help lists all"),
])
def test_wrong_usage_of_a_verb(verb, capsys, words, sentence):
    with pytest.raises(SystemExit) as left:
        command.main(['fake', *words])
    assert left.value.code == 2
    assert capsys.readouterr().err.endswith(f'perception fake: error: {sentence}\n')


def test_version_is_that_of_the_package(capsys):
    assert command.main(['--version']) == 0
    assert capsys.readouterr().out == f'{importlib.metadata.version("perception_nodes")}\n'


def waiting(verb, word):
    """Start the fake verb in a process of its own; return that once it waits."""
    script = ("import perception_nodes.cli.main as m, sys; m.VERBS['fake'] = ('fake_verb', ''); "
              f"sys.exit(m.main(['fake', '{word}']))")
    process = subprocess.Popen(
        [sys.executable, '-c', script], env={**os.environ, 'PYTHONPATH': str(verb)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'waiting\n'
    return process


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_well_even_when_repeated(verb, number):
    process = waiting(verb, 'wait')
    process.send_signal(number)
    time.sleep(0.2)
    process.send_signal(number)  # while the verb is closing its files
    shown, said = process.communicate(timeout=60)
    assert (process.returncode, shown, said) == (0, 'closed\n', '')


def test_interrupt_where_errors_are_ignored_ends_the_verb(verb):
    """As in a callback of numba while it compiles: ctypes swallows what is raised in it."""
    process = waiting(verb, 'callback')
    process.send_signal(signal.SIGINT)
    shown, said = process.communicate(timeout=60)
    assert (process.returncode, shown, said) == (0, 'closed\n', '')


@pytest.mark.parametrize('words', ['--help', 'parameters', 'fetch-model --list'])
def test_a_reader_that_has_seen_enough_is_no_failure(words):
    command = (f'set -o pipefail; {sys.executable} -m perception_nodes.cli {words} | '
               "python3 -c 'import os; os.close(0)'")
    done = subprocess.run(['bash', '-c', command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, '')


def test_module_can_be_run():
    done = subprocess.run([sys.executable, '-m', 'perception_nodes.cli', 'plya'],
                          capture_output=True, text=True)
    assert done.returncode == 2
    assert 'play' in done.stderr
