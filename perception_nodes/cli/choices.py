"""The words of a verb, and of verbs with a second word, each of which is a module of its own."""

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter, REMAINDER
from collections.abc import Mapping, Sequence
import difflib
import importlib
import re

Choices = Mapping[str, tuple[str, str]]  # word: (module, what it does)


def add_choices(parser: ArgumentParser, kind: str, choices: Choices) -> None:
    """
    Declare the second word, and list what it may be.

    :param kind: What the word names, in the singular.
    """
    width = max(map(len, choices))
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.epilog = f'{kind}s:\n' + '\n'.join(
        f'  {name:{width}}  {purpose}' for name, (_, purpose) in choices.items())
    parser.add_argument('choice', choices=choices, metavar=kind, help='which one')
    parser.add_argument('words', nargs=REMAINDER, metavar='...', help='its own arguments')


def run_choice(verb: str, choices: Choices, arguments: Namespace) -> int:
    """Run the chosen module with the arguments it declares itself."""
    name, purpose = choices[arguments.choice]
    module = importlib.import_module(name)
    parser = ArgumentParser(
        f'perception {verb} {arguments.choice}',
        description=f'{purpose[0].upper()}{purpose[1:]}.')
    module.add_arguments(parser)
    return int(module.run(parse_words(parser, arguments.words)))


def parse_words(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    """Parse ``words``; a flag that does not exist ends the program with the one that was meant."""
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        word = unknown[0].partition('=')[0]
        flags = set(re.findall(r'(?<![\w-])--[\w-]+', parser.format_help()))
        close = difflib.get_close_matches(word, sorted(flags), n=1)
        hint = f'did you mean {close[0]}?' if close else f'{parser.prog} --help lists all'
        parser.error(f"there is no argument '{word}'; {hint}")
    return arguments
