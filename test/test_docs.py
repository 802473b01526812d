"""The commands of README and docs: each names what exists, and those of marked blocks are run."""

from argparse import ArgumentParser
import importlib
from importlib.metadata import entry_points
import os
from pathlib import Path
import re
import shlex
import subprocess
import sys

from perception_nodes.cli.benchmark import BENCHMARKS
from perception_nodes.cli.main import VERBS
from perception_nodes.cli.train import TRAININGS
from perception_nodes.ros.launch_files import NODES
import pytest

pytestmark = pytest.mark.slow  # every verb's module is imported
REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted([REPOSITORY / 'README.md', REPOSITORY / 'CONTRIBUTING.md',
                *REPOSITORY.glob('docs/**/*.md')])
PROGRAMS = ('perception', 'make', './run', 'ros2')
RUN_MARK = '<!-- run by the tests -->'
_INLINE = re.compile(r'`((?:perception|make|\./run|ros2) [^`]+)`')
_SECOND_WORDS = {'train': TRAININGS, 'benchmark': BENCHMARKS}


def blocks(text):
    """Yield (marked, lines) of each indented or fenced block; continued lines are joined."""
    marked, fenced, lines = False, False, []
    for line in [*text.splitlines(), 'end']:
        if line.startswith('```'):
            fenced = not fenced
        elif fenced or line.startswith('    '):
            lines.append(line.strip())
            continue
        if line.strip() and lines:
            yield marked, _joined(lines)
            marked, lines = False, []
        if line.strip() == RUN_MARK:
            marked = True


def _joined(lines):
    return '\n'.join(lines).replace('\\\n', ' ').splitlines()


def commands(page):
    """Return the words of every command on a page, without comments and redirections."""
    text = page.read_text()
    lines = [line for _, block in blocks(text) for line in block]
    found = []
    for line in [*lines, *_INLINE.findall(text)]:
        words = shlex.split(line.split('   #')[0].split(' #')[0].split(' > ')[0].split(' | ')[0],
                            comments=False) if line.startswith(PROGRAMS) else []
        if words and words[0] in PROGRAMS and '...' not in words and '…' not in line:
            found.append(words)
    return found


def check_perception(words):
    """Parse the arguments as the command itself would."""
    if not words or words[0] == '--help' or not re.match('[a-z]', words[0]):
        return  # of the command itself, or of any verb
    assert words[0] in VERBS, f"no verb '{words[0]}'"
    table, words = VERBS, list(words)
    while words[0] in table:
        module = importlib.import_module(table[words[0]][0])
        table = _SECOND_WORDS.get(words.pop(0), {})
        if not words or (table and words[0] not in table):
            return  # the name of a verb in a sentence, or a placeholder
    parser = ArgumentParser(exit_on_error=False)
    module.add_arguments(parser)
    if any(word.startswith('-') for word in words):
        known = {flag for action in parser._actions for flag in action.option_strings}
        unknown = [word for word in words if re.match(r'--[a-z]', word)
                   and word.split('=')[0] not in known]
        assert not unknown, f'perception has no {unknown}'


def check_make(words):
    """The target exists, and so does every variable."""
    makefile = (REPOSITORY / 'Makefile').read_text()
    for word in words:
        name, is_variable, _ = word.partition('=')
        if is_variable:
            assert re.search(rf'\b{name}\b', makefile), f'the Makefile knows no {name}'
        elif re.fullmatch(r'[a-z][a-z0-9-]*', name):
            assert re.search(rf'^{name}:', makefile, re.M), f'there is no target {name}'


def check_ros2(words):
    """The launch file, its arguments and the executable exist."""
    if 'perception_nodes' not in words:
        return
    name = words[words.index('perception_nodes') + 1]
    if words[0] == 'launch':
        text = (REPOSITORY / 'launch' / name).read_text()
        known = {*re.findall(r"'(\w+)'", text), *(NODES if 'for name in NODES' in text else ())}
        for argument in (word.split(':=')[0] for word in words if ':=' in word):
            assert argument in known, f'{name} has no argument {argument}'
    if words[0] == 'run':
        assert entry_points(group='console_scripts', name=name), f'there is no executable {name}'


CHECKS = {'perception': check_perception, 'make': check_make, './run': check_make,
          'ros2': check_ros2}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_every_command_names_what_exists(page):
    """Verbs, flags, targets, variables, launch files and executables."""
    for words in commands(page):
        try:
            CHECKS[words[0]](words[1:])
        except AssertionError as error:
            raise AssertionError(f'{page.name}: {shlex.join(words)}: {error}') from error


def test_the_readme_has_commands_of_every_kind():
    """Or the tests above would see nothing."""
    programs = {words[0] for page in PAGES for words in commands(page)}
    assert programs == set(PROGRAMS)
    assert len(commands(REPOSITORY / 'README.md')) >= 5


MARKED = [page for page in PAGES if RUN_MARK in page.read_text()]


@pytest.mark.timeout(600)
@pytest.mark.parametrize('page', MARKED, ids=lambda page: page.stem)
def test_marked_commands_run(page, tmp_path):
    """In the order of the page, in a folder of their own, with what the repository brings."""
    pytest.importorskip('torch')
    pytest.importorskip('onnx')
    for name in ('docs', 'models', 'config'):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    environment = {**os.environ, 'PYTHONPATH': str(REPOSITORY), 'OMP_NUM_THREADS': '1'}
    ran = 0
    for line in [line for marked, block in blocks(page.read_text()) if marked for line in block]:
        words = shlex.split(line)
        program = {'perception': [sys.executable, '-m', 'perception_nodes.cli'],
                   'python': [sys.executable]}[words[0]]
        done = subprocess.run([*program, *words[1:]], cwd=tmp_path, env=environment, text=True,
                              capture_output=True, timeout=600, check=False)
        assert done.returncode == 0, f'{line}\n{done.stderr[-2000:]}'
        ran += 1
    assert ran >= 1
