"""
The ``perception`` command.

A verb's module is imported when it is asked for, so the list of verbs needs neither ROS nor
torch. It offers ``add_arguments(parser)`` and ``run(arguments) -> int``; what ``run`` says goes
through ``logging`` and appears on standard error behind the verb's name.
"""

import argparse
from collections.abc import Sequence
import difflib
import importlib
import importlib.metadata
import logging
import os
import select
import signal
import sys
from types import FrameType
from typing import NoReturn

from perception_nodes.cli.choices import parse_words

# verb: (module, what it does)
VERBS = {
    'benchmark': ('perception_nodes.cli.benchmark', 'measure speed, and how well the simulation '
                  'and the algorithms do'),
    'dataset': (
        'perception_nodes.cli.dataset', 'render labelled pictures of simulated scenes'),
    'demo': ('perception_nodes.cli.demo', 'photos through the graph to a report with pictures'),
    'doctor': ('perception_nodes.cli.doctor', 'say what is wrong with a graph or a bag, and what '
               'to do'),
    'evaluate': (
        'perception_nodes.cli.evaluate',
        'run nodes over bags and measure how fast and how good they are'),
    'evaluate-model': (
        'perception_nodes.cli.evaluate_model',
        "score a model's boxes, masks or classes against known ones"),
    'extract-frames': (
        'perception_nodes.cli.extract_frames', 'write frames of a bag as pictures to be labelled'),
    'fetch-model': (
        'perception_nodes.cli.fetch_model', "download a model's weights, once and on purpose"),
    'parameters': (
        'perception_nodes.cli.parameter_page', 'what every node can be told, as a page or YAML'),
    'play': (
        'perception_nodes.cli.play',
        'publish a folder of pictures, a video, a live camera or a bag'),
    'record': ('perception_nodes.cli.record', 'write topics to a bag'),
    'soak': ('perception_nodes.cli.soak', 'run nodes for minutes while everything about them goes '
             'wrong'),
    'train': ('perception_nodes.cli.train', 'train a network on a data set'),
    'view': ('perception_nodes.cli.view', 'show image topics in a browser'),
    'webcam': ('perception_nodes.cli.webcam', 'camera to detection to browser in one command'),
}

_WRONG_USAGE, _FAILURE = 2, 1
_STDOUT = 1
_ASK_AGAIN_AFTER_S = 0.05


def main(words: Sequence[str] | None = None) -> int:
    """
    Run one verb.

    :param words: The verb and its arguments; None takes those of the process.
    :return: Exit code: 0 done or interrupted, 1 failed, 2 wrong usage.
    """
    try:
        code = _main(sys.argv[1:] if words is None else words)
    except BrokenPipeError:  # of the overview: a verb's are caught
        code = 0
    if _reader_is_gone():
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)  # takes what is flushed at exit
    return code


def _main(words: Sequence[str]) -> int:
    if not words or words[0] in ('-h', '--help'):
        print(_overview())
        return 0 if words else _WRONG_USAGE
    verb, *rest = words
    if verb == '--version':
        print(importlib.metadata.version('perception_nodes'))
        return 0
    if verb not in VERBS:
        print(f'perception: {_unknown_verb(verb)}', file=sys.stderr)
        return _WRONG_USAGE
    log = _log_behind(f'perception {verb}')
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt_once)
    try:
        return _run(verb, rest)
    except KeyboardInterrupt:
        return 0
    except (ValueError, OSError, ImportError) as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return 0
        if signal.getsignal(signal.SIGTERM) == signal.SIG_IGN:  # interrupted inside an import
            return 0
        log.error(_sentence(error))
        return _FAILURE


def _run(verb: str, words: Sequence[str]) -> int:
    name, purpose = VERBS[verb]
    module = importlib.import_module(name)
    parser = argparse.ArgumentParser(
        f'perception {verb}', description=f'{purpose[:1].upper()}{purpose[1:]}.')
    module.add_arguments(parser)
    return int(module.run(parse_words(parser, words)))


def _reader_is_gone() -> bool:
    """Return whether whoever reads what is printed, such as head, has seen enough."""
    poll = select.poll()
    poll.register(_STDOUT, 0)  # nothing but errors
    return bool(poll.poll(0))


def _overview() -> str:
    width = max(map(len, VERBS))
    verbs = '\n'.join(f'  {verb:{width}}  {purpose}' for verb, (_, purpose) in VERBS.items())
    return (f'usage: perception VERB [ARGUMENTS]\n\n{verbs}\n\n'
            'perception VERB --help lists the arguments of a verb')


def _unknown_verb(verb: str) -> str:
    close = difflib.get_close_matches(verb, VERBS, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f'there are {", ".join(VERBS)}'
    return f"there is no verb '{verb}'; {hint}"


def _log_behind(prefix: str) -> logging.Logger:
    """Return the package's logger, set to write sentences behind ``prefix``."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f'{prefix}: %(message)s'))
    log = logging.getLogger('perception_nodes')
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    return log


def _interrupt_once(number: int, frame: FrameType | None) -> NoReturn:
    """Ask the verb to end. A second Ctrl-C must not disturb the closing of files."""
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.SIG_IGN)
    sys.unraisablehook = _ask_again
    raise KeyboardInterrupt


def _ask_again(swallowed: 'sys.UnraisableHookArgs') -> None:
    """Repeat an interrupt that came where Python ignores errors, as in a callback of numba."""
    if not issubclass(swallowed.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(swallowed)
        return
    signal.signal(signal.SIGALRM, _interrupt_once)
    signal.setitimer(signal.ITIMER_REAL, _ASK_AGAIN_AFTER_S)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f'{error.filename}: {error.strerror}'
    return str(error)
